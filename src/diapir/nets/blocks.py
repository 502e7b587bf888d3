"""Small modules that nets are made of. All take and give (n, channels, height, width)."""

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; `kernel` odd, padded so that only `stride` changes the size."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class SqueezeExcite(nn.Module):
    """Gate of each channel from the mean of its map.

    Source: Hu et al. 2018, section 3 (arXiv:1709.01507).
    """

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def gate(self, maps: Tensor) -> Tensor:
        """Gates in (0, 1), (n, channels, 1, 1)."""
        pooled = F.adaptive_avg_pool2d(maps, 1)
        hidden: Tensor = F.relu(self.squeeze(pooled))
        gates: Tensor = self.excite(hidden).sigmoid()
        return gates

    def forward(self, maps: Tensor) -> Tensor:
        gated: Tensor = maps * self.gate(maps)
        return gated


class ScSE(nn.Module):
    """Channel gate and spatial gate side by side, their results added.

    Source: Roy et al. 2018, section 2.3 (arXiv:1803.02579), with the sum that all six systems use.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.channel = SqueezeExcite(channels, reduction=reduction)
        self.spatial = nn.Conv2d(channels, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        gated: Tensor = maps * self.channel.gate(maps) + maps * self.spatial(maps).sigmoid()
        return gated


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
