"""Odoh's nets, trained from random weights: a dilated and a vanilla U-Net, with batch norm or dropout, never both.

His slides name them without numbers. Reconstructed (and so labelled in his recipe): what the nets are made of, their
widths, and the dropout rates; from the slides: the choice of regulariser, and rates that fall along the flow.
"""

from collections.abc import Sequence
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.nets.unet import Outputs

Regulariser = Literal["batch_norm", "dropout"]


class DilatedUNet(nn.Module):
    """U-Net around a cascade of dilated convolutions whose outputs are summed; the mask is as large as the image.

    Args:
        in_channels: of the image.
        filters: of the first level, doubled with each; public copies of the design have 16 to 44.
        dilations: of the cascade, in its order, on a map of an eighth of the image's size: at 128 pixels those of 16
            and more reach nothing but the border's zeros, and act as 1x1 convolutions.
        regulariser: batch norm after every convolution but the last, or dropout after every block.
        dropout: highest rate (see `falling_rates`), where dropout regularises.

    Source: reconstruction after the 3rd place of the Carvana competition, released code, with a regulariser added.
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        filters: int = 44,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32),
        regulariser: Regulariser = "batch_norm",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [filters, 2 * filters, 4 * filters]
        middle = _Cascade(4 * filters, 8 * filters, dilations=dilations, regulariser=regulariser)
        self.levels = _Levels(in_channels, widths=widths, middle=middle, regulariser=regulariser, dropout=dropout)

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(self.levels(image), None)


class VanillaUNet(nn.Module):
    """U-Net of any depth; the mask is as large as the image.

    Args:
        in_channels: of the image.
        depth: levels above the deepest one, each followed by a max-pool.
        filters: of the first level, doubled with each.
        regulariser: batch norm after every convolution but the last, or dropout after every block.
        dropout: highest rate (see `falling_rates`), where dropout regularises.

    Source: reconstruction after Ronneberger et al. 2015 (arXiv:1505.04597), padded to keep the size.
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        depth: int = 4,
        filters: int = 16,
        regulariser: Regulariser = "batch_norm",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(depth)]
        middle = _block(widths[-1], 2 * widths[-1], regulariser=regulariser)
        self.levels = _Levels(in_channels, widths=widths, middle=middle, regulariser=regulariser, dropout=dropout)

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(self.levels(image), None)


def falling_rates(num_blocks: int, *, highest: float) -> list[float]:
    """Dropout rate of each block in the order of the flow: even steps from `highest` to `highest / num_blocks`.

    Source: the slides say that rates fall along the flow; that they do so evenly is a reconstruction.
    """
    return [highest * (num_blocks - block) / num_blocks for block in range(num_blocks)]


class _Levels(nn.Module):
    """Levels down to `middle` and up again, and the mask's 1x1 convolution.

    Args:
        middle: from widths[-1] to twice as many channels.
    """

    def __init__(
        self, in_channels: int, *, widths: Sequence[int], middle: nn.Module, regulariser: Regulariser, dropout: float
    ) -> None:
        super().__init__()
        before = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            _block(few, many, regulariser=regulariser) for few, many in zip(before, widths, strict=True)
        )
        self.middle = middle
        self.up = nn.ModuleList(_Up(width, regulariser=regulariser) for width in reversed(widths))
        self.drops = nn.ModuleList(_drops(2 * len(widths) + 1, regulariser=regulariser, highest=dropout))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        drops, maps, skips = iter(self.drops), image, []
        for block in self.down:
            maps = next(drops)(block(maps))
            skips.append(maps)
            maps = F.max_pool2d(maps, 2, ceil_mode=True)
        maps = next(drops)(self.middle(maps))
        for step in self.up:
            maps = next(drops)(step(maps, skips.pop()))
        mask: Tensor = self.head(maps)
        return mask[:, 0]


class _Up(nn.Module):
    """Double, 3x3 convolution to half the channels, concatenate, block."""

    def __init__(self, channels: int, *, regulariser: Regulariser) -> None:
        super().__init__()
        self.narrow = _conv(2 * channels, channels, regulariser=regulariser)
        self.block = _block(2 * channels, channels, regulariser=regulariser)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        height, width = skip.shape[-2:]
        # A map of an odd size was halved upwards: its double has one row or column too many.
        doubled = F.interpolate(maps, scale_factor=2, mode="nearest")[..., :height, :width]
        joined: Tensor = self.block(torch.cat([skip, self.narrow(doubled)], dim=1))
        return joined


class _Cascade(nn.Module):
    """3x3 convolutions one after another, each dilated more than the last; the sum of what each gives."""

    def __init__(
        self, in_channels: int, out_channels: int, *, dilations: Sequence[int], regulariser: Regulariser
    ) -> None:
        super().__init__()
        before = [in_channels, *[out_channels] * (len(dilations) - 1)]
        self.convs = nn.ModuleList(
            _conv(channels, out_channels, regulariser=regulariser, dilation=dilation)
            for channels, dilation in zip(before, dilations, strict=True)
        )

    def forward(self, maps: Tensor) -> Tensor:
        found = []
        for conv in self.convs:
            maps = conv(maps)
            found.append(maps)
        return torch.stack(found).sum(0)


def _block(in_channels: int, out_channels: int, *, regulariser: Regulariser) -> nn.Sequential:
    return nn.Sequential(
        _conv(in_channels, out_channels, regulariser=regulariser),
        _conv(out_channels, out_channels, regulariser=regulariser),
    )


def _conv(in_channels: int, out_channels: int, *, regulariser: Regulariser, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution that keeps the size, batch norm if wanted, ReLU."""
    has_norm = regulariser == "batch_norm"
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=not has_norm)
    # Without a norm torch's own start shrinks the signal with every layer: at depth 4 the mask starts out constant.
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(conv, *([nn.BatchNorm2d(out_channels)] if has_norm else []), nn.ReLU(inplace=True))


def _drops(num_blocks: int, *, regulariser: Regulariser, highest: float) -> list[nn.Module]:
    """What follows each block."""
    match regulariser:
        case "batch_norm":
            return [nn.Identity() for _ in range(num_blocks)]
        case "dropout":
            return [nn.Dropout(rate) for rate in falling_rates(num_blocks, highest=highest)]
        case _:
            assert_never(regulariser)
