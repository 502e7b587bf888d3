"""Lines to label: the newest, or the most disputed, and never three neighbours."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from diapir.data.statistics import tile_statistics
from diapir.faults import InputError
from diapir.volume import gate_lines
from diapir.volume.gate_lines import LineToLabel, disputed_lines, novel_lines, novelty
from diapir.volume.gate_sampling import LineStatistics
from diapir.volume.line_numbers import DIRECTIONS, Axis
from diapir.volume.store import Grid
from fake_gate_stores import amplitude_store, salt_store, smooth_tiles

GRID = Grid(Axis(100, 2, 50), Axis(300, 1, 60), 120, 0.0, 4.0, "ms")
TRAINING = tile_statistics(smooth_tiles(8, seed=0))


def usual_lines() -> list[LineStatistics]:
    numbers = {"inline": range(100, 200, 10), "crossline": range(300, 360, 6)}
    return [
        LineStatistics(along, number, tile_statistics(smooth_tiles(3, seed=number)))
        for along in DIRECTIONS
        for number in numbers[along]
    ]


def are_apart(lines: tuple[LineToLabel, ...], shares: dict[str, float]) -> bool:
    return all(
        one.along != other.along or abs(one.number - other.number) >= shares[one.along]
        for one, other in combinations(lines, 2)
    )


def test_nothing_is_new_to_itself_and_what_is_stranger_is_newer() -> None:
    assert novelty(TRAINING, TRAINING) == pytest.approx(0, abs=1e-6)
    usual, other = tile_statistics(smooth_tiles(8, seed=1)), tile_statistics(smooth_tiles(8, seed=1, waves=(4, 6)))
    assert novelty(usual, TRAINING) < 1 < novelty(other, TRAINING)


def test_the_newest_lines_are_chosen_apart_from_each_other() -> None:
    lines = usual_lines()
    for row, waves in ((3, (5.0, 3.0)), (8, (5.0, 3.2)), (15, (2.0, 8.0))):
        lines[row] = lines[row]._replace(tiles=tile_statistics(smooth_tiles(3, seed=row, waves=waves)))
    chosen = novel_lines(lines, TRAINING, grid=GRID)
    assert len(chosen) == 3
    assert {(line.along, line.number) for line in chosen} >= {("crossline", lines[15].number)}
    # Of two that are new in the same way, one is enough.
    assert len({("inline", lines[3].number), ("inline", lines[8].number)} & {(c.along, c.number) for c in chosen}) == 1
    assert are_apart(chosen, {"inline": 98 / 6, "crossline": 59 / 6})


def test_fewer_lines_are_named_where_there_are_no_more() -> None:
    lines = usual_lines()[:1]
    assert [line.number for line in novel_lines(lines, TRAINING, grid=GRID)] == [100]
    assert novel_lines([], TRAINING, grid=GRID) == ()


def test_the_most_disputed_lines_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_lines, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    disagreement = rng.uniform(0, 0.1, (50, 60, 20)).astype(np.float32)
    live = rng.random((50, 60)) < 0.8
    disagreement[~live] = 0.5
    disagreement[20] += 0.3
    disagreement[22] += 0.2
    disagreement[:, 41] += 0.2
    store = salt_store(tmp_path / "salt", disagreement, live=live)
    chosen = disputed_lines(store)
    assert [(line.along, line.number) for line in chosen[:2]] == [("inline", 140), ("crossline", 341)]
    stored = disagreement.astype(np.float16).astype(np.float64)
    assert chosen[0].gain == pytest.approx(stored[20][live[20]].mean(), rel=1e-6)
    assert chosen[1].gain == pytest.approx(stored[:, 41][live[:, 41]].mean(), rel=1e-6)
    assert are_apart(chosen, {"inline": 98 / 6, "crossline": 59 / 6})
    assert "inline 140 (mean disagreement" in str(chosen[0])


def test_lines_of_few_live_traces_are_not_worth_labelling(tmp_path: Path) -> None:
    live = np.ones((30, 40), np.bool_)
    live[12, 3:] = False
    disagreement = np.zeros((30, 40, 5), np.float32)
    disagreement[12] = 1
    chosen = disputed_lines(salt_store(tmp_path / "salt", disagreement, live=live))
    assert len(chosen) == 3
    assert ("inline", 124) not in {(line.along, line.number) for line in chosen}


def test_of_a_single_line_no_trace_is_a_section(tmp_path: Path) -> None:
    chosen = disputed_lines(salt_store(tmp_path / "salt", np.ones((1, 40, 5), np.float32)))
    assert [(line.along, line.number) for line in chosen] == [("inline", 100)]


def test_only_what_segmenting_wrote_has_disagreement(tmp_path: Path) -> None:
    store = amplitude_store(tmp_path / "store", np.ones((8, 8, 8), np.float32))
    with pytest.raises(InputError, match="with disagreement"):
        disputed_lines(store)
