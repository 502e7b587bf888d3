"""Arrays as small PNGs inside a page: tinted tiles, numbers in colour, and scales that say which colour is which."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from diapir.review.report.markup import Html, tag

Rgb = tuple[int, int, int]

SALT: Rgb = (230, 159, 0)
MISSED: Rgb = (0, 114, 178)
ADDED: Rgb = (213, 94, 0)
UNKNOWN_RGB: Rgb = (204, 121, 167)
"""Colours that the colour-blind can tell. Source: Okabe and Ito, Color Universal Design (2008)."""

LONGEST = 640
"""Pixels of a picture's side; of larger arrays every so many-th row or column is shown."""

_LEVELS = 64
_TINT = 0.55
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_BYTES = 3 << 20


def tinted_png(image: NDArray[np.uint8], kinds: NDArray[np.integer[Any]], colours: Sequence[Rgb]) -> str:
    """Data URI of a grey image (h, w) on which kinds of pixels are tinted.

    Args:
        kinds: 0 for as it is, else the place of its colour, from 1 on: (h, w).
        colours: three at most.
    """
    assert len(colours) <= 256 // _LEVELS - 1 and kinds.shape == image.shape
    greys = np.linspace(0, 255, _LEVELS)[:, None].repeat(3, axis=1)
    palette = [greys, *((1 - _TINT) * greys + _TINT * np.array(colour) for colour in colours)]
    index = kinds.astype(np.uint8) * np.uint8(_LEVELS) + (image >> 2)
    return _palette_png(index.astype(np.uint8), np.concatenate(palette))


def coloured_png(values: NDArray[Any], *, low: float, high: float, colours: str, nothing: Rgb | None = None) -> str:
    """Data URI of numbers (h, w) in the colours of a matplotlib map.

    Args:
        low, high: what has the first and the last colour; what lies beyond has them too.
        nothing: colour of what is no finite number; None where there is no such.
    """
    values = thinned(values)
    is_known = np.isfinite(values)
    share = (np.where(is_known, values, low).astype(np.float32) - low) / ((high - low) or 1)
    index = np.clip(np.rint(share * 254), 0, 254).astype(np.uint8)
    index[~is_known] = 255
    palette = np.concatenate([_map_of(colours), np.array([nothing or (0, 0, 0)])])
    return _palette_png(index, palette)


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Every so many-th row and column, so that none is longer than LONGEST."""
    steps = [max(-(-side // LONGEST), 1) for side in values.shape]
    return values[:: steps[0], :: steps[1]]


def scale(low: str, high: str, *, colours: str, of: str) -> Html:
    """What the colours of a picture mean, from low to high."""
    strip = coloured_png(np.arange(64.0)[None], low=0, high=63, colours=colours)
    picture = tag("img", src=strip, alt=f"colours from {low} to {high}")
    return tag("div", *(tag("span", each) for each in (of, low)), picture, tag("span", high), class_="scale")


def swatches(named: Sequence[tuple[str, Rgb]]) -> Html:
    """What tints mean."""
    pieces = [
        tag("li", tag("span", class_="swatch", style=f"background: rgb({red}, {green}, {blue})"), name)
        for name, (red, green, blue) in named
    ]
    return tag("ul", *pieces, class_="legend")


def file_png(path: Path) -> str | None:
    """Data URI of a PNG that a step of diapir drew; None where there is none, or what is there is too large or none."""
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return None
    content = path.read_bytes()
    return data_uri(content) if content.startswith(_SIGNATURE) else None


def data_uri(png: bytes) -> str:
    """A PNG in a page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _map_of(colours: str) -> NDArray[np.float64]:
    """255 colours of a map: (255, 3) of 0 to 255."""
    return np.asarray(colormaps[colours](np.linspace(0, 1, 255)))[:, :3] * 255


def _palette_png(index: NDArray[np.uint8], palette: NDArray[np.float64]) -> str:
    picture = Image.fromarray(np.ascontiguousarray(index))
    picture.putpalette(np.rint(palette).astype(np.uint8).tobytes())
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return data_uri(content.getvalue())
