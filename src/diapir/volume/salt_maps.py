"""What every trace and every body of a salt store comes to, filled block by block."""

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diapir.volume.bodies import Bodies, Runs, Whole
from diapir.volume.store import Grid
from diapir.volume.top_and_base import CHANCES, base_places, top_places

Map = NDArray[np.float32]
_FEET_M = 0.3048
_MOST_FITTED = 100_000
_THINNEST = 1e-4  # sine between inlines and crosslines; less is a line
_P50 = CHANCES.index(0.5)


@dataclass(frozen=True, eq=False)
class SaltMaps:
    """Maps of salt: (inlines, crosslines); NaN or 0 where a trace has none or is not live.

    Args:
        top, base: float32 (3, inlines, crosslines): P10, P50 and P90 in samples from 0 on; NaN also where the salt goes
            on beyond the survey.
        top_disagreement, base_disagreement: of members and directions, at the sample nearest to P50.
        has_salt: greatest calibrated probability of the trace, outside what was removed.
        entries: how many times the trace goes into salt.
        salt_samples: of the mask.
        first, last: sample of salt, -1 where there is none.
        is_overhung: it has one body twice.
        body: from 1 on, the uppermost of the trace; 0 for none.
    """

    top: Map
    base: Map
    top_disagreement: Map
    base_disagreement: Map
    has_salt: Map
    entries: NDArray[np.int32]
    salt_samples: NDArray[np.int32]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    is_overhung: NDArray[np.bool_]
    body: NDArray[np.int32]

    @property
    def is_salty(self) -> NDArray[np.bool_]:
        """Traces with any salt by the mask."""
        return self.entries > 0

    @property
    def thickness(self) -> Map:
        """From the P50 top to the P50 base, in samples, whatever lies in between."""
        return np.asarray(self.base[_P50] - self.top[_P50])


def empty_maps(inlines: int, crosslines: int) -> SaltMaps:
    """Maps before any block was looked at."""
    shape = inlines, crosslines
    return SaltMaps(
        top=np.full((len(CHANCES), *shape), np.nan, np.float32),
        base=np.full((len(CHANCES), *shape), np.nan, np.float32),
        top_disagreement=np.full(shape, np.nan, np.float32),
        base_disagreement=np.full(shape, np.nan, np.float32),
        has_salt=np.zeros(shape, np.float32),
        entries=np.zeros(shape, np.int32),
        salt_samples=np.zeros(shape, np.int32),
        first=np.full(shape, -1, np.int32),
        last=np.full(shape, -1, np.int32),
        is_overhung=np.zeros(shape, np.bool_),
        body=np.zeros(shape, np.int32),
    )


def fill_maps(
    maps: SaltMaps,
    runs: Runs,
    body: Whole,
    *,
    probability: Map,
    disagreement: NDArray[np.floating[Any]],
    inline: int,
    crossline: int,
) -> None:
    """Put a block's part into the maps.

    Args:
        maps: of the survey; changed.
        runs: of salt in the block, in order.
        body: of each run, from 0 on.
        probability: calibrated, 0 in what was removed: (inlines, crosslines, samples).
        disagreement: of the same shape.
        inline, crossline: place of the block's first trace.
    """
    count, width, depth = probability.shape
    window = np.s_[inline : inline + count, crossline : crossline + width]
    maps.has_salt[window] = probability.max(2, initial=0)
    if not len(runs.first):
        return
    trace = (runs.inline - inline) * width + runs.crossline - crossline
    traces, start, entries = np.unique(trace, return_index=True, return_counts=True)
    first, last = runs.first[start], runs.end[start + entries - 1] - 1
    at = traces // width + inline, traces % width + crossline
    maps.entries[at], maps.first[at], maps.last[at] = entries, first, last
    maps.salt_samples[at] = np.add.reduceat(runs.voxels, start)
    maps.body[at] = body[start] + 1
    twice = _visits(trace, body)
    maps.is_overhung[twice[0][twice[2] > 1] // width + inline, twice[0][twice[2] > 1] % width + crossline] = True
    rows, spread = (block.reshape(-1, depth)[traces] for block in (probability, disagreement))
    for find, places, nearby in (
        (top_places, maps.top, maps.top_disagreement),
        (base_places, maps.base, maps.base_disagreement),
    ):
        found = find(rows, first, last)
        places[:, *at] = found
        is_known = np.isfinite(found[_P50])
        sample = np.rint(np.where(is_known, found[_P50], 0)).astype(np.int64)
        nearby[at] = np.where(is_known, spread[np.arange(len(sample)), sample], np.nan)


def _visits(trace: Whole, body: Whole) -> tuple[Whole, Whole, Whole]:
    """Pairs of a trace and a body that it meets, and how often it does."""
    most = int(body.max(initial=0)) + 1
    keys, counts = np.unique(trace * most + body, return_counts=True)
    return keys // most, keys % most, counts


@dataclass(frozen=True, eq=False)
class BodyTable:
    """Figures of bodies, the largest first: (n,) each.

    Args:
        voxels, at_border: as in `Bodies`.
        traces: that have any of it.
        overhung: traces that have it more than once.
        probability: sum over its voxels, calibrated.
        inline, crossline, sample: (2, n) its least and greatest place.
        x, y: (2, n) least and greatest; infinite where none is known.
    """

    voxels: Whole
    at_border: NDArray[np.bool_]
    traces: Whole
    overhung: Whole
    probability: NDArray[np.float64]
    inline: NDArray[np.float64]
    crossline: NDArray[np.float64]
    sample: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.voxels)


def empty_table(bodies: Bodies) -> BodyTable:
    """Figures before any block was looked at."""
    ranges = {
        field.name: np.repeat([[np.inf], [-np.inf]], len(bodies), axis=1)
        for field in fields(BodyTable)
        if field.name in ("inline", "crossline", "sample", "x", "y")
    }
    traces, overhung = (np.zeros(len(bodies), np.int64) for _ in range(2))
    return BodyTable(bodies.voxels, bodies.at_border, traces, overhung, np.zeros(len(bodies)), **ranges)


def fill_table(
    table: BodyTable,
    runs: Runs,
    body: Whole,
    *,
    probability: Map,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    inline: int,
    crossline: int,
) -> None:
    """Add a block's part to the figures of bodies.

    Args:
        table: changed.
        runs, body, inline, crossline: as `fill_maps` has them.
        probability: calibrated.
        x, y: of the whole survey, NaN where not known.
    """
    if not len(runs.first):
        return
    _, width, depth = probability.shape
    trace = (runs.inline - inline) * width + runs.crossline - crossline
    _, met, times = _visits(trace, body)
    table.traces[:] += np.bincount(met, minlength=len(table))
    table.overhung[:] += np.bincount(met[times > 1], minlength=len(table))
    flat = np.append(probability.ravel(), np.float32(0)).astype(np.float64)
    edges = np.stack([trace * depth + runs.first, trace * depth + runs.end], axis=1)
    sums = np.add.reduceat(flat, edges.ravel())[::2]
    np.add.at(table.probability, body, sums)
    at = runs.inline, runs.crossline
    for (least, greatest), low, high in (
        (table.inline, runs.inline, runs.inline),
        (table.crossline, runs.crossline, runs.crossline),
        (table.sample, runs.first, runs.end - 1),
        (table.x, x[at], x[at]),
        (table.y, y[at], y[at]),
    ):
        np.fmin.at(least, body, low)
        np.fmax.at(greatest, body, high)


def trace_area_m2(x: NDArray[np.float64], y: NDArray[np.float64], *, xy_unit: Literal["m", "ft"] = "m") -> float | None:
    """Area of one cell of the grid; None where positions do not show it: unknown, on a line, or on no even grid.

    Args:
        x, y: (inlines, crosslines), NaN where not known.
        xy_unit: theirs.
    """
    inline, crossline = np.nonzero(np.isfinite(x) & np.isfinite(y))
    step = max(len(inline) // _MOST_FITTED, 1)
    inline, crossline = inline[::step], crossline[::step]
    places = np.stack([inline, crossline, np.ones(len(inline))], axis=1)
    if len(inline) < 3 or np.linalg.matrix_rank(places) < 3:
        return None
    found = np.stack([x[inline, crossline], y[inline, crossline]], axis=1)
    found = found - found.mean(axis=0)
    fit = np.linalg.lstsq(places, found, rcond=None)[0]
    area = abs(float(fit[0, 0] * fit[1, 1] - fit[0, 1] * fit[1, 0]))
    off = float(np.sqrt(np.square(places @ fit - found).sum(axis=1).mean()))
    steps = np.linalg.norm(fit[:2], axis=1)
    if area <= _THINNEST * float(steps.prod()) or off > 0.5 * float(steps.min()):
        return None
    return area * (_FEET_M**2 if xy_unit == "ft" else 1.0)


def sample_height_m(grid: Grid, *, velocity_m_s: float | None) -> float | None:
    """Metres from a sample to the next; None for two-way times without a velocity."""
    match grid.unit:
        case "m":
            return grid.interval
        case "ft":
            return grid.interval * _FEET_M
        case "ms":
            return None if velocity_m_s is None else grid.interval / 1000 * velocity_m_s / 2
