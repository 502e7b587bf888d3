"""Tiles from all over a survey, and what they look like: the survey's side of the gate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.data.statistics import TileStatistics, tile_statistics
from diapir.data.tiles import TILE, is_constant
from diapir.faults import InputError
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.line_numbers import DIRECTIONS, Direction
from diapir.volume.resampling import plan_resampling
from diapir.volume.sections import axis_of, read_section
from diapir.volume.store import Store, Unit, read_map
from diapir.volume.tiling import cut_tiles, plan_tiling, tile_starts

NUM_TILES = 640
"""Read of a survey; of the TGS tiles, so many strangers have every figure of all within a few percent."""
_LINES = 20  # each way
_MOST_ROWS = 8  # of tiles of one column; the others of its depth come from other columns
_LIVE_SHARE, _LEAST_LIVE_SHARE = 0.9, 0.5
_FEWEST_TRACES = 16
_SPACING_LINES = 16
_TURN = (math.sqrt(5) - 1) / 2  # turned by this each time, places never repeat


class NothingToJudgeError(InputError):
    """A survey that is sound and has too little in it to be held against a model."""


@dataclass(frozen=True, eq=False)
class SampledTiles:
    """Tiles of a survey, and where they lie.

    Args:
        images: uint8 (n, 101, 101), rows going down.
        crosses: bool (n,), true for tiles of crosslines.
        lines: int64 (n,), the number of the inline or crossline.
        first_traces: int64 (n,), where along its line a tile begins, in traces from 0.
        first_samples: int64 (n,), where it begins in depth.
        is_mirrored: whether sections are smaller than a tile and were mirrored.
    """

    images: NDArray[np.uint8]
    crosses: NDArray[np.bool_]
    lines: NDArray[np.int64]
    first_traces: NDArray[np.int64]
    first_samples: NDArray[np.int64]
    is_mirrored: bool


class LineStatistics(NamedTuple):
    """What a section looks like.

    Args:
        along: whether it is an inline or a crossline.
        number: its own.
    """

    along: Direction
    number: int
    tiles: TileStatistics


@dataclass(frozen=True)
class SurveyStatistics:
    """What a survey looks like to a net, and how it is measured.

    Args:
        every: of all tiles that were read.
        by_direction: of those of inlines and of crosslines, where there are any.
        lines: of each section that was looked at.
        asymmetry_error, skewness_error: standard errors, from how these differ between depths.
        interval: from sample to sample as they were looked at, in `unit`.
        spacing: from trace to trace along inlines and along crosslines, in the file's units, mostly metres; None
            where positions do not tell.
        limit: amplitude that became white.
        live_share: of the traces of the grid.
        is_mirrored: see `SampledTiles`.
    """

    every: TileStatistics
    by_direction: dict[Direction, TileStatistics]
    lines: tuple[LineStatistics, ...]
    asymmetry_error: float
    skewness_error: float
    interval: float
    unit: Unit
    spacing: dict[Direction, float | None]
    limit: float
    live_share: float
    is_mirrored: bool


class _Panel(NamedTuple):
    """A line's neighbouring traces, as many as a tile is wide, in all their depth."""

    along: Direction
    line: int
    first_trace: int


def sample_tiles(
    store: Store,
    *,
    count: int = NUM_TILES,
    limit: float | None = None,
    flip_polarity: bool = False,
    resample: float | None = None,
) -> SampledTiles:
    """Tiles spread evenly over the live part of a survey, both ways and in depth; the same store gives the same.

    Tiles with dead traces are left out where there are enough others. So are sections of fewer than 16 traces where
    those the other way are longer; others that are smaller than a tile are mirrored as `volume.tiling` does. Memory
    does not grow with the survey but by its map of live traces.

    Args:
        count: about as many tiles; fewer where there are no more that do not overlap.
        limit, flip_polarity: how amplitudes become greys; the limit is the store's own where none is given.
        resample: to this interval, in the survey's unit; tiles and their first samples are then of that.

    Raises:
        InputError: it has no amplitudes, or no limit of them.
        NothingToJudgeError: it has no place where half of the traces are live.
    """
    live, white = read_map(store, "live"), grey_limit(store, asked=limit)
    resampling = None if resample is None else plan_resampling(store.grid, wanted=resample)
    samples = store.grid.num_samples if resampling is None else resampling.num_samples
    row_starts = tile_starts(samples, tile=TILE, overlap=0)
    num_rows = min(len(row_starts), _MOST_ROWS)
    directions = _directions(live.shape)
    panels = [panel for along in directions for panel in _panels(live, along, count // len(directions) // num_rows)]
    if not panels:
        what = f"expected a place where half of {TILE} neighbouring traces are live, found none; nothing to judge by"
        raise NothingToJudgeError.of(store.path, what)
    images, places = [], []
    for number, panel in enumerate(panels):
        chosen = _even(len(row_starts), num_rows, turn=number * _TURN % 1)
        traces = slice(panel.first_trace, panel.first_trace + TILE)
        section = read_section(store, panel.along, panel.line, traces=traces)
        if resampling is not None:
            section = resampling.resampled(section.T).T
        grey = to_grey(section, limit=white, flip_polarity=flip_polarity)
        tiling = plan_tiling((grey.shape[0], grey.shape[1]), tile=(TILE, TILE), overlap=(0, 0))
        tiles = np.stack(list(cut_tiles(grey, tiling)))
        images.append(tiles[chosen])
        own = axis_of(store.grid, panel.along).numbers[panel.line]
        places += [(panel.along == "crossline", own, panel.first_trace, row_starts[row]) for row in chosen]
    crosses, lines, first_traces, first_samples = np.array(places, np.int64).T
    return SampledTiles(
        images=np.concatenate(images).astype(np.uint8),
        crosses=crosses.astype(np.bool_),
        lines=lines,
        first_traces=first_traces,
        first_samples=first_samples,
        is_mirrored=samples < TILE or any(_traces(live.shape, along) < TILE for along in directions),
    )


def survey_statistics(
    store: Store,
    *,
    count: int = NUM_TILES,
    limit: float | None = None,
    flip_polarity: bool = False,
    resample: float | None = None,
) -> SurveyStatistics:
    """What a survey looks like to a net, and how it is measured.

    Args:
        count, limit, flip_polarity, resample: as for `sample_tiles`.

    Raises:
        InputError: as `sample_tiles`.
        NothingToJudgeError: the same, or all amplitudes that were read are alike.
    """
    sampled = sample_tiles(store, count=count, limit=limit, flip_polarity=flip_polarity, resample=resample)
    varied = ~is_constant(sampled.images)
    if not varied.any():
        raise NothingToJudgeError.of(
            store.path, f"expected amplitudes that differ, found {len(varied)} tiles of one value each: see the survey"
        )
    every = tile_statistics(sampled.images)
    ways = {along: sampled.crosses == (along == "crossline") for along in DIRECTIONS}
    asymmetry_error, skewness_error = _errors(sampled, every)
    return SurveyStatistics(
        every=every,
        by_direction={
            along: tile_statistics(sampled.images[own]) for along, own in ways.items() if (own & varied).any()
        },
        lines=tuple(_line_statistics(sampled, varied)),
        asymmetry_error=asymmetry_error,
        skewness_error=skewness_error,
        interval=store.grid.interval if resample is None else resample,
        unit=store.grid.unit,
        spacing={along: _spacing(store, along) for along in DIRECTIONS},
        limit=grey_limit(store, asked=limit),
        live_share=float(read_map(store, "live").mean()),
        is_mirrored=sampled.is_mirrored,
    )


def _traces(shape: tuple[int, ...], along: Direction) -> int:
    return shape[1] if along == "inline" else shape[0]


def _directions(shape: tuple[int, ...]) -> list[Direction]:
    """Which sections are worth looking at: the short ones of a narrow survey are not."""
    longest = max(shape)
    return [along for along in DIRECTIONS if _traces(shape, along) >= min(_FEWEST_TRACES, longest)]


def _panels(live: NDArray[np.bool_], along: Direction, count: int) -> Iterator[_Panel]:
    """About so many panels of a direction that are mostly live, of lines spread evenly."""
    lines = live if along == "inline" else live.T
    width = min(TILE, lines.shape[1])
    starts = np.array(tile_starts(lines.shape[1], tile=TILE, overlap=0))
    total = np.pad(np.cumsum(lines, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    share = (total[:, starts + width] - total[:, starts]) / width
    least = _LIVE_SHARE if (share >= _LIVE_SHARE).any() else _LEAST_LIVE_SHARE
    good = share >= least
    usable = np.flatnonzero(good.any(1))
    chosen = usable[_even(len(usable), min(_LINES, max(count, 1)), turn=0.5)]
    for number, line in enumerate(chosen.tolist()):
        options = np.flatnonzero(good[line])
        each = max(round(max(count, 1) / len(chosen)), 1)
        for option in _even(len(options), each, turn=number * _TURN % 1):
            yield _Panel(along, line, int(starts[options[option]]))


def _even(length: int, count: int, *, turn: float) -> list[int]:
    """`count` places of `length`, or all, spread evenly from a share `turn` of the first step on."""
    if count >= length:
        return list(range(length))
    return [int((number + turn) * length / count) for number in range(count)]


def _line_statistics(sampled: SampledTiles, varied: NDArray[np.bool_]) -> Iterator[LineStatistics]:
    for along in DIRECTIONS:
        own = varied & (sampled.crosses == (along == "crossline"))
        for number in np.unique(sampled.lines[own]).tolist():
            tiles = tile_statistics(sampled.images[own & (sampled.lines == number)])
            yield LineStatistics(along, number, tiles)


def _errors(sampled: SampledTiles, every: TileStatistics) -> tuple[float, float]:
    """Standard errors of asymmetry and skewness.

    Layers run across a survey: its tiles of one depth are as good as one. Where there are fewer than three depths,
    each counts as one tile of the TGS set, whose deviations are these.
    """
    assert every.asymmetry is not None
    varied = ~is_constant(sampled.images)
    depths = np.unique(sampled.first_samples[varied])
    by_depth = [tile_statistics(sampled.images[varied & (sampled.first_samples == depth)]) for depth in depths]
    if len(by_depth) < 3:
        return 0.119 / math.sqrt(len(by_depth)), 1.8 / math.sqrt(len(by_depth))
    figures = np.array([(each.asymmetry[0], each.skewness) for each in by_depth if each.asymmetry is not None])
    asymmetry_error, skewness_error = figures.std(0, ddof=1) / math.sqrt(len(figures))
    return float(asymmetry_error), float(skewness_error)


def _spacing(store: Store, along: Direction) -> float | None:
    """Median distance of neighbouring traces along a line."""
    axes = (0, 1) if along == "inline" else (1, 0)
    live, x, y = (read_map(store, name).transpose(axes) for name in ("live", "x", "y"))
    lines = np.flatnonzero(live.any(1))
    lines = lines[_even(len(lines), _SPACING_LINES, turn=0.5)]
    steps = np.hypot(np.diff(x[lines], axis=1), np.diff(y[lines], axis=1))
    found = steps[live[lines, 1:] & live[lines, :-1] & np.isfinite(steps) & (steps > 0)]
    return float(np.median(found)) if found.size else None
