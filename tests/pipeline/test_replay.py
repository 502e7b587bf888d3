from pathlib import Path

import pytest

from diapir.data.synthetic import write_synthetic
from diapir.faults import InputError
from diapir.pipeline.replay import replay_run, replay_text
from diapir.pipeline.run import run_recipe
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
    third = replay_run(run, tmp_path / "again", data_path=None)
    assert third.different == ("submission.csv",)
    assert [each.partition(":")[0] for each in third.changed] == ["cores"]


def test_a_run_is_not_held_against_itself(tmp_path: Path) -> None:
    for name in ("record.json", "recipe.yaml"):
        with pytest.raises(InputError, match=f"found no {name} in it"):
            replay_run(tmp_path, tmp_path, data_path=None)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="expected another folder than the run's own"):
        replay_run(tmp_path, tmp_path / ".", data_path=None)


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
