from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.data.check import are_constant
from diapir.data.mosaic import NONE, Mosaics, are_beside_training, find_mosaics, neighbours, place_tiles
from diapir.data.mosaic_links import Links
from diapir.data.tiles import DataSet
from fake_surveys import SIDE, mosaics_of, strangers, survey_tiles

RIGHT, BELOW = (0, 1), (1, 0)
Link = tuple[int, int, bool, float]


def links_of(links: Sequence[Link]) -> Links:
    first, second, is_below, strength = zip(*links, strict=True) if links else ((), (), (), ())
    return Links(
        np.array(first, np.int64), np.array(second, np.int64), np.array(is_below, np.bool_), np.array(strength, float)
    )


def shown(mosaics: Mosaics) -> list[tuple[int, int, int]]:
    return list(zip(mosaics.mosaic.tolist(), mosaics.row.tolist(), mosaics.column.tolist(), strict=True))


def grid(mosaic: int, rows: int, columns: int) -> list[tuple[int, int, int]]:
    return [(mosaic, row, column) for row in range(rows) for column in range(columns)]


def test_surveys_cut_into_tiles_are_put_together_again_among_strangers() -> None:
    alone = [*strangers(30, seed=1), *np.zeros((4, SIDE, SIDE), np.uint8)]
    images = np.stack([*survey_tiles(3, 2, seed=7), *survey_tiles(4, 5, seed=8), *alone])
    expected = np.array([*grid(1, 3, 2), *grid(0, 4, 5), *[(NONE,) * 3] * len(alone)])
    order = np.random.default_rng(0).permutation(len(images))
    found = find_mosaics(images[order])
    assert shown(found) == [tuple(place) for place in expected[order].tolist()]
    assert found.num_dropped == 0


def test_a_survey_with_tiles_missing_keeps_its_gaps() -> None:
    places = grid(0, 4, 4)
    kept = np.array([place[1:] not in {(1, 1), (2, 2), (0, 3)} for place in places])
    found = find_mosaics(survey_tiles(4, 4, seed=3)[kept])
    assert shown(found) == [place for place, is_kept in zip(places, kept, strict=True) if is_kept]


def test_the_order_of_the_tiles_does_not_matter() -> None:
    surveys = [survey_tiles(2, 2, seed=seed) for seed in range(4)]  # mosaics of one size, so that numbers are in play
    images = np.concatenate([*surveys, strangers(5, seed=2)])
    found = shown(find_mosaics(images))
    assert len(set(found)) > 16
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(images))
        assert shown(find_mosaics(images[order])) == [found[tile] for tile in order]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_tiles_are_no_trouble(count: int) -> None:
    assert shown(find_mosaics(strangers(2, seed=0)[:count])) == [(NONE,) * 3] * count


def test_noise_strangers_constant_and_equal_tiles_do_not_link() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, SIDE, SIDE), dtype=np.uint8)
    constant = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), SIDE * SIDE).reshape(-1, SIDE, SIDE)
    once = strangers(40, seed=4)
    found = find_mosaics(np.concatenate([noise, constant, once, once[:10]]))
    assert set(shown(found)) == {(NONE,) * 3}


def test_mirror_images_do_not_link() -> None:
    images = strangers(12, seed=5)
    # Side by side with its mirror image, every tile goes on without a seam.
    for mirrored in (images[:, :, ::-1], images[:, ::-1]):
        assert set(shown(find_mosaics(np.concatenate([images, mirrored])))) == {(NONE,) * 3}


def test_a_mirrored_tile_takes_no_place_in_its_survey() -> None:
    images = np.concatenate([survey_tiles(3, 3, seed=11), strangers(20, seed=6)])
    images[4] = images[4, ::-1, ::-1]
    found = shown(find_mosaics(images))
    assert found[4] == (NONE,) * 3
    assert found[:4] + found[5:9] == [place for place in grid(0, 3, 3) if place != (0, 1, 1)]


def test_edges_of_one_grey_do_not_link() -> None:
    # All pictures brighten downwards, so that beside them two flat edges look much alike.
    noise = np.random.default_rng(0).integers(0, 100, (40, SIDE, SIDE))
    images = (noise + np.arange(SIDE)[:, None]).astype(np.uint8)
    images[0, :, -2:], images[1, :, :2] = 50, 60
    assert set(shown(find_mosaics(images))) == {(NONE,) * 3}


# Placing.


def some_links(count: int) -> st.SearchStrategy[list[Link]]:
    """Links such as a search gives: any side of a tile has one at most, and all strengths differ."""

    def pairs(permuted: tuple[list[int], list[int]]) -> list[tuple[int, int, bool]]:
        sides = zip((False, True), permuted, strict=True)
        return [(a, b, is_below) for is_below, row in sides for a, b in enumerate(row) if a != b]

    both = st.tuples(st.permutations(range(count)), st.permutations(range(count))).map(pairs)
    chosen = both.flatmap(lambda found: st.lists(st.sampled_from(found), unique=True) if found else st.just([]))
    return chosen.map(lambda found: [(*link, 1 - place / 100) for place, link in enumerate(found)])


def holds(mosaics: Mosaics, link: Link) -> bool:
    (number, row, column), other = (shown(mosaics)[tile] for tile in link[:2])
    down, right = BELOW if link[2] else RIGHT
    return number != NONE and (number, row + down, column + right) == other


@settings(deadline=None)
@given(some_links(7))
def test_no_tile_has_two_places_and_no_place_two_tiles(links: list[Link]) -> None:
    placed = [place for place in shown(place_tiles(links_of(links), count=7)) if place[0] != NONE]
    assert len(set(placed)) == len(placed)
    for number in {mosaic for mosaic, _, _ in placed}:
        members = [(row, column) for mosaic, row, column in placed if mosaic == number]
        assert len(members) > 1
        assert min(row for row, _ in members) == min(column for _, column in members) == 0


@settings(deadline=None)
@given(some_links(7))
def test_a_link_holds_unless_stronger_ones_contradict_it(links: list[Link]) -> None:
    kept: list[Link] = []
    for number, link in enumerate(links, start=1):
        placed = place_tiles(links_of(links[:number]), count=7)
        assert all(holds(placed, one) for one in kept), "a weaker link changes nothing"
        if holds(placed, link):
            kept.append(link)
        assert placed.num_dropped == number - len(kept)
    # Without its contradiction, the same link would hold.
    for link in links:
        assert holds(place_tiles(links_of([link]), count=7), link)


@pytest.mark.parametrize(
    ("links", "places"),
    [
        ([(0, 1, False, 0.9), (1, 0, False, 0.8)], [(0, 0, 0), (0, 0, 1)]),  # a ring: a tile would have two places
        (  # two tiles right of one and above one: one place for both
            [(0, 1, False, 0.9), (1, 2, True, 0.8), (3, 2, True, 0.7)],
            [(0, 0, 0), (0, 0, 1), (0, 1, 1), (NONE,) * 3],
        ),
        ([(3, 2, True, 0.95), (0, 1, False, 0.9), (1, 2, True, 0.8)], [(1, 0, 0), (1, 0, 1), (0, 1, 0), (0, 0, 0)]),
    ],
)
def test_of_links_that_contradict_each_other_the_weakest_is_dropped(
    links: list[Link], places: list[tuple[int, int, int]]
) -> None:
    placed = place_tiles(links_of(links), count=len(places))
    numbers = [place[1:] for place in shown(placed)]
    assert numbers == [place[1:] for place in places]
    assert placed.num_dropped == 1


def test_the_largest_mosaic_comes_first() -> None:
    links: list[Link] = [(0, 1, True, 0.5), (2, 3, False, 0.5), (3, 4, False, 0.5), (5, 6, True, 0.9)]
    placed = place_tiles(links_of(links), count=8)
    assert placed.mosaic.tolist() == [1, 1, 0, 0, 0, 2, 2, NONE]


# Neighbours.


def test_neighbours_are_above_below_left_and_right() -> None:
    found = neighbours(mosaics_of("ab. .cd", "g h i"))
    assert found.tolist() == [
        [NONE, NONE, NONE, 1],
        [NONE, 2, 0, NONE],
        [1, NONE, NONE, 3],
        [NONE, NONE, 2, NONE],
        [NONE] * 4,
        [NONE] * 4,
        [NONE, 7, NONE, NONE],
        [6, 8, NONE, NONE],
        [7, NONE, NONE, NONE],
    ]


def test_a_tile_is_beside_training_if_a_neighbour_is_in_another_fold() -> None:
    mosaics = mosaics_of("abc d.e")
    assert are_beside_training(np.array([0, 0, 1, 0, 1]), mosaics).tolist() == [False, True, True, False, False]
    assert not are_beside_training(np.zeros(5, np.int64), mosaics).any()
    assert are_beside_training(np.arange(5), mosaics).tolist() == [True] * 5


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_beside_training_is_what_looking_at_every_pair_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.divmod(rng.permutation(12)[:9], 4)
    mosaics = Mosaics(np.full(9, 0), rows, columns)
    folds = rng.integers(0, 3, 9)
    slow: NDArray[np.bool_] = np.zeros(9, np.bool_)
    for one in range(9):
        for other in range(9):
            is_near = abs(rows[one] - rows[other]) + abs(columns[one] - columns[other]) == 1
            slow[one] |= is_near and folds[one] != folds[other]
    assert np.array_equal(are_beside_training(folds, mosaics), slow)


# The real tiles.


def test_the_real_mosaics_are_about_the_published_ones(tgs_data: DataSet, tgs_mosaics: Mosaics) -> None:
    """Published are 377 mosaics of 5,235 tiles, linked without asking that nearness be mutual."""
    images = np.concatenate([tgs_data.labelled.images, tgs_data.unlabelled.images])
    in_mosaics = tgs_mosaics.mosaic != NONE
    assert abs(int(tgs_mosaics.mosaic.max()) + 1 - 377) < 15
    assert abs(int(in_mosaics.sum()) - 5235) < 150
    assert not (in_mosaics & are_constant(images)).any()
    assert len(tgs_mosaics.tiles_by_place()) == in_mosaics.sum()
