import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from diapir import metrics
from diapir.metrics import bootstrap_interval, iou, scores_by_threshold, tile_scores
from fake_masks import blob_masks

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.bool_, shape)] * 2))
# Few distinct values, so that probabilities often equal a threshold.
LEVELS = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75, 1.0])
PROBABILITIES = SHAPES.flatmap(
    lambda shape: st.tuples(arrays.arrays(np.float32, shape, elements=LEVELS), arrays.arrays(np.bool_, shape))
)


def slow_score(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """The competition's score of one tile, as its evaluation page says it, in whole numbers."""
    if not predicted.any() and not truth.any():
        return 1.0
    if not predicted.any() or not truth.any():
        return 0.0
    intersection, union = int((predicted & truth).sum()), int((predicted | truth).sum())
    return sum(20 * intersection > k * union for k in range(10, 20)) / 10


def strip(first: int, last: int, *, length: int = 100) -> torch.Tensor:
    """One tile of a single row with salt from `first` to `last`, `last` not included."""
    tile = torch.zeros(1, 1, length, dtype=torch.bool)
    tile[..., first:last] = True
    return tile


@given(PAIRS)
def test_tile_scores_agree_with_the_slow_obvious_version(pair: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> None:
    predicted, truth = pair
    expected = [slow_score(one, other) for one, other in zip(predicted, truth, strict=True)]
    assert torch.equal(tile_scores(torch.from_numpy(predicted), torch.from_numpy(truth)), torch.tensor(expected))


@given(PROBABILITIES, st.lists(LEVELS, min_size=1, max_size=5))
def test_scores_by_threshold_are_the_scores_of_each_threshold(
    pair: tuple[NDArray[np.float32], NDArray[np.bool_]], thresholds: list[float]
) -> None:
    probability, truth = torch.from_numpy(pair[0]), torch.from_numpy(pair[1])
    expected = torch.stack([tile_scores(probability > threshold, truth) for threshold in thresholds])
    assert torch.equal(scores_by_threshold(probability, truth, thresholds), expected)
    assert torch.equal(scores_by_threshold(probability, truth, torch.tensor(thresholds)), expected)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_thresholds_are_compared_in_the_type_of_the_probability(kind: torch.dtype) -> None:
    truth = torch.from_numpy(blob_masks(6))
    probability = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0)).to(kind)
    thresholds = [0.3, 0.1, 0.7]
    expected = torch.stack([tile_scores(probability > threshold, truth) for threshold in thresholds])
    assert torch.equal(scores_by_threshold(probability, truth, thresholds), expected)


@pytest.mark.parametrize("step", range(10, 20))
def test_an_overlap_of_exactly_a_threshold_does_not_pass_it(step: int) -> None:
    # 5 x step pixels of 100 overlap: the intersection over union is exactly step / 20.
    truth = strip(0, 100)
    assert tile_scores(strip(0, 5 * step), truth).item() == pytest.approx((step - 10) / 10)
    assert tile_scores(strip(0, 5 * step + 1), truth).item() == pytest.approx((step - 9) / 10)


def test_the_rules_of_empty_masks_hold() -> None:
    empty, salt = strip(0, 0), strip(3, 9)
    assert tile_scores(empty, empty).tolist() == [1]
    assert tile_scores(empty, salt).tolist() == [0]
    assert tile_scores(salt, empty).tolist() == [0]
    assert tile_scores(salt, salt).tolist() == [1]


def test_the_score_does_not_depend_on_which_mask_is_which_or_how_salt_is_marked() -> None:
    one, other = torch.from_numpy(blob_masks(40, seed=1)), torch.from_numpy(blob_masks(40, seed=2))
    scores = tile_scores(one, other)
    assert torch.equal(scores, tile_scores(other, one))
    assert torch.equal(scores, tile_scores(one * 255, other.bool()))


def test_chunks_do_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.from_numpy(blob_masks(30))
    probability = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    whole = scores_by_threshold(probability, truth, [0.2, 0.8]), tile_scores(probability > 0.2, truth)
    monkeypatch.setattr(metrics, "_CHUNK_BYTES", {"cpu": 100_000})
    assert torch.equal(scores_by_threshold(probability, truth, [0.2, 0.8]), whole[0])
    assert torch.equal(tile_scores(probability > 0.2, truth), whole[1])


@given(PROBABILITIES, st.lists(LEVELS, min_size=1, max_size=3))
def test_both_ways_to_count_agree(pair: tuple[NDArray[np.float32], NDArray[np.bool_]], thresholds: list[float]) -> None:
    values, truth = (torch.from_numpy(array).flatten(1) for array in pair)
    levels = torch.tensor(thresholds)
    by_words, by_pixels = (
        count(values, truth, levels) for count in (metrics._count_by_words, metrics._count_by_pixels)
    )
    assert torch.equal(by_words[0], by_pixels[0])
    assert torch.equal(by_words[1], by_pixels[1])


def test_zero_tiles_have_zero_scores() -> None:
    none = torch.zeros(0, 101, 101)
    assert tile_scores(none, none).shape == (0,)
    assert scores_by_threshold(none, none, [0.5]).shape == (1, 0)


def test_iou_is_the_share_of_the_union() -> None:
    assert iou(strip(0, 30), strip(10, 40)).item() == pytest.approx(20 / 40)
    assert iou(strip(0, 0), strip(0, 0)).item() == 1
    assert iou(strip(0, 5), strip(50, 60)).item() == 0


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    # Scores as nets get them: many 1, some 0, the rest between; 150 tiles, 300 times.
    shares = np.array([0.12, *[0.03] * 9, 0.61])
    values = np.arange(11) / 10
    mean = float(shares @ values)
    covered = []
    for _ in range(300):
        low, high = bootstrap_interval(rng.choice(values, size=150, p=shares), rng=rng, repeats=500)
        covered.append(low <= mean <= high)
    assert 0.90 <= np.mean(covered) <= 0.98


def test_the_interval_agrees_with_the_slow_obvious_version() -> None:
    scores = np.random.default_rng(0).integers(0, 11, 400) / 10
    rng = np.random.default_rng(1)
    means = [rng.choice(scores, size=400).mean() for _ in range(4000)]
    assert bootstrap_interval(scores, rng=rng, repeats=4000) == pytest.approx(
        np.quantile(means, [0.025, 0.975]), abs=2e-3
    )
    low, high = bootstrap_interval(scores, rng=rng, repeats=4000, level=0.5)
    assert (low, high) == pytest.approx(np.quantile(means, [0.25, 0.75]), abs=2e-3)


def test_the_interval_of_equal_scores_is_a_point() -> None:
    assert bootstrap_interval(np.full(9, 0.3), rng=np.random.default_rng(0)) == pytest.approx((0.3, 0.3))
