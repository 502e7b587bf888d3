from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.predict.mosaic_rules import (
    Claims,
    Survey,
    are_caps,
    are_walls,
    claims_of,
    empty_below_caps,
    empty_below_predicted_caps,
    extrude_both_ways,
    extrude_down,
    extrude_predicted,
    extrude_vertical,
    fill_between,
    interpolate_empty,
)
from diapir.recipe.mosaics import MosaicRule
from fake_surveys import mosaics_of

HEIGHT, WIDTH = 60, 6
Mask = NDArray[np.uint8]
FROM_TRUTH: tuple[MosaicRule, ...] = (
    "empty_below_caps", "extrude_vertical", "extrude_almost_vertical", "extrude_both_ways", "extrude_semi_vertical",
)  # fmt: skip
ONES = "111111"


def wall(row: str, *, straight: int = HEIGHT) -> Mask:
    """A mask whose last rows are alike, and the one before them is not."""
    mask = np.tile(np.array(list(row), np.uint8), (HEIGHT, 1))
    mask[: HEIGHT - straight] = 1 - mask[0]
    return mask


def cap(*, rows: int = 1) -> Mask:
    return (np.arange(HEIGHT) >= HEIGHT - rows).astype(np.uint8)[:, None].repeat(WIDTH, axis=1)


EMPTY = wall("000000")


def survey_of(*grids: str, known: Mapping[str, Mask]) -> Survey:
    mosaics = mosaics_of(*grids)
    rows = np.full(len(mosaics), -1)
    for row, letter in enumerate(known):
        rows[ord(letter) - ord("a")] = row
    return Survey(mosaics, np.array(list(known.values()), np.uint8).reshape(-1, HEIGHT, WIDTH), rows)


def masks_of(survey: Survey, **predicted: Mask) -> Mask:
    """Predictions of all tiles, empty where they are not given."""
    masks = np.zeros((len(survey.mosaics), HEIGHT, WIDTH), np.uint8)
    for letter, mask in predicted.items():
        masks[ord(letter) - ord("a")] = mask
    return masks


def shown(claims: Claims) -> dict[str, str]:
    """The row of each tile that is claimed to be the same from top to bottom."""
    assert (claims.masks == claims.masks[:, :1]).all()
    assert len(set(claims.tiles.tolist())) == len(claims.tiles)
    return {
        chr(ord("a") + tile): "".join(map(str, mask[0]))
        for tile, mask in sorted(zip(claims.tiles.tolist(), claims.masks, strict=True), key=lambda pair: pair[0])
    }


@pytest.mark.parametrize(
    ("mask", "rows"),
    [
        (wall("001100"), {30, 50, 60}),
        (wall("001100", straight=50), {30, 50}),
        (wall("001100", straight=30), {30}),
        (wall("001100", straight=29), set()),
        (EMPTY, set()),
        (wall(ONES), set()),
        (cap(rows=55), set()),
        (1 - cap(rows=55), set()),
    ],
)
def test_a_wall_has_its_last_rows_alike_and_some_of_them_salt(mask: Mask, rows: set[int]) -> None:
    assert {number for number in (30, 50, 60) if are_walls(mask[None], rows=number)[0]} == rows


def test_a_cap_ends_in_a_row_of_salt() -> None:
    masks = np.stack([cap(), cap(rows=60), cap(rows=20), 1 - cap(), wall("011111"), EMPTY])
    assert are_caps(masks).tolist() == [True, True, True, False, False, False]


def test_below_a_cap_there_is_no_salt() -> None:
    survey = survey_of("ab cd .f gh", known={"d": cap(), "c": wall("011111"), "g": EMPTY})
    assert shown(empty_below_caps(survey)) == {"f": "000000", "h": "000000"}


@pytest.mark.parametrize("straight", [50, 60])
def test_the_first_straight_mask_of_a_column_goes_on_down(straight: int) -> None:
    known = {"c": wall("001100", straight=straight), "g": wall("011000"), "b": wall("000001", straight=49)}
    survey = survey_of("ab cd ef .. gh ij", known=known)
    assert shown(extrude_vertical(survey)) == dict.fromkeys("egi", "001100")


@pytest.mark.parametrize(
    ("grid", "straight", "above"),
    [
        ("a b d c", 60, {}),  # row 2 is too high up
        ("x a b d", 60, {"b": "001100"}),
        ("x a b d", 50, {}),
        ("x b . d", 60, {}),
        ("x a . b d", 60, {"b": "001100"}),
    ],
)
def test_the_tile_above_a_mask_that_is_straight_all_over_has_its_row(
    grid: str, straight: int, above: dict[str, str]
) -> None:
    survey = survey_of(grid, known={"d": wall("001100", straight=straight)})
    assert {tile: row for tile, row in shown(extrude_vertical(survey)).items() if tile != "c"} == above


def test_the_nearest_almost_vertical_mask_above_goes_on_down() -> None:
    known = {"a": wall("001100", straight=30), "c": wall("011000", straight=29), "d": wall("000110", straight=40)}
    survey = survey_of("a b c d e f", known=known)
    rows = {"b": "001100", "c": "001100", "d": "001100", "e": "000110", "f": "000110"}
    assert shown(extrude_down(survey, rows=30)) == rows
    assert shown(extrude_down(survey, rows=31)) == dict.fromkeys("ef", "000110")


def test_both_ways_the_mask_above_comes_before_the_one_below() -> None:
    survey = survey_of("a b c d e", known={"b": wall("001100"), "d": wall("011000")})
    rows = {"a": "001100", "b": "011000", "c": "001100", "d": "001100", "e": "011000"}
    assert shown(extrude_both_ways(survey)) == rows


@pytest.mark.parametrize(
    ("upper", "lower", "predicted", "expected"),
    [
        (wall("001100"), wall("011110"), EMPTY, {"b": "001100"}),
        (wall("001100"), wall("011110"), wall("100000"), {"b": "001100"}),
        (wall("001100"), wall("011110"), wall("110000"), {}),  # as large as that
        (wall(ONES), wall("011110"), EMPTY, {}),
        (EMPTY, wall("011110"), EMPTY, {}),
        (wall("001100"), EMPTY, EMPTY, {}),
        (wall("001100"), cap(), EMPTY, {}),  # its salt does not touch the tile
    ],
)
def test_between_masks_a_tile_is_filled_if_that_gives_it_more(
    upper: Mask, lower: Mask, predicted: Mask, expected: dict[str, str]
) -> None:
    survey = survey_of("a b c", known={"a": upper, "c": lower})
    assert shown(fill_between(survey, masks_of(survey, b=predicted))) == expected
    apart = survey_of("a b . c", known={"a": upper, "c": lower})
    assert shown(fill_between(apart, masks_of(apart, b=predicted))) == {}


def test_predicted_masks_speak_down_to_the_next_tile_that_is_known() -> None:
    survey = survey_of("a b c d e f", known={"d": wall("001100")})
    predicted = masks_of(survey, a=wall("011000", straight=30), b=cap(), e=wall("000011", straight=30))
    assert shown(extrude_predicted(survey, predicted, rows=30)) == {
        "b": "011000", "c": "011000", "d": "011000", "f": "000011",
    }  # fmt: skip
    assert shown(empty_below_predicted_caps(survey, predicted)) == {"c": "000000", "d": "000000"}


def test_what_a_known_tile_was_predicted_to_be_does_not_count() -> None:
    survey = survey_of("a b", known={"a": EMPTY})
    assert shown(extrude_predicted(survey, masks_of(survey, a=wall("011000")), rows=30)) == {}
    assert shown(empty_below_predicted_caps(survey, masks_of(survey, a=cap()))) == {}


def test_an_empty_tile_is_filled_with_straight_sides() -> None:
    survey = survey_of("a b c", known={"a": wall("110000")})
    claims = interpolate_empty(survey, masks_of(survey, c=wall("001111")))
    assert claims.tiles.tolist() == [1]
    (mask,) = claims.masks
    starts, ends = mask.argmax(axis=1), WIDTH - mask[:, ::-1].argmax(axis=1)
    share = (np.arange(HEIGHT) + 1) / (HEIGHT + 1)
    assert np.abs(starts - 2 * share).max() <= 0.5
    assert np.abs(ends - (2 + 4 * share)).max() <= 0.5
    assert np.array_equal(mask.sum(axis=1), ends - starts), "in one piece"


@pytest.mark.parametrize(
    ("upper", "own", "lower"),
    [
        (EMPTY, EMPTY, wall("001111")),
        (wall("110000"), EMPTY, EMPTY),
        (wall("110011"), EMPTY, wall("001111")),  # which piece would be which?
        (wall("110000"), wall("000001"), wall("001111")),
    ],
)
def test_a_tile_is_not_filled_where_the_sides_are_not_clear(upper: Mask, own: Mask, lower: Mask) -> None:
    survey = survey_of("a b c", known={"a": upper})
    assert len(interpolate_empty(survey, masks_of(survey, b=own, c=lower)).tiles) == 0


@pytest.mark.parametrize("rule", FROM_TRUTH)
@settings(deadline=None)
@given(seed=st.integers(0, 2**31))
def test_what_is_claimed_of_a_tile_does_not_come_from_its_own_mask(rule: MosaicRule, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds: list[Callable[[], Mask]] = [
        cap, lambda: EMPTY, lambda: wall("001100"), lambda: wall("011000", straight=55), lambda: wall("1" * 5 + "0"),
    ]  # fmt: skip
    known = {letter: kinds[rng.integers(len(kinds))]() for letter in "abcdefgh" if rng.random() < 0.6}
    survey = survey_of("ab cd ef gh ij", known=known)
    nothing = masks_of(survey)
    claims = claims_of(rule, survey, predicted=nothing)
    for tile, claimed in zip(claims.tiles.tolist(), claims.masks, strict=True):
        row = survey.truth_row.copy()
        row[tile] = -1
        again = claims_of(rule, Survey(survey.mosaics, survey.truth, row), predicted=nothing)
        assert np.array_equal(again.masks[again.tiles == tile][0], claimed)
