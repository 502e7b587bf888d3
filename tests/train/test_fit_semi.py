"""Folds that learn from unlabelled tiles too: they go on to the same bytes, and leave what predicts."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.weights import load_tensors
from diapir.recipe.whole import Recipe
from diapir.train import fit
from diapir.train.averaging import move_average
from diapir.train.epoch_log import read_log
from diapir.train.sitting import Fold
from diapir.train.snapshots import SNAPSHOTS, WEIGHTS_BEST, WEIGHTS_LAST
from diapir.train.stop import Stopped
from fake_training import STEPS, fit_tiny, one_device, tiny_fold, tiny_recipe, tiny_tiles

SIGTERM = 15
SEMI: dict[str, dict[str, Any]] = {
    "mean-teacher": {"semi": {"kind": "mean-teacher", "rampup_epochs": 2}, "average.decay": 0.0},
    # Snapshots: means of pairs, whose statistics of batch norm are found anew.
    "co-training": {
        "semi": {"kind": "co-training", "rampup_epochs": 2, "unlabelled_share": 0.4},
        "average": {"method": "halving", "count": 2},
        "predict.weights": "snapshots",
    },
}


def semi_fold(recipe: Recipe, *, seed: int = 7) -> Fold:
    return replace(tiny_fold(recipe), unlabelled=tiny_tiles(5, seed=seed))


def train(recipe: Recipe, folder: Path, **options: Any) -> None:
    fit_tiny(recipe, folder, **{"fold": semi_fold(recipe)} | options)


def results(folder: Path) -> dict[str, bytes]:
    """All that a fold leaves but its log and checkpoints, which hold times."""
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors") if "checkpoint" not in path.name} | {
        path.name: path.read_bytes() for path in folder.glob(SNAPSHOTS)
    }


@pytest.fixture(scope="module", params=SEMI)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return tiny_recipe(SEMI[request.param])


@pytest.fixture(scope="module")
def uninterrupted(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(recipe, folder)
    return folder


def test_a_stop_in_mid_epoch_changes_no_byte(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    taken, step = [0], 5
    with pytest.raises(Stopped):
        train(recipe, tmp_path, stop_asked=lambda: SIGTERM if taken[-1] == step - 1 else None, on_step=taken.append)
    assert taken[-1] == step
    train(recipe, tmp_path, on_step=taken.append)
    assert taken == list(range(STEPS + 1))
    assert results(tmp_path) == results(uninterrupted)


def test_stops_at_all_steps_change_no_byte(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    for _ in range(STEPS):
        with pytest.raises(Stopped):
            train(recipe, tmp_path, stop_asked=lambda: SIGTERM)
    train(recipe, tmp_path)
    assert results(tmp_path) == results(uninterrupted)


def test_other_unlabelled_tiles_give_other_weights(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    train(recipe, tmp_path, fold=semi_fold(recipe, seed=8))
    assert results(tmp_path)[WEIGHTS_LAST] != results(uninterrupted)[WEIGHTS_LAST]


def test_a_recipe_that_asks_for_no_unlabelled_tiles_does_not_look_at_them(tmp_path: Path) -> None:
    supervised = tiny_recipe()
    train(supervised, tmp_path / "with")
    fit_tiny(supervised, tmp_path / "without")
    assert results(tmp_path / "with") == results(tmp_path / "without")


def test_the_teacher_is_kept_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of so long a memory, it is the plain mean of the student after every step.
    recipe = tiny_recipe(SEMI["mean-teacher"] | {"semi.decay": 0.9999})
    seen: list[dict[str, Tensor]] = []

    def note(average: nn.Module, net: nn.Module, *, decay: float) -> None:
        seen.append({name: value.detach().clone() for name, value in net.state_dict().items()})
        move_average(average, net, decay=decay)

    monkeypatch.setattr(fit, "move_average", note)
    train(recipe, tmp_path)
    assert len(seen) == STEPS
    kept, facts = load_tensors(tmp_path / WEIGHTS_LAST)
    for name, value in kept.items():
        if value.is_floating_point():
            mean = torch.stack([each[name] for each in seen]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-5)
    assert facts["score"] == read_log(tmp_path)[-1]["score"]
    assert not torch.equal(seen[-1]["head.weight"], kept["head.weight"])


def test_both_nets_of_co_training_are_kept(tmp_path: Path) -> None:
    train(tiny_recipe(SEMI["co-training"]), tmp_path)
    assert (tmp_path / "snapshot-average.safetensors").exists()
    for path in tmp_path.glob("*s-*.safetensors"):
        tensors = load_tensors(path)[0]
        names = {name.partition(".")[2] for name in tensors}
        assert set(tensors) == {f"{side}.{name}" for side in ("first", "second") for name in names}, path.name
    assert not torch.equal(tensors["first.head.weight"], tensors["second.head.weight"])


def test_cycles_begin_with_the_best_weights_of_both_nets(tmp_path: Path) -> None:
    changes = {"stages.1.start_from": "best", "stages.1.optimiser.lr": 1e-30, "stages.1.optimiser.weight_decay": 0.0}
    train(tiny_recipe({"semi": SEMI["co-training"]["semi"], "average.decay": 0.0} | changes), tmp_path)
    best, last = (load_tensors(tmp_path / name)[0] for name in (WEIGHTS_BEST, WEIGHTS_LAST))
    learnt = [name for name in last if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert all(torch.equal(best[name], last[name]) for name in learnt), "the second stage stands still"


@pytest.mark.parametrize("kind", SEMI)
def test_several_processes_are_refused(kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(SEMI[kind])
    several: Any = SimpleNamespace(world_size=2)
    with pytest.raises(InputError, match=f"--devices 2: semi.kind '{kind}' trains on one: use 1"):
        train(recipe, tmp_path, fabric=several)


@pytest.mark.parametrize("kind", SEMI)
def test_bfloat16_trains_too(kind: str, tmp_path: Path) -> None:
    train(tiny_recipe(SEMI[kind]), tmp_path, fabric=one_device("bf16-mixed"))
    assert all(record["loss"] < 3 for record in read_log(tmp_path))
