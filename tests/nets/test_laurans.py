import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import SqueezeExcite
from diapir.nets.laurans import LauransNet, _Residual


@cache
def published() -> LauransNet:
    with torch.device("meta"):
        return LauransNet()


def small(in_channels: int = 1) -> LauransNet:
    torch.manual_seed(0)
    return LauransNet(in_channels, filters=4, depth=3, reduction=2)


@pytest.mark.parametrize("side", [101, 128])
def test_the_published_net_gives_a_mask_as_large_as_the_tile(side: int) -> None:
    with torch.device("meta"):
        outputs = published()(torch.zeros(2, 1, side, side))
    assert outputs.mask.shape == (2, side, side)
    assert outputs.has_salt is None
    assert outputs.sides == ()


def test_a_native_tile_goes_by_the_published_sizes_and_widths_and_back() -> None:
    net, found = published(), list[tuple[int, ...]]()
    levels = [*net.down, *net.up]
    handles = [level.register_forward_hook(lambda module, inputs, out: found.append(out.shape[1:])) for level in levels]
    with torch.device("meta"):
        net(torch.zeros(1, 1, 101, 101))
    for handle in handles:
        handle.remove()
    down = [(32, 101, 101), (64, 50, 50), (128, 25, 25), (256, 12, 12), (512, 6, 6), (1024, 3, 3)]
    assert found == [*down, *down[-2::-1]]


@settings(max_examples=15, deadline=None)
@given(height=st.integers(32, 200), width=st.integers(32, 200))
def test_any_size_gives_a_mask_as_large_as_the_image(height: int, width: int) -> None:
    with torch.device("meta"):
        assert published()(torch.zeros(2, 1, height, width)).mask.shape == (2, height, width)


@pytest.mark.parametrize(("height", "width"), [(31, 101), (101, 31)])
def test_a_tile_too_small_to_be_halved_so_often_is_refused(height: int, width: int) -> None:
    says = f"net.depth: 5 levels need tiles of 32x32 or more, found {height}x{width}"
    with pytest.raises(InputError, match=says), torch.device("meta"):
        published()(torch.zeros(1, 1, height, width))


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def residual(c: int) -> int:
        convs, norms = 9 * c * c + 9 * c * c, 3 * 2 * c
        return convs + norms + c * (c // 16) + c // 16 + (c // 16) * c + c

    def level(a: int, c: int) -> int:
        return 9 * a * c + c + 2 * residual(c)

    def up(c: int) -> int:
        return 9 * 2 * c * c + c + level(c + c, c)

    down = level(1, 32) + level(32, 64) + level(64, 128) + level(128, 256) + level(256, 512) + level(512, 1024)
    expected = down + up(512) + up(256) + up(128) + up(64) + up(32) + (32 + 1)
    assert sum(each.numel() for each in published().parameters()) == expected


def test_values_are_dropped_where_and_as_often_as_published() -> None:
    net, seen = small(), list[tuple[float, int, int]]()
    for drop in (module for module in net.modules() if isinstance(module, nn.Dropout)):
        drop.register_forward_hook(
            lambda module, inputs, output: seen.append((module.p, output.shape[1], output.shape[-1]))
        )
    net(torch.randn(2, 1, 21, 21))
    after_pools = [(0.25, 4, 10), (0.25, 8, 5), (0.25, 16, 2)]
    after_joins = [(0.5, 32, 5), (0.5, 16, 10), (0.5, 8, 21)]
    assert seen == [*after_pools, *after_joins, (0.25, 4, 21)]


@pytest.mark.parametrize(("height", "width"), [(101, 50), (12, 25), (50, 101)])
def test_doubling_is_the_adjoint_of_a_halving_convolution_of_the_size_it_goes_back_to(height: int, width: int) -> None:
    # As in Keras: "valid" where the size is odd; "same", which pads below and to the right alone, where it is even.
    torch.manual_seed(0)
    net = LauransNet(filters=4, depth=1).eval()
    joined = list[Tensor]()
    net.up[0].register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    coarse = list[Tensor]()
    net.down[1].register_forward_hook(lambda module, inputs, output: coarse.append(output))
    net(torch.randn(1, 1, height, width))
    doubling = net.doublings[0]
    assert isinstance(doubling, nn.ConvTranspose2d)
    assert doubling.bias is not None
    fine = joined[0][:, 4:] - doubling.bias.view(1, -1, 1, 1)
    probe = torch.randn_like(fine)
    halved = F.conv2d(F.pad(probe, (0, 1 - width % 2, 0, 1 - height % 2)), doubling.weight, stride=2)
    torch.testing.assert_close((probe * fine).sum(), (halved * coarse[0]).sum(), rtol=1e-3, atol=1e-3)


def test_a_residual_block_is_its_statement_and_its_gate_goes_by_the_largest_value() -> None:
    torch.manual_seed(0)
    block = _Residual(6, reduction=2)
    maps = torch.randn(3, 6, 4, 5)
    _, _, first, _, _, gate, second, _ = block.change
    assert isinstance(gate, SqueezeExcite)
    assert gate.squeeze.bias is not None
    assert gate.excite.bias is not None

    def normed(values: Tensor) -> Tensor:
        mean = values.mean((0, 2, 3), keepdim=True)
        return (values - mean) / (((values - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-3).sqrt()

    change = normed(first(normed(maps.clamp(min=0)))).clamp(min=0)
    gated = torch.empty_like(change)
    for n in range(3):
        largest = torch.stack([change[n, c].flatten().sort().values[-1] for c in range(6)])
        hidden = (gate.squeeze.weight[:, :, 0, 0] @ largest + gate.squeeze.bias).clamp(min=0)
        gated[n] = change[n] * (gate.excite.weight[:, :, 0, 0] @ hidden + gate.excite.bias).sigmoid()[:, None, None]
    torch.testing.assert_close(block(maps), maps + normed(second(gated)), rtol=1e-4, atol=1e-4)


def test_a_level_is_a_convolution_two_blocks_and_a_relu() -> None:
    level = small().down[1].eval()
    maps = torch.randn(2, 4, 5, 5)
    conv, one, two, _ = level.children()
    torch.testing.assert_close(level(maps), two(one(conv(maps))).clamp(min=0))


def test_kernels_start_he_normal_and_biases_at_nothing() -> None:
    torch.manual_seed(0)
    for name, module in LauransNet(filters=16, depth=2).named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and "change.5" not in name:
            assert module.bias is None or not module.bias.any()
            # Keras counts a transposed kernel's outputs as its inputs, and so does torch.
            inputs = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx(
                math.sqrt(2 / inputs), rel=5 / module.weight.numel() ** 0.5
            )


def test_norms_forget_as_slowly_as_keras_has_them() -> None:
    norms = [module for module in small().modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_every_parameter_learns_and_no_gradient_is_broken() -> None:
    net = small(2)
    net(torch.randn(4, 2, 21, 26)).mask.square().mean().backward()
    assert [name for name, each in net.named_parameters() if each.grad is None or not each.grad.isfinite().all()] == []
    # Over so small a batch the ReLU of a gate may be off everywhere; that of a convolution may not.
    convs = [(name, each) for name, each in net.named_parameters() if each.ndim == 4 and "change.5" not in name]
    assert [name for name, each in convs if each.grad is not None and not each.grad.any()] == []
