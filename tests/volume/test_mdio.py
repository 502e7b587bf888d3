"""MDIO stores come in as the SEG-Y files that they came from do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from diapir.cli import app
from diapir.faults import InputError
from diapir.runs import read_json, write_json
from diapir.volume import mdio
from diapir.volume.export import export_segy
from diapir.volume.geometry import coordinates, find_geometry
from diapir.volume.mdio import ingest_mdio, is_mdio
from diapir.volume.segy import open_segy, samples
from diapir.volume.store import open_store, read_map
from fake_stores import volume_of

SHAPE = (70, 20, 30)
PRESENT = np.random.default_rng(0).random(SHAPE[:2]) > 0.2
AMPLITUDE = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
AMPLITUDE[3, 4] = 0


def fake_mdio(path: Path, **changes: Any) -> Path:
    """What MDIO 1.1 writes of a stacked survey in time, as far as it is read here; a change to None leaves it out."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.update_attributes({"apiVersion": "1.1.3", "name": "PostStack3DTime"})
    arrays: dict[str, NDArray[Any] | None] = {
        "inline": np.arange(100, 170, dtype=np.int32),
        "crossline": np.arange(300, 340, 2, dtype=np.int32),
        "time": np.arange(200, 320, 4, dtype=np.int32),
        "cdp_x": np.where(PRESENT, 1000.0 + np.arange(70)[:, None] * 25, np.nan),
        "cdp_y": np.where(PRESENT, 2000.0 + np.arange(20) * 12.5, np.nan),
        "trace_mask": PRESENT,
        "amplitude": np.where(PRESENT[..., None], AMPLITUDE, np.nan).astype(np.float32),
        **changes,
    }
    for name, values in arrays.items():
        if values is None:
            continue
        chunks = tuple(min(16, side) for side in values.shape)
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = values
    return path


def test_what_the_store_says_comes_in(tmp_path: Path) -> None:
    source = fake_mdio(tmp_path / "survey.mdio")
    assert is_mdio(source)
    ingest_mdio(source, tmp_path / "survey.zarr")
    store = open_store(tmp_path / "survey.zarr")
    assert (store.grid.inlines.first, store.grid.crosslines.step, store.grid.first_sample) == (100, 2, 200.0)
    assert (store.grid.interval, store.grid.unit) == (4.0, "ms")
    np.testing.assert_array_equal(volume_of(store, "amplitude"), np.where(PRESENT[..., None], AMPLITUDE, 0))
    dead = np.zeros_like(PRESENT)
    dead[3, 4] = True
    np.testing.assert_array_equal(read_map(store, "live"), PRESENT & ~dead)
    x = read_map(store, "x")
    np.testing.assert_array_equal(np.isnan(x), ~PRESENT)
    np.testing.assert_array_equal(
        x[PRESENT], np.broadcast_to(1000.0 + np.arange(70)[:, None] * 25, PRESENT.shape)[PRESENT]
    )


@pytest.mark.parametrize(("units", "unit"), [(None, "m"), ({"length": "m"}, "m"), ({"length": "ft"}, "ft")])
def test_depths_are_in_what_the_store_says(tmp_path: Path, units: dict[str, str] | None, unit: str) -> None:
    source = fake_mdio(tmp_path / "survey.mdio", time=None, depth=np.arange(0, 300, 10, dtype=np.int32))
    if units:
        zarr.open_group(source)["depth"].update_attributes({"unitsV1": units})
    ingest_mdio(source, tmp_path / "survey.zarr")
    assert open_store(tmp_path / "survey.zarr").grid.unit == unit


def test_units_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    source = fake_mdio(tmp_path / "survey.mdio")
    for units, found in (({"time": "s"}, "'s'"), ({"time": ["ms"]}, r"\['ms'\]")):
        zarr.open_group(source)["time"].update_attributes({"unitsV1": units})
        with pytest.raises(InputError, match=f"time: expected it in ms, found {found}"):
            ingest_mdio(source, tmp_path / "survey.zarr")


@pytest.mark.parametrize("option", [("--unit", "m"), ("--order", "big"), ("--inline-byte", "189")])
def test_options_that_mean_nothing_to_it_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    source = fake_mdio(tmp_path / "survey.mdio")
    with pytest.raises(InputError, match="expected no option but --zero-bad"):
        app(["survey", "ingest", str(source), str(tmp_path / "survey.zarr"), *option], standalone_mode=False)
    assert not (tmp_path / "survey.zarr").exists()


def test_the_same_samples_in_another_place_are_another_survey(tmp_path: Path) -> None:
    digests = set()
    for number, first in enumerate((200, 200, 400)):
        times = np.arange(first, first + 120, 4, dtype=np.int32)
        source = fake_mdio(tmp_path / f"{number}" / "survey.mdio", time=times)
        ingest_mdio(source, tmp_path / f"{number}.zarr")
        digests.add(open_store(tmp_path / f"{number}.zarr").facts["digest"])
    assert len(digests) == 2


def test_it_goes_out_as_segy_that_says_where_its_traces_lie(tmp_path: Path) -> None:
    ingest_mdio(fake_mdio(tmp_path / "survey.mdio"), tmp_path / "survey.zarr")
    export_segy(tmp_path / "survey.zarr", tmp_path / "survey.sgy")
    segy = open_segy(tmp_path / "survey.sgy")
    geometry = find_geometry(segy)
    np.testing.assert_array_equal(geometry.trace_rows >= 0, PRESENT)
    np.testing.assert_array_equal(samples(segy, slice(None)), AMPLITUDE[PRESENT])
    _, y = coordinates(segy, geometry)
    np.testing.assert_allclose(y[PRESENT], np.broadcast_to(2000.0 + np.arange(20) * 12.5, PRESENT.shape)[PRESENT])


@pytest.mark.parametrize(("greatest", "step"), [(21_474_836.0, 0.01), (21_474_837.0, 0.1), (2_147_483_647.0, 1.0)])
def test_far_coordinates_are_kept_as_finely_as_headers_hold_them(tmp_path: Path, greatest: float, step: float) -> None:
    y = np.where(PRESENT, greatest - 0.37 - np.arange(20) * 12.5, np.nan)
    ingest_mdio(fake_mdio(tmp_path / "survey.mdio", cdp_y=y), tmp_path / "survey.zarr")
    export_segy(tmp_path / "survey.zarr", tmp_path / "survey.sgy")
    segy = open_segy(tmp_path / "survey.sgy")
    found = coordinates(segy, find_geometry(segy))[1]
    assert np.abs(found - y)[PRESENT].max() <= 0.5001 * step


@pytest.mark.parametrize("greatest", [2.0**31, 1e300, np.inf])
def test_coordinates_that_no_header_holds_are_refused_before_the_samples_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greatest: float
) -> None:
    monkeypatch.setattr(mdio, "_copy", None)
    source = fake_mdio(tmp_path / "survey.mdio", cdp_x=np.where(PRESENT, greatest, np.nan))
    with pytest.raises(InputError, match="expected coordinates up to 2147483647"):
        ingest_mdio(source, tmp_path / "survey.zarr")


def test_depth_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    whole = (10 * AMPLITUDE).astype(np.int16)
    source = fake_mdio(tmp_path / "a", time=None, depth=np.arange(30, dtype=np.float64) * 2.5, amplitude=whole)
    ingest_mdio(source, tmp_path / "out.zarr")
    store = open_store(tmp_path / "out.zarr")
    assert (store.grid.interval, store.grid.unit) == (2.5, "m")
    np.testing.assert_array_equal(volume_of(store, "amplitude"), np.where(PRESENT[..., None], whole, 0))


def test_samples_of_traces_that_are_no_numbers_are_refused_or_zero(tmp_path: Path) -> None:
    place = tuple(np.argwhere(PRESENT)[7])
    bad = AMPLITUDE.copy()
    bad[(*place, 3)] = np.inf
    source = fake_mdio(tmp_path / "a", amplitude=bad)
    with pytest.raises(InputError, match=r"1 samples are NaN, infinite or beyond .*; give --zero-bad"):
        ingest_mdio(source, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    ingest_mdio(source, tmp_path / "out.zarr", zero_bad=True)
    assert volume_of(open_store(tmp_path / "out.zarr"), "amplitude")[(*place, 3)] == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"amplitude": None}, "no numbers in an array amplitude"),
        ({"amplitude": np.zeros((70, 20, 31), np.float32)}, "expected \\(70, 20, 30\\)"),
        ({"amplitude": np.zeros(SHAPE, np.complex64)}, "no numbers in an array amplitude"),
        ({"trace_mask": np.ones((3, 3), np.bool_)}, "expected \\(70, 20\\)"),
        ({"cdp_x": np.zeros(70)}, "expected \\(70, 20\\)"),
        ({"time": None}, "neither time nor depth"),
        ({"time": np.array([0, 4, 9] * 10, np.int32)}, "even steps"),
        ({"inline": np.arange(70, 0, -1, dtype=np.int32)}, "even steps"),
        ({"inline": 0.5 * np.arange(70)}, "even steps"),
        ({"crossline": np.zeros((20, 2), np.int32)}, "expected one axis"),
        ({"amplitude": np.zeros(SHAPE, np.float32)}, "every sample is zero"),
    ],
)
def test_what_is_no_stacked_survey_is_refused(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        ingest_mdio(fake_mdio(tmp_path / "a", **changes), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("name", ["amplitude", "trace_mask", "inline", "time", "cdp_x"])
@pytest.mark.parametrize("how", ["cut off", "no chunks", "enlarged"])
def test_arrays_that_cannot_be_read_are_told_with_their_name(tmp_path: Path, name: str, how: str) -> None:
    source = fake_mdio(tmp_path / "a")
    if how == "cut off":
        file = next(path for path in (source / name / "c").rglob("*") if path.is_file())
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        description = read_json(source / name / "zarr.json")
        if how == "no chunks":
            description["chunk_grid"]["configuration"]["chunk_shape"][0] = 0
        else:
            description["shape"][0] = 10**10
        write_json(source / name / "zarr.json", description)
    with pytest.raises(InputError, match=name):
        ingest_mdio(source, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_other_folders_are_no_mdio(tmp_path: Path) -> None:
    assert not is_mdio(tmp_path)
    (tmp_path / "zarr.json").write_text("{")
    assert not is_mdio(tmp_path)


def test_the_same_store_has_the_same_digest(tmp_path: Path) -> None:
    digests = []
    for number, amplitude in enumerate((AMPLITUDE, AMPLITUDE, -AMPLITUDE)):
        ingest_mdio(fake_mdio(tmp_path / f"{number}", amplitude=amplitude), tmp_path / f"{number}.zarr")
        digests.append(open_store(tmp_path / f"{number}.zarr").facts["digest"])
    # The names of the stores count as well.
    source = [open_store(tmp_path / f"{number}.zarr").facts["source"]["amplitude"] for number in range(3)]
    assert source[0] == source[1] != source[2]
    assert len(set(digests)) == 3
