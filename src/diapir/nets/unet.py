"""The U-Net family: encoder, decoder, mask head, and a has-salt head if wanted."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import ConvNormAct, convolve_doubled
from diapir.nets.encoders import Encoder

_LEAST_TO_DOUBLE = 8
BlockFactory = Callable[[int], nn.Module]
"""(channels) -> block that keeps shape."""


class Outputs(NamedTuple):
    """What a net gives.

    Args:
        mask: logits (n, height, width).
        has_salt: logits (n,), or None.
        sides: logits (n, h, w) of side heads that training alone looks at, each of the image's size or smaller.
    """

    mask: Tensor
    has_salt: Tensor | None
    sides: tuple[Tensor, ...] = ()


class DecoderStep(nn.Module):
    """Upsample to the skip's size, concatenate, two 3x3 convolutions, gate."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, gate: BlockFactory) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormAct(in_channels + skip_channels, out_channels), ConvNormAct(out_channels, out_channels)
        )
        self.gate = gate(out_channels)

    def forward(self, maps: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        first: Any = self.convs[0]
        conv, norm, act = first
        gated: Tensor = self.gate(self.convs[1](act(norm(self._first_conv(conv.weight, maps, skip, size)))))
        return gated

    def _first_conv(self, weight: Tensor, maps: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        height, width = maps.shape[-2:]
        # Below 8x8 it costs more to spread the many kernels than it saves (4x4 with 512 channels: 128 ms against 95).
        if (2 * height, 2 * width) == tuple(size) and min(height, width) >= _LEAST_TO_DOUBLE:
            return convolve_doubled(maps, skip, weight)
        if (height, width) != tuple(size):
            maps = F.interpolate(maps, size=size, mode="nearest")
        return F.conv2d(maps if skip is None else torch.cat([maps, skip], dim=1), weight, padding=1)


class UNet(nn.Module):
    """Encoder, decoder and heads; the mask is as large as the image, whatever its size.

    Args:
        widths: of the decoder's steps, deepest first: one for each skip, and one more where the encoder's finest map is
            smaller than the image.
        gate: block after each step.
        hypercolumn: width to which each step's map is brought, upsampled to the image's size and concatenated for
            the head; 0 to use the last step alone.
        dropout: of the head's input maps.
        subpixel: predict 2x2 pixels at each place of the half-size map instead of a last step at full size, which
            saves the slowest layers of all (Shi et al. 2016, section 3, arXiv:1609.05158).

    Raises:
        InputError: the widths or `subpixel` do not fit the encoder.

    Source: Ronneberger et al. 2015 (arXiv:1505.04597); hypercolumn: Hariharan et al. 2015 (arXiv:1411.5752).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        widths: Sequence[int],
        gate: BlockFactory,
        hypercolumn: int = 0,
        dropout: float = 0.0,
        has_salt_head: bool = False,
        subpixel: bool = False,
    ) -> None:
        super().__init__()
        deepest, *skips = reversed(encoder.channels)
        if subpixel and encoder.stride != 2:
            raise InputError.of(
                "net.decoder.subpixel",
                f"it needs an encoder whose finest map is 1/2 of the image's size; this one's is 1/{encoder.stride}",
            )
        skips += [0] * (encoder.stride > 1 and not subpixel)
        if len(widths) != len(skips):
            raise InputError.of(
                "net.decoder.widths", f"expected {len(skips)} widths for this encoder, one a step, found {len(widths)}"
            )
        self.encoder = encoder
        self.steps = nn.ModuleList()
        before = deepest
        for skip, width in zip(skips, widths, strict=True):
            self.steps.append(DecoderStep(before, skip, width, gate=gate))
            before = width
        self.columns = nn.ModuleList(nn.Conv2d(width, hypercolumn, 1) for width in widths if hypercolumn)
        head_channels = hypercolumn * len(widths) if hypercolumn else before
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.head = nn.Conv2d(head_channels, 4 if subpixel else 1, 3, padding=1)
        self.subpixel = subpixel
        self.has_salt = nn.Linear(deepest, 1) if has_salt_head else None

    def forward(self, image: Tensor) -> Outputs:
        maps = self.encoder(image)
        skips: list[Tensor | None] = [*reversed(maps[:-1])]
        skips += [None] * (len(self.steps) - len(skips))
        current, found = maps[-1], []
        for step, skip in zip(self.steps, skips, strict=True):
            size = image.shape[-2:] if skip is None else skip.shape[-2:]
            current = step(current, skip, size)
            found.append(current)
        features = self._hypercolumn(found, current.shape[-2:]) if len(self.columns) else current
        mask = self.head(self.dropout(features))
        if self.subpixel:
            mask = F.pixel_shuffle(mask, 2)[..., : image.shape[-2], : image.shape[-1]]
        has_salt = None if self.has_salt is None else self.has_salt(maps[-1].mean((2, 3)))[:, 0]
        return Outputs(mask[:, 0], has_salt)

    def _hypercolumn(self, maps: Sequence[Tensor], size: torch.Size) -> Tensor:
        columns = [column(each) for column, each in zip(self.columns, maps, strict=True)]
        return torch.cat(
            [F.interpolate(each, size=size, mode="bilinear") if each.shape[-2:] != size else each for each in columns],
            dim=1,
        )
