"""What a SEG-Y file is, from what its headers say and what its length allows."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from diapir.faults import Fault, InputError, raise_if_any
from diapir.volume.segy_fit import TRANSFER_AGAIN, Asked, Source, find_fit
from diapir.volume.segy_format import (
    FIXED_POINT_WITH_GAIN,
    FORMAT_NAMES,
    FORMATS,
    FORMATS_BY_CODE,
    Order,
    SampleFormat,
)
from diapir.volume.segy_headers import (
    FILE_FIELDS,
    FILE_HEADER_BYTES,
    LONG_INTERVAL_BYTE,
    TRACE_HEADER_BYTES,
    revision_of,
)

# Of a longer interval than 1000 s, or a shorter one than a picosecond, nobody makes a trace.
_SHORTEST_INTERVAL_US, _LONGEST_INTERVAL_US = 1e-6, 1e9
_MARKS: dict[bytes, Order] = {b"\1\2\3\4": "big", b"\4\3\2\1": "little"}
_PAIRWISE_MARKS = (b"\2\1\4\3", b"\3\4\1\2")


@dataclass(frozen=True)
class Layout:
    """How the bytes of a file are to be read.

    Args:
        first_trace: bytes before the first trace.
        num_more_headers: headers of 240 bytes that follow the first of each trace.
        warnings: what was guessed or is odd, with the reason.
    """

    order: Order
    stored: SampleFormat
    revision: tuple[int, int]
    num_samples: int
    interval_us: float
    first_trace: int
    num_more_headers: int
    num_traces: int
    warnings: tuple[str, ...]


def find_layout(file: BinaryIO, *, size: int, where: str, asked: Asked) -> Layout:
    """The layout of an open file of `size` bytes, after all that its headers say was held against its length.

    Raises:
        InputError: with every fault that was found, each with what to do.

    Source: SEG-Y revisions 0 (1975), 1 (2002), 2.0 (2017).
    """
    header = file.read(FILE_HEADER_BYTES)
    raise_if_any(Fault(where, what) for what in _faults_of_size(header, size))
    raise_if_any(Fault(where, what) for what in _faults_of_asked(asked))
    order, warnings = _find_order(header, asked)
    if order is None:
        what = "its words are swapped in pairs (byte 3297), which is not read; write it anew as big-endian"
        raise InputError.of(where, f"{what}, or give --order if the mark is wrong")
    revision = revision_of(header)
    if revision[0] > 2:
        warnings.append(f"says to follow revision {revision[0]}.{revision[1]}, which is unknown; read as revision 1")
        revision = (1, 0)
    source = Source(file, size, header, order, revision, warnings=warnings)
    stored = _find_format(source, asked)
    fit = find_fit(source, stored, asked) if stored else None
    interval_us = _find_interval(source, asked, first_trace=fit.first_trace if fit else FILE_HEADER_BYTES)
    raise_if_any(Fault(where, what) for what in source.faults)
    assert stored is not None
    assert fit is not None
    return Layout(
        order=order,
        stored=stored,
        revision=revision,
        num_samples=fit.num_samples,
        interval_us=interval_us,
        first_trace=fit.first_trace,
        num_more_headers=fit.num_more_headers,
        num_traces=fit.num_traces,
        warnings=tuple(source.warnings),
    )


def _faults_of_size(header: bytes, size: int) -> Iterator[str]:
    headers = f"{FILE_HEADER_BYTES} bytes of headers"
    if size == 0:
        yield f"expected a SEG-Y file, found an empty one; {TRANSFER_AGAIN}"
    # The storage label's version stands behind its sequence number.
    elif header[4:8] in (b"SY1.", b"SY2."):
        yield "begins with a tape label of 128 bytes, which is not read; cut it off with `tail -c +129 FILE > NEW`"
    elif size < FILE_HEADER_BYTES:
        what = f"expected {headers} and then traces, found {size} bytes in all"
        yield f"{what}: it is cut off in its headers, or is no SEG-Y; {TRANSFER_AGAIN}"
    elif size <= FILE_HEADER_BYTES + TRACE_HEADER_BYTES:
        found = f"found {size - FILE_HEADER_BYTES} bytes"
        yield f"expected traces behind the {headers}, {found}: no whole trace; {TRANSFER_AGAIN}"


def _faults_of_asked(asked: Asked) -> Iterator[str]:
    if asked.num_samples is not None and asked.num_samples < 1:
        yield f"--samples: expected a whole number of 1 or more, found {asked.num_samples}"
    if asked.interval_us is not None and not _SHORTEST_INTERVAL_US <= asked.interval_us <= _LONGEST_INTERVAL_US:
        yield f"--interval-us: expected microseconds from 1e-6 to 1e9, found {asked.interval_us:g}"


def _find_order(header: bytes, asked: Asked) -> tuple[Order | None, list[str]]:
    """The order of bytes, None for the one that is not read, and warnings."""
    if asked.order:
        return asked.order, []
    mark = header[FILE_FIELDS["order_mark"].byte - 1 :][:4]
    if mark in _PAIRWISE_MARKS:
        return None, []
    orders: tuple[Order, Order] = ("big", "little")
    codes = {order: FILE_FIELDS["format"].read(header, order) for order in orders}
    known = [order for order in orders if codes[order] in FORMATS_BY_CODE or codes[order] == FIXED_POINT_WITH_GAIN]
    if mark in _MARKS:
        return _MARKS[mark], []
    if known == ["big"]:
        return "big", []
    if known:
        return "little", [
            f"read as little-endian: only so is the format code (byte 3225) a known one, {codes['little']}"
        ]
    sizes = {
        order: FILE_FIELDS["num_samples"].read(header, order) + abs(FILE_FIELDS["interval_us"].read(header, order))
        for order in orders
    }
    guess: Order = "little" if 0 < sizes["little"] < sizes["big"] else "big"
    why = "the format code fits neither order; so the samples and the interval are smaller numbers"
    return guess, [f"read as {guess}-endian, a guess: {why}; --order says otherwise"]


def _find_format(source: Source, asked: Asked) -> SampleFormat | None:
    code = source.value("format")
    named = FORMATS_BY_CODE.get(code)
    if asked.format:
        chosen = FORMATS[asked.format]
        if code != chosen.code:
            said = f"{code} ({named.name})" if named else f"{code}"
            source.warnings.append(f"read as {chosen.name}, as asked; its format code (byte 3225) is {said}")
        return chosen
    if named:
        return named
    known = ", ".join(f"{found.code} {found.name}" for found in FORMATS.values())
    if code == FIXED_POINT_WITH_GAIN:
        what = "expected a sample format that is read, found code 4 (byte 3225), fixed point with gain"
        source.faults.append(f"{what}; convert it to IEEE floats, or give --format if that is wrong ({known})")
    else:
        what = f"expected a known format code (byte 3225: {known}), found {code} as {source.order}-endian"
        source.faults.append(f"{what}; give --format {'|'.join(FORMAT_NAMES)}, or --order")
    return None


def _find_interval(source: Source, asked: Asked, *, first_trace: int) -> float:
    """The sample interval in microseconds; not a number where there is none, which is then a fault."""
    if asked.interval_us is not None:
        return asked.interval_us
    in_file = float(source.value("interval_us"))
    if source.revision[0] >= 2:
        raw = source.header[LONG_INTERVAL_BYTE - 1 :][:8]
        long = float(struct.unpack(">d" if source.order == "big" else "<d", raw)[0])
        if _SHORTEST_INTERVAL_US <= long <= _LONGEST_INTERVAL_US:
            in_file = long
    in_trace = source.trace_value("interval_us", start=first_trace)
    if in_file > 0:
        if in_trace not in (0, in_file):
            source.warnings.append(
                f"the binary header gives an interval of {in_file:g} us, the first trace header {in_trace} (byte 117); "
                f"the first is taken, --interval-us says otherwise"
            )
        return in_file
    if in_trace > 0:
        source.warnings.append(
            f"the interval is the first trace header's, {in_trace} us (byte 117): the binary header says {in_file:g}"
        )
        return float(in_trace)
    found = f"found {in_file:g} in the binary header (byte 3217) and {in_trace} in the first trace header (byte 117)"
    source.faults.append(f"expected a sample interval above 0, {found}; give it in microseconds with --interval-us")
    return math.nan
