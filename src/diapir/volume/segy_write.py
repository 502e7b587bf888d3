"""SEG-Y files out: headers byte for byte as they are given, samples in the file's own format, read back and checked."""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.runs import atomic_path, clear_killed
from diapir.volume.segy_format import Order, SampleFormat, encode_samples

Block = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Headers, uint8 (k, 240 and more), and samples, float32 (k, n), of traces that follow each other."""

_PIECE = 4 << 20


def write_segy(
    path: Path,
    *,
    file_header: bytes,
    blocks: Iterable[Block],
    stored: SampleFormat,
    order: Order,
    trailer: Iterable[bytes] = (),
) -> int:
    """Write a file that is never seen half written, and give the number of its traces.

    Nothing of the headers is changed, so they have to agree with `stored`, `order` and the number of samples. Before
    the file gets its name it is read back from the disk, and refused if a single bit is not what was written.

    Args:
        file_header: every byte before the first trace.
        trailer: every byte behind the last one.

    Raises:
        InputError: samples that the format cannot hold, with their traces; or the disk gives back other bytes.
    """
    clear_killed(path)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            checksum = _write(file, file_header)
            num_traces = 0
            for headers, values in blocks:
                raw = _traces(path, headers, values, first_row=num_traces, stored=stored, order=order)
                checksum = _write(file, raw.data, checksum)
                num_traces += len(raw)
            for content in trailer:
                checksum = _write(file, content, checksum)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        _require_as_written(path, temporary, checksum=checksum, size=size)
    return num_traces


def _write(file: BinaryIO, content: bytes | memoryview, checksum: int = 0) -> int:
    file.write(content)
    return zlib.crc32(content, checksum)


def _traces(
    path: Path,
    headers: NDArray[np.uint8],
    values: NDArray[np.float32],
    *,
    first_row: int,
    stored: SampleFormat,
    order: Order,
) -> NDArray[np.uint8]:
    assert len(headers) == len(values)
    width = headers.shape[1]
    raw = np.empty((len(headers), width + values.shape[1] * stored.size), np.uint8)
    raw[:, :width] = headers
    try:
        raw[:, width:] = encode_samples(values, stored=stored, order=order)
    except ValueError as error:
        traces = f"traces {first_row + 1} to {first_row + len(headers)}"
        raise InputError.of(path, f"{traces}: {error}; write another format, or mend the samples first") from None
    return raw


def _require_as_written(path: Path, temporary: Path, *, checksum: int, size: int) -> None:
    found, found_size = 0, 0
    with temporary.open("rb") as file:
        # Asked for from the disk itself, where the system does that.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while content := file.read(_PIECE):
            found, found_size = zlib.crc32(content, found), found_size + len(content)
    if (found, found_size) != (checksum, size):
        what = f"expected to read back the {size} bytes that were written, found {found_size} bytes that differ"
        raise InputError.of(path, f"{what}; the disk cannot be relied on, write to another")
