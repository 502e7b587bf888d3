"""Masks that two people changed, put together pixel by pixel; and what comes of changes that were not taken back."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
"""uint8 (rows, columns): 1 where there is salt, UNKNOWN where nobody has said, 0 elsewhere."""


class Change(NamedTuple):
    """Masks of a change: what was there, what is now, and what was sent where that differs."""

    before: Mask
    after: Mask
    drawn: Mask | None = None


class Merged(NamedTuple):
    """A mask after a change.

    Args:
        changed: pixels that differ from what was there.
        contested: pixels that both sides had changed, and not to the same.
    """

    mask: Mask
    changed: int
    contested: int


def merge_masks(*, base: Mask, current: Mask, mine: Mask) -> Merged:
    """What is there now, with every pixel that I changed since `base` as I want it; the others' pixels stay.

    Args:
        base: what I began with.
        current: what others have made of it meanwhile.
    """
    assert base.shape == current.shape == mine.shape
    is_mine = mine != base
    mask = np.where(is_mine, mine, current)
    contested = is_mine & (current != base) & (current != mine)
    return Merged(mask, int((mask != current).sum()), int(contested.sum()))


def replay(original: Mask, changes: Iterable["Change"]) -> Mask:
    """What comes of changes that are made one after another: each leaves the pixels that it changed as it left them.

    Those that are taken back are left out, in whatever order that was done: of the changes of a pixel that stand the
    last counts, and where none does the original.
    """
    mask = original.copy()
    for change in changes:
        assert change.before.shape == change.after.shape == mask.shape
        np.copyto(mask, change.after, where=change.before != change.after)
    return mask
