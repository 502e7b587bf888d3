"""What happens to probabilities: members of an ensemble to one prediction, and edits from there to masks."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from diapir.recipe.sections import Count, Fraction, Positive, Real, Section, Whole

Cut = Annotated[Real, Field(gt=0, lt=1)]


class Threshold(Section):
    """Salt where the probability is above `cut`; without this edit, above 0.5.

    Args:
        cut: `tuned` takes the best on out-of-fold tiles.
    """

    name: Literal["threshold"]
    cut: Literal["tuned"] | Cut


class SmallSalt(Section):
    """Pieces of salt of fewer pixels are removed; they hang together by sides and corners.

    Args:
        smaller_than: in pixels; `tuned` takes the best of 10, 20, 40 and 80 on out-of-fold tiles.
    """

    name: Literal["small_salt"]
    smaller_than: Literal["tuned"] | Count


class SmallHoles(Section):
    """Pieces of background of fewer pixels are filled.

    Args:
        smaller_than: in pixels; `tuned` as for small salt; null for any size, with `at_border: false`.
        connectivity: 4, by sides alone, as goes with salt that hangs together by corners too; or 8.
        at_border: whether pieces at the border of the tile count.
    """

    name: Literal["small_holes"]
    smaller_than: Literal["tuned"] | Count | None
    connectivity: Literal[4, 8] = 4
    at_border: bool = True

    @model_validator(mode="after")
    def _fits(self) -> "SmallHoles":
        if self.smaller_than is None and self.at_border:
            raise ValueError("smaller_than null would fill the background itself: add at_border: false")
        return self


class HasSaltGate(Section):
    """Tiles whose probability of holding any salt is below `cut` become empty; needs the has-salt head."""

    name: Literal["has_salt_gate"]
    cut: Cut = 0.5


class ConstantToEmpty(Section):
    """Tiles of one grey value become empty."""

    name: Literal["constant_to_empty"]


class FullToEmpty(Section):
    """Tiles predicted to be all salt become empty."""

    name: Literal["full_to_empty"]


class LocationCrf(Section):
    """Dense conditional random field on the mask, neighbours by location alone.

    Args:
        sigma_px: deviation of the Gaussian of the distance.
        compat: penalty of neighbours that differ.
        certainty: probability that a pixel of the mask is right.
        steps: rounds of mean field.
        only_if_score_below: applied only to predictions whose out-of-fold score before any edit is below.
    """

    name: Literal["location_crf"]
    sigma_px: Positive = 3.0
    compat: Positive = 3.0
    certainty: Annotated[Real, Field(gt=0.5, lt=1)] = 0.7
    steps: Count = 10
    only_if_score_below: Fraction | None = None


class BilateralCrf(Section):
    """Dense conditional random field on the probabilities, neighbours by location and grey value.

    Args:
        cut: probability where salt begins.
        sigma_px: deviation of the Gaussian of the distance.
        sigma_grey: of the Gaussian of the difference in grey, as a share of the whole range.
        compat, steps, only_if_score_below: as of `LocationCrf`.
    """

    name: Literal["bilateral_crf"]
    cut: Cut = 0.5
    sigma_px: Positive = 10.0
    sigma_grey: Positive = 0.01
    compat: Positive = 1.0
    steps: Count = 10
    only_if_score_below: Fraction | None = None


Edit = Annotated[
    Threshold | SmallSalt | SmallHoles | HasSaltGate | ConstantToEmpty | FullToEmpty | LocationCrf | BilateralCrf,
    Field(discriminator="name"),
]
# Edits that begin with the probabilities again, so that whatever was done to the mask before is lost.
_FROM_PROBABILITY = ("threshold", "bilateral_crf")


class PostProcess(Section):
    """Edits of the masks in their order, each counted and scored by itself.

    Args:
        off: names of edits, or of rules of mosaics, to leave out; the record says so.
    """

    edits: tuple[Edit, ...] = ()
    off: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """What comes after the edits."""
        return ()

    @property
    def edits_off(self) -> tuple[str, ...]:
        """Those of `off` that are edits."""
        return tuple(name for name in self.off if name not in self.rules)

    @model_validator(mode="after")
    def _fits(self) -> "PostProcess":
        names = [edit.name for edit in self.edits]
        problems = [f"edits: '{name}' is there twice" for name in sorted(set(names)) if names.count(name) > 1]
        for place, name in enumerate(names):
            lost = [before for before in names[:place] if before not in _FROM_PROBABILITY]
            if name in _FROM_PROBABILITY and lost:
                problems.append(f"edits: '{name}' begins with the probabilities again, so put it before '{lost[0]}'")
        if "bilateral_crf" in names and "threshold" in names[names.index("bilateral_crf") :]:
            problems.append("edits: 'threshold' would undo 'bilateral_crf', so put it before")
        known = [*names, *self.rules]
        listed = ", ".join(known) or "none"
        problems += [f"off: there is no edit '{name}' among {listed}" for name in self.off if name not in known]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _some_weight(weights: tuple[float, ...]) -> tuple[float, ...]:
    if not any(weights):
        raise ValueError("every weight is zero")
    return weights


Weights = Annotated[tuple[Annotated[Real, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_some_weight)]


class Mean(Section):
    """Plain mean of the members."""

    name: Literal["mean"]


class Weighted(Section):
    """Weighted mean.

    Args:
        weights: one a member, in their order; `score` takes each member's out-of-fold score.
    """

    name: Literal["weighted"]
    weights: Literal["score"] | Weights


class Ranked(Section):
    """Weighted mean whose weights fall by the factor `decay` with each rank of the out-of-fold scores."""

    name: Literal["ranked"]
    decay: Annotated[Real, Field(gt=0, le=1)] = 0.5


class Vote(Section):
    """Share of the members' masks that have salt.

    Args:
        weights: `equal`, `score`, or one a member.
        empty_above: tiles become empty where members with a larger share of the weights find no salt in them; null for
            not asking. With masks cut at half of the votes, only a share below 0.5 changes anything.
    """

    name: Literal["vote"]
    weights: Literal["equal", "score"] | Weights = "equal"
    empty_above: Fraction | None = None


class Aligned(Section):
    """Mean of the members after each one's own threshold was moved to 0.5.

    Args:
        thresholds: one a member; `tuned` takes the best on out-of-fold tiles.
    """

    name: Literal["aligned"]
    thresholds: Literal["tuned"] | Annotated[tuple[Cut, ...], Field(min_length=1)] = "tuned"


class Stacked(Section):
    """One linear unit over the members, fitted on out-of-fold tiles.

    Args:
        ridge: how strongly the weights are drawn towards equal ones.
    """

    name: Literal["stacked"]
    ridge: Positive = 1e-5


class Greedy(Section):
    """Mean of the members that are worth their seconds of inference, chosen on out-of-fold tiles.

    Args:
        least_gain: in score, that another member must bring.
        most_s: seconds that inference may take; null for no limit.
    """

    name: Literal["greedy"]
    least_gain: Annotated[Real, Field(ge=0)] = 0.0
    most_s: Positive | None = None


Blend = Annotated[
    Mean | Weighted | Ranked | Vote | Aligned | Stacked | Greedy,
    Field(discriminator="name"),
]


class Ensemble(Section):
    """How the members' predictions become one.

    Args:
        blend: the rule.
        rescale: members, counted from 0, that are first stretched over 0 to 1 by their range in the whole set.
    """

    blend: Blend = Mean(name="mean")
    rescale: tuple[Annotated[Whole, Field(ge=0)], ...] = ()

    def member_faults(self, number: int) -> Iterator[str]:
        """Where it speaks of other members than there are, each with its path."""
        for place, member in enumerate(self.rescale):
            if member >= number:
                yield f"rescale.{place}: expected members 0 to {number - 1}, found {member}"
        for name in ("weights", "thresholds"):
            values = getattr(self.blend, name, "")
            if not isinstance(values, str) and len(values) != number:
                yield f"blend.{name}: expected one a member, {number}, found {len(values)}"
