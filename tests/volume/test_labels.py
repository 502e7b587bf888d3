import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.volume import labelled_section
from diapir.volume.labelled_section import LabelledSection, lines_with_labels
from diapir.volume.labels import Labels, read_labels
from diapir.volume.store import Store
from fake_labelled_survey import write_picture, write_segy_labels, write_store, write_zarr_labels
from fake_png import png
from fake_segy import Trace, fake_segy

SHAPE = (9, 7, 12)
"""Inlines 100, 102 ... 116, crosslines 300 ... 306, samples."""


def truth_of(seed: int = 0) -> NDArray[np.uint8]:
    """Salt here and there in every section: (inlines, crosslines, samples)."""
    return np.random.default_rng(seed).integers(0, 2, SHAPE, dtype=np.uint8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """All traces live but one of inline 104, crossline 302."""
    live = np.ones(SHAPE[:2], np.bool_)
    live[2, 2] = False
    return write_store(tmp_path_factory.mktemp("stores") / "survey.zarr", np.ones(SHAPE, np.float32), live=live)


def sections_of(labels: Labels) -> dict[str, NDArray[np.uint8]]:
    return {section.name: section.mask for section in labels.sections}


def with_dead(mask: NDArray[np.uint8], trace: int) -> NDArray[np.uint8]:
    hidden = mask.copy()
    hidden[:, trace] = UNKNOWN
    return hidden


def faults_of(path: Path, store: Store) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_labels(path, store)
    return [str(fault) for fault in caught.value.faults]


# The same labels in every form.


def put_pictures(folder: Path, truth: NDArray[np.uint8]) -> None:
    write_picture(folder / "inline-104.png", truth[2].T)
    write_picture(folder / "XL306.PNG", truth[:, 6].T)


def put_segy(folder: Path, truth: NDArray[np.uint8]) -> None:
    inline = {(104, 300 + column): truth[2, column] for column in range(7)}
    write_segy_labels(folder / "inline.sgy", inline)
    crossline = {(100 + 2 * row, 306): 255 * truth[row, 6].astype(int) for row in range(9)}
    write_segy_labels(folder / "crossline.SEGY", crossline, code=1)


def put_one_segy(folder: Path, truth: NDArray[np.uint8]) -> None:
    both = {(104, 300 + column): truth[2, column] for column in range(7)}
    both |= {(100 + 2 * row, 306): truth[row, 6] for row in range(9)}
    write_segy_labels(folder / "both.sgy", both)


def put_zarr(folder: Path, truth: NDArray[np.uint8], *, name: str | None = None, unknown: int = UNKNOWN) -> None:
    values = np.full(SHAPE, unknown, np.uint8 if unknown > 0 else np.int16)
    values[2], values[:, 6] = truth[2], truth[:, 6]
    write_zarr_labels(folder / "labels.zarr", values, name=name)


def put_zarr_group(folder: Path, truth: NDArray[np.uint8]) -> None:
    put_zarr(folder, truth, name="mask", unknown=-1)


@pytest.mark.parametrize("put", [put_pictures, put_segy, put_one_segy, put_zarr, put_zarr_group])
def test_every_form_gives_the_same_sections_without_dead_traces(tmp_path: Path, store: Store, put: Any) -> None:
    truth = truth_of()
    put(tmp_path / "labels", truth)
    found = sections_of(read_labels(tmp_path / "labels", store))
    assert list(found) == ["inline 104", "crossline 306"]
    assert np.array_equal(found["inline 104"], with_dead(truth[2].T, 2))
    assert np.array_equal(found["crossline 306"], truth[:, 6].T)


@pytest.mark.parametrize("name", ["inline-100.png", "il100.png", "ILINE_100.png", "Inline 100.PNG", "iline-0100.png"])
def test_a_picture_is_known_by_its_name(tmp_path: Path, store: Store, name: str) -> None:
    truth = truth_of()
    found = read_labels(write_picture(tmp_path / name, truth[0].T), store)
    assert [(each.direction, each.line, each.place) for each in found.sections] == [("inline", 100, 0)]


@pytest.mark.parametrize("name", ["crossline-303.png", "xl303.png", "XLINE_303.png", "xline-303.png"])
def test_a_crossline_is_known_by_its_name(tmp_path: Path, store: Store, name: str) -> None:
    found = read_labels(write_picture(tmp_path / name, truth_of()[:, 3].T), store)
    assert [(each.direction, each.line, each.place) for each in found.sections] == [("crossline", 303, 3)]


# Pixels.


def picture_with(pixels: NDArray[np.uint8], path: Path, store: Store) -> NDArray[np.uint8]:
    path.write_bytes(png(pixels))
    (section,) = read_labels(path, store).sections
    return section.mask


def test_middle_grey_is_unknown(tmp_path: Path, store: Store) -> None:
    greys = np.zeros((12, 7), np.uint8)
    greys[0], greys[1], greys[2] = 255, 127, 128
    mask = picture_with(greys, tmp_path / "il100.png", store)
    assert mask[:4, 0].tolist() == [1, UNKNOWN, UNKNOWN, 0]


def test_one_is_salt_where_nothing_is_above_one(tmp_path: Path, store: Store) -> None:
    truth = truth_of()[0].T
    assert np.array_equal(picture_with(truth, tmp_path / "il100.png", store), truth)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "RGB", "1", "L"])
def test_transparent_pixels_are_unknown_whatever_their_colour(tmp_path: Path, store: Store, mode: str) -> None:
    truth = truth_of()[0].T
    rgba = np.zeros((12, 7, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = 255 * truth[..., None], 255
    if "A" in mode:
        rgba[3], rgba[4] = (200, 200, 200, 0), (77, 77, 77, 120)
        if mode == "RGBA":
            rgba[3, :, 0] = 9
    image = Image.fromarray(rgba)
    (image if mode == "RGBA" else image.convert(mode)).save(tmp_path / "il100.png")
    (section,) = read_labels(tmp_path, store).sections
    expected = truth.copy()
    if "A" in mode:
        expected[3:5] = UNKNOWN
    assert np.array_equal(section.mask, expected)


def test_other_greys_are_told_with_the_usual_cause(tmp_path: Path, store: Store) -> None:
    greys = 255 * truth_of()[0].T
    greys[5, 1:4] = 60, 60, 200
    (tmp_path / "il100.png").write_bytes(png(greys))
    (fault,) = faults_of(tmp_path, store)
    assert "found 3 of 2 other values (60, 200)" in fault
    assert "smoothed edges" in fault


# Bad labels.


def test_all_faults_of_all_files_are_told_together(tmp_path: Path, store: Store) -> None:
    truth = truth_of()
    write_picture(tmp_path / "inline-101.png", truth[0].T)
    write_picture(tmp_path / "inline-500.png", truth[0].T)
    write_picture(tmp_path / "inline-102.png", truth[0])
    write_picture(tmp_path / "section-7.png", truth[0].T)
    write_picture(tmp_path / "xl300.png", np.full((12, 9), UNKNOWN))
    (tmp_path / "inline-104.jpg").write_bytes(b"no matter")
    (tmp_path / "il106.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    told = faults_of(tmp_path, store)
    expected = {
        "inline-101.png": "expected one of the survey's inlines (100 to 116 in steps of 2), found 101",
        "inline-500.png": "found 500",
        "inline-102.png": "expected 7 x 12 pixels, found 12 x 7; inline 102 has 12 samples (rows) and 7 traces (col",
        "section-7.png": "expected a name that says which section it is",
        "xl300.png": "found unknown ones alone",
        "inline-104.jpg": "save pictures as PNG",
        "il106.png": "is cut off",
    }
    assert len(told) == len(expected)
    for name, what in expected.items():
        assert any(name in line and what in line for line in told), name


def test_a_section_that_is_labelled_twice_is_refused(tmp_path: Path, store: Store) -> None:
    truth = truth_of()
    put_pictures(tmp_path, truth)
    write_segy_labels(tmp_path / "again.sgy", {(104, 300 + column): truth[2, column] for column in range(7)})
    (fault,) = faults_of(tmp_path, store)
    assert "inline 104 is labelled in" in fault
    assert "again.sgy" in fault


@pytest.mark.parametrize(("value", "what"), [(0, "no salt"), (1, "no anything but salt")])
def test_labels_that_say_the_same_everywhere_are_refused(tmp_path: Path, store: Store, value: int, what: str) -> None:
    write_picture(tmp_path / "il100.png", np.full((12, 7), value))
    (fault,) = faults_of(tmp_path, store)
    assert f"found {what} in 1 labelled sections" in fault


def test_a_picture_of_dead_traces_alone_is_refused(tmp_path: Path, store: Store) -> None:
    mask = np.full((12, 7), UNKNOWN)
    mask[:, 2] = 1
    write_picture(tmp_path / "il104.png", mask)
    (fault,) = faults_of(tmp_path, store)
    assert "dead or missing traces of inline 104" in fault


def test_no_labels_are_told(tmp_path: Path, store: Store) -> None:
    assert "found no such file or folder" in faults_of(tmp_path / "absent", store)[0]
    (tmp_path / "notes.txt").write_text("nothing")
    assert "expected labels in it" in faults_of(tmp_path, store)[0]
    assert "found another kind of file" in faults_of(tmp_path / "notes.txt", store)[0]


def test_what_lies_beside_labels_is_named(tmp_path: Path, store: Store) -> None:
    put_pictures(tmp_path, truth_of())
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / ".hidden").write_text("nothing")
    (note,) = read_labels(tmp_path, store).notes
    assert note.endswith("notes.txt")


# SEG-Y.


def inline_traces(values: NDArray[Any], *, inline: int = 104, first: int = 300) -> dict[tuple[int, int], NDArray[Any]]:
    return {(inline, first + column): each for column, each in enumerate(values)}


def test_a_part_of_a_line_is_known_there_alone(tmp_path: Path, store: Store) -> None:
    truth = truth_of()
    values = truth[3, 1:5].astype(np.float32)
    values[0, 3], values[1, 4] = np.nan, -1
    path = write_segy_labels(tmp_path / "part.sgy", inline_traces(values, inline=106, first=301))
    (section,) = read_labels(path, store).sections
    expected = np.full((12, 7), UNKNOWN, np.uint8)
    expected[:, 1:5] = truth[3, 1:5].T
    expected[3, 1], expected[4, 2] = UNKNOWN, UNKNOWN
    assert np.array_equal(section.mask, expected)


@pytest.mark.parametrize(("delay_ms", "is_told"), [(0, False), (1, False), (400, True)])
def test_labels_that_begin_at_another_time_are_told(tmp_path: Path, store: Store, delay_ms: int, is_told: bool) -> None:
    path = write_segy_labels(tmp_path / "late.sgy", inline_traces(truth_of()[2]))
    content = bytearray(path.read_bytes())
    # Of the first trace's header, whose bytes are counted from 1.
    content[3600 + 108 : 3600 + 110] = delay_ms.to_bytes(2, "big")
    path.write_bytes(content)
    told = [note for note in read_labels(tmp_path, store).notes if "400 ms" in note]
    assert bool(told) == is_told


def test_traces_that_the_labels_call_dead_are_unknown(tmp_path: Path, store: Store) -> None:
    truth = truth_of()
    kinds = [2 if column == 4 else 1 for column in range(7)]
    traces = [
        Trace(truth[0, column].tolist(), inline=100, crossline=300 + column, fields={(29, 2): kind})
        for column, kind in enumerate(kinds)
    ]
    (tmp_path / "dead.sgy").write_bytes(fake_segy(traces))
    (section,) = read_labels(tmp_path, store).sections
    assert np.array_equal(section.mask, with_dead(truth[0].T, 4))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"inline": 103}, "expected inlines of the survey (100 to 116 in steps of 2), found 1 others (103)"),
        ({"first": 303}, "expected crosslines of the survey (300 to 306), found 3 others (307, 308, 309)"),
        ({"samples": 11}, "expected 12 samples a trace, as the survey has, found 11"),
        ({"interval_us": 2000}, "expected 4 ms between samples, as the survey has, found 2 ms"),
        ({"value": 3}, "found 1 of 1 other values (3)"),
        ({"value": 255}, "found both 1 and 255"),
    ],
)
def test_segy_that_does_not_fit_is_refused(tmp_path: Path, store: Store, changes: dict[str, int], what: str) -> None:
    values = truth_of()[2].astype(np.float32)[:, : changes.get("samples", 12)]
    values[0, 0] = changes.get("value", 1)
    traces = inline_traces(values, inline=changes.get("inline", 104), first=changes.get("first", 300))
    path = write_segy_labels(tmp_path / "bad.sgy", traces, interval_us=changes.get("interval_us", 4000))
    (fault,) = faults_of(path, store)
    assert what in fault


def test_segy_without_line_numbers_is_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "line.sgy"
    path.write_bytes(fake_segy([Trace(values.tolist()) for values in truth_of()[0]]))
    (fault,) = faults_of(path, store)
    assert "expected traces with inline and crossline numbers of the survey" in fault


def test_segy_that_is_none_is_told_with_the_other_faults(tmp_path: Path, store: Store) -> None:
    (tmp_path / "broken.sgy").write_bytes(b"nothing" * 30)
    write_picture(tmp_path / "inline-101.png", truth_of()[0].T)
    assert len(faults_of(tmp_path, store)) == 2


# Zarr.


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((7, 9, 12), np.uint8), "expected inlines, crosslines and samples of the survey, (9, 7, 12), found"),
        (np.zeros(SHAPE, np.float32), "expected whole numbers or bool, found float32"),
        (np.full(SHAPE, 7, np.uint8), "found 756 of 1 other values (7)"),
        (np.full(SHAPE, UNKNOWN, np.uint8), "found nothing that is known"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path: Path, store: Store, values: NDArray[Any], what: str) -> None:
    (fault,) = faults_of(write_zarr_labels(tmp_path / "labels.zarr", values), store)
    assert what in fault


def test_a_group_without_labels_is_refused(tmp_path: Path, store: Store) -> None:
    path = write_zarr_labels(tmp_path / "group.zarr", truth_of(), name="other")
    assert "a group with one called labels or mask; found none" in faults_of(path, store)[0]


def test_a_damaged_array_is_refused(tmp_path: Path, store: Store) -> None:
    path = write_zarr_labels(tmp_path / "labels.zarr", truth_of())
    chunk = next(each for each in path.rglob("*") if each.is_file() and each.name != "zarr.json")
    chunk.write_bytes(b"\0" * 5)
    assert "cannot be read" in faults_of(path, store)[0]
    (path / "zarr.json").write_text("{}")
    assert "found none" in faults_of(path, store)[0]


def test_a_lying_chunk_is_refused_before_it_is_read(tmp_path: Path, store: Store) -> None:
    path = write_zarr_labels(tmp_path / "labels.zarr", truth_of())
    facts = json.loads((path / "zarr.json").read_text())
    facts["chunk_grid"]["configuration"]["chunk_shape"] = [2**20, 2**20, 16]
    (path / "zarr.json").write_text(json.dumps(facts))
    assert "expected chunks of at most 256 MiB" in faults_of(path, store)[0]


def test_bool_and_a_whole_survey_become_the_longer_lines(tmp_path: Path, store: Store) -> None:
    truth = truth_of()
    labels = read_labels(write_zarr_labels(tmp_path / "labels.zarr", truth.astype(np.bool_)), store)
    # The dead trace makes inline 104 and crossline 302 one trace shorter.
    assert {section.direction for section in labels.sections} == {"crossline"}
    assert len(labels.sections) == SHAPE[1]


def test_of_very_many_lines_an_even_spread_is_used_and_told(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelled_section, "_MOST_PIXELS", 4 * 9 * 12)
    labels = read_labels(write_zarr_labels(tmp_path / "labels.zarr", truth_of()), store)
    assert [section.line for section in labels.sections] == [300, 302, 304, 306]
    assert "7 lines are labelled, and an even spread of 4 is used" in labels.notes[0]


# Which lines traces make up.


def test_a_block_is_made_of_its_longer_lines() -> None:
    known = np.zeros((9, 8), np.bool_)
    known[2:4, 1:7] = True
    assert lines_with_labels(known, num_samples=5) == ([("inline", 2), ("inline", 3)], 2)
    assert lines_with_labels(known.T, num_samples=5) == ([("crossline", 2), ("crossline", 3)], 2)


def test_every_labelled_trace_lies_in_a_section() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        known = rng.random((6, 9)) < rng.random()
        covered = np.zeros_like(known)
        for direction, place in lines_with_labels(known, num_samples=3)[0]:
            covered[(place, slice(None)) if direction == "inline" else (slice(None), place)] = True
        assert not (known & ~covered).any()


def test_a_section_says_its_name() -> None:
    section = LabelledSection("crossline", 340, 7, np.zeros((2, 2), np.uint8), Path("x.png"))
    assert section.name == "crossline 340"
