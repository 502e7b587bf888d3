"""Distances of tiles, against stretches, shifts and turns that are known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from diapir.data.statistics import BINS, TileStatistics, tile_statistics
from diapir.volume.gate_measures import (
    FREQUENCIES,
    MOST_STRETCH,
    bandwidth,
    grey_distance,
    main_frequency,
    polarity,
    shape_distance,
    spectral_stretch,
)
from fake_gate_stores import smooth_tiles

TILES = smooth_tiles(6, seed=1)


def hill(middle: float, width: float = 0.5) -> tuple[float, ...]:
    """A spectrum that is a bell over the logarithm of the frequency: stretched, it is the same bell elsewhere."""
    return tuple((np.exp(-((np.log(FREQUENCIES / middle) / width) ** 2) / 2) + 1e-4).tolist())


def with_skews(asymmetry: float | None, skewness: float) -> TileStatistics:
    figures = None if asymmetry is None else (asymmetry, 0.12)
    return replace(tile_statistics(TILES), num_tiles=1000, asymmetry=figures, skewness=skewness)


@pytest.mark.parametrize("factor", [0.4, 0.5, 0.8, 1.0, 1.3, 2.0, 2.5])
def test_a_stretch_is_found_whatever_the_gain(factor: float) -> None:
    own = tuple(7 * each for each in hill(0.08 * factor))
    found = spectral_stretch(own, hill(0.08))
    assert found.factor == pytest.approx(factor, rel=0.05)
    assert found.left < 0.1


def test_a_spectrum_lies_at_no_distance_from_itself() -> None:
    assert spectral_stretch(hill(0.1), hill(0.1)) == pytest.approx((1, 0), abs=1e-9)


def test_no_stretch_makes_noise_of_a_bell() -> None:
    found = spectral_stretch((0.1,) * BINS, hill(0.06, 0.3))
    assert found.factor > MOST_STRETCH / 2 or found.left > 0.4


def test_frequencies_of_a_wave_are_its_own() -> None:
    wave = tuple(float(band == 9) for band in range(BINS))
    assert main_frequency(wave) == pytest.approx(9.5 / 64)
    assert bandwidth(wave) == pytest.approx(0, abs=1e-9)
    two = tuple(float(band in (9, 13)) for band in range(BINS))
    assert bandwidth(two) == pytest.approx(2 / 64)


def test_greys_that_are_shifted_lie_as_far_away_as_they_were_shifted() -> None:
    plain, shifted = tile_statistics(np.clip(TILES, 40, 200)), tile_statistics(np.clip(TILES, 40, 200) + np.uint8(16))
    assert grey_distance(shifted, plain) == pytest.approx(16 / 256 / plain.deviation, rel=1e-3)
    assert grey_distance(plain, plain) == 0
    assert shape_distance(shifted, plain) == pytest.approx(0, abs=1e-3)


def test_a_gain_changes_the_distance_of_greys_and_not_of_their_shape() -> None:
    plain, flat = tile_statistics(TILES), tile_statistics((64 + TILES // 2).astype(np.uint8))
    assert grey_distance(flat, plain) > 0.3
    assert shape_distance(flat, plain) < 0.1
    harsh = tile_statistics(np.where(TILES > 128, 200, 60).astype(np.uint8))
    assert shape_distance(harsh, plain) > 0.3


def test_polarity_turns_with_the_survey_and_with_the_training_data() -> None:
    other = with_skews(0.04, 0.2)
    odds = {
        sign: polarity(with_skews(sign * 0.05, sign * 0.3), other, asymmetry_error=0.005, skewness_error=0.1).log_odds
        for sign in (-1, 1)
    }
    assert odds[1] == -odds[-1] > math.log(100)
    turned = polarity(with_skews(0.05, 0.3), with_skews(-0.04, -0.2), asymmetry_error=0.005, skewness_error=0.1)
    assert turned.log_odds == odds[-1]


def test_polarity_is_the_less_certain_the_larger_the_errors_and_never_by_one_measure_alone() -> None:
    own = with_skews(0.05, 0.3)
    odds = [
        polarity(own, with_skews(0.04, 0.2), asymmetry_error=error, skewness_error=10 * error).log_odds
        for error in (0.001, 0.02, 0.1, 1.0)
    ]
    assert odds == sorted(odds, reverse=True)
    assert odds[-1] < 0.2
    assert polarity(with_skews(9, 0), with_skews(9, 0), asymmetry_error=0, skewness_error=0).log_odds == 6


def test_polarity_of_tiles_whose_asymmetry_nobody_kept_rests_on_their_skewness() -> None:
    found = polarity(with_skews(0.5, 0.3), with_skews(None, 0.2), asymmetry_error=0.01, skewness_error=0.1)
    assert math.isnan(found.own)
    assert 0 < found.log_odds < math.log(100)
