"""Small modules that nets are made of. All take and give (n, channels, height, width)."""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError

Activation = Literal["relu", "elu", "leaky_relu", "none"]
Pool = Literal["avg", "max"]


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, activation; `kernel` odd, padded so that only `stride` changes the size."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, activation: Activation = "relu"
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            activate(activation),
        )


def activate(activation: Activation) -> nn.Module:
    """The activation of that name, in place; `leaky_relu` slopes by 0.01 as the ninth place's does."""
    match activation:
        case "relu":
            return nn.ReLU(inplace=True)
        case "elu":
            return nn.ELU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(0.01, inplace=True)
        case "none":
            return nn.Identity()
        case _:
            assert_never(activation)


def mean_of_maps(maps: Tensor) -> Tensor:
    """The mean of each channel's map, (n, channels, 1, 1)."""
    # On a CPU mean() of bfloat16 first writes all maps out in float32: ten times as long as one window over each map.
    return maps.mean((2, 3), keepdim=True) if maps.is_cuda else F.avg_pool2d(maps, maps.shape[-2:])


def require_multiple(image: Tensor, divisor: int) -> None:
    """Refuse images that a net cannot halve as often as it must.

    Raises:
        InputError: a side is no multiple of `divisor`.
    """
    height, width = image.shape[-2:]
    if height % divisor or width % divisor:
        raise InputError.of(
            "framing.size", f"this net needs sides that are multiples of {divisor}, found {height}x{width}"
        )


def convolve_doubled(coarse: Tensor, skip: Tensor | None, weight: Tensor) -> Tensor:
    """3x3 convolution of `coarse`, doubled by nearest neighbour, beside `skip`: the same sums in fewer products.

    Doubling followed by a 3x3 kernel is one transposed convolution whose 4x4 kernel is the 3x3 one spread over 2x2
    pixels, four ninths of the work; the concatenation is the sum of both parts.

    Args:
        coarse: (n, a, h, w).
        skip: (n, b, 2h, 2w), or None.
        weight: (out, a + b, 3, 3) of the convolution of the concatenation.

    Returns:
        (n, out, 2h, 2w).
    """
    channels = coarse.shape[1]
    spread = F.pad(weight[:, :channels].flip(2, 3), (1, 1, 1, 1))
    kernel = spread[:, :, 1:, 1:] + spread[:, :, 1:, :-1] + spread[:, :, :-1, 1:] + spread[:, :, :-1, :-1]
    fine = F.conv_transpose2d(coarse, kernel.transpose(0, 1), stride=2, padding=1)
    return fine if skip is None else fine + F.conv2d(skip, weight[:, channels:], padding=1)


class SqueezeExcite(nn.Module):
    """Gate of each channel from the mean (or with `pool` "max" the largest value) of its map.

    Source: Hu et al. 2018, section 3 (arXiv:1709.01507).
    """

    def __init__(self, channels: int, *, reduction: int, pool: Pool = "avg") -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.pool: Pool = pool
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def gate(self, maps: Tensor) -> Tensor:
        """Gates in (0, 1), (n, channels, 1, 1)."""
        pooled = mean_of_maps(maps) if self.pool == "avg" else maps.amax((2, 3), keepdim=True)
        hidden: Tensor = F.relu(self.squeeze(pooled))
        gates: Tensor = self.excite(hidden).sigmoid()
        return gates

    def forward(self, maps: Tensor) -> Tensor:
        gated: Tensor = maps * self.gate(maps)
        return gated


class ScSE(nn.Module):
    """Channel gate and spatial gate side by side, their results added: every published variant.

    Args:
        reduction: of the channel gate's hidden layer.
        pool: what the channel gate makes of each map.
        spatial: `one` gate a pixel, from a 1x1 convolution; `each` channel its own at every pixel (1st place's model
            A); one from a `bottleneck` of 16 channels with a ReLU (28th place); `none` for the channel gate alone.
        spatial_bias: of the spatial gate's convolutions (1st place's models B and C have none).

    Source: Roy et al. 2018, section 2.3 (arXiv:1803.02579), with the sum that all six systems use.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        pool: Pool = "avg",
        spatial: Literal["one", "each", "bottleneck", "none"] = "one",
        spatial_bias: bool = True,
    ) -> None:
        super().__init__()
        self.channel = SqueezeExcite(channels, reduction=reduction, pool=pool)
        match spatial:
            case "one":
                self.spatial: nn.Module | None = nn.Conv2d(channels, 1, 1, bias=spatial_bias)
            case "each":
                self.spatial = nn.Conv2d(channels, channels, 1, bias=spatial_bias)
            case "bottleneck":
                narrow = nn.Conv2d(channels, 16, 1, bias=spatial_bias)
                self.spatial = nn.Sequential(narrow, nn.ReLU(inplace=True), nn.Conv2d(16, 1, 1, bias=spatial_bias))
            case "none":
                self.spatial = None
            case _:
                assert_never(spatial)
        self.fused = spatial in ("one", "bottleneck")

    def forward(self, maps: Tensor) -> Tensor:
        channel = self.channel.gate(maps)
        if self.spatial is None:
            return maps * channel
        if not self.fused:
            each: Tensor = maps * (channel + self.spatial(maps).sigmoid())
            return each
        last = maps.permute(0, 2, 3, 1)
        gated: Tensor = _BothGates.apply(last, channel.permute(0, 2, 3, 1), self._spatial_gate(maps))
        return gated.permute(0, 3, 1, 2)

    def _spatial_gate(self, maps: Tensor) -> Tensor:
        """One gate a pixel, (n, h, w, 1)."""
        spatial = self.spatial
        assert spatial is not None
        if isinstance(spatial, nn.Conv2d):
            # As a product over the last axis: a convolution to a single channel takes longer (8 % of the whole gate).
            return F.linear(maps.permute(0, 2, 3, 1), spatial.weight[:, :, 0, 0], spatial.bias).sigmoid()
        gate: Tensor = spatial(maps).sigmoid()
        return gate.permute(0, 2, 3, 1)


class _BothGates(torch.autograd.Function):
    """maps * (channel + spatial) in fewer passes over memory than autograd takes, forward and backward.

    All with channels last: maps (n, h, w, c), channel (n, 1, 1, c), spatial (n, h, w, 1).
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        ctx.save_for_backward(maps, channel, spatial)
        return (channel + spatial).mul_(maps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps, channel, spatial = ctx.saved_tensors
        count, height, width, channels = maps.shape
        both = (grads[0] * maps).reshape(count, height * width, channels)
        # Sums as products with ones: faster than sum() over strided axes of bfloat16.
        by_channel = torch.bmm(both.new_ones(count, 1, height * width), both).view(channel.shape)
        by_pixel = (both @ both.new_ones(channels, 1)).view(spatial.shape)
        return (channel + spatial).mul_(grads[0]), by_channel, by_pixel


def gated_maps(model: nn.Module, image: Tensor, *, gates: Sequence[nn.Module] | nn.ModuleList) -> list[Tensor]:
    """Feature maps of a timm model, each gated before the next stage sees it; finest first.

    Args:
        model: of a `TimmEncoder`.
        image: (n, c, h, w).
        gates: one for each map.
    """
    stages: Any = model
    maps, found = image, list[Tensor]()
    for name, stage in stages.items():
        maps = stage(maps)
        if name in stages.return_layers:
            maps = gates[len(found)](maps)
            found.append(maps)
    assert len(found) == len(gates), "one gate for each map"
    return found


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, with a squeeze-and-excitation gate before the sum if wanted.

    Source: He et al. 2016, figure 2 (arXiv:1512.03385); the shortcut of a smaller map averages before it projects, as
    in He et al. 2019, figure 2 (c) (arXiv:1812.01187).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, squeeze: int = 0) -> None:
        super().__init__()
        self.first = ConvNormAct(in_channels, out_channels, stride=stride)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        nn.init.zeros_(self.norm.weight)  # the block starts as its shortcut
        self.squeeze = SqueezeExcite(out_channels, reduction=squeeze) if squeeze else None
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if in_channels != out_channels:
            shortcut += [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        change: Tensor = self.norm(self.second(self.first(maps)))
        if self.squeeze is not None:
            change = self.squeeze(change)
        return F.relu(self.shortcut(maps) + change)
