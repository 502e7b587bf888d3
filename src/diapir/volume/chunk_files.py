"""Files of an array: which are there, for Zarr takes one that is absent for zeros, and what those of a volume hold."""

import math
import os
import stat
from collections.abc import Iterator
from io import FileIO
from itertools import islice, product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from diapir.faults import Fault, raise_if_any

AGAIN = "ingest or segment again, or use another copy"
CRC, PLACE = np.dtype("<u4"), np.dtype("<u8")
"""Numbers of a checksum, and of an index that says where in a shard each chunk begins and how long it is."""
ABSENT = PLACE.type(2**64 - 1)
"""Both of these for a chunk that is not there."""

_FEW = 5
_Ranges = tuple[range, ...]


class _DamagedError(Exception):
    """A file does not hold what was written."""


def require_files(folder: Path, array: zarr.Array[Any], block: tuple[slice, ...]) -> None:
    """Refuse to read a block of an array, which lies in a folder, where files are absent: Zarr would give zeros.

    Raises:
        InputError: the first few are named.
    """
    absent = islice((file for _, file in _files(folder, array, block) if not file.is_file()), _FEW)
    raise_if_any(_absent(file) for file in absent)


def missing_files(folder: Path, array: zarr.Array[Any]) -> Iterator[Fault]:
    """A fault that names the first few files that a whole array lacks; its folder is walked through once."""
    steps = array.shards or array.chunks
    counts = [-(-side // step) for side, step in zip(array.shape, steps, strict=True)]
    present = {f"{place}/{file}" for place, _, files in os.walk(folder / "c") for file in files}
    # Where all but a few lines of a lying shape are missing, the first few are found at once.
    files = (str(file) for _, file in _files(folder, array, ()))
    missing = list(islice((file for file in files if file not in present), _FEW))
    if missing:
        what = f"expected {math.prod(counts)} files of chunks, found {len(present)}"
        yield Fault(str(folder), f"{what}; missing: {', '.join(missing)}: {AGAIN}")


def is_plain(array: zarr.Array[Any]) -> bool:
    """Whether it is a volume whose chunks are bytes in little order with a checksum each, as `add_volume` has them."""
    codecs: tuple[Any, ...] = getattr(array.metadata, "codecs", ())
    if array.shards is not None:
        (outer,) = codecs
        if not isinstance(outer, ShardingCodec) or outer.index_location.value != "end":
            return False
        if not _are_bytes_with_sum(outer.index_codecs):
            return False
        codecs = outer.codecs
    encoding = getattr(array.metadata, "chunk_key_encoding", None)
    has_usual_names = (getattr(encoding, "name", ""), getattr(encoding, "separator", "")) == ("default", "/")
    return array.ndim == 3 and _are_bytes_with_sum(codecs) and has_usual_names


def read_block(folder: Path, array: zarr.Array[Any], block: tuple[slice, slice]) -> NDArray[Any]:
    """Some lines of a volume that is plain and lies in a folder: (inlines, crosslines, samples).

    Of each chunk no more is copied than was asked for, which takes a quarter of the time that Zarr needs for a line.

    Args:
        block: inlines and crosslines by their place, in steps of 1.

    Raises:
        InputError: files are absent, or do not match their checksums; the first few are named.

    Source: Zarr specification 3, chunks of bytes in little order, codecs crc32c 1.0 and sharding_indexed 1.0 with its
        index at the end.
    """
    wanted = tuple(range(side)[own] for side, own in zip(array.shape, (*block, slice(None)), strict=True))
    assert all(own.step == 1 for own in wanted), "lines one after another"
    found = np.empty(tuple(map(len, wanted)), np.dtype(array.dtype).newbyteorder("<"))
    faults = list[Fault]()
    if not found.size:
        return found
    for first, file in _files(folder, array, block):
        try:
            with FileIO(file, opener=_opened_at_once) as content:
                _fill(found, wanted, content, array, first)
        except FileNotFoundError:
            faults.append(_absent(file))
        except _DamagedError as error:
            faults.append(Fault(str(file), f"its bytes are not those that were written ({error}): {AGAIN}"))
        except OSError as error:
            faults.append(Fault(str(file), f"expected a file that can be read, found none ({error.strerror})"))
        if len(faults) == _FEW:
            break
    raise_if_any(faults)
    return found.astype(array.dtype, copy=False)


def _are_bytes_with_sum(codecs: tuple[Any, ...]) -> bool:
    kinds = tuple(type(codec) for codec in codecs)
    # Numbers of one byte have no order.
    return kinds == (BytesCodec, Crc32cCodec) and getattr(codecs[0].endian, "value", "little") == "little"


def _fill(
    found: NDArray[Any], wanted: _Ranges, content: FileIO, array: zarr.Array[Any], first: tuple[int, ...]
) -> None:
    """Copy what a file holds of what is wanted; its samples begin at `first`."""
    chunk, steps = array.chunks, array.shards or array.chunks
    counts = tuple(step // side for step, side in zip(steps, chunk, strict=True))
    row = np.empty(math.prod(chunk) * found.itemsize + CRC.itemsize, np.uint8)
    values = row[: -CRC.itemsize].view(found.dtype).reshape(chunk)
    if array.shards is not None:
        places = _index(content, counts)
    elif _size_of(content) == row.size:
        places = np.array([0, row.size], PLACE).reshape(1, 1, 1, 2)
    else:
        raise _DamagedError(f"expected {row.size} bytes, found {_size_of(content)}")
    near = [
        range(max(own.start - start, 0) // side, -(-min(own.stop - start, step) // side))
        for own, start, step, side in zip(wanted, first, steps, chunk, strict=True)
    ]
    for number in product(*near):
        offset, length = places[number].tolist()
        if offset == length == ABSENT:
            raise _DamagedError("one of its chunks is absent")
        if length != row.size:
            raise _DamagedError(f"expected a chunk of {row.size} bytes, found one of {length}")
        _read_at(content, offset, row)
        into, out_of = list[slice](), list[slice]()
        for own, start, place, side in zip(wanted, first, number, chunk, strict=True):
            begin = start + place * side
            low, high = max(begin, own.start), min(begin + side, own.stop)
            into.append(slice(low - own.start, high - own.start))
            out_of.append(slice(low - begin, high - begin))
        found[tuple(into)] = values[tuple(out_of)]


def _index(content: FileIO, counts: tuple[int, ...]) -> NDArray[np.uint64]:
    """Where each chunk of a shard begins, and its length: (…, 2)."""
    row = np.empty(math.prod(counts) * 2 * PLACE.itemsize + CRC.itemsize, np.uint8)
    _read_at(content, _size_of(content) - row.size, row)
    return row[: -CRC.itemsize].view(PLACE).reshape(*counts, 2)


def _read_at(content: FileIO, offset: int, row: NDArray[np.uint8]) -> None:
    """Fill a row with bytes, of which the last four are the checksum of the others."""
    if not 0 <= offset <= _size_of(content) - row.size:
        raise _DamagedError("the file is too short")
    content.seek(offset)
    # A file that another program cuts meanwhile ends early.
    if content.readinto(row.data) != row.size:
        raise _DamagedError("the file is too short")
    if google_crc32c.value(row[: -CRC.itemsize]) != int(row[-CRC.itemsize :].view(CRC)[0]):
        raise _DamagedError("a checksum is another")


def _size_of(content: FileIO) -> int:
    return os.fstat(content.fileno()).st_size


def _opened_at_once(path: str, flags: int) -> int:
    """A pipe in place of a file would be waited for."""
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _DamagedError("it is no file of bytes")
    return number


def _absent(file: Path) -> Fault:
    return Fault(str(file), f"expected a file of chunks, found none: {AGAIN}")


def _files(folder: Path, array: zarr.Array[Any], block: tuple[slice, ...]) -> Iterator[tuple[tuple[int, ...], Path]]:
    """The files under a block of an array, whole along the axes that it leaves out, and where each of them begins."""
    steps, reached = array.shards or array.chunks, list[range]()
    for axis, step in enumerate(steps):
        start, stop, _ = (block[axis] if axis < len(block) else slice(None)).indices(array.shape[axis])
        reached.append(range(start // step, -(-stop // step)))
    for key in _keys(reached):
        yield (
            tuple(number * step for number, step in zip(key, steps, strict=True)),
            folder.joinpath("c", *map(str, key)),
        )


def _keys(ranges: list[range]) -> Iterator[tuple[int, ...]]:
    """A number of each range; itertools.product would hold a lying range in memory."""
    return ((first, *rest) for first in ranges[0] for rest in _keys(ranges[1:])) if ranges else iter([()])
