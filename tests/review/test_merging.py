"""What becomes of masks that two people change."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from diapir.review.corrections.merging import Change, merge_masks, replay

Mask = NDArray[np.uint8]
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
VALUES = st.sampled_from([0, 1, 255])


def masks(count: int) -> st.SearchStrategy[list[Mask]]:
    """So many masks of one shape."""
    return SHAPES.flatmap(
        lambda shape: st.lists(npst.arrays(np.uint8, shape, elements=VALUES), min_size=count, max_size=count)
    )


@given(masks(3))
def test_every_pixel_that_i_changed_is_mine_and_every_other_theirs(given_masks: list[Mask]) -> None:
    base, current, mine = given_masks
    merged = merge_masks(base=base, current=current, mine=mine)
    for place in np.ndindex(base.shape):
        expected = mine[place] if mine[place] != base[place] else current[place]
        assert merged.mask[place] == expected
    assert merged.changed == (merged.mask != current).sum()


@given(masks(2))
def test_what_nobody_else_changed_is_saved_as_it_was_drawn(given_masks: list[Mask]) -> None:
    base, mine = given_masks
    merged = merge_masks(base=base, current=base, mine=mine)
    assert (merged.mask == mine).all()
    assert merged.contested == 0


@given(masks(2))
def test_who_changes_nothing_takes_nothing_away(given_masks: list[Mask]) -> None:
    base, current = given_masks
    merged = merge_masks(base=base, current=current, mine=base)
    assert (merged.mask == current).all()
    assert (merged.changed, merged.contested) == (0, 0)


@given(masks(3))
def test_changes_of_different_pixels_come_to_the_same_in_either_order(given_masks: list[Mask]) -> None:
    base, one, other = given_masks
    other = np.where(one != base, base, other)
    first = merge_masks(base=base, current=one, mine=other)
    second = merge_masks(base=base, current=other, mine=one)
    assert (first.mask == second.mask).all()
    assert first.contested == second.contested == 0


@given(masks(3))
def test_contested_pixels_are_those_that_both_changed_otherwise(given_masks: list[Mask]) -> None:
    base, current, mine = given_masks
    count = sum(len({int(base[at]), int(current[at]), int(mine[at])}) == 3 for at in np.ndindex(base.shape))
    assert merge_masks(base=base, current=current, mine=mine).contested == count


@given(masks(4), st.lists(st.booleans(), min_size=3, max_size=3))
def test_of_each_pixel_the_last_change_that_stands_counts(states: list[Mask], stand: list[bool]) -> None:
    changes = [Change(before, after) for before, after in itertools.pairwise(states)]
    mask = replay(states[0], [change for change, stands in zip(changes, stand, strict=True) if stands])
    for place in np.ndindex(mask.shape):
        said = [states[0][place]]
        said += [
            c.after[place]
            for c, stands in zip(changes, stand, strict=True)
            if stands and c.before[place] != c.after[place]
        ]
        assert mask[place] == said[-1]


@given(masks(3))
def test_changes_that_all_stand_come_to_what_is_there(states: list[Mask]) -> None:
    changes = [Change(before, after) for before, after in itertools.pairwise(states)]
    assert (replay(states[0], changes) == states[-1]).all()
    assert (replay(states[0], []) == states[0]).all()
