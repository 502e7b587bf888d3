"""What was found goes out under the source's own headers."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.runs import read_json, write_json
from diapir.volume.export import copy_source_arrays, export_segy
from diapir.volume.ingest import ingest
from diapir.volume.labelled_section import LabelledSection
from diapir.volume.salt_checks import apply_edits, read_edits
from diapir.volume.segy import file_header, open_segy, raw_headers, samples, trailer
from diapir.volume.store import (
    Store,
    array_of,
    finish,
    new_store,
    open_unfinished,
    read_map,
)
from diapir.volume.surfaces import extract_surfaces
from fake_stores import SHUFFLED, fake_store, salt_of_segy, shuffled_segy


@pytest.mark.parametrize("what", ["probability", "disagreement", "mask", None])
def test_only_the_samples_change(tmp_path: Path, what: Any) -> None:
    store, volumes = salt_of_segy(tmp_path)
    export_segy(store.path, tmp_path / "salt.sgy", what=what)
    before, after = open_segy(shuffled_segy(tmp_path)), open_segy(tmp_path / "salt.sgy")
    assert file_header(after) == file_header(before)
    np.testing.assert_array_equal(raw_headers(after, slice(None)), raw_headers(before, slice(None)))
    assert b"".join(trailer(after)) == b"".join(trailer(before))
    rows = read_map(store, "trace_row")
    expected = np.empty((before.num_traces, SHUFFLED[2]), np.float32)
    expected[rows.ravel()] = volumes[what or "mask"].reshape(-1, SHUFFLED[2])
    expected[-1] = expected[0]
    expected[5] = 0
    np.testing.assert_array_equal(samples(after, slice(None)), expected)


def test_whole_numbers_hold_percent(tmp_path: Path) -> None:
    store, volumes = salt_of_segy(tmp_path, code=3)
    export_segy(store.path, tmp_path / "salt.sgy", what="probability")
    found = samples(open_segy(tmp_path / "salt.sgy"), slice(None))
    rows = read_map(store, "trace_row").ravel()
    expected = np.rint(100 * volumes["probability"].astype(np.float32)).reshape(-1, SHUFFLED[2])
    expected[rows == 5] = 0
    np.testing.assert_array_equal(found[rows], expected)
    export_segy(store.path, tmp_path / "mask.sgy")
    assert set(np.unique(samples(open_segy(tmp_path / "mask.sgy"), slice(None)))) == {0.0, 1.0}


def exported(store: Store, out: Path, **options: Any) -> NDArray[np.float32]:
    """Samples of the file by place: (inlines, crosslines, samples); that of trace 5 is dead, and zero."""
    out.unlink(missing_ok=True)
    export_segy(store.path, out, **options)
    found: NDArray[np.float32] = samples(open_segy(out), slice(None))[read_map(store, "trace_row")]
    return found


def test_the_mask_after_the_checks_can_be_written(tmp_path: Path) -> None:
    store, volumes = salt_of_segy(tmp_path)
    told = extract_surfaces(store.path, tmp_path / "surfaces")
    assert "removed" in told
    edits = read_edits(tmp_path / "surfaces" / "edits", store.grid)
    expected = apply_edits(volumes["mask"], edits) * read_map(store, "live")[..., None]
    assert (expected != volumes["mask"] * read_map(store, "live")[..., None]).any()
    found = exported(store, tmp_path / "salt.sgy", surfaces=tmp_path / "surfaces")
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="change the mask, not probability"):
        export_segy(store.path, tmp_path / "p.sgy", what="probability", surfaces=tmp_path / "surfaces")
    (tmp_path / "surfaces" / "edits" / "holes.csv").rename(tmp_path / "holes.csv")
    with pytest.raises(InputError, match=r"holes\.csv: expected what a check changed, found no such file"):
        export_segy(store.path, tmp_path / "p.sgy", surfaces=tmp_path / "surfaces")
    (tmp_path / "holes.csv").rename(tmp_path / "surfaces" / "edits" / "holes.csv")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"surfaces\.json"):
        export_segy(store.path, tmp_path / "p.sgy", surfaces=tmp_path / "none")
    finish(open_unfinished(store.path), {"threshold": 0.25})
    with pytest.raises(InputError, match="found those of another store"):
        export_segy(store.path, tmp_path / "p.sgy", surfaces=tmp_path / "surfaces")


@pytest.mark.parametrize("kept", [1, -1])
def test_edits_that_lost_lines_are_refused(tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diapir.volume.surfaces.draw_pictures", lambda *arguments, **named: None)
    store, _ = salt_of_segy(tmp_path)
    extract_surfaces(store.path, tmp_path / "surfaces")
    file = tmp_path / "surfaces" / "edits" / "floating-bits.csv"
    whole = file.read_text()
    file.write_text("".join(whole.splitlines(keepends=True)[:kept]))
    with pytest.raises(InputError, match=r"bits\.csv: expected \d+ pieces of \d+ voxels.*use another copy"):
        export_segy(store.path, tmp_path / "salt.sgy", surfaces=tmp_path / "surfaces")
    assert not (tmp_path / "salt.sgy").exists()
    file.write_text(whole)
    export_segy(store.path, tmp_path / "salt.sgy", surfaces=tmp_path / "surfaces")


def test_the_checks_of_another_model_s_salt_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diapir.volume.surfaces.draw_pictures", lambda *arguments, **named: None)
    store, _ = salt_of_segy(tmp_path)
    finish(open_unfinished(store.path), {"key": {"model": "one"}})
    extract_surfaces(store.path, tmp_path / "surfaces")
    told = read_json(tmp_path / "surfaces" / "surfaces.json")
    finish(open_unfinished(store.path), {"key": {"model": "another"}})
    with pytest.raises(InputError, match="found those of another store"):
        export_segy(store.path, tmp_path / "salt.sgy", surfaces=tmp_path / "surfaces")
    del told["source"]["key"]
    write_json(tmp_path / "surfaces" / "surfaces.json", told)
    export_segy(store.path, tmp_path / "salt.sgy", surfaces=tmp_path / "surfaces")


def test_corrected_sections_go_over_the_mask(tmp_path: Path) -> None:
    store, volumes = salt_of_segy(tmp_path)
    rng, mask = np.random.default_rng(5), volumes["mask"]
    along = mask[17].T.copy()
    along[:, :4] = 1 - along[:, :4]
    across = rng.integers(0, 2, (SHUFFLED[2], SHUFFLED[0])).astype(np.uint8)
    across[:, 3] = UNKNOWN
    drawn = [
        LabelledSection("inline", 27, 17, along, tmp_path),
        LabelledSection("crossline", 502, 2, across, tmp_path),
    ]
    expected = mask.copy()
    for trace in range(SHUFFLED[1]):
        expected[17, trace] = along[:, trace]
    for trace in range(SHUFFLED[0]):
        own = across[:, trace]
        is_changed = (own != UNKNOWN) & (own != mask[trace, 2])
        expected[trace, 2][is_changed] = own[is_changed]
    is_live = read_map(store, "live")[..., None]
    np.testing.assert_array_equal(exported(store, tmp_path / "salt.sgy", drawn=drawn), expected * is_live)


def test_what_the_store_has_not_is_told(tmp_path: Path) -> None:
    store, _ = salt_of_segy(tmp_path)
    with pytest.raises(InputError, match="expected a volume amplitude, found probability, disagreement, mask"):
        export_segy(store.path, tmp_path / "out.sgy", what="amplitude")
    (tmp_path / "folder.sgy").mkdir()
    with pytest.raises(InputError, match=r"folder\.sgy"):
        export_segy(store.path, tmp_path / "folder.sgy")


@pytest.mark.parametrize("name", ["file_header", "trace_headers", "trailer", "trace_row", "live"])
@pytest.mark.parametrize("how", ["gone", "folder", "flipped", "enlarged", "emptied"])
def test_headers_that_are_lost_are_never_written_as_zeros(tmp_path: Path, name: str, how: str) -> None:
    store, _ = salt_of_segy(tmp_path)
    file = next(path for path in (store.path / name / "c").rglob("*") if path.is_file())
    if how in ("gone", "folder"):
        file.unlink()
        if how == "folder":
            file.mkdir()
    elif how == "emptied":
        (store.path / name / "zarr.json").write_text("")
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
    store, _ = salt_of_segy(tmp_path)
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
    path = shuffled_segy(tmp_path)
    before = path.read_bytes()
    ingest(path, tmp_path / "survey.zarr")
    with pytest.raises(InputError, match="the one that the survey came from"):
        export_segy(tmp_path / "survey.zarr", path)
    assert path.read_bytes() == before
    path.write_bytes(before[:-1] + b"X")
    export_segy(tmp_path / "survey.zarr", path)
    assert path.read_bytes()[-1:] == before[-1:]


def test_a_file_of_the_store_itself_is_not_written_over(tmp_path: Path) -> None:
    store, _ = salt_of_segy(tmp_path)
    before = (store.path / "zarr.json").read_bytes()
    for name in ("zarr.json", "new.sgy", "mask/new.sgy"):
        with pytest.raises(InputError, match="expected a place outside of"):
            export_segy(store.path, store.path / name)
    assert (store.path / "zarr.json").read_bytes() == before


def test_a_copy_that_fails_says_where_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = salt_of_segy(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]), None, str(arguments[1]))

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_source_arrays(store, new_store(tmp_path / "new.zarr", store.grid, {}))
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).startswith(f"{tmp_path}/new.zarr/")
