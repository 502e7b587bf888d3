from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diapir.nets.odoh import DilatedUNet, Regulariser, VanillaUNet, falling_rates

BOTH: tuple[Regulariser, Regulariser] = ("batch_norm", "dropout")
OdohNet = DilatedUNet | VanillaUNet


def small(kind: str, regulariser: Regulariser) -> OdohNet:
    torch.manual_seed(0)
    if kind == "dilated":
        return DilatedUNet(2, filters=4, regulariser=regulariser)
    return VanillaUNet(2, depth=3, filters=4, regulariser=regulariser)


@pytest.mark.parametrize("regulariser", BOTH)
@pytest.mark.parametrize("side", [101, 128])
def test_published_nets_give_a_mask_as_large_as_the_tile(side: int, regulariser: Regulariser) -> None:
    with torch.device("meta"):
        nets = [
            DilatedUNet(regulariser=regulariser),
            *(VanillaUNet(depth=d, regulariser=regulariser) for d in (3, 4, 5)),
        ]
        for net in nets:
            outputs = net(torch.zeros(2, 1, side, side))
            assert outputs.mask.shape == (2, side, side)
            assert outputs.has_salt is None
            assert outputs.sides == ()


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 140), width=st.integers(1, 140), depth=st.integers(1, 5))
def test_any_size_and_depth_give_a_mask_as_large_as_the_image(height: int, width: int, depth: int) -> None:
    with torch.device("meta"):
        image = torch.zeros(2, 1, height, width)
        for net in (VanillaUNet(depth=depth, filters=2), DilatedUNet(filters=2, dilations=(1, 2))):
            assert net.eval()(image).mask.shape == (2, height, width)


@pytest.mark.parametrize(("regulariser", "per_channel"), [("batch_norm", 2), ("dropout", 1)])
def test_the_parameters_are_as_many_as_a_count_by_hand(regulariser: Regulariser, per_channel: int) -> None:
    def conv(a: int, b: int) -> int:
        return 9 * a * b + per_channel * b  # weight and shift of the norm, or the bias

    def block(a: int, b: int) -> int:
        return conv(a, b) + conv(b, b)

    def up(c: int) -> int:
        return conv(2 * c, c) + block(c + c, c)

    with torch.device("meta"):
        dilated, vanilla = DilatedUNet(regulariser=regulariser), VanillaUNet(regulariser=regulariser)
    cascade = conv(176, 352) + 5 * conv(352, 352)
    expected = block(1, 44) + block(44, 88) + block(88, 176) + cascade + up(176) + up(88) + up(44) + (44 + 1)
    assert sum(each.numel() for each in dilated.parameters()) == expected
    down = block(1, 16) + block(16, 32) + block(32, 64) + block(64, 128)
    expected = down + block(128, 256) + up(128) + up(64) + up(32) + up(16) + (16 + 1)
    assert sum(each.numel() for each in vanilla.parameters()) == expected


@pytest.mark.parametrize("kind", ["dilated", "vanilla"])
def test_batch_norm_and_dropout_are_never_in_one_net(kind: str) -> None:
    for regulariser, present, absent in [
        ("batch_norm", "BatchNorm2d", "Dropout"),
        ("dropout", "Dropout", "BatchNorm2d"),
    ]:
        names = {type(module).__name__ for module in small(kind, regulariser).modules()}  # type: ignore[arg-type]
        assert present in names
        assert absent not in names


@pytest.mark.parametrize("kind", ["dilated", "vanilla"])
def test_dropout_falls_along_the_flow(kind: str) -> None:
    net, rates = small(kind, "dropout"), list[float]()
    drops = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    for drop in drops:
        drop.register_forward_hook(lambda module, inputs, output: rates.append(module.p))
    net(torch.randn(1, 2, 16, 16))
    assert len(rates) == len(drops) == 3 + 1 + 3
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates)
    assert rates[0] == 0.5
    assert rates[-1] > 0


@given(num_blocks=st.integers(1, 20), highest=st.floats(0.01, 0.99))
def test_rates_fall_in_even_steps_towards_nothing(num_blocks: int, highest: float) -> None:
    rates = [*falling_rates(num_blocks, highest=highest), 0.0]
    steps = [first - second for first, second in pairwise(rates)]
    assert rates[0] == pytest.approx(highest)
    assert steps == pytest.approx([highest / num_blocks] * num_blocks)


@pytest.mark.parametrize("regulariser", BOTH)
@pytest.mark.parametrize("kind", ["dilated", "vanilla"])
def test_a_net_agrees_with_its_statement_in_plain_operations(kind: str, regulariser: Regulariser) -> None:
    net = small(kind, regulariser).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5

    def conv(layers: Any, maps: Tensor, dilation: int = 1) -> Tensor:
        maps = F.conv2d(maps, layers[0].weight, layers[0].bias, padding=dilation, dilation=dilation)
        if regulariser == "batch_norm":
            shape = (1, -1, 1, 1)
            norm = layers[1]
            maps = (maps - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
            maps = maps * norm.weight.view(shape) + norm.bias.view(shape)
        return maps.clamp(min=0)

    def block(convs: Any, maps: Tensor) -> Tensor:
        return conv(convs[1], conv(convs[0], maps))

    levels: Any = net.levels
    image = torch.randn(2, 2, 24, 16)
    maps, skips = image, []
    for each in levels.down:
        skips.append(block(each, maps))
        maps = F.max_pool2d(skips[-1], 2)
    if kind == "dilated":
        total = torch.zeros(())
        for each, dilation in zip(levels.middle.convs, (1, 2, 4, 8, 16, 32), strict=True):
            maps = conv(each, maps, dilation)
            total = total + maps
        maps = total
    else:
        maps = block(levels.middle, maps)
    for each in levels.up:
        doubled = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps = block(each.block, torch.cat([skips.pop(), conv(each.narrow, doubled)], dim=1))
    torch.testing.assert_close(net(image).mask, levels.head(maps)[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("regulariser", BOTH)
@pytest.mark.parametrize("kind", ["dilated", "vanilla"])
def test_every_parameter_learns_and_no_gradient_is_broken(kind: str, regulariser: Regulariser) -> None:
    net = small(kind, regulariser)
    # The cascade reaches 32 pixels of the map at an eighth; below that its outer weights see zeros alone.
    net(torch.randn(2, 2, 272, 265)).mask.square().mean().backward()
    assert [name for name, each in net.named_parameters() if each.grad is None or not each.grad.isfinite().all()] == []
    convs = [(name, each) for name, each in net.named_parameters() if each.ndim == 4]
    assert [name for name, each in convs if each.grad is not None and not each.grad.any()] == []


def test_without_a_norm_the_signal_keeps_its_size_down_to_the_mask() -> None:
    torch.manual_seed(0)
    net = VanillaUNet(filters=8, regulariser="dropout").eval()
    masks = net(torch.randn(4, 1, 64, 64)).mask
    assert 0.05 < masks.std() < 5
