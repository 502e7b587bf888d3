"""PNGs made by hand, good ones and ones that no good program writes."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def header(*, width: int = 101, height: int = 101, bits: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


def raw_png(ihdr: bytes, rows: bytes, *, extra: bytes = b"") -> bytes:
    """A PNG of a header, rows that each begin with their filter byte, and chunks before these."""
    return SIGNATURE + ihdr + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16], *, extra: bytes = b"") -> bytes:
    """The PNG of grey (height, width) or RGB (height, width, 3) pixels of 8 or 16 bits."""
    height, width = pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(f">u{pixels.dtype.itemsize}").tobytes() for row in pixels)
    ihdr = header(width=width, height=height, bits=bits, colour=2 if pixels.ndim == 3 else 0)
    return raw_png(ihdr, rows, extra=extra)
