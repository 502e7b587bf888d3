"""Which files of an array are there: Zarr takes one that is absent for zeros."""

import math
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import zarr

_FEW = 5


class Missing(NamedTuple):
    """What an array lacks.

    Args:
        first: the first few of its absent files.
    """

    first: list[str]
    num_expected: int
    num_present: int


def absent_files(folder: Path, array: zarr.Array[Any], block: tuple[slice, ...]) -> list[Path]:
    """The first few absent files of those under a block of an array that lies in a folder."""
    steps, reached = array.shards or array.chunks, list[range]()
    for axis, step in enumerate(steps):
        start, stop, _ = (block[axis] if axis < len(block) else slice(None)).indices(array.shape[axis])
        reached.append(range(start // step, -(-stop // step)))
    files = (folder.joinpath("c", *map(str, key)) for key in _keys(reached))
    return list(islice((file for file in files if not file.exists()), _FEW))


def missing_files(folder: Path, array: zarr.Array[Any]) -> Missing:
    """The same of the whole array, whose folder is walked through once."""
    steps = array.shards or array.chunks
    counts = [-(-side // step) for side, step in zip(array.shape, steps, strict=True)]
    present = {f"{place}/{file}" for place, _, files in os.walk(folder / "c") for file in files}
    # Where all but a few lines of a lying shape are missing, the first few are found at once.
    keys = (str(folder.joinpath("c", *map(str, key))) for key in _keys([range(count) for count in counts]))
    missing = list(islice((key for key in keys if key not in present), _FEW))
    return Missing(missing, math.prod(counts), len(present))


def _keys(ranges: list[range]) -> Iterator[tuple[int, ...]]:
    """A number of each range; itertools.product would hold a lying range in memory."""
    return ((first, *rest) for first in ranges[0] for rest in _keys(ranges[1:])) if ranges else iter([()])
