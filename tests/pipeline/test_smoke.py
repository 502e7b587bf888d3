"""Every recipe in recipes/ runs from tiles to submission, each of its steps, at the smallest size."""

import shutil
from pathlib import Path

import pytest

from diapir.pipeline.run import run_recipe
from diapir.predict.submission import read_submission
from diapir.recipe.files import read_recipe
from diapir.recipe.smoke import LABELLED, UNLABELLED, smoke_recipe
from diapir.runs import read_json

RECIPES = sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_from_end_to_end(path: Path, tmp_path: Path) -> None:
    recipe = smoke_recipe(read_recipe(path), smallest=True)
    record = run_recipe(recipe, tmp_path / "run", data_path=None)
    assert record["score_kind"].startswith(f"mean over {LABELLED // 2} held-out tiles")
    assert len(read_submission(tmp_path / "run" / "submission.csv").texts) == UNLABELLED
    for step in recipe.all_steps:
        assert read_json(tmp_path / "run" / step.name / "step.json")["finished"], step.name
    shutil.rmtree(tmp_path / "run")  # gigabytes, which pytest would keep
