import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segyio  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray
from PIL import Image

from diapir.faults import InputError
from diapir.volume import segy_write, smooth_fields, synthetic_files, synthetic_survey
from diapir.volume.geometry import NO_TRACE, coordinates, find_geometry
from diapir.volume.line_numbers import pair_in_text
from diapir.volume.segy import header_values, open_segy, raw_headers, samples
from diapir.volume.segy_format import ORDERS
from diapir.volume.segy_headers import DEAD, LIVE, TRACE_FIELDS
from diapir.volume.synthetic_files import write_synthetic_survey
from diapir.volume.synthetic_survey import SyntheticSurvey, decimate, live_mask, make_survey

SHAPE = {"inlines": 26, "crosslines": 20, "samples": 44}
SEED = 6


@pytest.fixture(scope="module")
def survey() -> SyntheticSurvey:
    return make_survey(inlines=26, crosslines=20, samples=44, seed=SEED)


def write(folder: Path, **how: Any) -> Path:
    path = folder / "survey.sgy"
    write_synthetic_survey(path, **(SHAPE | {"seed": SEED} | how))
    return path


def cube_of(path: Path) -> NDArray[np.float32]:
    """All samples by inline and crossline, NaN where there is no trace."""
    segy = open_segy(path)
    assert segy.warnings == ()
    geometry = find_geometry(segy)
    assert (geometry.inline_byte, geometry.crossline_byte, len(geometry.duplicates)) == (189, 193, 0)
    cube = np.full((*geometry.shape, segy.num_samples), np.nan, np.float32)
    is_there = geometry.trace_rows != NO_TRACE
    cube[is_there] = samples(segy, geometry.trace_rows[is_there])
    return cube


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("kind", ["regular", "ragged", "dead"])
def test_a_file_holds_the_survey_that_is_made_at_once(
    tmp_path: Path, survey: SyntheticSurvey, kind: Any, every: int, shuffled: bool
) -> None:
    path = write(tmp_path, kind=kind, every=every, shuffled=shuffled, truth=tmp_path / "truth.sgy")
    whole = decimate(survey, inlines=every, crosslines=every)
    is_live = live_mask(inlines=len(whole.inlines), crosslines=len(whole.crosslines), kind=kind, seed=SEED)
    assert is_live.all() == (kind == "regular")
    amplitude, salt = whole.amplitude.copy(), whole.salt.astype(np.float32)
    amplitude[~is_live] = 0 if kind == "dead" else np.nan
    if kind == "ragged":
        salt[~is_live] = np.nan
    assert np.array_equal(cube_of(path), amplitude, equal_nan=True)
    assert np.array_equal(cube_of(tmp_path / "truth.sgy"), salt, equal_nan=True)
    segy = open_segy(path)
    geometry = find_geometry(segy)
    assert np.array_equal(geometry.inlines.numbers, whole.inlines)
    assert np.array_equal(geometry.crosslines.numbers, whole.crosslines)
    assert np.array_equal(geometry.is_live, is_live)
    for found, truth in zip(coordinates(segy, geometry), whole.cdp_m, strict=True):
        assert np.array_equal(found[geometry.trace_rows != NO_TRACE], truth[geometry.trace_rows != NO_TRACE])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stored", ["ibm32", "ieee32", "ieee64", "int16", "int24", "int32", "int64"])
def test_every_format_that_holds_amplitudes_holds_the_same(
    tmp_path: Path, survey: SyntheticSurvey, stored: Any, order: Any
) -> None:
    path = write(tmp_path, stored=stored, order=order)
    layout = open_segy(path).layout
    assert (layout.stored.name, layout.order) == (stored, order)
    assert np.array_equal(cube_of(path), survey.amplitude)


def test_another_reader_finds_the_same(tmp_path: Path, survey: SyntheticSurvey) -> None:
    with segyio.open(write(tmp_path, stored="ibm32")) as other:
        assert np.array_equal(other.ilines, survey.inlines)
        assert np.array_equal(other.xlines, survey.crosslines)
        assert segyio.tools.dt(other) == 4000
        assert np.array_equal(segyio.tools.cube(other), survey.amplitude)


def test_the_same_seed_gives_the_same_bytes_however_the_earth_is_cut_and_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"kind": "ragged", "shuffled": True, "truth": tmp_path / "truth.sgy"}
    first = [write(tmp_path, **how).read_bytes(), (tmp_path / "truth.sgy").read_bytes()]
    monkeypatch.setattr(synthetic_survey, "_PART_SAMPLES", 1)
    monkeypatch.setattr(smooth_fields, "_MOST_HELD", 100)
    monkeypatch.setattr(synthetic_files, "_PIECE", 5 * (240 + 4 * SHAPE["samples"]))
    assert [write(tmp_path, **how).read_bytes(), (tmp_path / "truth.sgy").read_bytes()] == first
    assert write(tmp_path, **(how | {"seed": 7})).read_bytes() != first[0]


def test_truth_has_the_headers_of_the_survey(tmp_path: Path) -> None:
    path = write(tmp_path, kind="dead", shuffled=True, stored="int16", truth=tmp_path / "truth.sgy")
    survey, truth = open_segy(path), open_segy(tmp_path / "truth.sgy")
    assert np.array_equal(raw_headers(survey, slice(None)), raw_headers(truth, slice(None)))
    assert survey.layout == truth.layout
    [kinds] = header_values(survey, [TRACE_FIELDS["kind"]])
    assert set(kinds.tolist()) == {LIVE, DEAD}
    assert not samples(survey, np.flatnonzero(kinds == DEAD)).any()


def test_shuffled_traces_are_in_no_order_and_numbered_as_they_come(tmp_path: Path) -> None:
    segy = open_segy(write(tmp_path, shuffled=True))
    fields = [TRACE_FIELDS[name] for name in ("trace_in_file", "trace_in_line", "inline", "crossline")]
    in_file, in_line, inlines, crosslines = header_values(segy, fields)
    assert in_file.tolist() == in_line.tolist() == list(range(1, 521))
    places = inlines * 1000 + crosslines
    assert (np.diff(np.sort(places)) > 0).all()
    assert 0.4 < (np.diff(places) > 0).mean() < 0.6
    assert (np.abs(np.diff(places)) == 1).mean() < 0.1


def test_text_says_what_it_is_and_where_line_numbers_stand(tmp_path: Path) -> None:
    lines = open_segy(write(tmp_path, kind="ragged", every=2)).text.lines
    text = "\n".join(lines)
    assert "SYNTHETIC" in lines[0]
    assert f"SEED {SEED} " in text
    assert "RAGGED" in text
    assert "100 TO 124 IN STEPS OF 2" in text
    assert pair_in_text(lines) == (189, 193)


@pytest.mark.parametrize(("every", "count"), [(1, 1), (1, 4), (2, 13), (1, 26)])
def test_labels_are_the_salt_of_evenly_spread_inlines(
    tmp_path: Path, survey: SyntheticSurvey, every: int, count: int
) -> None:
    write(tmp_path, kind="ragged", every=every, labels=tmp_path / "labels", label_lines=count)
    whole = decimate(survey, inlines=every, crosslines=every)
    places = dict(zip(whole.inlines.tolist(), range(len(whole.inlines)), strict=True))
    found = {}
    for path in (tmp_path / "labels").iterdir():
        place = places[int(path.stem.removeprefix("inline-"))]
        with Image.open(path) as picture:
            assert picture.mode == "L"
            found[place] = np.asarray(picture)
        assert np.array_equal(found[place], 255 * whole.salt[place].T.astype(np.uint8))
    assert len(found) == count
    # From the outer ones to the sides half as far as from one to the next.
    steps = np.diff([-1 - min(found), *sorted(found), 2 * len(places) - max(found)])
    assert steps.max() - steps.min() <= 2


def test_memory_does_not_grow_with_the_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smooth_fields, "_MOST_HELD", 100)
    monkeypatch.setattr(synthetic_survey, "_PART_SAMPLES", 1)
    for module in (synthetic_files, segy_write):
        monkeypatch.setattr(module, "_PIECE", 20_000)
    peaks = []
    for inlines in (60, 180):
        tracemalloc.start()
        write(tmp_path, inlines=inlines, crosslines=10, samples=60, shuffled=True, truth=tmp_path / "truth.sgy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Its samples are 290 kB more, and the coefficients of its fields twice that.
    assert peaks[1] < peaks[0] + 220_000


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "survey.sgy"
    for how, expected in (
        ({"inlines": 7, "seed": -1, "every": 0, "stored": "uint16"}, ["--inlines", "--seed", "--every", "--format"]),
        ({"every": 3, "stored": "int8", "truth": out}, ["--every", "--format", "--truth"]),
        ({"labels": tmp_path / "labels", "label_lines": 27}, ["--label-lines"]),
        ({"labels": tmp_path / "labels", "label_lines": 0}, ["--label-lines"]),
        ({"inlines": 90_000, "crosslines": 90_000, "samples": 30_000}, ["--inlines, --crosslines, --samples"]),
    ):
        with pytest.raises(InputError) as caught:
            write(tmp_path, **how)
        assert [fault.where for fault in caught.value.faults] == expected
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine").touch()
    with pytest.raises(InputError, match="expected a new or empty folder"):
        write(tmp_path, labels=tmp_path / "labels")
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_what_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = synthetic_survey.survey_parts

    def broken(earth: Any) -> Any:
        yield next(whole(earth))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic_files, "survey_parts", broken)
    for shuffled in (False, True):
        with pytest.raises(OSError, match="No space left") as caught:
            write(tmp_path, shuffled=shuffled, labels=tmp_path / "labels", truth=tmp_path / "truth.sgy")
        assert caught.value.filename == str(tmp_path / "survey.sgy")
        assert list(tmp_path.iterdir()) == []


def test_the_summary_says_what_was_written(tmp_path: Path) -> None:
    out = tmp_path / "survey.sgy"
    text = write_synthetic_survey(
        out, inlines=26, crosslines=20, samples=44, seed=SEED, labels=tmp_path / "labels", label_lines=3
    )
    assert f"{out}: 520 traces of 44 samples; inlines 100 to 125, crosslines 300 to 319" in text
    assert f"3 labelled inlines in {tmp_path / 'labels'}" in text
