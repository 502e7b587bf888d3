import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diapir.faults import InputError
from diapir.nets.weights import load_tensors
from diapir.recipe.whole import Recipe
from diapir.train.checkpoint import Progress
from diapir.train.cycles import cycles_of
from diapir.train.snapshots import (
    SNAPSHOTS,
    WEIGHTS_BEST,
    WEIGHTS_LAST,
    Snapshot,
    drop_epochs,
    epochs_to_keep,
    keep_epoch,
    kept_weights,
    planned_snapshots,
    predicting_weights,
    write_snapshots,
)
from fake_training import tiny_recipe

EPOCHS = 3


def snapshot_recipe(
    *, cycles: int = 3, snapshot: dict[str, Any] | None = None, start_from: str = "last", **average: Any
) -> Recipe:
    """A first stage of one cycle without snapshots, and a second of several, all of three epochs."""
    changes: dict[str, Any] = {
        "stages.0.epochs": EPOCHS, "stages.1.epochs": EPOCHS, "stages.1.cycles": cycles, "stages.1.snapshot": snapshot,
        "stages.1.start_from": start_from, "average": average,
    }  # fmt: skip
    return tiny_recipe(changes)


def after(recipe: Recipe, scores: Sequence[float | None], **others: Sequence[float]) -> Progress:
    """Where training stands after epochs of these scores, all cycles having their full length."""
    cycles = cycles_of(recipe)
    history = [
        {"stage": cycles[index // EPOCHS].name, "epoch": index % EPOCHS + 1, "total_epochs": index + 1, "score": score}
        | {name: values[index] for name, values in others.items()}
        for index, score in enumerate(scores)
    ]
    return Progress(cycle=len(scores) // EPOCHS, epoch=len(scores) % EPOCHS, history=history)


def shown(snapshots: Sequence[Snapshot]) -> dict[str, tuple[list[int], float]]:
    return {each.name: (sorted(each.shares), each.weight) for each in snapshots}


WHOLE = [0.1, 0.2, 0.1, 0.5, 0.4, 0.3, 0.4, 0.6, 0.6, 0.3, 0.2, 0.45]


# What a fold leaves.


def test_each_cycle_leaves_its_best_and_its_last_and_one_of_them_predicts() -> None:
    for epoch, weights in (("best", (2.0, 0.0)), ("last", (0.0, 2.0))):
        recipe = snapshot_recipe(snapshot={"epoch": epoch, "weight": 2.0})
        assert shown(planned_snapshots(recipe, after(recipe, WHOLE))) == {
            "native-1-best": ([4], weights[0]), "native-1-last": ([6], weights[1]),
            "native-2-best": ([8], weights[0]), "native-2-last": ([9], weights[1]),
            "native-3-best": ([12], weights[0]), "native-3-last": ([12], weights[1]),
        }  # fmt: skip


@pytest.mark.parametrize(("epoch", "cycles"), [("best", {"native-1", "native-2"}), ("last", {"native-2", "native-3"})])
def test_the_best_cycles_may_be_chosen(epoch: str, cycles: set[str]) -> None:
    recipe = snapshot_recipe(snapshot={"epoch": epoch, "cycles": 2})
    names = {each.name.rpartition("-")[0] for each in planned_snapshots(recipe, after(recipe, WHOLE))}
    assert names == cycles


def test_a_recipe_that_asks_for_none_leaves_none() -> None:
    recipe = snapshot_recipe()
    assert planned_snapshots(recipe, after(recipe, WHOLE)) == []
    assert epochs_to_keep(recipe, after(recipe, WHOLE)) == set()


def test_the_halving_average_ranks_the_last_stages_epochs() -> None:
    recipe = snapshot_recipe(method="halving", count=4)
    (average,) = planned_snapshots(recipe, after(recipe, [0.9, 0.9, 0.9, *WHOLE[3:]]))
    assert [*average.shares] == [8, 9, 4, 12], "epochs of the first stage have no part, and ties go to the first"
    assert [*average.shares.values()] == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert average.weight == 1


def test_the_average_of_three_bests_counts_an_epoch_as_often_as_it_is_one() -> None:
    recipe = snapshot_recipe(method="three_bests")
    losses = [0.0, 0.0, 0.0, 3, 2, 2, 3, 1, 4, 1, 3, 3]
    accuracies = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.8, 0.9, 0.5]
    (average,) = planned_snapshots(recipe, after(recipe, WHOLE, held_out_loss=losses, accuracy=accuracies))
    assert dict(average.shares) == pytest.approx({8: 2 / 3, 11: 1 / 3})


def test_epochs_without_a_score_are_never_best() -> None:
    recipe = snapshot_recipe(snapshot={}, method="halving")
    scores = [None, None, 0.1, None, None, 0.3, None, 0.2, 0.1, None, 0.4, 0.4]
    found = planned_snapshots(recipe, after(recipe, scores))
    assert [next(iter(each.shares)) for each in found[:-1]] == [6, 6, 8, 9, 11, 12]
    assert [*found[-1].shares] == [11, 12, 6, 8, 9]


# What is kept until then.

RECIPES = [
    {"snapshot": {"epoch": "best"}},
    {"snapshot": {"epoch": "last", "cycles": 1}},
    {"snapshot": {"epoch": "best", "cycles": 2}, "start_from": "best"},
    {"start_from": "best"},
    {"snapshot": {"epoch": "last", "cycles": 2}, "method": "halving", "count": 2},
    {"method": "three_bests"},
]
DRAWN = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=12, max_size=12)


@pytest.mark.parametrize("named", RECIPES, ids=str)
@given(scores=DRAWN, losses=DRAWN, accuracies=DRAWN)
@settings(max_examples=40, deadline=None)
def test_what_is_asked_for_was_kept_from_its_epoch_on(
    named: dict[str, Any], scores: list[float], losses: list[float], accuracies: list[float]
) -> None:
    recipe = snapshot_recipe(**named)
    there: set[int] = set()
    for count in range(1, len(scores) + 1):
        progress = after(recipe, scores[:count], held_out_loss=losses, accuracy=accuracies)
        wanted = epochs_to_keep(recipe, progress)
        there = (there | {count}) & wanted
        assert there == wanted, "an epoch is wanted that was dropped before"
        begun = progress.epoch == 0 and 0 < progress.cycle < 4
        if begun and cycles_of(recipe)[progress.cycle].stage.start_from == "best":
            cycle = scores[count - EPOCHS : count]
            assert count - EPOCHS + 1 + cycle.index(max(cycle)) in there
    assert {epoch for each in planned_snapshots(recipe, progress) for epoch in each.shares} <= there


# Files.


def weights(value: float) -> dict[str, Tensor]:
    return {"weight": torch.full((2, 2), float(value)), "count": torch.tensor(int(value))}


def test_kept_weights_come_back_and_go(tmp_path: Path) -> None:
    for epoch in (3, 12, 30):
        keep_epoch(tmp_path, epoch, weights(epoch), {"score": 0.1})
    drop_epochs(tmp_path, but={3, 30, 99})
    assert torch.equal(kept_weights(tmp_path, 30)["weight"], weights(30)["weight"])
    with pytest.raises(InputError):
        kept_weights(tmp_path, 12)


def test_snapshots_are_written_and_listed(tmp_path: Path) -> None:
    for epoch in (1, 2, 4):
        keep_epoch(tmp_path, epoch, weights(epoch), {"score": epoch / 10, "identity": "x"})
    average = Snapshot("average", {4: 0.75, 2: 0.25}, 1.0)
    snapshots = [Snapshot("a-best", {4: 1.0}, 3.0), Snapshot("a-last", {1: 1.0}, 0.0), average]
    finished: list[dict[str, Tensor]] = []

    def finish(mean: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        finished.append(mean)
        return {**mean, "norm": torch.ones(1)}, 0.9

    write_snapshots(tmp_path, snapshots, facts={"identity": "x"}, finish=finish)
    listed = json.loads((tmp_path / SNAPSHOTS).read_text())
    assert [(each["name"], each["score"], each["weight"], each["epochs"]) for each in listed] == [
        ("a-best", 0.4, 3.0, [4]), ("a-last", 0.1, 0.0, [1]), ("average", 0.9, 1.0, [2, 4]),
    ]  # fmt: skip
    tensors, facts = load_tensors(tmp_path / "snapshot-a-best.safetensors")
    assert torch.equal(tensors["weight"], weights(4)["weight"])
    assert facts == {"identity": "x", "score": 0.4}
    tensors, facts = load_tensors(tmp_path / "snapshot-average.safetensors")
    assert torch.equal(tensors["weight"], weights(3.5)["weight"])
    assert tensors["count"].item() == 4
    assert tensors["norm"].item() == 1
    assert facts["score"] == 0.9
    assert len(finished) == 1
    assert predicting_weights(tmp_path, "snapshots") == [
        (tmp_path / "snapshot-a-best.safetensors", 0.75), (tmp_path / "snapshot-average.safetensors", 0.25),
    ]  # fmt: skip


def test_best_and_last_predict_alone(tmp_path: Path) -> None:
    assert predicting_weights(tmp_path, "best") == [(tmp_path / WEIGHTS_BEST, 1.0)]
    assert predicting_weights(tmp_path, "last") == [(tmp_path / WEIGHTS_LAST, 1.0)]


@pytest.mark.parametrize("content", ["[]", "{}", "3", '[{"file": "a"}]', '[{"file": "a", "weight": "x"}]', "["])
def test_a_damaged_list_of_snapshots_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / SNAPSHOTS).write_text(content)
    with pytest.raises(InputError, match=SNAPSHOTS):
        predicting_weights(tmp_path, "snapshots")


def test_no_list_of_snapshots_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected this file, found none"):
        predicting_weights(tmp_path, "snapshots")
