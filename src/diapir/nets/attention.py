"""Modules that look far across a map: pyramid attention, global convolution, attention upsample.

All take and give (n, channels, height, width).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from diapir.nets.blocks import ConvNormAct, SqueezeExcite


def upsample_to(maps: Tensor, like: Tensor) -> Tensor:
    """Bilinear upsampling to the size of another map, corners on corners, as the first place has it."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=True)


class FeaturePyramidAttention(nn.Module):
    """A map gated by what two coarser ones make of it, plus its mean; in the first place's form.

    It differs from the paper's in having no 7x7 branch. Any size of map works: each branch halves it, rounding up.

    Source: Li et al. 2018, section 3.1 (arXiv:1805.10180); the first place's models B and C.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.main = ConvNormAct(in_channels, out_channels, kernel=1, activation="elu")
        self.down_half = ConvNormAct(in_channels, in_channels, kernel=5, stride=2, activation="elu")
        self.down_quarter = ConvNormAct(in_channels, in_channels, kernel=3, stride=2, activation="elu")
        self.from_half = ConvNormAct(in_channels, out_channels, kernel=5, activation="elu")
        self.from_quarter = ConvNormAct(in_channels, out_channels, kernel=3, activation="elu")
        self.whole = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        half = self.down_half(maps)
        quarter = self.from_quarter(self.down_quarter(half))
        half = self.from_half(half)
        pyramid = upsample_to(half + upsample_to(quarter, half), maps)
        whole: Tensor = self.whole(maps.mean((2, 3), keepdim=True))
        attended: Tensor = self.main(maps) * pyramid + whole
        return attended


class GlobalConvolution(nn.Module):
    """A large `kernel` x `kernel` convolution as the sum of a row after a column and a column after a row.

    Args:
        refine: add the boundary refinement, a residual block of two 3x3 convolutions.

    Source: Peng et al. 2017, sections 3.1 and 3.2 (arXiv:1703.02719).
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 7, refine: bool = False) -> None:
        super().__init__()
        assert kernel % 2 == 1, "an even kernel has no centre"
        tall, wide = (kernel, 1), (1, kernel)
        self.column_row = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, tall, padding="same"),
            nn.Conv2d(out_channels, out_channels, wide, padding="same"),
        )
        self.row_column = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, wide, padding="same"),
            nn.Conv2d(out_channels, out_channels, tall, padding="same"),
        )
        self.refine = (
            nn.Sequential(
                nn.Conv2d(out_channels, out_channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(out_channels, out_channels, 3, padding=1),
            )
            if refine
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        summed: Tensor = self.column_row(maps) + self.row_column(maps)
        return summed if self.refine is None else summed + self.refine(summed)


class GlobalAttentionUpsample(nn.Module):
    """Join a coarse map to a finer one that it gates, by channel and by pixel.

    fine = GCN(low); out = ReLU(fine * c + fine * s + up(high)), with c the squeeze-and-excitation gate of high, s a
    gate of each pixel of up(high), and high brought to `out_channels` by a 1x1 convolution where its width differs.

    A reconstruction where the first place's summary is silent: the ReLU after the sum, the projection, and
    `reduction`; its code was not released.

    Source: Li et al. 2018, section 3.2 (arXiv:1805.10180), with the first place's changes for model D: the gate made
    like SENet's and then like scSE's, and a global convolution (arXiv:1703.02719) in place of the 3x3.
    """

    def __init__(
        self, high_channels: int, low_channels: int, out_channels: int, *, reduction: int = 16, kernel: int = 7
    ) -> None:
        super().__init__()
        self.fine = GlobalConvolution(low_channels, out_channels, kernel=kernel)
        self.project = nn.Conv2d(high_channels, out_channels, 1) if high_channels != out_channels else nn.Identity()
        self.channel = SqueezeExcite(out_channels, reduction=reduction)
        self.spatial = nn.Conv2d(out_channels, 1, 1)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """Join `high` (n, c, h, w) to `low` (n, c', H, W), which is as large or larger.

        Returns:
            (n, out_channels, H, W).
        """
        high = self.project(high)
        raised = upsample_to(high, low)
        gates = self.channel.gate(high) + self.spatial(raised).sigmoid()
        joined: Tensor = self.fine(low) * gates + raised
        return F.relu(joined)
