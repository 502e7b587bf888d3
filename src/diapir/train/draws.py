"""What happens to each tile of a batch, drawn from one generator on the CPU.

Draws are made for the whole batch, whatever the device and the number of processes: the same seed gives the same
changes everywhere. A section without groups draws the same numbers, in the same order, as before there were groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from diapir.recipe.training import Augment, Change, ChangeName

Border = Literal["mirror", "reflect", "zero"]


@dataclass(frozen=True)
class Draws:
    """What will be done to each of n tiles.

    Args:
        matrix: (n, 2, 3), output to input coordinates in [-1, 1].
        crop: (n, 2, 3), what comes before `matrix` with a border of its own: flip and crop; None where tiles are not
            cropped so, and the flip is in `matrix`.
        warp: (n, 2, 5, 5), coarse displacements in pixels, or None where no tile is warped.
        stretch: (n, 2, side), displacement of each column and of each row in pixels, or None where there is none.
        tone: (n, 5): added, multiplied contrast, gamma exponent, noise deviation, multiplied grey.
        invert, blur: (n,) bool.
        cutout: (n, 5): row, column and side in pixels of a hole made before all else, its grey, and the largest share
            of the mask's salt that it may hide; side 0 for none.
        hole: (n, 3): row, column and side of a hole made after all else, in pixels; side 0 for none.
        noise_seed: (n,), seed of each tile's noise.
        border: what lies beyond the tile.
    """

    matrix: Tensor
    crop: Tensor | None
    warp: Tensor | None
    stretch: Tensor | None
    tone: Tensor
    invert: Tensor
    blur: Tensor
    cutout: Tensor
    hole: Tensor
    noise_seed: Tensor
    border: Border = "mirror"

    def part(self, rows: slice) -> "Draws":
        """The draws of some of the tiles: what one of several processes applies."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        mine: dict[str, Any] = {name: value[rows] for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **mine)


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
    draws = Draws(
        matrix=matrix,
        crop=None,
        warp=warp,
        stretch=None,
        tone=torch.stack([added, contrast, gamma, deviation, torch.ones(count)], dim=1),
        invert=chance(section.invert),
        blur=chance(section.blur),
        cutout=torch.zeros(count, 5),
        hole=hole,
        noise_seed=torch.randint(2**31, (count,), generator=rng),
        border=section.border,
    )
    if not section.changes:
        return draws
    return _with_groups(draws, section.changes, height=height, width=width, rng=rng)


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


@dataclass(frozen=True)
class _Picked:
    """Which of `count` tiles get each of the changes that groups name, and the group that says how.

    Args:
        on: (n,) bool of each change that is named.
    """

    on: dict[ChangeName, Tensor]
    group: dict[ChangeName, Change]
    count: int
    rng: torch.Generator

    def uniform(self, name: ChangeName, neutral: float) -> Tensor:
        """(n,), drawn from the change's range; `neutral` for tiles that do not get it."""
        if name not in self.on:
            return torch.full((self.count,), float(neutral))
        low, high = getattr(self.group[name], name)
        return torch.where(self.on[name], low + (high - low) * torch.rand(self.count, generator=self.rng), neutral)

    def amount(self, name: ChangeName) -> Tensor:
        """(n,), the change's one number; 0 for tiles that do not get it."""
        number: float = getattr(self.group[name], name)
        return number * self.on[name]

    def gets(self, name: ChangeName) -> Tensor:
        """(n,) bool."""
        return self.on.get(name, torch.zeros(self.count, dtype=torch.bool))


def _with_groups(draws: Draws, groups: Sequence[Change], *, height: int, width: int, rng: torch.Generator) -> Draws:
    """The draws with what groups of changes add to them."""
    count = len(draws.matrix)
    on: dict[ChangeName, Tensor] = {}
    group: dict[ChangeName, Change] = {}
    for each in groups:
        on |= _pick(each, count, rng=rng)
        group |= dict.fromkeys(each.names, each)
    picked = _Picked(on, group, count, rng)
    added, multiplied = picked.uniform("add", 0), picked.uniform("multiply", 1)
    tone = draws.tone.clone()
    # Grey is multiplied first; what was to be added before is therefore multiplied here.
    tone[:, 0], tone[:, 4] = added * multiplied, multiplied
    tone[:, 1], tone[:, 2] = picked.uniform("contrast", 1), picked.uniform("gamma", 1)
    flip = torch.cat([draws.matrix, torch.tensor([0.0, 0.0, 1.0]).expand(count, 1, 3)], dim=1)
    crop = flip @ _crop(picked) if {"crop", "window"} & on.keys() else None
    matrix = _affine_change(picked)
    return replace(
        draws,
        matrix=(flip @ matrix if crop is None else matrix)[:, :2],
        crop=None if crop is None else crop[:, :2],
        stretch=_stretch(picked, max(height, width)) if "grid" in on else None,
        tone=tone,
        invert=picked.gets("invert"),
        blur=picked.gets("blur"),
        cutout=_cutout(picked, height=height, width=width) if "cutout_px" in on else draws.cutout,
    )


def _pick(group: Change, count: int, *, rng: torch.Generator) -> dict[ChangeName, Tensor]:
    """Which tiles get each change of a group, (n,) bool."""
    names = group.names
    match group.pick:
        case "each":
            on = torch.rand(count, len(names), generator=rng) < group.chance
        case "all":
            on = (torch.rand(count, 1, generator=rng) < group.chance).expand(count, len(names))
        case "one":
            chosen = torch.randint(len(names), (count, 1), generator=rng) == torch.arange(len(names))
            on = chosen & (torch.rand(count, 1, generator=rng) < group.chance)
        case _:
            assert_never(group.pick)
    return dict(zip(names, on.unbind(1), strict=True))


def _crop(picked: _Picked) -> Tensor:
    """Output to input coordinates of crop and window, (n, 3, 3)."""
    matrix = torch.eye(3).expand(picked.count, 3, 3)
    if "crop" in picked.on:
        # Of each axis [-1 + 2a, 1 - 2b] is kept.
        left, top, right, bottom = torch.rand(4, picked.count, generator=picked.rng) * picked.amount("crop")
        matrix = matrix @ _matrices((1 - left - right, 0, left - right), (0, 1 - top - bottom, top - bottom))
    if "window" in picked.on:
        off = picked.on["window"].float() - picked.amount("window")
        along, down = (torch.rand(2, picked.count, generator=picked.rng) * 2 - 1) * off
        matrix = matrix @ _matrices((1 - off, 0, along), (0, 1 - off, down))
    return matrix


def _affine_change(picked: _Picked) -> Tensor:
    """Output to input coordinates of shear, rotation, scale and shift, in that order, (n, 3, 3)."""
    matrix = _matrices((1, 2 * picked.uniform("shear", 0), 0), (0, 1, 0))
    angle = torch.deg2rad(picked.uniform("rotation_deg", 0))
    matrix = matrix @ _matrices((angle.cos(), angle.sin(), 0), (-angle.sin(), angle.cos(), 0))
    shrink = 1 / picked.uniform("scale", 1)
    along, down = (-2 * shrink * picked.uniform("shift", 0) for _ in range(2))
    return matrix @ _matrices((shrink, 0, along), (0, shrink, down))


def _matrices(*top_rows: tuple[Tensor | float, ...]) -> Tensor:
    """3x3 matrices from the six entries of their two top rows, each a number or (n,): (n, 3, 3)."""
    count = next(len(entry) for row in top_rows for entry in row if isinstance(entry, Tensor))
    entries = [entry for row in (*top_rows, (0.0, 0.0, 1.0)) for entry in row]
    columns = [torch.as_tensor(entry, dtype=torch.float32).expand(count) for entry in entries]
    return torch.stack(columns, dim=1).view(count, 3, 3)


def _stretch(picked: _Picked, side: int) -> Tensor:
    """How far each column and row is moved, (n, 2, side) in pixels; the left and the top edge stay.

    Source: the 9th place of the TGS competition (tugstugi), whose cells of 10 pixels are stretched by up to 15 %.
    """
    grid_px = picked.group["grid"].grid_px
    most = torch.rand(picked.count, generator=picked.rng) * picked.amount("grid")
    cells = torch.rand(picked.count, 2, math.ceil(side / grid_px), generator=picked.rng) * 2 - 1
    growth = (cells * most[:, None, None]).repeat_interleave(grid_px, dim=2)[:, :, :side]
    return growth.cumsum(2) - growth / 2  # at the pixels' centres


def _cutout(picked: _Picked, *, height: int, width: int) -> Tensor:
    """Row, column, side, grey, and share of salt that may be hidden: (n, 5)."""
    group, count, rng = picked.group["cutout_px"], picked.count, picked.rng
    assert group.cutout_px is not None
    low, high = group.cutout_px
    place = torch.rand(count, 2, generator=rng) * torch.tensor([height, width])
    side = torch.randint(low, high + 1, (count,), generator=rng) * picked.on["cutout_px"]
    grey, hides = torch.full((count,), group.cutout_grey), torch.full((count,), group.cutout_hides)
    return torch.cat([place, torch.stack([side, grey, hides], dim=1)], dim=1)
