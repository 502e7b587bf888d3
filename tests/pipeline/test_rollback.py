"""A round of pseudo-labels taken out of a run again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from diapir.cli import app
from diapir.faults import InputError
from diapir.pipeline import training
from diapir.pipeline.rollback import plan_rollback, roll_back, rollback_text
from diapir.pipeline.run import run_recipe
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.runs import read_json
from fake_training import TINY, tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST: list[dict[str, Any]] = [
    {"do": "train", "name": "teacher"},
    {"do": "predict", "name": "teacher-says", "of": "teacher"},
]
ROUND: list[dict[str, Any]] = [
    {"do": "pseudo-label", "name": "round-1", "of": "teacher-says", "confidence": 0.0},
    {"do": "train", "name": "student", "tiles": ["labelled", "round-1"]},
    {"do": "predict", "name": "student-says", "of": "student"},
    {"do": "blend", "name": "both", "of": ["teacher-says", "student-says"]},
]
RESULTS = ("submission.csv", "tiles.png", "held-out.csv", "recipe.yaml")


def recipe(*steps: dict[str, Any]) -> Recipe:
    stages = [{**TINY["stages"][0], "epochs": 1, "framing": {"method": "resize", "size": 32}}]
    return tiny_run_recipe({"folds.held_out": [], "stages": stages, "steps": list(steps)})


BEFORE = recipe(*FIRST, {"do": "submit", "of": "teacher-says"})
AFTER = recipe(*FIRST, *ROUND, {"do": "submit", "of": "both"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run before the round, and a copy that went on with it."""
    before, after = (tmp_path_factory.mktemp("runs") / name for name in ("before", "after"))
    run_recipe(BEFORE, before, data_path=None)
    shutil.copytree(before, after)
    run_recipe(AFTER, after, data_path=None, update=True)
    return before, after


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_the_earlier_rounds_submission_and_record_are_the_runs_again(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = runs
    run = shutil.copytree(after, tmp_path / "run")
    monkeypatch.setattr(training, "fit_fold", lambda *_, **__: pytest.fail("nothing is to be trained"))
    roll_back(plan_rollback(run, "round-1", data_path=None), data_path=None)
    for name in RESULTS:
        assert (run / name).read_bytes() == (before / name).read_bytes(), name
    assert read_recipe(run / "recipe.yaml") == BEFORE
    # The predictions of every fold are still there, which the earlier run did without: that is the identity.
    earlier, later, now = (read_json(folder / "record.json") | {"identity": ""} for folder in (before, after, run))
    assert now == earlier != later
    assert run_recipe(BEFORE, run, data_path=None) == read_json(run / "record.json")
    kept = {path.name for path in run.iterdir() if path.is_dir()}
    assert kept == {"teacher", "teacher-says", "submit", "rolled_back"}


def test_what_was_dropped_can_be_moved_back(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[1], tmp_path / "run")
    planned = plan_rollback(run, "round-1", data_path=None)
    assert planned.aside == run / "rolled_back" / "round-1-1"
    answer = CliRunner().invoke(app, ["rollback", str(run), "round-1"])
    assert answer.exit_code == 0
    assert str(planned.aside) in answer.stdout
    assert str(run / "submission.csv") in answer.stdout
    assert (planned.aside / "round-1" / "audit.csv").exists()
    for path in planned.aside.iterdir():
        if path.is_dir() and (run / path.name).exists():
            shutil.rmtree(run / path.name)
        path.rename(run / path.name)
    shutil.rmtree(run / "rolled_back")
    assert contents(run) == contents(runs[1])


def test_the_plan_names_what_goes_and_changes_nothing(runs: tuple[Path, Path]) -> None:
    files = contents(runs[1])
    planned = plan_rollback(runs[1], "round-1", data_path=None)
    assert planned.dropped == ("round-1", "student", "student-says", "both")
    assert {one.step.name: one.state for one in planned.left} == {
        "teacher": "done", "teacher-says": "done", "submit": "changed",
    }  # fmt: skip
    text = rollback_text(planned)
    assert "round-1, student, student-says, both" in text
    assert "submitted   from teacher-says" in text
    assert contents(runs[1]) == files


def test_what_was_changed_since_it_was_planned_is_left_alone(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[1], tmp_path / "run")
    planned = plan_rollback(run, "round-1", data_path=None)
    (run / "submit" / "step.json").unlink()
    files = contents(run)
    with pytest.raises(InputError, match="it was changed since rolling back was planned"):
        roll_back(planned, data_path=None)
    assert contents(run) == files


def test_an_unfinished_round_is_rolled_back_too(runs: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = runs
    run = shutil.copytree(after, tmp_path / "run")
    for name in ("record.json", "both", "student-says", "submit", "submission.csv"):
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    roll_back(plan_rollback(run, "round-1", data_path=None), data_path=None)
    assert (run / "submission.csv").read_bytes() == (before / "submission.csv").read_bytes()


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("student", r"expected a pseudo-label step of its recipe \(round-1\), found 'student'"),
        ("round-2", r"expected a pseudo-label step of its recipe \(round-1\), found 'round-2'"),
    ],
)
def test_only_rounds_are_rolled_back(runs: tuple[Path, Path], step: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        plan_rollback(runs[1], step, data_path=None)


def test_a_folder_without_a_run_and_other_data_are_refused(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"expected the folder of a run, found no recipe\.yaml in it"):
        plan_rollback(tmp_path, "round-1", data_path=None)
    run = shutil.copytree(runs[1], tmp_path / "run")
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("labelled: 20", "labelled: 21"))
    with pytest.raises(InputError, match="these are not the data that"):
        plan_rollback(run, "round-1", data_path=None)
