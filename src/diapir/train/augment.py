"""Random changes of whole batches, on the device, driven by one generator.

Draws are made for the whole batch on the CPU, whatever the device and the number of processes: the same seed gives
the same changes everywhere.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diapir.recipe.training import Augment


@dataclass(frozen=True)
class Draws:
    """What will be done to each of n tiles.

    Args:
        matrix: (n, 2, 3), output to input coordinates in [-1, 1].
        warp: (n, 2, 5, 5), coarse displacements in pixels, or None where no tile is warped.
        tone: (n, 4): added, multiplied contrast, gamma exponent, noise deviation.
        invert, blur: (n,) bool.
        hole: (n, 3): row, column and side of the square hole, in pixels; side 0 for none.
        noise_seed: (n,), seed of each tile's noise.
    """

    matrix: Tensor
    warp: Tensor | None
    tone: Tensor
    invert: Tensor
    blur: Tensor
    hole: Tensor
    noise_seed: Tensor

    def part(self, rows: slice) -> "Draws":
        """The draws of some of the tiles: what one of several processes applies."""
        return Draws(
            matrix=self.matrix[rows],
            warp=None if self.warp is None else self.warp[rows],
            tone=self.tone[rows],
            invert=self.invert[rows],
            blur=self.blur[rows],
            hole=self.hole[rows],
            noise_seed=self.noise_seed[rows],
        )


def draw_changes(count: int, section: Augment, *, height: int, width: int, rng: torch.Generator) -> Draws:
    """Draw what happens to each of `count` tiles of `height` x `width` pixels."""

    def chance(probability: float) -> Tensor:
        return torch.rand(count, generator=rng) < probability

    def spread(limit: float, on: Tensor) -> Tensor:
        return (torch.rand(count, generator=rng) * 2 - 1) * limit * on

    matrix = _affine(count, section, rng=rng)
    warped = chance(section.elastic)
    warp = None
    if section.elastic > 0:
        warp = (torch.rand(count, 2, 5, 5, generator=rng) * 2 - 1) * section.elastic_px * warped[:, None, None, None]
    added = spread(section.brightness, chance(section.tone))
    contrast = 1 + spread(section.contrast, chance(section.tone))
    gamma = 1 + spread(section.gamma, chance(section.tone))
    deviation = spread(section.noise, chance(section.tone)).abs()
    side = section.cutout_px * chance(section.cutout)
    hole = torch.stack(
        [torch.rand(count, generator=rng) * height, torch.rand(count, generator=rng) * width, side], dim=1
    )
    return Draws(
        matrix=matrix,
        warp=warp,
        tone=torch.stack([added, contrast, gamma, deviation], dim=1),
        invert=chance(section.invert),
        blur=chance(section.blur),
        hole=hole,
        noise_seed=torch.randint(2**31, (count,), generator=rng),
    )


def apply_changes(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Change tiles and their masks together.

    Args:
        images: (n, h, w), float in 0..1.
        masks: (n, h, w), 0 and 1, float.

    Returns:
        Images (n, h, w) float in 0..1, masks (n, h, w) of 0 and 1, float. Beyond the border the tile is reflected.
    """
    images, masks = _move(images, masks, draws)
    return _tone(images, draws), masks


def _affine(count: int, section: Augment, *, rng: torch.Generator) -> Tensor:
    """Output to input coordinates of flip, crop, and the affine change, (n, 2, 3)."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=rng) * 2 - 1) * limit

    flip = torch.where(torch.rand(count, generator=rng) < section.flip, -1.0, 1.0)
    on = (torch.rand(count, generator=rng) < section.geometry).float()
    angle = uniform(math.radians(section.rotation_deg)) * on
    zoom = 1 / (1 + uniform(section.scale) * on)
    shear = uniform(2 * section.shear) * on
    shift = torch.stack([uniform(2 * section.shift) * on, uniform(2 * section.shift) * on], dim=1)
    linear = torch.zeros(count, 2, 2)
    linear[:, 0, 0], linear[:, 0, 1] = angle.cos() * zoom, -angle.sin() * zoom + shear
    linear[:, 1, 0], linear[:, 1, 1] = angle.sin() * zoom, angle.cos() * zoom
    # A crop keeps [-1 + 2a, 1 - 2b] of each axis, a and b drawn apart.
    cropped = (torch.rand(count, 1, generator=rng) < section.crop).float()
    off = torch.rand(count, 4, generator=rng) * section.crop_share * cropped
    extent = 1 - off[:, :2] - off[:, 2:]
    centre = off[:, :2] - off[:, 2:]
    matrix = torch.cat([linear * extent[:, :, None], (shift + centre)[:, :, None]], dim=2)
    matrix[:, 0, :2] *= flip[:, None]
    matrix[:, 0, 2] *= flip
    return matrix


def _move(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """One resampling of image and mask on one grid; tiles that are at most flipped are copied, not resampled."""
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    flat = draws.matrix.flatten(1)
    mirrored = identity * torch.tensor([-1.0, 1, 1, 1, 1, 1])
    plain = (flat == identity).all(1)
    flipped = (flat == mirrored).all(1)
    if draws.warp is not None:
        still = draws.warp.flatten(1).abs().amax(1) == 0
        plain, flipped = plain & still, flipped & still
    both = torch.stack([images, masks], dim=1)
    turned = both.clone()
    rows = flipped.nonzero()[:, 0].to(images.device)
    turned[rows] = both[rows].flip(-1)
    rows = (~(plain | flipped)).nonzero()[:, 0]
    if len(rows):
        grid = _grid(draws, rows, shape=both.shape[-2:]).to(images.device)
        rows = rows.to(images.device)
        moved = F.grid_sample(both[rows], grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        turned[rows] = moved.clamp(0, 1)  # four weights that sum to 1 by a hair too much give more than white
    return turned[:, 0], (turned[:, 1] > 0.5).float()


def _grid(draws: Draws, rows: Tensor, *, shape: torch.Size) -> Tensor:
    height, width = shape
    grid = F.affine_grid(draws.matrix[rows], [len(rows), 1, height, width], align_corners=False)
    if draws.warp is None:
        return grid
    smooth = F.interpolate(draws.warp[rows], size=(height, width), mode="bicubic", align_corners=True)
    # Between its knots the cubic overshoots; no pixel may move further than the tile's furthest knot.
    furthest = draws.warp[rows].abs().amax((1, 2, 3), keepdim=True)
    smooth = smooth.clamp(-furthest, furthest)
    return grid + smooth.permute(0, 2, 3, 1) * (2 / torch.tensor([width, height]))


def _tone(images: Tensor, draws: Draws) -> Tensor:
    """Grey values: contrast about the tile's mean, brightness, gamma, noise, negative, blur, hole; clipped to 0..1."""
    device = images.device
    added, contrast, gamma, deviation = draws.tone.to(device).unbind(1)
    rows = _where((draws.tone[:, 0] != 0) | (draws.tone[:, 1] != 1), device)
    images = images.clone()
    if len(rows):
        some = images[rows]
        mean = some.mean((1, 2), keepdim=True)
        images[rows] = ((some - mean) * contrast[rows, None, None] + mean + added[rows, None, None]).clamp(0, 1)
    rows = _where(draws.tone[:, 2] != 1, device)
    if len(rows):
        images[rows] = images[rows] ** gamma[rows, None, None]
    rows = _where(draws.tone[:, 3] > 0, device)
    if len(rows):
        noise = _noise(draws.noise_seed[rows.cpu()], shape=images.shape[1:]).to(device)
        images[rows] = (images[rows] + noise * deviation[rows, None, None]).clamp(0, 1)
    rows = _where(draws.invert, device)
    images[rows] = 1 - images[rows]
    rows = _where(draws.blur, device)
    if len(rows):
        padded = F.pad(images[rows][:, None], (1, 1, 1, 1), mode="reflect")
        images[rows] = F.avg_pool2d(padded, 3, stride=1)[:, 0]
    return _cut_holes(images, draws)


def _noise(seeds: Tensor, *, shape: torch.Size) -> Tensor:
    """Standard normal noise, (n, h, w), each tile's from its own seed: the same however a batch is divided."""
    noise = torch.empty(len(seeds), *shape)
    for tile, seed in zip(noise, seeds.tolist(), strict=True):
        tile.normal_(generator=torch.Generator().manual_seed(seed))
    return noise


def _cut_holes(images: Tensor, draws: Draws) -> Tensor:
    """Fill each hole with the tile's own mean grey."""
    rows = _where(draws.hole[:, 2] > 0, images.device)
    if not len(rows):
        return images
    centre_row, centre_column, side = draws.hole.to(images.device)[rows].unbind(1)
    down = torch.arange(images.shape[1], device=images.device) + 0.5
    along = torch.arange(images.shape[2], device=images.device) + 0.5
    inside = ((down[None] - centre_row[:, None]).abs() <= side[:, None] / 2)[:, :, None]
    inside = inside & ((along[None] - centre_column[:, None]).abs() <= side[:, None] / 2)[:, None, :]
    some = images[rows]
    images[rows] = torch.where(inside, some.mean((1, 2), keepdim=True), some)
    return images


def _where(chosen: Tensor, device: torch.device) -> Tensor:
    return chosen.nonzero()[:, 0].to(device)
