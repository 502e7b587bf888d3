import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diapir.volume.tiling import Blend, Tiling, cut_tiles, plan_tiling, taper, tile_starts

SIDES = st.integers(1, 40)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    tile = draw(st.tuples(SIDES, SIDES))
    overlap = (draw(st.integers(0, tile[0] - 1)), draw(st.integers(0, tile[1] - 1)))
    return plan_tiling(draw(st.tuples(st.integers(1, 90), st.integers(1, 90))), tile=tile, overlap=overlap)


def blended(section: np.ndarray, tiling: Tiling) -> np.ndarray:
    blend = Blend.empty(tiling)
    for number, tile in enumerate(cut_tiles(section, tiling)):
        blend.add(number, tile.astype(np.float32))
    return blend.section()


@given(st.integers(1, 400), st.integers(1, 50), st.data())
def test_tiles_cover_an_axis_and_overlap_by_as_much_as_asked(length: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    starts = tile_starts(length, tile=tile, overlap=overlap)
    assert starts[0] == 0
    assert starts[-1] == max(length - tile, 0)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()
    assert np.ptp(steps) <= 1 if len(steps) else True, "evenly spread"
    fewer = -(-(length - overlap) // (tile - overlap)) - 1
    assert len(starts) == 1 or fewer * (tile - overlap) + overlap < length, "no tile too many"


@given(st.integers(1, 60), st.integers(0, 59))
def test_a_taper_is_symmetric_positive_and_1_in_the_middle(length: int, overlap: int) -> None:
    weights = taper(length, overlap=min(overlap, length - 1))
    assert np.array_equal(weights, weights[::-1])
    assert 0 < weights.min() <= weights.max() <= 1
    ends = min(overlap, length - 1, length // 2)
    assert (weights[ends : length - ends] == 1).all()


def test_neighbours_at_the_overlap_asked_for_share_their_pixels_with_weights_that_sum_to_1() -> None:
    weights = taper(20, overlap=8)
    assert np.allclose(weights[12:] + weights[:8], 1, atol=1e-12)


@settings(deadline=None)
@given(tilings(), st.integers(0, 3))
def test_what_is_cut_and_blended_unchanged_comes_back(tiling: Tiling, seed: int) -> None:
    section = np.random.default_rng(seed).random(tiling.shape, np.float32)
    assert np.array_equal(blended(section, tiling), section)


@settings(deadline=None)
@given(tilings())
def test_a_constant_has_no_seams(tiling: Tiling) -> None:
    for value in (0.0, 1.0, 0.3):
        assert (blended(np.full(tiling.shape, value, np.float32), tiling) == np.float32(value)).all()


def test_each_tile_is_the_part_of_the_section_at_its_place() -> None:
    section = np.arange(30 * 44).reshape(30, 44)
    tiling = plan_tiling((30, 44), tile=(10, 12), overlap=(3, 4))
    for (row, column), tile in zip(tiling.places, cut_tiles(section, tiling), strict=True):
        assert np.array_equal(tile, section[row : row + 10, column : column + 12])
    assert len(tiling) == len(set(tiling.places)) == 4 * 5


def test_a_section_smaller_than_a_tile_is_mirrored_at_its_far_ends() -> None:
    tiling = plan_tiling((3, 2), tile=(5, 4), overlap=(2, 2))
    [tile] = cut_tiles(np.arange(6).reshape(3, 2), tiling)
    assert tile.tolist() == [[0, 1, 1, 0], [2, 3, 3, 2], [4, 5, 5, 4], [4, 5, 5, 4], [2, 3, 3, 2]]
    assert blended(np.arange(6).reshape(3, 2), tiling).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_tiles_that_disagree_are_blended_by_their_weights() -> None:
    tiling = plan_tiling((1, 16), tile=(1, 10), overlap=(0, 4))
    blend = Blend.empty(tiling)
    blend.add(0, np.zeros((1, 10), np.float32))
    blend.add(1, np.ones((1, 10), np.float32))
    found = blend.section()[0]
    assert (found[:6] == 0).all()
    assert (found[10:] == 1).all()
    assert (np.diff(found[5:11]) > 0).all(), "from one to the other without a step back"


def test_the_order_of_the_tiles_changes_a_blend_by_a_last_bit_at_most() -> None:
    tiling = plan_tiling((60, 50), tile=(20, 20), overlap=(12, 12))
    tiles = np.random.default_rng(0).random((len(tiling), 20, 20), np.float32)
    straight, backward = Blend.empty(tiling), Blend.empty(tiling)
    for number in range(len(tiling)):
        straight.add(number, tiles[number])
        backward.add(len(tiling) - 1 - number, tiles[len(tiling) - 1 - number])
    np.testing.assert_array_max_ulp(straight.section(), backward.section(), maxulp=1)


def test_an_overlap_of_a_whole_tile_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="overlap must be in"):
        tile_starts(10, tile=4, overlap=4)
