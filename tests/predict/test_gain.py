import numpy as np
import pytest

from diapir.predict.gain import paired_gain


def test_a_gain_is_the_difference_of_the_means_with_an_interval_around_it() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 10, 500) / 10
    after = before + (rng.random(500) < 0.3) / 10
    gain = paired_gain(before, after)
    assert gain.before == pytest.approx(before.mean())
    assert gain.after == pytest.approx(after.mean())
    assert gain.difference == pytest.approx(gain.after - gain.before)
    assert 0 < gain.low < gain.difference < gain.high


def test_tiles_are_paired_so_what_they_share_adds_no_spread() -> None:
    before = np.random.default_rng(0).integers(0, 10, 500) / 10
    every = paired_gain(before, before + 0.1)
    assert (every.low, every.high) == pytest.approx((0.1, 0.1))
    none = paired_gain(before, before.copy())
    assert (none.low, none.difference, none.high) == (0, 0, 0)


def test_the_interval_covers_the_true_gain_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(200):
        before = rng.integers(0, 10, 200) / 10
        gain = paired_gain(before, before + rng.choice([-0.1, 0, 0.1], 200, p=[0.1, 0.6, 0.3]), seed=seed)
        covered.append(gain.low <= 0.02 <= gain.high)
    assert 0.9 <= np.mean(covered) <= 0.985
