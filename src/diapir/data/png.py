"""One PNG of a tile, of a mask or of a labelled section, decoded only after its header and checksums hold."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diapir.data.tiles import TILE
from diapir.faults import Fault, InputError, raise_if_any

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_GREY, _RGB, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 4, 6
_COLOURS = {_GREY: "grey", _RGB: "RGB", 3: "a palette", _GREY_ALPHA: "grey with alpha", _RGB_ALPHA: "RGB with alpha"}
_CHANNELS = {_GREY: 1, _RGB: 3, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_OPAQUE = 255
_MOST_VALUES_SHOWN = 5
_CUT_OFF = "is cut off"
_TAKE_AGAIN = "take another copy of it"


@dataclass(frozen=True)
class _Header:
    """What a PNG says of itself before any pixel. Source: PNG specification, third edition, section 11.2.1."""

    width: int
    height: int
    bits: int
    colour: int
    compression: int
    filtering: int
    interlace: int


def image_size(content: bytes, *, where: str) -> tuple[int, int]:
    """Height and width that a PNG says it has; nothing is decoded.

    Raises:
        InputError: it has no header, or none whose checksum holds.
    """
    try:
        header = _read_header(content)
    except ValueError as error:
        raise InputError.of(where, str(error)) from None
    return header.height, header.width


def decode_image(content: bytes, *, where: str, height: int = TILE, width: int = TILE) -> NDArray[np.uint8]:
    """The pixels of an 8-bit PNG, grey or RGB with equal channels: uint8 (height, width).

    Args:
        content: the whole file.
        where: the file, for messages.

    Raises:
        InputError: the file is damaged, or is no such PNG; nothing was decoded then, whatever size it claims.
    """
    pixels = _decode(content, where=where, size=(height, width), depths=(8,))[..., 0]
    return pixels.astype(np.uint8)


def decode_mask(content: bytes, *, where: str, height: int = TILE, width: int = TILE) -> NDArray[np.uint8]:
    """The mask of an 8- or 16-bit grey PNG with the values 0 and 255 or 65535: uint8 (height, width), 1 for salt.

    Raises:
        InputError: the file is damaged, is no such PNG, or holds other values.
    """
    pixels = _decode(content, where=where, size=(height, width), depths=(8, 16))[..., 0]
    full = 255 if pixels.dtype == np.uint8 else 65535
    is_salt: NDArray[np.bool_] = pixels == full
    others = np.unique(pixels[~is_salt & (pixels != 0)])
    if len(others):
        shown = ", ".join(str(value) for value in others[:_MOST_VALUES_SHOWN])
        dots = ", ..." if len(others) > _MOST_VALUES_SHOWN else ""
        what = f"expected a mask of 0 and {full} alone, found {len(others)} more values ({shown}{dots}); "
        raise InputError.of(where, f"{what}set every pixel to 0 or {full}")
    return is_salt.astype(np.uint8)


def decode_greys(
    content: bytes, *, where: str, height: int, width: int, hint: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The greys of a PNG of 1 or 8 bits, with or without alpha, and which pixels are opaque: (height, width) both.

    Of pixels of one bit, white is 1.

    Args:
        hint: what to do about another size.

    Raises:
        InputError: the file is damaged, or is no such PNG.
    """
    colours = (_GREY, _RGB, _GREY_ALPHA, _RGB_ALPHA)
    pixels = _decode(content, where=where, size=(height, width), depths=(1, 8), colours=colours, hint=hint)
    greys = pixels[..., 0].astype(np.uint8)
    has_alpha = pixels.shape[2] == _CHANNELS[_GREY_ALPHA]
    return greys, pixels[..., 1] == _OPAQUE if has_alpha else np.ones(greys.shape, np.bool_)


def _decode(
    content: bytes,
    *,
    where: str,
    size: tuple[int, int],
    depths: Sequence[int],
    colours: Sequence[int] = (_GREY, _RGB),
    hint: str = "",
) -> Pixels:
    """Grey, and alpha where there is one: (height, width, 1 or 2)."""
    try:
        header = _read_header(content)
        faults = _header_faults(header, size=size, depths=depths, colours=colours, hint=hint)
        raise_if_any(Fault(where, what) for what in faults)
        data = _image_data(content)
        pixels = _pixels(data, header=header)
    except InputError:
        raise
    except ValueError as error:
        raise InputError.of(where, str(error)) from None
    if pixels.shape[2] < _CHANNELS[_RGB]:
        return pixels
    seen = pixels[..., :3] * (pixels[..., 3:] == _OPAQUE) if pixels.shape[2] == _CHANNELS[_RGB_ALPHA] else pixels
    if (seen != seen[..., :1]).any():
        what = "expected grey, or RGB with three equal channels, found channels that differ; save it as 8-bit grey"
        raise InputError.of(where, what)
    return pixels[..., ::3]


def _read_header(content: bytes) -> _Header:
    """The header, which comes first.

    Raises:
        ValueError: there is none.
    """
    if not content:
        raise ValueError(f"expected a PNG, found an empty file; {_TAKE_AGAIN}")
    if content[:8] != _SIGNATURE[: len(content)]:
        found = f"found a file that begins with {content[:8].decode('latin-1')!a}"
        raise ValueError(f"expected a PNG, {found}; save it as 8-bit grey PNG")
    kind, data = next(_chunks(content))
    if kind != b"IHDR" or len(data) != _HEADER.size:
        raise ValueError(f"is no PNG: it does not begin with a header (IHDR); {_TAKE_AGAIN}")
    return _Header(*_HEADER.unpack(data))


def _header_faults(
    header: _Header, *, size: tuple[int, int], depths: Sequence[int], colours: Sequence[int], hint: str
) -> Iterator[str]:
    if (header.height, header.width) != size:
        expected, found = f"{size[1]} x {size[0]}", f"{header.width} x {header.height}"
        yield f"expected {expected} pixels, found {found}; {hint or f'cut tiles of {expected} first'}"
    expected_bits = " or ".join(str(depth) for depth in depths)
    if header.colour not in colours:
        found = _COLOURS.get(header.colour, f"the unknown colour type {header.colour}")
        yield f"expected grey or RGB, found {found}; save it as 8-bit grey"
    elif header.bits not in (depths if header.colour == _GREY else (8,)):
        yield f"expected {expected_bits} bits a pixel and channel, found {header.bits}; save it as 8-bit grey"
    if header.interlace:
        yield "expected rows in order, found interlaced ones; save it without interlacing"
    if header.compression or header.filtering:
        found = f"{header.compression} and {header.filtering}"
        yield f"expected compression and filter method 0, found {found}; {_TAKE_AGAIN}"


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of every chunk up to the end, each with its checksum held.

    Raises:
        ValueError: the file ends early, goes on behind its end, or a checksum does not fit.
    """
    place = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        head = content[place : place + 8]
        if len(head) < 8:
            raise ValueError(f"{_CUT_OFF}: it ends after {len(content)} bytes without an end mark; {_TAKE_AGAIN}")
        length, kind = int.from_bytes(head[:4]), head[4:]
        end = place + 12 + length
        if end > len(content):
            missing = f"its part {_name(kind)} needs {end - len(content)} bytes more than there are"
            raise ValueError(f"{_CUT_OFF}: {missing}; {_TAKE_AGAIN}")
        if zlib.crc32(content[place + 4 : end - 4]) != int.from_bytes(content[end - 4 : end]):
            raise ValueError(f"is damaged: the checksum of its part {_name(kind)} does not fit; {_TAKE_AGAIN}")
        yield kind, content[place + 8 : end - 4]
        place = end
    if place != len(content):
        raise ValueError(f"is damaged: {len(content) - place} bytes follow its end; {_TAKE_AGAIN}")


def _image_data(content: bytes) -> bytes:
    """The compressed pixels.

    Raises:
        ValueError: the file is damaged, has transparency, or a part that must be understood and is not.
    """
    parts = []
    for number, (kind, data) in enumerate(_chunks(content)):
        if kind == b"IDAT":
            parts.append(data)
        elif kind == b"tRNS":
            raise ValueError("expected no transparency, found some (tRNS); save it as 8-bit grey without alpha")
        # A capital first letter marks what a reader must understand; a palette beside RGB is a mere suggestion.
        elif kind[:1].isupper() and kind not in (b"PLTE", b"IEND") and number:
            raise ValueError(f"is no plain PNG: it holds an unknown part {_name(kind)}; save it as 8-bit grey")
    if not parts:
        raise ValueError(f"holds no pixels (IDAT); {_TAKE_AGAIN}")
    return b"".join(parts)


def _pixels(data: bytes, *, header: _Header) -> Pixels:
    """Pixels as they are stored: (height, width, channels).

    Raises:
        ValueError: the compressed data are damaged, or are not as many as the header says.
    """
    _check_amount(data, header=header)
    plain = _SIGNATURE + _chunk(b"IHDR", content=_HEADER.pack(*vars(header).values()))
    # Nothing but header and pixels goes to Pillow: text, profiles and animations are never opened.
    plain += _chunk(b"IDAT", content=data) + _chunk(b"IEND", content=b"")
    try:
        with Image.open(io.BytesIO(plain), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise ValueError(f"is damaged: its pixels cannot be unpacked ({error}); {_TAKE_AGAIN}") from None
    pixels = pixels.reshape(header.height, header.width, _CHANNELS[header.colour])
    return pixels.astype(np.uint16) if header.bits == 16 else pixels.astype(np.uint8)


def _check_amount(data: bytes, *, header: _Header) -> None:
    """Refuse too few rows, which Pillow would make black, and too many, of which no more than needed is unpacked."""
    expected = header.height * (1 + -(-header.width * _CHANNELS[header.colour] * header.bits // 8))
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(data, expected + 1)
    except zlib.error as error:
        raise ValueError(f"is damaged: its pixels cannot be unpacked ({error}); {_TAKE_AGAIN}") from None
    if len(rows) != expected or not unpacker.eof or unpacker.unused_data:
        found = f"more than {expected}" if len(rows) >= expected else str(len(rows))
        raise ValueError(f"is damaged: expected {expected} bytes of pixels, found {found}; {_TAKE_AGAIN}")


def _chunk(kind: bytes, *, content: bytes) -> bytes:
    body = kind + content
    return len(content).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)


def _name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1"))
