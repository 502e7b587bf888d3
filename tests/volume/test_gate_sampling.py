"""Tiles of surveys: where they were said to be, spread, alive, and read a few traces at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.statistics import tile_statistics
from diapir.data.tiles import TILE
from diapir.faults import InputError
from diapir.volume import sections
from diapir.volume.gate_sampling import SampledTiles, sample_tiles, survey_statistics
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.store import Store, new_store, read_volume
from fake_gate_stores import Volume, amplitude_store

WIDE = (130, 230, 220)


def amplitudes(shape: tuple[int, ...], *, seed: int = 0) -> Volume:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def wide_amplitude() -> Volume:
    return amplitudes(WIDE)


@pytest.fixture(scope="module")
def wide(wide_amplitude: Volume, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return amplitude_store(tmp_path_factory.mktemp("stores") / "wide", wide_amplitude, limit=3.0)


def section_of(volume: NDArray[Any], sampled: SampledTiles, row: int) -> NDArray[Any]:
    """The section that a tile was cut from, (samples, traces), by the numbers that fake stores give lines."""
    line = sampled.lines[row]
    return volume[:, line - 300].T if sampled.crosses[row] else volume[(line - 100) // 2].T


def test_tiles_lie_where_they_are_said_to(wide: Store, wide_amplitude: Volume) -> None:
    sampled = sample_tiles(wide, count=60)
    assert sampled.images.shape[1:] == (TILE, TILE)
    assert not sampled.is_mirrored
    for row, image in enumerate(sampled.images):
        top, left = sampled.first_samples[row], sampled.first_traces[row]
        cut = section_of(wide_amplitude, sampled, row)[top : top + TILE, left : left + TILE]
        assert np.array_equal(image, to_grey(cut, limit=3.0))


def test_tiles_are_spread_over_lines_traces_and_depths_both_ways(wide: Store) -> None:
    sampled = sample_tiles(wide, count=120)
    assert 90 <= len(sampled.images) <= 180
    for crosses, first, step, count in ((False, 100, 2, WIDE[0]), (True, 300, 1, WIDE[1])):
        own = sampled.crosses == crosses
        places = np.unique((sampled.lines[own] - first) // step)
        assert np.diff([0, *places, count]).max() <= count / 5
        assert len(np.unique(sampled.first_samples[own])) == 3
        assert len(np.unique(sampled.first_traces[own])) == (2 if crosses else 3)
    again = sample_tiles(wide, count=120)
    assert np.array_equal(again.images, sampled.images)


def test_tiles_with_many_dead_traces_are_left_out(tmp_path: Path) -> None:
    live = np.ones((40, 330), np.bool_)
    live[:, 110:225] = np.random.default_rng(3).random((40, 115)) < 0.7
    live[7:12] = False
    volume = amplitudes((40, 330, 101)) * live[:, :, None]
    sampled = sample_tiles(amplitude_store(tmp_path / "store", volume, live=live))
    inlines = ~sampled.crosses
    shares = [
        live[(line - 100) // 2, first : first + TILE].mean()
        for line, first in zip(sampled.lines[inlines], sampled.first_traces[inlines], strict=True)
    ]
    assert min(shares) >= 0.9
    assert not np.isin(sampled.lines[inlines], 100 + 2 * np.arange(7, 12)).any()


def test_half_dead_traces_do_where_there_is_nothing_better(tmp_path: Path) -> None:
    live = np.indices((20, 30)).sum(0) % 3 > 0
    volume = amplitudes((20, 30, 101)) * live[:, :, None]
    assert len(sample_tiles(amplitude_store(tmp_path / "store", volume, live=live)).images)


def test_small_sections_are_mirrored_at_their_far_ends(tmp_path: Path) -> None:
    volume = amplitudes((30, 20, 60))
    sampled = sample_tiles(amplitude_store(tmp_path / "store", volume, limit=2.0))
    assert sampled.is_mirrored
    assert set(sampled.crosses.tolist()) == {False, True}
    for row, image in enumerate(sampled.images):
        section = section_of(volume, sampled, row)
        missing = [(0, TILE - side) for side in section.shape]
        assert np.array_equal(image, to_grey(np.pad(section, missing, mode="symmetric"), limit=2.0))


def test_a_line_has_no_sections_across_it(tmp_path: Path) -> None:
    store = amplitude_store(tmp_path / "store", amplitudes((1, 250, 120)))
    found = survey_statistics(store)
    assert set(found.by_direction) == {"inline"}
    assert [line.number for line in found.lines] == [100]
    assert found.spacing == {"inline": 12.5, "crossline": None}


def test_no_more_than_a_tiles_traces_are_read_at_once(wide: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def watched(store: Store, name: str, **lines: slice) -> NDArray[Any]:
        found = read_volume(store, name, **lines)
        sizes.append(found.shape[0] * found.shape[1])
        return found

    monkeypatch.setattr(sections, "read_volume", watched)
    sample_tiles(wide, count=30)
    assert 0 < max(sizes) <= TILE


def test_a_survey_is_described_by_its_tiles_and_its_grid(wide: Store) -> None:
    found, sampled = survey_statistics(wide, count=60), sample_tiles(wide, count=60)
    assert found.every == tile_statistics(sampled.images)
    for along, crosses in (("inline", False), ("crossline", True)):
        assert found.by_direction[along] == tile_statistics(sampled.images[sampled.crosses == crosses])  # type: ignore[index]
    assert (found.interval, found.unit, found.limit, found.live_share) == (4.0, "ms", 3.0, 1.0)
    assert found.spacing == {"inline": 12.5, "crossline": 25.0}
    assert sum(line.tiles.num_tiles for line in found.lines) == len(sampled.images)
    # Nobody knows which way up noise is.
    assert found.every.asymmetry is not None
    assert abs(found.every.asymmetry[0]) < 5 * found.asymmetry_error < 0.2


def test_positions_that_are_not_known_give_no_spacing(tmp_path: Path) -> None:
    found = survey_statistics(amplitude_store(tmp_path / "store", amplitudes((20, 20, 101)), spacing=None))
    assert found.spacing == {"inline": None, "crossline": None}


def test_few_depths_make_the_polarity_uncertain(tmp_path: Path) -> None:
    found = survey_statistics(amplitude_store(tmp_path / "store", amplitudes((20, 20, 101))))
    assert found.asymmetry_error > 0.1


def test_what_cannot_be_judged_is_told(tmp_path: Path) -> None:
    volume = amplitudes((20, 20, 101))
    dead = amplitude_store(tmp_path / "dead", 0 * volume, live=np.zeros((20, 20), np.bool_))
    with pytest.raises(InputError, match="half of 101 neighbouring traces are live"):
        sample_tiles(dead)
    with pytest.raises(InputError, match="expected amplitudes that differ"):
        survey_statistics(amplitude_store(tmp_path / "flat", 0 * volume))
    store = amplitude_store(tmp_path / "store", volume)
    for number, amplitude in enumerate((None, 3, {}, {"limit": "1"}, {"limit": -1.0}, {"limit": math.inf})):
        bare = new_store(tmp_path / f"bare-{number}", store.grid, {"amplitude": amplitude})
        with pytest.raises(InputError, match="expected a survey"):
            grey_limit(bare, asked=1.0)


@pytest.mark.parametrize("asked", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_is_no_amplitude_is_refused(tmp_path: Path, asked: float) -> None:
    store = amplitude_store(tmp_path / "store", amplitudes((20, 20, 101)), limit=2.0)
    with pytest.raises(InputError, match="--limit: expected an amplitude above 0"):
        survey_statistics(store, limit=asked)
    assert (grey_limit(store), grey_limit(store, asked=3.0)) == (2.0, 3.0)
