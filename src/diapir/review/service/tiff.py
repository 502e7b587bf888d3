"""One grey TIFF, decoded only after its directory was held against the file's length.

Source: TIFF revision 6.0 (1992), sections 2 to 4, 8, 9, 13, 14, 19.
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diapir.review.service.limits import is_taken

Order = Literal["<", ">"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _FILL, _OFFSETS = 256, 257, 258, 259, 262, 266, 273
_CHANNELS, _ROWS, _COUNTS, _PREDICTOR, _TILE_WIDTH, _SAMPLE_FORMAT = 277, 278, 279, 317, 322, 339
_DEFAULTS = {_BITS: 1, _COMPRESSION: 1, _FILL: 1, _CHANNELS: 1, _ROWS: 2**32 - 1, _PREDICTOR: 1, _SAMPLE_FORMAT: 1}
_BYTE, _SHORT, _LONG = 1, 3, 4
_SIZES = {_BYTE: 1, _SHORT: 2, _LONG: 4}
_PLAIN, _LZW, _DEFLATE, _OLD_DEFLATE, _PACK_BITS = 1, 5, 8, 32946, 32773
_MOST_STRIPS = 65_536  # of which each takes some hundred bytes; writers make far fewer
_NAMES = {_PLAIN: "none", _LZW: "LZW", _DEFLATE: "Deflate", _OLD_DEFLATE: "Deflate", _PACK_BITS: "PackBits"}
_KINDS = {(8, 1): "u1", (16, 1): "u2", (16, 2): "i2", (32, 2): "i4", (32, 3): "f4"}
"""Types by bits and sample format: 1 for whole numbers without sign, 2 with, 3 for floats."""


@dataclass(frozen=True)
class Directory:
    """What a TIFF says of its first image, as far as it can be true.

    Args:
        strips: first byte and number of bytes of each.
        rows: of each strip but the last.
    """

    order: Order
    height: int
    width: int
    kind: np.dtype[Any]
    compression: int
    predictor: int
    rows: int
    strips: tuple[tuple[int, int], ...]

    @property
    def row_bytes(self) -> int:
        """Of a decoded row."""
        return self.width * self.kind.itemsize


def read_directory(content: bytes, *, most_pixels: int) -> Directory:
    """The directory of a TIFF with one grey channel in strips.

    Args:
        most_pixels: of a larger image, as `is_taken` has it, the strips are not read.

    Raises:
        ValueError: it is no such TIFF, or what it says cannot be.
    """
    order, tags = _read_tags(content)
    # First, for other images have a number of bits for each channel, and no single one.
    if (channels := _number(content, tags, _CHANNELS, order)) != 1:
        raise ValueError(f"expected one grey channel, found {channels}; save it as grey TIFF without compression")
    one = {tag: _number(content, tags, tag, order) for tag in (_WIDTH, _HEIGHT, *_DEFAULTS, _COLOURS)}
    _require_plain(one, tags)
    bits, sample_format = one[_BITS], one[_SAMPLE_FORMAT]
    kind = np.dtype(order + _KINDS[bits, sample_format])
    rows = max(min(one[_ROWS], one[_HEIGHT]), 1)
    strips: tuple[tuple[int, int], ...] = ()
    if is_taken((one[_HEIGHT], one[_WIDTH]), most_pixels=most_pixels):
        count = -(-one[_HEIGHT] // rows)
        if count > _MOST_STRIPS:
            raise ValueError(f"expected at most {_MOST_STRIPS} strips, found {count}; save it with more rows in each")
        offsets, sizes = (_numbers(content, tags, tag, order, count=count) for tag in (_OFFSETS, _COUNTS))
        strips = tuple(zip(offsets, sizes, strict=True))
        # Together, for many strips might name the same bytes.
        if any(offset + size > len(content) for offset, size in strips) or sum(sizes) > len(content):
            raise ValueError("is cut off, or its strips lie where there are no bytes; save it again")
    return Directory(
        order, one[_HEIGHT], one[_WIDTH], kind, compression=one[_COMPRESSION], predictor=one[_PREDICTOR], rows=rows,
        strips=strips,
    )  # fmt: skip


def read_pixels(content: bytes, directory: Directory) -> NDArray[Any]:
    """The pixels: (height, width), in the type of the file.

    Raises:
        ValueError: the strips are damaged, or do not hold as many rows as they should.
    """
    parts = [content[offset : offset + size] for offset, size in directory.strips]
    if directory.compression != _PLAIN:
        return _unpacked(parts, directory)
    expected = [min(directory.rows, directory.height - start) for start in range(0, directory.height, directory.rows)]
    if [len(part) for part in parts] != [rows * directory.row_bytes for rows in expected]:
        raise ValueError("is damaged: its strips do not hold the rows that they should; save it again")
    return np.frombuffer(b"".join(parts), directory.kind).reshape(directory.height, directory.width)


def _read_tags(content: bytes) -> tuple[Order, dict[int, tuple[int, int, int]]]:
    """The order of bytes; and type, number of values and place of the value field by tag."""
    order: Order = "<" if content[:2] == b"II" else ">"
    if len(content) < 8 or content[:2] not in (b"II", b"MM"):
        raise ValueError("expected a TIFF, found too few bytes; save it again")
    version, place = struct.unpack_from(f"{order}HI", content, 2)
    if version != 42:
        found = "a BigTIFF" if version == 43 else f"version {version}"
        raise ValueError(f"expected a TIFF of version 42, found {found}; save it as plain TIFF")
    if place + 2 > len(content):
        raise ValueError("is cut off: its directory lies behind its end; save it again")
    (count,) = struct.unpack_from(f"{order}H", content, place)
    if place + 2 + 12 * count > len(content):
        raise ValueError("is cut off: its directory goes past its end; save it again")
    tags = {}
    for number in range(count):
        entry = place + 2 + 12 * number
        tag, kind, amount = struct.unpack_from(f"{order}HHI", content, entry)
        tags[tag] = (kind, amount, entry + 8)
    behind = place + 2 + 12 * count
    if any(content[behind : behind + 4]):
        raise ValueError("expected one page, found another behind it; save each by itself")
    return order, tags


def _number(content: bytes, tags: Mapping[int, tuple[int, int, int]], tag: int, order: Order) -> int:
    if tag not in tags and tag in _DEFAULTS:
        return _DEFAULTS[tag]
    return _numbers(content, tags, tag, order, count=1)[0]


def _numbers(
    content: bytes, tags: Mapping[int, tuple[int, int, int]], tag: int, order: Order, *, count: int
) -> tuple[int, ...]:
    """The values of a tag, which must be so many; a tag that is to have one may be absent nowhere here."""
    kind, amount, place = tags.get(tag, (0, 0, 0))
    if kind not in _SIZES or amount != count:
        raise ValueError(
            f"expected {count} whole numbers in its tag {tag}, found {amount} of type {kind}; save it again"
        )
    size = _SIZES[kind] * count
    if size > 4:
        (place,) = struct.unpack_from(f"{order}I", content, place)
    if place + size > len(content):
        raise ValueError(f"is cut off: its tag {tag} points behind its end; save it again")
    letter = {_BYTE: "B", _SHORT: "H", _LONG: "I"}[kind]
    return struct.unpack_from(f"{order}{count}{letter}", content, place)


def _require_plain(one: Mapping[int, int], tags: Mapping[int, Any]) -> None:
    """Refuse what is no grey image in strips, with every reason."""
    faults = []
    if one[_WIDTH] < 1 or one[_HEIGHT] < 1:
        faults.append(f"expected pixels, found {one[_WIDTH]} x {one[_HEIGHT]}")
    if one[_COLOURS] != 1:
        faults.append(f"expected one grey channel, 0 for black, found one of kind {one[_COLOURS]}")
    if (one[_BITS], one[_SAMPLE_FORMAT]) not in _KINDS:
        faults.append(
            f"expected numbers of 8 or 16 bits, or 32 with sign or as floats, found {one[_BITS]} bits of format "
            f"{one[_SAMPLE_FORMAT]}"
        )
    if one[_COMPRESSION] not in _NAMES:
        faults.append(f"expected no compression, LZW, Deflate or PackBits, found number {one[_COMPRESSION]}")
    if one[_PREDICTOR] not in (1, 2) or one[_FILL] != 1:
        faults.append(f"expected predictor 1 or 2 and bit order 1, found {one[_PREDICTOR]} and {one[_FILL]}")
    if _TILE_WIDTH in tags:
        faults.append("expected strips, found tiles")
    if faults:
        raise ValueError("; ".join(faults) + "; save it as grey TIFF without compression")


def _unpacked(parts: list[bytes], directory: Directory) -> NDArray[Any]:
    # Nothing but strips and what was checked goes to Pillow: other pages, tags and profiles are never opened.
    try:
        with Image.open(io.BytesIO(_rewritten(parts, directory)), formats=("TIFF",)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ValueError(f"is damaged: its pixels cannot be unpacked ({error}); save it again") from None
    if pixels.shape != (directory.height, directory.width):
        raise ValueError("is damaged: its pixels cannot be unpacked; save it again")
    return pixels.astype(directory.kind)


def _rewritten(parts: list[bytes], directory: Directory) -> bytes:
    """A TIFF of nothing but these strips."""
    sizes = [len(part) for part in parts]
    offsets = (8 + np.cumsum([0, *sizes[:-1]])).tolist()
    kind = directory.kind
    values = {
        _WIDTH: [directory.width], _HEIGHT: [directory.height], _BITS: [8 * kind.itemsize],
        _COMPRESSION: [directory.compression], _COLOURS: [1], _OFFSETS: offsets, _CHANNELS: [1],
        _ROWS: [directory.rows], _COUNTS: sizes, _PREDICTOR: [directory.predictor],
        _SAMPLE_FORMAT: [{"u": 1, "i": 2, "f": 3}[kind.kind]],
    }  # fmt: skip
    data_end = 8 + sum(sizes)
    place = data_end + 2 + 12 * len(values) + 4
    entries, behind = b"", b""
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{directory.order}{len(numbers)}I", *numbers)
        # Bits and their like are short numbers by the standard.
        is_short = tag in (_BITS, _COMPRESSION, _COLOURS, _CHANNELS, _PREDICTOR, _SAMPLE_FORMAT)
        if is_short:
            packed = struct.pack(f"{directory.order}HH", numbers[0], 0)
        if len(packed) > 4:
            behind, packed = behind + packed, struct.pack(f"{directory.order}I", place + len(behind))
        entries += struct.pack(f"{directory.order}HHI", tag, _SHORT if is_short else _LONG, len(numbers)) + packed
    head = (b"II" if directory.order == "<" else b"MM") + struct.pack(f"{directory.order}HI", 42, data_end)
    table = struct.pack(f"{directory.order}H", len(values)) + entries + struct.pack(f"{directory.order}I", 0)
    return head + b"".join(parts) + table + behind
