"""Pictures of surfaces of salt: maps from above, and one section."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diapir.runs import atomic_path
from diapir.volume.line_numbers import Axis
from diapir.volume.salt_maps import SaltMaps
from diapir.volume.surface_files import Survey

_DEAD, _LIVE, _TOP, _BASE = "#b9c0c8", "#ffffff", "#1f5c99", "#2e8b57"
_MOST_BODIES = 9
_SHOWN = (1, 99)
_EXTENDS = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
_LONGEST = 2000
"""Lines of a map that are drawn; of larger ones every so many-th is."""


def draw_pictures(
    folder: Path, survey: Survey, maps: SaltMaps, *, line: int, probability: NDArray[Any], mask: NDArray[np.uint8]
) -> None:
    """`top.png`, `thickness.png`, `geobodies.png`, `section.png`.

    Args:
        folder: of the files.
        survey, maps: what is drawn.
        line: place of the inline of the section.
        probability, mask: of that inline, (crosslines, samples).
    """
    top, interval = survey.depth(maps.top), survey.grid.interval
    _draw_maps(
        folder / "top.png",
        survey,
        {
            f"P50 top of salt, {survey.unit}": (top[1], "viridis_r"),
            f"top of salt, P90 - P10, {survey.unit}": (top[2] - top[0], "magma_r"),
        },
    )
    has_salt = np.where(survey.live, maps.has_salt, np.nan)
    _draw_maps(
        folder / "thickness.png",
        survey,
        {
            f"P50 base - P50 top, {survey.unit}": (maps.thickness * interval, "viridis"),
            "probability of any salt": (has_salt, "cividis"),
        },
    )
    _draw_bodies(folder / "geobodies.png", survey, maps)
    _draw_section(folder / "section.png", survey, maps, line=line, probability=probability, mask=mask)


def section_line(maps: SaltMaps) -> int:
    """Place of the inline with the most salt."""
    return int(np.argmax(maps.salt_samples.sum(axis=1, dtype=np.int64)))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _draw_maps(path: Path, survey: Survey, shown: dict[str, tuple[NDArray[Any], str]]) -> None:
    figure = _figure(13, 5.6)
    for axes, (title, (values, colours)) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        _draw_ground(axes, survey, title=title)
        known = values[np.isfinite(values)]
        if not known.size:
            _say(axes, "no salt")
            continue
        # A few traces that are far off would take the colours from all others.
        low, high = np.percentile(known, _SHOWN)
        image = axes.imshow(_thinned(values), cmap=colours, vmin=low, vmax=high, **_window(survey))
        extend = _EXTENDS[bool(known.min() < low), bool(known.max() > high)]
        figure.colorbar(image, ax=axes, shrink=0.85, extend=extend)
    _save(figure, path)


def _draw_bodies(path: Path, survey: Survey, maps: SaltMaps) -> None:
    figure = _figure(8, 6.4)
    axes = figure.subplots()
    count = int(maps.body.max(initial=0))
    _draw_ground(axes, survey, title="the uppermost geobody of each trace, numbered by size")
    body = maps.body.astype(np.float32)
    body[body == 0] = np.nan
    palette = ListedColormap([f"C{number}" for number in range(_MOST_BODIES)] + ["#4a4a4a"])
    largest = np.minimum(body, _MOST_BODIES + 1)
    axes.imshow(_thinned(largest), cmap=palette, vmin=0.5, vmax=_MOST_BODIES + 1.5, **_window(survey))
    for number in range(1, min(count, _MOST_BODIES) + 1):
        inlines, crosslines = np.nonzero(maps.body == number)
        if len(inlines):
            middle = np.argmin(np.square(inlines - inlines.mean()) + np.square(crosslines - crosslines.mean()))
            place = survey.grid.crosslines.numbers[crosslines[middle]], survey.grid.inlines.numbers[inlines[middle]]
            axes.text(*place, str(number), ha="center", va="center", color="white", fontsize=11, weight="bold")
    overhung = _thinned(maps.is_overhung.astype(np.float32))
    if maps.is_overhung.any():
        over = np.where(overhung > 0, 1.0, np.nan)
        axes.imshow(over, cmap=ListedColormap(["black"]), alpha=0.45, **_window(survey))
        axes.set_xlabel(f"{axes.get_xlabel()} (darkened: overhangs)")
    if not count:
        _say(axes, "no salt")
    _save(figure, path)


def _draw_section(
    path: Path, survey: Survey, maps: SaltMaps, *, line: int, probability: NDArray[Any], mask: NDArray[np.uint8]
) -> None:
    figure = _figure(12, 6.5)
    axes = figure.subplots()
    grid = survey.grid
    numbers = grid.crosslines.numbers
    depths = survey.depth(np.arange(grid.num_samples))
    left, right = _ends(grid.crosslines)
    window = (left, right, depths[-1] + grid.interval / 2, depths[0] - grid.interval / 2)
    shown = np.where(survey.live[line][:, None], probability, np.nan).T
    axes.set_facecolor(_DEAD)
    image = axes.imshow(shown, cmap="Greys", vmin=0, vmax=1, extent=window, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=axes, shrink=0.85, label="probability of salt")
    if 0 < mask.mean() < 1 and min(mask.shape) > 1:
        axes.contour(numbers, depths, mask.T, levels=[0.5], colors="#e4572e", linewidths=1.0)
    axes.plot([], [], color="#e4572e", linewidth=1.0, label="mask")
    for name, places, colour in (("top", maps.top, _TOP), ("base", maps.base, _BASE)):
        low, middle, high = survey.depth(places[:, line])
        axes.fill_between(numbers, low, high, color=colour, alpha=0.35, linewidth=0, label=f"{name}, P10 to P90")
        axes.plot(numbers, middle, color=colour, linewidth=1.4, label=f"{name}, P50")
    axes.set(xlim=window[:2], ylim=window[2:], xlabel="crossline", ylabel=_depth_name(survey))
    axes.set_title(f"inline {grid.inlines.numbers[line]}, the one with the most salt")
    axes.legend(fontsize=8, loc="upper right", framealpha=0.85)
    _save(figure, path)


def _depth_name(survey: Survey) -> str:
    return f"{'two-way time' if survey.unit == 'ms' else 'depth'}, {survey.unit}"


def _draw_ground(axes: Axes, survey: Survey, *, title: str) -> None:
    """White where there are traces, grey where there are none."""
    live = _thinned(survey.live.astype(np.float32))
    axes.imshow(live, cmap=ListedColormap([_DEAD, _LIVE]), vmin=0, vmax=1, **_window(survey))
    axes.set(xlabel="crossline" if survey.live.all() else "crossline (grey: no live trace)", ylabel="inline")
    axes.set_title(title, fontsize=11)


def _window(survey: Survey) -> dict[str, Any]:
    ends = (*_ends(survey.grid.crosslines), *_ends(survey.grid.inlines))
    return {"extent": ends, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}


def _ends(axis: Axis) -> tuple[float, float]:
    return axis.first - axis.step / 2, axis.last + axis.step / 2


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    steps = [max(-(-side // _LONGEST), 1) for side in values.shape]
    return values[:: steps[0], :: steps[1]]


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=12)
