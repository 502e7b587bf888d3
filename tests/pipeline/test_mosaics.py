from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.mosaic import Mosaics, find_mosaics
from diapir.data.tiles import DataSet, TileSet
from diapir.pipeline import mosaics
from diapir.pipeline.mosaics import mosaics_of
from fake_surveys import survey_tiles


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles were searched each time."""
    counts: list[int] = []

    def find(images: NDArray[np.uint8]) -> Mosaics:
        counts.append(len(images))
        return find_mosaics(images)

    monkeypatch.setattr(mosaics, "find_mosaics", find)
    return counts


def survey() -> DataSet:
    images, depths_m = survey_tiles(2, 3, seed=0), np.arange(6, dtype=np.float32)
    labelled = TileSet(("a", "b", "c"), images[:3], np.zeros_like(images[:3]), depths_m[:3])
    return DataSet(labelled, TileSet(("d", "e", "f"), images[3:], None, depths_m[3:]), {})


def test_mosaics_are_found_once_for_a_run(tmp_path: Path, searched: list[int]) -> None:
    first, again = mosaics_of(survey(), tmp_path), mosaics_of(survey(), tmp_path)
    assert searched == [6]
    for found in (first, again):
        assert np.array_equal(found.mosaic, [0] * 6)
        assert np.array_equal(found.row, [0, 0, 0, 1, 1, 1])
        assert np.array_equal(found.column, [0, 1, 2, 0, 1, 2])
    other = replace(survey(), unlabelled=survey().unlabelled.take(np.arange(2)))
    assert len(mosaics_of(other, tmp_path)) == 5
    assert searched == [6, 5], "another data set has mosaics of its own"


def test_mosaics_that_are_not_to_be_kept_leave_nothing(tmp_path: Path, searched: list[int]) -> None:
    mosaics_of(survey(), tmp_path, keep=False)
    assert list(tmp_path.iterdir()) == []
    mosaics_of(survey(), tmp_path)
    mosaics_of(survey(), tmp_path, keep=False)
    assert searched == [6, 6], "what is kept is taken"
