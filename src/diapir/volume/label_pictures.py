"""Labels drawn by hand: a PNG a section, a row a sample and a column a trace."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diapir.data.png import decode_greys
from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.volume.labelled_section import (
    LabelledSection,
    told_values,
)
from diapir.volume.line_numbers import Direction
from diapir.volume.sections import axis_of, place_of, section_shape
from diapir.volume.store import Grid

_NAME = re.compile(r"(?P<inline>inline|iline|il)?(?(inline)|(?:crossline|xline|xl))[-_ ]?(?P<line>-?\d{1,10})", re.I)
_SALT, _MIDDLE = 255, (127, 128)
_MOST_BYTES = 1 << 28  # of a file: more than any section without compression


def read_picture(path: Path, grid: Grid) -> LabelledSection:
    """The section that a PNG such as inline-120.png or XL_340.png labels.

    Grey 0 is no salt, 255 salt, or 1 where nothing is above 1; 127, 128 and pixels that are not opaque are unknown.
    Columns are the traces of the grid in rising line number.

    Raises:
        InputError: its name says no line of the survey; it is no such PNG, or of another size; it holds other greys; or
            nothing is known in it.
    """
    direction, line = _line_of(path)
    axis = axis_of(grid, direction)
    place = place_of(axis, line)
    if place is None:
        raise InputError.of(path, f"expected one of the survey's {direction}s ({axis}), found {line}")
    samples, traces = section_shape(grid, direction)
    hint = f"{direction} {line} has {samples} samples (rows) and {traces} traces (columns): draw on a picture of it all"
    if path.stat().st_size > _MOST_BYTES:
        raise InputError.of(path, f"expected the PNG of a section, found a file of over {_MOST_BYTES} bytes")
    greys, opaque = decode_greys(path.read_bytes(), where=str(path), height=samples, width=traces, hint=hint)
    return LabelledSection(direction, line, place, _mask(path, greys, opaque), path)


def _line_of(path: Path) -> tuple[Direction, int]:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise InputError.of(path, "expected a name that says which section it is, such as inline-120.png or xl340.png")
    return "inline" if match["inline"] else "crossline", int(match["line"])


def _mask(path: Path, greys: NDArray[np.uint8], opaque: NDArray[np.bool_]) -> NDArray[np.uint8]:
    known = opaque & ~np.isin(greys, _MIDDLE)
    salt = 1 if greys[opaque].max(initial=0) == 1 else _SALT
    others = Counter(map(float, greys[known & (greys != 0) & (greys != salt)].tolist()))
    if others:
        what = "expected grey 0 (no salt), 255 (salt), 127 or 128 (unknown) or transparent pixels"
        why = "smoothed edges are the usual cause: draw and scale without smoothing (anti-aliasing, interpolation)"
        raise InputError.of(path, f"{what}, found {told_values(others)}; {why}")
    if not known.any():
        raise InputError.of(path, "expected some pixels of salt or of none, found unknown ones alone: remove the file")
    return np.where(known, greys == salt, UNKNOWN).astype(np.uint8)
