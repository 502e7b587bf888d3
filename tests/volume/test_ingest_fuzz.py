"""Damaged files and labels either come in whole and right, or are refused in words and leave nothing behind."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.volume.export import export_segy
from diapir.volume.ingest import ingest
from diapir.volume.labels import read_labels
from diapir.volume.segy import file_header, open_segy, raw_headers, samples, trailer
from diapir.volume.store import open_store, read_map
from fake_damage import STRIDES, damaged, damaged_segy
from fake_labelled_survey import write_picture, write_segy_labels, write_store, write_zarr_labels
from fake_segy import fake_segy, grid_traces, write

GRID = grid_traces(3, 4)
SEEDS = (
    (fake_segy(GRID, code=1), 240, 264),
    (fake_segy(GRID, code=3, order="little"), 240, 252),
    (
        fake_segy(
            GRID, code=5, revision=(2, 0), more_headers=1, trailer=b"T" * 3200, fields={(3507, 4): 1, (3529, 4): 1}
        ),
        480,
        504,
    ),
)
SHAPE = (9, 7, 12)
LONGEST_S = 60.0


def came_in(path: Path, folder: Path) -> bool:
    """Whether a file was taken; it comes out of its store as it was then, or nothing but itself is there."""
    out, again = folder / "survey.zarr", folder / "again.sgy"
    try:
        ingest(path, out)
    except InputError:
        assert [each.name for each in folder.iterdir()] == [path.name]
        return False
    store = open_store(out)
    export_segy(out, again)
    first, second = open_segy(path), open_segy(again)
    assert file_header(first) == file_header(second)
    assert list(trailer(first)) == list(trailer(second))
    np.testing.assert_array_equal(raw_headers(first, slice(None)), raw_headers(second, slice(None)))
    # Of traces with a place of their own; and not the bytes, for an IBM float can be written in several ways.
    rows = np.sort(read_map(store, "trace_row")[read_map(store, "live")])
    np.testing.assert_array_equal(samples(first, rows), samples(second, rows))
    return True


def num_taken(folder: Path, content: bytes, *, times: int, **shape: int) -> int:
    """How many of some damaged files came in, in bounded time."""
    rng = random.Random(0)
    began = time.process_time()
    taken = 0
    for number in range(times):
        own = folder / str(number)
        own.mkdir()
        taken += came_in(write(own, damaged_segy(content, rng, **shape)), own)
        shutil.rmtree(own)
    assert time.process_time() - began < LONGEST_S
    return taken


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_a_damaged_file_comes_in_as_it_is_or_not_at_all(tmp_path: Path, seed: int) -> None:
    content, header_bytes, stride = SEEDS[seed]
    # Both ends are met: neither is everything refused, nor does everything pass.
    assert 3 < num_taken(tmp_path, content, times=30, header_bytes=header_bytes, stride=stride) < 29


@pytest.mark.parametrize(("name", "stride"), STRIDES.items())
def test_a_damaged_real_file_comes_in_as_it_is_or_not_at_all(
    tmp_path: Path, segy_folder: Path, name: str, stride: int
) -> None:
    content = (segy_folder / name).read_bytes()
    assert 2 < num_taken(tmp_path, content, times=15, header_bytes=240, stride=stride) < 15


# Nearly every damage to a PNG breaks a checksum, and to an array its description or a frame of what is packed.
@pytest.mark.parametrize(("kind", "fewest"), [("picture", 0), ("segy", 5), ("zarr.json", 0), ("c/0/0/0", 0)])
def test_damaged_labels_are_sections_of_the_survey_or_refused(tmp_path: Path, kind: str, fewest: int) -> None:
    store = write_store(tmp_path / "survey.zarr", np.ones(SHAPE, np.float32))
    rng, mask = random.Random(0), np.random.default_rng(0).integers(0, 2, SHAPE[1:], dtype=np.uint8)
    folder = tmp_path / "labels"
    match kind:
        case "picture":
            path = write_picture(folder / "inline-104.png", mask.T)
        case "segy":
            path = write_segy_labels(
                folder / "some.sgy", {(104, 300 + trace): mask[trace] for trace in range(len(mask))}
            )
        case _:
            values = np.full(SHAPE, UNKNOWN, np.uint8)
            values[2] = mask
            path = write_zarr_labels(folder / "labels.zarr", values) / kind
    assert len(read_labels(folder, store).sections) == 1
    content = path.read_bytes()
    taken = 0
    for _ in range(60):
        path.write_bytes(damaged(content, rng))
        try:
            labels = read_labels(folder, store)
        except InputError:
            continue
        taken += 1
        for section in labels.sections:
            assert section.mask.shape in ((SHAPE[2], SHAPE[1]), (SHAPE[2], SHAPE[0]))
            assert set(np.unique(section.mask)) <= {0, 1, UNKNOWN}
    assert fewest <= taken < 60
