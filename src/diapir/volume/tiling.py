"""Sections cut into overlapping tiles, and their predictions blended back: index arithmetic and weights, no files.

A section is (samples, traces): rows go down in time or depth, as a tile's do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Place = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """How a section is cut.

    Args:
        shape: samples and traces of the section.
        padded: the same, or a tile's side where the section is smaller.
        tile: rows and columns of a tile.
        places: first row and column of each tile, row after row.
        weights: of each pixel of a tile, positive, (tile rows, tile columns).
        total: of the weights at each pixel of the padded section.
    """

    shape: Place
    padded: Place
    tile: Place
    places: tuple[Place, ...]
    weights: NDArray[np.float64]
    total: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.places)


def plan_tiling(shape: Place, *, tile: Place, overlap: Place) -> Tiling:
    """Tiles that cover a section, each pixel at least once; the last of a row or column is pulled back to the border.

    Args:
        overlap: rows and columns that neighbouring tiles share at least; less than the tile's.
    """
    assert min(shape) > 0, f"a section has samples and traces: got {shape}"
    padded = (max(shape[0], tile[0]), max(shape[1], tile[1]))
    starts = [tile_starts(padded[axis], tile=tile[axis], overlap=overlap[axis]) for axis in (0, 1)]
    places = tuple((row, column) for row in starts[0] for column in starts[1])
    weights = _weights(tile, overlap)
    total = np.zeros(padded)
    for row, column in places:
        total[row : row + tile[0], column : column + tile[1]] += weights
    return Tiling(shape, padded, tile, places, weights, total)


@lru_cache(maxsize=8)
def _weights(tile: Place, overlap: Place) -> NDArray[np.float64]:
    """Made once for all sections that are cut alike, and never changed."""
    weights = np.outer(*(taper(tile[axis], overlap=overlap[axis]) for axis in (0, 1)))
    weights.flags.writeable = False
    return weights


def tile_starts(length: int, *, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the tiles that cover an axis, rising; evenly spread, so that the overlap is alike everywhere."""
    assert 0 <= overlap < tile, f"the overlap must be in [0, tile): got {overlap} of {tile}"
    if length <= tile:
        return (0,)
    count = -(-(length - overlap) // (tile - overlap))
    return tuple((length - tile) * number // (count - 1) for number in range(count))


def taper(length: int, *, overlap: int) -> NDArray[np.float64]:
    """Weights along a tile's side, (length,): 1 in the middle, raised cosines over the overlaps, never 0."""
    ends = min(overlap, length // 2)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ends) + 0.5) / max(ends, 1))
    weights = np.ones(length)
    weights[:ends], weights[length - ends :] = rise, rise[::-1]
    return weights


def cut_tiles(section: NDArray[np.generic], tiling: Tiling) -> Iterator[NDArray[np.generic]]:
    """The tiles of a section (samples, traces), in the order of the places; a small one is mirrored at its far ends."""
    assert section.shape == tiling.shape, f"expected a section of {tiling.shape}: got {section.shape}"
    missing = [(0, full - own) for full, own in zip(tiling.padded, tiling.shape, strict=True)]
    whole = np.pad(section, missing, mode="symmetric") if tiling.padded != tiling.shape else section
    height, width = tiling.tile
    for row, column in tiling.places:
        yield whole[row : row + height, column : column + width]


@dataclass(frozen=True)
class Blend:
    """A section that is being put together of its tiles' predictions.

    Args:
        sums: weighted predictions so far, of the padded section. In float64, so that after all rounding tiles which
            agree give their own value back, to the last bit of float32.
    """

    tiling: Tiling
    sums: NDArray[np.float64]

    @classmethod
    def empty(cls, tiling: Tiling) -> "Blend":
        """Nothing yet."""
        return cls(tiling, np.zeros(tiling.padded))

    def add(self, number: int, tile: Floats) -> None:
        """Add the prediction of the tile at `tiling.places[number]`."""
        row, column = self.tiling.places[number]
        height, width = self.tiling.tile
        self.sums[row : row + height, column : column + width] += tile * self.tiling.weights

    def section(self) -> Floats:
        """Mean of the predictions at each pixel by the tiles' weights, when every tile was added: (samples, traces)."""
        samples, traces = self.tiling.shape
        return (self.sums / self.tiling.total)[:samples, :traces].astype(np.float32)
