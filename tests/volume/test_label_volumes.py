"""Labels in arrays and files of traces that are damaged, or numbered otherwise than the survey."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.volume.labels import read_labels
from diapir.volume.store import Store, open_store
from fake_labelled_survey import write_zarr_labels
from fake_segy import Trace, fake_segy, write
from fake_stores import fake_store

SHAPE = (20, 18, 12)
"""Inlines from 100 on, every second crossline from 300 on."""


def amplitude() -> NDArray[np.float32]:
    return np.ones(SHAPE, np.float32)


def survey_of(folder: Path) -> Store:
    return fake_store(folder / "survey.zarr", {"amplitude": amplitude()})


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
    told = fault_of(tmp_path / name, survey)
    assert "missing: " in told
    assert "an array of its own, such as labels.zarr" in told
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


# Files of traces.

LINES = (12, 60, 4)
OLD_BYTES = {"kind": "3-D", "inline_byte": 9, "crossline_byte": 21}


def traces_at(places: list[tuple[int, int]], *, bytes_of_lines: tuple[int, int]) -> list[Trace]:
    """Labels of some inlines and crosslines by their place: salt in every second sample."""
    return [
        Trace(
            [0, 1] * (LINES[2] // 2),
            fields={(bytes_of_lines[0], 4): 100 + inline, (bytes_of_lines[1], 4): 300 + 2 * crossline},
        )
        for inline, crossline in places
    ]


def inlines_of(*lines: int) -> list[tuple[int, int]]:
    return [(line, crossline) for line in lines for crossline in range(LINES[1])]


@pytest.mark.parametrize("bytes_of_lines", [(9, 21), (189, 193)])
@pytest.mark.parametrize(
    ("places", "names"),
    [
        (inlines_of(3), ["inline 103"]),
        (inlines_of(0, 1, 4, 9, 11), [f"inline {line}" for line in (100, 101, 104, 109, 111)]),
        ([*inlines_of(3), *((line, 5) for line in range(12) if line != 3)], ["inline 103", "crossline 310"]),
    ],
    ids=["one line", "lines apart", "one line each way"],
)
def test_a_few_lines_are_known_by_the_bytes_of_the_survey(
    tmp_path: Path, bytes_of_lines: tuple[int, int], places: list[tuple[int, int]], names: list[str]
) -> None:
    geometry = OLD_BYTES if bytes_of_lines == (9, 21) else None
    survey = fake_store(tmp_path / "survey.zarr", {"amplitude": np.ones(LINES, np.float32)}, geometry=geometry)
    path = write(tmp_path, fake_segy(traces_at(places, bytes_of_lines=bytes_of_lines)))
    sections = read_labels(path, survey).sections
    assert [each.name for each in sections] == names
    known = [int((each.mask != UNKNOWN).sum()) // LINES[2] for each in sections]
    assert known == [LINES[1] if each.direction == "inline" else LINES[0] for each in sections]


def test_labels_in_segy_are_read_as_asked(tmp_path: Path) -> None:
    survey = fake_store(tmp_path / "survey.zarr", {"amplitude": np.ones(LINES, np.float32)})
    traces = traces_at(inlines_of(3), bytes_of_lines=(41, 61))
    path = write(tmp_path, fake_segy(traces, code=1, packed_as=5))
    asked = {"asked": {"stored": "ieee32"}, "inline_byte": 41, "crossline_byte": 61}
    (section,) = read_labels(path, survey, of_segy=asked).sections
    assert section.name == "inline 103"
    assert section.mask[:, 0].tolist() == [0, 1, 0, 1]
    with pytest.raises(InputError, match=r"expected inlines of the survey \(100 to 111\), found 1 others \(0\)"):
        read_labels(path, survey, of_segy=asked | {"inline_byte": 45})


def test_dead_traces_of_labels_may_lie_anywhere_and_live_ones_may_not(tmp_path: Path) -> None:
    survey = fake_store(tmp_path / "survey.zarr", {"amplitude": np.ones(LINES, np.float32)})
    traces = traces_at(inlines_of(3, 5), bytes_of_lines=(189, 193))
    (tmp_path / "dead.sgy").write_bytes(fake_segy([*traces, Trace([0] * LINES[2], fields={(29, 2): 3})]))
    assert len(read_labels(tmp_path / "dead.sgy", survey).sections) == 2
    (tmp_path / "live.sgy").write_bytes(fake_segy([*traces, Trace([0] * LINES[2])]))
    assert "expected inlines of the survey (100 to 111), found 1 others (0)" in fault_of(tmp_path / "live.sgy", survey)
