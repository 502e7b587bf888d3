"""Traces at another interval and back: waves keep their shape, none folds down, and what was found keeps its bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.volume.line_numbers import Axis
from diapir.volume.resampling import LONGEST, SHORTEST, Resampling, plan_resampling, resampling_faults
from diapir.volume.store import Grid

intervals = st.floats(4 * SHORTEST, 4 * LONGEST)


def grid_of(num_samples: int, *, interval: float = 4.0) -> Grid:
    return Grid(Axis(1, 1, 2), Axis(1, 1, 3), num_samples, 0.0, interval, "ms")


def plan(num_samples: int, wanted: float) -> Resampling:
    return plan_resampling(grid_of(num_samples), wanted=wanted)


def wave(num_samples: int, interval: float, cycles_a_ms: float) -> NDArray[np.float32]:
    made: NDArray[np.float32] = np.sin(2 * np.pi * cycles_a_ms * interval * np.arange(num_samples) + 0.3).astype(
        np.float32
    )
    return made


@pytest.mark.parametrize("wanted", [1.0, 2.0, 3.3, 4.0, 5.7, 8.0, 16.0])
@pytest.mark.parametrize(("share", "error"), [(0.05, 0.001), (0.25, 0.001), (0.4, 0.025)])
def test_waves_keep_their_shape(wanted: float, share: float, error: float) -> None:
    # Of the samples a cycle that the coarser of the two intervals has.
    frequency = share / max(wanted, 4.0)
    made = plan(1000, wanted)
    found = made.resampled(wave(1000, 4.0, frequency)[None])[0]
    # Near the ends a part of what it reaches is missing.
    inner = slice(made.num_samples // 10, -made.num_samples // 10)
    np.testing.assert_allclose(found[inner], wave(made.num_samples, wanted, frequency)[inner], atol=error)


def test_waves_that_the_new_interval_cannot_hold_vanish() -> None:
    # 0.8 cycles a new sample would come back as 0.2.
    made = plan(1000, 8.0)
    found = made.resampled(wave(1000, 4.0, 0.8 / 8.0)[None])[0]
    assert np.abs(found[50:-50]).max() < 0.01
    assert np.abs(wave(1000, 4.0, 0.8 / 8.0)[::2]).max() > 0.9


@given(num_samples=st.integers(1, 70), wanted=intervals, value=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))
def test_constants_stay_and_both_ends_are_within(num_samples: int, wanted: float, value: float) -> None:
    made = plan(num_samples, wanted)
    # Of new samples the last one is at most a hair beyond the survey's last.
    end = (num_samples - 1) * 4.0
    assert (made.num_samples - 1) * wanted <= end * (1 + 2e-6) + 2e-6 * wanted
    assert end < made.num_samples * wanted
    there = made.resampled(np.full((2, 3, num_samples), value, np.float32))
    assert there.shape == (2, 3, made.num_samples)
    np.testing.assert_allclose(there, value, rtol=2e-6)
    back = made.restored(np.full((2, made.num_samples), value, np.float32))
    assert back.shape == (2, num_samples)
    np.testing.assert_allclose(back, value, rtol=2e-6)


@given(num_samples=st.integers(1, 40), wanted=intervals, seed=st.integers(0, 99))
def test_what_comes_back_is_what_straight_lines_give(num_samples: int, wanted: float, seed: int) -> None:
    made = plan(num_samples, wanted)
    said = np.random.default_rng(seed).random((3, made.num_samples)).astype(np.float32)
    expected = [np.interp(np.arange(num_samples) * 4.0, np.arange(made.num_samples) * wanted, row) for row in said]
    found = made.restored(said)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def test_the_survey_s_own_interval_changes_nothing() -> None:
    traces = np.random.default_rng(0).normal(size=(4, 60)).astype(np.float32)
    made = plan(60, 4.0)
    np.testing.assert_array_equal(made.resampled(traces), traces)
    np.testing.assert_array_equal(made.restored(traces), traces)


@pytest.mark.parametrize("wanted", [4.0, 4.0000001, 3.9999999])
def test_an_interval_that_is_off_by_its_last_digit_loses_no_sample(wanted: float) -> None:
    assert plan(10_001, wanted).num_samples == 10_001


@pytest.mark.parametrize("wanted", [0.0, -4.0, 0.39, 401.0, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_told(wanted: float) -> None:
    (fault,) = resampling_faults(wanted, grid_of(10))
    assert fault.where == "--resample"
    assert "0.4 to 400 ms" in fault.what
    assert not list(resampling_faults(None, grid_of(10)))
    assert not list(resampling_faults(2.0, grid_of(10)))
