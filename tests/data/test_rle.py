import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from diapir.data.rle import decode, encode, rle_fault
from diapir.faults import InputError
from fake_masks import blob_masks

MASKS = arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3), elements=st.integers(0, 1))
# Numbers near the edges of a 4 x 5 mask, and words that are no numbers though some programs take them for such.
WORDS = st.one_of(
    st.integers(-2, 23).map(str),
    st.sampled_from(["05", "-0", "+5", "1.0", "1e2", "nan", "1_0", "٣", "², ", "0x1", "9" * 30, "0" * 30 + "7"]),
)
TEXTS = st.lists(WORDS, max_size=6).flatmap(
    lambda words: st.sampled_from([" ", "  ", "\t", "\n", "\r\n", "\u00a0"]).map(lambda space: space.join(words))
)


def slow_encode(mask: NDArray[np.uint8]) -> str:
    """Pixel by pixel, down the columns, as one would explain it."""
    runs: list[list[int]] = []
    for number, value in enumerate(mask.T.ravel(), start=1):
        if value and runs and sum(runs[-1]) == number:
            runs[-1][1] += 1
        elif value:
            runs.append([number, 1])
    return " ".join(f"{start} {length}" for start, length in runs)


def slow_decode(text: str, *, height: int, width: int) -> NDArray[np.uint8] | None:
    """The mask, or None where the text is none, judged pixel by pixel."""
    words = text.split()
    if len(words) % 2 or not all(re.fullmatch("-?[0-9]+", word) for word in words):
        return None
    pixels = np.zeros(height * width, np.uint8)
    last = 0
    for start, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        if start <= last or length < 1 or start + length - 1 > pixels.size:
            return None
        last = start + length - 1
        pixels[start - 1 : last] = 1
    return pixels.reshape(width, height).T


@given(MASKS)
def test_decode_undoes_encode(masks: NDArray[np.uint8]) -> None:
    _, height, width = masks.shape
    assert np.array_equal(decode(encode(masks), height=height, width=width), masks)


@given(MASKS)
def test_encode_agrees_with_the_slow_obvious_version(masks: NDArray[np.uint8]) -> None:
    assert encode(masks) == [slow_encode(mask) for mask in masks]


@given(st.lists(TEXTS, max_size=4))
def test_decode_and_rle_fault_agree_with_the_slow_obvious_version(texts: list[str]) -> None:
    expected = [slow_decode(text, height=4, width=5) for text in texts]
    faults = [rle_fault(text, height=4, width=5) for text in texts]
    assert [fault is None for fault in faults] == [mask is not None for mask in expected]
    if any(faults):
        with pytest.raises(InputError) as caught:
            decode(texts, height=4, width=5)
        named = [(fault.where, fault.what) for fault in caught.value.faults]
        assert named == [(f"mask {index}", fault) for index, fault in enumerate(faults) if fault]
    else:
        masks = [mask for mask in expected if mask is not None]
        assert np.array_equal(decode(texts, height=4, width=5), np.array(masks, np.uint8).reshape(-1, 4, 5))


def test_pixels_are_numbered_down_the_columns_from_1() -> None:
    mask = np.array([[[0, 1, 0], [1, 1, 0]]], np.uint8)
    assert encode(mask) == ["2 3"]
    assert encode(np.zeros((2, 3, 3), np.uint8)) == ["", ""]
    assert encode(np.ones((1, 101, 101), np.uint8)) == ["1 10201"]


def test_many_masks_survive_in_several_chunks() -> None:
    masks = blob_masks(700)
    assert np.array_equal(decode(encode(masks), height=101, width=101), masks)


def test_every_nonzero_value_is_salt() -> None:
    masks = blob_masks(20)
    assert encode(masks * np.uint8(255)) == encode(masks.astype(np.bool_)) == encode(masks)
    assert encode(np.array([[[1], [255], [0]]], np.uint8)) == ["1 2"]


def test_touching_runs_are_one_piece_of_salt() -> None:
    assert encode(decode(["1 2 3 4"], height=4, width=4)) == ["1 6"]


def test_zero_masks_are_no_trouble() -> None:
    assert encode(np.zeros((0, 101, 101), np.uint8)) == []
    assert decode([], height=101, width=101).shape == (0, 101, 101)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 3 9", "odd number of numbers (3)"),
        ("0 3", '"0 3" starts before pixel 1'),
        ("-4 3", '"-4 3" starts before pixel 1'),
        ("4 0", '"4 0" has no length'),
        ("4 -2", '"4 -2" has no length'),
        ("1 5 5 2", '"5 2" overlaps or precedes the run before, which ends at pixel 5'),
        ("7 2 1 2", '"1 2" overlaps or precedes the run before, which ends at pixel 8'),
        ("10201 2", '"10201 2" goes past the last pixel, which is 10201 for 101 x 101'),
        ("10202 1", "goes past the last pixel"),
        (f"1 {2**64 + 1}", "goes past the last pixel"),
        ("1 " + "9" * 10_000, '999..." goes past the last pixel'),
        ("nan", "or nothing for no salt; found 'nan'"),
        ("1.0 2.0", "found '1.0'"),
        ("١ ٢", r"found '\u0661'"),
        ("1,2", "found '1,2'"),
    ],
)
def test_a_fault_is_told_with_its_numbers(text: str, says: str) -> None:
    fault = rle_fault(text, height=101, width=101)
    assert fault is not None
    assert says in fault
    assert len(fault) < 200
    with pytest.raises(InputError, match=re.escape(f"mask 1: {fault}")):
        decode(["1 1", text, ""], height=101, width=101)


@pytest.mark.parametrize("text", ["", " ", "1 10201", "10201 1", "1 1 3 1", "1 1 2 1", "0001 02", " 1\t1\r\n"])
def test_a_text_at_the_edge_of_what_is_right_has_no_fault(text: str) -> None:
    assert rle_fault(text, height=101, width=101) is None
    numbers = [int(word) for word in text.split()]
    assert decode([text], height=101, width=101).sum() == sum(numbers[1::2])


def test_the_sample_submissions_mask_is_the_first_pixel() -> None:
    mask = decode([" 1  1 "], height=101, width=101)[0]
    assert mask[0, 0] == 1
    assert mask.sum() == 1


def test_real_masks_give_the_competitions_text_to_the_character(tgs_folder: Path) -> None:
    with (tgs_folder / "train.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["rle_mask"] for row in csv.DictReader(file)]
    masks = decode(texts, height=101, width=101)
    assert len(texts) > 3000
    assert encode(masks) == texts
