import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.predict.threshold import CANDIDATES, best_threshold, candidate_scores, crossed_cuts, kept_curve
from fake_masks import blob_masks


def peaked(threshold: float, *, tiles: int = 1, width: float = 0.1) -> NDArray[np.float64]:
    """Scores that are best at one threshold: (num_candidates, tiles)."""
    distance = np.abs(np.array(CANDIDATES) - threshold)
    return np.repeat(np.clip(1 - distance / width, 0, 1)[:, None], tiles, axis=1)


def slow_score(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    if not predicted.any() or not truth.any():
        return float(predicted.any() == truth.any())
    intersection, union = int((predicted & truth).sum()), int((predicted | truth).sum())
    return sum(20 * intersection > k * union for k in range(10, 20)) / 10


def test_candidates_are_even_hundredths_from_a_fifth_to_four_fifths() -> None:
    assert [round(100 * each) for each in CANDIDATES] == list(range(20, 81, 2))


# Beside an end a symmetric peak ties with the end, which is its own neighbour.
@pytest.mark.parametrize("threshold", [CANDIDATES[0], *CANDIDATES[2:-2], CANDIDATES[-1]])
def test_the_best_threshold_is_the_one_with_the_highest_peak(threshold: float) -> None:
    assert best_threshold(peaked(threshold, tiles=3)) == threshold


def test_a_lone_peak_is_taken_for_noise() -> None:
    scores = 0.8 * peaked(0.4, tiles=4)
    scores[CANDIDATES.index(0.7)] = 0.9
    assert best_threshold(scores) == 0.4


@given(st.lists(st.integers(0, 10), min_size=31, max_size=31))
def test_the_best_threshold_agrees_with_the_slow_obvious_version(tenths: list[int]) -> None:
    scores = np.array(tenths)[:, None] / 8  # eighths add up exactly
    around = [tenths[max(i - 1, 0)] + tenths[i] + tenths[min(i + 1, 30)] for i in range(31)]
    assert best_threshold(scores) == CANDIDATES[around.index(max(around))]


def test_candidate_scores_are_the_scores_at_each_candidate() -> None:
    masks = blob_masks(9, side=15)
    probability = np.clip(0.25 + masks / 2 + np.random.default_rng(0).normal(0, 0.2, masks.shape), 0, 1).astype(
        np.float32
    )
    found = candidate_scores(probability, masks)
    assert found.shape == (31, 9)
    for row, threshold in enumerate(CANDIDATES):
        expected = [slow_score(p > threshold, m > 0) for p, m in zip(probability, masks, strict=True)]
        assert found[row].tolist() == pytest.approx(expected)


def test_many_tiles_are_scored_like_few() -> None:
    masks = blob_masks(1100, side=8)
    probability = np.random.default_rng(0).random(masks.shape, np.float32)
    parts = [candidate_scores(probability[low : low + 100], masks[low : low + 100]) for low in range(0, 1100, 100)]
    assert np.array_equal(candidate_scores(probability, masks), np.concatenate(parts, axis=1))


def test_where_all_tiles_agree_each_gets_what_all_choose() -> None:
    assert crossed_cuts(peaked(0.6, tiles=20)).tolist() == [0.6] * 20


def test_no_tile_has_a_say_in_its_own_threshold() -> None:
    scores = 0.2 * np.random.default_rng(0).random((31, 40)) + 0.5 * peaked(0.5, tiles=40)
    cuts = crossed_cuts(scores)
    for tile in range(0, 40, 7):
        pulled = scores.copy()
        pulled[:, tile] = 1000 * peaked(0.3)[:, 0]
        changed = crossed_cuts(pulled)
        assert changed[tile] == cuts[tile]
        assert 0.3 in changed


def test_a_lone_tile_chooses_for_itself() -> None:
    assert crossed_cuts(peaked(0.6, tiles=1)).tolist() == [0.6]


def test_what_is_kept_of_scores_by_threshold_is_their_mean_at_each() -> None:
    scores = np.random.default_rng(0).integers(0, 11, (len(CANDIDATES), 40)) / 10
    kept = kept_curve(scores)
    assert kept["threshold"] == list(CANDIDATES)
    for row, score in enumerate(kept["score"]):
        assert score == pytest.approx(sum(scores[row].tolist()) / 40, abs=1e-5)
