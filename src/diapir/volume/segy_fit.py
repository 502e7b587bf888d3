"""The reading of a SEG-Y file under which its traces end where it ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import BinaryIO

import numpy as np

from diapir.volume.segy_format import FormatName, Order, SampleFormat
from diapir.volume.segy_headers import (
    FILE_FIELDS,
    FILE_HEADER_BYTES,
    TEXT_BYTES,
    TRACE_FIELDS,
    TRACE_HEADER_BYTES,
    Field,
    is_end_of_text,
)

TRANSFER_AGAIN = "transfer the file again"
_MOST_TEXTS = 1000
_MOST_PROBES = 64
_LEAST_AGREEING = 0.9


@dataclass(frozen=True)
class Asked:
    """What a person says of a file; None where its headers are to be believed."""

    order: Order | None = None
    format: FormatName | None = None
    num_samples: int | None = None
    interval_us: float | None = None


@dataclass(frozen=True)
class Source:
    """An open file with its first 3600 bytes, the order they are read in, and what was found of it so far."""

    file: BinaryIO
    size: int
    header: bytes
    order: Order
    revision: tuple[int, int]
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def value(self, name: str) -> int:
        """A field of the binary header."""
        return FILE_FIELDS[name].read(self.header, self.order)

    def trace_value(self, name: str, *, start: int) -> int:
        """A field of the trace header that begins at byte `start` of the file; 0 beyond its end."""
        wanted = TRACE_FIELDS[name]
        self.file.seek(start + wanted.byte - 1)
        raw = self.file.read(wanted.size)
        return int.from_bytes(raw, self.order, signed=wanted.is_signed) if len(raw) == wanted.size else 0


@dataclass(frozen=True)
class Fit:
    """One reading of a file under which its traces end where it ends."""

    first_trace: int
    num_more_headers: int
    num_samples: int
    num_traces: int
    stride: int


def find_fit(source: Source, stored: SampleFormat, asked: Asked) -> Fit | None:
    """The reading under which the traces end where the file ends; the headers' own before any other."""
    starts, more_headers = _starts(source), _numbers_of_more_headers(source)
    readings = [
        (start, more, count)
        for start, more in product(starts, more_headers)
        for count in _counts_of_samples(source, asked, start=start)
    ]
    declared = readings[0] if readings else None
    doubtful = None
    for reading in readings:
        fit = _fit(source, stored, reading)
        if fit is None:
            continue
        if _agreeing_share(source, fit) >= _LEAST_AGREEING:
            source.warnings.extend(_warnings_of_fit(source, fit, declared, asked))
            return fit
        # What the headers say needs no further witness; what we guess does.
        doubtful = doubtful or (fit if reading == declared else None)
    if doubtful:
        what = "trace headers give different numbers of samples (byte 115)"
        source.warnings.append(f"{what}; all are read as {doubtful.num_samples}, with which the file's length agrees")
        source.warnings.extend(_warnings_of_fit(source, doubtful, declared, asked))
        return doubtful
    source.faults.append(_fault_of_no_fit(source, stored, declared))
    return None


def _starts(source: Source) -> list[int]:
    """Where the first trace may begin, the likeliest first."""
    starts = []
    more = source.value("num_more_texts")
    if source.revision[0] >= 2:
        starts.append(source.value("first_trace"))
    if more > 0:
        starts.append(FILE_HEADER_BYTES + TEXT_BYTES * more)
    elif more == -1 and source.revision[0] >= 1:
        starts.append(_end_of_texts(source))
    # Before revision 1 the field had no meaning.
    starts = [FILE_HEADER_BYTES, *starts] if source.revision[0] == 0 else [*starts, FILE_HEADER_BYTES]
    # More text than the field can announce is no text; it would be read as a whole.
    end = min(source.size, FILE_HEADER_BYTES + TEXT_BYTES * 2**15)
    return list(dict.fromkeys(start for start in starts if FILE_HEADER_BYTES <= start < end)) or [FILE_HEADER_BYTES]


def _end_of_texts(source: Source) -> int:
    """Where the extended text ends whose number of records is not known; 0 where no end is marked."""
    for number in range(_MOST_TEXTS):
        start = FILE_HEADER_BYTES + TEXT_BYTES * number
        source.file.seek(start)
        raw = source.file.read(TEXT_BYTES)
        if len(raw) < TEXT_BYTES:
            break
        if is_end_of_text(raw):
            return start + TEXT_BYTES
    return 0


def _numbers_of_more_headers(source: Source) -> list[int]:
    if source.revision[0] < 2:
        return [0]
    long = source.value("num_more_headers")
    # Revision 2.1 took half of the four bytes for something else.
    short = Field(FILE_FIELDS["num_more_headers"].byte, 2).read(source.header, source.order)
    likely = [long, short] if source.revision[1] == 0 else [short, long]
    return list(dict.fromkeys(number for number in (*likely, 0) if 0 <= TRACE_HEADER_BYTES * number < source.size))


def _counts_of_samples(source: Source, asked: Asked, *, start: int) -> list[int]:
    """Numbers of samples a trace that the headers give, the likeliest first."""
    if asked.num_samples is not None:
        return [asked.num_samples]
    counts = [source.value("num_samples"), source.trace_value("num_samples", start=start)]
    if source.revision[0] >= 2:
        counts.insert(0, source.value("long_num_samples"))
    return list(dict.fromkeys(count for count in counts if count > 0))


def _fit(source: Source, stored: SampleFormat, reading: tuple[int, int, int]) -> Fit | None:
    start, more, num_samples = reading
    stride = TRACE_HEADER_BYTES * (1 + more) + num_samples * stored.size
    body = source.size - start
    counts = [body // stride] if body % stride == 0 else []
    if source.revision[0] >= 2:
        said, trailers = source.value("num_traces"), source.value("num_trailers")
        # A number of traces alone may lie: it is believed where a trailer is announced, or nothing else fits.
        counts = [said, *counts] if trailers == -1 else [*counts, said]
        behind = body - TEXT_BYTES * trailers
        counts = [behind // stride, *counts] if trailers > 0 and behind % stride == 0 else counts
    fitting = [count for count in counts if 0 < count * stride <= body]
    return Fit(start, more, num_samples, fitting[0], stride) if fitting else None


def _agreeing_share(source: Source, fit: Fit) -> float:
    """How many of some traces over the whole file have headers with the first one's number of samples."""
    rows = np.unique(np.linspace(0, fit.num_traces - 1, _MOST_PROBES).astype(np.int64))
    starts = [fit.first_trace + int(row) * fit.stride for row in rows]
    counts = [source.trace_value("num_samples", start=start) for start in starts]
    return sum(count == counts[0] for count in counts) / len(counts)


def _warnings_of_fit(source: Source, fit: Fit, declared: tuple[int, int, int] | None, asked: Asked) -> Iterator[str]:
    assert declared is not None
    start, more, _ = declared
    why = "only so do the traces end where the file ends"
    said = source.value("num_samples")
    if source.revision[0] >= 2 and source.value("long_num_samples") > 0:
        said = source.value("long_num_samples")
    in_trace = source.trace_value("num_samples", start=fit.first_trace)
    if asked.num_samples is None and fit.num_samples != said:
        yield (
            f"read with {fit.num_samples} samples a trace, as the first trace header says: {why}; the binary header "
            f"says {said}"
        )
    elif in_trace not in (0, fit.num_samples):
        yield f"the first trace header (byte 115) says {in_trace} samples, the file's length {fit.num_samples}"
    if fit.first_trace != start or fit.num_more_headers != more:
        yield (
            f"read with the first trace at byte {fit.first_trace} and {fit.num_more_headers} more headers a trace: "
            f"{why}; its headers say {start} and {more}"
        )
    more_texts = source.value("num_more_texts")
    if source.revision[0] >= 1 and more_texts and fit.first_trace == start == FILE_HEADER_BYTES:
        yield f"says to have {more_texts} extended text headers (byte 3505), but the first trace follows at once"
    if source.revision[0] >= 2 and source.value("num_traces") not in (0, fit.num_traces):
        yield f"says to hold {source.value('num_traces')} traces (byte 3513), and holds {fit.num_traces}"
    rest = source.size - fit.first_trace - fit.num_traces * fit.stride
    if rest % TEXT_BYTES:
        yield f"{rest} bytes follow the last trace, no whole records of {TEXT_BYTES}; they are kept as they are"


def _fault_of_no_fit(source: Source, stored: SampleFormat, declared: tuple[int, int, int] | None) -> str:
    if declared is None:
        found = "found 0 in the binary header (byte 3221) and in the first trace header (byte 115)"
        return f"expected a number of samples a trace, {found}; give it with --samples"
    start, more, num_samples = declared
    stride = TRACE_HEADER_BYTES * (1 + more) + num_samples * stored.size
    whole, rest = divmod(source.size - start, stride)
    lengths = _lengths_of_traces(source, stored, start=start, header_bytes=TRACE_HEADER_BYTES * (1 + more))
    if len(set(lengths)) > 1:
        found = f"found traces of {min(lengths)} to {max(lengths)}"
        return f"expected as many samples in each trace, {found}, which is not read; cut or pad them to one length"
    traces = f"expected traces of {num_samples} samples ({stride} bytes of {stored.name})"
    in_trace = source.trace_value("num_samples", start=start)
    other = f"; the first trace header says {in_trace}" if in_trace not in (0, num_samples) else ""
    varying = f", its traces do not all have {more} more headers (byte 3507), which is not read" if more else ""
    keep = f", or keep its whole traces with `head -c {start + whole * stride} FILE > NEW`" if whole else ""
    return (
        f"{traces}, found {whole} whole ones and {rest} bytes more{other}: it is cut off in trace {whole + 1}{varying},"
        f" or these numbers are wrong; {TRANSFER_AGAIN}, or give --samples or --format{keep}"
    )


def _lengths_of_traces(source: Source, stored: SampleFormat, *, start: int, header_bytes: int) -> Sequence[int]:
    """The numbers of samples of traces that each say their own and so end where the file ends; none otherwise."""
    lengths: list[int] = []
    # So many steps take a tenth of a second.
    while start < source.size and len(lengths) < 50_000:
        lengths.append(source.trace_value("num_samples", start=start))
        start += header_bytes + lengths[-1] * stored.size
    return lengths if start == source.size and lengths[-1] > 0 else ()
