"""Masks and the competition's run-length text, both ways.

The convention: pixels are numbered from 1, down the first column, then down the next; a text lists "start length"
pairs in ascending order; an empty mask is an empty text. Source: the competition's evaluation page.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diapir.faults import Fault, raise_if_any

# Pixels in hand at once: small enough for a processor's cache, large enough to make the calls count for little.
_CHUNK_PIXELS = 1 << 21
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
# No mask has this many pixels; a longer number would not fit 64 bits.
_LONGEST_NUMBER = 18
_LONGEST_QUOTE = 24


def encode(masks: NDArray[np.uint8] | NDArray[np.bool_]) -> list[str]:
    """Run-length texts of masks.

    Args:
        masks: (n, height, width); anything but 0 is salt.
    """
    assert masks.ndim == 3, f"masks are (n, height, width): got {masks.shape}"
    step = _masks_at_once(masks.shape[1], masks.shape[2])
    texts: list[str] = []
    for first in range(0, len(masks), step):
        chunk = masks[first : first + step] != 0
        texts += _texts_of_runs(_run_edges(chunk), num_masks=len(chunk), num_pixels=chunk[0].size)
    return texts


def decode(texts: Sequence[str], *, height: int, width: int) -> NDArray[np.uint8]:
    """Masks of run-length texts: uint8 (n, height, width), 1 where there is salt.

    White space around and between the numbers is harmless.

    Raises:
        InputError: texts that are not run-length texts of such a mask, each with its index and fault.
    """
    step = _masks_at_once(height, width)
    masks = np.zeros((len(texts), height, width), np.uint8)
    is_checked = False
    for first in range(0, len(texts), step):
        part = texts[first : first + step]
        runs = _runs(part, num_pixels=height * width)
        if runs is None:
            # Something is odd here: find every fault by the slow and plain way, and go on if there is none.
            if not is_checked:
                _raise_faults(texts, height=height, width=width)
            is_checked = True
            runs = _runs([_plain(text) for text in part], num_pixels=height * width)
            assert runs is not None, "texts without a fault can be decoded"
        _fill(masks[first : first + step], *runs)
    return masks


def rle_fault(text: str, *, height: int, width: int) -> str | None:
    """What is wrong with a run-length text of a mask of that size, in one sentence; None if nothing is."""
    words = text.split()
    for word in words:
        if not _WHOLE_NUMBER.fullmatch(word):
            return (
                f'expected whole numbers "start length start length ...", or nothing for no salt; found {_quoted(word)}'
            )
    if len(words) % 2:
        return f"expected pairs of start and length, found an odd number of numbers ({len(words)})"
    last = 0
    for start_word, length_word in zip(words[::2], words[1::2], strict=True):
        start, length = _clamped(start_word), _clamped(length_word)
        run = f'the run "{_short(start_word)} {_short(length_word)}"'
        if start < 1:
            return f"{run} starts before pixel 1; pixels are numbered from 1"
        if length < 1:
            return f"{run} has no length; a run has at least 1 pixel"
        if start + length - 1 > height * width:
            return f"{run} goes past the last pixel, which is {height * width} for {height} x {width}"
        if start <= last:
            return f"{run} overlaps or precedes the run before, which ends at pixel {last}; runs must ascend"
        last = start + length - 1
    return None


def _run_edges(salt: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where runs start and end in turn, as mask * (pixels + 1) + pixel; pixels from 0, down the columns."""
    _, height, width = salt.shape
    change = np.empty(salt.shape, np.bool_)
    np.not_equal(salt[:, 1:], salt[:, :-1], out=change[:, 1:])
    np.not_equal(salt[:, 0, 1:], salt[:, -1, :-1], out=change[:, 0, 1:])
    change[:, 0, 0] = salt[:, 0, 0]
    # The few changes are put in column order; turning all the pixels would cost more than all the rest.
    mask, pixel = np.divmod(np.flatnonzero(change), height * width)
    row, column = np.divmod(pixel, width)
    edges = mask * (height * width + 1) + column * height + row
    open_ended = np.flatnonzero(salt[:, -1, -1])
    # The stable sort profits from the order that is there already.
    return np.sort(np.concatenate([edges, open_ended * (height * width + 1) + height * width]), kind="stable")


def _texts_of_runs(edges: NDArray[np.int64], *, num_masks: int, num_pixels: int) -> list[str]:
    """The text of every mask, written at once: digits as columns of a byte table, without their leading zeros."""
    mask, start = np.divmod(edges[::2], num_pixels + 1)
    numbers = np.stack([start + 1, edges[1::2] - edges[::2]], axis=1).ravel()
    numbers, num_digits = (
        numbers.astype(np.min_scalar_type(num_pixels)),
        len(str(num_pixels)),
    )
    table = np.zeros((len(numbers), num_digits + 1), np.uint8)
    sizes = np.ones(len(numbers), np.int64)
    ten = numbers.dtype.type(10)
    for column in range(num_digits):
        power = numbers.dtype.type(10 ** (num_digits - 1 - column))
        is_written = numbers >= power
        table[:, column] = np.where(is_written, numbers // power % ten + ord("0"), 0)
        sizes += is_written
    table[:, -1] = ord(" ")
    text = table.tobytes().translate(None, b"\0").decode("ascii")
    per_mask = np.bincount(mask, weights=sizes[::2] + sizes[1::2], minlength=num_masks).astype(np.int64)
    ends = np.cumsum(per_mask)
    # Each text ends with a space of its own, which is left out.
    spans = zip((ends - per_mask).tolist(), ends.tolist(), strict=True)
    return [text[begin:end].rstrip(" ") for begin, end in spans]


def _runs(
    texts: Sequence[str], *, num_pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
    """Mask, first pixel (from 0) and pixel behind the last of every run; None where any text needs a closer look."""
    joined = "\n".join(texts) + "\n"
    if not joined.isascii():
        return None
    characters = np.frombuffer(joined.encode("ascii"), np.uint8)
    digits = characters - np.uint8(ord("0"))
    is_digit = digits <= 9
    line_ends = np.flatnonzero(characters == ord("\n"))
    spaces = np.count_nonzero(characters == ord(" "))
    if len(line_ends) != len(texts) or len(characters) != np.count_nonzero(is_digit) + spaces + len(texts):
        return None
    starts = np.flatnonzero(is_digit & ~np.concatenate([[False], is_digit[:-1]]))
    ends = np.flatnonzero(is_digit[:-1] & ~is_digit[1:]) + 1
    sizes = ends - starts
    if sizes.max(initial=0) > min(len(str(num_pixels)), _LONGEST_NUMBER):
        return None
    values = np.zeros(len(starts), np.int64)
    for place in range(int(sizes.max(initial=0))):
        values += np.where(
            place < sizes,
            digits[np.maximum(ends - 1 - place, 0)] * np.int64(10**place),
            0,
        )
    per_text = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    if (per_text % 2).any():
        return None
    mask = np.repeat(np.arange(len(texts)), per_text // 2)
    begin, length = values[::2] - 1, values[1::2]
    follows = (mask[1:] == mask[:-1]) & (begin[1:] < (begin + length)[:-1])
    if (begin < 0).any() or (length < 1).any() or (begin + length > num_pixels).any() or follows.any():
        return None
    return mask, begin, begin + length


def _fill(masks: NDArray[np.uint8], mask: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> None:
    """Draw runs that do not overlap: mark where salt begins and ends, then sweep down the rows."""
    num_masks, height, width = masks.shape
    tops = np.zeros(num_masks * (width + 1), np.int64)
    for pixel, sign in ((begin, 1), (end, -1)):
        tops += sign * np.bincount(mask * (width + 1) + -(-pixel // height), minlength=len(tops))
    # With the row of all masks side by side, a step of the sweep is one pass over memory.
    lines = np.zeros((height, num_masks, width), np.uint8)
    for pixel in (begin, end):
        column, row = np.divmod(pixel, height)
        inside = row > 0
        # Within begins, and within ends, no place occurs twice; a run may begin where another ends.
        lines[row[inside], mask[inside], column[inside]] ^= 1
    lines[0] = np.cumsum(tops.reshape(num_masks, width + 1), axis=1)[:, :width]
    for line in range(1, height):
        lines[line] ^= lines[line - 1]
    masks[...] = lines.transpose(1, 0, 2)


def _raise_faults(texts: Sequence[str], *, height: int, width: int) -> None:
    faults = ((index, rle_fault(text, height=height, width=width)) for index, text in enumerate(texts))
    raise_if_any(Fault(f"mask {index}", fault) for index, fault in faults if fault is not None)


def _masks_at_once(height: int, width: int) -> int:
    assert min(height, width) > 0, f"a mask has pixels: got {height} x {width}"
    return max(1, _CHUNK_PIXELS // (height * width))


def _plain(text: str) -> str:
    """A text without faults, with single spaces and without leading zeros."""
    return " ".join(str(_clamped(word)) for word in text.split())


def _clamped(word: str) -> int:
    """A whole number of any length, cut where it is beyond every mask anyway."""
    digits = word.lstrip("-").lstrip("0") or "0"
    size = int(digits) if len(digits) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER
    return -size if word.startswith("-") else size


def _short(word: str) -> str:
    return word if len(word) <= _LONGEST_QUOTE else f"{word[:_LONGEST_QUOTE]}..."


def _quoted(word: str) -> str:
    return ascii(_short(word))
