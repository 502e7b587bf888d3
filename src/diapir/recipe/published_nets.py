"""The nets of the six systems. Numbers that a section does not hold are the publication's, and stand in `nets/`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from diapir.recipe.sections import Count, Positive, Real, Section, Whole

Share = Annotated[Real, Field(ge=0, lt=1)]
Depth = Annotated[Whole, Field(ge=1, le=10)]  # levels, each of half the size and twice the channels


class Trunk(Section):
    """The timm encoder of a published net; its stem is the net's own.

    Args:
        name: a timm model of the same family as the published one.
        weights: `none` for random ones, `pretrained` for timm's, or a local .safetensors file.
    """

    name: str
    weights: str = "none"


class Bes(Section):
    """Model A of the 1st place.

    Args:
        upsample: `transpose` as in the released code, `bilinear` as in the team's slides.
    """

    kind: Literal["bes"]
    encoder: Trunk = Trunk(name="resnext50_32x4d")
    widths: Annotated[tuple[Count, ...], Field(min_length=5, max_length=5)] = (128, 64, 32, 16, 8)
    upsample: Literal["transpose", "bilinear"] = "transpose"
    dropout: Share = 0.2
    has_salt_head: ClassVar[bool] = False
    num_sides: ClassVar[int] = 0


class Phalanx(Section):
    """Models B (`v4`), B2 (`v3`), C (`v5`) and D (`resize`, a reconstruction) of the 1st place.

    Args:
        dropout: of the heads' inputs; null for the version's own.
    """

    kind: Literal["phalanx"]
    version: Literal["v3", "v4", "v5", "resize"]
    encoder: Trunk = Trunk(name="resnet34")
    dropout: Share | None = None

    @property
    def has_salt_head(self) -> bool:
        """Whether it says if an image holds salt."""
        return self.version in ("v3", "resize")

    @property
    def num_sides(self) -> int:
        """How many side heads it has."""
        return int(self.has_salt_head)


class Place09(Section):
    """The net of the 9th place."""

    kind: Literal["place-09"]
    encoder: Trunk = Trunk(name="legacy_senet154")
    width: Count = 16
    dropout: Share = 0.5
    context_dropout: Share = 0.2
    slope: Positive = 0.01
    has_salt_head: ClassVar[bool] = True
    num_sides: ClassVar[int] = 5


class Rozhkov(Section):
    """The net of Rozhkov, 11th place: a reconstruction."""

    kind: Literal["rozhkov"]
    encoder: Trunk = Trunk(name="legacy_seresnext50_32x4d")
    width: Count = 64
    dropout: Share = 0.5
    gate_reduction: Count = 16
    has_salt_head: ClassVar[bool] = True
    num_sides: ClassVar[int] = 1


class Sosin(Section):
    """The net of Sosin, 11th place."""

    kind: Literal["sosin"]
    encoder: Trunk = Trunk(name="legacy_seresnext50_32x4d")
    width: Annotated[Whole, Field(ge=2)] = 64
    context: Count = 48
    dropout: Share = 0.2
    image_dropout: Share = 0.4
    has_salt_head: ClassVar[bool] = True
    num_sides: ClassVar[int] = 4


class Place28(Section):
    """The net of the 28th place.

    Args:
        base: 32 as chosen, 16 as tried by the team.
        coordinates: two coordinate channels beside the input's, as in the team's figure.
    """

    kind: Literal["place-28"]
    encoder: Trunk = Trunk(name="legacy_seresnext50_32x4d")
    base: Annotated[Whole, Field(ge=2)] = 32
    coordinates: bool = False
    has_salt_head: ClassVar[bool] = False
    num_sides: ClassVar[int] = 0


class Dilated(Section):
    """Odoh's dilated U-Net: a reconstruction.

    Args:
        regulariser: batch norm or dropout, never both.
        dropout: at the start of the net; it falls as information flows through.
    """

    kind: Literal["dilated"]
    filters: Count = 44
    dilations: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)
    regulariser: Literal["batch_norm", "dropout"] = "batch_norm"
    dropout: Share = 0.5
    has_salt_head: ClassVar[bool] = False
    num_sides: ClassVar[int] = 0


class Vanilla(Section):
    """Odoh's vanilla U-Net; as `Dilated`."""

    kind: Literal["vanilla"]
    depth: Depth = 4
    filters: Count = 16
    regulariser: Literal["batch_norm", "dropout"] = "batch_norm"
    dropout: Share = 0.5
    has_salt_head: ClassVar[bool] = False
    num_sides: ClassVar[int] = 0


class Laurans(Section):
    """Laurans' residual U-Net for native tiles."""

    kind: Literal["laurans"]
    filters: Count = 32
    depth: Depth = 5
    reduction: Count = 16
    pool_dropout: Share = 0.25
    skip_dropout: Share = 0.5
    head_dropout: Share = 0.25
    has_salt_head: ClassVar[bool] = False
    num_sides: ClassVar[int] = 0
