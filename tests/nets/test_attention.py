from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.nets.attention import FeaturePyramidAttention, GlobalAttentionUpsample, GlobalConvolution, upsample_to


def stretch(length: int, size: int) -> Tensor:
    """(size, length): linear interpolation of `length` samples at `size` places, ends on ends."""
    matrix = torch.zeros(size, length)
    for row in range(size):
        place = row * (length - 1) / (size - 1) if size > 1 else 0.0
        left = min(int(place), max(length - 2, 0))
        matrix[row, left] += 1 - (place - left)
        if place > left:
            matrix[row, left + 1] += place - left
    return matrix


def stretched(maps: Tensor, size: torch.Size) -> Tensor:
    rows, columns = stretch(maps.shape[-2], size[0]), stretch(maps.shape[-1], size[1])
    return torch.einsum("hi,ncij,wj->nchw", rows, maps, columns)


def randomise_norms(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]  # it is a tensor where it is tracked
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [((4, 4), (8, 8)), ((2, 3), (4, 5)), ((1, 1), (2, 2)), ((3, 3), (3, 3))])
def test_upsampling_interpolates_between_corners_that_stay(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    maps, like = torch.randn(2, 3, *sizes[0]), torch.randn(1, 1, *sizes[1])
    torch.testing.assert_close(upsample_to(maps, like), stretched(maps, like.shape[-2:]))


def plain_pyramid(block: Any, maps: Tensor) -> Tensor:
    """The formula of the first place's form, with its kernels and strides written out."""

    def conv_norm_elu(part: Any, maps: Tensor, *, kernel: int, stride: int) -> Tensor:
        conv, norm, _ = part
        assert conv.weight.shape[2:] == (kernel, kernel)
        found = F.conv2d(F.pad(maps, [kernel // 2] * 4), conv.weight, stride=stride)
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        found = (found - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
        return torch.where(found > 0, found, found.exp() - 1)

    at_half = conv_norm_elu(block.down_half, maps, kernel=5, stride=2)
    at_quarter = conv_norm_elu(block.down_quarter, at_half, kernel=3, stride=2)
    half = conv_norm_elu(block.from_half, at_half, kernel=5, stride=1)
    quarter = conv_norm_elu(block.from_quarter, at_quarter, kernel=3, stride=1)
    pyramid = stretched(half + stretched(quarter, half.shape[-2:]), maps.shape[-2:])
    whole = torch.einsum("oc,nc->no", block.whole.weight[:, :, 0, 0], maps.flatten(2).mean(2))
    return conv_norm_elu(block.main, maps, kernel=1, stride=1) * pyramid + whole[:, :, None, None]


@pytest.mark.parametrize("size", [(16, 16), (8, 4), (5, 7)])
def test_pyramid_attention_agrees_with_its_formula(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = FeaturePyramidAttention(6, 4).eval()
    randomise_norms(block)
    maps = torch.randn(2, 6, *size)
    torch.testing.assert_close(block(maps), plain_pyramid(block, maps), rtol=1e-4, atol=1e-5)


def test_pyramid_attention_has_the_parameters_of_the_table() -> None:
    with torch.device("meta"):
        block = FeaturePyramidAttention(512, 256)
    down = 25 * 512 * 512 + 2 * 512 + 9 * 512 * 512 + 2 * 512
    across = 25 * 512 * 256 + 2 * 256 + 9 * 512 * 256 + 2 * 256
    main_and_whole = 512 * 256 + 2 * 256 + 512 * 256
    assert sum(each.numel() for each in block.parameters()) == down + across + main_and_whole


def outer(first: Any, second: Any) -> Tensor:
    """The dense kernel of two convolutions along lines that cross: (out, in, k, k)."""
    if first.weight.shape[2] > 1:
        return torch.einsum("omx,miy->oiyx", second.weight[:, :, 0, :], first.weight[:, :, :, 0])
    return torch.einsum("omy,mix->oiyx", second.weight[:, :, :, 0], first.weight[:, :, 0, :])


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("size", [(16, 16), (4, 9)])
def test_global_convolution_is_the_sum_of_two_large_kernels(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block: Any = GlobalConvolution(3, 5, kernel=kernel)
    maps = torch.randn(2, 3, *size)
    expected = torch.zeros(2, 5, *size)
    for first, second in (block.column_row, block.row_column):
        nn.init.zeros_(first.bias)  # at the border the second line would see it end where the map does
        expected += F.conv2d(maps, outer(first, second), second.bias, padding=kernel // 2)
    assert block.column_row[0].weight.shape[2:] == (kernel, 1)
    assert block.row_column[0].weight.shape[2:] == (1, kernel)
    torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-5)


def test_refinement_adds_a_residual_of_two_convolutions() -> None:
    torch.manual_seed(0)
    block: Any = GlobalConvolution(3, 5, refine=True)
    maps = torch.randn(1, 3, 8, 8)
    coarse = block.column_row(maps) + block.row_column(maps)
    first, _, second = block.refine
    hidden = F.conv2d(coarse, first.weight, first.bias, padding=1).clamp(min=0)
    expected = coarse + F.conv2d(hidden, second.weight, second.bias, padding=1)
    torch.testing.assert_close(block(maps), expected)
    assert GlobalConvolution(3, 5).refine is None


@pytest.mark.parametrize("high_channels", [4, 6])
def test_attention_upsample_agrees_with_the_slow_obvious_version(high_channels: int) -> None:
    torch.manual_seed(0)
    block: Any = GlobalAttentionUpsample(high_channels, 5, 4, reduction=2, kernel=3)
    high, low = torch.randn(2, high_channels, 3, 4), torch.randn(2, 5, 6, 8)
    fine = block.fine(low)
    if high_channels == 4:
        assert isinstance(block.project, nn.Identity)
        narrow = high
    else:
        narrow = torch.einsum("oc,nchw->nohw", block.project.weight[:, :, 0, 0], high)
        narrow = narrow + block.project.bias[:, None, None]
    raised = stretched(narrow, low.shape[-2:])
    expected = torch.empty(2, 4, 6, 8)
    squeeze, excite = block.channel.squeeze, block.channel.excite
    for n in range(2):
        hidden = (squeeze.weight[:, :, 0, 0] @ narrow[n].mean((1, 2)) + squeeze.bias).clamp(min=0)
        channel = (excite.weight[:, :, 0, 0] @ hidden + excite.bias).sigmoid()
        for i in range(6):
            for j in range(8):
                pixel = (block.spatial.weight[0, :, 0, 0] @ raised[n, :, i, j] + block.spatial.bias).sigmoid()
                at = fine[n, :, i, j]
                expected[n, :, i, j] = (at * channel + at * pixel + raised[n, :, i, j]).clamp(min=0)
    torch.testing.assert_close(block(high, low), expected, rtol=1e-4, atol=1e-5)


def test_every_part_learns() -> None:
    torch.manual_seed(0)
    pyramid, joint = FeaturePyramidAttention(6, 4), GlobalAttentionUpsample(4, 6, 3, kernel=3)
    low = torch.randn(2, 6, 8, 8)
    joint(pyramid(low)[:, :, ::2, ::2], low).square().sum().backward()
    for block in (pyramid, joint):
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name
