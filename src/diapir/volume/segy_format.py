"""Samples of SEG-Y as bytes: every format in use, both byte orders, exact both ways."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

Order = Literal["big", "little"]
FormatName = Literal[
    "ibm32",
    "int32",
    "int16",
    "ieee32",
    "ieee64",
    "int24",
    "int8",
    "int64",
    "uint32",
    "uint16",
    "uint64",
    "uint24",
    "uint8",
]
ORDERS: tuple[Order, ...] = get_args(Order)
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)

# Values at a time: what is worked on stays in a processor's caches (faster than half and than twice of it).
_BLOCK = 1 << 16
_IBM_TOP, _IBM_MANTISSA = np.uint32(0x7F000000), np.uint32(0x00FFFFFF)
_SIGN = np.uint32(0x80000000)
# Powers of 16 whose value as float32 is a normal power of 2, so that one float32 product is exact.
_IBM_LOW, _IBM_HIGH = 39 << 24, 102 << 24
_IBM_BIAS = np.uint32(153 << 23)


@dataclass(frozen=True)
class SampleFormat:
    """How one sample is stored.

    Args:
        name: what a person calls it.
        code: what a binary header calls it, at byte 3225.
        size: bytes a sample.
        revision: of the standard that brought it.
    """

    name: FormatName
    code: int
    size: int
    revision: int

    @property
    def is_float(self) -> bool:
        """Whether it holds fractions."""
        return self.name in ("ibm32", "ieee32", "ieee64")

    @property
    def is_finer(self) -> bool:
        """Whether it holds numbers that float32 does not."""
        return self.size > 4 or self.name in ("int32", "uint32")

    @property
    def limits(self) -> tuple[int, int]:
        """The least whole number that it holds, and the first that is too great; of integers alone."""
        assert not self.is_float
        bits = 8 * self.size
        return (0, 2**bits) if self.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))


FORMATS: dict[FormatName, SampleFormat] = {
    found.name: found
    for found in (
        SampleFormat("ibm32", code=1, size=4, revision=0),
        SampleFormat("int32", code=2, size=4, revision=0),
        SampleFormat("int16", code=3, size=2, revision=0),
        SampleFormat("ieee32", code=5, size=4, revision=1),
        SampleFormat("ieee64", code=6, size=8, revision=2),
        SampleFormat("int24", code=7, size=3, revision=2),
        SampleFormat("int8", code=8, size=1, revision=1),
        SampleFormat("int64", code=9, size=8, revision=2),
        SampleFormat("uint32", code=10, size=4, revision=2),
        SampleFormat("uint16", code=11, size=2, revision=2),
        SampleFormat("uint64", code=12, size=8, revision=2),
        SampleFormat("uint24", code=15, size=3, revision=2),
        SampleFormat("uint8", code=16, size=1, revision=2),
    )
}
"""Every format that can be read and written. Source: SEG-Y revision 2.0, binary header bytes 3225 to 3226."""
FORMATS_BY_CODE = {found.code: found for found in FORMATS.values()}
FIXED_POINT_WITH_GAIN = 4
"""The code of a format of 1975 that is known and not read."""


def decode_samples(raw: NDArray[np.uint8], *, stored: SampleFormat, order: Order) -> NDArray[np.float32]:
    """Samples as float32 (..., n) from their bytes, uint8 (..., n * size).

    IBM floats are exact: beyond float32's range they are infinite, below its least step they are rounded. Integers
    above 2^24 and float64 are rounded to the nearest float32. The bytes may be a view of traces with their headers.

    Source: SEG-Y revision 2.0, appendix on data sample formats; IBM System/360 Principles of Operation, A22-6821.
    """
    num_samples, rest = divmod(raw.shape[-1], stored.size)
    assert rest == 0, "whole samples"
    samples = np.empty((*raw.shape[:-1], num_samples), np.float32)
    rows = raw if raw.ndim == 2 else raw.reshape(math.prod(raw.shape[:-1]), raw.shape[-1])
    decode_into(samples.reshape(len(rows), num_samples), rows, stored=stored, order=order)
    return samples


def decode_into(samples: NDArray[np.float32], raw: NDArray[np.uint8], *, stored: SampleFormat, order: Order) -> None:
    """As `decode_samples`, from uint8 (k, n * size) into float32 (k, n) that is there already."""
    # Numbers that do not fit float32 are meant to become infinite.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for rows, columns in _blocks(*samples.shape):
            chosen = raw[rows, columns.start * stored.size : columns.stop * stored.size]
            _decode_block(np.ascontiguousarray(chosen), samples[rows, columns], stored=stored, order=order)


def encode_samples(values: NDArray[np.float32], *, stored: SampleFormat, order: Order) -> NDArray[np.uint8]:
    """Bytes of samples, uint8 (..., n * size), from float32 (..., n); rounded to the nearest, halves to even.

    Raises:
        ValueError: the format holds no such number: NaN and infinity in all but IEEE floats, and numbers outside an
            integer's range.
    """
    num_samples = values.shape[-1]
    raw = np.empty((*values.shape[:-1], num_samples * stored.size), np.uint8)
    num_rows = math.prod(values.shape[:-1])
    traces, target = values.reshape(num_rows, num_samples), raw.reshape(num_rows, num_samples * stored.size)
    for rows, columns in _blocks(num_rows, num_samples):
        block = np.ascontiguousarray(traces[rows, columns], np.float32)
        _require_fit(block, stored)
        encoded = _encode_block(block, stored=stored, order=order)
        target[rows, columns.start * stored.size : columns.stop * stored.size] = encoded
    return raw


def _blocks(num_rows: int, num_columns: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of parts that together are the whole."""
    if not num_rows or not num_columns:
        return
    wide = min(num_columns, _BLOCK)
    tall = max(_BLOCK // wide, 1)
    for top in range(0, num_rows, tall):
        for left in range(0, num_columns, wide):
            yield slice(top, min(top + tall, num_rows)), slice(left, min(left + wide, num_columns))


def _stored_type(stored: SampleFormat, order: Order) -> np.dtype[np.generic]:
    """The type of NumPy whose bytes a format has; IBM floats are taken as whole words."""
    sign = ">" if order == "big" else "<"
    match stored.name:
        case "ibm32":
            return np.dtype(f"{sign}u4")
        case "ieee32" | "ieee64":
            return np.dtype(f"{sign}f{stored.size}")
        case "int8" | "int16" | "int32" | "int64":
            return np.dtype(f"{sign}i{stored.size}")
        case "uint8" | "uint16" | "uint32" | "uint64":
            return np.dtype(f"{sign}u{stored.size}")
        case "int24" | "uint24":
            raise AssertionError("NumPy has no type of three bytes")
        case _:
            assert_never(stored.name)


def _decode_block(raw: NDArray[np.uint8], target: NDArray[np.float32], *, stored: SampleFormat, order: Order) -> None:
    if stored.size == 3:
        target[...] = _whole_from_3_bytes(raw, is_signed=stored.name == "int24", order=order)
        return
    words = raw.view(_stored_type(stored, order))
    if stored.name == "ibm32":
        _decode_ibm(words.astype(np.uint32), target)
    else:
        target[...] = words.astype(words.dtype.newbyteorder("="), copy=False)


def _decode_ibm(words: NDArray[np.uint32], target: NDArray[np.float32]) -> None:
    """IBM floats: a sign, seven bits of a power of 16 above 64, and 24 bits behind the point."""
    scale = words << np.uint32(1)
    scale &= np.uint32(0xFE000000)
    scale -= _IBM_BIAS
    scale &= ~_SIGN
    scale |= words & _SIGN
    np.multiply((words & _IBM_MANTISSA).view(np.int32).astype(np.float32), scale.view(np.float32), out=target)
    magnitude = words & ~_SIGN
    # One less, so that zero, which is frequent and comes out right, wraps to the greatest of all.
    if magnitude.max() >= _IBM_HIGH or (magnitude - np.uint32(1)).min() < _IBM_LOW - 1:
        target[...] = _decode_ibm_of_any_size(words)


def _decode_ibm_of_any_size(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    power = (((words & _IBM_TOP) >> np.uint32(24)).astype(np.int32) - 70) * 4
    mantissa = (words & _IBM_MANTISSA).astype(np.float64)
    signed = np.where(words & _SIGN, -mantissa, mantissa)
    # Exact in float64, so that it is rounded once.
    return np.ldexp(signed, power).astype(np.float32)


def _whole_from_3_bytes(raw: NDArray[np.uint8], *, is_signed: bool, order: Order) -> NDArray[np.int32]:
    parts = raw.reshape(*raw.shape[:-1], -1, 3).astype(np.int32)
    first, middle, last = (parts[..., number] for number in ((0, 1, 2) if order == "big" else (2, 1, 0)))
    whole: NDArray[np.int32] = (first << 16) | (middle << 8) | last
    return whole - ((whole >> 23) << 24) if is_signed else whole


def _require_fit(values: NDArray[np.float32], stored: SampleFormat) -> None:
    """Refuse numbers that a format cannot hold.

    Raises:
        ValueError: naming the first of them.
    """
    if stored.name in ("ieee32", "ieee64"):
        return
    if stored.name == "ibm32":
        fits, wanted = np.isfinite(values), "finite numbers"
    else:
        low, end = stored.limits
        whole = np.rint(values)
        # Limits are powers of 2 and so exact as float32. The greatest number within them need not be: as float32 it is
        # the limit itself, which thus stands for it.
        is_below = whole <= np.float32(end) if np.float32(end - 1) == end else whole < np.float32(end)
        fits, wanted = (whole >= np.float32(low)) & is_below, f"numbers from {low} to {end - 1}"
    if not fits.all():
        worst = values[~fits][0]
        raise ValueError(f"expected {wanted}, which is what {stored.name} holds, found {worst:g}")


def _encode_block(values: NDArray[np.float32], *, stored: SampleFormat, order: Order) -> NDArray[np.uint8]:
    match stored.name:
        case "ibm32":
            words: NDArray[np.generic] = _encode_ibm(values)
        case "ieee32" | "ieee64":
            words = values
        case "int24" | "uint24":
            whole = np.rint(values).astype(np.int32).astype(">i4" if order == "big" else "<i4")
            parts = whole.view(np.uint8).reshape(*values.shape, 4)
            kept = parts[..., 1:] if order == "big" else parts[..., :3]
            return np.ascontiguousarray(kept).reshape(len(values), -1)
        case _:
            words = _whole_within(np.rint(values), stored)
    return words.astype(_stored_type(stored, order)).view(np.uint8)


def _whole_within(whole: NDArray[np.float32], stored: SampleFormat) -> NDArray[np.generic]:
    """Whole numbers with the format's greatest where rounding to float32 has led to the first beyond."""
    _, end = stored.limits
    is_over = whole >= np.float32(end)
    if not is_over.any():
        return whole
    words: NDArray[Any] = np.where(is_over, np.float32(0), whole).astype(_stored_type(stored, "big").newbyteorder("="))
    words[is_over] = end - 1
    return words


def _encode_ibm(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The nearest IBM floats, with a first hexadecimal digit that is not zero; every finite float32 is in range."""
    fraction, power = np.frexp(np.abs(values))
    power_of_16 = -(-power // 4)
    # Below 2^24 even when rounded up: of 24 bits, digits that are cut off make room.
    mantissa = np.rint(np.ldexp(fraction, 24 + power - 4 * power_of_16)).astype(np.uint32)
    words = (power_of_16 + 64).astype(np.uint32) << np.uint32(24) | mantissa
    words = np.where(mantissa == 0, np.uint32(0), words)
    result: NDArray[np.uint32] = words | (values.view(np.uint32) & _SIGN)
    return result
