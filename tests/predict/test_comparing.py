from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diapir.data.tiles import UNKNOWN, TileSet
from diapir.faults import InputError
from diapir.predict.comparing import HELD_OUT, boundary_px, compare_runs, what_differs, write_held_out
from diapir.recipe.files import write_recipe
from diapir.runs import write_json, write_text
from fake_training import tiny_recipe

COUNT = 60


def tiles(ids: range = range(COUNT)) -> TileSet:
    masks = np.zeros((len(ids), 101, 101), np.uint8)
    for row, name in enumerate(ids):
        masks[row, :name] = 1
    depths_m = np.array([100.0 if name % 2 else 300.0 for name in ids], np.float32)
    return TileSet(tuple(f"{name:04d}" for name in ids), np.zeros_like(masks), masks, depths_m)


def write_run(folder: Path, scores: np.ndarray[Any, Any], *, changes: dict[str, Any] | None = None) -> Path:
    write_held_out(folder / HELD_OUT, tiles(), scores)
    write_text(folder / "recipe.yaml", write_recipe(tiny_recipe(changes)))
    write_json(folder / "record.json", {"data": {"digest": "a"}, "provenance": {"cores": 2, "processor": "p"}})
    return folder


@pytest.fixture
def scores() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 11, COUNT) / 10


def test_a_boundary_is_as_long_as_the_sides_between_salt_and_none() -> None:
    masks = np.zeros((3, 6, 6), np.uint8)
    masks[1, 2:4, 2:4] = 1
    masks[2, :3] = 1
    assert boundary_px(masks).tolist() == [0, 8, 6]


def test_a_run_does_not_differ_from_itself(tmp_path: Path, scores: np.ndarray[Any, Any]) -> None:
    run = write_run(tmp_path / "run", scores)
    for each in compare_runs(run, run):
        assert (each.gain.difference, each.gain.low, each.gain.high, each.least_visible) == (0, 0, 0, 0) or (
            each.num_tiles == 1
        )
    assert what_differs(run, run) == ["recipe: the same", "data: the same", "environment: the same"]


def test_a_constant_gain_is_found_to_the_digit_in_every_group(tmp_path: Path, scores: np.ndarray[Any, Any]) -> None:
    first, second = write_run(tmp_path / "one", scores / 2), write_run(tmp_path / "two", scores / 2 + 0.25)
    found = {each.name: each for each in compare_runs(first, second)}
    assert all(each.gain.difference == pytest.approx(0.25) for each in found.values())
    assert found["all"].num_tiles == COUNT
    assert found["depth 0 to 200 m"].num_tiles == found["depth 200 to 400 m"].num_tiles == COUNT / 2
    by_class = [each.num_tiles for name, each in found.items() if name.startswith("coverage")]
    assert sum(by_class) == COUNT
    boundary = {name: each.num_tiles for name, each in found.items() if name.startswith("boundary")}
    assert boundary == {"boundary 100 to 149 px": COUNT - 1}


def test_the_least_visible_difference_shrinks_with_the_root_of_the_tiles(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, COUNT)
    first, second = write_run(tmp_path / "one", np.full(COUNT, 0.5)), write_run(tmp_path / "two", 0.5 + noise)
    all_tiles = compare_runs(first, second)[0]
    assert all_tiles.least_visible == pytest.approx(2.802 * noise.std(ddof=1) / np.sqrt(COUNT), rel=1e-4)


def test_what_differs_names_the_setting_and_both_values(tmp_path: Path, scores: np.ndarray[Any, Any]) -> None:
    first = write_run(tmp_path / "one", scores)
    second = write_run(tmp_path / "two", scores, changes={"stages.1.optimiser.lr": 0.5})
    assert "recipe stages.1.optimiser.lr: 0.003 -> 0.5" in what_differs(first, second)


def test_runs_that_cannot_be_compared_say_why(tmp_path: Path, scores: np.ndarray[Any, Any]) -> None:
    run, other = write_run(tmp_path / "run", scores), tmp_path / "other"
    with pytest.raises(InputError, match=r"found no held-out\.csv"):
        compare_runs(run, tmp_path / "nothing")
    write_held_out(other / HELD_OUT, replace(tiles(), ids=tuple(f"x{n}" for n in range(COUNT))), scores)
    with pytest.raises(InputError, match="found none in common"):
        compare_runs(run, other)
    depth = "id,depth_m,coverage_class,boundary_px,score\na,deep,1,2,0.5\n"
    for text in ("id,score\na,b\n", depth):
        (other / HELD_OUT).write_text(text)
        with pytest.raises(InputError, match="cannot be read"):
            compare_runs(run, other)


def test_a_boundary_is_between_pixels_that_are_known() -> None:
    masks = np.zeros((1, 4, 4), np.uint8)
    masks[0, :2], masks[0, :, 3] = 1, UNKNOWN
    assert boundary_px(masks).tolist() == [3]
