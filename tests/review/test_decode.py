"""Bodies as greys: every kind of file, and files that lie about themselves."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from diapir.review.service.decode import TYPES, greys_of
from diapir.volume.greys import amplitude_limit, to_grey
from fake_png import header, png, raw_png
from fake_segy import Trace, fake_segy
from fake_service import npy, smooth_greys

PIXELS = 1 << 20
PNG, TIFF, NPY, SEGY = TYPES


def greys(content: bytes, content_type: str = "", **asked: Any) -> NDArray[np.uint8]:
    return greys_of(content, content_type=content_type, most_pixels=PIXELS, **asked)


def refused(content: bytes, content_type: str = "", **asked: Any) -> tuple[int, str]:
    with pytest.raises(HTTPException) as caught:
        greys(content, content_type, **asked)
    assert "/tmp" not in caught.value.detail, "no place on the server"
    assert "section.sgy" not in caught.value.detail
    return caught.value.status_code, caught.value.detail


def tiff(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


def section(values: NDArray[Any]) -> bytes:
    """A SEG-Y file, a trace for each column."""
    return fake_segy([Trace(column.tolist(), 7, number) for number, column in enumerate(values.T)])


@pytest.mark.parametrize("content_type", [PNG, "", "application/octet-stream", "Image/PNG; charset=x"])
def test_greys_of_a_png_are_its_own(content_type: str) -> None:
    image = smooth_greys(30, 41)
    assert (greys(png(image), content_type) == image).all()


@pytest.mark.parametrize("content_type", [TIFF, ""])
def test_greys_of_a_tiff_are_its_own(content_type: str) -> None:
    image = smooth_greys(30, 41)
    assert (greys(tiff(image), content_type) == image).all()
    assert (greys(tiff(image.astype(np.uint16) * 257), content_type) == image).all()


@pytest.mark.parametrize("content_type", [NPY, ""])
def test_greys_of_an_array_are_its_own(content_type: str) -> None:
    image = smooth_greys(30, 41)
    assert (greys(npy(image), content_type) == image).all()
    assert (greys(npy(np.asfortranarray(image)), content_type) == image).all()
    assert (greys(npy(image.astype(np.uint16) * 256 + 3), content_type) == image).all()


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2", ">i2", "<i4", "i1"])
def test_amplitudes_become_greys_as_a_surveys_do(kind: str) -> None:
    values = np.random.default_rng(0).normal(0, 30, (25, 31)).astype(kind)
    own = values.astype(np.float32)
    assert (greys(npy(values)) == to_grey(own, limit=amplitude_limit(own))).all()
    assert (greys(npy(values), limit=50.0) == to_grey(own, limit=50.0)).all()
    turned = greys(npy(values), limit=50.0, flip_polarity=True)
    assert (turned == to_grey(own, limit=50.0, flip_polarity=True)).all()


@pytest.mark.parametrize("content_type", [SEGY, ""])
def test_a_section_of_segy_has_a_column_for_each_trace(content_type: str) -> None:
    values = np.random.default_rng(0).normal(0, 3, (40, 12)).astype(np.float32)
    assert (greys(section(values), content_type) == to_grey(values, limit=amplitude_limit(values))).all()


def test_a_tiff_of_floats_holds_amplitudes() -> None:
    values = np.random.default_rng(0).normal(0, 3, (40, 12)).astype(np.float32)
    assert (greys(tiff(values)) == to_grey(values, limit=amplitude_limit(values))).all()


def test_a_body_is_what_it_says() -> None:
    image = smooth_greys(20, 20)
    files = {PNG: png(image), TIFF: tiff(image), NPY: npy(image), SEGY: section(image.astype(np.float32))}
    for told in files:
        for name, content in files.items():
            if told == name:
                assert greys(content, told).shape == (20, 20)
            elif told == SEGY or name != SEGY:
                assert refused(content, told)[0] == 415
    assert refused(png(image), "text/html")[0] == 415
    assert refused(b"", "")[0] == 415
    assert refused(b"GIF89a" + bytes(5000))[0] == 415


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_amplitudes_that_are_no_numbers_are_refused(value: float) -> None:
    values = np.zeros((5, 5))
    values[2, 2] = value
    assert refused(npy(values)) == (422, "expected finite amplitudes, found some that are not; set them to 0")


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 3), bool), np.zeros((3, 3), complex), np.zeros((3, 3), "U2"), np.zeros((3, 3), "u4"), np.zeros(9),
        np.zeros((1, 3, 3)), np.zeros((0, 3)), np.zeros((3, 3), [("a", "f4")]), np.zeros((3, 3), "M8[s]"), np.ones(()),
    ],
)  # fmt: skip
def test_arrays_that_are_no_images_are_refused(values: NDArray[Any]) -> None:
    assert refused(npy(values))[0] == 422


def numpy_file(text: str, body: bytes = b"", *, version: bytes = b"\1\0", told: int | None = None) -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text) if told is None else told)
    return b"\x93NUMPY" + version + size + text.encode() + body


HEAD = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n"


@pytest.mark.parametrize(
    "content",
    [
        numpy_file(HEAD % ("|u1", "False", "(1000, 1000)"), bytes(999_999)),
        numpy_file(HEAD % ("|u1", "False", "(10, 10)"), bytes(101)),
        numpy_file(HEAD % ("|u1", "False", "(-10, -10)"), bytes(100)),
        numpy_file(HEAD % ("|u1", "False", "(10.0, 10)"), bytes(100)),
        numpy_file(HEAD % ("|u1", "False", "(True, True)"), bytes(1)),
        numpy_file(HEAD % ("|u1", "2", "(10, 10)"), bytes(100)),
        numpy_file(HEAD % ("|O", "False", "(10, 10)"), b"cos\nsystem\n(S'true'\ntR."),
        numpy_file(HEAD % ("|V99999999", "False", "(1, 1)"), bytes(100)),
        numpy_file(HEAD % ("<f16", "False", "(2, 2)"), bytes(64)),
        numpy_file("{}\n"),
        numpy_file("(" * 3000 + "\n"),
        numpy_file("{'descr': __import__('os').system('true')}\n"),
        numpy_file("{" + "'a': 1, " * 100_000 + "}\n", version=b"\2\0"),
        numpy_file("{}\n", version=b"\2\0", told=2**32 - 1),
        numpy_file("{}\n", version=b"\3\0"),
        numpy_file("{}\n", version=b"\xff\xff"),
        numpy_file("\xff\xfe"),
        b"\x93NUMPY",
        b"\x93NUMPY\1",
    ],
)
def test_arrays_whose_headers_lie_are_refused(content: bytes) -> None:
    assert refused(content)[0] == 422


def test_sizes_beyond_the_cap_are_refused_by_their_headers() -> None:
    pixels = 2**31 - 1
    lying = {
        PNG: raw_png(header(width=pixels, height=pixels), zlib.compress(bytes(1000))),
        NPY: numpy_file(HEAD % ("|u1", "False", f"({pixels}, {pixels})"), bytes(10)),
        TIFF: tiff(np.zeros((1025, 1025), np.uint8)),
        SEGY: fake_segy([Trace([0] * 2100)] * 500, code=8),
    }
    for told, content in lying.items():
        assert refused(content, told)[0] == 413
        assert refused(content)[0] == 413


@pytest.mark.parametrize("shape", [(PIXELS, 1), (1, PIXELS), (PIXELS // 101 + 1, 101), (PIXELS // 101 + 1, 3)])
def test_a_narrow_image_counts_as_what_it_is_padded_to(shape: tuple[int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    for told, content in {PNG: png(image), NPY: npy(image), TIFF: tiff(image)}.items():
        status, words = refused(content, told)
        assert (status, "a side that is shorter than 101 counted as 101" in words) == (413, True)


@pytest.mark.parametrize("shape", [(PIXELS // 101, 1), (1024, 1024), (101, 101)])
def test_an_image_of_just_so_many_pixels_is_taken(shape: tuple[int, int]) -> None:
    assert greys(npy(np.zeros(shape, np.uint8))).shape == shape


def test_an_image_of_one_tile_is_not_too_large_for_its_padding() -> None:
    assert greys_of(npy(np.zeros((20, 25), np.uint8)), content_type="", most_pixels=500).shape == (20, 25)


def test_a_bomb_takes_no_more_memory_than_its_header_says() -> None:
    zeros = bytes(40_000_000)
    bombs = [
        raw_png(header(), zeros),
        raw_png(header(width=1000, height=1000), zeros),
        raw_png(header(width=1000, height=1), zeros),
    ]
    del zeros
    assert max(map(len, bombs)) < 80_000
    tracemalloc.start()
    try:
        for bomb in bombs:
            assert refused(bomb, PNG)[0] == 422
        assert tracemalloc.get_traced_memory()[1] < 8 * PIXELS
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 3599, 3600, 3840, 5000])
def test_segy_that_is_cut_off_is_refused(size: int) -> None:
    content = section(smooth_greys(30, 20).astype(np.float32))
    assert refused(content[:size], SEGY)[0] == 422


def test_segy_that_lies_is_refused() -> None:
    traces = [Trace([1.0] * 30)] * 20
    for place in ({(3221, 2): 60000, (3715, 2): 60000}, {(3225, 2): 99}, {(3217, 2): 0, (3717, 2): 0}):
        content = bytearray(fake_segy(traces))
        for (byte, size), value in place.items():
            content[byte - 1 : byte - 1 + size] = value.to_bytes(size, "big")
        assert refused(bytes(content), SEGY)[0] == 422


def test_nothing_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    greys(section(smooth_greys(30, 20).astype(np.float32)), SEGY)
    refused(b"x" * 4000, SEGY)
    assert not list(tmp_path.iterdir())


@settings(max_examples=60)
@given(data=st.data(), told=st.sampled_from(["", *TYPES]))
def test_changed_bytes_give_greys_or_words(data: st.DataObject, told: str) -> None:
    image = smooth_greys(9, 8)
    made = {PNG: png(image), TIFF: tiff(image), NPY: npy(image), SEGY: section(image.astype(np.float32))}
    content = bytearray(data.draw(st.sampled_from(list(made.values()))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    try:
        found = greys(bytes(content), told)
    except HTTPException as error:
        status = error.status_code
    else:
        status = 200 if found.dtype == np.uint8 and found.ndim == 2 else 500
    assert status in (200, 413, 415, 422)
