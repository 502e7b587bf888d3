"""What every section of a recipe is: fixed once read, closed to unknown keys, strict about types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

# Strict, for YAML reads `no` and `off` as false, and false would count as 0.
Real = Annotated[float, Strict()]
Whole = Annotated[int, Strict()]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Positive = Annotated[Real, Field(gt=0)]
# A million of anything is a slip of the pen; far more than that, and whoever counts with it fails or never ends.
Count = Annotated[Whole, Field(ge=1, le=10**6)]


class Section(BaseModel):
    """A part of a recipe: fixed once read, and closed to keys that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
