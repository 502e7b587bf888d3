import pytest
import torch
from torch import nn

from diapir.faults import InputError
from diapir.nets.blocks import ScSE
from diapir.nets.build import build_encoder, build_gate, build_net
from diapir.nets.encoders import ResidualEncoder, TimmEncoder
from diapir.nets.unet import UNet
from diapir.recipe import nets as recipe
from diapir.recipe import published_nets as published

SMALL = recipe.ResidualEncoder(kind="residual", widths=(8, 12), blocks=(1, 2), squeeze=0)


def test_the_default_net_is_a_resnet34_unet_with_scse() -> None:
    with torch.device("meta"):
        net = build_net(recipe.UNet(), in_channels=3)
        assert isinstance(net.encoder, TimmEncoder)
        assert net(torch.zeros(1, 3, 128, 128)).mask.shape == (1, 128, 128)
    assert sum(isinstance(module, ScSE) for module in net.modules()) == 5


def test_every_setting_of_a_net_reaches_it() -> None:
    decoder = recipe.Decoder(widths=(7,), gate_reduction=3, hypercolumn=5, dropout=0.25, subpixel=True)
    net = build_net(recipe.UNet(encoder=SMALL, decoder=decoder, has_salt_head=True), in_channels=4)
    assert isinstance(net, UNet)
    assert isinstance(net.encoder, ResidualEncoder)
    assert net.encoder.channels == (8, 12)
    assert [len(stage) for stage in net.encoder.stages] == [1, 2]  # type: ignore[arg-type]  # nn.Sequential has a length
    assert next(net.encoder.parameters()).shape == (8, 4, 3, 3)
    gates = [module for module in net.modules() if isinstance(module, ScSE)]
    assert [gate.channel.squeeze.out_channels for gate in gates] == [7 // 3]
    assert [column.weight.shape for column in net.columns] == [(5, 7, 1, 1)]
    assert isinstance(net.dropout, nn.Dropout2d)
    assert net.dropout.p == 0.25
    assert net.head.weight.shape == (4, 5, 3, 3)
    assert net.has_salt is not None


@pytest.mark.parametrize("stem", ["stride", "none"])
@pytest.mark.parametrize("squeeze", [0, 2])
def test_a_residual_encoder_is_built_as_named(stem: str, squeeze: int) -> None:
    section = SMALL.model_copy(update={"stem": stem, "squeeze": squeeze})
    encoder = build_encoder(section, in_channels=1)
    assert encoder.stride == (2 if stem == "stride" else 1)
    assert any("squeeze" in name for name in encoder.state_dict()) == bool(squeeze)


def test_no_gate_leaves_maps_alone() -> None:
    maps = torch.randn(1, 6, 2, 2)
    assert torch.equal(build_gate(recipe.Decoder(gate="none"))(6)(maps), maps)
    assert isinstance(build_gate(recipe.Decoder(gate="scse"))(6), ScSE)


def test_faults_name_their_place_in_the_recipe() -> None:
    with pytest.raises(InputError, match=r"^net\.decoder\.widths: expected 2 "):
        build_net(recipe.UNet(encoder=SMALL, decoder=recipe.Decoder(widths=(8,))), in_channels=1)
    with pytest.raises(InputError, match=r"^net\.encoder\.name: "):
        build_net(recipe.UNet(encoder=recipe.TimmEncoder(name="resnet35")), in_channels=1)


_SE = published.Trunk(name="legacy_seresnet18")
_RESNET = published.Trunk(name="resnet18")
# Each net at its smallest, and the sides at which its system shows it tiles.
SIDES: list[tuple[recipe.Net, tuple[int, ...]]] = [
    (recipe.UNet(encoder=SMALL, decoder=recipe.Decoder(widths=(4, 4))), (101, 128)),
    (published.Bes(kind="bes", encoder=published.Trunk(name="resnet26"), widths=(4, 4, 4, 4, 4)), (224,)),
    (published.Phalanx(kind="phalanx", version="v3", encoder=_RESNET), (256,)),
    (published.Phalanx(kind="phalanx", version="v4", encoder=_RESNET), (256,)),
    (published.Phalanx(kind="phalanx", version="v5", encoder=_RESNET), (128,)),
    (published.Phalanx(kind="phalanx", version="resize", encoder=_RESNET), (128,)),
    (published.Place09(kind="place-09", encoder=published.Trunk(name="legacy_seresnext26_32x4d"), width=2), (128,)),
    (published.Rozhkov(kind="rozhkov", encoder=_SE, width=4, gate_reduction=2), (128,)),
    (published.Sosin(kind="sosin", encoder=_SE, width=4, context=4), (128,)),
    (published.Place28(kind="place-28", encoder=_RESNET, base=2), (128,)),
    (published.Dilated(kind="dilated", filters=2), (128,)),
    (published.Vanilla(kind="vanilla", filters=2, depth=5), (128,)),
    (published.Laurans(kind="laurans", filters=2, depth=5), (101,)),
]


@pytest.mark.parametrize(("section", "used"), SIDES, ids=lambda value: getattr(value, "kind", ""))
def test_sides_are_refused_by_a_recipe_where_the_net_cannot_take_them(
    section: recipe.Net, used: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        net = build_net(section, in_channels=1).eval()
        taken = {}
        for side in {16, 17, 18, 32, 33, 48, 101, *used}:
            try:
                taken[side] = net(torch.zeros(1, 1, side, side)).mask.shape == (1, side, side)
            except (InputError, RuntimeError):
                taken[side] = False
    assert taken == {side: recipe.side_fault(section, side) is None for side in taken}
    assert all(taken[side] for side in used)
