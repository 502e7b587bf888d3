"""Recipe section -> net: the only `match` on names."""

from typing import assert_never

from torch import nn

from diapir.nets.blocks import ScSE
from diapir.nets.encoders import Encoder, ResidualEncoder, TimmEncoder
from diapir.nets.laurans import LauransNet
from diapir.nets.odoh import DilatedUNet, VanillaUNet
from diapir.nets.pair import Pair
from diapir.nets.place_01_bes import BesUNet
from diapir.nets.place_01_phalanx import PhalanxUNet, phalanx_resize, phalanx_v3, phalanx_v4, phalanx_v5
from diapir.nets.place_09 import Place09
from diapir.nets.place_11_rozhkov import Place11Rozhkov
from diapir.nets.place_11_sosin import Place11Sosin
from diapir.nets.place_28 import Place28Net
from diapir.nets.unet import BlockFactory, UNet
from diapir.recipe import nets as recipe
from diapir.recipe import published_nets as published
from diapir.recipe.semi import CoTraining
from diapir.recipe.whole import Model


def build_model(model: Model, *, in_channels: int) -> nn.Module:
    """What a model trains and predicts with: its net, or the two that teach each other. Raises as `build_net`."""
    if isinstance(model.semi, CoTraining):
        return Pair(*(build_net(model.net, in_channels=in_channels) for _ in range(2)))
    return build_net(model.net, in_channels=in_channels)


def build_net(section: recipe.Net, *, in_channels: int) -> nn.Module:  # noqa: C901  # one case a net
    """The net that a recipe names, with random weights; it gives `Outputs`.

    Raises:
        InputError: the decoder does not fit the encoder, or timm has no such encoder, or one of another family.
    """
    match section:
        case recipe.UNet():
            return _unet(section, in_channels=in_channels)
        case published.Bes(encoder=encoder, widths=widths, upsample=upsample, dropout=dropout):
            return BesUNet(encoder.name, in_channels=in_channels, widths=widths, upsample=upsample, dropout=dropout)
        case published.Phalanx():
            return _phalanx(section, in_channels=in_channels)
        case published.Place09():
            return Place09(
                section.encoder.name, in_channels=in_channels, width=section.width, dropout=section.dropout,
                context_dropout=section.context_dropout, slope=section.slope,
            )  # fmt: skip
        case published.Rozhkov():
            return Place11Rozhkov(
                section.encoder.name, in_channels=in_channels, width=section.width, dropout=section.dropout,
                gate_reduction=section.gate_reduction,
            )  # fmt: skip
        case published.Sosin():
            return Place11Sosin(
                section.encoder.name, in_channels=in_channels, width=section.width, context=section.context,
                dropout=section.dropout, image_dropout=section.image_dropout,
            )  # fmt: skip
        case published.Place28(encoder=encoder, base=base, coordinates=coordinates):
            return Place28Net(in_channels, encoder=encoder.name, base=base, coordinates=coordinates)
        case published.Dilated():
            return DilatedUNet(in_channels, **section.model_dump(exclude={"kind"}))
        case published.Vanilla():
            return VanillaUNet(in_channels, **section.model_dump(exclude={"kind"}))
        case published.Laurans():
            return LauransNet(in_channels, **section.model_dump(exclude={"kind"}))
        case _:
            assert_never(section)


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


def _unet(section: recipe.UNet, *, in_channels: int) -> UNet:
    decoder = section.decoder
    return UNet(
        build_encoder(section.encoder, in_channels=in_channels),
        widths=decoder.widths,
        gate=build_gate(decoder),
        hypercolumn=decoder.hypercolumn,
        dropout=decoder.dropout,
        has_salt_head=section.has_salt_head,
        subpixel=decoder.subpixel,
    )


def _phalanx(section: published.Phalanx, *, in_channels: int) -> PhalanxUNet:
    name = section.encoder.name
    own = {} if section.dropout is None else {"dropout": section.dropout}
    match section.version:
        case "v3":
            return phalanx_v3(name, in_channels=in_channels, **own)
        case "v4":
            return phalanx_v4(name, in_channels=in_channels)
        case "v5":
            return phalanx_v5(name, in_channels=in_channels, **own)
        case "resize":
            return phalanx_resize(name, in_channels=in_channels, **own)
        case _:
            assert_never(section.version)
