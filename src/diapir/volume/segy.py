"""SEG-Y files: what they are, and their traces, read as they are needed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.volume.segy_fit import Asked
from diapir.volume.segy_format import FormatName, Order, decode_into, decode_samples
from diapir.volume.segy_headers import (
    FILE_HEADER_BYTES,
    TEXT_BYTES,
    TRACE_FIELDS,
    TRACE_HEADER_BYTES,
    Field,
    Text,
    read_text,
)
from diapir.volume.segy_layout import Layout, find_layout

Rows = slice | NDArray[np.int64]
"""Traces by their place in the file, from 0 on."""

# Bytes at a time: enough for a disk, and little beside a section.
_PIECE = 4 << 20
_MAPPED = 64 << 20
_MOST_LOOKED_AT = 32
_FEWEST_VALUES = 500
_MOST_SHOWN_TEXTS = 100


@dataclass(frozen=True)
class Segy:
    """A SEG-Y file that can be read: all that its headers say was held against its length.

    Args:
        size: bytes of the file.
        text: the first textual header.
        delay_ms: time of the first sample, as the first trace header has it (byte 109); all traces' headers tell more.
        warnings: what was guessed or is odd, with the reason.
    """

    path: Path
    size: int
    layout: Layout
    text: Text
    delay_ms: float
    warnings: tuple[str, ...]

    @property
    def num_traces(self) -> int:
        """Traces in the file."""
        return self.layout.num_traces

    @property
    def num_samples(self) -> int:
        """Samples of each trace."""
        return self.layout.num_samples

    @property
    def interval_us(self) -> float:
        """Microseconds between samples; of depth whatever the file counts in, a thousandth of it."""
        return self.layout.interval_us

    @property
    def header_bytes(self) -> int:
        """Bytes of the headers before each trace's samples."""
        return TRACE_HEADER_BYTES * (1 + self.layout.num_more_headers)

    @property
    def stride(self) -> int:
        """Bytes from one trace to the next."""
        return self.header_bytes + self.num_samples * self.layout.stored.size

    @property
    def end_of_traces(self) -> int:
        """Where the last trace ends; what follows is kept as it is."""
        return self.layout.first_trace + self.num_traces * self.stride


def open_segy(
    path: Path,
    *,
    order: Order | None = None,
    stored: FormatName | None = None,
    num_samples: int | None = None,
    interval_us: float | None = None,
) -> Segy:
    """A file's layout, found in its headers and proved by its length; what is given goes before what its headers say.

    Raises:
        InputError: it is no SEG-Y, is cut off, or its headers say what cannot be; with every fault, and what to do.
        OSError: it cannot be opened.

    Source: SEG-Y revisions 0 (1975), 1 (2002), 2.0 (2017).
    """
    if path.exists() and not path.is_file():
        raise InputError.of(path, "expected a SEG-Y file, found a folder or a device; name the file itself")
    asked = Asked(order, stored, num_samples, interval_us)
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        layout = find_layout(file, size=size, where=str(path), asked=asked)
        file.seek(0)
        text = read_text(file.read(TEXT_BYTES))
        file.seek(layout.first_trace)
        delay_ms = TRACE_FIELDS["delay_ms"].read(file.read(TRACE_HEADER_BYTES), layout.order)
    warnings = list(layout.warnings)
    if text.encoding == "unknown":
        warnings.append("its textual header is neither EBCDIC nor ASCII; it is shown as far as it can be read")
    segy = Segy(path, size, layout, text, delay_ms, ())
    warnings += _doubts_of_format(segy) if stored is None else []
    return Segy(path, size, layout, text, delay_ms, tuple(warnings))


def file_header(segy: Segy) -> bytes:
    """Every byte before the first trace."""
    return b"".join(_spans(segy, start=0, stop=segy.layout.first_trace))


def trailer(segy: Segy) -> Iterator[bytes]:
    """Every byte behind the last trace, some at a time."""
    yield from _spans(segy, start=segy.end_of_traces, stop=segy.size)


def extended_texts(segy: Segy) -> list[Text]:
    """The textual headers between the binary header and the first trace; of very many the first hundred."""
    stop = min(segy.layout.first_trace, FILE_HEADER_BYTES + TEXT_BYTES * _MOST_SHOWN_TEXTS)
    raw = b"".join(_spans(segy, start=FILE_HEADER_BYTES, stop=stop))
    return [read_text(raw[start : start + TEXT_BYTES]) for start in range(0, len(raw), TEXT_BYTES)]


def header_values(segy: Segy, fields: Sequence[Field], *, rows: Rows = slice(None)) -> list[NDArray[np.int64]]:
    """Each field's values in the headers of some traces: an int64 (k,) a field.

    All fields of a trace are read together: a file is walked through once, however many there are.

    Raises:
        InputError: the file is no longer what it was.
    """
    values = [np.empty(_count(segy, rows), np.int64) for _ in fields]
    size = max(_MAPPED // segy.stride, 1)
    with segy.path.open("rb") as file:
        _require_same(segy, file.fileno())
        for start, chosen in _pieces(segy, rows, size=size):
            # Mapped anew each time: what was looked at does not stay in memory.
            mapped = np.memmap(file, np.uint8, "r")
            for wanted, column in zip(fields, values, strict=True):
                every = np.ndarray(
                    (segy.num_traces,),
                    wanted.type(segy.layout.order),
                    buffer=mapped,
                    offset=segy.layout.first_trace + wanted.byte - 1,
                    strides=(segy.stride,),
                )
                part = every[chosen]
                column[start : start + len(part)] = part
                del every, part
            del mapped
    return values


def raw_headers(segy: Segy, rows: Rows) -> NDArray[np.uint8]:
    """The headers of some traces as they are: uint8 (k, 240 and more).

    Raises:
        InputError: the file is no longer what it was.
    """
    headers = np.empty((_count(segy, rows), segy.header_bytes), np.uint8)
    for start, raw in _raw_pieces(segy, rows):
        headers[start : start + len(raw)] = raw[:, : segy.header_bytes]
    return headers


def samples(segy: Segy, rows: Rows) -> NDArray[np.float32]:
    """The samples of some traces: float32 (k, n). NaN and infinity are given as they stand.

    Raises:
        InputError: the file is no longer what it was.
    """
    values = np.empty((_count(segy, rows), segy.num_samples), np.float32)
    for span, _, part in traces(segy, rows):
        values[span] = part
    return values


def traces(segy: Segy, rows: Rows) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.float32]]]:
    """Some traces at a time: their places in `rows`, and what `raw_headers` and what `samples` gives of them.

    They lie in buffers that are used again for the next ones, so that memory that caches hold serves them all.

    Raises:
        InputError: the file is no longer what it was.
    """
    buffer = np.empty((0, segy.num_samples), np.float32)
    for start, raw in _raw_pieces(segy, rows):
        # None is greater than the first.
        buffer = buffer if len(buffer) else np.empty((len(raw), segy.num_samples), np.float32)
        values = buffer[: len(raw)]
        decode_into(values, raw[:, segy.header_bytes :], stored=segy.layout.stored, order=segy.layout.order)
        yield slice(start, start + len(raw)), raw[:, : segy.header_bytes], values


def first_samples(segy: Segy, rows: NDArray[np.int64], *, most: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Places in `rows`, and the first samples of their traces, float32 (k, `most` or fewer), some traces at a time.

    Nothing else of the traces is read, however long they are.

    Raises:
        InputError: the file is no longer what it was.
    """
    stored, order = segy.layout.stored, segy.layout.order
    size = min(most, segy.num_samples) * stored.size
    for start, raw in _raw_parts(segy, rows, first_byte=segy.header_bytes, size=size):
        yield start, decode_samples(raw, stored=stored, order=order)


def _count(segy: Segy, rows: Rows) -> int:
    if isinstance(rows, slice):
        assert rows.step in (None, 1)
        return len(range(*rows.indices(segy.num_traces)))
    assert not len(rows) or (rows.min() >= 0 and rows.max() < segy.num_traces), "rows of the file"
    return len(rows)


def _pieces(segy: Segy, rows: Rows, *, size: int) -> Iterator[tuple[int, Rows]]:
    """Places in the result and rows, up to `size` at a time."""
    first = rows.indices(segy.num_traces)[0] if isinstance(rows, slice) else 0
    count = _count(segy, rows)
    for start in range(0, count, size):
        stop = min(start + size, count)
        yield start, slice(first + start, first + stop) if isinstance(rows, slice) else rows[start:stop]


def _raw_pieces(segy: Segy, rows: Rows) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Places in the result, and whole traces, uint8 (k, stride), in a buffer that is used again."""
    size = max(_PIECE // segy.stride, 1)
    buffer = np.empty((min(size, max(_count(segy, rows), 1)), segy.stride), np.uint8)
    # No mapping: a file that gets shorter while it is read would end the process.
    with segy.path.open("rb", buffering=0) as file:
        _require_same(segy, file.fileno())
        for start, chosen in _pieces(segy, rows, size=size):
            place = 0
            for first, count in _runs(chosen):
                target = buffer[place : place + count]
                _fill(segy, file.fileno(), target, place=segy.layout.first_trace + first * segy.stride)
                place += count
            yield start, buffer[:place]


def _raw_parts(
    segy: Segy, rows: NDArray[np.int64], *, first_byte: int, size: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Places in `rows`, and `size` bytes of each trace, the first of which `first_byte` others precede."""
    at_once = max(_PIECE // size, 1)
    with segy.path.open("rb", buffering=0) as file:
        _require_same(segy, file.fileno())
        for start in range(0, len(rows), at_once):
            chosen = rows[start : start + at_once]
            raw = np.empty((len(chosen), size), np.uint8)
            for target, row in zip(raw, chosen.tolist(), strict=True):
                _fill(segy, file.fileno(), target, place=segy.layout.first_trace + row * segy.stride + first_byte)
            yield start, raw


def _runs(rows: Rows) -> list[tuple[int, int]]:
    """First row and number of rows of those that follow each other in the file."""
    if isinstance(rows, slice):
        return [(rows.start, rows.stop - rows.start)]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(run[0]), len(run)) for run in np.split(rows, breaks)]


def _fill(segy: Segy, handle: int, target: NDArray[np.uint8], *, place: int) -> None:
    """Read bytes of the file from `place` on."""
    view = target.reshape(-1).data
    while view:
        read = os.preadv(handle, [view], place)
        if not read:
            raise InputError.of(segy.path, _changed(f"it ends at byte {place}"))
        view, place = view[read:], place + read


def _spans(segy: Segy, *, start: int, stop: int) -> Iterator[bytes]:
    with segy.path.open("rb") as file:
        _require_same(segy, file.fileno())
        file.seek(start)
        while start < stop:
            content = file.read(min(_PIECE, stop - start))
            if not content:
                raise InputError.of(segy.path, _changed(f"it ends at byte {start}"))
            start += len(content)
            yield content


def _require_same(segy: Segy, handle: int) -> None:
    size = os.fstat(handle).st_size
    if size != segy.size:
        raise InputError.of(segy.path, _changed(f"it has {size} bytes"))


def _changed(found: str) -> str:
    return f"changed while it was read: expected what was found first, now {found}; begin again when it is at rest"


def _doubts_of_format(segy: Segy) -> Iterator[str]:
    """A warning where four-byte floats look like the other kind.

    IBM floats are kept with a first hexadecimal digit that is not zero; of IEEE floats every 16th has a zero there.
    """
    name = segy.layout.stored.name
    if name not in ("ibm32", "ieee32"):
        return
    rows = np.unique(np.linspace(0, segy.num_traces - 1, _MOST_LOOKED_AT).astype(np.int64))
    kind = ">u4" if segy.layout.order == "big" else "<u4"
    # A trace that is longer than this is looked at in its first part.
    used = min(segy.num_samples, 4096) * 4
    parts = [raw.view(kind) for _, raw in _raw_parts(segy, rows, first_byte=segy.header_bytes, size=used)]
    values = np.unique(np.concatenate(parts))
    values = values[(values & 0x7FFFFFFF) != 0]
    if len(values) < _FEWEST_VALUES:
        return
    share = float(((values & 0x00F00000) == 0).mean())
    if name == "ibm32" and share > 0.02:
        yield (
            f"its samples do not look like IBM floats ({share:.0%} of {len(values)} begin with a zero digit); they may "
            f"be IEEE floats: --format ieee32"
        )
    # Numbers of both signs and several sizes; others may lack the digit by chance.
    if name == "ieee32" and share == 0 and len(np.unique(values >> 24)) >= 4:
        yield (
            f"its samples look like IBM floats, not IEEE ones (none of {len(values)} begins with a zero digit): "
            f"--format ibm32"
        )
