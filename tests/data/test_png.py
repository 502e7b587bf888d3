import io
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diapir.data.png import decode_image, decode_mask
from diapir.faults import InputError
from fake_png import SIGNATURE, chunk, header, png, raw_png

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (101, 101), dtype=np.uint8)
MASK = RNG.integers(0, 2, (101, 101), dtype=np.uint8)
GOOD = png(IMAGE)


def faults_of(content: bytes, *, is_mask: bool = False) -> list[str]:
    decode = decode_mask if is_mask else decode_image
    with pytest.raises(InputError) as caught:
        decode(content, where="tile.png")
    assert {fault.where for fault in caught.value.faults} == {"tile.png"}
    return [fault.what for fault in caught.value.faults]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_its_pixels(channels: int) -> None:
    pixels = IMAGE if channels == 1 else np.repeat(IMAGE[:, :, None], 3, axis=2)
    assert np.array_equal(decode_image(png(pixels), where="x"), IMAGE)


def test_filtered_rows_are_the_pixels_that_another_program_wrote() -> None:
    smooth = np.add.outer(np.arange(101), np.arange(101)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, format="PNG", optimize=True)
    assert np.array_equal(decode_image(file.getvalue(), where="x"), smooth)


def test_masks_of_8_and_16_bits_and_rgb_are_the_same() -> None:
    deep = MASK.astype(np.uint16) * np.uint16(65535)
    flat = MASK * np.uint8(255)
    for pixels in (deep, flat, np.repeat(flat[:, :, None], 3, axis=2)):
        decoded = decode_mask(png(pixels), where="x")
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, MASK)


def test_harmless_parts_are_left_alone() -> None:
    extra = chunk(b"tEXt", b"Title\0salt") + chunk(b"gAMA", b"\0\0\xb1\x8f") + chunk(b"zTXt", b"bomb\0\0" + b"x" * 9)
    assert np.array_equal(decode_image(png(IMAGE, extra=extra), where="x"), IMAGE)


def test_another_size_can_be_expected() -> None:
    assert decode_image(png(IMAGE[:7, :9]), where="x", height=7, width=9).shape == (7, 9)


ROWS = b"\0" * 102 * 101
ODD = {
    "size": (png(IMAGE[:, :100]), "expected 101 x 101 pixels, found 100 x 101"),
    "sixteen": (png(IMAGE.astype(np.uint16)), "expected 8 bits a pixel and channel, found 16"),
    "one": (raw_png(header(bits=1), b"\0" * 14 * 101), "expected 8 bits a pixel and channel, found 1"),
    "two": (raw_png(header(bits=2), b"\0" * 27 * 101), "expected 8 bits a pixel and channel, found 2"),
    "four": (raw_png(header(bits=4), b"\0" * 52 * 101), "expected 8 bits a pixel and channel, found 4"),
    "palette": (raw_png(header(colour=3), ROWS, extra=chunk(b"PLTE", b"abc")), "found a palette"),
    "grey-alpha": (raw_png(header(colour=4), b"\0" * 203 * 101), "found grey with alpha"),
    "rgb-alpha": (raw_png(header(colour=6), b"\0" * 405 * 101), "found RGB with alpha"),
    "colour": (raw_png(header(colour=5), ROWS), "unknown colour type 5"),
    "transparent": (png(IMAGE, extra=chunk(b"tRNS", b"\0\0")), "expected no transparency"),
    "interlaced": (raw_png(header(interlace=1), ROWS), "found interlaced ones"),
    "unequal": (png(np.stack([IMAGE, IMAGE, IMAGE ^ 1], 2)), "found channels that differ"),
    "unknown": (png(IMAGE, extra=chunk(b"NEWS", b"")), "unknown part 'NEWS'"),
    "empty": (b"", "found an empty file"),
    "jpeg": (b"\xff\xd8\xff\xe0" + b"JFIF" * 40, "expected a PNG, found a file that begins with"),
    "no-header": (SIGNATURE + chunk(b"IDAT") + chunk(b"IEND"), "does not begin with a header"),
    "no-pixels": (SIGNATURE + header() + chunk(b"IEND"), "holds no pixels"),
    "garbage": (GOOD + b"garbage", "7 bytes follow its end"),
    "few-rows": (raw_png(header(), b"\0" * 102 * 50), "expected 10302 bytes of pixels, found 5100"),
    "filter": (raw_png(header(), b"\x09" * 102 * 101), "its pixels cannot be unpacked"),
    "not-deflate": (SIGNATURE + header() + chunk(b"IDAT", b"plain") + chunk(b"IEND"), "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_png_is_refused_with_its_fault(kind: str) -> None:
    content, expected = ODD[kind]
    (found,) = faults_of(content)
    assert expected in found


def test_every_fault_of_a_header_is_told() -> None:
    found = faults_of(raw_png(header(width=7, bits=16, colour=6, interlace=1), b""))
    assert len(found) == 3


def test_a_claim_of_2500_million_pixels_takes_no_memory() -> None:
    content = raw_png(header(width=50_000, height=50_000), b"\0" * 1000)
    tracemalloc.start()
    (found,) = faults_of(content)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "found 50000 x 50000" in found
    assert peak_bytes < 1_000_000


def test_pixels_that_unpack_to_much_more_than_the_header_says_take_no_memory() -> None:
    content = SIGNATURE + header() + chunk(b"IDAT", zlib.compress(b"\0" * 50_000_000)) + chunk(b"IEND")
    tracemalloc.start()
    (found,) = faults_of(content)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "expected 10302 bytes of pixels, found more than 10302" in found
    assert peak_bytes < 1_000_000


@given(length=st.integers(0, len(GOOD) - 1))
@settings(max_examples=60, deadline=None)
def test_no_part_of_a_png_passes_for_the_whole(length: int) -> None:
    (found,) = faults_of(GOOD[:length])
    assert "cut off" in found or "empty" in found


@given(place=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_no_changed_bit_goes_unseen(place: int, bit: int) -> None:
    content = bytearray(GOOD)
    content[place] ^= 1 << bit
    assert faults_of(bytes(content))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.where(MASK == 1, 254, 0).astype(np.uint8), "of 0 and 255 alone, found 1 more values (254)"),
        (MASK, "found 1 more values (1)"),
        (MASK.astype(np.uint16) * np.uint16(255), "of 0 and 65535 alone, found 1 more values (255)"),
        (IMAGE, "found 254 more values (1, 2, 3, 4, 5, ...)"),
    ],
)
def test_a_mask_with_other_values_is_refused(
    pixels: np.ndarray[tuple[int, int], np.dtype[np.uint8]], expected: str
) -> None:
    (found,) = faults_of(png(pixels), is_mask=True)
    assert expected in found
