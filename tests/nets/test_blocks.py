import math
from typing import Any, Literal

import pytest
import timm
import torch
from torch import Tensor, nn

from diapir.nets.blocks import (
    Activation,
    ConvNormAct,
    ResidualBlock,
    ScSE,
    SqueezeExcite,
    gated_maps,
    mean_of_maps,
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("last", [False, True])
def test_the_mean_of_maps_is_their_mean_and_so_is_its_gradient(
    dtype: torch.dtype, tolerance: float, last: bool
) -> None:
    torch.manual_seed(0)
    maps = (torch.randn(2, 24, 13, 7) + torch.arange(24.0).view(24, 1, 1)).to(dtype)
    maps = maps.to(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    found = mean_of_maps(maps)
    assert found.shape == (2, 24, 1, 1)
    torch.testing.assert_close(
        found.double(), maps.detach().double().mean((2, 3), keepdim=True), rtol=tolerance, atol=1e-6
    )
    torch.autograd.backward(found.sum())
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad.double(), torch.full(maps.shape, 1 / 91).double(), rtol=tolerance, atol=0)


def test_scse_agrees_with_the_slow_obvious_version() -> None:
    torch.manual_seed(0)
    block = ScSE(6, reduction=2)
    maps = torch.randn(2, 6, 3, 4)
    squeeze, excite = block.channel.squeeze, block.channel.excite
    spatial: Any = block.spatial
    assert squeeze.bias is not None
    assert excite.bias is not None
    expected = torch.empty_like(maps)
    for n in range(2):
        means = maps[n].mean((1, 2))
        hidden = (squeeze.weight[:, :, 0, 0] @ means + squeeze.bias).clamp(min=0)
        channel = (excite.weight[:, :, 0, 0] @ hidden + excite.bias).sigmoid()
        for c in range(6):
            for i in range(3):
                for j in range(4):
                    place = (spatial.weight[0, :, 0, 0] @ maps[n, :, i, j] + spatial.bias[0]).sigmoid()
                    expected[n, c, i, j] = maps[n, c, i, j] * channel[c] + maps[n, c, i, j] * place
    torch.testing.assert_close(block(maps), expected)


Spatial = Literal["one", "each", "bottleneck", "none"]


def by_pixel(conv: Any, maps: Tensor) -> Tensor:
    """A 1x1 convolution as a product at every pixel."""
    product = torch.einsum("oc,nchw->nohw", conv.weight[:, :, 0, 0], maps)
    return product if conv.bias is None else product + conv.bias[:, None, None]


def plain_scse(block: ScSE, maps: Tensor) -> Tensor:
    """Both gates written out, for every variant."""
    flat = maps.flatten(2)
    pooled = (flat.mean(2) if block.channel.pool == "avg" else flat.max(2).values)[:, :, None, None]
    gated = maps * by_pixel(block.channel.excite, by_pixel(block.channel.squeeze, pooled).clamp(min=0)).sigmoid()
    spatial: Any = block.spatial
    if spatial is None:
        return gated
    if isinstance(spatial, nn.Sequential):
        return gated + maps * by_pixel(spatial[2], by_pixel(spatial[0], maps).clamp(min=0)).sigmoid()
    return gated + maps * by_pixel(spatial, maps).sigmoid()


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("spatial", ["one", "each", "bottleneck", "none"])
@pytest.mark.parametrize("spatial_bias", [True, False])
def test_every_variant_of_scse_and_its_gradients_agree_with_both_gates_written_out(
    pool: Literal["avg", "max"], spatial: Spatial, spatial_bias: bool
) -> None:
    torch.manual_seed(0)
    block = ScSE(6, reduction=2, pool=pool, spatial=spatial, spatial_bias=spatial_bias)
    maps = torch.randn(2, 6, 3, 4, requires_grad=True)
    weights = torch.randn(2, 6, 3, 4)
    wanted = [maps, *block.parameters()]
    found, expected = block(maps), plain_scse(block, maps)
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad((found * weights).sum(), wanted)
    theirs = torch.autograd.grad((expected * weights).sum(), wanted)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("spatial", ["one", "each", "bottleneck", "none"])
def test_variants_of_scse_have_the_parameters_of_the_table(spatial: Spatial, bias: bool) -> None:
    of_channel = (64 * 4 + 4) + (4 * 64 + 64)
    of_spatial = {
        "one": 64 + bias,
        "each": 64 * 64 + 64 * bias,
        "bottleneck": 64 * 16 + 16 * bias + 16 + bias,
        "none": 0,
    }
    block = ScSE(64, reduction=16, spatial=spatial, spatial_bias=bias)
    assert sum(each.numel() for each in block.parameters()) == of_channel + of_spatial[spatial]


@pytest.mark.parametrize(
    ("activation", "expected"), [("relu", 0.0), ("elu", math.expm1(-2)), ("leaky_relu", -0.02), ("none", -2.0)]
)
def test_the_activation_is_the_one_that_was_named(activation: Activation, expected: float) -> None:
    block: Any = ConvNormAct(1, 1, kernel=1, activation=activation).eval()
    nn.init.constant_(block[0].weight, -2 * math.sqrt(1 + 1e-5))
    torch.testing.assert_close(block(torch.ones(1, 1, 1, 1)).item(), expected)
    torch.testing.assert_close(block(-torch.ones(1, 1, 1, 1)).item(), 2.0)


def test_gated_maps_are_seen_by_the_next_stage() -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("resnet18", pretrained=False, features_only=True, in_chans=1).eval()
    image = torch.randn(1, 1, 64, 64)
    plain = gated_maps(model, image, gates=[nn.Identity()] * 5)
    torch.testing.assert_close(plain, model(image))

    class Double(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return 2 * maps

    gates = [nn.Identity(), Double(), nn.Identity(), Double(), nn.Identity()]
    gated = gated_maps(model, image, gates=gates)
    expected = [plain[0], 2 * plain[1]]
    expected.append(model["layer2"](expected[1]))
    expected.append(2 * model["layer3"](expected[2]))
    expected.append(model["layer4"](expected[3]))
    torch.testing.assert_close(gated, expected)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 16, 4), (64, 2, 32), (8, 16, 1)])
def test_a_gate_squeezes_by_its_reduction_but_never_to_nothing(channels: int, reduction: int, hidden: int) -> None:
    assert SqueezeExcite(channels, reduction=reduction).squeeze.out_channels == hidden


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 101, 104])
def test_only_the_stride_changes_the_size(kernel: int, stride: int, side: int) -> None:
    with torch.device("meta"):
        maps = ConvNormAct(2, 3, kernel=kernel, stride=stride).eval()(torch.zeros(1, 2, side, side))
        assert maps.shape == (1, 3, math.ceil(side / stride), math.ceil(side / stride))


@pytest.mark.parametrize("side", [1, 2, 7, 8, 13])
@pytest.mark.parametrize("squeeze", [0, 4])
def test_a_halving_block_takes_any_size_and_rounds_up(side: int, squeeze: int) -> None:
    block = ResidualBlock(4, 8, stride=2, squeeze=squeeze).eval()
    assert block(torch.randn(1, 4, side, side)).shape == (1, 8, math.ceil(side / 2), math.ceil(side / 2))


def test_a_new_block_is_its_shortcut() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 7, 7)
    torch.testing.assert_close(ResidualBlock(4, 4)(maps), maps.relu())
    # At the border of an odd size the mean is taken over the pixels that are there.
    halved = ResidualBlock(4, 4, stride=2)(maps)
    torch.testing.assert_close(halved[:, :, 0, 0], maps[:, :, :2, :2].mean((2, 3)).relu())
    torch.testing.assert_close(halved[:, :, 3, 3], maps[:, :, 6, 6].relu())
    assert torch.equal(ResidualBlock(4, 4, stride=2)(torch.ones(1, 4, 7, 7)), torch.ones(1, 4, 4, 4))


def test_a_block_adds_its_change_to_its_shortcut() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 6, squeeze=2).eval()
    nn.init.uniform_(block.norm.weight)
    maps = torch.randn(2, 4, 5, 5)
    change = block.norm(block.second(block.first(maps)))
    assert block.squeeze is not None
    expected = (block.shortcut(maps) + change * block.squeeze.gate(change)).relu()
    torch.testing.assert_close(block(maps), expected)
    assert change.abs().max() > 0.01
