"""Laurans' net: a residual U-Net with squeeze and excitation, on tiles of their own 101x101 pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import SqueezeExcite
from diapir.nets.unet import Outputs

# Keras's defaults, which the released code leaves alone; torch counts the momentum from the other end.
_EPSILON, _MOMENTUM = 1e-3, 0.01


class LauransNet(nn.Module):
    """Residual U-Net; the mask is as large as the image, even or odd: 101 pixels go by 50, 25, 12 and 6 to 3 and back.

    Args:
        in_channels: of the image.
        filters: of the first level, doubled with each.
        depth: levels above the deepest one, each followed by a max-pool.
        reduction: of the squeeze-and-excitation gates.
        pool_dropout, skip_dropout, head_dropout: shares of values dropped in training after each max-pool, after each
            concatenation, and before the mask's convolution.

    Source: 316th place of the TGS competition (Laurans), released code. Its biases of convolutions before a batch norm,
    which takes them out again, are left out.
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        filters: int = 32,
        depth: int = 5,
        reduction: int = 16,
        pool_dropout: float = 0.25,
        skip_dropout: float = 0.5,
        head_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(depth + 1)]
        before = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            _Level(few, many, reduction=reduction) for few, many in zip(before, widths, strict=True)
        )
        upwards = widths[:-1][::-1]
        self.doublings = nn.ModuleList(
            _he_normal(nn.ConvTranspose2d(2 * width, width, 3, stride=2)) for width in upwards
        )
        self.up = nn.ModuleList(_Level(2 * width, width, reduction=reduction) for width in upwards)
        self.pool_dropout = nn.Dropout(pool_dropout)
        self.skip_dropout = nn.Dropout(skip_dropout)
        self.head_dropout = nn.Dropout(head_dropout)
        self.head = _he_normal(nn.Conv2d(filters, 1, 1))

    def forward(self, image: Tensor) -> Outputs:
        """Logits of the mask.

        Raises:
            InputError: the image is too small to be halved `depth` times.
        """
        smallest = 2 ** len(self.up)
        if min(image.shape[-2:]) < smallest:
            height, width = image.shape[-2:]
            raise InputError.of(
                "net.depth",
                f"{len(self.up)} levels need tiles of {smallest}x{smallest} or more, found {height}x{width}",
            )
        first, *deeper = self.down
        skips = [first(image)]
        for level in deeper:
            skips.append(level(self.pool_dropout(F.max_pool2d(skips[-1], 2))))
        maps = skips.pop()
        for doubling, level in zip(self.doublings, self.up, strict=True):
            skip = skips.pop()
            height, width = skip.shape[-2:]
            # 2n + 1 pixels come out; where 2n are wanted the last one goes, as Keras's "same" has it.
            fine = doubling(maps)[..., :height, :width]
            maps = level(self.skip_dropout(torch.cat([skip, fine], dim=1)))
        mask: Tensor = self.head(self.head_dropout(maps))
        return Outputs(mask[:, 0], None)


class _Level(nn.Sequential):
    """3x3 convolution, two residual blocks, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, reduction: int) -> None:
        super().__init__(
            _he_normal(nn.Conv2d(in_channels, out_channels, 3, padding=1)),
            _Residual(out_channels, reduction=reduction),
            _Residual(out_channels, reduction=reduction),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """ReLU, batch norm, 3x3 convolution, batch norm, ReLU, gate, 3x3 convolution, batch norm; the input is added."""

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.ReLU(),  # not in place: the input is still to be added
            _norm(channels),
            _he_normal(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
            _norm(channels),
            nn.ReLU(inplace=True),
            SqueezeExcite(channels, reduction=reduction, pool="max"),
            _he_normal(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
            _norm(channels),
        )

    def forward(self, maps: Tensor) -> Tensor:
        changed: Tensor = maps + self.change(maps)
        return changed


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)


def _he_normal(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Conv2d | nn.ConvTranspose2d:
    """The same convolution with its start: He-normal kernel, no bias.

    Source: He et al. 2015, section 2.2 (arXiv:1502.01852).
    """
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
