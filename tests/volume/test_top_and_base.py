from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from diapir.faults import InputError
from diapir.volume.top_and_base import CHANCES, Calibration, base_places, calibrate, stored_calibration, top_places

Values = NDArray[np.float32]
Whole = NDArray[np.int64]
SAMPLES = 60


def first_and_last(mask: NDArray[np.bool_]) -> tuple[Whole, Whole]:
    return mask.argmax(1), mask.shape[1] - 1 - mask[:, ::-1].argmax(1)


def slow_top(p: list[float], first: int, last: int, chance: float) -> float:
    """One trace, sample by sample."""
    level = float(np.float32(max(p[first : last + 1])) * np.float32(chance))
    if p[first] >= level:
        for k in range(first - 1, -1, -1):
            if p[k] < level:
                return k + (level - p[k]) / (p[k + 1] - p[k])
        return float("nan")
    for k in range(first + 1, last + 1):
        if p[k] >= level:
            return k - 1 + (level - p[k - 1]) / (p[k] - p[k - 1])
    raise AssertionError


def draw_traces(seed: int, *, count: int = 400) -> tuple[Values, Whole, Whole]:
    """Rough probabilities with a mask above one half."""
    rng = np.random.default_rng(seed)
    p = rng.random((count, 14)).astype(np.float32) ** rng.choice([0.3, 1, 3], size=(count, 1)).astype(np.float32)
    p = p[(p > 0.5).any(1)]
    return p, *first_and_last(p > 0.5)


def coverage(p: Values, top: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of true tops above P10, P50, P90."""
    places = top_places(p, *first_and_last(p > 0.5))
    return np.array([(top <= place).mean() for place in places])


def test_places_are_those_of_a_walk_sample_by_sample() -> None:
    p, first, last = draw_traces(1)
    found = top_places(p, first, last)
    for row, chance in enumerate(CHANCES):
        expected = [slow_top(t.tolist(), a, b, chance) for t, a, b in zip(p, first, last, strict=True)]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)
    assert np.isnan(found).any()
    assert np.isfinite(found).any()


def test_the_base_is_the_top_seen_from_below() -> None:
    p, first, last = draw_traces(2)
    end = p.shape[1] - 1
    found = base_places(p, first, last)
    for row, chance in enumerate(CHANCES):
        expected = [
            end - slow_top(t[::-1].tolist(), end - b, end - a, 1 - chance)
            for t, a, b in zip(p, first, last, strict=True)
        ]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_percentiles_are_in_order_and_the_top_is_above_the_base() -> None:
    p, first, last = draw_traces(3)
    top, base = top_places(p, first, last), base_places(p, first, last)
    for places in (top, base):
        known = np.nan_to_num(places, nan=-1 if places is top else p.shape[1])
        assert (np.diff(known, axis=0) >= 0).all()
    assert not (top[1] >= base[1]).any()


def test_a_sharp_boundary_lies_half_way_between_its_samples() -> None:
    p = np.zeros((1, SAMPLES), np.float32)
    p[0, 20:31] = 1
    edges = np.array([20]), np.array([30])
    np.testing.assert_allclose(top_places(p, *edges)[:, 0], np.add(19, CHANCES), atol=1e-6)
    np.testing.assert_allclose(base_places(p, *edges)[:, 0], np.add(30, CHANCES), atol=1e-6)


def test_salt_beyond_the_ends_of_a_trace_has_no_place() -> None:
    p = np.ones((1, SAMPLES), np.float32)
    edges = np.array([0]), np.array([SAMPLES - 1])
    assert np.isnan(top_places(p, *edges)).all()
    assert np.isnan(base_places(p, *edges)).all()


def test_fainter_salt_that_the_mask_leaves_out_is_not_the_top() -> None:
    p = np.zeros((2, SAMPLES), np.float32)
    p[:, 30:] = 1
    p[1, 5:10] = 0.4
    places = top_places(p, np.full(2, 30), np.full(2, SAMPLES - 1))
    np.testing.assert_array_equal(places[:, 0], places[:, 1])


def test_nor_is_surer_salt_that_the_mask_leaves_out() -> None:
    p = np.zeros((1, SAMPLES), np.float32)
    p[0, 5:10], p[0, 30:40], p[0, 40:] = 1, 0.4, 1
    low, middle, high = top_places(p, np.array([30]), np.array([SAMPLES - 1]))[:, 0]
    assert 29 < low < 30
    assert 39 < middle < high < 40


@pytest.mark.parametrize("spread", [0.7, 2.0, 5.0])
def test_four_tops_in_five_lie_between_p10_and_p90(spread: float) -> None:
    rng = np.random.default_rng(5)
    centre = rng.uniform(25, 35, size=4000)
    p = ndtr((np.arange(SAMPLES) - centre[:, None]) / spread).astype(np.float32)
    np.testing.assert_allclose(coverage(p, centre + spread * rng.normal(size=4000)), CHANCES, atol=0.03)


@pytest.mark.parametrize(("own", "between"), [(0.5, 3.0), (2.0, 2.0), (3.0, 0.5)])
def test_the_mean_of_members_holds_their_disagreement(own: float, between: float) -> None:
    # The truth comes from a member nobody has seen: as far from their middle as they are from each other.
    rng = np.random.default_rng(6)
    centre, members = rng.uniform(25, 35, size=4000), 16
    bias = between * rng.normal(size=(members, 4000))
    p = np.mean([ndtr((np.arange(SAMPLES) - (centre + one)[:, None]) / own) for one in bias], axis=0)
    truth = centre + between * rng.normal(size=4000) + own * rng.normal(size=4000)
    inside = coverage(p.astype(np.float32), truth)
    # A finite number of members has a spread a little too small.
    assert 0.72 < inside[2] - inside[0] < 0.83


def test_calibration_mends_members_that_are_too_sure() -> None:
    rng = np.random.default_rng(7)
    centre = rng.uniform(25, 35, size=4000)
    truth = centre + 4.0 * rng.normal(size=4000)
    sure = ndtr((np.arange(SAMPLES) - centre[:, None]) / 2.0).astype(np.float32)
    # Twice too sure: what they take for two spreads is one.
    spreads = np.linspace(-5, 5, 201)
    table = Calibration(tuple(ndtr(spreads).tolist()), tuple(ndtr(spreads / 2).tolist()))
    np.testing.assert_allclose(coverage(calibrate(sure, table), truth), CHANCES, atol=0.03)
    before = coverage(sure, truth)
    assert before[2] - before[0] < 0.6


def test_salt_that_may_not_be_there_keeps_its_bands() -> None:
    rng = np.random.default_rng(8)
    centre = rng.uniform(25, 35, size=4000)
    rises = ndtr((np.arange(SAMPLES) - centre[:, None]) / 3.0)
    truth = centre + 3.0 * rng.normal(size=4000)
    places = top_places((0.6 * rises).astype(np.float32), *first_and_last(0.6 * rises > 0.5))
    np.testing.assert_allclose([(truth <= place).mean() for place in places], CHANCES, atol=0.03)


def test_a_calibration_is_linear_between_its_entries() -> None:
    table = stored_calibration({"calibration": {"raw": [0, 0.5, 1], "true": [0, 0.2, 1.0]}}, Path("x"))
    found = calibrate(np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float16), table)
    np.testing.assert_allclose(found, [[0, 0.1, 0.2, 0.6, 1.0]], atol=1e-6)
    np.testing.assert_array_equal(calibrate(np.array([0.25], np.float16), stored_calibration({}, Path("x"))), [0.25])


@pytest.mark.parametrize(
    "table",
    [
        {"raw": [0, 1]},
        {"raw": [0, 1], "true": [0, 0.5, 1]},
        {"raw": [0, 0], "true": [0, 1]},
        {"raw": [0, 1], "true": [1, 0]},
        {"raw": [0, 2], "true": [0, 1]},
        {"raw": [0, float("nan")], "true": [0, 1]},
        {"raw": ["a", "b"], "true": [0, 1]},
        [],
        7,
    ],
)
def test_what_is_no_calibration_is_refused(table: object) -> None:
    with pytest.raises(InputError, match=r"salt\.zarr: expected a calibration"):
        stored_calibration({"calibration": table}, Path("salt.zarr"))
