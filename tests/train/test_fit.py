import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diapir.faults import InputError
from diapir.nets.infer import TileTensors
from diapir.nets.weights import load_tensors
from diapir.recipe.whole import Recipe
from diapir.train import sitting
from diapir.train.checkpoint import NAME, PREVIOUS
from diapir.train.doctor import TrainingFailed
from diapir.train.epoch_log import LOG, read_log
from diapir.train.snapshots import WEIGHTS_BEST, WEIGHTS_LAST
from diapir.train.stop import Stopped
from fake_training import (
    EPOCHS,
    SIDE,
    STEPS,
    STEPS_PER_EPOCH,
    VARYING,
    fit_tiny,
    one_device,
    tiny_fold,
    tiny_recipe,
    tiny_tiles,
)
from killed_training import killed_folders

SIGTERM = 15


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (WEIGHTS_BEST, WEIGHTS_LAST)}


@pytest.fixture(scope="module", params=[False, True], ids=["new_state", "keep_state"])
def keep_state(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def recipe(keep_state: bool) -> Recipe:
    return tiny_recipe({"stages.1.keep_state": keep_state})


@pytest.fixture(scope="module")
def uninterrupted(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    fit_tiny(recipe, folder)
    return folder


def test_the_same_run_gives_the_same_bytes(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    fit_tiny(recipe, tmp_path)
    assert results(tmp_path) == results(uninterrupted)


def test_another_seed_gives_other_bytes(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    fit_tiny(recipe.model_copy(update={"seed": 4}), tmp_path)
    assert results(tmp_path)[WEIGHTS_LAST] != results(uninterrupted)[WEIGHTS_LAST]


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_stop_at_any_step_changes_no_byte(recipe: Recipe, uninterrupted: Path, tmp_path: Path, step: int) -> None:
    taken = [0]
    with pytest.raises(Stopped) as stopped:
        fit_tiny(recipe, tmp_path, stop_asked=lambda: SIGTERM if taken[-1] == step - 1 else None, on_step=taken.append)
    assert stopped.value.signal_number == SIGTERM
    assert taken[-1] == step
    fit_tiny(recipe, tmp_path, on_step=taken.append)
    assert taken == list(range(STEPS + 1)), "no step is lost or taken twice"
    assert results(tmp_path) == results(uninterrupted)


def test_stops_at_all_steps_change_no_byte(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    for _ in range(STEPS):
        with pytest.raises(Stopped):
            fit_tiny(recipe, tmp_path, stop_asked=lambda: SIGTERM)
    fit_tiny(recipe, tmp_path)
    assert results(tmp_path) == results(uninterrupted)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of trainings that were killed again and again."""
    return killed_folders(tmp_path_factory.mktemp("killed"), "new_state/steps", "keep_state/times")


def test_sigkill_at_random_changes_no_byte(keep_state: bool, uninterrupted: Path, killed: Path) -> None:
    assert results(killed / ("keep_state/times" if keep_state else "new_state/steps")) == results(uninterrupted)


def stop_at(recipe: Recipe, folder: Path, step: int) -> None:
    """Train up to a step, with a checkpoint at every step."""
    taken = [0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sitting, "SAVE_EVERY_S", 0.0)
        with pytest.raises(Stopped):
            fit_tiny(
                recipe, folder, stop_asked=lambda: SIGTERM if taken[-1] == step - 1 else None, on_step=taken.append
            )


def test_a_damaged_checkpoint_costs_a_warning_and_no_byte(
    recipe: Recipe, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(recipe, tmp_path, 8)
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    taken: list[int] = []
    fit_tiny(recipe, tmp_path, on_step=taken.append)
    told = capsys.readouterr().err
    assert told.startswith("warning: ")
    assert NAME in told
    assert PREVIOUS in told
    assert taken[0] == 8, "the previous state is that of step 7"
    assert results(tmp_path) == results(uninterrupted)


def test_without_one_good_checkpoint_nothing_is_trained(recipe: Recipe, tmp_path: Path) -> None:
    stop_at(recipe, tmp_path, 8)
    for name in (NAME, PREVIOUS):
        (tmp_path / name).write_bytes(b"cut off")
    with pytest.raises(InputError, match="no checkpoint can be read"):
        fit_tiny(recipe, tmp_path)


def test_a_checkpoint_of_another_run_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    stop_at(recipe, tmp_path, 2)
    with pytest.raises(InputError, match="another recipe, data set or fold"):
        fit_tiny(recipe, tmp_path, fold=replace(tiny_fold(recipe), identity="other data"))


def test_a_finished_fold_is_not_trained_again(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    taken: list[int] = []
    fit_tiny(recipe, folder, on_step=taken.append)
    assert taken == []
    assert results(folder) == results(uninterrupted)
    assert not list(folder.glob("*checkpoint*")), "several times the size of the weights, and of no more use"
    with pytest.raises(InputError, match="another recipe, data set or fold"):
        fit_tiny(recipe, folder, fold=replace(tiny_fold(recipe), identity="other data"))


def test_the_log_has_a_line_an_epoch(recipe: Recipe, uninterrupted: Path) -> None:
    lines = (uninterrupted / LOG).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == read_log(uninterrupted)
    assert [(record["stage"], record["epoch"]) for record in records] == [
        (stage.name, epoch) for stage in recipe.stages for epoch in range(1, stage.epochs + 1)
    ]
    assert [record["total_epochs"] for record in records] == list(range(1, EPOCHS + 1))


def test_the_log_of_an_interrupted_run_is_that_of_an_uninterrupted_one(
    recipe: Recipe, uninterrupted: Path, tmp_path: Path
) -> None:
    stop_at(recipe, tmp_path, STEPS_PER_EPOCH + 1)
    fit_tiny(recipe, tmp_path)

    def timeless(folder: Path) -> list[dict[str, object]]:
        return [{key: value for key, value in line.items() if key not in VARYING} for line in read_log(folder)]

    assert timeless(tmp_path) == timeless(uninterrupted)


def test_the_best_weights_are_those_of_the_best_score(recipe: Recipe, uninterrupted: Path) -> None:
    scores = [record["score"] for record in read_log(uninterrupted)]
    assert load_tensors(uninterrupted / WEIGHTS_BEST)[1]["score"] == max(scores)
    assert load_tensors(uninterrupted / WEIGHTS_LAST)[1]["score"] == scores[-1]


def test_score_every_leaves_the_last_epoch_of_a_stage_in(tmp_path: Path) -> None:
    fit_tiny(tiny_recipe({"stages.0.epochs": 3, "stages.0.score_every": 2, "stages.1.score_every": 9}), tmp_path)
    assert [record["score"] is not None for record in read_log(tmp_path)] == [False, True, True, False, True]


def test_a_kept_state_goes_on_with_the_options_of_the_new_stage(tmp_path: Path) -> None:
    def last(folder: str, decay: float) -> dict[str, torch.Tensor]:
        changes = {"stages.1.keep_state": True, "stages.1.optimiser.weight_decay": decay, "average.decay": 0.0}
        fit_tiny(tiny_recipe(changes), tmp_path / folder)
        return load_tensors(tmp_path / folder / WEIGHTS_LAST)[0]

    weak, strong = last("weak", 0.0), last("strong", 50.0)
    assert strong["head.weight"].norm() < 0.9 * weak["head.weight"].norm()


@pytest.mark.parametrize("count", [2, 3])
def test_fewer_tiles_than_a_batch_are_one_batch(tmp_path: Path, count: int) -> None:
    recipe = tiny_recipe()
    taken: list[int] = []
    fit_tiny(recipe, tmp_path, fold=tiny_fold(recipe, train=tiny_tiles(count, seed=1)), on_step=taken.append)
    assert len(taken) == EPOCHS


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "rmsprop"])
def test_every_optimiser_goes_on_to_the_same_bytes(tmp_path: Path, optimiser: str) -> None:
    recipe = tiny_recipe({"stages.0.optimiser.name": optimiser, "stages.1.optimiser.name": optimiser})
    fit_tiny(recipe, tmp_path / "whole")
    stop_at(recipe, tmp_path / "parts", 5)
    fit_tiny(recipe, tmp_path / "parts")
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_bfloat16_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    recipe, taken = tiny_recipe(), [0]
    fit_tiny(recipe, tmp_path / "whole", fabric=one_device("bf16-mixed"))
    with pytest.raises(Stopped):
        fit_tiny(
            recipe,
            tmp_path / "parts",
            fabric=one_device("bf16-mixed"),
            stop_asked=lambda: SIGTERM if taken[-1] == 7 else None,
            on_step=taken.append,
        )
    fit_tiny(recipe, tmp_path / "parts", fabric=one_device("bf16-mixed"))
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


# Runs that cannot succeed, each provoked.


def test_an_absurd_learning_rate_is_named(tmp_path: Path) -> None:
    recipe = tiny_recipe({"stages.0.optimiser.lr": 1e38, "stages.0.schedule.name": "constant"})
    with pytest.raises(TrainingFailed, match=r"fold 0, stage small, epoch 1: the loss is (nan|inf).*learning rate"):
        fit_tiny(recipe, tmp_path)


def test_a_collapse_to_empty_masks_is_named(tmp_path: Path) -> None:
    recipe = tiny_recipe({"stages.0.epochs": 15, "stages.0.optimiser.lr": 0.03})
    fold = tiny_fold(recipe, train=tiny_tiles(12, seed=1, salt=False))
    with pytest.raises(TrainingFailed, match="every held-out tile empty 8 times in a row"):
        fit_tiny(recipe, tmp_path, fold=fold)
    with pytest.raises(TrainingFailed, match="every held-out tile empty"):
        fit_tiny(recipe, tmp_path, fold=fold)


def test_a_net_that_learns_nothing_is_named(tmp_path: Path) -> None:
    changes = {
        "stages.0.epochs": 40,
        "stages.0.framing": {"method": "native", "size": None},
        "stages.0.loss": {"bce": 1.0},
        "net.has_salt_head": False,
        "net.decoder.dropout": 0.0,
    }
    recipe = tiny_recipe(changes)
    rng = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 2, (12, SIDE, SIDE), generator=rng, dtype=torch.uint8)
    alike = TileTensors(torch.full((12, SIDE, SIDE), 100, dtype=torch.uint8), masks, torch.zeros(12))
    with pytest.raises(TrainingFailed, match="the cross-entropy has been ln 2"):
        fit_tiny(recipe, tmp_path, fold=tiny_fold(recipe, train=alike))
