import shutil
from pathlib import Path

import pytest

from diapir.data.synthetic import make_synthetic, write_synthetic
from diapir.faults import InputError
from diapir.pipeline.replay import replay_run, replay_text
from diapir.pipeline.run import run_recipe
from diapir.predict.comparing import what_differs
from diapir.recipe.smoke import LABELLED, smoke_recipe
from diapir.runs import read_json, write_json
from fake_training import tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_comes_out_the_same_and_what_does_not_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_recipe(tiny_run_recipe(), run, data_path=None)
    again = replay_run(run, tmp_path / "again", data_path=None)
    assert again.different == again.changed == ()
    assert {"submission.csv", "tiles.png", "train/fold-0/weights-last.safetensors", "predict/unlabelled.npy"} <= {
        *again.same
    }
    assert replay_text(again).endswith("what went in is the same")
    (run / "submission.csv").write_text("id,rle_mask\n")
    (run / "rolled_back" / "round-1-1").mkdir(parents=True)
    (run / "rolled_back" / "round-1-1" / "submission.csv").write_text("id,rle_mask\n")
    record = read_json(run / "record.json")
    write_json(run / "record.json", record | {"provenance": record["provenance"] | {"cores": 99}})
    (run / "predict" / "more.npy").touch()
    (run / "strange").mkdir()
    (run / "strange" / "more.npy").touch()
    third = replay_run(run, tmp_path / "third", data_path=None)
    assert third.different == ("submission.csv",)
    assert third.absent == ("predict/more.npy",), "and nothing of folders that no step has"
    assert [each.partition(":")[0] for each in third.changed] == ["environment cores"]
    assert "not made again: predict/more.npy" in replay_text(third)


def test_a_changed_file_that_the_recipe_names_is_told(tmp_path: Path) -> None:
    groups, run = tmp_path / "groups.csv", tmp_path / "run"
    recipe = tiny_run_recipe()
    section = recipe.data.synthetic
    assert section is not None
    data, _ = make_synthetic(labelled=section.labelled, unlabelled=section.unlabelled, seed=section.seed)

    def write_groups(width: int) -> None:
        rows = [f"{tile},{number // width}" for number, tile in enumerate(data.labelled.ids)]
        groups.write_text("\n".join(["id,group", *rows, ""]))

    write_groups(1)
    folds = {"scheme": "groups", "groups": str(groups), "count": 2, "held_out": [0]}
    recipe = tiny_run_recipe({"folds": folds})
    run_recipe(recipe, run, data_path=None)
    write_groups(2)
    again = replay_run(run, tmp_path / "again", data_path=None)
    assert [each.partition(":")[0] for each in again.changed] == [f"files {groups}"]
    assert what_differs(run, tmp_path / "again")[2].startswith(f"files {groups}: ")


def test_a_run_is_done_again_on_as_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = tmp_path / "run", list[object]()
    record = run_recipe(tiny_run_recipe(), run, data_path=None)

    def noting(*_: object, **settings: object) -> dict[str, object]:
        asked.append(settings["threads"])
        return record | {"threads": [2]}

    monkeypatch.setattr("diapir.pipeline.replay.run_recipe", noting)
    found = replay_run(run, tmp_path / "again", data_path=None)
    assert asked == [1]
    assert found.changed == ("environment threads: [1] -> [2]",)


def test_a_run_is_done_again_in_a_folder_of_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_recipe(tiny_run_recipe(), run, data_path=None)
    before = sorted(run.rglob("*"))
    with pytest.raises(InputError, match="expected a place outside of"):
        replay_run(run, run / "again", data_path=None)
    shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(InputError, match="found another run there; name a new one"):
        replay_run(run, tmp_path / "copy", data_path=None)
    assert sorted(run.rglob("*")) == before


def test_a_run_on_named_tiles_is_not_done_again_on_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_recipe(tiny_run_recipe(), run, data_path=None)
    record = read_json(run / "record.json")
    write_json(run / "record.json", record | {"data": record["data"] | {"source": "tgs"}})
    with pytest.raises(InputError, match="it was made of the data set tgs: name that with --data"):
        replay_run(run, tmp_path / "again", data_path=None)
    assert not (tmp_path / "again").exists()


def test_what_a_run_lacks_is_told(tmp_path: Path) -> None:
    for name in ("record.json", "recipe.yaml"):
        with pytest.raises(InputError, match=f"found no {name} in it"):
            replay_run(tmp_path, tmp_path, data_path=None)
        (tmp_path / name).touch()


def test_an_unfinished_run_is_not_replayed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a finished run"):
        replay_run(tmp_path, tmp_path / "again", data_path=None)


def test_a_run_on_a_few_tiles_without_the_faulty_ones_is_replayed_as_it_was(tmp_path: Path) -> None:
    tiles = tmp_path / "tiles"
    write_synthetic(tiles, labelled=14, unlabelled=6, seed=1)
    min((tiles / "train" / "images").iterdir()).write_bytes(b"no picture")
    run = tmp_path / "run"
    record = run_recipe(smoke_recipe(tiny_run_recipe()), run, data_path=tiles, skip_bad=True)
    assert (record["data"]["labelled"], len(record["data"]["skipped"])) == (LABELLED, 1)
    again = replay_run(run, tmp_path / "again", data_path=tiles)
    assert again.different == again.changed == ()
