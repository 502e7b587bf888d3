from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.folds import make_folds, write_folds
from diapir.data.section_folds import keep_apart, salted_sections
from diapir.data.tiles import CROSSLINE, INLINE, UNKNOWN, TileSet
from diapir.faults import InputError
from diapir.recipe.tiles import Folds

SIDE = 10
Lines = list[tuple[int, int]]


def tiles_of(sections: Lines, *, traces: int = 40, without_salt: Lines | None = None) -> TileSet:
    """Tiles of sections along their whole length, overlapping by half, in no order, with salt in each."""
    places = [
        (direction, line, sample, trace)
        for direction, line in sections
        for sample in (0, 5)
        for trace in range(0, traces - SIDE + 1, SIDE // 2)
    ]
    places = [places[row] for row in np.random.default_rng(0).permutation(len(places))]
    masks = np.zeros((len(places), SIDE, SIDE), np.uint8)
    masks[[place[:2] not in (without_salt or []) for place in places], 3:6] = 1
    ids = tuple("-".join(map(str, place)) for place in places)
    depths = np.full(len(ids), np.nan, np.float32)
    return TileSet(ids, np.zeros_like(masks), masks, depths, np.array(places, np.int64))


def scheme(count: int, *, gap: int = 0, held_out: tuple[int, ...] = ()) -> Folds:
    return Folds(scheme="sections", count=count, gap=gap, held_out=held_out)


def fold_of_each(tiles: TileSet, folds: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """The fold of each section, which has to be the same in all of its tiles."""
    assert tiles.places is not None
    found: dict[tuple[int, int], set[int]] = {}
    for place, fold in zip(tiles.places.tolist(), folds.tolist(), strict=True):
        found.setdefault((place[0], place[1]), set()).add(fold)
    assert all(len(values) == 1 for values in found.values()), "a section was cut"
    return {section: values.pop() for section, values in found.items()}


def inlines(*lines: int) -> Lines:
    return [(INLINE, line) for line in lines]


@pytest.mark.parametrize(("number", "count"), [(2, 2), (3, 2), (3, 3), (5, 5), (12, 5)])
def test_whole_neighbouring_sections_are_held_out_together(number: int, count: int) -> None:
    tiles = tiles_of(inlines(*range(0, 30 * number, 30)))
    folds = fold_of_each(tiles, make_folds(tiles, scheme(count)))
    in_order = [folds[section] for section in sorted(folds)]
    assert in_order == sorted(in_order), "not neighbours"
    assert set(in_order) == set(range(count))
    assert np.ptp(np.bincount(in_order)) <= 1


def test_sections_without_salt_go_with_the_nearest_that_has_some() -> None:
    bare = inlines(0, 90, 210)
    tiles = tiles_of(inlines(0, 30, 60, 90, 120, 210), without_salt=bare)
    folds = fold_of_each(tiles, make_folds(tiles, scheme(3)))
    assert [folds[INLINE, line] for line in (0, 30, 60, 90, 120, 210)] == [0, 0, 1, 1, 2, 2]


def test_a_section_of_the_other_direction_is_never_the_nearest() -> None:
    tiles = tiles_of([*inlines(0, 90), (CROSSLINE, 91)], without_salt=inlines(90))
    folds = fold_of_each(tiles, make_folds(tiles, scheme(2)))
    assert folds == {(INLINE, 0): 0, (INLINE, 90): 0, (CROSSLINE, 91): 1}


def test_the_order_of_the_tiles_does_not_matter() -> None:
    tiles = tiles_of([*inlines(0, 30, 60), (CROSSLINE, 20)], traces=60)
    order = np.random.default_rng(1).permutation(len(tiles))
    assert np.array_equal(make_folds(tiles.take(order), scheme(2)), make_folds(tiles, scheme(2))[order])


# What is learned from beside what is held out.


def known_traces(tiles: TileSet) -> set[tuple[int, int]]:
    """Inline and crossline of every column of which something is known, one by one."""
    assert tiles.places is not None
    assert tiles.masks is not None
    found = set()
    for (direction, line, _, trace), mask in zip(tiles.places.tolist(), tiles.masks, strict=True):
        for column in range(SIDE):
            if (mask[:, column] != UNKNOWN).any():
                along = trace + column
                found.add((along, line) if direction == CROSSLINE else (line, along))
    return found


@pytest.mark.parametrize("gap", [0, 1, 4, 12])
def test_what_is_known_in_training_lies_beyond_the_gap_and_nothing_else_is_lost(gap: int) -> None:
    tiles = tiles_of([*inlines(0, 3, 12, 30), (CROSSLINE, 7), (CROSSLINE, 33)], traces=45)
    assert tiles.places is not None
    is_own = (tiles.places[:, 0] == INLINE) & np.isin(tiles.places[:, 1], (3, 12))
    held_out, others = tiles.take(np.flatnonzero(is_own)), tiles.take(np.flatnonzero(~is_own))
    # Of sections that are held out, what is known reaches over crosslines 0 to 44.
    expected = {
        (inline, crossline)
        for inline, crossline in known_traces(others)
        if min(abs(inline - 3), abs(inline - 12)) > gap or crossline > 44 + gap
    }
    kept = keep_apart(others, held_out, gap=gap)
    assert known_traces(kept) == expected
    assert kept.masks is not None
    assert (kept.masks != UNKNOWN).any((1, 2)).all(), "a tile that teaches nothing"


def test_only_what_is_known_of_held_out_tiles_keeps_others_away() -> None:
    tiles = tiles_of(inlines(0, 2), traces=40)
    assert tiles.places is not None
    assert tiles.masks is not None
    own, other = (tiles.take(np.flatnonzero(tiles.places[:, 1] == line)) for line in (0, 2))
    assert own.places is not None
    assert own.masks is not None
    masks = own.masks.copy()
    masks[(own.places[:, 3:] + np.arange(SIDE) >= 20)[:, None, :].repeat(SIDE, 1)] = UNKNOWN
    kept = keep_apart(other, replace(own, masks=masks), gap=3)
    assert known_traces(kept) == {(2, crossline) for crossline in range(23, 40)}


def test_far_sections_are_kept_as_they_are() -> None:
    tiles = tiles_of(inlines(0, 50))
    assert tiles.places is not None
    own, other = (tiles.take(np.flatnonzero(tiles.places[:, 1] == line)) for line in (0, 50))
    kept = keep_apart(other, own, gap=10)
    assert kept.ids == other.ids
    assert np.array_equal(kept.masks, other.masks)  # type: ignore[arg-type]


# What cannot be held out.


@pytest.mark.parametrize(
    ("tiles", "section", "what"),
    [
        (tiles_of(inlines(0)), scheme(2), "expected at least two sections with salt, so that one can be held out"),
        (tiles_of(inlines(0, 9), without_salt=inlines(9)), scheme(2), "found 1 among 2 labelled; label another"),
        (tiles_of(inlines(0, 50, 99)), scheme(5), "found 3 among 3 labelled; label more, or set it to 3"),
        (tiles_of(inlines(0, 50, 57)), scheme(3, gap=50, held_out=(1,)), "nothing is left to train on"),
        (replace(tiles_of(inlines(0, 50)), places=None), scheme(2), "these are of none: use diapir survey train"),
    ],
)
def test_sections_that_cannot_be_divided_are_refused(tiles: TileSet, section: Folds, what: str) -> None:
    with pytest.raises(InputError, match="folds") as caught:
        make_folds(tiles, section)
    assert what in str(caught.value)


def test_only_folds_that_are_held_out_need_something_beside_them() -> None:
    tiles = tiles_of(inlines(0, 8, 16))
    assert set(make_folds(tiles, scheme(3, gap=10, held_out=(0, 2)))) == {0, 1, 2}
    with pytest.raises(InputError, match="fold 1 holds out"):
        make_folds(tiles, scheme(3, gap=10))


@pytest.mark.parametrize("raw", [{"scheme": "sections"}, {"scheme": "depth", "gap": 3}])
def test_the_scheme_and_the_gap_go_together(raw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="scheme 'sections' and a gap go together"):
        Folds.model_validate(raw)


def test_folds_without_a_gap_say_nothing_of_it() -> None:
    assert "gap" not in Folds().model_dump(mode="json")
    assert Folds.model_validate(scheme(2, gap=4).model_dump(mode="json")) == scheme(2, gap=4)


def test_the_file_of_folds_tells_the_gap(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    write_folds(path, ("a",), np.zeros(1, np.int64), scheme(2, gap=7))
    assert path.read_text().startswith("# scheme=sections count=2 seed=0 gap=7\nid,fold\n")


def test_sections_are_told_with_whether_they_hold_salt() -> None:
    sections, has_salt = salted_sections(tiles_of([*inlines(9, 4), (CROSSLINE, 2)], without_salt=inlines(4)))
    assert sections.tolist() == [[INLINE, 4], [INLINE, 9], [CROSSLINE, 2]]
    assert has_salt.tolist() == [False, True, True]
