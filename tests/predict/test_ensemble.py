import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.predict import ensemble
from diapir.predict.ensemble import (
    aligned,
    aligned_mean,
    majority,
    mean,
    rescaled,
    vote_share,
    weighted_mean,
    weights_by_rank,
    weights_by_score,
)

UNIT = st.floats(0, 1, width=16)


def probabilities(members: int, *, tiles: int = 5, kind: Any = np.float32, seed: int = 0) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return [rng.random((tiles, 7, 6)).astype(kind) for _ in range(members)]


def random_masks(members: int, *, share: float = 0.5, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [(rng.random((9, 4, 3)) < share).astype(np.uint8) for _ in range(members)]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_mean_is_the_mean_in_the_members_own_type(kind: Any) -> None:
    members = probabilities(4, kind=kind)
    found = mean(members)
    assert found.dtype == kind
    expected = np.mean([member.astype(np.float64) for member in members], axis=0)
    assert np.array_equal(found, expected.astype(kind))


def test_the_mean_of_halves_is_the_same_in_any_order_to_the_last_bit() -> None:
    # Values of very different size, whose sum in halves or floats depends on the order.
    members = [member ** (3 * power + 1) for power, member in enumerate(probabilities(4, kind=np.float16))]
    found = {mean(order).tobytes() for order in itertools.permutations(members)}
    assert len(found) == 1


def test_only_ratios_of_weights_matter() -> None:
    members = probabilities(4)
    once = weighted_mean(members, [1, 1, 1, 3])
    assert np.array_equal(once, weighted_mean(members, [4, 4, 4, 12]))
    assert np.array_equal(once, mean([*members, members[3], members[3]]))
    assert np.allclose(once, weighted_mean(members, [0.1, 0.1, 0.1, 0.3]), rtol=1e-6)


def test_a_weight_of_zero_leaves_a_member_out() -> None:
    first, second = probabilities(2)
    assert np.array_equal(weighted_mean([first, second], [2, 0]), first)


def test_chunks_do_not_change_a_blend(monkeypatch: pytest.MonkeyPatch) -> None:
    members = probabilities(3, tiles=11, kind=np.float16)
    masks = random_masks(3)
    whole = mean(members), aligned_mean(members, [0.3, 0.5, 0.6]), rescaled(members[0]), vote_share(masks)
    monkeypatch.setattr(ensemble, "_CHUNK", 4)
    parts = mean(members), aligned_mean(members, [0.3, 0.5, 0.6]), rescaled(members[0]), vote_share(masks)
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_members_may_lie_on_disk(tmp_path: Path) -> None:
    members = probabilities(2, kind=np.float16)
    for number, member in enumerate(members):
        np.save(tmp_path / f"{number}.npy", member)
    on_disk = [np.load(tmp_path / f"{number}.npy", mmap_mode="r", allow_pickle=False) for number in range(2)]
    assert np.array_equal(mean(on_disk), mean(members))


def test_a_score_is_a_weight() -> None:
    assert weights_by_score([0.6, 0.2]) == pytest.approx([0.75, 0.25])


def test_weights_fall_by_the_decay_from_the_best_score_on() -> None:
    weights = weights_by_rank([0.2, 0.9, 0.5], decay=0.5)
    assert weights == pytest.approx([1 / 7, 4 / 7, 2 / 7])
    assert weights_by_rank([0.2, 0.9], decay=1.0) == [0.5, 0.5]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.floats(0.1, 1), st.randoms())
def test_weights_by_rank_follow_their_members_and_sum_to_one(scores: list[int], decay: float, random: Any) -> None:
    places = list(range(len(scores)))
    random.shuffle(places)
    weights = weights_by_rank([float(score) for score in scores], decay=decay)
    shuffled = weights_by_rank([float(scores[place]) for place in places], decay=decay)
    assert shuffled == pytest.approx([weights[place] for place in places])
    assert sum(weights) == pytest.approx(1)
    assert all(
        w <= v + 1e-12
        for (s, w) in zip(scores, weights, strict=True)
        for (t, v) in zip(scores, weights, strict=True)
        if s < t
    )


def test_the_majority_is_more_than_half() -> None:
    masks = [np.array([[[a, b, c]]], np.uint8) for a, b, c in [(1, 1, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1)]]
    assert majority(masks).tolist() == [[[1, 0, 0]]]
    assert majority(masks[:3]).tolist() == [[[1, 1, 0]]]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=5), st.integers(0, 100))
def test_the_weighted_vote_agrees_with_the_slow_obvious_version(weights: list[float], seed: int) -> None:
    masks = random_masks(len(weights), share=0.4, seed=seed)
    found = vote_share(masks, weights=weights)
    for place in np.ndindex(3, 4, 3):
        share = sum(weight for weight, mask in zip(weights, masks, strict=True) if mask[place]) / sum(weights)
        assert found[place] == pytest.approx(share, abs=1e-6)


def test_votes_of_masks_and_of_their_probabilities_are_one() -> None:
    members = probabilities(3)
    masks = [(member > 0.5).astype(np.uint8) for member in members]
    assert np.array_equal(vote_share(members, above=0.5, weights=[1, 2, 3]), vote_share(masks, weights=[1, 2, 3]))


def test_a_tile_that_most_find_empty_becomes_empty() -> None:
    masks = [np.zeros((2, 2, 2), np.uint8) for _ in range(3)]
    masks[0][:] = 1
    masks[1][0] = 1
    # Of the votes, 1 of 3 finds tile 0 empty, and 2 of 3 find tile 1 empty.
    found = vote_share(masks, empty_above=0.5)
    assert found[0] == pytest.approx(2 / 3)
    assert not found[1].any()
    assert not vote_share(masks, empty_above=0.3).any()
    assert vote_share(masks, weights=[8, 1, 1], empty_above=0.5)[1] == pytest.approx(0.8)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 100))
def test_a_vote_on_emptiness_by_half_of_the_weights_says_nothing_new(weights: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [mask * rng.integers(0, 2, (9, 1, 1), np.uint8) for mask in random_masks(len(weights), seed=seed)]
    plain, voted = (vote_share(masks, weights=weights, empty_above=share) for share in (None, 0.5))
    assert np.array_equal(plain > 0.5, voted > 0.5)


@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.float64, (2, 3, 2), elements=UNIT), st.floats(0.05, 0.95))
def test_alignment_moves_the_threshold_to_a_half_and_keeps_the_order(
    member: NDArray[np.float64], threshold: float
) -> None:
    found = aligned(member, threshold=threshold)
    assert np.array_equal(found > 0.5, member > threshold)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(member, axis=None)
    assert (np.diff(found.ravel()[order]) >= 0).all()


def test_alignment_has_the_three_known_points_and_straight_lines_between() -> None:
    member = np.array([0, 0.2, 0.4, 0.7, 1])[None, None]
    assert aligned(member, threshold=0.4).ravel() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert np.allclose(aligned(member, threshold=0.5), member)


def test_the_aligned_mean_is_the_mean_of_aligned_members() -> None:
    members, thresholds = probabilities(3, kind=np.float64), [0.3, 0.5, 0.62]
    each = [aligned(member, threshold=threshold) for member, threshold in zip(members, thresholds, strict=True)]
    assert np.allclose(aligned_mean(members, thresholds), mean(each))


def test_a_rescaled_member_spans_zero_to_one_over_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "_CHUNK", 2)
    member = 0.2 + 0.3 * probabilities(1, kind=np.float64)[0]
    found = rescaled(member)
    assert (found.min(), found.max()) == (0, 1)
    # A straight line: equal steps stay equal.
    assert np.allclose(np.diff(found, axis=2) * np.ptp(member), np.diff(member, axis=2))
    assert np.allclose(rescaled(found), found)


def test_a_member_without_a_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"0\.3 everywhere"):
        rescaled(np.full((3, 2, 2), 0.3))


def test_members_of_different_tiles_are_not_blended() -> None:
    with pytest.raises(AssertionError, match="the same tiles"):
        mean([np.zeros((2, 3, 3)), np.zeros((3, 3, 3))])
