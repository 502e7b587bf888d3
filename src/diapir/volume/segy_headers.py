"""Headers of SEG-Y: where their named fields lie, how text is read, and headers for files made from nothing."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diapir.volume.segy_format import Order, SampleFormat

TEXT_BYTES, BINARY_BYTES, TRACE_HEADER_BYTES = 3200, 400, 240
FILE_HEADER_BYTES = TEXT_BYTES + BINARY_BYTES
MOST_SAMPLES_BY_2_BYTES = 65535
END_OF_TEXT = "((SEG: EndText))"

Encoding = Literal["EBCDIC", "ASCII", "unknown"]
_CODECS = {"EBCDIC": "cp037", "ASCII": "latin-1"}
# Letters, digits and punctuation of headers, without @, which is what blanks of EBCDIC are in ASCII.
_USUAL = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,:;-_=+*/\\()[]<>\"'#%&!?|~^\r\n\t\0"
)
# Real headers hold a few odd characters, such as brackets of another code page.
_LEAST_USUAL = 0.85
_LINE = 80
_ORDER_MARK = 0x01020304


@dataclass(frozen=True)
class Field:
    """A whole number in a header.

    Args:
        byte: its first byte, from 1 on as in the standard; for a file's fields from the beginning of the file.
        size: bytes.
        is_signed: whether it is two's complement.
    """

    byte: int
    size: int
    is_signed: bool = True

    def type(self, order: Order) -> np.dtype[np.integer]:
        """How NumPy reads it."""
        return np.dtype(f"{'>' if order == 'big' else '<'}{'i' if self.is_signed else 'u'}{self.size}")

    def read(self, header: bytes, order: Order) -> int:
        """Its value in a header that holds it."""
        return int.from_bytes(header[self.byte - 1 : self.byte - 1 + self.size], order, signed=self.is_signed)

    def write(self, header: bytearray, value: int, order: Order) -> None:
        """Put a value in its place."""
        header[self.byte - 1 : self.byte - 1 + self.size] = value.to_bytes(self.size, order, signed=self.is_signed)


FILE_FIELDS: Mapping[str, Field] = {
    "traces_an_ensemble": Field(3213, 2),
    "interval_us": Field(3217, 2),
    "num_samples": Field(3221, 2, is_signed=False),
    "format": Field(3225, 2),
    "fold": Field(3227, 2),
    "sorting": Field(3229, 2),
    "measurement_system": Field(3255, 2),
    "long_num_samples": Field(3269, 4),
    "order_mark": Field(3297, 4, is_signed=False),
    "fixed_length": Field(3503, 2),
    "num_more_texts": Field(3505, 2),
    "num_more_headers": Field(3507, 4),
    "num_traces": Field(3513, 8, is_signed=False),
    "first_trace": Field(3521, 8, is_signed=False),
    "num_trailers": Field(3529, 4),
}
"""Fields of the binary header. Source: SEG-Y revision 2.0, table 2."""
LONG_INTERVAL_BYTE = 3273
"""Where revision 2 keeps the sample interval as a float64."""

TRACE_FIELDS: Mapping[str, Field] = {
    "trace_in_line": Field(1, 4),
    "trace_in_file": Field(5, 4),
    "field_record": Field(9, 4),
    "trace_in_record": Field(13, 4),
    "source_point": Field(17, 4),
    "cdp": Field(21, 4),
    "trace_in_cdp": Field(25, 4),
    "kind": Field(29, 2),
    "offset": Field(37, 4),
    "coordinate_scalar": Field(71, 2),
    "source_x": Field(73, 4),
    "source_y": Field(77, 4),
    "coordinate_unit": Field(89, 2),
    "delay_ms": Field(109, 2),
    "num_samples": Field(115, 2, is_signed=False),
    "interval_us": Field(117, 2),
    "cdp_x": Field(181, 4),
    "cdp_y": Field(185, 4),
    "inline": Field(189, 4),
    "crossline": Field(193, 4),
    "shot_point": Field(197, 4),
    "time_scalar": Field(215, 2),
}
"""Fields of the trace header. Source: SEG-Y revision 1 and 2.0, table 3."""
MOST_PARTS = 2**31 - 1
"""What a coordinate's four bytes hold."""
LIVE, DEAD, DUMMY = 1, 2, 3
"""Kinds of trace, at byte 29 of their header."""


@dataclass(frozen=True)
class Text:
    """A textual header as a person reads it.

    Args:
        lines: of up to 80 characters, without blanks at their ends; characters that cannot be shown are dots.
        encoding: the code that it was read in; of an unknown one the more readable of both.
    """

    lines: tuple[str, ...]
    encoding: Encoding


def read_text(raw: bytes) -> Text:
    """The lines of textual headers, in EBCDIC (code page 37) or ASCII, whichever makes sense of them.

    Source: SEG-Y revision 0, textual header; revision 1, section 4.
    """
    if not raw.strip(b"\0 \x40"):
        return Text((), "EBCDIC" if raw[:1] == b"\x40" else "ASCII")
    shares = {name: _usual_share(raw.decode(codec)) for name, codec in _CODECS.items()}
    best: Encoding = "EBCDIC" if shares["EBCDIC"] >= shares["ASCII"] else "ASCII"
    text = raw.decode(_CODECS[best])
    shown = "".join(char if char.isprintable() else " " if char in "\0\r\n\t" else "." for char in text)
    lines = [shown[start : start + _LINE].rstrip() for start in range(0, len(shown), _LINE)]
    while lines and not lines[-1]:
        lines.pop()
    return Text(tuple(lines), best if shares[best] >= _LEAST_USUAL else "unknown")


def _usual_share(text: str) -> float:
    return sum(char in _USUAL for char in text) / len(text)


def is_end_of_text(raw: bytes) -> bool:
    """Whether a record of extended text is the stanza that ends them. Source: SEG-Y revision 1, section 6.1."""
    wanted = END_OF_TEXT.replace(" ", "").lower()
    return any(raw[:_LINE].decode(codec).replace(" ", "").lower().startswith(wanted) for codec in _CODECS.values())


def revision_of(header: bytes) -> tuple[int, int]:
    """Major and minor revision of the standard that a file of 3600 bytes or more says to follow."""
    major, minor = header[3500], header[3501]
    # Little-endian files of revision 1 hold both as one swapped number; some big-endian ones hold a plain 1.
    if major == 0 and minor in (1, 2):
        return (minor, 0)
    return (major, minor)


def new_file_header(
    *,
    num_samples: int,
    interval_us: float,
    stored: SampleFormat,
    order: Order = "big",
    lines: Sequence[str] = (),
) -> bytes:
    """The 3600 bytes before the first trace of a new file, of revision 1, or 2 where 1 cannot say all of it.

    Args:
        lines: of the textual header, up to 38 of 76 characters; `C 1` and so on are put before them.

    Source: SEG-Y revision 1 (2002) and 2.0 (2017), textual and binary header.
    """
    assert len(lines) <= 38
    assert all(len(line) <= _LINE - 4 for line in lines)
    is_short = num_samples < 2**15 and interval_us == int(interval_us) < 2**15
    revision = 1 if is_short and stored.revision < 2 and order == "big" else 2
    all_lines = [*lines, *[""] * (38 - len(lines)), f"SEG Y REV{revision}", "END TEXTUAL HEADER"]
    text = "".join(f"C{number:2d} {line}".ljust(_LINE) for number, line in enumerate(all_lines, 1))
    header = bytearray(text.encode("cp037", errors="replace") + bytes(BINARY_BYTES))
    values = {
        "traces_an_ensemble": 1,
        "interval_us": int(interval_us) if 1 <= interval_us < 2**15 else 0,
        "num_samples": num_samples if num_samples <= MOST_SAMPLES_BY_2_BYTES else 0,
        "format": stored.code,
        "fold": 1,
        "sorting": 4,  # stacked
        "measurement_system": 1,  # metres
        "fixed_length": 1,
    }
    if revision == 2:
        values |= {"long_num_samples": num_samples, "order_mark": _ORDER_MARK}
        place = LONG_INTERVAL_BYTE - 1
        header[place : place + 8] = struct.pack(">d" if order == "big" else "<d", interval_us)
    for name, value in values.items():
        FILE_FIELDS[name].write(header, value, order)
    header[3500] = revision
    return bytes(header)


def new_trace_headers(
    *,
    inline: NDArray[np.int64],
    crossline: NDArray[np.int64],
    cdp_x: NDArray[np.float64],
    cdp_y: NDArray[np.float64],
    num_samples: int,
    interval_us: float,
    order: Order = "big",
    first_row: int = 0,
    kind: int = LIVE,
    parts: int = 100,
) -> NDArray[np.uint8]:
    """Headers of new traces, uint8 (n, 240); coordinates are kept to the centimetre, or as `parts` says.

    Args:
        inline, crossline, cdp_x, cdp_y: (n,); coordinates in metres, up to MOST_PARTS / `parts`.
        parts: of a metre, that coordinates are counted in: 100, 10 or 1.
        first_row: how many traces of the file are before these.

    Source: SEG-Y revision 1, table 3.
    """
    rows = np.arange(first_row, first_row + len(inline))
    counted = [np.rint(parts * values).astype(np.int64) for values in (cdp_x, cdp_y)]
    values: dict[str, NDArray[np.int64] | int] = {
        "trace_in_line": rows + 1,
        "trace_in_file": rows + 1,
        "field_record": inline,
        "cdp": crossline,
        "kind": kind,
        "coordinate_scalar": -parts if parts > 1 else 1,
        "coordinate_unit": 1,  # lengths
        "num_samples": num_samples if num_samples <= MOST_SAMPLES_BY_2_BYTES else 0,
        "interval_us": int(interval_us) if interval_us == int(interval_us) < 2**15 else 0,
        "cdp_x": counted[0],
        "cdp_y": counted[1],
        "inline": inline,
        "crossline": crossline,
    }
    headers = np.zeros((len(rows), TRACE_HEADER_BYTES), np.uint8)
    for name, value in values.items():
        put_field(headers, TRACE_FIELDS[name], value, order=order)
    return headers


def put_field(headers: NDArray[np.uint8], field: Field, values: NDArray[np.int64] | int, *, order: Order) -> None:
    """Put a value into each of many headers, uint8 (n, 240), in place."""
    limits = np.iinfo(field.type(order))
    assert np.all((limits.min <= np.asarray(values)) & (np.asarray(values) <= limits.max)), "fits its bytes"
    column = np.broadcast_to(np.asarray(values), len(headers)).astype(field.type(order))
    headers[:, field.byte - 1 : field.byte - 1 + field.size] = column.view(np.uint8).reshape(-1, field.size)
