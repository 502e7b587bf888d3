"""Every sample of a SEG-Y file comes to its place, and the file can be written again from the store alone."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from diapir.faults import InputError
from diapir.volume import segy as segy_module
from diapir.volume import store as store_module
from diapir.volume.export import export_segy
from diapir.volume.ingest import ingest
from diapir.volume.segy_format import FORMATS, ORDERS, Order, SampleFormat
from diapir.volume.store import Store, open_store, read_map
from fake_segy import Trace, fake_segy, write
from fake_stores import volume_of

NUM_SAMPLES = 9


def traces_of(places: list[tuple[int, int]], *, seed: int = 0) -> list[Trace]:
    """Traces of small whole numbers at inlines and crosslines."""
    rng = np.random.default_rng(seed)
    return [Trace(rng.integers(1, 100, NUM_SAMPLES).tolist(), *place) for place in places]


def grid(inlines: int = 70, crosslines: int = 40) -> list[tuple[int, int]]:
    return [(100 + inline, 300 + 2 * crossline) for inline in range(inlines) for crossline in range(crosslines)]


def ragged(seed: int = 1) -> list[tuple[int, int]]:
    """Shuffled, with holes, and some places twice."""
    places = grid()
    rng = np.random.default_rng(seed)
    kept = [places[row] for row in rng.permutation(len(places))[: int(0.9 * len(places))]]
    return kept + [kept[row] for row in rng.integers(0, len(kept), 30)]


@pytest.mark.parametrize(
    "places", [grid(), ragged(), grid(1, 60), grid(60, 1)], ids=["whole", "ragged", "one", "other"]
)
def test_every_sample_comes_to_its_place(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    traces = traces_of(places)
    ingest(write(tmp_path, fake_segy(traces)), tmp_path / "out.zarr")
    assert_in_place(open_store(tmp_path / "out.zarr"), traces)


def test_small_blocks_and_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The later a block, the more of it is missing: what a buffer held before would be seen.
    rng = np.random.default_rng(4)
    places = [place for number, place in enumerate(grid()) if rng.random() > number / 2800]
    traces = traces_of(places)
    mended = Trace([0, *traces[7].samples[1:]], traces[7].inline, traces[7].crossline)
    traces[7] = Trace([float("nan"), *traces[7].samples[1:]], traces[7].inline, traces[7].crossline)
    content = fake_segy([traces[row] for row in rng.permutation(len(traces))], code=5)
    traces[7] = mended
    monkeypatch.setattr(store_module, "_SHARD_LINES", 16)
    monkeypatch.setattr(segy_module, "_PIECE", 3 * (240 + 4 * NUM_SAMPLES))
    ingest(write(tmp_path, content), tmp_path / "out.zarr", zero_bad=True)
    store = open_store(tmp_path / "out.zarr")
    assert len([file for file in (store.path / "amplitude" / "c").rglob("*") if file.is_file()]) == 5 * 3
    assert_in_place(store, traces)


def test_a_store_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = set[int](), os.fsync

    def noted(handle: int) -> None:
        if not (tmp_path / "out.zarr").exists():
            synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr("os.fsync", noted)
    ingest(write(tmp_path, fake_segy(traces_of(grid(20, 20)))), tmp_path / "out.zarr")
    files = [tmp_path / "out.zarr", *(tmp_path / "out.zarr").rglob("*")]
    assert {file.stat().st_ino for file in files} <= synced


def assert_in_place(store: Store, traces: list[Trace]) -> None:
    """Every place holds its first trace, and zeros where there is none."""
    inlines = store.grid.inlines.first + store.grid.inlines.step * np.arange(store.grid.inlines.count)
    crosslines = store.grid.crosslines.first + store.grid.crosslines.step * np.arange(store.grid.crosslines.count)
    first_at: dict[tuple[int, int], Trace] = {}
    for trace in traces:
        first_at.setdefault((trace.inline, trace.crossline), trace)
    amplitude, live = volume_of(store, "amplitude"), read_map(store, "live")
    for place in np.ndindex(live.shape):
        found = first_at.get((int(inlines[place[0]]), int(crosslines[place[1]])))
        assert live[place] == (found is not None)
        np.testing.assert_array_equal(amplitude[place], np.zeros(NUM_SAMPLES) if found is None else found.samples)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
def test_the_file_comes_out_of_the_store_byte_for_byte(tmp_path: Path, stored: SampleFormat, order: Order) -> None:
    fields = {(3507, 4): 1, (3529, 4): 1}
    how: dict[str, Any] = {"code": stored.code, "order": order, "revision": (2, 0), "more_texts": [b"\x40" * 3200]}
    content = fake_segy(traces_of(ragged()[100:300]), **how, more_headers=1, fields=fields, trailer=b"T" * 3200)
    ingest(write(tmp_path, content), tmp_path / "out.zarr")
    export_segy(tmp_path / "out.zarr", tmp_path / "again.sgy")
    assert (tmp_path / "again.sgy").read_bytes() == content


def test_a_dummy_without_a_place_keeps_its_place_in_the_file(tmp_path: Path) -> None:
    far = [Trace(trace.samples, trace.inline + 2000, trace.crossline + 5000) for trace in traces_of(grid(20, 20))]
    dummy = Trace([0] * NUM_SAMPLES, fields={(29, 2): 3, (37, 4): 7})
    content = fake_segy([*far[:70], dummy, *far[70:]])
    ingest(write(tmp_path, content), tmp_path / "out.zarr")
    assert open_store(tmp_path / "out.zarr").grid.shape == (20, 20, NUM_SAMPLES)
    export_segy(tmp_path / "out.zarr", tmp_path / "again.sgy")
    assert (tmp_path / "again.sgy").read_bytes() == content


@pytest.mark.parametrize("name", ["f3.sgy", "f3-withdead.sgy", "volve10r12-full-twt-arb.sgy"])
def test_a_real_file_comes_out_of_the_store_byte_for_byte(tmp_path: Path, segy_folder: Path, name: str) -> None:
    told = ingest(segy_folder / name, tmp_path / "out.zarr")
    assert ("239 of 239" in told) == (name == "f3-withdead.sgy")
    export_segy(tmp_path / "out.zarr", tmp_path / name)
    assert (tmp_path / name).read_bytes() == (segy_folder / name).read_bytes()


def test_traces_of_zeros_and_traces_called_dead_are_not_live(tmp_path: Path) -> None:
    traces = traces_of(grid(4, 5))
    traces[3] = Trace([0] * NUM_SAMPLES, traces[3].inline, traces[3].crossline)
    traces[7] = Trace(traces[7].samples, traces[7].inline, traces[7].crossline, {(29, 2): 2})
    ingest(write(tmp_path, fake_segy(traces)), tmp_path / "out.zarr")
    assert np.flatnonzero(~read_map(open_store(tmp_path / "out.zarr"), "live")).tolist() == [3, 7]


def test_traces_that_stand_twice_are_not_told_as_dead(tmp_path: Path) -> None:
    traces = traces_of(grid(4, 5))
    told = ingest(write(tmp_path, fake_segy([*traces, *traces[:3]])), tmp_path / "out.zarr")
    assert "20 of 20 traces are live, 3 more have the place of another (" in told


@pytest.mark.parametrize(
    ("code", "value", "note"),
    [
        (2, 2**24 - 1, ""),
        (2, 2**24 + 1, "1 samples (int32) are 16777216 or more"),
        (9, -(2**40) - 1, "1 samples (int64) are 16777216 or more"),
        (6, 0.1, "its samples (ieee64) are kept as float32"),
        (5, 0.1, ""),
    ],
)
def test_numbers_that_float32_does_not_hold_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, value: float, note: str
) -> None:
    content = fake_segy([Trace([1, 2, 3], 1, 1), Trace([1, value, 3], 1, 2)], code=code, revision=(2, 0))
    ingest(write(tmp_path, content), tmp_path / "out.zarr")
    told = capsys.readouterr().err
    assert note in told if note else not told
    assert [note in each for each in open_store(tmp_path / "out.zarr").facts["warnings"]] == [True] * bool(note)


def bad_traces() -> list[Trace]:
    traces = traces_of(grid(4, 5))
    traces[5] = Trace([np.nan, *traces[5].samples[1:]], traces[5].inline, traces[5].crossline)
    traces[9] = Trace([np.inf, -np.inf, *traces[9].samples[2:]], traces[9].inline, traces[9].crossline)
    return traces


def test_samples_that_are_no_numbers_are_counted_and_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"3 samples in 2 traces are NaN, infinite or beyond .*, first in trace 6; give --zero-bad"
    ):
        ingest(write(tmp_path, fake_segy(bad_traces(), code=5)), tmp_path / "out.zarr")
    assert [path.suffix for path in tmp_path.iterdir()] == [".sgy"]


@pytest.mark.parametrize(("code", "value"), [(6, 1e302), (1, 1e72)])
def test_numbers_beyond_float32_are_told_as_such(tmp_path: Path, code: int, value: float) -> None:
    content = fake_segy([Trace([1, 2, 3], 1, 1), Trace([1, value, 3], 1, 2)], code=code, revision=(2, 0))
    with pytest.raises(InputError, match=r"1 samples in 1 traces are .* beyond ±3.4e38 \(what float32 holds\)"):
        ingest(write(tmp_path, content), tmp_path / "out.zarr")


def test_samples_that_are_no_numbers_become_zero_where_that_is_asked_for(tmp_path: Path) -> None:
    ingest(write(tmp_path, fake_segy(bad_traces(), code=5)), tmp_path / "out.zarr", zero_bad=True)
    store = open_store(tmp_path / "out.zarr")
    amplitude = volume_of(store, "amplitude").reshape(-1, NUM_SAMPLES)
    assert amplitude[5, 0] == amplitude[9, 0] == amplitude[9, 1] == 0
    assert np.isfinite(amplitude).all()
    assert (amplitude == 0).sum() == 3
    assert store.facts["num_bad_samples"] == 3


def test_a_survey_of_zeros_is_refused(tmp_path: Path) -> None:
    zeros = [Trace([0] * NUM_SAMPLES, *place) for place in grid(3, 4)]
    with pytest.raises(InputError, match="every sample is zero"):
        ingest(write(tmp_path, fake_segy(zeros)), tmp_path / "out.zarr")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = write(tmp_path, fake_segy(traces_of(grid(3, 4))))
    ingest(path, tmp_path / "out.zarr")
    before = sorted(file.name for file in (tmp_path / "out.zarr").rglob("*"))
    with pytest.raises(InputError, match="expected a new or empty folder"):
        ingest(path, tmp_path / "out.zarr")
    assert sorted(file.name for file in (tmp_path / "out.zarr").rglob("*")) == before


def test_two_surveys_have_two_digests_and_one_has_one(tmp_path: Path) -> None:
    digests = []
    for number, seed in enumerate([0, 0, 1]):
        path = write(tmp_path, fake_segy(traces_of(grid(3, 4), seed=seed)))
        ingest(path, tmp_path / f"{number}.zarr")
        digests.append(open_store(tmp_path / f"{number}.zarr").facts["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_the_unit_and_the_amplitudes_are_kept(tmp_path: Path) -> None:
    traces = traces_of(grid(3, 4))
    ingest(write(tmp_path, fake_segy(traces)), tmp_path / "out.zarr", unit="m")
    store = open_store(tmp_path / "out.zarr")
    assert store.grid.unit == "m"
    assert zarr.open_group(store.path)["sample"].attrs["units"] == "m"
    sizes = np.sort(np.abs([trace.samples for trace in traces]).ravel())
    assert sizes[int(0.98 * len(sizes))] <= store.facts["amplitude"]["limit"] <= sizes[-1]
