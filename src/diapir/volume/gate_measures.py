"""How far tiles are from others, in units that mean something: greys, spectra, and which way up the amplitudes are."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.data.statistics import BINS, TileStatistics

Floats = NDArray[np.float64]

FREQUENCIES: Floats = (np.arange(BINS) + 0.5) / (2 * BINS)
"""Middles of the bands of a spectrum, in cycles a pixel."""

MOST_STRETCH = 4.0
"""And its inverse the least, that is looked for."""

_FACTORS: Floats = MOST_STRETCH ** (np.arange(-80, 81) / 80)
# Where the bands of a spectrum stretched by each factor were before, and whether the other spectrum reaches so far:
# of one stretched to a quarter, the lowest eight bands do.
_PLACES: Floats = FREQUENCIES / _FACTORS[:, None]
_REACHED = FREQUENCIES[-1] >= _PLACES
# Neighbouring tiles share layers: of made surveys 640 tiles that do not overlap are no more than a few dozen layers.
# With 10 to a stranger, two made surveys told the polarity of a third wrong (log-odds -5.6); with 40 they do not
# (-2.9), and of the TGS tiles the odds stay what they were (6.6 and 6.5).
_TILES_A_STRANGER = 40
# Deviation of the asymmetry over six ranges of depth of the TGS tiles is 0.009, over mosaics, less their chance, 0.016.
_ASYMMETRY_SPREAD = 0.012
# Deviation of the skewness over the same six ranges.
_SKEWNESS_SPREAD = 0.25
# No single measure may tell the polarity for certain: what is true of one survey's waves is not of another's.
_MOST_ODDS = 6.0


class Stretch(NamedTuple):
    """How a spectrum comes from another by a stretch of its frequencies.

    Args:
        factor: frequencies of the first over those of the second: 2 where its waves are half as long in pixels.
        left: what then still differs, at any gain: root of the mean square of the log-ratio, in nepers, weighted by
            both spectra.
    """

    factor: float
    left: float


class Polarity(NamedTuple):
    """Which way up amplitudes are.

    Args:
        log_odds: natural logarithm of how much likelier the same polarity is than the opposite one.
        own, other: asymmetry of the survey and of the others; NaN where unknown.
        error: of their difference.
    """

    log_odds: float
    own: float
    other: float
    error: float


def grey_distance(own: TileStatistics, other: TileStatistics) -> float:
    """Wasserstein distance of the grey values, in the other's deviations."""
    gap = np.cumsum(own.histogram) - np.cumsum(other.histogram)
    return float(np.abs(gap).sum() / BINS / max(other.deviation, 1e-6))


def shape_distance(own: TileStatistics, other: TileStatistics) -> float:
    """The same once the mean and the deviation of both are alike."""
    shares = np.linspace(0.01, 0.99, 99)
    edges = np.arange(BINS + 1) / BINS
    quantiles = []
    for each in (own, other):
        reached = np.concatenate([[0], np.cumsum(each.histogram)])
        values = np.interp(shares, reached, edges)
        quantiles.append((values - values.mean()) / max(float(values.std()), 1e-6))
    return float(np.abs(quantiles[0] - quantiles[1]).mean())


def main_frequency(spectrum: tuple[float, ...]) -> float:
    """Mean frequency, weighted by power, in cycles a pixel."""
    power = np.square(spectrum)
    return float((power * FREQUENCIES).sum() / max(float(power.sum()), 1e-30))


def bandwidth(spectrum: tuple[float, ...]) -> float:
    """Deviation of the frequency about its mean, weighted by power, in cycles a pixel."""
    power = np.square(spectrum)
    away = np.square(FREQUENCIES - main_frequency(spectrum))
    return math.sqrt(float((power * away).sum() / max(float(power.sum()), 1e-30)))


def spectral_stretch(own: tuple[float, ...], other: tuple[float, ...]) -> Stretch:
    """The stretch, of a quarter to four times, that brings one spectrum nearest to another.

    Bands that the stretched one does not reach do not count. Of the TGS tiles, resampled by known factors from a half
    to two, the factor found is within 7 % of the known one, while the mean frequency loses up to 10 %.
    """
    here, there = (np.log(np.maximum(spectrum, 1e-9)) for spectrum in (own, other))
    wanted = np.interp(_PLACES, FREQUENCIES, there)
    lift = ((here - wanted) * _REACHED).sum(1, keepdims=True) / _REACHED.sum(1, keepdims=True)
    weights = _REACHED * (np.exp(here) + np.exp(wanted + lift))
    weights /= weights.sum(1, keepdims=True)
    gap = here - wanted
    gap -= (weights * gap).sum(1, keepdims=True)
    left = np.sqrt((weights * gap**2).sum(1))
    best = int(left.argmin())
    return Stretch(float(_FACTORS[best]), float(left[best]))


def polarity(own: TileStatistics, other: TileStatistics, *, asymmetry_error: float, skewness_error: float) -> Polarity:
    """Odds of the same polarity against the opposite one, by asymmetry and by skewness, each of which turns its sign.

    Each is taken as normal about the other's figure, or about its opposite. They are added up as if neither knew of the
    other, for which each is limited.

    Args:
        asymmetry_error, skewness_error: of the survey's figures.
    """
    strangers = max(other.num_tiles * (1 - other.constant_share) / _TILES_A_STRANGER, 1.0)
    # The skewness of one TGS tile has a deviation of 1.8.
    skewness = _odds(
        own.skewness, other.skewness, error=math.hypot(skewness_error, 1.8 / math.sqrt(strangers), _SKEWNESS_SPREAD)
    )
    if own.asymmetry is None or other.asymmetry is None:
        return Polarity(skewness, math.nan, math.nan, math.nan)
    means = own.asymmetry[0], other.asymmetry[0]
    error = math.hypot(asymmetry_error, other.asymmetry[1] / math.sqrt(strangers), _ASYMMETRY_SPREAD)
    return Polarity(skewness + _odds(*means, error=error), *means, error)


def _odds(own: float, other: float, *, error: float) -> float:
    """Logarithm of how much likelier `own` is about `other` than about its opposite."""
    return min(max(2 * own * other / (error * error), -_MOST_ODDS), _MOST_ODDS)
