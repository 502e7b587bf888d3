"""Units of X and Y come from headers, also from those that a store keeps, and sizes of bodies follow them."""

import json
from pathlib import Path

import numpy as np
import pytest

from diapir.volume import surfaces
from diapir.volume.export import copy_source_arrays
from diapir.volume.ingest import ingest
from diapir.volume.store import finish, new_store, open_store, open_unfinished
from diapir.volume.surfaces import extract_surfaces
from diapir.volume.xy_units import Length, XyUnit, stored_xy_unit
from fake_salt import write_salt
from fake_segy import Trace, fake_segy, write


@pytest.mark.parametrize(
    ("system", "code", "unit"),
    [
        (0, 0, XyUnit("", is_length=True)),
        (1, 1, XyUnit("m", is_length=True)),
        (2, 1, XyUnit("ft", is_length=True)),
        (1, 2, XyUnit("seconds of arc", is_length=False)),
        (2, 3, XyUnit("degrees", is_length=False)),
    ],
)
@pytest.mark.parametrize("order", ["big", "little"])
def test_a_store_knows_the_unit_of_its_file(tmp_path: Path, system: int, code: int, unit: XyUnit, order: str) -> None:
    traces = [Trace([1.0, 2.0], 1 + row, 5, {(89, 2): code}) for row in range(4)]
    ingest(write(tmp_path, fake_segy(traces, order=order, fields={(3255, 2): system})), tmp_path / "survey.zarr")
    survey = open_store(tmp_path / "survey.zarr")
    assert stored_xy_unit(survey) == unit
    # What segment keeps of it.
    salt = new_store(tmp_path / "salt.zarr", survey.grid, {name: survey.facts[name] for name in ("source", "segy")})
    copy_source_arrays(survey, salt)
    finish(salt, {})
    assert stored_xy_unit(open_store(salt.path)) == unit


def test_headers_that_were_made_anew_say_nothing(tmp_path: Path) -> None:
    ingest(write(tmp_path, fake_segy([Trace([1.0], 1, 1)], fields={(3255, 2): 1})), tmp_path / "survey.zarr")
    store = open_unfinished(tmp_path / "survey.zarr")
    finish(store, {"source": {"kind": "MDIO"}})
    assert stored_xy_unit(open_store(store.path)).name == ""


@pytest.mark.parametrize(
    ("found", "asked", "factor", "note"),
    [
        (XyUnit("", is_length=True), None, 1, ""),
        (XyUnit("ft", is_length=True), None, 0.3048**2, ""),
        (XyUnit("ft", is_length=True), "m", 1, "the survey's headers (bytes 3255 and 89) say ft"),
        (XyUnit("degrees", is_length=False), None, None, ""),
        (XyUnit("degrees", is_length=False), "m", 1, "say degrees"),
    ],
)
def test_areas_are_in_the_unit_of_the_headers_unless_it_is_said_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: XyUnit,
    asked: Length | None,
    factor: float | None,
    note: str,
) -> None:
    monkeypatch.setattr(surfaces, "draw_pictures", lambda *arguments, **named: None)
    probability = np.zeros((6, 7, 20), np.float32)
    probability[2:4, 2:5, 5:15] = 1
    write_salt(tmp_path / "salt.zarr", probability)
    areas: list[float | None] = []
    for unit, own in ((XyUnit("m", is_length=True), None), (found, asked)):
        monkeypatch.setattr(surfaces, "stored_xy_unit", lambda store, unit=unit: unit)
        out = tmp_path / f"out-{len(areas)}"
        extract_surfaces(tmp_path / "salt.zarr", out, xy_unit=own)
        told = json.loads((out / "surfaces.json").read_text())
        areas.append(told["trace_area_m2"])
    assert told["options"]["xy_unit"] == (asked or found.name or "m")
    assert areas[0] is not None
    assert areas[1] == (None if factor is None else pytest.approx(factor * areas[0]))
    assert note in capsys.readouterr().err
