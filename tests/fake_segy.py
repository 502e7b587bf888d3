"""SEG-Y files packed number by number, good ones and ones that no good program writes; nothing of ours packs them."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

SIZES = {1: 4, 2: 4, 3: 2, 5: 4, 6: 8, 7: 3, 8: 1, 9: 8, 10: 4, 11: 2, 12: 8, 15: 3, 16: 1}
"""Bytes a sample, by format code."""


@dataclass(frozen=True)
class Trace:
    """One trace; `fields` are numbers by the byte and the size of their place."""

    samples: Sequence[float]
    inline: int = 0
    crossline: int = 0
    fields: Mapping[tuple[int, int], int] = field(default_factory=dict)


def ibm_word(value: float) -> int:
    """The nearest IBM float, by fractions; halves to even."""
    sign = 1 if str(value).startswith("-") else 0
    rest, power = abs(Fraction(value)), 64
    if rest == 0:
        return sign << 31
    while rest >= 1:
        rest, power = rest / 16, power + 1
    while rest < Fraction(1, 16):
        rest, power = rest * 16, power - 1
    mantissa = round(rest * 2**24)
    if mantissa == 2**24:
        mantissa, power = 2**20, power + 1
    return sign << 31 | power << 24 | mantissa


def ibm_value(word: int) -> float:
    """The number that an IBM float is, exactly."""
    value = Fraction(word & 0xFFFFFF, 2**24) * Fraction(16) ** ((word >> 24 & 0x7F) - 64)
    return -float(value) if word >> 31 else float(value)


def pack_samples(values: Sequence[float], *, code: int, order: str) -> bytes:
    """Samples one by one."""
    size = SIZES[code]
    if code in (5, 6):
        return struct.pack(f"{'>' if order == 'big' else '<'}{len(values)}{'f' if code == 5 else 'd'}", *values)
    if code == 1:
        return b"".join(ibm_word(value).to_bytes(4, "big" if order == "big" else "little") for value in values)
    is_signed = code in (2, 3, 7, 8, 9)
    return b"".join(
        round(value).to_bytes(size, "big" if order == "big" else "little", signed=is_signed) for value in values
    )


def put(target: bytearray, place: tuple[int, int], value: int, *, order: str) -> None:
    """A number into its byte, from 1 on, as two's complement or not, whichever holds it."""
    byte, size = place
    target[byte - 1 : byte - 1 + size] = (value % 256**size).to_bytes(size, "big" if order == "big" else "little")


def fake_segy(
    traces: Sequence[Trace],
    *,
    code: int = 5,
    order: str = "big",
    revision: tuple[int, int] = (1, 0),
    num_samples: int | None = None,
    interval_us: int = 4000,
    text: bytes | None = None,
    more_texts: Sequence[bytes] = (),
    more_headers: int = 0,
    trailer: bytes = b"",
    fields: Mapping[tuple[int, int], int] | None = None,
    packed_as: int | None = None,
) -> bytes:
    """A whole file.

    Args:
        num_samples: that the binary header says; by default the truth, as trace headers say it always.
        fields: numbers of the binary header by byte of the file and size, put last.
        packed_as: the code that samples are packed by; by default the one that the header says.
    """
    lines = "".join(f"C{number:2d} A FAKE".ljust(80) for number in range(1, 41))
    head = bytearray((lines.encode("cp037") if text is None else text) + bytes(400))
    said = len(traces[0].samples) if num_samples is None else num_samples
    numbers = {(3217, 2): interval_us, (3221, 2): said, (3225, 2): code, (3503, 2): 1, (3505, 2): len(more_texts)}
    for place, value in (numbers | dict(fields or {})).items():
        put(head, place, value, order=order)
    if (3501, 2) not in (fields or {}):
        head[3500:3502] = bytes(revision)
    parts = [bytes(head), *more_texts]
    for row, trace in enumerate(traces):
        header = bytearray(240 * (1 + more_headers))
        own = {(5, 4): row + 1, (29, 2): 1, (115, 2): len(trace.samples), (117, 2): interval_us}
        lines_ = {(189, 4): trace.inline, (193, 4): trace.crossline}
        for place, value in (own | lines_ | dict(trace.fields)).items():
            put(header, place, value, order=order)
        kind = code if packed_as is None else packed_as
        parts.append(bytes(header) + pack_samples(trace.samples, code=kind, order=order))
    return b"".join([*parts, trailer])


def grid_traces(num_inlines: int = 4, num_crosslines: int = 5, num_samples: int = 6) -> list[Trace]:
    """A regular survey whose samples tell where they are: whole numbers up to 100 that every format holds."""
    return [
        Trace(
            [(17 * inline + 5 * crossline + 3 * sample) % 101 for sample in range(num_samples)],
            inline=10 + inline,
            crossline=20 + crossline,
        )
        for inline in range(num_inlines)
        for crossline in range(num_crosslines)
    ]


def write(folder: Path, content: bytes) -> Path:
    """A file of that content."""
    path = folder / "fake.sgy"
    path.write_bytes(content)
    return path
