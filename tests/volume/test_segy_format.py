import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.volume.segy_format import (
    FORMATS,
    FORMATS_BY_CODE,
    ORDERS,
    Order,
    SampleFormat,
    decode_into,
    decode_samples,
    encode_samples,
)
from fake_segy import SIZES, ibm_value, ibm_word, pack_samples

IBM = FORMATS["ibm32"]
INTEGERS = [found for found in FORMATS.values() if not found.is_float]
Words = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=30)
Floats = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30)


def decode(content: bytes, stored: SampleFormat, order: Order) -> NDArray[np.float32]:
    return decode_samples(np.frombuffer(content, np.uint8), stored=stored, order=order)


def encode(values: list[float], stored: SampleFormat, order: Order = "big") -> bytes:
    return encode_samples(np.array(values, np.float32), stored=stored, order=order).tobytes()


def nearest_float32(values: list[float]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(np.float32)


def same_bits(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return np.array_equal(left.view(np.uint32), right.view(np.uint32))


def test_every_code_of_the_standard_has_its_size() -> None:
    assert {code: found.size for code, found in FORMATS_BY_CODE.items()} == SIZES


@settings(max_examples=40, deadline=None)
@given(words=Words)
def test_an_ibm_float_is_the_nearest_float32(words: list[int]) -> None:
    expected = nearest_float32([ibm_value(word) for word in words])
    found = decode(struct.pack(f">{len(words)}I", *words), IBM, "big")
    assert same_bits(found, expected)


def test_ibm_floats_of_every_size_are_exact_beside_ordinary_ones() -> None:
    mantissas = (0, 1, 2, 0x80000, 0xFFFFF, 0x100000, 0x7FFFFF, 0x800000, 0xFFFFFF)
    words = [sign << 31 | power << 24 | part for sign in (0, 1) for power in range(128) for part in mantissas]
    expected = nearest_float32([ibm_value(word) for word in words])
    # One by one each takes the quick way or the other; together they all take the other.
    alone = np.concatenate([decode(word.to_bytes(4, "big"), IBM, "big") for word in words])
    assert same_bits(alone, expected)
    assert same_bits(decode(struct.pack(f"<{len(words)}I", *words), IBM, "little"), expected)


def test_known_ibm_floats() -> None:
    # -118.625 is the example of every account of the format; the others are its ends.
    words = (0xC276A000, 0x41100000, 0x00000000, 0x80000000, 0x7FFFFFFF, 0x00000001)
    found = decode(struct.pack(">6I", *words), IBM, "big")
    assert found.tolist() == [-118.625, 1, 0, 0, math.inf, 0]
    assert np.signbit(found[3])


@settings(max_examples=40, deadline=None)
@given(values=Floats)
def test_every_finite_float32_becomes_the_nearest_ibm_float(values: list[float]) -> None:
    found = struct.unpack(f">{len(values)}I", encode(values, IBM))
    assert list(found) == [ibm_word(value) for value in values]


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.tuples(st.integers(0, 1), st.integers(34, 95), st.integers(2**20, 2**24 - 1)), min_size=1))
def test_ibm_floats_come_back_bit_for_bit(words: list[tuple[int, int, int]]) -> None:
    content = b"".join((sign << 31 | power << 24 | part).to_bytes(4, "big") for sign, power, part in words)
    values = decode(content, IBM, "big")
    assert encode_samples(values, stored=IBM, order="big").tobytes() == content


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
def test_numbers_of_every_format_are_read_and_written_as_another_program_packs_them(
    stored: SampleFormat, order: Order
) -> None:
    low, end = (-3, 100) if stored.is_float else stored.limits
    # Float32 holds no more than 24 bits: the greatest number that it can hold in the format.
    high = end - max(end >> 24, 1)
    values = [float(number) for number in (low, low + max(-low >> 24, 1), 0, 1, 2, 77, high)]
    content = pack_samples(values, code=stored.code, order=order)
    assert decode(content, stored, order).tolist() == values
    assert encode(values, stored, order) == content


@pytest.mark.parametrize("stored", INTEGERS, ids=lambda stored: stored.name)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_integer_is_read_as_the_nearest_float32(stored: SampleFormat, data: st.DataObject) -> None:
    low, end = stored.limits
    whole = data.draw(st.lists(st.integers(low, end - 1), min_size=1, max_size=20))
    size = stored.size
    content = b"".join(number.to_bytes(size, "little", signed=low < 0) for number in whole)
    # Of 64-bit integers float64 is not exact: rounded once, as the integers of NumPy are.
    exact = np.array(whole, np.uint64 if low == 0 else np.int64)
    assert same_bits(decode(content, stored, "little"), exact.astype(np.float32))


@pytest.mark.parametrize("order", ORDERS)
def test_ieee_floats_keep_every_bit(order: Order) -> None:
    words = np.array([0x7FC01234, 0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x3F800001], np.uint32)
    content = words.astype(">u4" if order == "big" else "<u4").tobytes()
    found = decode(content, FORMATS["ieee32"], order)
    assert np.array_equal(found.view(np.uint32), words)
    assert encode_samples(found, stored=FORMATS["ieee32"], order=order).tobytes() == content


def test_float64_beyond_float32_is_infinite_and_finer_is_rounded() -> None:
    content = struct.pack(">4d", 1e300, -1e300, 1e-300, 1 + 2**-30)
    assert decode(content, FORMATS["ieee64"], "big").tolist() == [math.inf, -math.inf, 0, 1]


@pytest.mark.parametrize("stored", INTEGERS, ids=lambda stored: stored.name)
def test_numbers_outside_an_integer_are_refused_and_not_clipped(stored: SampleFormat) -> None:
    low, end = stored.limits
    below = math.nextafter(low - 1.0, -math.inf) if stored.size < 3 else low * (1 + 2**-20) - 1
    above = float(end) if np.float32(end - 1) < end else end * (1 + 2**-20)
    for number in (above, below, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=rf"expected numbers from {low} to {end - 1}.*{stored.name}"):
            encode([0, number, 1], stored)


@pytest.mark.parametrize("stored", INTEGERS, ids=lambda stored: stored.name)
@pytest.mark.parametrize("order", ORDERS)
def test_the_ends_of_every_integer_survive_float32(stored: SampleFormat, order: Order) -> None:
    low, end = stored.limits
    content = pack_samples([low, end - 1, 0], code=stored.code, order=order)
    assert encode(decode(content, stored, order).tolist(), stored, order) == content


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_ibm_floats_hold_finite_numbers_alone(number: float) -> None:
    with pytest.raises(ValueError, match="expected finite numbers"):
        encode([1, number], IBM)


@pytest.mark.parametrize(
    "stored", [FORMATS["int8"], FORMATS["int24"], FORMATS["int32"]], ids=lambda stored: stored.name
)
def test_fractions_are_rounded_to_the_nearest_and_halves_to_even(stored: SampleFormat) -> None:
    content = encode([0.5, 1.5, 2.5, -0.5, -1.5, 1.25, 1.75], stored)
    assert decode(content, stored, "big").tolist() == [0, 2, 2, 0, -2, 1, 2]


@pytest.mark.parametrize("stored", [IBM, FORMATS["uint24"], FORMATS["int16"]], ids=lambda stored: stored.name)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (7,), (2, 3, 4), (3, 70_000), (70_000, 3)])
def test_arrays_of_any_shape_come_back(stored: SampleFormat, shape: tuple[int, ...]) -> None:
    values = (np.arange(math.prod(shape)) % 101).astype(np.float32).reshape(shape)
    raw = encode_samples(values, stored=stored, order="little")
    assert raw.shape == (*shape[:-1], shape[-1] * stored.size)
    assert np.array_equal(decode_samples(raw, stored=stored, order="little"), values)


@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
def test_samples_are_read_from_between_headers_without_a_copy_of_these(stored: SampleFormat) -> None:
    values = (np.arange(60) % 101).astype(np.float32).reshape(5, 12)
    raw = encode_samples(values, stored=stored, order="big")
    traces = np.full((5, 240 + raw.shape[1]), 0xEE, np.uint8)
    traces[:, 240:] = raw
    target = np.full((7, 12), -1, np.float32)
    decode_into(target[1:6], traces[:, 240:], stored=stored, order="big")
    assert np.array_equal(target[1:6], values)
    assert (target[[0, 6]] == -1).all()
