"""What makes a label doubtful: straight walls, neighbours that contradict it, models that are sure of another."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.review.corrections.merging import Mask

SURE = 0.95
"""Probability, or one less it, from which a model counts as sure."""
SURE_SHARE = 0.05
"""Of a tile's pixels that models must be sure of otherwise; of a section's, a fifth of it."""
WALL_ROWS = 80
"""Of a tile's last rows that are the same. Of 101; people draw no salt so."""
WALL_SAMPLES = 60
"""Down which a side of a section's label runs straight."""
SEAM_SHARE = 0.4
"""Of the pixels along a seam on which two labels contradict each other."""
BAND = 10
"""Pixels either side of a seam or a wall that a proposal changes."""


class Wall(NamedTuple):
    """A straight side of a label: between columns `column` and the next, for `samples` rows."""

    column: int
    samples: int


def sure_otherwise(label: Mask, probability: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Pixels whose label models are sure is wrong; what is unknown on either side is none."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((label == 0) & (probability >= SURE)) | ((label == 1) & (probability <= 1 - SURE)))


def flipped(label: Mask, where: NDArray[np.bool_]) -> Mask:
    """The label with salt and none exchanged at some pixels."""
    return np.where(where & (label != UNKNOWN), 1 - np.minimum(label, 1), label).astype(np.uint8)


def walls_of(label: Mask) -> list[Wall]:
    """Straight vertical sides between salt and none of WALL_SAMPLES rows or more, the longest first."""
    is_side = ((label[:, 1:] == 1) & (label[:, :-1] == 0)) | ((label[:, 1:] == 0) & (label[:, :-1] == 1))
    # Of each column the longest run of sides: the count so far, begun anew where there is none.
    run, longest = np.zeros(is_side.shape[1], np.int64), np.zeros(is_side.shape[1], np.int64)
    for row in is_side:
        run = np.where(row, run + 1, 0)
        longest = np.maximum(longest, run)
    found = [Wall(int(column), int(longest[column])) for column in np.flatnonzero(longest >= WALL_SAMPLES)]
    return sorted(found, key=lambda wall: (-wall.samples, wall.column))


def contradiction(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    """Pixels on which two lines that should be alike differ; 0 where they are less than SEAM_SHARE of what is known."""
    known = (first != UNKNOWN) & (second != UNKNOWN)
    differing = int((first != second)[known].sum())
    return differing if differing and differing >= SEAM_SHARE * known.sum() else 0


def proposed(label: Mask, probability: NDArray[np.floating] | None, *, where: NDArray[np.bool_], cut: float) -> Mask:
    """The label with what models say at some pixels, or unknown where no model was asked.

    Args:
        cut: probability above which a pixel is salt.
    """
    if probability is None:
        return np.where(where, np.uint8(UNKNOWN), label)
    said = np.where(np.isnan(probability), UNKNOWN, probability > cut).astype(np.uint8)
    return np.where(where, said, label)


def band(shape: tuple[int, int], *, row: int | None = None, column: int | None = None) -> NDArray[np.bool_]:
    """Pixels within BAND of a row or of a column."""
    where = np.zeros(shape, np.bool_)
    if row is not None:
        where[max(row - BAND, 0) : row + BAND + 1] = True
    if column is not None:
        where[:, max(column - BAND, 0) : column + BAND + 1] = True
    return where
