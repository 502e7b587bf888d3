import re
from functools import cache
from typing import Literal

import pytest
import torch
from torch import nn

from diapir.faults import InputError
from diapir.nets.blocks import ScSE
from diapir.nets.encoders import Encoder, ResidualEncoder, TimmEncoder
from diapir.nets.unet import UNet

SIDES = [64, 101, 104, 128, 256]


def residual_encoder(stem: Literal["stride", "none"] = "stride", *, squeeze: int = 4) -> ResidualEncoder:
    return ResidualEncoder(2, widths=(8, 12, 16), blocks=(1, 2, 1), stem=stem, squeeze=squeeze)


def scse(channels: int) -> nn.Module:
    return ScSE(channels, reduction=4)


def assert_shapes(net: UNet, *, channels: int) -> None:
    for side in SIDES:
        outputs = net(torch.zeros(2, channels, side, side))
        assert outputs.mask.shape == (2, side, side)
        assert outputs.has_salt is not None
        assert outputs.has_salt.shape == (2,)
    assert net(torch.zeros(2, channels, 64, 101)).mask.shape == (2, 64, 101)


@cache
def resnet34(stem: Literal["max_pool", "stride", "none"]) -> TimmEncoder:
    with torch.device("meta"):
        return TimmEncoder("resnet34", in_channels=1, stem=stem)


@pytest.mark.parametrize(
    ("stem", "widths", "subpixel"),
    [
        ("max_pool", (64, 32, 32, 16, 8), False),
        ("max_pool", (64, 32, 32, 16), True),
        ("stride", (64, 32, 32, 16, 8), False),
        ("stride", (64, 32, 32, 16), True),
        ("none", (64, 32, 32, 16), False),
    ],
)
def test_masks_of_timm_nets_are_as_large_as_the_image(
    stem: Literal["max_pool", "stride", "none"], widths: tuple[int, ...], subpixel: bool
) -> None:
    with torch.device("meta"):
        net = UNet(resnet34(stem), widths=widths, gate=scse, hypercolumn=8, has_salt_head=True, subpixel=subpixel)
        assert_shapes(net, channels=1)


@pytest.mark.parametrize("hypercolumn", [0, 8])
@pytest.mark.parametrize(
    ("stem", "widths", "subpixel"),
    [("stride", (16, 12, 8), False), ("stride", (16, 12), True), ("none", (16, 12), False)],
)
def test_masks_of_residual_nets_are_as_large_as_the_image(
    stem: Literal["stride", "none"], widths: tuple[int, ...], subpixel: bool, hypercolumn: int
) -> None:
    with torch.device("meta"):
        encoder = residual_encoder(stem)
        net = UNet(encoder, widths=widths, gate=scse, hypercolumn=hypercolumn, has_salt_head=True, subpixel=subpixel)
        assert_shapes(net, channels=2)


@pytest.mark.parametrize(("name", "steps"), [("convnext_atto", 4), ("vgg11", 5)])
def test_encoders_that_start_at_other_sizes_than_a_half_have_their_decoders(name: str, steps: int) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(name, in_channels=1, stem="max_pool")
        net = UNet(encoder, widths=(16,) * steps, gate=scse)
        assert net(torch.zeros(1, 1, 128, 128)).mask.shape == (1, 128, 128)


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def conv_norm(a: int, b: int) -> int:
        return 9 * a * b + 2 * b  # no bias; weight and shift of the norm

    def squeeze(c: int) -> int:
        return c * (c // 4) + c // 4 + (c // 4) * c + c

    def block(a: int, b: int) -> int:
        return conv_norm(a, b) + conv_norm(b, b) + squeeze(b) + (a * b + 2 * b if a != b else 0)

    def step(a: int, skip: int, b: int) -> int:
        return conv_norm(a + skip, b) + conv_norm(b, b) + squeeze(b) + b + 1

    encoder = conv_norm(2, 8) + block(8, 8) + block(8, 12) + block(12, 12) + block(12, 16)
    decoder = step(16, 12, 16) + step(16, 8, 12) + step(12, 0, 4)
    columns = (16 + 1) * 5 + (12 + 1) * 5 + (4 + 1) * 5
    heads = (9 * 15 + 1) + (16 + 1)
    net = UNet(residual_encoder(), widths=(16, 12, 4), gate=scse, hypercolumn=5, has_salt_head=True)
    assert sum(each.numel() for each in net.parameters()) == encoder + decoder + columns + heads


def gradients(net: UNet, side: int) -> dict[str, torch.Tensor | None]:
    outputs = net(torch.randn(2, 2, side, side))
    loss = outputs.mask.square().mean()
    if outputs.has_salt is not None:
        loss = loss + outputs.has_salt.square().mean()
    loss.backward()
    return {name: each.grad for name, each in net.named_parameters()}


@pytest.mark.parametrize(
    ("kind", "widths", "subpixel"),
    [("stride", (12, 8, 8), False), ("stride", (12, 8), True), ("none", (12, 8), False), ("timm", (8,) * 5, False)],
)
def test_every_parameter_learns_and_no_gradient_is_broken(
    kind: Literal["stride", "none", "timm"], widths: tuple[int, ...], subpixel: bool
) -> None:
    torch.manual_seed(0)
    encoder: Encoder = (
        TimmEncoder("resnet34", in_channels=2, stem="max_pool") if kind == "timm" else residual_encoder(kind)
    )
    net = UNet(encoder, widths=widths, gate=scse, hypercolumn=4, has_salt_head=True, subpixel=subpixel)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # a residual block starts shut: its insides learn from the second step on
    found = gradients(net, 33)
    assert [name for name, each in found.items() if each is None or not each.isfinite().all()] == []
    # Over so small a batch the ReLU of a gate may be off everywhere; that of a convolution may not.
    still = [name for name, each in found.items() if each is not None and each.ndim == 4 and not each.any()]
    assert [name for name in still if "squeeze" not in name and "excite" not in name] == []


def test_a_fresh_residual_net_has_finite_gradients_although_its_blocks_are_shut() -> None:
    torch.manual_seed(0)
    found = gradients(UNet(residual_encoder(), widths=(12, 8, 8), gate=scse), 33)
    assert all(each is not None and each.isfinite().all() for each in found.values())
    shut = {name: each for name, each in found.items() if re.search(r"stages\.\d+\.\d+\.norm\.weight", name)}
    assert len(shut) == 4
    assert all(each is not None and each.any() for each in shut.values())


def test_the_mask_sees_the_finest_map_and_has_salt_the_deepest() -> None:
    net = UNet(residual_encoder(), widths=(12, 8, 8), gate=scse, has_salt_head=True).eval()
    image = torch.randn(1, 2, 32, 32)
    deepest = net.encoder(image)[-1]
    assert net.has_salt is not None
    torch.testing.assert_close(net(image).has_salt, net.has_salt(deepest.mean((2, 3)))[:, 0])
    without = UNet(residual_encoder(), widths=(12, 8, 8), gate=scse)
    assert without(image).has_salt is None


def test_subpixels_lie_where_they_are_named() -> None:
    net = UNet(residual_encoder(), widths=(12, 8), gate=scse, subpixel=True).eval()
    nn.init.zeros_(net.head.weight)
    assert net.head.bias is not None
    net.head.bias.data = torch.tensor([0.0, 1.0, 2.0, 3.0])
    mask = net(torch.randn(1, 2, 5, 7)).mask[0]
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    assert torch.equal(mask, (2 * (rows % 2) + columns % 2).float())


def test_the_hypercolumn_holds_every_step_at_its_own_place() -> None:
    net = UNet(residual_encoder(), widths=(12, 8, 8), gate=scse, hypercolumn=2)
    coarse, fine = torch.randn(1, 12, 4, 4), torch.randn(1, 8, 8, 8)
    columns = net._hypercolumn([coarse, fine, fine], torch.Size((8, 8)))
    assert columns.shape == (1, 6, 8, 8)
    projected = net.columns[0](coarse)
    torch.testing.assert_close(columns[:, :2], nn.functional.interpolate(projected, scale_factor=2, mode="bilinear"))
    torch.testing.assert_close(columns[:, 4:], net.columns[2](fine))


def test_dropout_drops_whole_maps_in_training_alone() -> None:
    torch.manual_seed(0)
    net = UNet(residual_encoder(), widths=(12, 8, 8), gate=scse, dropout=0.5)
    features = torch.ones(4, 8, 3, 3)
    dropped = net.dropout(features)
    assert set(dropped.mean((2, 3)).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(net.eval().dropout(features), features)


@pytest.mark.parametrize(
    ("widths", "subpixel", "wanted"), [((8, 8), False, 3), ((8,) * 4, False, 3), ((8,) * 3, True, 2)]
)
def test_a_wrong_number_of_decoder_widths_is_told(widths: tuple[int, ...], subpixel: bool, wanted: int) -> None:
    says = f"net.decoder.widths: expected {wanted} widths for this encoder, one a step, found {len(widths)}"
    with pytest.raises(InputError, match=says):
        UNet(residual_encoder(), widths=widths, gate=scse, subpixel=subpixel)


def test_subpixel_needs_a_map_of_half_the_size() -> None:
    with torch.device("meta"):
        quarter = TimmEncoder("convnext_atto", in_channels=1, stem="max_pool")
        with pytest.raises(InputError, match=r"net\.decoder\.subpixel: .* this one's is 1/4"):
            UNet(quarter, widths=(8, 8, 8), gate=scse, subpixel=True)
    with pytest.raises(InputError, match=r"net\.decoder\.subpixel: .* this one's is 1/1"):
        UNet(residual_encoder("none"), widths=(8, 8), gate=scse, subpixel=True)
