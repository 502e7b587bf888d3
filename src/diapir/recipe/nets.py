"""The nets that a recipe may name."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, assert_never

from pydantic import Discriminator, Field, Tag, model_validator

from diapir.recipe.published_nets import (
    Bes,
    Dilated,
    Laurans,
    Phalanx,
    Place09,
    Place28,
    Rozhkov,
    Sosin,
    Trunk,
    Vanilla,
)
from diapir.recipe.sections import Count, Real, Section, Whole


class TimmEncoder(Section):
    """An encoder of the timm library.

    Args:
        name: timm model that gives feature maps, e.g. resnet34.
        weights: `none` for random ones, `pretrained` for timm's, or a local .safetensors file.
        stem: `max_pool` as published (first map at half size, second at a quarter); `stride` drops the max-pool;
            `none` drops the stride of the first convolution as well.
    """

    kind: Literal["timm"] = "timm"
    name: str = "resnet34"
    weights: str = "none"
    stem: Literal["max_pool", "stride", "none"] = "max_pool"


class ResidualEncoder(Section):
    """Residual stages from random weights, each after the first at half the size of the one before.

    Args:
        widths: channels of each stage.
        blocks: residual blocks of each stage.
        stem: `stride` halves the size before the first stage, `none` does not.
        squeeze: reduction of the squeeze-and-excitation gate in each block; 0 for none.
    """

    kind: Literal["residual"]
    widths: Annotated[tuple[Count, ...], Field(min_length=2)] = (32, 64, 128, 256)
    blocks: Annotated[tuple[Count, ...], Field(min_length=2)] = (2, 2, 2, 2)
    stem: Literal["stride", "none"] = "stride"
    squeeze: Annotated[Whole, Field(ge=0)] = 8

    @model_validator(mode="after")
    def _fits(self) -> "ResidualEncoder":
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"{len(self.widths)} widths and {len(self.blocks)} blocks: give one of each per stage")
        return self


class Decoder(Section):
    """The way back to full size.

    Args:
        widths: channels of each step, deepest first; one per step from the deepest map to the finest, and one more
            where the finest map is smaller than the tile.
        gate: attention after each step: `scse` (reduction `gate_reduction`) or none.
        hypercolumn: width to which every step's map is brought and concatenated at full size; 0 for none.
        subpixel: predict 2x2 pixels at each place of a half-size map, without a last step at full size.
        dropout: share of the head's input channels dropped in training.
    """

    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (256, 128, 64, 32, 16)
    gate: Literal["none", "scse"] = "scse"
    gate_reduction: Count = 16
    hypercolumn: Annotated[Whole, Field(ge=0)] = 0
    subpixel: bool = False
    dropout: Annotated[Real, Field(ge=0, lt=1)] = 0.0


class UNet(Section):
    """A U-Net: encoder, decoder, and the has-salt head if wanted."""

    kind: Literal["unet"] = "unet"
    encoder: Annotated[TimmEncoder | ResidualEncoder, Field(discriminator="kind")] = TimmEncoder()
    decoder: Decoder = Decoder()
    has_salt_head: bool = False
    num_sides: ClassVar[int] = 0


def kind_of_net(raw: Any) -> str:
    """What tells nets apart; a section that names no kind is of our own U-Net."""
    kind = raw.get("kind", "unet") if isinstance(raw, dict) else getattr(raw, "kind", "unet")
    return str(kind)


Net = Annotated[
    Annotated[UNet, Tag("unet")]
    | Annotated[Bes, Tag("bes")]
    | Annotated[Phalanx, Tag("phalanx")]
    | Annotated[Place09, Tag("place-09")]
    | Annotated[Rozhkov, Tag("rozhkov")]
    | Annotated[Sosin, Tag("sosin")]
    | Annotated[Place28, Tag("place-28")]
    | Annotated[Dilated, Tag("dilated")]
    | Annotated[Vanilla, Tag("vanilla")]
    | Annotated[Laurans, Tag("laurans")],
    Discriminator(kind_of_net),
]


def trained_encoder(net: Net) -> tuple[str, str] | None:
    """Name and weights of a timm encoder that is to begin with trained weights."""
    encoder = getattr(net, "encoder", None)
    if isinstance(encoder, TimmEncoder | Trunk) and encoder.weights != "none":
        return encoder.name, encoder.weights
    return None


def side_fault(net: Net, side: int) -> str | None:
    """Why a net cannot take images with that side; None where it can. Its forward pass would refuse, or fail."""
    step, least = 1, 1
    match net:
        case Bes():
            step = 32
        case Phalanx():
            step = 16 if net.version == "v5" else 32
        case Place09():
            least = 18  # as Rozhkov's, and its encoder's max-pool leaves a pixel out
        case Rozhkov():
            least = 17  # a sixteenth of it, rounded up, is halved once more
        case Laurans():
            least = 2**net.depth
        case UNet() | Sosin() | Place28() | Dilated() | Vanilla():
            pass
        case _:
            assert_never(net)
    if side % step:
        return f"net.kind '{net.kind}' needs multiples of {step}, found {side}"
    if side < least:
        depth = f" with net.depth {net.depth}" if isinstance(net, Laurans) else ""
        return f"net.kind '{net.kind}'{depth} needs {least} or more, found {side}"
    return None


def net_faults(net: Net) -> Iterator[str]:
    """What does not fit together in a net, each with its path."""
    if not isinstance(net, UNet):
        return
    encoder, decoder = net.encoder, net.decoder
    if decoder.subpixel and encoder.stem == "none":
        yield "net.decoder.subpixel: true needs a first map of half size, and net.encoder.stem 'none' keeps it full"
    elif isinstance(encoder, ResidualEncoder):
        steps = len(encoder.widths) - 1 + (encoder.stem == "stride" and not decoder.subpixel)
        if len(decoder.widths) != steps:
            subpixel = str(decoder.subpixel).lower()
            yield (
                f"net.decoder.widths: {len(decoder.widths)} given, and {len(encoder.widths)} net.encoder.widths with "
                f"net.encoder.stem '{encoder.stem}' and net.decoder.subpixel {subpixel} need {steps}"
            )
