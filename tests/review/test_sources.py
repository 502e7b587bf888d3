"""What a person names is told apart, paired, and refused with every fault."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import write_data
from diapir.faults import InputError
from diapir.pipeline.run import run_recipe
from diapir.review.sources import open_sources
from diapir.runs import read_json, write_json
from fake_salt import write_salt
from fake_stores import fake_store
from fake_training import tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (20, 18, 12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run_recipe(tiny_run_recipe(), folder, data_path=None)
    return folder


def amplitude() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"amplitude": np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)}


def found(seed: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float16]]]:
    return {"probability": np.random.default_rng(seed).random(SHAPE).astype(np.float16)}


def test_salt_goes_with_the_survey_that_it_was_found_in(tmp_path: Path) -> None:
    fake_store(tmp_path / "a.zarr", amplitude(), digest="1" * 64)
    fake_store(tmp_path / "b.zarr", amplitude(), digest="2" * 64)
    fake_store(tmp_path / "salt.zarr", found(1), digest="2" * 64)
    fake_store(tmp_path / "stranger.zarr", found(1), digest="3" * 64)
    surveys = open_sources([tmp_path / name for name in ("salt.zarr", "a.zarr", "stranger.zarr", "b.zarr")]).surveys
    assert {name: (each.survey is not None, each.salt is not None) for name, each in surveys.items()} == {
        "a.zarr": (True, False),
        "b.zarr": (True, True),
        "stranger.zarr": (False, True),
    }
    assert surveys["b.zarr"].store_of("probability") is surveys["b.zarr"].salt
    assert surveys["a.zarr"].store_of("probability") is None


def test_two_finds_in_one_survey_are_shown_each_by_its_own_name(tmp_path: Path) -> None:
    fake_store(tmp_path / "survey.zarr", amplitude())
    for number in (1, 2):
        fake_store(tmp_path / f"salt{number}.zarr", found(number))
    surveys = open_sources([tmp_path / name for name in ("survey.zarr", "salt1.zarr", "salt2.zarr")]).surveys
    assert list(surveys) == ["salt1.zarr", "salt2.zarr"]
    assert all(each.survey is not None and each.salt is not None for each in surveys.values())


def test_salt_on_another_grid_is_refused(tmp_path: Path) -> None:
    fake_store(tmp_path / "survey.zarr", amplitude())
    write_salt(tmp_path / "salt.zarr", found(1)["probability"], facts={"digest": "0" * 64})
    with pytest.raises(InputError, match=r"salt\.zarr: expected the grid of"):
        open_sources([tmp_path / "survey.zarr", tmp_path / "salt.zarr"])


def test_folders_of_one_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "other" / run.name)
    sources = open_sources([run, tmp_path / "other" / run.name])
    assert [(name, each.name) for name, each in sources.runs.items()] == [("tiny", "tiny"), ("tiny-2", "tiny-2")]
    assert sources.models == {"tiny": run, "tiny-2": tmp_path / "other" / run.name}


def test_prepared_tiles_go_to_the_run_that_was_made_of_them(tmp_path: Path) -> None:
    data, _ = make_synthetic(labelled=20, unlabelled=2, seed=5)
    write_data(data, tmp_path / "tiles")
    recipe = tiny_run_recipe({"data": {}})
    run_recipe(recipe, tmp_path / "run", data_path=tmp_path / "tiles")
    assert open_sources([tmp_path / "tiles", tmp_path / "run"]).runs["run"].data_path == tmp_path / "tiles"
    alone = open_sources([tmp_path / "run"]).runs["run"]
    assert alone.data_path is None
    assert not alone.has_tiles


def test_a_run_whose_record_says_nothing_of_its_data_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    record = read_json(tmp_path / "run" / "record.json")
    for data in json.loads('[-1, [], "x"]'):
        write_json(tmp_path / "run" / "record.json", record | {"data": data})
        with pytest.raises(InputError, match=r"record\.json: expected under 'data' what a run writes there"):
            open_sources([tmp_path / "run"])


def test_every_fault_is_told_at_once(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run / "recipe.yaml", begun)
    with pytest.raises(InputError) as error:
        open_sources([tmp_path / "empty", tmp_path / "file", tmp_path / "none", begun, run, run, run.parent])
    told = "\n".join(map(str, error.value.faults))
    for words in (
        "empty: expected the folder of a finished run, a bundle,",
        "found a file",
        "found nothing there",
        "begun: expected the folder of a finished run or a bundle, found no record.json",
        "expected each folder once",
        f"there are some in it, name {run}",
    ):
        assert words in told
    assert len(error.value.faults) == 6
