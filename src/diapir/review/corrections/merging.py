"""Masks that two people changed, brought together pixel by pixel; and a change taken back from among later ones."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
"""uint8 (rows, columns): 1 where there is salt, UNKNOWN where nobody has said, 0 elsewhere."""


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


def take_back(*, before: Mask, after: Mask, current: Mask) -> Merged:
    """What is there now without the change from `before` to `after`; pixels that were changed again stay as they are.

    Args:
        current: what has come of `after` since.
    """
    assert before.shape == after.shape == current.shape
    was_changed = before != after
    mask = np.where(was_changed & (current == after), before, current)
    contested = was_changed & (current != after) & (current != before)
    return Merged(mask, int((mask != current).sum()), int(contested.sum()))
