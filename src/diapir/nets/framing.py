"""101 -> the size that the net sees, and the way back; channels of the net's input.

Padding is undone exactly, to the bit. A resized tile comes back by interpolation: exactly where it is constant or
linear, and else as far as the smaller size can hold it (tests/nets/test_framing.py states how far).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from diapir.faults import InputError
from diapir.recipe.tiles import Channel

Border = Literal["reflect", "edge", "zero"]

IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
"""Mean and standard deviation of ImageNet's red, green and blue in 0..1, as published with its trained nets."""
IMAGENET_GREY = (0.449, 0.226)
"""The means of the three."""


@dataclass(frozen=True)
class Frame:
    """How a tile of `height` x `width` pixels meets the net.

    Args:
        method: `native`, `pad` to `size`, or `resize` to `size`; `size` is None for native.
        inner: size that a tile is brought to before it is padded; None for its own.
    """

    method: Literal["native", "pad", "resize"]
    size: int | None = None
    border: Border = "reflect"
    inner: int | None = None

    def enclose(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, size, size) by this frame; float in, float out.

        Raises:
            InputError: the tile is larger than the padded size, or too small to be reflected that far.
        """
        match self.method:
            case "native":
                return images
            case "pad":
                assert self.size is not None
                if self.inner is not None:
                    images = _resized(images, height=self.inner, width=self.inner)
                return _pad(images, _margins(images.shape[-2:], self.size), self.border)
            case "resize":
                assert self.size is not None
                return _resized(images, height=self.size, width=self.size)
            case _:
                assert_never(self.method)

    def release(self, maps: Tensor, *, height: int, width: int) -> Tensor:
        """(n, c, size, size) -> (n, c, height, width): what `enclose` did, undone.

        Padding is cut off exactly. A resized map is brought back by bilinear interpolation.
        """
        match self.method:
            case "native":
                return maps
            case "pad":
                assert self.size is not None
                inner = (height, width) if self.inner is None else (self.inner, self.inner)
                top, _, left, _ = _margins(inner, self.size)
                maps = maps[..., top : top + inner[0], left : left + inner[1]]
                return maps if self.inner is None else _resized(maps, height=height, width=width)
            case "resize":
                return _resized(maps, height=height, width=width)
            case _:
                assert_never(self.method)


@dataclass(frozen=True)
class InputSpec:
    """Channels and scaling of a net's input; saved with its weights.

    Args:
        levels: mean and deviation that are taken out of grey values in 0..1, of each `image` among the channels in
            turn; a single pair serves them all.
        depth_low_m, depth_high_m: depths that become 0 and 1 in the depth channel.
        ramps: whether ramps run over the `tile`, and are framed with it, or over the whole `frame`.
    """

    channels: tuple[Channel, ...]
    levels: tuple[tuple[float, float], ...]
    depth_low_m: float
    depth_high_m: float
    ramps: Literal["tile", "frame"] = "tile"

    @classmethod
    def stored(cls, raw: dict[str, Any]) -> "InputSpec":
        """What was saved as JSON.

        Raises:
            KeyError, TypeError, ValueError: it was not, or by an earlier version.
        """
        levels = tuple((float(mean), float(deviation)) for mean, deviation in raw["levels"])
        spec = cls(**raw | {"channels": tuple(raw["channels"]), "levels": levels})
        depths_m = (float(spec.depth_low_m), float(spec.depth_high_m))
        if not levels or not all(map(math.isfinite, (*itertools.chain(*levels), *depths_m))):
            raise ValueError("levels and depths are finite, and there is a level")
        if any(deviation <= 0 for _, deviation in levels):
            raise ValueError("deviations are above 0")
        return spec


def net_input(images: Tensor, depths_m: Tensor, *, spec: InputSpec, frame: Frame) -> Tensor:
    """Grey tiles as the net sees them.

    Args:
        images: (n, h, w), float in 0..1.
        depths_m: (n,); where unknown (NaN) the middle of the range stands in.

    Returns:
        (n, channels, size, size), channels last in memory. Ramps run from 0 to 1.
    """
    greys = torch.stack([images, *((images - mean) / deviation for mean, deviation in spec.levels)], dim=1)
    if spec.ramps == "frame":
        planes = _planes(frame.enclose(greys), depths_m, spec=spec)
    else:
        planes = frame.enclose(_planes(greys, depths_m, spec=spec))
    return planes.contiguous(memory_format=torch.channels_last)


def _planes(greys: Tensor, depths_m: Tensor, *, spec: InputSpec) -> Tensor:
    """The channels, (n, channels, h, w), float32, of images as they are and at each level, (n, 1 + levels, h, w)."""
    images, *scaled = greys.unbind(1)
    in_turn = itertools.cycle(scaled)
    count, height, width = images.shape
    rows = torch.linspace(0, 1, height, device=images.device)[:, None].expand(count, height, width)
    planes = []
    for channel in spec.channels:
        match channel:
            case "image":
                planes.append(next(in_turn))
            case "row_ramp":
                planes.append(rows)
            case "column_ramp":
                planes.append(torch.linspace(0, 1, width, device=images.device).expand(count, height, width))
            case "image_times_ramp":
                planes.append(images * rows)
            case "depth":
                relative = (depths_m - spec.depth_low_m) / max(spec.depth_high_m - spec.depth_low_m, 1e-6)
                planes.append(relative.nan_to_num(0.5)[:, None, None].expand(count, height, width))
            case _:
                assert_never(channel)
    return torch.stack(planes, dim=1).float()


def _resized(maps: Tensor, *, height: int, width: int) -> Tensor:
    # Antialiasing matters only when shrinking, and then it does: plain bilinear would drop thin layers.
    shrinks = maps.shape[-2] > height or maps.shape[-1] > width
    return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False, antialias=shrinks)


def _margins(shape: Sequence[int], size: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right; the odd pixel goes to the bottom and the right, as the six systems have it."""
    height, width = shape
    if size < max(height, width):
        raise InputError.of(
            "framing.size",
            f"tiles of {height}x{width} cannot be padded to {size}: expected {max(height, width)} or more",
        )
    return (size - height) // 2, (size - height + 1) // 2, (size - width) // 2, (size - width + 1) // 2


def _pad(images: Tensor, margins: tuple[int, int, int, int], border: Border) -> Tensor:
    top, bottom, left, right = margins
    height, width = images.shape[-2:]
    if border == "reflect" and (bottom >= height or right >= width):
        raise InputError.of(
            "framing.border",
            f"tiles of {height}x{width} are too small to be reflected out to {height + top + bottom}x"
            f"{width + left + right}: expected a smaller framing.size, or the border 'edge' or 'zero'",
        )
    mode = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}[border]
    return F.pad(images, (left, right, top, bottom), mode=mode)
