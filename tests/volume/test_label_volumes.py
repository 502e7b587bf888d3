"""Labels in arrays and files of traces that are damaged, or numbered otherwise than the survey."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.volume.labels import read_labels
from diapir.volume.store import Store, open_store
from fake_labelled_survey import write_zarr_labels
from fake_stores import fake_store

SHAPE = (20, 18, 12)
"""Inlines from 100 on, every second crossline from 300 on."""


def amplitude() -> NDArray[np.float32]:
    return np.ones(SHAPE, np.float32)


def survey_of(folder: Path, **facts: object) -> Store:
    return fake_store(folder / "survey.zarr", {"amplitude": amplitude()}, **facts)


def mask_of(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, SHAPE, dtype=np.uint8)


def fault_of(path: Path, survey: Store) -> str:
    with pytest.raises(InputError) as caught:
        read_labels(path, survey)
    return str(caught.value)


# Salt that was found.


def test_salt_that_was_found_in_a_survey_is_labels_of_it(tmp_path: Path) -> None:
    survey, mask = survey_of(tmp_path), mask_of()
    salt = fake_store(tmp_path / "salt.zarr", {"mask": mask})
    for path in (salt.path, salt.path / "mask"):
        sections = read_labels(path, survey).sections
        assert len(sections) == SHAPE[1]
        assert all(np.array_equal(each.mask, mask[:, each.place].T) for each in sections)


@pytest.mark.parametrize("name", ["salt.zarr", "salt.zarr/mask"])
def test_salt_that_is_not_whole_teaches_nothing(tmp_path: Path, name: str) -> None:
    survey = survey_of(tmp_path)
    salt = fake_store(tmp_path / "salt.zarr", {"mask": mask_of()})
    shard = next(each for each in (salt.path / "mask" / "c").rglob("*") if each.is_file())
    shard.rename(tmp_path / "aside")
    assert "missing" in fault_of(tmp_path / name, survey)
    (tmp_path / "aside").rename(shard)
    about = json.loads((salt.path / "zarr.json").read_text())
    about["attributes"]["diapir"]["facts"]["finished"] = False
    (salt.path / "zarr.json").write_text(json.dumps(about))
    assert "it was not finished" in fault_of(tmp_path / name, survey)


def test_salt_of_another_survey_is_refused(tmp_path: Path) -> None:
    survey = survey_of(tmp_path)
    salt = fake_store(tmp_path / "salt.zarr", {"mask": mask_of()}, digest="1" * 64)
    assert "found salt of another survey" in fault_of(salt.path, survey)
    assert "expected a volume mask, found amplitude" in fault_of(survey.path, open_store(survey.path))


# Arrays.


def test_an_array_that_is_damaged_in_whatever_way_is_refused(tmp_path: Path) -> None:
    survey = survey_of(tmp_path)
    path = write_zarr_labels(tmp_path / "labels.zarr", mask_of())
    chunk = next(each for each in path.rglob("*") if each.is_file() and each.name != "zarr.json")
    about = json.loads((path / "zarr.json").read_text())
    about["codecs"] = [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]
    (path / "zarr.json").write_text(json.dumps(about))
    # The beginning of what gzip writes, and nothing behind it.
    chunk.write_bytes(bytes.fromhex("1f8b08000000000002ff"))
    assert "cannot be read" in fault_of(path, survey)
    (path / "zarr.json").write_text("[]")
    assert "found none" in fault_of(path, survey)
