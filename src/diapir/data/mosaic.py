"""Which tiles were neighbours in the survey: mosaics, put together from links between edges."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskProgressColumn, TimeRemainingColumn

from diapir.data.mosaic_links import LEAST_COMPATIBILITY, Links, find_links

Place = tuple[int, int]

NONE = -1
"""What stands for the mosaic, the row and the column of a tile that is in no mosaic, and for a missing neighbour."""
_STEPS: tuple[Place, ...] = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class Mosaics:
    """The place of each of n tiles; -1 in all three for a tile that is in no mosaic.

    Args:
        mosaic: int64 (n,), numbers from 0, the largest mosaic first.
        row: int64 (n,), from 0 at the top of the mosaic.
        column: int64 (n,), from 0 at its left.
        num_dropped: links that contradicted stronger ones.
    """

    mosaic: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    num_dropped: int = 0

    def __len__(self) -> int:
        return len(self.mosaic)

    def take(self, rows: NDArray[np.integer[Any]]) -> "Mosaics":
        """The places of the tiles at `rows`, in that order; their numbers stay."""
        return Mosaics(self.mosaic[rows], self.row[rows], self.column[rows], self.num_dropped)

    def tiles_by_place(self) -> dict[tuple[int, int, int], int]:
        """The tile at each (mosaic, row, column) where there is one."""
        places = zip(self.mosaic.tolist(), self.row.tolist(), self.column.tolist(), strict=True)
        return {place: tile for tile, place in enumerate(places) if place[0] != NONE}


def find_mosaics(images: NDArray[np.uint8], *, least_compatibility: float = LEAST_COMPATIBILITY) -> Mosaics:
    """Put the tiles of one survey together again, with a bar on stderr where that is a terminal.

    The answer does not depend on the order of the tiles: they are taken in an order that their pixels give.

    Args:
        images: uint8 (n, height, width), all the tiles there are, labelled or not.
        least_compatibility: see `find_links`.
    """
    order = _content_order(images)
    with _progress(4 * len(images)) as advance:
        links = find_links(images[order], least_compatibility=least_compatibility, advance=advance)
    return place_tiles(links, count=len(images)).take(np.argsort(order))


def place_tiles(links: Links, *, count: int) -> Mosaics:
    """Lay linked tiles on grids, one a mosaic; a tile stands on one place at most, and two never share one.

    Links are taken from the strongest to the weakest. One that would put a tile on a second place, or two tiles on one,
    contradicts stronger ones and is dropped. Mosaics are numbered by size, then by their first tile.

    Args:
        links: between the tiles 0 to `count` - 1.
    """
    grids: list[dict[Place, int]] = [{(0, 0): tile} for tile in range(count)]
    grid_of = list(range(count))
    place_of: list[Place] = [(0, 0)] * count
    num_dropped = 0
    for link in np.lexsort((links.second, links.first, links.is_below, -links.strength)).tolist():
        first, second = int(links.first[link]), int(links.second[link])
        step = _STEPS[1] if links.is_below[link] else _STEPS[3]
        (row, column), (other_row, other_column) = place_of[first], place_of[second]
        shift = (row + step[0] - other_row, column + step[1] - other_column)
        grid, other = grid_of[first], grid_of[second]
        if grid == other:
            num_dropped += shift != (0, 0)
            continue
        moved = {(row + shift[0], column + shift[1]): tile for (row, column), tile in grids[other].items()}
        if moved.keys() & grids[grid].keys():
            num_dropped += 1
            continue
        grids[grid] |= moved
        grids[other] = {}
        for place, tile in moved.items():
            place_of[tile], grid_of[tile] = place, grid
    return _numbered([grid for grid in grids if len(grid) > 1], count=count, num_dropped=num_dropped)


def neighbours(mosaics: Mosaics) -> NDArray[np.int64]:
    """The tiles above, below, left and right of each tile: int64 (n, 4), -1 where there is none."""
    by_place = mosaics.tiles_by_place()
    found = np.full((len(mosaics), len(_STEPS)), NONE, np.int64)
    for (mosaic, row, column), tile in by_place.items():
        found[tile] = [by_place.get((mosaic, row + down, column + right), NONE) for down, right in _STEPS]
    return found


def are_beside_training(folds: NDArray[np.int64], mosaics: Mosaics) -> NDArray[np.bool_]:
    """Which tiles have a direct neighbour in another fold, that is, in the training set when they are held out: (n,).

    Their scores tell less than others of tiles from new surveys; with mosaic folds there are none.

    Args:
        folds: (n,), the fold of each labelled tile.
        mosaics: of the same tiles: `take` them from those of all tiles.
    """
    assert len(folds) == len(mosaics)
    beside = neighbours(mosaics)
    is_elsewhere: NDArray[np.bool_] = (beside != NONE) & (folds[beside] != folds[:, None])
    return np.asarray(is_elsewhere.any(axis=1))


def _content_order(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """An order of tiles that only their pixels decide; equal ones, which never link, may change places."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def _numbered(grids: list[dict[Place, int]], *, count: int, num_dropped: int) -> Mosaics:
    mosaic, row, column = (np.full(count, NONE, np.int64) for _ in range(3))
    for number, grid in enumerate(sorted(grids, key=lambda grid: (-len(grid), min(grid.values())))):
        top, left = (min(place[axis] for place in grid) for axis in range(2))
        for (down, right), tile in grid.items():
            mosaic[tile], row[tile], column[tile] = number, down - top, right - left
    return Mosaics(mosaic, row, column, num_dropped)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("comparing edges", total=total)
        yield lambda edges: progress.advance(task, edges)
