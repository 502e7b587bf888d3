"""Figures of tiles against slow plain versions, and against what is known of noise, waves and constants."""

import cmath
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data import statistics
from diapir.data.statistics import BINS, PERCENTILES, SIDE, TileStatistics, asymmetry, band_power, tile_statistics
from diapir.faults import InputError

Images = NDArray[np.uint8]


def noise(count: int, height: int, width: int, *, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width)).astype(np.uint8)


def plain_spectrum(lines: list[list[float]]) -> list[float]:
    """Amplitude of a tile's lines in each band, frequency by frequency and pixel by pixel."""
    length = len(lines[0])
    taper = [math.sin(math.pi * (place + 0.5) / length) ** 2 for place in range(length)]
    number = 64
    while number < 2 * length:
        number += 64
    powers: list[list[float]] = [[] for _ in range(BINS)]
    for line in lines:
        mean = sum(line) / length
        for wave in range(1, number // 2 + 1):
            total = sum(
                (grey - mean) * weight * cmath.exp(-2j * math.pi * wave * place / number)
                for place, (grey, weight) in enumerate(zip(line, taper, strict=True))
            )
            powers[(wave - 1) * BINS // (number // 2)].append(abs(total) ** 2 / sum(each**2 for each in taper))
    return [math.sqrt(sum(band) / len(band)) for band in powers]


def plain_correlation(tiles: list[NDArray[np.float64]]) -> float:
    """Of each pixel with the one to its right."""
    products, own, following = 0.0, 0.0, 0.0
    for tile in tiles:
        mean = float(tile.mean())
        for row in tile:
            for one, next_ in itertools.pairwise(row):
                products += (one - mean) * (next_ - mean)
                own += (one - mean) ** 2
                following += (next_ - mean) ** 2
    return products / math.sqrt(own * following)


def test_every_figure_is_that_of_a_slow_plain_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_CHUNK", 2)
    images = noise(3, 12, 37)
    images[1] //= 3
    images = np.concatenate([images, np.full((1, 12, 37), 9, np.uint8)])
    found = tile_statistics(images, depths_m=np.array([np.nan, 30, 10, 20], np.float32))
    greys = images[:3].reshape(-1) / 255
    assert (found.num_tiles, found.height_px, found.width_px, found.constant_share) == (4, 12, 37, 0.25)
    assert found.depth_m == (10, 30)
    assert found.mean == pytest.approx(greys.mean(), rel=1e-5)
    assert found.deviation == pytest.approx(greys.std(), rel=1e-5)
    assert found.skewness == pytest.approx(((greys - greys.mean()) ** 3).mean() / greys.std() ** 3, rel=1e-4)
    percentiles = np.percentile(greys, PERCENTILES, method="inverted_cdf")
    assert found.percentiles == pytest.approx(percentiles.tolist(), rel=1e-5)
    # A grey value belongs to the band that its eight neighbours share; nothing falls on an edge.
    histogram = np.histogram(images[:3], bins=BINS, range=(0, 256))[0] / greys.size
    assert found.histogram == pytest.approx(histogram.tolist(), abs=1e-6)
    tiles = [image / 255 for image in images[:3]]
    for across, own in ((found.vertical_spectrum, [tile.T for tile in tiles]), (found.horizontal_spectrum, tiles)):
        plain = np.mean([plain_spectrum(tile.tolist()) for tile in own], axis=0)
        assert across == pytest.approx(plain.tolist(), rel=1e-5)
    assert found.horizontal_correlation == pytest.approx(plain_correlation(tiles), rel=1e-4)
    assert found.vertical_correlation == pytest.approx(plain_correlation([tile.T for tile in tiles]), rel=1e-4)


@pytest.mark.parametrize("length", [24, 101, 300])
def test_white_noise_is_as_strong_at_every_frequency_however_long_the_lines(length: int) -> None:
    lines = np.random.default_rng(length).normal(scale=0.2, size=(20_000, length))
    # The mean is taken out, which the lowest band shows.
    assert band_power(lines).mean(0)[3:] == pytest.approx(np.full(BINS - 3, 0.04), rel=0.05)


@pytest.mark.parametrize("band", [2, 9, 20, 30])
def test_a_wave_stands_in_its_band_and_its_direction(band: int) -> None:
    rows = np.arange(101)[:, None]
    wave = np.sin(2 * np.pi * rows * (band + 0.5) / BINS / 2)
    found = tile_statistics(np.broadcast_to(128 + 100 * wave, (2, 101, 101)).astype(np.uint8))
    assert int(np.argmax(found.vertical_spectrum)) == band
    assert max(found.horizontal_spectrum) < 1e-5
    assert found.horizontal_correlation == pytest.approx(1)
    assert found.vertical_correlation == pytest.approx(math.cos(math.pi * (band + 0.5) / BINS), abs=0.05)


def test_turned_polarity_turns_the_skewness_and_nothing_else_of_the_shape() -> None:
    images = (noise(3, 20, 20).astype(float) ** 2 / 255).astype(np.uint8)
    one, other = tile_statistics(images), tile_statistics(255 - images)
    assert one.skewness > 0.3
    assert other.skewness == pytest.approx(-one.skewness, rel=1e-4)
    assert other.mean == pytest.approx(1 - one.mean, rel=1e-4)
    assert other.histogram == one.histogram[::-1]
    assert other.vertical_spectrum == pytest.approx(one.vertical_spectrum, rel=1e-4)


def test_tiles_of_one_grey_count_in_no_other_figure() -> None:
    images = noise(4, 16, 16)
    more = np.concatenate([images, np.zeros((4, 16, 16), np.uint8)])
    one, other = tile_statistics(images).to_json(), tile_statistics(more).to_json()
    assert {key for key in one if one[key] != other[key]} == {"num_tiles", "constant_share"}
    with pytest.raises(InputError, match="more than one grey value, found none among 4"):
        tile_statistics(more[4:])


def plain_asymmetry(tile: NDArray[np.uint8]) -> float:
    """Correlation of pixels with the energy above them less that below, pixel by pixel."""
    grey = tile / 255 - (tile / 255).mean()
    pairs = [
        (grey[row, column], (grey[row - SIDE : row, column] ** 2).sum() - (grey[row + 1 :, column][:SIDE] ** 2).sum())
        for row in range(SIDE, len(tile) - SIDE)
        for column in range(tile.shape[1])
    ]
    one, other = np.array(pairs).T
    return float((one * other).sum() / math.sqrt((one**2).sum() * (other**2).sum()))


def test_asymmetry_is_that_of_a_slow_plain_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_CHUNK", 2)
    images = noise(3, 29, 7)
    plain = [plain_asymmetry(image) for image in images]
    assert asymmetry(images) == pytest.approx(plain, rel=1e-9)
    found = tile_statistics(np.concatenate([images, np.full((1, 29, 7), 9, np.uint8)]))
    assert found.asymmetry == pytest.approx((np.mean(plain), np.std(plain)), rel=1e-5)


def test_asymmetry_turns_with_polarity_and_with_time() -> None:
    # Each event begins white and strong, and fades.
    fading = np.exp(-np.arange(20) / 4) * np.cos(np.arange(20) / 2)
    column = np.convolve(np.eye(1, 101, 12)[0] + np.eye(1, 101, 57)[0], fading)[:101]
    images = (128 + 100 * np.broadcast_to(column[:, None], (2, 101, 5))).astype(np.uint8)
    found = asymmetry(images)
    assert abs(found[0]) > 0.1
    assert asymmetry(255 - images) == pytest.approx(-found)
    assert asymmetry(images[:, ::-1]) == pytest.approx(-found)
    assert asymmetry(np.full((2, 40, 5), 77, np.uint8)).tolist() == [0, 0]


def test_figures_come_back_from_json() -> None:
    for height, depths_m in ((11, None), (30, np.array([3.5, 7.25], np.float32))):
        found = tile_statistics(noise(2, height, 13), depths_m=depths_m)
        assert (found.asymmetry is None) == (height == 11)
        assert TileStatistics.stored(json.loads(json.dumps(found.to_json()))) == found


def test_figures_from_before_asymmetry_was_asked_for_come_back_as_they_were() -> None:
    raw = tile_statistics(noise(2, 30, 13)).to_json()
    del raw["asymmetry"]
    old = TileStatistics.stored(raw)
    assert old.asymmetry is None
    assert old.to_json() == raw


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_tiles", 2.0), ("num_tiles", True), ("height_px", 0), ("width_px", None), ("mean", "0.5"),
        ("mean", math.nan), ("deviation", math.inf), ("skewness", [1]), ("percentiles", [0.5] * 6),
        ("histogram", {"0": 1}), ("histogram", [0.5] * 31 + [True]), ("vertical_spectrum", 3), ("depth_m", [1]),
        ("depth_m", 7), ("unheard", 1.0), ("asymmetry", [1]),
    ],
)  # fmt: skip
def test_what_is_no_statistics_is_refused(key: str, value: Any) -> None:
    raw = tile_statistics(noise(2, 11, 13)).to_json()
    with pytest.raises(ValueError, match=key):
        TileStatistics.stored(raw | {key: value})
    del raw["mean"]
    with pytest.raises(KeyError):
        TileStatistics.stored(raw)
