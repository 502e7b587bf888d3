import json
import math
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from diapir.faults import InputError
from diapir.volume import info_picture
from diapir.volume import segy as segy_module
from diapir.volume.geometry import find_geometry
from diapir.volume.info import survey_info
from diapir.volume.info_figures import find_bins, look_at, spread_rows
from diapir.volume.segy import first_samples, open_segy
from diapir.volume.segy_format import FORMATS
from diapir.volume.segy_headers import new_file_header, new_trace_headers
from diapir.volume.segy_write import write_segy
from fake_segy import Trace, fake_segy, grid_traces, write

RNG = np.random.default_rng(0)
DEAD = {(29, 2): 2}


def told(folder: Path, traces: Sequence[Trace], **how: Any) -> tuple[str, dict[str, Any]]:
    """The text of a file with these traces, and what was written."""
    text = survey_info(write(folder, fake_segy(traces, **how)), folder / "info")
    return text, json.loads((folder / "info" / "info.json").read_text())


def line_of(text: str, title: str) -> str:
    return next(line for line in text.split("\n") if line.strip().startswith(title))


def turned_survey(path: Path, *, turn_deg: float, steps: tuple[int, int] = (1, 1), spoiled: int = 0) -> Path:
    """A survey of 12 x 15 places with inlines 30 m and crosslines 20 m apart whose inlines are turned from X to Y."""
    inline, crossline = (part.ravel() for part in np.mgrid[:12, :15])
    turn = math.radians(turn_deg)
    x = 500_000 + 20 * crossline * math.cos(turn) - 30 * inline * math.sin(turn)
    y = 6_000_000 + 20 * crossline * math.sin(turn) + 30 * inline * math.cos(turn)
    x[:spoiled] += 1e6
    headers = new_trace_headers(
        inline=100 + steps[0] * inline,
        crossline=700 + steps[1] * crossline,
        cdp_x=x,
        cdp_y=y,
        num_samples=4,
        interval_us=2000,
    )
    stored = FORMATS["ieee32"]
    file_header = new_file_header(num_samples=4, interval_us=2000, stored=stored)
    values = np.ones((len(x), 4), np.float32)
    write_segy(path, file_header=file_header, blocks=[(headers, values)], stored=stored, order="big")
    return path


def test_text_and_figures_say_what_a_file_is(tmp_path: Path) -> None:
    # Inlines 10 to 16 in steps of 2; one place missing, two dead, one trace twice.
    traces = [replace(trace, inline=2 * trace.inline - 10, fields={(109, 2): 100}) for trace in grid_traces(4, 5, 50)]
    traces[3] = replace(traces[3], fields={**traces[3].fields, **DEAD})
    traces[8] = replace(traces[8], fields={**traces[8].fields, **DEAD})
    traces = [*traces[:11], *traces[12:], traces[0]]
    text, figures = told(tmp_path, traces, code=3, order="little", interval_us=2000, trailer=b"")
    assert "SEG-Y revision 1.0, textual header in EBCDIC" in line_of(text, "size")
    assert "int16 (format code 3), as its headers say" in line_of(text, "samples")
    assert "little-endian, read as little-endian: only so is the format code" in line_of(text, "byte order")
    assert "20 of 50 samples" in line_of(text, "traces")
    assert "2 ms, from 100 to 198 ms" in line_of(text, "interval")
    assert "4: 10 to 16 in steps of 2" in line_of(text, "inlines")
    assert "5: 20 to 24 in steps of 1" in line_of(text, "crosslines")
    assert "bytes 189 and 193" in line_of(text, "numbers")
    assert "19 of 20 filled, 1 missing, 2 dead by their headers, 1 duplicates" in line_of(text, "places")
    assert "C 1 A FAKE" in text
    assert [line for line in text.split("\n") if "have the place of another" in line]
    grid = figures["geometry"]
    counts = [grid[key] for key in ("kind", "places", "filled", "missing", "dead_by_header", "duplicates")]
    assert counts == ["3-D", 20, 19, 1, 2, 1]
    assert grid["inlines"] == {"first": 10, "last": 16, "step": 2, "count": 4}
    assert figures["trace_headers"]["crossline"] == {"byte": 193, "least": 20, "greatest": 24}
    assert len(figures["warnings"]) == 2


def test_what_is_asked_for_is_told_as_such(tmp_path: Path) -> None:
    path = write(tmp_path, fake_segy(grid_traces(), code=77, packed_as=3, num_samples=0, interval_us=0))
    text = survey_info(
        path, None, order="big", stored="int16", num_samples=6, interval_us=500, inline_byte=193, crossline_byte=189
    )
    assert "int16 (format code 3), as asked" in line_of(text, "samples")
    assert "big-endian, as asked" in line_of(text, "byte order")
    assert "0.5 ms, from 0 to 2.5 ms" in line_of(text, "interval")
    assert "5: 20 to 24" in line_of(text, "inlines")
    assert [found.name for found in tmp_path.iterdir()] == ["fake.sgy"]


def test_amplitudes_are_those_of_numpy(tmp_path: Path) -> None:
    values = (1000 * RNG.normal(size=(20, 60))).astype(np.float32)
    values[RNG.random(values.shape) < 0.1] = 0
    values[4] = 0
    values[9] = -0.0
    values[7, 3:5], values[2, 1], values[11, 0] = np.nan, np.inf, -np.inf
    traces = [replace(trace, samples=row) for trace, row in zip(grid_traces(), values.tolist(), strict=True)]
    text, figures = told(tmp_path, traces)
    others = np.delete(values, (4, 9), axis=0)
    finite = others[np.isfinite(others)]
    found = figures["amplitude"]
    assert (found["least"], found["greatest"]) == (finite.min(), finite.max())
    assert found["percentiles"] == [np.sort(finite)[int(share * (finite.size - 1))] for share in (0.005, 0.5, 0.995)]
    assert found["share_of_zeros"] == (others == 0).mean()
    assert (found["num_all_zero"], found["num_nan"], found["num_infinite"]) == (2, 2, 2)
    assert (found["first_nan"], found["first_infinite"]) == (8, 3)
    assert "2 NaN, 2 infinite" in text
    assert [warning.split(" are ")[0] for warning in figures["warnings"]] == ["2 samples", "2 samples"]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 3e38, 1e-45])
def test_a_file_of_one_value_is_told_and_drawn(tmp_path: Path, value: float) -> None:
    _, figures = told(tmp_path, [replace(trace, samples=[value] * 6) for trace in grid_traces()])
    said = " ".join(figures["warnings"])
    assert ("all samples are zero" in said) == (value == 0)
    assert ("120 samples are" in said) == (not np.isfinite(value))
    assert (tmp_path / "info" / "info.png").exists()


@pytest.mark.parametrize("code", [5, 6])
def test_numbers_that_processors_stumble_over_are_told_and_drawn(tmp_path: Path, code: int) -> None:
    # NaNs that signal, infinities, and the greatest and least numbers: no warning comes of any.
    words = [b"\x7f\x80\0\1", b"\xff\x80\0\1", b"\x7f\xf0\0\0", b"\x7f\x7f\xff\xff", b"\xff\x7f\xff\xff", b"\0\0\0\1"]
    content = bytearray(fake_segy(grid_traces(), code=code))
    size = 6 * (4, 8)[code - 5]
    for start in range(3600 + 240, len(content), 240 + size):
        content[start : start + size] = b"".join(words)[:size].ljust(size, b"\x7f")
    text = survey_info(write(tmp_path, bytes(content)), tmp_path)
    assert "samples are no numbers (NaN)" in text or "samples are infinite" in text
    assert (tmp_path / "info.png").exists()


def test_bins_are_those_of_the_coordinates(tmp_path: Path) -> None:
    for turn_deg in (0.0, 33.0, 215.0):
        segy = open_segy(turned_survey(tmp_path / "turned.sgy", turn_deg=turn_deg, steps=(3, 2)))
        bins = find_bins(segy, find_geometry(segy))
        assert bins is not None
        assert bins.unit == "m"
        found = [bins.inline_spacing, bins.crossline_spacing, bins.inline_azimuth, bins.crossline_azimuth]
        # Inlines run from X over turn_deg to Y, azimuths from Y over X; crosslines a quarter turn before.
        assert found == pytest.approx([30, 20, (90 - turn_deg) % 360, -turn_deg % 360], abs=0.01)
        assert bins.farthest_off is not None
        assert bins.farthest_off < 0.02
        assert bins.x[0] == pytest.approx(
            500_000 + min(0, *(corner(turn_deg, place)[0] for place in CORNERS)), abs=0.01
        )


CORNERS = ((0, 14), (11, 0), (11, 14))


def corner(turn_deg: float, place: tuple[int, int]) -> tuple[float, float]:
    turn, (inline, crossline) = math.radians(turn_deg), place
    x = 20 * crossline * math.cos(turn) - 30 * inline * math.sin(turn)
    return x, 20 * crossline * math.sin(turn) + 30 * inline * math.cos(turn)


def test_a_few_wrong_coordinates_are_told_and_change_no_bins(tmp_path: Path) -> None:
    path = turned_survey(tmp_path / "spoiled.sgy", turn_deg=20.0, spoiled=4)
    text = survey_info(path, None)
    assert "30 m from inline to inline, 20 m from crossline to crossline" in line_of(text, "bins")
    assert "coordinates do not follow the line numbers evenly" in text


@pytest.mark.parametrize("code", [2, 3, 4])
def test_angles_are_no_distances(tmp_path: Path, code: int) -> None:
    traces = [
        replace(trace, fields={(181, 4): 10 * trace.inline, (185, 4): trace.crossline, (89, 2): code})
        for trace in grid_traces()
    ]
    text, figures = told(tmp_path, traces)
    assert figures["coordinates"]["unit"] in line_of(text, "coordinates")
    assert figures["coordinates"]["inline_spacing"] is None


def test_lines_and_single_traces_are_told_and_drawn(tmp_path: Path) -> None:
    where = [{(181, 4): 30 * number, (185, 4): 40 * number} for number in range(1, 31)]
    samples = [1.0, -1.0, 2.0]
    line = [Trace(samples, fields={**place, (21, 4): number}) for number, place in enumerate(where)]
    for kind, traces in (
        ("2-D line", line),
        ("2-D line", [Trace(samples, fields={(181, 4): 5}) for _ in range(30)]),
        ("one inline", [Trace(samples, 7, number) for number in range(30)]),
        ("one crossline", [Trace(samples, number, 7) for number in range(30)]),
        ("one trace", [Trace(samples, fields={(181, 4): 5})]),
    ):
        text, figures = told(tmp_path, traces)
        assert figures["geometry"]["kind"] == kind
        assert kind in line_of(text, "kind")
    text, _ = told(tmp_path, line)
    assert "50 from trace to trace (median)" in line_of(text, "bins")


def test_a_file_without_a_grid_is_told_of_with_the_fields_that_vary(tmp_path: Path) -> None:
    traces = [Trace([1.0, 2.0], 1000 * (number % 3), 10**8 * number, {(17, 4): 7 + number}) for number in range(30)]
    text, figures = told(tmp_path, traces)
    assert figures["geometry"] is None
    assert "byte  17 source_point       7 to 36" in text
    assert "expected line numbers that make a grid" in figures["warnings"][0]
    assert "coordinates" not in text
    assert (tmp_path / "info" / "info.png").exists()
    with pytest.raises(InputError, match="expected line numbers that make a grid"):
        survey_info(tmp_path / "fake.sgy", None, inline_byte=189)


def test_names_and_texts_cannot_break_the_text_or_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[2J$x_$\u65e5.sgy"
    path.write_bytes(fake_segy(grid_traces(), text=b"\x1b[31m $\\frac".ljust(3200)))
    text = survey_info(path, tmp_path)
    assert all(line.isprintable() for line in text.split("\n"))
    assert (tmp_path / "info.png").exists()


def drawn(path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What was handed over to be drawn as pictures: the map and the sections, with how."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    draw = Axes.imshow

    def record(axes: Axes, values: Any, **how: Any) -> Any:
        calls.append((np.array(values), how))
        return draw(axes, values, **how)

    monkeypatch.setattr(Axes, "imshow", record)
    survey_info(path, out)
    return calls


def test_sections_go_through_the_middle_of_the_live_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 9 x 9 places, those of the first three inlines and last three crosslines are dead or missing.
    traces = [
        Trace(RNG.normal(size=12).tolist(), inline, crossline, DEAD if inline < 13 else {})
        for inline in range(10, 19)
        for crossline in range(20, 29)
        if inline < 13 or crossline < 26
    ]
    path = write(tmp_path, fake_segy(traces))
    (_, _), (along, how_along), (across, how_across) = drawn(path, tmp_path, monkeypatch)
    assert how_along["extent"] == (19.5, 28.5, 46, -2)
    assert how_across["extent"] == (9.5, 18.5, 46, -2)
    limit = look_at(open_segy(path)).limit
    for found, chosen, places in (
        (along, [trace for trace in traces if trace.inline == 15], slice(0, 6)),
        (across, [trace for trace in traces if trace.crossline == 22], slice(0, 9)),
    ):
        truth = np.array([trace.samples for trace in chosen], np.float32).T / limit
        assert np.allclose(found[:, places], truth, atol=1e-6)
        assert np.isnan(found[:, places.stop :]).all()


def test_maps_of_any_size_are_drawn_in_mean_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_dead = RNG.random((10, 14)) < 0.4
    traces = [
        Trace([1.0, 2.0] * 6, 10 + 3 * inline, 20 + crossline, DEAD if is_dead[inline, crossline] else {})
        for inline in range(10)
        for crossline in range(14)
        if (inline, crossline) != (4, 4)
    ]
    path = write(tmp_path, fake_segy(traces))
    is_dead[4, 4] = False
    (whole, how), *_ = drawn(path, tmp_path, monkeypatch)
    assert how["extent"] == (19.5, 33.5, 8.5, 38.5)
    assert len(np.unique(whole.reshape(-1, 3), axis=0)) == 3
    assert (whole[is_dead] == whole[is_dead][0]).all()
    monkeypatch.setattr(info_picture, "_MOST_DRAWN", 5)
    (small, _), *sections = drawn(path, tmp_path, monkeypatch)
    assert small.shape == (5, 5, 3)
    for row in range(5):
        for column in range(5):
            block = whole[2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            assert np.allclose(small[row, column], block.mean(axis=(0, 1)))
    assert all(max(values.shape) <= 5 for values, _ in sections)


def test_traces_without_a_sample_other_than_zero_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = grid_traces(5, 6)
    for row in (3, 17):
        traces[row] = replace(traces[row], samples=[0.0] * 6)
    marked: list[Any] = []
    scatter = Axes.scatter

    def record(axes: Axes, x: Any, y: Any, **how: Any) -> Any:
        marked.append((x, y))
        return scatter(axes, x, y, **how)

    monkeypatch.setattr(Axes, "scatter", record)
    survey_info(write(tmp_path, fake_segy(traces)), tmp_path)
    [(x, y)] = marked
    assert sorted(zip(y.tolist(), x.tolist(), strict=True)) == [(10, 23), (12, 25)]


def test_rows_are_spread_evenly_and_meet_every_crossline() -> None:
    assert spread_rows(7, most=10).tolist() == list(range(7))
    rows = spread_rows(160_000, most=1000)
    assert (rows // 160).tolist() == list(range(1000))
    assert len(set((rows % 160).tolist())) > 140


def test_first_samples_are_those_of_the_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = grid_traces()
    monkeypatch.setattr(segy_module, "_PIECE", 50)
    for code in (3, 5, 7):
        segy = open_segy(write(tmp_path, fake_segy(traces, code=code)))
        rows = np.array([19, 2, 3, 4, 0])
        for most in (1, 4, 99):
            parts = list(first_samples(segy, rows, most=most))
            assert [start for start, _ in parts] == list(np.cumsum([0, *(len(part) for _, part in parts)])[:-1])
            truth = np.array([traces[row].samples for row in rows])[:, :most]
            assert np.array_equal(np.concatenate([part for _, part in parts]), truth)


@pytest.mark.parametrize(("num_traces", "num_samples"), [(1, 2**29), (40, 10**7), (2000, 250_000)])
def test_a_file_of_gigabytes_takes_little_memory_and_time(tmp_path: Path, num_traces: int, num_samples: int) -> None:
    # All but its headers is a hole, which takes no place on disk.
    path = tmp_path / "great.sgy"
    stored = FORMATS["ieee32"]
    stride = 240 + 4 * num_samples
    with path.open("wb") as file:
        file.write(new_file_header(num_samples=num_samples, interval_us=4000, stored=stored))
        for row in {0, num_traces // 2, num_traces - 1}:
            file.seek(3600 + row * stride + 240)
            file.write(RNG.normal(size=1000).astype(">f4").tobytes())
        file.truncate(3600 + num_traces * stride)
    began = time.process_time()
    tracemalloc.start()
    text = survey_info(path, tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000_000
    assert time.process_time() - began < 20
    assert f"{num_traces:,} of {num_samples:,} samples" in text
    path.unlink()
