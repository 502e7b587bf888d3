"""Tiles, truth and predictions as a person looks at them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diapir.runs import atomic_path

_TITLES = ("image", "truth", "probability", "mask")
_SALT = "#e4572e"


def draw_predictions(
    path: Path,
    *,
    ids: Sequence[str],
    images: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    probability: NDArray[np.floating],
    threshold: float,
    scores: NDArray[np.float64],
    title: str,
    each: int = 5,
) -> None:
    """Draw the worst and the best tiles with salt: image, truth, probability and mask, side by side.

    Args:
        images, truth, probability: (n, h, w).
        scores: (n,), by which tiles are ranked.
        each: tiles a side.
    """
    worst, best = _worst_and_best(truth, scores, each=each)
    rows = max(len(worst), len(best), 1)
    figure = Figure(figsize=(12.4, 1.62 * rows + 0.8))
    # The fifth column is the gap between the two sides.
    axes = figure.subplots(rows, 9, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1, 1, 0.25, 1, 1, 1, 1]})
    for row in range(rows):
        for first, chosen in ((0, worst), (5, best)):
            cells = axes[row, first : first + 4]
            if row < len(chosen):
                tile = chosen[row]
                _draw_tile(cells, images[tile], truth[tile], probability[tile], probability[tile] > threshold)
                # An id may hold a dollar, and is no formula.
                cells[0].set_ylabel(f"{ids[tile]}\nscore {scores[tile]:.1f}", fontsize=7, parse_math=False)
    for row, cells in enumerate(axes):
        for column, cell in enumerate(cells):
            cell.set_xticks([])
            cell.set_yticks([])
            cell.set_frame_on(column != 4 and row < len(worst if column < 4 else best))
    for title_cell, text in zip([*axes[0, :4], *axes[0, 5:]], _TITLES * 2, strict=True):
        title_cell.set_title(text, fontsize=9)
    figure.text(0.26, 0.985, "worst", ha="center", va="top", fontsize=11, weight="bold")
    figure.text(0.76, 0.985, "best", ha="center", va="top", fontsize=11, weight="bold")
    figure.text(0.01, 0.005, title, fontsize=8, color="0.35")
    figure.subplots_adjust(left=0.04, right=0.995, bottom=0.035, top=1 - 0.62 / (1.62 * rows + 0.8), wspace=0.05)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


def _worst_and_best(truth: NDArray[np.uint8], scores: NDArray[np.float64], *, each: int) -> tuple[list[int], list[int]]:
    """Tiles at both ends of the scores; among the best those with the longest boundary, for they are hard to get."""
    boundary = (np.diff(truth, axis=1) != 0).sum((1, 2)) + (np.diff(truth, axis=2) != 0).sum((1, 2))
    salted = np.flatnonzero(truth.any((1, 2)))
    order = salted[np.lexsort((boundary[salted], scores[salted]))]
    half = len(order) // 2
    worst = order[: min(each, half)]
    best = order[::-1][: min(each, len(order) - half)]
    return worst.tolist(), best.tolist()


def _draw_tile(
    cells: NDArray[np.object_],
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    probability: NDArray[np.floating],
    mask: NDArray[np.bool_],
) -> None:
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255}
    cells[0].imshow(image, **grey)
    for cell, outline in ((cells[1], truth), (cells[3], mask)):
        cell.imshow(image, **grey)
        _outline(cell, outline)
    cells[2].imshow(probability, cmap="magma", vmin=0, vmax=1)


def _outline(cell: Axes, mask: NDArray[np.generic]) -> None:
    shade = np.zeros((*mask.shape, 4))
    shade[mask.astype(bool)] = to_rgba(_SALT, 0.35)
    cell.imshow(shade)
    if mask.any() and not mask.all():
        cell.contour(mask.astype(float), [0.5], colors=_SALT, linewidths=1)
