"""Blocks of a volume into its files in one go: what Zarr writes, without the copies that it makes on the way."""

import math
import os
from collections.abc import Iterable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from diapir.runs import naming_what_fails
from diapir.volume.chunk_files import ABSENT, CRC, PLACE
from diapir.volume.store import Shape, Store, array_of


def put_block(store: Store, name: str, values: NDArray[Any], *, at: tuple[int, int]) -> list[Path]:
    """Fill whole traces of a volume that `add_volume` made: the shards under them, each file whole or absent.

    Gives the files.

    Args:
        values: (inlines, crosslines, samples), of numbers that become those of the volume.
        at: where the first of them lies; what is filled are whole shards, but for those that the grid's end cuts.

    Source: Zarr specification 3, chunks of bytes in little order, codecs crc32c 1.0 and sharding_indexed 1.0 with its
        index at the end.
    """
    array = array_of(store, name)
    shape, shard, chunk = array.shape, array.shards or array.chunks, array.chunks
    ends = (at[0] + values.shape[0], at[1] + values.shape[1])
    assert values.shape[2] == shape[2], "traces are written as a whole"
    for axis in (0, 1):
        assert at[axis] % shard[axis] == 0, f"a block begins where a shard does: {at}, {shard}"
        assert ends[axis] % shard[axis] == 0 or ends[axis] == shape[axis], f"a block ends where a shard does: {ends}"
    kind = np.dtype(array.dtype).newbyteorder("<")
    counts = tuple(side // own for side, own in zip(shard, chunk, strict=True))
    size = math.prod(chunk) * kind.itemsize + CRC.itemsize
    written = []
    for key, part in _shards(values, at, shard=shard):
        chunks = _chunks(part, kind, chunk=chunk)
        end = [_index(size, _filled(part.shape, chunk), counts=counts)] if array.shards else []
        written.append(_write(store.path.joinpath(name, "c", *map(str, key)), chain(chunks, end)))
    return written


def _shards(values: NDArray[Any], at: tuple[int, int], *, shard: Shape) -> Iterator[tuple[Shape, NDArray[Any]]]:
    """Keys of the shards under a block, with what lies in each."""
    steps = [range(0, length, step) for length, step in zip(values.shape, shard, strict=True)]
    for first in product(*steps):
        part = values[tuple(slice(start, start + step) for start, step in zip(first, shard, strict=True))]
        place = (at[0] + first[0], at[1] + first[1], first[2])
        yield tuple(start // step for start, step in zip(place, shard, strict=True)), part


def _filled(shape: Shape, chunk: Shape) -> Shape:
    """How many chunks along each axis hold something."""
    return tuple(-(-side // own) for side, own in zip(shape, chunk, strict=True))


def _chunks(part: NDArray[Any], kind: np.dtype[Any], *, chunk: Shape) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each chunk that holds something, with its checksum, in a buffer that is used again.

    Beyond the end of the grid are zeros.
    """
    size = math.prod(chunk) * kind.itemsize
    row = np.zeros(size + CRC.itemsize, np.uint8)
    whole = row[:size].view(kind).reshape(chunk)
    for place in product(*map(range, _filled(part.shape, chunk))):
        own = part[tuple(slice(n * side, (n + 1) * side) for n, side in zip(place, chunk, strict=True))]
        if own.shape != chunk:
            whole[...] = 0
        whole[tuple(map(slice, own.shape))] = own
        row[size:].view(CRC)[0] = google_crc32c.value(row[:size])
        yield row


def _index(size: int, filled: Shape, *, counts: Shape) -> NDArray[np.uint8]:
    """Where each chunk of a shard begins, all `size` bytes long, with a checksum; of those that are not there, ones."""
    index = np.full((*counts, 2), ABSENT)
    here = index[tuple(map(slice, filled))]
    here[..., 0] = (size * np.arange(math.prod(filled), dtype=PLACE)).reshape(filled)
    here[..., 1] = size
    content = index.tobytes()
    return np.frombuffer(content + CRC.type(google_crc32c.value(content)).tobytes(), np.uint8)


def _write(path: Path, pieces: Iterable[NDArray[np.uint8]]) -> Path:
    """A file that is whole or absent; what a killed process leaves ends as Zarr's own leavings do."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with naming_what_fails(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece.data)
        temporary.replace(path)
    return path
