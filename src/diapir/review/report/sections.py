"""Maps and sections of a survey, and of the salt that was found in it, as pictures with axes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.review.report.charts import Curve, Frame, Range, chart_note, picture_chart
from diapir.review.report.images import SALT, Rgb, coloured_png, scale, thinned, tinted_png
from diapir.review.report.markup import Html
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.line_numbers import DIRECTIONS, Axis, Direction
from diapir.volume.sections import axis_of, read_section
from diapir.volume.store import STRIP, Grid, Store, read_map, read_volume

Map = NDArray[np.float32]
Surfaces = dict[str, NDArray[np.float64]]
"""Top and base: (n, 5) of inline, crossline, P10, P50 and P90."""

_BLOCK = 64
_MOST_SAMPLES = 150_000_000
_NOTHING: Rgb = (185, 192, 200)
_PROBABILITY, _IN_SECTION, _DISAGREEMENT = "viridis", "Greys", "magma"


@dataclass(frozen=True, eq=False)
class SaltLook:
    """What a salt store looks like from above: (inlines, crosslines), NaN where nothing was looked at or is not live.

    Args:
        salt: greatest probability of each trace.
        disagreement: mean of each trace.
        salt_samples: of the mask.
        num_strips: strips of inlines that were looked at, and how many there are.
    """

    salt: Map
    disagreement: Map
    salt_samples: Map
    num_strips: tuple[int, int]

    @property
    def share_text(self) -> str:
        """How much of the survey was looked at, in words; nothing where all was."""
        looked, there = self.num_strips
        return (
            ""
            if looked == there
            else f"Of {there} strips of {STRIP} inlines, {looked} evenly spread ones were looked at."
        )


def look_at_salt(store: Store) -> SaltLook:
    """Walk a salt store, or of a large one evenly spread strips of it; memory goes with its map alone.

    Raises:
        InputError: it is damaged.
    """
    live = read_map(store, "live")
    maps = np.full((3, *live.shape), np.nan, np.float32)
    starts = list(range(0, live.shape[0], STRIP))
    voxels = live.size * store.grid.num_samples
    chosen = starts[:: max(-(-3 * voxels // _MOST_SAMPLES), 1)]
    for first in chosen:
        for start in range(0, live.shape[1], _BLOCK):
            block = np.s_[first : first + STRIP, start : start + _BLOCK]
            if not live[block].any():
                continue
            lines = {"inlines": block[0], "crosslines": block[1]}
            found = (
                read_volume(store, "probability", **lines).max(2).astype(np.float32),
                read_volume(store, "disagreement", **lines).mean(2, dtype=np.float64),
                read_volume(store, "mask", **lines).sum(2, dtype=np.int64),
            )
            for target, values in zip(maps, found, strict=True):
                target[block] = np.where(live[block], values, np.nan)
    salt, disagreement, samples = maps
    return SaltLook(salt, disagreement, samples, (len(chosen), len(starts)))


def telling_lines(look: SaltLook, grid: Grid) -> dict[str, tuple[Direction, int]]:
    """Sections worth a look, by the reason: direction and place of the line."""
    found: dict[str, tuple[Direction, int]] = {}
    for axis, direction in enumerate(DIRECTIONS):
        salt = np.nansum(look.salt_samples, axis=1 - axis)
        if salt.max(initial=0) > 0:
            place = int(salt.argmax())
            found[f"{direction} {axis_of(grid, direction).numbers[place]}, the one with the most salt"] = (
                direction,
                place,
            )
    means = [(_line_means(look.disagreement, axis=1 - axis), direction) for axis, direction in enumerate(DIRECTIONS)]
    means = [(values, direction) for values, direction in means if np.isfinite(values).any()]
    if means:
        values, direction = max(means, key=lambda pair: float(np.nanmax(pair[0])))
        place = int(np.nanargmax(values))
        number = axis_of(grid, direction).numbers[place]
        found[f"{direction} {number}, where models and directions disagree most"] = direction, place
    return found


def salt_maps(look: SaltLook, grid: Grid) -> Iterator[Html]:
    """The survey from above: probability of any salt, and disagreement."""
    known = look.disagreement[np.isfinite(look.disagreement)]
    most = max(float(np.quantile(known, 0.99)) if known.size else 0.0, 0.01)
    for title, values, high, colours in (
        ("Greatest probability of salt in each trace", look.salt, 1.0, _PROBABILITY),
        ("Mean disagreement of each trace", look.disagreement, most, _DISAGREEMENT),
    ):
        told = f"{title}, a map of inlines and crosslines; mean {_mean(values):.3f}."
        yield _map(title, values, grid, low=0.0, high=high, colours=colours, told=told)


def live_map(store: Store) -> Html:
    """Which traces of a survey are live."""
    live = read_map(store, "live")
    told = f"Map of live traces: {live.mean():.1%} of {live.size:,} places have one."
    values = np.where(live, 0.6, np.nan)
    chart = _map("Live traces", values, store.grid, low=0, high=1, colours="Blues", told=told, is_scaled=False)
    return chart_note(chart, told)


def section_pictures(
    direction: Direction, place: int, *, survey: Store | None, salt: Store | None, surfaces: Surfaces | None = None
) -> Iterator[Html]:
    """A section's amplitudes with the mask, its probability with surfaces, its disagreement: what there is of these."""
    store = salt or survey
    assert store is not None, "a section is of a survey or of the salt in it"
    grid = store.grid
    axes = ("crossline" if direction == "inline" else "inline", _depth_name(grid))
    frame = section_frame(grid, direction)
    name = f"{direction} {axis_of(grid, direction).numbers[place]}"
    mask = None if salt is None else _section(salt, "mask", direction, place)
    if survey is not None:
        greys = to_grey(read_section(survey, direction, place), limit=grey_limit(survey))
        kinds = np.zeros_like(greys) if mask is None else mask
        picture = tinted_png(thinned(greys), thinned(kinds), [SALT])
        title = f"{name}: amplitude" + ("" if mask is None else ", salt by the mask in yellow")
        yield picture_chart(title, picture, frame=frame, axes=axes, told=title)
    if salt is None or mask is None:
        return
    probability = _section(salt, "probability", direction, place)
    picture = coloured_png(probability, low=0, high=1, colours=_IN_SECTION)
    curves = list(surface_curves(surfaces, grid, direction, place)) if surfaces else []
    title = f"{name}: probability" + (", with top and base of salt, P10 to P90" if curves else "")
    told = f"{title}. {mask.mean():.1%} of the section is salt by the mask."
    colours = scale("0", "1", colours=_IN_SECTION, of="probability")
    yield picture_chart(title, picture, frame=frame, axes=axes, told=told, curves=curves, scale=colours)
    disagreement = _section(salt, "disagreement", direction, place)
    high = max(float(disagreement.max(initial=0)), 0.01)
    picture = coloured_png(disagreement, low=0, high=high, colours=_DISAGREEMENT)
    told = f"{name}: disagreement of models and directions, {disagreement.mean(dtype=np.float64):.3f} on the mean."
    colours = scale("0", f"{high:.2f}", colours=_DISAGREEMENT, of="standard deviation")
    yield picture_chart(f"{name}: disagreement", picture, frame=frame, axes=axes, told=told, scale=colours)


def surface_curves(surfaces: Surfaces, grid: Grid, direction: Direction, place: int) -> Iterator[Curve]:
    """Top and base along a section, with a gap where there is none."""
    own, across = (0, 1) if direction == "inline" else (1, 0)
    line = axis_of(grid, direction).numbers[place]
    along = (grid.crosslines if direction == "inline" else grid.inlines).numbers
    for name, table in surfaces.items():
        values = np.full((3, len(along)), np.nan)
        rows = table[table[:, own] == line]
        at = np.searchsorted(along, rows[:, across])
        is_there = (at < len(along)) & (along[np.minimum(at, len(along) - 1)] == rows[:, across])
        values[:, at[is_there]] = rows[is_there, 2:].T
        if np.isfinite(values[1]).any():
            low, middle, high = values.tolist()
            yield Curve(f"{name} of salt, P50, with P10 to P90", along.tolist(), middle, low, high)


def section_frame(grid: Grid, direction: Direction) -> Frame:
    """Axes of a section: line numbers to the right, time or depth downwards."""
    half = grid.interval / 2
    deepest = grid.first_sample + grid.interval * (grid.num_samples - 1)
    across = grid.crosslines if direction == "inline" else grid.inlines
    return Frame(_ends(across), Range(deepest + half, grid.first_sample - half), height=300)


def _map(
    title: str, values: Map | NDArray[Any], grid: Grid, *, low: float, high: float, colours: str, told: str,
    is_scaled: bool = True,
) -> Html:  # fmt: skip
    # Inlines grow upwards, as in the pictures of surfaces.
    picture = coloured_png(values[::-1], low=low, high=high, colours=colours, nothing=_NOTHING)
    frame = Frame(_ends(grid.crosslines), _ends(grid.inlines), height=300)
    colour_scale = scale(f"{low:g}", f"{high:.2g}", colours=colours, of="") if is_scaled else None
    return picture_chart(title, picture, frame=frame, axes=("crossline", "inline"), told=told, scale=colour_scale)


def _section(store: Store, name: str, direction: Direction, place: int) -> NDArray[Any]:
    """One line of a volume: (samples, traces)."""
    own = slice(place, place + 1)
    if direction == "inline":
        return np.asarray(read_volume(store, name, inlines=own)[0].T)
    return np.asarray(read_volume(store, name, crosslines=own)[:, 0].T)


def _line_means(values: Map, *, axis: int) -> NDArray[np.float64]:
    """Means of the lines of which half of the traces or more, of the fullest line, are known; NaN for others."""
    counts = np.isfinite(values).sum(axis=axis)
    enough = (counts * 2 >= max(int(counts.max(initial=0)), 2)) & (values.shape[axis] > 1)
    means = np.nansum(values, axis=axis, dtype=np.float64) / np.maximum(counts, 1)
    return np.asarray(np.where(enough, means, np.nan))


def _ends(axis: Axis) -> Range:
    return Range(axis.first - axis.step / 2, axis.last + axis.step / 2)


def _depth_name(grid: Grid) -> str:
    return f"{'two-way time' if grid.unit == 'ms' else 'depth'}, {grid.unit}"


def _mean(values: NDArray[Any]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
