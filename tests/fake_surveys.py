"""Surveys made by code: wide smooth pictures, and the tiles that they are cut into."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from diapir.data.mosaic import NONE, Mosaics

SIDE = 101


def survey_tiles(rows: int, columns: int, *, seed: int) -> NDArray[np.uint8]:
    """The tiles of one survey, row by row: uint8 (rows * columns, 101, 101).

    Rough enough that edges of strangers are seldom alike by chance, smooth enough to be drawn out by a pixel.
    """
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(rows * SIDE, columns * SIDE)), sigma=2)
    grey = np.clip(128 + 45 * field / field.std(), 0, 255).astype(np.uint8)
    tiles: NDArray[np.uint8] = grey.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    return tiles


def strangers(count: int, *, seed: int) -> NDArray[np.uint8]:
    """Tiles of as many different surveys."""
    return np.concatenate([survey_tiles(1, 1, seed=1000 * (seed + 1) + number) for number in range(count)])


def mosaics_of(*grids: str, count: int = 0) -> Mosaics:
    """Mosaics drawn in letters, one a tile from a on, with . for a gap; rows are parted by spaces.

    A letter that is left out is a tile in no mosaic; `count` tiles there are at least.
    """
    places = {
        ord(letter) - ord("a"): (mosaic, row, column)
        for mosaic, grid in enumerate(grids)
        for row, line in enumerate(grid.split())
        for column, letter in enumerate(line)
        if letter != "."
    }
    columns = np.array([places.get(tile, (NONE,) * 3) for tile in range(max(max(places) + 1, count))], np.int64)
    return Mosaics(columns[:, 0], columns[:, 1], columns[:, 2])
