"""One picture of a SEG-Y file: where its traces lie, and a section each way."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from diapir.runs import atomic_path
from diapir.volume.geometry import NO_TRACE, Geometry
from diapir.volume.info_figures import Look
from diapir.volume.line_numbers import Axis as Lines
from diapir.volume.segy import Segy, first_samples

_MISSING, _LIVE, _DEAD = 0, 1, 2
_STATES = {"live": (_LIVE, "#1f5c99"), "dead by its header": (_DEAD, "#e4572e"), "missing": (_MISSING, "#dfe3e8")}
_ZERO, _NOTHING, _MARK = "#f2b134", "#dfe3e8", "#14213d"
_MOST_DRAWN = 900
_MOST_READ, _FEWEST_READ = 8_000_000, 64
_END_OF_LATIN = 0x250


@dataclass(frozen=True, eq=False)
class _Section:
    """Traces side by side.

    Args:
        rows: int64 (n,), of the file; -1 where there is none.
        first, last: what the outer ones are called on the axis.
        line: number of the line that this is.
    """

    title: str
    axis: str
    rows: NDArray[np.int64]
    first: int
    last: int
    line: int = 0


def draw_info(segy: Segy, geometry: Geometry | None, look: Look, path: Path) -> None:
    """Draw the map of traces, and sections through the middle of the live ones, into a PNG.

    Surveys of any size are drawn with up to 900 lines each way: of a map, the mean colour of those between; of a
    section, every so many-th trace and sample.
    """
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    sections = _choose_sections(geometry) if geometry else [_in_order(segy)]
    if geometry is None:
        places = [figure.subplots()]
    elif min(geometry.shape) == 1:
        above, below = figure.subplots(2, 1, height_ratios=(1, 7))
        _draw_map(above, geometry, look)
        places = [below]
    else:
        grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.25))
        map_axes = figure.add_subplot(grid[:, 0])
        _draw_map(map_axes, geometry, look)
        for section, draw in zip(sections, (map_axes.axhline, map_axes.axvline), strict=True):
            draw(section.line, color=_MARK, linestyle="--", linewidth=1)
        places = [figure.add_subplot(grid[row, 1]) for row in (0, 1)]
    for axes, section in zip(places, sections, strict=True):
        _draw_section(axes, segy, section, limit=look.limit)
    kind = f"{geometry.kind}, " if geometry else ""
    size = f"{segy.num_traces:,} traces of {segy.num_samples:,} samples, {segy.interval_us / 1000:g} ms"
    figure.suptitle(f"{_drawable(segy.path.name)}: {kind}{size}", fontsize=13, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _choose_sections(geometry: Geometry) -> list[_Section]:
    """The inline and the crossline through the middle of the live traces; of a single line that one."""
    inlines, crosslines = geometry.inlines, geometry.crosslines
    is_used = geometry.is_live
    if not is_used.any():
        is_used = geometry.trace_rows != NO_TRACE
    inline, crossline = (_middle(is_used.sum(axis=axis, dtype=np.int64)) for axis in (1, 0))
    along = _section("inline", inlines, inline, geometry.trace_rows[inline], "crossline", crosslines)
    across = _section("crossline", crosslines, crossline, geometry.trace_rows[:, crossline], "inline", inlines)
    if min(geometry.shape) > 1:
        return [along, across]
    if geometry.inline_byte is None:
        return [replace(along, title="the line", axis=_name_of_traces(geometry))]
    return [along if geometry.shape[0] == 1 else across]


def _name_of_traces(geometry: Geometry) -> str:
    """What the numbers along a line are that has no inline and crossline."""
    return "trace of the file" if geometry.crossline_byte is None else "CDP"


def _section(name: str, lines: Lines, place: int, rows: NDArray[np.int64], axis: str, across: Lines) -> _Section:
    line = lines.first + lines.step * place
    return _Section(f"{name} {line}", axis, rows, across.first, across.last, line)


def _middle(counts: NDArray[np.int64]) -> int:
    """Where half of what is counted lies before."""
    total = counts.cumsum()
    return int(np.searchsorted(total, (total[-1] + 1) // 2))


def _in_order(segy: Segy) -> _Section:
    """Traces as they come, which is all that is known without a grid."""
    step = -(-segy.num_traces // _MOST_DRAWN)
    rows = np.arange(0, segy.num_traces, step)
    return _Section("traces in the order of the file", "trace of the file", rows, 1, int(rows[-1]) + 1)


def _draw_map(axes: Axes, geometry: Geometry, look: Look) -> None:
    inlines, crosslines = geometry.inlines, geometry.crosslines
    state = np.where(geometry.trace_rows == NO_TRACE, np.uint8(_MISSING), np.uint8(_LIVE))
    state[geometry.is_dead] = _DEAD
    extent = (
        *_ends(crosslines.first, crosslines.last, count=crosslines.count),
        *_ends(inlines.first, inlines.last, count=inlines.count),
    )
    axes.imshow(_colours(state), extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    shown = [Patch(color=colour, label=name) for name, (kind, colour) in _STATES.items() if (state == kind).any()]
    is_all_zero = np.zeros(geometry.trace_rows.max() + 2, np.bool_)  # the last for NO_TRACE
    is_all_zero[look.rows[look.is_all_zero]] = True
    zero = np.argwhere(is_all_zero[geometry.trace_rows])
    if len(zero):
        numbers = zero * (inlines.step, crosslines.step) + (inlines.first, crosslines.first)
        marks = axes.scatter(numbers[:, 1], numbers[:, 0], s=9, marker="s", color=_ZERO, linewidths=0)
        marks.set_label(f"all zero (of {len(look.rows):,} looked at)")
    axes.set(xlabel="crossline", ylabel="inline")
    if geometry.inline_byte is None:
        axes.set(xlabel=_name_of_traces(geometry), ylabel="", yticks=[])
    elif geometry.shape[0] == 1:
        axes.set_yticks([inlines.first])
    if geometry.shape[1] == 1:
        axes.set_xticks([crosslines.first])
    handles = [*shown, *axes.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9, frameon=False, ncols=len(handles))
    axes.tick_params(labelsize=8)


def _ends(first: int, last: int, *, count: int) -> tuple[float, float]:
    """Where a row of pixels begins and ends, the middles of the outer ones of which lie at two numbers."""
    half = (last - first) / (2 * (count - 1)) if count > 1 else 0.5
    return first - half, last + half


def _colours(state: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A map in colour, of at most 900 pixels each way, each the mean of its places: float64 (h, w, 3)."""
    tops, lefts = (np.arange(0, length, -(-length // _MOST_DRAWN)) for length in state.shape)
    picture = np.zeros((len(tops), len(lefts), 3))
    for row, strip in enumerate(np.split(state, tops[1:])):
        widths = np.diff(lefts, append=state.shape[1]) * len(strip)
        for kind, colour in _STATES.values():
            count = np.add.reduceat((strip == kind).sum(axis=0), lefts)
            picture[row] += (count / widths)[:, None] * to_rgb(colour)
    return picture.clip(0, 1)


def _draw_section(axes: Axes, segy: Segy, section: _Section, *, limit: float) -> None:
    values = _read_section(segy, section.rows)
    top, interval = segy.delay_ms, segy.interval_us / 1000
    bottom = top + interval * (segy.num_samples - 1)
    ends = _ends(section.first, section.last, count=len(section.rows))
    extent = (*ends, bottom + interval / 2, top - interval / 2)
    colours = colormaps["gray"].with_extremes(bad=_NOTHING)
    axes.imshow(values / limit, cmap=colours, vmin=-1, vmax=1, extent=extent, aspect="auto")
    title = f"{section.title}: black at -{limit:.4g} and below, white at {limit:.4g} and above"
    axes.set(xlabel=section.axis, ylabel="ms")
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)


def _read_section(segy: Segy, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Every so many-th trace and sample: float64 (samples, traces), NaN where there is no trace or no finite number."""
    most = min(_MOST_DRAWN, max(_MOST_READ // segy.num_samples, _FEWEST_READ))
    rows = rows[:: -(-len(rows) // most)]
    num_read = min(segy.num_samples, _MOST_READ // len(rows))
    down = -(-num_read // _MOST_DRAWN)
    section = np.full((len(range(0, num_read, down)), len(rows)), np.nan)
    present = np.flatnonzero(rows != NO_TRACE)
    for start, part in first_samples(segy, rows[present], most=num_read):
        drawn = part[:, ::down]
        section[:, present[start : start + len(part)]] = np.where(np.isfinite(drawn), drawn, np.nan).T
    return section


def _drawable(name: str) -> str:
    """A name in characters that the font has."""
    return "".join(char if char.isprintable() and ord(char) < _END_OF_LATIN else "?" for char in name)
