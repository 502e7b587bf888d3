"""Bodies of requests as grey images: what each kind of file says of itself is held against its length first."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from diapir.data.png import decode_image, image_size
from diapir.data.tiles import ODD_HEADER, TILE
from diapir.faults import InputError
from diapir.review.service.limits import is_taken
from diapir.review.service.refusals import words_of
from diapir.review.service.tiff import read_directory, read_pixels
from diapir.volume.greys import amplitude_limit, to_grey
from diapir.volume.segy import Segy, open_segy, samples

Kind = Literal["png", "tiff", "npy", "segy"]
Greys = NDArray[np.uint8]

TYPES: dict[str, Kind] = {
    "image/png": "png",
    "image/tiff": "tiff",
    "application/x-npy": "npy",
    "application/x-segy": "segy",
}
UNSAID = ("application/octet-stream", "application/x-www-form-urlencoded", "")
"""Types that say nothing: the last but one is what curl says unless it is told otherwise."""
_NAMES: dict[Kind, str] = {"png": "a PNG", "tiff": "a TIFF", "npy": "a .npy file", "segy": "a SEG-Y section"}
_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x93NUMPY", "npy"),
)
_LONGEST_NPY_HEADER = 4096
_NPY_VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def greys_of(
    content: bytes, *, content_type: str, most_pixels: int, limit: float | None = None, flip_polarity: bool = False
) -> Greys:
    """The grey values of an image or a section: (rows, columns), rows go down in time or depth.

    Whole numbers without sign are greys as they are, of 16 bits their upper half. All others are amplitudes, and become
    greys as a survey's do.

    Args:
        content_type: as the request has it.
        limit: amplitude that becomes white; None for the section's own.
        flip_polarity: of amplitudes times -1.

    Raises:
        HTTPException: 413, it has more pixels than that, or would be padded to more; 415, it is of another kind than
            any of TYPES, or than it says; 422, it is damaged or holds what cannot be used. Nothing was decoded then,
            but where the pixels themselves are damaged.
    """
    kind = _kind_of(content, content_type)
    try:
        values = _values(content, kind, most_pixels=most_pixels)
    except InputError as error:
        is_guess = kind == "segy" and content_type.partition(";")[0].strip().lower() != "application/x-segy"
        words = words_of(error)
        if is_guess:
            raise HTTPException(415, f"expected {', '.join(_NAMES.values())}; read as the last: {words}") from None
        raise HTTPException(422, words) from None
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    if values.dtype.kind == "u":
        return (values >> 8).astype(np.uint8)
    with np.errstate(over="ignore"):  # what float32 does not hold is refused as infinite
        amplitudes = values.astype(np.float32)
    if not np.isfinite(amplitudes).all():
        raise HTTPException(422, "expected finite amplitudes, found some that are not; set them to 0")
    return to_grey(amplitudes, limit=limit or amplitude_limit(amplitudes), flip_polarity=flip_polarity)


def _kind_of(content: bytes, content_type: str) -> Kind:
    """What a body is, by its first bytes, which must not be another thing than it says."""
    told = content_type.partition(";")[0].strip().lower()
    found: Kind = next((kind for beginning, kind in _BEGINNINGS if content.startswith(beginning)), "segy")
    if told not in TYPES and told not in UNSAID:
        raise HTTPException(415, f"expected {', '.join(TYPES)}, found {told[:100]!a}; say what the body is")
    if told in TYPES and TYPES[told] != found:
        other = _NAMES[found] if found != "segy" else "something else"
        raise HTTPException(415, f"expected {_NAMES[TYPES[told]]}, as the type {told} says, found {other}")
    return found


def _values(content: bytes, kind: Kind, *, most_pixels: int) -> NDArray[Any]:
    """The numbers of an image or a section, (rows, columns)."""
    match kind:
        case "png":
            height, width = _sized(image_size(content, where=""), most_pixels)
            return decode_image(content, where="", height=height, width=width)
        case "tiff":
            try:
                directory = read_directory(content, most_pixels=most_pixels)
                _sized((directory.height, directory.width), most_pixels)
                return read_pixels(content, directory)
            except ValueError as error:
                raise InputError.of("", str(error)) from None
        case "npy":
            return _npy_values(content, most_pixels=most_pixels)
        case "segy":
            with _segy_file(content) as segy:
                _sized((segy.num_samples, segy.num_traces), most_pixels)
                return samples(segy, slice(None)).T
        case _:
            assert_never(kind)


def _sized(shape: tuple[int, int], most_pixels: int) -> tuple[int, int]:
    """The shape, if it is not too large."""
    if min(shape) < 1:
        raise InputError.of("", f"expected rows and columns, found {shape[0]} x {shape[1]}")
    if not is_taken(shape, most_pixels=most_pixels):
        most = f"expected at most {most_pixels} pixels, a side that is shorter than {TILE} counted as {TILE}"
        raise HTTPException(413, f"{most}; found {shape[0]} x {shape[1]}; send it in parts")
    return shape


def _npy_values(content: bytes, *, most_pixels: int) -> NDArray[Any]:
    """An array of numbers, after its header was held against what follows."""
    file = io.BytesIO(content)
    again = "write it with numpy.save"
    try:
        read_header = _NPY_VERSIONS[np.lib.format.read_magic(file)]
        shape, is_fortran, kind = read_header(file, max_header_size=_LONGEST_NPY_HEADER)
    except ODD_HEADER as error:
        reason = str(error).partition("\n")[0][:200]
        raise InputError.of("", f"its header cannot be read ({type(error).__name__}: {reason}); {again}") from None
    if kind.kind not in "iuf" or kind.itemsize > 8:
        raise InputError.of("", f"expected whole numbers or floats, found {kind}; {again}, as float32 or uint8")
    if kind.kind == "u" and kind.itemsize > 2:
        raise InputError.of("", f"expected greys of 8 or 16 bits, or amplitudes with a sign, found {kind}; {again}")
    if len(shape) != 2 or not all(type(side) is int for side in shape):
        raise InputError.of("", f"expected one image (rows, columns), found the shape {str(shape)[:100]}; {again}")
    rows, columns = _sized((shape[0], shape[1]), most_pixels)
    found, expected = len(content) - file.tell(), rows * columns * kind.itemsize
    if found != expected:
        raise InputError.of("", f"expected {expected} bytes behind the header for {rows} x {columns}, found {found}")
    flat = np.frombuffer(content, kind, offset=file.tell())
    return flat.reshape(columns, rows).T if is_fortran else flat.reshape(rows, columns)


@contextmanager
def _segy_file(content: bytes) -> Iterator[Segy]:
    """A section as a file, for SEG-Y is read from files alone."""
    with tempfile.TemporaryDirectory(prefix="diapir-") as folder:
        path = Path(folder) / "section.sgy"
        path.write_bytes(content)
        yield open_segy(path)
