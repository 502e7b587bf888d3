"""Runs and stores that several tests of review look at; copied where they are changed."""

import shutil
from pathlib import Path

import pytest

from fake_review import write_survey, write_survey_run, write_tile_run


@pytest.fixture(scope="session")
def made_review(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey, its salt, a run on it and a run of tiles. Not to be changed."""
    folder = tmp_path_factory.mktemp("review")
    write_survey(folder)
    write_survey_run(folder)
    write_tile_run(folder)
    return folder


@pytest.fixture
def review(made_review: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made_review, tmp_path / "review"))
