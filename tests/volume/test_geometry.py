import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diapir.faults import InputError
from diapir.volume.geometry import NO_TRACE, Geometry, coordinates, find_geometry, lay_on
from diapir.volume.line_numbers import Axis, pair_in_text
from diapir.volume.segy import Segy, open_segy
from fake_segy import Trace, fake_segy, write

RNG = np.random.default_rng(0)
REGULAR = [(inline, crossline) for inline in range(10, 18) for crossline in range(20, 29)]


def survey(folder: Path, pairs: Sequence[tuple[int, int]], *, places: tuple[int, int] = (189, 193), **own: int) -> Segy:
    """A file with a trace for each pair of line numbers, put at bytes of the trace header."""
    traces = [Trace([1.0, 2.0], fields={(places[0], 4): pair[0], (places[1], 4): pair[1]}) for pair in pairs]
    return open_segy(write(folder, fake_segy(traces)))


def with_headers(folder: Path, headers: Sequence[dict[tuple[int, int], int]]) -> Segy:
    return open_segy(write(folder, fake_segy([Trace([1.0, 2.0], fields=fields) for fields in headers])))


def require_each_trace_once(geometry: Geometry, pairs: Sequence[tuple[int, int]]) -> None:
    """Every trace lies where its numbers say, in the grid or as another's duplicate."""
    rows = geometry.trace_rows
    present = rows[rows != NO_TRACE]
    assert sorted([*present, *geometry.duplicates[:, 0]]) == list(range(len(pairs)))
    inlines, crosslines = np.nonzero(rows != NO_TRACE)
    found = zip(geometry.inlines.numbers[inlines], geometry.crosslines.numbers[crosslines], strict=True)
    assert [pairs[row] for row in present] == [(int(inline), int(crossline)) for inline, crossline in found]
    for copy, kept in geometry.duplicates:
        assert pairs[copy] == pairs[kept]
        assert kept in present


@settings(max_examples=25, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 7)), min_size=1, max_size=40).filter(
        lambda pairs: len(pairs) <= 3 * len(set(pairs)) and (len(set(pairs)) > 1 or len(pairs) == 1)
    ),
    steps=st.tuples(st.integers(1, 50), st.integers(1, 3)),
    first=st.tuples(st.integers(-1000, 1000), st.integers(-5, 2**31 - 50)),
)
def test_every_trace_lies_where_its_numbers_say(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[int, int]],
    steps: tuple[int, int],
    first: tuple[int, int],
) -> None:
    numbers = [(first[0] + steps[0] * inline, first[1] + steps[1] * crossline) for inline, crossline in pairs]
    geometry = find_geometry(survey(tmp_path_factory.getbasetemp(), numbers), inline_byte=189, crossline_byte=193)
    require_each_trace_once(geometry, numbers)
    for axis, number in ((geometry.inlines, 0), (geometry.crosslines, 1)):
        assert (axis.first, axis.last) == (min(pair[number] for pair in numbers), max(pair[number] for pair in numbers))


@pytest.mark.parametrize("name", ["regular", "reversed", "shuffled", "ragged", "decimated", "missing lines"])
def test_surveys_of_every_kind_are_grids(tmp_path: Path, name: str) -> None:
    pairs = {
        "regular": REGULAR,
        "reversed": REGULAR[::-1],
        "shuffled": [REGULAR[place] for place in RNG.permutation(len(REGULAR))],
        "ragged": [pair for pair in REGULAR if pair[1] < 2 * pair[0] + 2],
        "decimated": [(4 * inline, 3 * crossline) for inline, crossline in REGULAR],
        "missing lines": [pair for pair in REGULAR if pair[0] not in (12, 13)],
    }[name]
    geometry = find_geometry(survey(tmp_path, pairs))
    require_each_trace_once(geometry, pairs)
    step = (4, 3) if name == "decimated" else (1, 1)
    assert geometry.kind == "3-D"
    assert (geometry.inlines, geometry.crosslines) == (Axis(10 * step[0], step[0], 8), Axis(20 * step[1], step[1], 9))
    assert (geometry.inline_byte, geometry.crossline_byte) == (189, 193)
    assert f"{len(pairs)} of 72 places filled" in geometry.reason
    assert geometry.warnings == ()


def test_of_several_traces_at_a_place_the_first_live_one_is_read_and_the_others_are_remembered(tmp_path: Path) -> None:
    # Rows 72 to 75: two more of row 3, whose own trace is dead, and copies of rows 0 and 5.
    pairs = [*REGULAR, REGULAR[3], REGULAR[3], REGULAR[0], REGULAR[5]]
    kinds = {3: 2, 5: 3, 75: 2}
    headers = [{(189, 4): pair[0], (193, 4): pair[1], (29, 2): kinds.get(row, 1)} for row, pair in enumerate(pairs)]
    geometry = find_geometry(with_headers(tmp_path, headers))
    require_each_trace_once(geometry, pairs)
    assert geometry.trace_rows.ravel()[[0, 3, 5]].tolist() == [0, 72, 5]
    assert geometry.duplicates.tolist() == [[3, 72], [73, 72], [74, 0], [75, 5]]
    assert np.flatnonzero(geometry.is_dead.ravel()).tolist() == [5]
    assert np.flatnonzero(~geometry.is_live.ravel()).tolist() == [5]
    assert "4 traces have the place of another, e.g. trace 4 that of trace 73" in geometry.warnings[0]


@pytest.mark.parametrize("places", [(9, 21), (5, 21), (17, 25), (181, 185)])
@pytest.mark.parametrize("standard", [0, 7])
def test_line_numbers_are_found_where_programs_put_them(tmp_path: Path, places: tuple[int, int], standard: int) -> None:
    counter = {(13, 4): 0}
    headers = [
        counter
        | {(5, 4): row + 1, (1, 4): row + 1, (189, 4): standard, (193, 4): standard}
        | {(places[0], 4): pair[0], (places[1], 4): pair[1]}
        for row, pair in enumerate(REGULAR)
    ]
    geometry = find_geometry(with_headers(tmp_path, headers))
    assert (geometry.inline_byte, geometry.crossline_byte) == places
    require_each_trace_once(geometry, REGULAR)
    assert "the fullest grid" in geometry.reason
    assert geometry.tried[0].startswith(f"bytes 189 and 193 (inlines {standard}, crosslines {standard}): they are the")
    assert all(str(places[0]) in geometry.reason for _ in geometry.tried)
    # Where the standard has coordinates a person should look.
    is_odd = places == (181, 185)
    assert [("where the standard has X and Y" in warning) for warning in geometry.warnings] == [True] * is_odd


def test_line_numbers_that_the_text_names_are_tried(tmp_path: Path) -> None:
    lines = ["C 1 INLINE: BYTES 41-44", "C 2 Xline number    : bytes 61-64"]
    text = "".join(line.ljust(80) for line in lines).ljust(3200).encode("cp037")
    traces = [Trace([1.0], fields={(41, 4): inline, (61, 4): crossline}) for inline, crossline in REGULAR]
    geometry = find_geometry(open_segy(write(tmp_path, fake_segy(traces, text=text))))
    assert (geometry.inline_byte, geometry.crossline_byte) == (41, 61)


@pytest.mark.parametrize(
    ("lines", "pair"),
    [
        (["C37 INLINE: 189, XLINE: 193,"], (189, 193)),
        (["In-line number  : bytes 5-8", "Cross-line number: bytes 21-24"], (5, 21)),
        (["IL at 9", "XL at 21"], (9, 21)),
        (["    inlines:    111 .. 133", "    crosslines: 875 .. 892"], None),
        (["Inline 9"], None),
        ([], None),
    ],
)
def test_text_that_names_bytes_is_understood(lines: list[str], pair: tuple[int, int] | None) -> None:
    assert pair_in_text(lines) == pair


def test_bytes_can_be_given(tmp_path: Path) -> None:
    headers = [{(189, 4): pair[0], (193, 4): pair[1], (41, 4): pair[1], (61, 4): 2 * pair[0]} for pair in REGULAR]
    segy = with_headers(tmp_path, headers)
    geometry = find_geometry(segy, inline_byte=41, crossline_byte=61)
    assert (geometry.inlines, geometry.crosslines) == (Axis(20, 1, 9), Axis(20, 2, 8))
    assert find_geometry(segy, crossline_byte=41).crossline_byte == 41
    for inline_byte, crossline_byte in ((0, 193), (238, 1000), (-5, 0)):
        with pytest.raises(InputError, match="expected a byte of the trace header from 1 to 237"):
            find_geometry(segy, inline_byte=inline_byte, crossline_byte=crossline_byte)


@pytest.mark.parametrize(("constant", "kind"), [(0, "one inline"), (1, "one crossline")])
@pytest.mark.parametrize("value", [0, 500])
def test_a_single_line_of_a_survey_is_a_grid_of_one_line(tmp_path: Path, constant: int, kind: str, value: int) -> None:
    pairs = [(value, 3 * number) if constant == 0 else (3 * number, value) for number in range(1, 31)]
    geometry = find_geometry(survey(tmp_path, pairs))
    require_each_trace_once(geometry, pairs)
    assert geometry.kind == kind
    assert geometry.shape == ((1, 30) if constant == 0 else (30, 1))


def test_a_line_without_line_numbers_goes_by_its_cdps_or_else_by_its_traces(tmp_path: Path) -> None:
    cdps = [100 + 2 * row + (row > 20) * 2 for row in range(40)]
    geometry = find_geometry(with_headers(tmp_path, [{(21, 4): cdp} for cdp in cdps]))
    assert (geometry.kind, geometry.inlines, geometry.crosslines) == ("2-D line", Axis(0, 1, 1), Axis(100, 2, 41))
    assert geometry.trace_rows[0, 20:23].tolist() == [20, NO_TRACE, 21]
    assert geometry.crossline_byte == 21
    for cdps in ([0] * 40, [1, 10**9] * 20, [1, *range(10**6, 10**6 + 39)]):
        geometry = find_geometry(with_headers(tmp_path, [{(21, 4): cdp} for cdp in cdps]))
        assert (geometry.crosslines, geometry.crossline_byte) == (Axis(1, 1, 40), None)
        assert geometry.trace_rows.tolist() == [list(range(40))]
        assert "numbered as they come" in geometry.reason


def test_a_line_whose_shot_points_stand_twice_goes_by_its_cdps(tmp_path: Path) -> None:
    headers = [{(193, 4): 500 + row // 2, (21, 4): 1 + row} for row in range(40)]
    geometry = find_geometry(with_headers(tmp_path, headers))
    assert (geometry.kind, geometry.crosslines, geometry.crossline_byte) == ("2-D line", Axis(1, 1, 40), 21)
    assert geometry.trace_rows.tolist() == [list(range(40))]
    assert not len(geometry.duplicates)
    # Without CDPs a place with two traces is more than none.
    geometry = find_geometry(with_headers(tmp_path, [{(193, 4): 500 + row // 2} for row in range(40)]))
    assert (geometry.kind, geometry.crosslines) == ("one inline", Axis(500, 1, 20))


def test_a_line_across_a_survey_is_a_line(tmp_path: Path) -> None:
    geometry = find_geometry(survey(tmp_path, [(100 + number, 900 - 2 * number // 3) for number in range(60)]))
    assert (geometry.kind, geometry.shape) == ("2-D line", (1, 60))
    assert "follow one path across the survey" in geometry.reason


def test_a_file_of_a_single_trace_is_a_grid_of_one_place(tmp_path: Path) -> None:
    for pair in ((0, 0), (5, -7), (2**31 - 1, -(2**31))):
        geometry = find_geometry(survey(tmp_path, [pair]))
        assert (geometry.kind, geometry.shape) == ("one trace", (1, 1))
        assert (geometry.inlines.first, geometry.crosslines.first) == pair
        assert geometry.trace_rows.tolist() == [[0]]


SCATTERED = [(int(inline), int(crossline)) for inline, crossline in RNG.integers(-(2**31), 2**31, (50, 2))]
ABSURD = {
    "two": [(1, 1), (1_000_000_000, 1)],
    "two apart": [(1, 1), (1_000_000_000, 1_000_000_000)],
    "one far off": [*REGULAR, (1_000_000_000, 20)],
    "scattered": SCATTERED,
    "a corner too far": [*REGULAR, (9000, 9000)],
    "gathers": REGULAR[:6] * 10,
}


@pytest.mark.parametrize("name", ABSURD)
@pytest.mark.parametrize("is_named", [False, True])
def test_numbers_that_make_no_grid_are_refused_before_any_memory_is_taken(
    tmp_path: Path, name: str, is_named: bool
) -> None:
    segy = survey(tmp_path, ABSURD[name])
    asked = {"inline_byte": 189, "crossline_byte": 193} if is_named else {}
    tracemalloc.start()
    with pytest.raises(InputError, match="expected line numbers that make a grid, found inlines") as caught:
        find_geometry(segy, **asked)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2_000_000
    assert "--inline-byte" in str(caught.value)


def headers_of(pairs: Sequence[tuple[int, int]], *, kind: int = 1) -> list[dict[tuple[int, int], int]]:
    return [{(189, 4): inline, (193, 4): crossline, (29, 2): kind} for inline, crossline in pairs]


FAR = [(2000 + inline, 5000 + crossline) for inline in range(20) for crossline in range(20)]


@pytest.mark.parametrize("is_named", [False, True])
def test_a_dummy_far_from_all_traces_makes_no_lines(tmp_path: Path, is_named: bool) -> None:
    segy = with_headers(tmp_path, [*headers_of(FAR), *headers_of([(0, 0)], kind=3)])
    geometry = find_geometry(segy, **({"inline_byte": 189, "crossline_byte": 193} if is_named else {}))
    assert (geometry.inlines, geometry.crosslines) == (Axis(2000, 1, 20), Axis(5000, 1, 20))
    assert geometry.is_live.all()
    assert geometry.duplicates.tolist() == [[400, NO_TRACE]]
    assert "1 dead traces lie far from all others, e.g. trace 401 (inline 0, crossline 0)" in geometry.warnings[0]


def test_a_few_lines_of_a_great_survey_lie_among_its_lines(tmp_path: Path) -> None:
    pairs = [(0, 0), (1499, 1), (2999, 699)]
    segy = survey(tmp_path, pairs)
    with pytest.raises(InputError, match="2100000 places, and there are 3 traces"):
        find_geometry(segy)
    geometry = lay_on(segy, (189, 193), inlines=Axis(0, 1, 3000), crosslines=Axis(0, 1, 700))
    assert [tuple(place) for place in np.argwhere(geometry.trace_rows != NO_TRACE).tolist()] == pairs
    with pytest.raises(InputError, match=r"crosslines of the survey \(0 to 698\), found 1 others \(699\)"):
        lay_on(segy, (189, 193), inlines=Axis(0, 1, 3000), crosslines=Axis(0, 1, 699))


def test_dead_traces_around_a_survey_have_their_lines(tmp_path: Path) -> None:
    inner = [pair for pair in REGULAR if 12 <= pair[0] < 15 and 23 <= pair[1] < 26]
    outer = [pair for pair in REGULAR if pair not in inner]
    geometry = find_geometry(with_headers(tmp_path, [*headers_of(inner), *headers_of(outer, kind=2)]))
    assert (geometry.inlines, geometry.crosslines) == (Axis(10, 1, 8), Axis(20, 1, 9))
    assert (geometry.is_live.sum(), len(geometry.duplicates)) == (9, 0)


def test_a_live_trace_far_from_the_others_is_named(tmp_path: Path) -> None:
    near = [(inline - 1900, crossline - 4700) for inline, crossline in FAR]
    (warning,) = find_geometry(with_headers(tmp_path, headers_of([*near, (0, 0)]))).warnings
    assert "1.0% of the 38400 places of the grid have a trace" in warning
    assert "trace 401 lies far from the others (inline 0, crossline 0): leave it out" in warning
    with pytest.raises(InputError, match=r"10140400 places, and there are 401 traces; trace 401 lies far"):
        find_geometry(with_headers(tmp_path, headers_of([*FAR, (0, 0)])))


def test_coordinates_are_scaled_and_absent_where_there_are_none(tmp_path: Path) -> None:
    pairs = [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2)]
    scalars = [0, 10, -100, 1, -1]
    headers = [
        {(189, 4): pair[0], (193, 4): pair[1], (71, 2): scalar, (181, 4): 1234567, (185, 4): -89}
        for pair, scalar in zip(pairs, scalars, strict=True)
    ]
    headers[3] |= {(181, 4): 0, (185, 4): 0}
    segy = with_headers(tmp_path, headers)
    x, y = coordinates(segy, find_geometry(segy))
    assert x[[0, 0, 1, 2], [0, 1, 0, 1]].tolist() == [1234567, 12345670, 12345.67, 1234567]
    assert y[[0, 0, 1, 2], [0, 1, 0, 1]].tolist() == [-89, -890, -0.89, -89]
    assert np.argwhere(np.isnan(x)).tolist() == np.argwhere(np.isnan(y)).tolist() == [[1, 1], [2, 0]]


def test_coordinates_of_sources_stand_in_where_cdps_have_none(tmp_path: Path) -> None:
    headers = [{(189, 4): pair[0], (193, 4): pair[1], (73, 4): pair[0], (77, 4): 5} for pair in REGULAR]
    segy = with_headers(tmp_path, headers)
    geometry = find_geometry(segy)
    x, y = coordinates(segy, geometry)
    assert np.array_equal(x, np.broadcast_to(geometry.inlines.numbers[:, None], geometry.shape))
    assert (y == 5).all()


def test_real_surveys_have_the_grids_that_their_texts_and_names_say(segy_folder: Path) -> None:
    for name, kind, shape, num_live in (
        ("f3.sgy", "3-D", (23, 18), 414),
        ("f3-withdead.sgy", "3-D", (23, 18), 239),
        ("volve10r12-full-twt-arb.sgy", "2-D line", (1, 225), 225),
    ):
        segy = open_segy(segy_folder / name)
        geometry = find_geometry(segy)
        assert (geometry.kind, geometry.shape, geometry.is_live.sum()) == (kind, shape, num_live)
        x, y = coordinates(segy, geometry)
        assert np.array_equal(np.isfinite(x), geometry.is_live)
        assert np.array_equal(np.isfinite(y), geometry.is_live)
    # "X min: 434245.37 max: 436301.04, Y min: 6477564.74" in its text.
    assert (np.nanmin(x), np.nanmax(x), np.nanmin(y)) == (434245.37, 436301.04, 6477564.74)
