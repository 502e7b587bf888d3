"""TIFFs as other programs write them, and ones whose directories lie."""

import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from diapir.review.service.tiff import read_directory, read_pixels

PIXELS = 1 << 20
KINDS = ("u1", "u2", "i2", "i4", "f4")


def tiff(
    values: NDArray[Any],
    *,
    order: Literal["<", ">"] = "<",
    rows: int = 7,
    changes: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """A TIFF by hand; `changes` are types and values by tag, no values for a tag that is left out."""
    height, width = values.shape
    kind = values.dtype.newbyteorder(order)
    strips = [values[start : start + rows].astype(kind).tobytes() for start in range(0, height, rows)]
    offsets = (8 + np.cumsum([0, *map(len, strips[:-1])])).tolist()
    code = {"u": 1, "i": 2, "f": 3}[kind.kind]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8 * kind.itemsize]), 259: (3, [1]), 262: (3, [1]),
        273: (4, offsets), 277: (3, [1]), 278: (4, [rows]), 279: (4, [len(one) for one in strips]), 339: (3, [code]),
    }  # fmt: skip
    tags |= changes or {}
    tags = {tag: value for tag, value in sorted(tags.items()) if value[1]}
    data = b"".join(strips)
    behind = 8 + len(data) + 2 + 12 * len(tags) + 4
    entries, rest = b"", b""
    for tag, (of_type, numbers) in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}{'BHI'[[1, 3, 4].index(of_type)]}", *numbers)
        if len(packed) > 4:
            rest, packed = rest + packed, struct.pack(f"{order}I", behind + len(rest))
        entries += struct.pack(f"{order}HHI", tag, of_type, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + rest


def read(content: bytes, *, most_pixels: int = PIXELS) -> NDArray[Any]:
    return read_pixels(content, read_directory(content, most_pixels=most_pixels))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_come_back(kind: str, order: Literal["<", ">"]) -> None:
    values = np.random.default_rng(0).integers(0, 200, (20, 13)).astype(kind)
    assert (read(tiff(values, order=order)) == values).all()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "i4"])
def test_what_pillow_writes_is_read(kind: str, compression: str | None) -> None:
    values = (np.arange(40 * 31).reshape(40, 31) % 251).astype(kind)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression)
    found = read(file.getvalue())
    assert found.dtype.kind == np.dtype(kind).kind
    assert (found == values).all()


def test_differences_along_rows_are_undone() -> None:
    values = np.random.default_rng(1).integers(0, 256, (9, 12), dtype=np.uint8)
    differences = np.diff(values, axis=1, prepend=np.uint8(0))
    packed = zlib.compress(differences.tobytes())
    plain = tiff(
        values, rows=9, changes={259: (3, [8]), 317: (3, [2]), 279: (4, [len(packed)]), 273: (4, [8 + 9 * 12])}
    )
    # The strip is put behind the plain one, where the directory was: all places behind move along.
    at = 8 + 9 * 12
    moved = bytearray(plain[:at] + packed + plain[at:])
    moved[4:8] = struct.pack("<I", at + len(packed))
    assert (read(bytes(moved)) == values).all()


def test_a_second_page_is_told() -> None:
    file, pages = io.BytesIO(), [Image.fromarray(np.zeros((9, 9), np.uint8)) for _ in range(2)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="expected one page, found another behind it"):
        read(file.getvalue())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({256: (4, [0])}, "expected pixels"),
        ({257: (4, [0])}, "expected pixels"),
        ({277: (3, [3])}, "one grey channel"),
        ({277: (3, [3]), 258: (3, [8, 8, 8])}, "one grey channel, found 3; save it as grey TIFF"),
        ({262: (3, [3])}, "one grey channel"),
        ({262: (3, [])}, "tag 262"),
        ({258: (3, [1])}, "found 1 bits"),
        ({339: (3, [3])}, "found 8 bits of format 3"),
        ({259: (3, [7])}, "found number 7"),
        ({317: (3, [3])}, "found 3 and 1"),
        ({322: (3, [16])}, "found tiles"),
        ({279: (4, [])}, "tag 279"),
        ({279: (4, [91, 91, 77])}, "do not hold the rows"),
        ({279: (4, [2**32 - 1, 91, 78])}, "where there are no bytes"),
        ({273: (4, [8, 99, 2**32 - 1])}, "where there are no bytes"),
        ({278: (4, [1])}, "expected 20 whole numbers"),
        ({278: (4, [2**32 - 1])}, "expected 1 whole numbers"),
        ({257: (4, [2**20 // 101])}, "whole numbers in its tag 273, found 3"),
    ],
)
def test_a_directory_that_lies_is_refused(changes: dict[int, tuple[int, list[int]]], words: str) -> None:
    content = tiff(np.zeros((20, 13), np.uint8), changes=changes)
    with pytest.raises(ValueError, match=words):
        read(content)


def test_strips_that_share_their_bytes_are_no_bomb() -> None:
    rows = 2000
    content = tiff(np.zeros((rows, 1), np.uint8), rows=1, changes={273: (4, [8] * rows), 279: (4, [9000] * rows)})
    with pytest.raises(ValueError, match="where there are no bytes"):
        read(content)


def test_of_an_image_that_is_too_large_no_strip_is_read() -> None:
    content = tiff(np.zeros((20, 13), np.uint8), changes={256: (4, [2**32 - 1]), 257: (4, [2**32 - 1])})
    directory = read_directory(content, most_pixels=PIXELS)
    assert (directory.height, directory.width, directory.strips) == (2**32 - 1, 2**32 - 1, ())


def test_of_a_narrow_image_that_would_be_padded_to_too_much_no_strip_is_read() -> None:
    content = tiff(np.zeros((PIXELS // 10, 1), np.uint8), rows=1)
    assert read_directory(content, most_pixels=PIXELS).strips == ()


def test_strips_too_many_to_hold_are_refused() -> None:
    content = tiff(np.zeros((65_537, 1), np.uint8), rows=1)
    with pytest.raises(ValueError, match="at most 65536 strips, found 65537"):
        read_directory(content, most_pixels=1 << 24)


def test_what_unpacks_to_more_than_it_says_is_cut_or_refused() -> None:
    values = np.zeros((20, 13), np.uint8)
    bomb = zlib.compress(bytes(10_000_000))
    content = bytearray(tiff(values, rows=20, changes={259: (3, [8]), 279: (4, [len(bomb)]), 273: (4, [8 + 260])}))
    content[8 + 260 : 8 + 260] = bomb
    content[4:8] = struct.pack("<I", 8 + 260 + len(bomb))
    try:
        found = read(bytes(content))
    except ValueError:
        return
    assert found.shape == (20, 13)


@pytest.mark.parametrize(
    "start", [b"II", b"II*\0", b"II+\0" + bytes(20), b"MM\0*" + b"\xff" * 4, b"II*\0" + b"\x08" + bytes(3)]
)
def test_what_is_cut_off_is_refused(start: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        read(start)


def test_a_big_tiff_is_told_by_name() -> None:
    with pytest.raises(ValueError, match="found a BigTIFF; save it as plain TIFF"):
        read(b"II+\0" + tiff(np.zeros((20, 13), np.uint8))[4:])


@settings(max_examples=60)
@given(data=st.data(), values=arrays.arrays(np.uint8, (12, 5)))
def test_changed_bytes_give_pixels_or_words(data: st.DataObject, values: NDArray[np.uint8]) -> None:
    content = bytearray(tiff(values, rows=4))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        directory = read_directory(bytes(content), most_pixels=1000)
        if directory.height * directory.width <= 1000:
            assert read_pixels(bytes(content), directory).shape == (directory.height, directory.width)
    except ValueError:  # words; any other error fails
        return
