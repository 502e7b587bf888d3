"""One picture of what is in a set of tiles."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diapir.data.tiles import DataSet, TileSet
from diapir.runs import atomic_path

_LABELLED, _UNLABELLED, _SALT = "#1f5c99", "#9aa5b1", "#e4572e"
_NUM_EXAMPLES = 9


def draw_check(data: DataSet, figures: dict[str, Any], path: Path) -> None:
    """Draw coverage, depths, mask sizes and example tiles of a data set into a PNG.

    Args:
        figures: what `describe_data` gives.
    """
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=(5, 6))
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    coverage, depth, area = above.subplots(1, 3)
    _draw_coverage(coverage, figures["masks"])
    _draw_depths(depth, data)
    _draw_areas(area, data.labelled)
    rows = _example_rows(data.labelled)
    axes = below.subplots(2, _NUM_EXAMPLES, squeeze=False)
    for column in range(_NUM_EXAMPLES):
        _draw_example(axes[:, column], data.labelled, row=rows[column] if column < len(rows) else None)
    below.suptitle("labelled tiles from little to much salt: image, and mask in colour", fontsize=11)
    title = f"{figures['labelled']['tiles']:,} labelled and {figures['unlabelled']['tiles']:,} unlabelled tiles"
    above.suptitle(title, fontsize=13)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _draw_coverage(axes: Axes, masks: dict[str, Any]) -> None:
    counts = masks["coverage_classes"]
    bars = axes.bar(range(len(counts)), counts, color=[_UNLABELLED, *[_SALT] * (len(counts) - 1)])
    axes.bar_label(bars, fontsize=8)
    axes.set(title="salt coverage", xlabel="class: tenths of the tile, rounded up", ylabel="labelled tiles")
    axes.set_xticks(range(len(counts)))
    _tidy(axes)


def _draw_depths(axes: Axes, data: DataSet) -> None:
    sets = {"labelled": data.labelled, "unlabelled": data.unlabelled}
    known = {name: tiles.depths_m[~np.isnan(tiles.depths_m)] for name, tiles in sets.items()}
    every = np.concatenate(list(known.values()))
    axes.set(title="depth", xlabel="depth, m", ylabel="share of tiles, % per bin")
    if not len(every):
        axes.text(0.5, 0.5, "no depths", ha="center", va="center", transform=axes.transAxes)
        return
    bins = np.linspace(every.min(), max(every.max(), every.min() + 1), 31).tolist()
    for (name, depths_m), colour in zip(known.items(), (_LABELLED, _UNLABELLED), strict=True):
        if len(depths_m):
            share = np.full(len(depths_m), 100 / len(depths_m))
            axes.hist(depths_m, bins=bins, weights=share, histtype="step", linewidth=1.8, color=colour, label=name)
    axes.legend(frameon=False, fontsize=9)
    _tidy(axes)


def _draw_areas(axes: Axes, tiles: TileSet) -> None:
    assert tiles.masks is not None
    area = (tiles.masks == 1).sum(axis=(1, 2), dtype=np.int64)
    pixels = tiles.masks.shape[1] * tiles.masks.shape[2]
    axes.hist(area[area > 0], bins=np.geomspace(1, pixels + 1, 41).tolist(), color=_SALT)
    axes.set(title="salt pixels, where there are any", xlabel="pixels", ylabel="labelled tiles", xscale="log")
    _tidy(axes)


def _example_rows(tiles: TileSet) -> list[int]:
    """Tiles spread evenly from no salt to the most, each picked by its rank; the same for the same data."""
    assert tiles.masks is not None
    area = (tiles.masks == 1).sum(axis=(1, 2), dtype=np.int64)
    order = np.argsort(area, kind="stable")
    salty = order[area[order] > 0]
    if not len(salty):
        return [int(row) for row in order[:_NUM_EXAMPLES]]
    ranks = np.unique(np.linspace(0, len(salty) - 1, _NUM_EXAMPLES - 1).astype(int))
    return [*(int(row) for row in order[area[order] == 0][:1]), *(int(row) for row in salty[ranks])]


def _draw_example(axes: Any, tiles: TileSet, *, row: int | None) -> None:
    image_axes, mask_axes = axes
    for place in (image_axes, mask_axes):
        place.axis("off")
    if row is None:
        return
    assert tiles.masks is not None
    share = (tiles.masks[row] == 1).mean()
    depth = "" if np.isnan(tiles.depths_m[row]) else f", {tiles.depths_m[row]:g} m"
    # An id may hold a dollar, and is no formula.
    image_axes.set_title(f"{tiles.ids[row]}\n{share:.1%}{depth}", fontsize=7, parse_math=False)
    for place in (image_axes, mask_axes):
        place.imshow(tiles.images[row], cmap="gray", vmin=0, vmax=255)
    salt = np.ma.masked_not_equal(tiles.masks[row], 1)
    mask_axes.imshow(salt, cmap="autumn", vmin=0, vmax=2, alpha=0.5)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.02)
