"""What was found goes out under the source's own headers."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.runs import read_json, write_json
from diapir.volume.export import copy_source_arrays, export_segy
from diapir.volume.ingest import ingest
from diapir.volume.segy import file_header, open_segy, raw_headers, samples, trailer
from diapir.volume.store import (
    Store,
    add_volume,
    array_of,
    cut_of,
    finish,
    new_store,
    open_store,
    open_unfinished,
    read_map,
)
from fake_segy import Trace, fake_segy, write
from fake_stores import fake_store

SHAPE = (20, 18, 9)


def source(folder: Path, *, code: int = 5) -> Path:
    """A shuffled file; trace 5 is dead, and the last one has the place of the first."""
    rng = np.random.default_rng(3)
    places = [(10 + inline, 500 + crossline) for inline in range(SHAPE[0]) for crossline in range(SHAPE[1])]
    places = [places[row] for row in rng.permutation(len(places))]
    traces = [Trace(rng.integers(1, 90, SHAPE[2]).tolist(), *place) for place in places]
    traces[5] = Trace(traces[5].samples, *places[5], {(29, 2): 2})
    traces.append(Trace([7] * SHAPE[2], *places[0]))
    fields = {(3529, 4): 1}
    return write(folder, fake_segy(traces, code=code, revision=(2, 0), fields=fields, trailer=b"behind--" * 400))


def salt_store(folder: Path, *, code: int = 5) -> tuple[Store, dict[str, NDArray[Any]]]:
    ingest(source(folder, code=code), folder / "survey.zarr")
    survey = open_store(folder / "survey.zarr")
    store = new_store(folder / "salt.zarr", survey.grid, {"segy": survey.facts["segy"]})
    copy_source_arrays(survey, store)
    rng = np.random.default_rng(4)
    volumes: dict[str, NDArray[Any]] = {
        "probability": rng.random(SHAPE).astype(np.float16),
        "disagreement": rng.random(SHAPE).astype(np.float16),
        "mask": rng.integers(0, 2, SHAPE).astype(np.uint8),
    }
    chunk, shard = cut_of(SHAPE)
    for name, values in volumes.items():
        add_volume(store, name, chunk=chunk, shard=shard)[...] = values
    finish(store, {})
    return open_store(store.path), volumes


@pytest.mark.parametrize("what", ["probability", "disagreement", "mask", None])
def test_only_the_samples_change(tmp_path: Path, what: Any) -> None:
    store, volumes = salt_store(tmp_path)
    export_segy(store.path, tmp_path / "salt.sgy", what=what)
    before, after = open_segy(source(tmp_path)), open_segy(tmp_path / "salt.sgy")
    assert file_header(after) == file_header(before)
    np.testing.assert_array_equal(raw_headers(after, slice(None)), raw_headers(before, slice(None)))
    assert b"".join(trailer(after)) == b"".join(trailer(before))
    rows = read_map(store, "trace_row")
    expected = np.empty((before.num_traces, SHAPE[2]), np.float32)
    expected[rows.ravel()] = volumes[what or "mask"].reshape(-1, SHAPE[2])
    expected[-1] = expected[0]
    expected[5] = 0
    np.testing.assert_array_equal(samples(after, slice(None)), expected)


def test_whole_numbers_hold_percent(tmp_path: Path) -> None:
    store, volumes = salt_store(tmp_path, code=3)
    export_segy(store.path, tmp_path / "salt.sgy", what="probability")
    found = samples(open_segy(tmp_path / "salt.sgy"), slice(None))
    rows = read_map(store, "trace_row").ravel()
    expected = np.rint(100 * volumes["probability"].astype(np.float32)).reshape(-1, SHAPE[2])
    expected[rows == 5] = 0
    np.testing.assert_array_equal(found[rows], expected)
    export_segy(store.path, tmp_path / "mask.sgy")
    assert set(np.unique(samples(open_segy(tmp_path / "mask.sgy"), slice(None)))) == {0.0, 1.0}


def test_what_the_store_has_not_is_told(tmp_path: Path) -> None:
    store, _ = salt_store(tmp_path)
    with pytest.raises(InputError, match="expected a volume amplitude, found probability, disagreement, mask"):
        export_segy(store.path, tmp_path / "out.sgy", what="amplitude")
    (tmp_path / "folder.sgy").mkdir()
    with pytest.raises(InputError, match=r"folder\.sgy"):
        export_segy(store.path, tmp_path / "folder.sgy")


@pytest.mark.parametrize("name", ["file_header", "trace_headers", "trailer", "trace_row", "live"])
@pytest.mark.parametrize("how", ["gone", "flipped", "enlarged"])
def test_headers_that_are_lost_are_never_written_as_zeros(tmp_path: Path, name: str, how: str) -> None:
    store, _ = salt_store(tmp_path)
    file = next(path for path in (store.path / name / "c").rglob("*") if path.is_file())
    if how == "gone":
        file.unlink()
    elif how == "flipped":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    else:
        description = read_json(store.path / name / "zarr.json")
        description["shape"][0] = 10**12
        write_json(store.path / name / "zarr.json", description)
    with pytest.raises(InputError, match=name if how != "enlarged" else "expected"):
        export_segy(store.path, tmp_path / "out.sgy")
    assert not (tmp_path / "out.sgy").exists()


@pytest.mark.parametrize("change", ["twice", "beyond", "below"])
def test_places_that_lie_are_refused_and_nothing_is_written(tmp_path: Path, change: str) -> None:
    store, _ = salt_store(tmp_path)
    rows = read_map(store, "trace_row")
    rows[0, 0] = {"twice": rows[0, 1], "beyond": 10**9, "below": -5}[change]
    array_of(open_unfinished(store.path), "trace_row")[...] = rows
    with pytest.raises(InputError, match="expected a place for each of its 361 traces"):
        export_segy(store.path, tmp_path / "out.sgy")
    assert not (tmp_path / "out.sgy").exists()


def test_a_store_without_headers_cannot_be_written(tmp_path: Path) -> None:
    store = fake_store(tmp_path / "bare.zarr", {"mask": np.zeros((3, 4, 5), np.uint8)})
    with pytest.raises(InputError) as told:
        export_segy(store.path, tmp_path / "out.sgy")
    assert len(told.value.faults) == 4


def test_the_file_that_the_survey_came_from_is_not_written_over(tmp_path: Path) -> None:
    path = source(tmp_path)
    before = path.read_bytes()
    ingest(path, tmp_path / "survey.zarr")
    with pytest.raises(InputError, match="the one that the survey came from"):
        export_segy(tmp_path / "survey.zarr", path)
    assert path.read_bytes() == before
    path.write_bytes(before[:-1] + b"X")
    export_segy(tmp_path / "survey.zarr", path)
    assert path.read_bytes()[-1:] == before[-1:]


def test_a_file_of_the_store_itself_is_not_written_over(tmp_path: Path) -> None:
    store, _ = salt_store(tmp_path)
    before = (store.path / "zarr.json").read_bytes()
    for name in ("zarr.json", "new.sgy", "mask/new.sgy"):
        with pytest.raises(InputError, match="expected a place outside of"):
            export_segy(store.path, store.path / name)
    assert (store.path / "zarr.json").read_bytes() == before


def test_a_copy_that_fails_says_where_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = salt_store(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]), None, str(arguments[1]))

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_source_arrays(store, new_store(tmp_path / "new.zarr", store.grid, {}))
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).startswith(f"{tmp_path}/new.zarr/")
