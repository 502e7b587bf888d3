"""Random changes of whole batches, on the device that holds them, by numbers drawn on the CPU (`train/draws.py`)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diapir.train.draws import Border, Draws

_PADDING = {"mirror": "reflection", "reflect": "border", "zero": "zeros"}
_FAR = 1e4  # beyond the tile also after any crop


def apply_changes(images: Tensor, masks: Tensor, draws: Draws, *, is_soft: bool = False) -> tuple[Tensor, Tensor]:
    """Change tiles and their masks together.

    Args:
        images: (n, h, w), float in 0..1.
        masks: (n, h, w), 0 and 1, float; NaN where unknown.
        is_soft: whether masks are probabilities, which stay so.

    Returns:
        Images (n, h, w) float in 0..1, masks (n, h, w) of 0 and 1 (if `is_soft`, of what lies between too), float, NaN
        where an unknown pixel takes part.
    """
    images, masks = _move(_cut_first(images, masks, draws), masks, draws)
    return _tone(images, draws), masks if is_soft else hard(masks)


def hard(masks: Tensor) -> Tensor:
    """1 where a mask is above a half and 0 elsewhere, NaN where it is NaN."""
    return torch.where(masks.isnan(), masks, (masks > 0.5).float())


def _cut_first(images: Tensor, masks: Tensor, draws: Draws) -> Tensor:
    """Fill the holes that come before all else, but for those that would hide too much of the mask's salt."""
    rows = _where(draws.cutout[:, 2] > 0, images.device)
    if not len(rows):
        return images
    cutout = _to(draws.cutout, images.device)[rows]
    grey, hides = cutout[:, 3, None, None], cutout[:, 4]
    some, salt = images[rows], masks[rows].nan_to_num(0.0)
    inside = _squares(cutout[:, :3], shape=images.shape[1:])
    allowed = (salt * inside).sum((1, 2)) <= hides * salt.sum((1, 2))
    images = images.clone()
    images[rows] = torch.where(inside & allowed[:, None, None], grey, some)
    return images


def _move(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """One resampling of image and mask on one grid; tiles that are at most flipped are copied, not resampled."""
    plain, flipped = _copied(draws)
    both = torch.stack([images, masks], dim=1)
    turned = both.clone()
    rows = _where(flipped, images.device)
    turned[rows] = both[rows].flip(-1)
    rows = (~(plain | flipped)).nonzero()[:, 0]
    if len(rows):
        grid = _grid(draws, rows, shape=both.shape[-2:], device=images.device)
        rows = _to(rows, images.device)
        moved = F.grid_sample(
            both[rows], grid, mode="bilinear", padding_mode=_PADDING[draws.border], align_corners=False
        )
        turned[rows] = moved.clamp(0, 1)  # four weights that sum to 1 by a hair too much give more than white
    return turned[:, 0], turned[:, 1]


def _copied(draws: Draws) -> tuple[Tensor, Tensor]:
    """Tiles that stay as they are, and those that are flipped and no more: (n,) bool each."""

    def equal(matrix: Tensor, across: float) -> Tensor:
        return (matrix == torch.tensor([[across, 0.0, 0.0], [0.0, 1.0, 0.0]])).flatten(1).all(1)

    first = draws.matrix if draws.crop is None else draws.crop
    still = torch.ones(len(first), dtype=torch.bool) if draws.crop is None else equal(draws.matrix, 1)
    for displacement in (draws.warp, draws.stretch):
        if displacement is not None:
            still = still & (displacement.flatten(1).abs().amax(1) == 0)
    return equal(first, 1) & still, equal(first, -1) & still


def _grid(draws: Draws, rows: Tensor, *, shape: torch.Size, device: torch.device) -> Tensor:
    """Where each output pixel of some tiles comes from, (m, h, w, 2) in [-1, 1]."""
    height, width = shape
    size = _to(torch.tensor([width, height]), device)
    matrix = _to(draws.matrix[rows], device)
    if draws.stretch is None:
        grid = F.affine_grid(matrix, [len(rows), 1, height, width], align_corners=False)
    else:
        stretch = _to(draws.stretch[rows], device)
        along = (2 * (torch.arange(width, device=device) + stretch[:, 0, :width]) + 1) / width - 1
        down = (2 * (torch.arange(height, device=device) + stretch[:, 1, :height]) + 1) / height - 1
        right, below, offset = matrix[:, None, None].unbind(4)
        grid = along[:, None, :, None] * right + down[:, :, None, None] * below + offset
    if draws.warp is not None:
        warp = _to(draws.warp[rows], device)
        smooth = F.interpolate(warp, size=(height, width), mode="bicubic", align_corners=True)
        # Between its knots the cubic overshoots; no pixel may move further than the tile's furthest knot.
        furthest = warp.abs().amax((1, 2, 3), keepdim=True)
        grid = grid + smooth.clamp(-furthest, furthest).permute(0, 2, 3, 1) * (2 / size)
    if draws.crop is not None:
        crop = _to(draws.crop[rows], device)
        inside = _bring_back(grid, size, border=draws.border)
        return inside * crop.diagonal(dim1=1, dim2=2)[:, None, None] + crop[:, None, None, :, 2]
    # What "mirror" and "zero" ask for is done in sampling.
    return _bring_back(grid, size, border="reflect") if draws.border == "reflect" else grid


def _bring_back(grid: Tensor, size: Tensor, *, border: Border) -> Tensor:
    """Places beyond [-1, 1] reflected into it, or moved too far away to be seen again."""
    if border == "zero":
        return torch.where(grid.abs() <= 1, grid, _FAR)
    edge = 0.5 if border == "reflect" else 0.0  # reflected about the centres of edge pixels, or about their outer sides
    last = (size - 2 * edge).clamp(min=1)
    place = (grid + 1) * size / 2 - edge
    place = last - (place.abs() % (2 * last) - last).abs()
    return (place + edge) * 2 / size - 1


def _tone(images: Tensor, draws: Draws) -> Tensor:
    """Grey values: factor, contrast about the tile's mean, brightness, gamma, noise, negative, blur, hole; in 0..1."""
    device = images.device
    added, contrast, gamma, deviation, multiplied = _to(draws.tone, device).unbind(1)
    rows = _where((draws.tone[:, 0] != 0) | (draws.tone[:, 1] != 1) | (draws.tone[:, 4] != 1), device)
    images = images.clone()
    if len(rows):
        some = images[rows] * multiplied[rows, None, None]
        mean = some.mean((1, 2), keepdim=True)
        images[rows] = ((some - mean) * contrast[rows, None, None] + mean + added[rows, None, None]).clamp(0, 1)
    rows = _where(draws.tone[:, 2] != 1, device)
    if len(rows):
        images[rows] = images[rows] ** gamma[rows, None, None]
    rows = _where(draws.tone[:, 3] > 0, device)
    if len(rows):
        noise = _to(_noise(draws.noise_seed[draws.tone[:, 3] > 0], shape=images.shape[1:]), device)
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
    inside = _squares(_to(draws.hole, images.device)[rows], shape=images.shape[1:])
    some = images[rows]
    images[rows] = torch.where(inside, some.mean((1, 2), keepdim=True), some)
    return images


def _squares(holes: Tensor, *, shape: torch.Size) -> Tensor:
    """Pixels within squares given as row, column and side (m, 3): (m, h, w) bool."""
    centre_row, centre_column, side = holes.unbind(1)
    down = torch.arange(shape[0], device=holes.device) + 0.5
    along = torch.arange(shape[1], device=holes.device) + 0.5
    inside = ((down[None] - centre_row[:, None]).abs() <= side[:, None] / 2)[:, :, None]
    return inside & ((along[None] - centre_column[:, None]).abs() <= side[:, None] / 2)[:, None, :]


def _where(chosen: Tensor, device: torch.device) -> Tensor:
    return _to(chosen.nonzero()[:, 0], device)


def _to(values: Tensor, device: torch.device) -> Tensor:
    """Values on the device, without waiting for the work that it still has to do."""
    return values.to(device, non_blocking=True)
