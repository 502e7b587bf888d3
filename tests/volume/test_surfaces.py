import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from diapir.faults import InputError
from diapir.runs import sha256_of_file
from diapir.volume import surfaces
from diapir.volume.salt_checks import edited_mask, read_edits, undo_edits
from diapir.volume.store import Store, open_store, read_volume
from diapir.volume.surfaces import extract_surfaces
from diapir.volume.synthetic_survey import SyntheticSurvey, make_survey
from fake_ply import enclosed, is_closed, is_manifold, read_ply
from fake_salt import CROSSLINE_M, FIRST_MS, INLINE_M, INTERVAL_MS, positions_of, smeared, write_salt

SHAPE = (36, 40, 96)
FILES = {
    *("top.csv", "base.csv", "traces.csv", "geobodies.csv", "geobodies.json", "surfaces.json", "edits"),
    *("top.xyz", "base.xyz", "top.ply", "base.ply", "salt.ply"),
    *("top.png", "thickness.png", "geobodies.png", "section.png"),
}
BIT = np.s_[2:4, 3:5, 4:6]


@pytest.fixture(scope="module")
def survey() -> SyntheticSurvey:
    return make_survey(inlines=SHAPE[0], crosslines=SHAPE[1], samples=SHAPE[2], seed=5, kinds=("pillow",))


@pytest.fixture(scope="module")
def salt(survey: SyntheticSurvey, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The truth smeared, a floating bit in a corner above it, and a few dead traces."""
    probability = smeared(survey)
    probability[BIT] = 0.9
    live = np.ones(SHAPE[:2], np.bool_)
    live[20:22, 10:14] = False
    path = tmp_path_factory.mktemp("store") / "salt.zarr"
    return write_salt(path, probability, live=live, xy=positions_of(survey), disagreement=0.1 * probability)


@pytest.fixture(scope="module")
def out(salt: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "surfaces"
    extract_surfaces(salt.path, folder, velocity_m_s=4000.0, smallest_body=30)
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "draw_pictures", lambda *arguments, **named: None)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def facts_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "surfaces.json").read_text())
    return found


def map_of(path: Path, column: str) -> NDArray[np.float64]:
    """A column of a CSV file in its place; NaN elsewhere."""
    found = np.full(SHAPE[:2], np.nan)
    for row in rows_of(path):
        found[(int(row["inline"]) - 100) // 2, int(row["crossline"]) - 300] = float(row[column] or "nan")
    return found


def box() -> NDArray[np.float32]:
    probability = np.zeros((20, 18, 40), np.float32)
    probability[4:16, 5:15, 10:30] = 1
    return probability


def test_all_files_are_there_and_pictures_show_something(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in (out / "edits").iterdir()} == {"floating-bits.csv", "holes.csv"}
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert np.asarray(picture.convert("L")).std() > 5


def test_p50_is_the_true_top_and_base_to_half_a_sample(out: Path, survey: SyntheticSurvey) -> None:
    # Thinner salt is smeared to less than one.
    is_thick = survey.salt.sum(2) > 10
    for name, truth in (("top", survey.top_of_salt), ("base", survey.base_of_salt)):
        low, middle, high = ((map_of(out / f"{name}.csv", f"p{n}_ms") - FIRST_MS) / INTERVAL_MS for n in (10, 50, 90))
        known = is_thick & np.isfinite(middle) & np.isfinite(truth)
        assert known.sum() > 100
        assert np.abs(middle - truth)[known].max() < 0.55
        assert np.abs((middle - truth)[known].mean()) < 0.1
        # A smear of 1.5 samples, from its 10th to its 90th percentile.
        np.testing.assert_allclose(np.median((high - low)[known]), 2 * 1.2816 * 1.5, atol=0.2)


def test_traces_say_where_there_is_salt(out: Path, salt: Store) -> None:
    mask = read_volume(salt, "mask").astype(bool)
    mask[BIT], mask[20:22, 10:14] = False, False
    entries = map_of(out / "traces.csv", "entries")
    assert np.isnan(entries[20:22, 10:14]).all()
    assert len(rows_of(out / "traces.csv")) == SHAPE[0] * SHAPE[1] - 8
    np.testing.assert_array_equal(np.nan_to_num(entries), (np.diff(mask.astype(int), axis=2, prepend=0) == 1).sum(2))
    np.testing.assert_array_equal(np.nan_to_num(map_of(out / "traces.csv", "salt_ms")), INTERVAL_MS * mask.sum(2))
    assert np.nanmax(map_of(out / "traces.csv", "has_salt")[2:4, 3:5]) < 0.1
    assert len(rows_of(out / "top.csv")) == mask.any(2).sum() == facts_of(out)["traces"]["with_salt"]


def test_points_are_those_of_the_table_at_the_survey_s_positions(out: Path, survey: SyntheticSurvey) -> None:
    x, y = survey.cdp_m
    for name in ("top", "base"):
        points = np.loadtxt(out / f"{name}.xyz")
        depth = map_of(out / f"{name}.csv", "p50_ms")
        at = np.nonzero(np.isfinite(depth))
        np.testing.assert_allclose(points, np.stack([x[at], y[at], depth[at]], axis=1), atol=0.01)
        assert (out / f"{name}.xyz").read_text().startswith("# x y in m, z = two-way time in ms, growing downwards\n")


def test_meshes_lie_on_the_points_with_z_upwards(out: Path) -> None:
    for name in ("top", "base"):
        points, triangles, comments = read_ply(out / f"{name}.ply")
        assert is_manifold(triangles)
        assert any("negative" in line for line in comments)
        known = {tuple(row) for row in np.round(np.loadtxt(out / f"{name}.xyz"), 2).tolist()}
        found = {tuple(row) for row in np.round(points * (1, 1, -1), 2).tolist()}
        assert len(found) > 100
        near = np.array(sorted(known)), np.array(sorted(found))
        for point in near[1][::17]:
            assert np.abs(near[0] - point).max(axis=1).min() < 0.011


@pytest.mark.usefixtures("no_pictures")
def test_the_closed_mesh_has_about_the_volume_of_the_salt(tmp_path: Path) -> None:
    write_salt(tmp_path / "salt.zarr", box(), unit="m")
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    points, triangles, _ = read_ply(tmp_path / "out" / "salt.ply")
    assert is_closed(triangles)
    assert is_manifold(triangles)
    # From the first trace to the last, and half a sample beyond the first and the last sample.
    assert enclosed(points, triangles) == pytest.approx(11 * INLINE_M * 9 * CROSSLINE_M * 20 * INTERVAL_MS)
    (body,) = rows_of(tmp_path / "out" / "geobodies.csv")
    assert float(body["volume_m3"]) == pytest.approx(12 * INLINE_M * 10 * CROSSLINE_M * 20 * INTERVAL_MS)


def test_geobodies_are_those_of_a_labelling_of_the_whole(out: Path, salt: Store) -> None:
    mask = edited_mask(salt, read_edits(out / "edits", salt.grid)).astype(bool)
    mask[20:22, 10:14] = False
    labels, count = ndimage.label(mask)
    sizes = sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)
    rows = rows_of(out / "geobodies.csv")
    assert [int(row["voxels"]) for row in rows] == sizes
    assert json.loads((out / "geobodies.json").read_text())[0]["voxels"] == sizes[0]
    assert count == facts_of(out)["geobodies"]["count"]
    cell = INLINE_M * CROSSLINE_M * INTERVAL_MS / 1000 * 4000.0 / 2
    assert float(rows[0]["volume_m3"]) == pytest.approx(sizes[0] * cell, rel=1e-5)
    assert float(rows[0]["volume_km3"]) == pytest.approx(sizes[0] * cell / 1e9, rel=1e-5)
    assert float(rows[0]["area_times_time_m2_ms"]) == pytest.approx(sizes[0] * INLINE_M * CROSSLINE_M * 4, rel=1e-5)


@pytest.mark.usefixtures("no_pictures")
def test_a_removed_bit_is_neither_a_body_nor_a_top(salt: Store, out: Path, tmp_path: Path) -> None:
    extract_surfaces(salt.path, tmp_path / "kept", off=["floating-bits"])
    checks, kept = facts_of(out)["checks"], facts_of(tmp_path / "kept")["checks"]
    assert (checks["floating-bits"]["pieces"], checks["floating-bits"]["voxels"]) == (1, 8)
    assert kept["floating-bits"] == {"is_on": False, "smaller_than": 1000}
    bit = np.s_[2:4, 3:5]
    np.testing.assert_allclose(
        map_of(tmp_path / "kept" / "top.csv", "p50_ms")[bit], FIRST_MS + 3.5 * INTERVAL_MS, atol=1
    )
    before, after = (map_of(folder / "traces.csv", "geobody") for folder in (tmp_path / "kept", out))
    assert (before[bit] > 0).all()
    assert not (after[bit] == before[bit]).any()


def test_undone_edits_give_the_store_s_own_mask(salt: Store, out: Path) -> None:
    edits = read_edits(out / "edits", salt.grid)
    edited, own = edited_mask(salt, edits), read_volume(salt, "mask")
    assert edited.tobytes() != own.tobytes()
    assert undo_edits(edited, edits).tobytes() == own.tobytes()


@pytest.mark.usefixtures("no_pictures")
def test_the_store_is_left_as_it_was(tmp_path: Path) -> None:
    write_salt(tmp_path / "salt.zarr", box())
    before = {path: sha256_of_file(path) for path in (tmp_path / "salt.zarr").rglob("*") if path.is_file()}
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    assert before == {path: sha256_of_file(path) for path in (tmp_path / "salt.zarr").rglob("*") if path.is_file()}


def test_files_are_the_same_however_the_survey_is_cut(
    salt: Store, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surfaces, "STRIP", 5)
    monkeypatch.setattr(surfaces, "_MOST_CHUNKS", 2)
    extract_surfaces(salt.path, tmp_path / "out", velocity_m_s=4000.0, smallest_body=30)
    for name in sorted(FILES - {"surfaces.json", "edits"}):
        assert (out / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


@pytest.mark.usefixtures("no_pictures")
def test_memory_does_not_go_with_the_survey(tmp_path: Path) -> None:
    peaks = []
    for inlines in (16, 128):
        probability = np.zeros((inlines, 32, 1024), np.float16)
        probability[:, 5:28, 200:800] = 0.9
        write_salt(tmp_path / f"{inlines}.zarr", probability, disagreement=probability)
        del probability
        tracemalloc.start()
        extract_surfaces(tmp_path / f"{inlines}.zarr", tmp_path / f"{inlines}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Beyond the smaller survey the mask alone has 3.7 million bytes; maps and meshes have 3,584 places.
    assert peaks[1] - peaks[0] < 2_000_000


@pytest.mark.usefixtures("no_pictures")
def test_overhangs_are_flagged_and_left(tmp_path: Path) -> None:
    probability = box()
    probability[4:16, 5:10, 18:24] = 0
    write_salt(tmp_path / "salt.zarr", probability)
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    assert facts_of(tmp_path / "out")["checks"]["overhangs"] == {"is_on": True, "traces": 60, "geobodies": 1}
    (body,) = rows_of(tmp_path / "out" / "geobodies.csv")
    assert (int(body["overhang_traces"]), int(body["voxels"])) == (60, int(probability.sum()))
    assert facts_of(tmp_path / "out")["traces"]["with_several_entries"] == 60
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "off", off=["overhangs"])
    assert facts_of(tmp_path / "off")["checks"]["overhangs"] == {"is_on": False}
    assert {row["overhang"] for row in rows_of(tmp_path / "off" / "traces.csv")} == {"0"}


@pytest.mark.usefixtures("no_pictures")
def test_a_filled_hole_belongs_to_its_body(tmp_path: Path) -> None:
    probability = box()
    probability[8:10, 8:10, 15:18] = 0
    write_salt(tmp_path / "salt.zarr", probability)
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    assert facts_of(tmp_path / "out")["checks"]["holes"]["voxels"] == 12
    assert int(rows_of(tmp_path / "out" / "geobodies.csv")[0]["voxels"]) == 12 * 10 * 20
    assert facts_of(tmp_path / "out")["traces"]["with_several_entries"] == 0


@pytest.mark.usefixtures("no_pictures")
def test_a_bit_inside_a_hole_is_part_of_what_is_filled(tmp_path: Path) -> None:
    probability = box()
    probability[7:12, 7:12, 14:21] = 0
    probability[9, 9, 17] = 1
    write_salt(tmp_path / "salt.zarr", probability)
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    checks = facts_of(tmp_path / "out")["checks"]
    assert (checks["floating-bits"]["voxels"], checks["holes"]["voxels"]) == (1, 5 * 5 * 7)
    assert int(rows_of(tmp_path / "out" / "geobodies.csv")[0]["voxels"]) == 12 * 10 * 20


@pytest.mark.usefixtures("no_pictures")
def test_a_calibration_moves_the_bands_and_its_absence_is_said(tmp_path: Path) -> None:
    probability = np.asarray(ndimage.gaussian_filter1d(box(), 2.0, axis=2))
    table = {"raw": [0.0, 0.5, 1.0], "true": [0.0, 0.2, 1.0]}
    write_salt(tmp_path / "raw.zarr", probability)
    write_salt(tmp_path / "true.zarr", probability, facts={"calibration": table})
    said = [extract_surfaces(tmp_path / f"{name}.zarr", tmp_path / name) for name in ("raw", "true")]
    assert said[0].endswith("not calibrated")
    assert facts_of(tmp_path / "raw")["calibration"] == "not calibrated"
    assert "not calibrated" not in said[1]
    tops = [float(rows_of(tmp_path / name / "top.csv")[0]["p50_ms"]) for name in ("raw", "true")]
    assert tops[1] > tops[0] + 1


@pytest.mark.usefixtures("no_pictures")
def test_salt_through_the_ends_of_traces_is_counted(tmp_path: Path) -> None:
    probability = box()
    probability[4:16, 5:15, 10:] = 1
    write_salt(tmp_path / "salt.zarr", probability)
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    traces = facts_of(tmp_path / "out")["traces"]
    assert (traces["top_beyond_survey"], traces["base_beyond_survey"]) == (0, 120)
    assert {row["p50_ms"] for row in rows_of(tmp_path / "out" / "base.csv")} == {""}
    assert len(read_ply(tmp_path / "out" / "base.ply")[0]) == 0
    points, triangles, _ = read_ply(tmp_path / "out" / "salt.ply")
    assert is_closed(triangles)
    assert points[:, 2].min() == -(FIRST_MS + 39 * INTERVAL_MS)


@pytest.mark.usefixtures("no_pictures")
def test_without_positions_line_numbers_stand_and_sizes_are_unknown(tmp_path: Path) -> None:
    nowhere = np.full((20, 18), np.nan)
    write_salt(tmp_path / "salt.zarr", box(), xy=(nowhere, nowhere))
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out", velocity_m_s=4000)
    text = (tmp_path / "out" / "top.xyz").read_text()
    assert text.startswith("# positions unknown: x = inline, y = crossline number")
    np.testing.assert_array_equal(np.loadtxt(text.splitlines())[0, :2], [108, 305])
    assert rows_of(tmp_path / "out" / "top.csv")[0]["x"] == ""
    (body,) = rows_of(tmp_path / "out" / "geobodies.csv")
    assert [body[name] for name in ("volume_m3", "area_m2", "x_least", "y_greatest")] == [""] * 4
    assert facts_of(tmp_path / "out")["geobodies"]["volume"] == "unit unknown"
    assert is_closed(read_ply(tmp_path / "out" / "salt.ply")[1])


@pytest.mark.usefixtures("no_pictures")
def test_times_have_a_volume_only_with_a_velocity(tmp_path: Path) -> None:
    write_salt(tmp_path / "salt.zarr", box())
    extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    (body,) = rows_of(tmp_path / "out" / "geobodies.csv")
    assert body["volume_m3"] == ""
    assert float(body["area_times_time_m2_ms"]) == pytest.approx(2400 * INLINE_M * CROSSLINE_M * INTERVAL_MS)


@pytest.mark.parametrize("case", ["faint", "full", "line"])
def test_odd_surveys_give_all_files(tmp_path: Path, case: str) -> None:
    probability = {"faint": box() * 0.3, "full": box() * 0 + 1, "line": box()[8:9]}[case]
    write_salt(tmp_path / "salt.zarr", probability)
    said = extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    count = {"faint": 0, "full": 360, "line": 10}[case]
    assert f"salt in {count} of" in said
    assert len(rows_of(tmp_path / "out" / "top.csv")) == count


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"off": ["hole"]}, ["hole: expected the name of a check (floating-bits, holes, overhangs) to switch off"]),
        ({"smallest_body": 0, "smallest_hole": -1}, ["--smallest-body: expected", "--smallest-hole: expected"]),
        ({"velocity_m_s": 99.0}, ["--velocity: expected 100 to 20000 metres in a second"]),
        ({"velocity_m_s": 1e308}, ["--velocity: expected 100 to 20000 metres in a second"]),
        ({"velocity_m_s": float("nan")}, ["--velocity: expected 100 to 20000 metres in a second"]),
    ],
)
def test_options_without_sense_are_refused_together(
    salt: Store, tmp_path: Path, options: dict[str, Any], faults: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        extract_surfaces(salt.path, tmp_path / "out", **options)
    assert len(caught.value.faults) == len(faults)
    for fault, text in zip(caught.value.faults, faults, strict=True):
        assert str(fault).startswith(text)
    assert not (tmp_path / "out").exists()


def test_a_velocity_for_a_survey_in_depth_is_refused(tmp_path: Path) -> None:
    write_salt(tmp_path / "salt.zarr", box(), unit="ft")
    with pytest.raises(InputError, match="expected no velocity for a survey in depth"):
        extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out", velocity_m_s=3000)


def test_a_store_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_salt(tmp_path / "salt.zarr", box(), facts={"kind": "survey"})
    with pytest.raises(InputError, match="expected a store that diapir survey segment wrote"):
        extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")


@pytest.mark.parametrize(
    ("probability", "mask", "fault"),
    [
        (box() * 1.5, box() > 0, r"probability: expected numbers from 0 to 1, found 0\.0 to 1\.5"),
        (box() * np.nan, box() > 0, "probability: expected numbers from 0 to 1, found nan"),
        (box(), box() * 255, "mask: expected 0 and 1, found 255"),
    ],
)
def test_bad_values_leave_nothing_behind(
    tmp_path: Path, probability: NDArray[np.float32], mask: NDArray[Any], fault: str
) -> None:
    write_salt(tmp_path / "salt.zarr", probability, mask=mask)
    with pytest.raises(InputError, match=fault):
        extract_surfaces(tmp_path / "salt.zarr", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["salt.zarr"]


def test_nothing_is_written_into_the_store_that_is_read(salt: Store) -> None:
    before = sorted(salt.path.rglob("*"))
    with pytest.raises(InputError, match="expected a place outside of"):
        extract_surfaces(salt.path, salt.path / "surfaces")
    assert sorted(salt.path.rglob("*")) == before


def test_a_folder_with_files_is_not_written_over(salt: Store, out: Path) -> None:
    with pytest.raises(InputError, match="expected a new or empty folder"):
        extract_surfaces(salt.path, out)


def test_the_store_opens_as_one_of_salt(salt: Store) -> None:
    assert set(open_store(salt.path).volumes) == {"probability", "disagreement", "mask"}
