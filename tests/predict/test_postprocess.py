from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.metrics import tile_scores
from diapir.predict import postprocess
from diapir.predict.postprocess import (
    Connectivity,
    Edit,
    Masks,
    Prediction,
    apply_edits,
    empty_constant,
    empty_full,
    fill_small_holes,
    gate_by_has_salt,
    remove_small_salt,
    salt_above,
)
from fake_masks import blob_masks

MASKS = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 1)
)
SIDES = ((0, 1), (1, 0), (0, -1), (-1, 0))
CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def slow_pieces(inside: NDArray[np.bool_], *, connectivity: Connectivity) -> list[list[tuple[int, int]]]:
    """Connected pieces of one plane, by walking from pixel to pixel."""
    steps = SIDES if connectivity == 4 else SIDES + CORNERS
    waiting = {(int(y), int(x)) for y, x in zip(*np.nonzero(inside), strict=True)}
    pieces = []
    while waiting:
        queue = deque([waiting.pop()])
        piece = []
        while queue:
            y, x = queue.popleft()
            piece.append((y, x))
            for near in {(y + dy, x + dx) for dy, dx in steps} & waiting:
                waiting.remove(near)
                queue.append(near)
        pieces.append(piece)
    return pieces


def slow_flip(masks: Masks, *, value: int, smaller_than: int, connectivity: Connectivity, at_border: bool) -> Masks:
    edited = masks.copy()
    for tile in edited:
        ends = (0, tile.shape[0] - 1), (0, tile.shape[1] - 1)
        for piece in slow_pieces(tile == value, connectivity=connectivity):
            touches = any(y in ends[0] or x in ends[1] for y, x in piece)
            if len(piece) < smaller_than and (at_border or not touches):
                for place in piece:
                    tile[place] = 1 - value
    return edited


def drawn(*rows: str) -> Masks:
    return np.array([[[pixel == "#" for pixel in row] for row in rows]], np.uint8)


def prediction_of(masks: Masks) -> Prediction:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, masks.shape, np.uint8)
    return Prediction(images=images, probability=np.where(masks > 0, 0.9, 0.1).astype(np.float16))


def small_salt(size: int, *, name: str = "small_salt") -> Edit:
    return Edit(name, lambda masks, tiles: remove_small_salt(masks, smaller_than=size))


@settings(deadline=None, max_examples=60)
@given(MASKS, st.integers(1, 12))
def test_small_salt_is_found_as_by_walking_from_pixel_to_pixel(masks: Masks, size: int) -> None:
    expected = slow_flip(masks, value=1, smaller_than=size, connectivity=8, at_border=True)
    assert np.array_equal(remove_small_salt(masks, smaller_than=size), expected)


@settings(deadline=None, max_examples=60)
@given(MASKS, st.integers(1, 12), st.sampled_from([4, 8]), st.booleans())
def test_small_holes_are_found_as_by_walking_from_pixel_to_pixel(
    masks: Masks, size: int, connectivity: Connectivity, at_border: bool
) -> None:
    expected = slow_flip(masks, value=0, smaller_than=size, connectivity=connectivity, at_border=at_border)
    found = fill_small_holes(masks, smaller_than=size, connectivity=connectivity, at_border=at_border)
    assert np.array_equal(found, expected)


@settings(deadline=None, max_examples=30)
@given(MASKS, st.integers(1, 12))
def test_what_was_cleaned_is_clean(masks: Masks, size: int) -> None:
    once = remove_small_salt(masks, smaller_than=size)
    assert np.array_equal(remove_small_salt(once, smaller_than=size), once)
    assert not (once & ~masks & 1).any()
    filled = fill_small_holes(masks, smaller_than=size)
    assert np.array_equal(fill_small_holes(filled, smaller_than=size), filled)
    assert not (masks & ~filled & 1).any()


def test_salt_hangs_together_by_corners_and_background_by_sides() -> None:
    masks = drawn("#..", ".#.", "..#")
    assert np.array_equal(remove_small_salt(masks, smaller_than=3), masks)
    assert not remove_small_salt(masks, smaller_than=4).any()
    # The diagonal parts the background on both of its sides; through corners it would be one piece.
    assert fill_small_holes(masks, smaller_than=4).all()
    assert np.array_equal(fill_small_holes(masks, smaller_than=4, connectivity=8), masks)


def test_a_piece_of_exactly_the_size_stays() -> None:
    masks = drawn("##...", ".....", "....#")
    assert np.array_equal(remove_small_salt(masks, smaller_than=1), masks)
    assert np.array_equal(remove_small_salt(masks, smaller_than=2), drawn("##...", ".....", "....."))


def test_holes_of_any_size_inside_a_tile_are_filled_and_bays_are_not() -> None:
    masks = drawn("######", "#..#.#", "#..#..", "######")
    filled = drawn("######", "####.#", "####..", "######")
    assert np.array_equal(fill_small_holes(masks, smaller_than=None, at_border=False), filled)
    empty = np.zeros((2, 5, 5), np.uint8)
    assert not fill_small_holes(empty, smaller_than=None, at_border=False).any()


def test_pieces_do_not_hang_together_from_tile_to_tile() -> None:
    masks = np.zeros((2, 3, 3), np.uint8)
    masks[:, 1, 1] = 1
    assert not remove_small_salt(masks, smaller_than=2).any()


def test_the_gate_empties_what_is_below_its_cut() -> None:
    masks = np.ones((3, 2, 2), np.uint8)
    found = gate_by_has_salt(masks, np.array([0.49, 0.5, 0.9], np.float32), cut=0.5)
    assert found.any((1, 2)).tolist() == [False, True, True]
    assert masks.all()


def test_tiles_of_one_grey_become_empty() -> None:
    images = np.full((3, 2, 2), 7, np.uint8)
    images[1, 0, 0] = 8
    images[2] = 255
    assert empty_constant(np.ones((3, 2, 2), np.uint8), images).any((1, 2)).tolist() == [False, True, False]


def test_tiles_that_are_all_salt_become_empty() -> None:
    masks = np.ones((3, 2, 2), np.uint8)
    masks[1, 1, 1] = 0
    assert empty_full(masks).sum((1, 2)).tolist() == [0, 3, 0]


def test_salt_is_what_is_above_the_cut_in_the_probabilitys_own_type() -> None:
    probability = np.array([[[0.2, 0.4, 0.41]]], np.float16)
    assert salt_above(probability, 0.4).tolist() == [[[0, 0, 1]]]


def test_edits_are_counted_exactly_and_in_their_order() -> None:
    masks = blob_masks(20, side=30)
    masks[3:9, 14, 14] ^= 1
    tiles = prediction_of(masks)
    edits = [
        small_salt(5),
        Edit("small_holes", lambda masks, tiles: fill_small_holes(masks, smaller_than=5)),
        Edit("full_to_empty", lambda masks, tiles: empty_full(masks)),
    ]
    found, records = apply_edits(edits, tiles)
    state = masks
    for edit, record in zip(edits, records, strict=True):
        after = edit.change(state, tiles)
        changed = after != state
        assert (record.name, record.left_out, record.gain) == (edit.name, "", None)
        assert record.num_pixels == changed.sum()
        assert record.num_tiles == changed.any((1, 2)).sum()
        state = after
    assert np.array_equal(found, state)
    assert records[2].num_pixels >= 30 * 30


def test_the_order_of_edits_matters_and_is_kept() -> None:
    # A dot in a hole: removed first, the hole is 9 pixels; filled first, the ring of 8 goes, and the dot with it.
    masks = np.ones((1, 12, 12), np.uint8)
    masks[0, 4:7, 4:7] = 0
    masks[0, 5, 5] = 1
    fill = Edit("small_holes", lambda masks, tiles: fill_small_holes(masks, smaller_than=9))
    first_fill, _ = apply_edits([fill, small_salt(2)], prediction_of(masks))
    first_remove, _ = apply_edits([small_salt(2), fill], prediction_of(masks))
    assert first_fill.all()
    assert (first_remove == 0).sum() == 9


def test_every_edit_is_scored_against_the_masks_before_it() -> None:
    truth = blob_masks(30, side=24)
    specked = truth.copy()
    specked[:9, 2, 2] ^= 1
    specked[12:24, 20, 20] ^= 1
    edits = [small_salt(2), Edit("nothing", lambda masks, tiles: masks), Edit("empty", lambda masks, tiles: masks * 0)]
    masks, records = apply_edits(edits, prediction_of(specked), truth=truth)

    def score(masks: Masks) -> float:
        return float(tile_scores(torch.from_numpy(masks), torch.from_numpy(truth)).double().mean())

    cleaned = remove_small_salt(specked, smaller_than=2)
    gains = [record.gain for record in records if record.gain is not None]
    found = [(gain.before, gain.after) for gain in gains]
    assert len(found) == 3
    assert found[0] == pytest.approx((score(specked), score(cleaned)))
    assert found[1] == pytest.approx((score(cleaned), score(cleaned)))
    assert found[2] == pytest.approx((score(cleaned), score(masks * 0)))
    assert 0 < gains[0].low <= gains[0].difference <= gains[0].high
    assert (gains[1].low, gains[1].high) == (0, 0)


def by_size(name: str = "small_salt") -> Edit:
    return Edit(name, by_size=lambda masks, size: remove_small_salt(masks, smaller_than=size))


def test_a_tuned_size_is_the_one_that_the_other_tiles_choose() -> None:
    truth = np.zeros((30, 40, 40), np.uint8)
    truth[:, :20, :20] = 1
    called = truth.copy()
    called[:, 30:35, 30:36] = 1  # thirty pixels too many: 40 and 80 take them away
    called[0], truth[0] = 0, 0
    truth[0, 10:16, 10:18] = called[0, 10:16, 10:18] = 1  # 48 pixels that 80 would take
    masks, (record,) = apply_edits([by_size()], prediction_of(called), truth=truth)
    assert np.array_equal(masks, truth)
    assert (record.size, record.num_tiles, record.num_pixels) == (40, 29, 29 * 30)
    assert record.gain is not None
    assert record.gain.difference > 0
    others, (again,) = apply_edits([by_size()], prediction_of(called[:3]), sizes={"small_salt": 40})
    assert np.array_equal(others, truth[:3])
    assert again.size == 40


def test_a_tile_has_no_say_in_its_own_size() -> None:
    truth = np.zeros((2, 40, 40), np.uint8)
    called = truth.copy()
    called[0, :3, :5] = 1  # fifteen pixels: wrong in the first tile, right in the second
    called[1, :3, :5] = truth[1, :3, :5] = 1
    masks, _ = apply_edits([by_size()], prediction_of(called), truth=truth)
    assert masks[0].any(), "the second tile alone decided: 10"
    assert not masks[1].any(), "the first tile alone decided: 20 or more"


def test_an_edit_is_switched_off_by_its_name_and_the_record_says_so() -> None:
    masks = drawn("#..", "...")
    found, [record, other] = apply_edits(
        [small_salt(2), Edit("kept", lambda masks, tiles: masks)], prediction_of(masks), without=["small_salt"]
    )
    assert np.array_equal(found, masks)
    assert (record.left_out, record.num_pixels) == ("switched off", 0)
    assert other.left_out == ""


def test_names_that_are_no_edits_are_all_told() -> None:
    with pytest.raises(InputError) as caught:
        apply_edits([small_salt(2)], prediction_of(drawn("#")), without=["small_salts", "small_salt", "crf"])
    assert [fault.where for fault in caught.value.faults] == ["small_salts", "crf"]
    assert "(small_salt)" in caught.value.faults[0].what


@pytest.mark.parametrize(("score", "applied"), [(0.7, True), (0.75, False), (0.9, False)])
def test_a_guarded_edit_leaves_good_predictions_alone(score: float, applied: bool) -> None:
    guarded = Edit("empty", lambda masks, tiles: masks * 0, only_if_score_below=0.75)
    masks, [record] = apply_edits([guarded], prediction_of(drawn("##")), score=score)
    assert masks.any() != applied
    assert (record.left_out == "") == applied
    assert record.num_pixels == (2 if applied else 0)


def test_the_guard_asks_for_the_score_before_any_edit() -> None:
    truth = drawn("##.", "##.", "...")
    spoil = Edit("spoil", lambda masks, tiles: masks * 0)
    guarded = Edit("fill", lambda masks, tiles: np.ones_like(masks), only_if_score_below=0.75)
    masks, records = apply_edits([spoil, guarded], prediction_of(truth), truth=truth)
    assert not masks.any()
    assert records[1].left_out == "the score before any edit, 1.0000, is not below 0.75"
    with pytest.raises(AssertionError, match="asks for the score"):
        apply_edits([guarded], prediction_of(truth))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = blob_masks(11, side=20)
    tiles = Prediction(
        images=prediction_of(truth).images,
        probability=np.random.default_rng(0).random(truth.shape).astype(np.float16),
        has_salt=np.linspace(0, 1, 11),
    )

    def gate(masks: Masks, part: Prediction) -> Masks:
        assert part.has_salt is not None
        return gate_by_has_salt(masks, part.has_salt, cut=0.5)

    edits = [small_salt(4), Edit("gate", gate)]
    whole = apply_edits(edits, tiles, truth=truth)
    monkeypatch.setattr(postprocess, "_CHUNK", 3)
    parts = apply_edits(edits, tiles, truth=truth)
    assert np.array_equal(whole[0], parts[0])
    assert whole[1] == parts[1]
    assert whole[0][:5].sum() == 0 < whole[0][6:].sum()


def test_neither_the_probabilities_nor_the_masks_given_are_changed() -> None:
    tiles = prediction_of(blob_masks(8, side=12))
    before = tiles.probability.copy()
    first, _ = apply_edits([small_salt(3)], tiles)
    assert np.array_equal(tiles.probability, before)
    masks = blob_masks(8, side=12)
    kept = masks.copy()
    remove_small_salt(masks, smaller_than=50)
    fill_small_holes(masks, smaller_than=50)
    assert np.array_equal(masks, kept)
    assert first.dtype == np.uint8


def test_of_the_real_training_masks_the_safe_edits_change_none(tgs_data: DataSet) -> None:
    masks, images = tgs_data.labelled.masks, tgs_data.labelled.images
    assert masks is not None
    assert np.array_equal(empty_constant(masks, images), masks)
    assert np.array_equal(empty_full(masks), masks)
    emptied = empty_constant(np.ones_like(masks), images)
    constant = sum(len(set(image.tobytes())) == 1 for image in images)
    assert (~emptied.any((1, 2))).sum() == constant > 0
