"""Recipe section -> net: the only `match` on names."""

from typing import assert_never

from torch import nn

from diapir.nets.blocks import ScSE
from diapir.nets.encoders import Encoder, ResidualEncoder, TimmEncoder
from diapir.nets.unet import BlockFactory, UNet
from diapir.recipe import nets as recipe


def build_net(section: recipe.Net, *, in_channels: int) -> UNet:
    """The net that a recipe names, with random weights.

    Raises:
        InputError: the decoder does not fit the encoder, or timm has no such encoder.
    """
    encoder = build_encoder(section.encoder, in_channels=in_channels)
    decoder = section.decoder
    return UNet(
        encoder,
        widths=decoder.widths,
        gate=build_gate(decoder),
        hypercolumn=decoder.hypercolumn,
        dropout=decoder.dropout,
        has_salt_head=section.has_salt_head,
        subpixel=decoder.subpixel,
    )


def build_encoder(section: recipe.TimmEncoder | recipe.ResidualEncoder, *, in_channels: int) -> Encoder:
    """The encoder that a recipe names, with random weights."""
    match section:
        case recipe.TimmEncoder():
            return TimmEncoder(section.name, in_channels=in_channels, stem=section.stem)
        case recipe.ResidualEncoder():
            return ResidualEncoder(
                in_channels,
                widths=section.widths,
                blocks=section.blocks,
                stem=section.stem,
                squeeze=section.squeeze,
            )
        case _:
            assert_never(section)


def build_gate(section: recipe.Decoder) -> BlockFactory:
    """The attention block that follows each decoder step."""
    match section.gate:
        case "none":
            return lambda channels: nn.Identity()
        case "scse":
            return lambda channels: ScSE(channels, reduction=section.gate_reduction)
        case _:
            assert_never(section.gate)
