import math

import pytest
import torch
from torch import nn

from diapir.nets.blocks import ConvNormAct, ResidualBlock, ScSE, SqueezeExcite


def test_scse_agrees_with_the_slow_obvious_version() -> None:
    torch.manual_seed(0)
    block = ScSE(6, reduction=2)
    maps = torch.randn(2, 6, 3, 4)
    squeeze, excite, spatial = block.channel.squeeze, block.channel.excite, block.spatial
    assert squeeze.bias is not None
    assert excite.bias is not None
    assert spatial.bias is not None
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
