"""What looks back on the epochs so far: early ends, falling rates, cycles from the best weights, snapshots."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diapir.nets.build import build_net
from diapir.nets.framing import net_input
from diapir.nets.weights import load_tensors, save_tensors
from diapir.recipe.whole import Recipe
from diapir.runs import write_json
from diapir.train import fit, sitting, snapshots
from diapir.train.checkpoint import FINISHED, NAME
from diapir.train.epoch_log import read_log
from diapir.train.loop import train_epoch
from diapir.train.snapshots import SNAPSHOTS, WEIGHTS_BEST, WEIGHTS_LAST, drop_epochs
from diapir.train.stop import Stopped
from fake_training import RESTLESS, fit_tiny, restless_scores, tiny_fold, tiny_recipe
from killed_training import killed_folders

SIGTERM = 15


def results(folder: Path) -> dict[str, bytes]:
    """All that a fold leaves but its log, which holds times, and its checkpoints, which hold them too."""
    names = {path.name for path in folder.iterdir()} - {"log.jsonl"}
    return {name: (folder / name).read_bytes() for name in sorted(names) if not name.startswith("checkpoint")}


# Scores that jump about: everything that looks back on them is busy.


@pytest.fixture
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "score_held_out", restless_scores)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return tiny_recipe(RESTLESS)


@pytest.fixture(scope="module")
def uninterrupted(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "score_held_out", restless_scores)
        fit_tiny(recipe, folder)
    return folder


def num_steps(folder: Path) -> int:
    return sum({"small": 3, "native": 6}[record["stage"].rpartition("-")[0]] for record in read_log(folder))


def test_each_epoch_has_its_own_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = {"name": "only", "epochs": 4, "batch": 8, "loss": {"bce": 1.0, "end": {"dice": 2.0}}}
    seen: list[dict[str, float]] = []

    def note(*arguments: Any, plan: Any, **named: Any) -> Any:
        seen.append(dict(plan.loss.weights))
        return train_epoch(*arguments, plan=plan, **named)

    monkeypatch.setattr(fit, "train_epoch", note)
    fit_tiny(tiny_recipe({"stages": [stage], "average": {}, "net.has_salt_head": False}), tmp_path)
    assert seen == [{"bce": 1.0}, {"bce": 0.75, "dice": 0.5}, {"bce": 0.5, "dice": 1.0}, {"bce": 0.25, "dice": 1.5}]


def test_a_fold_leaves_what_its_recipe_asks_for(uninterrupted: Path) -> None:
    listed = json.loads((uninterrupted / SNAPSHOTS).read_text())
    names = [entry["name"] for entry in listed]
    cycle = names[4].removesuffix("-best")
    assert names == [
        "small-1-best", "small-1-last", "small-2-best", "small-2-last", f"{cycle}-best", f"{cycle}-last", "average",
    ]  # fmt: skip
    assert [entry["weight"] for entry in listed] == [0, 1, 0, 1, 1, 0, 1]
    files = {WEIGHTS_BEST, WEIGHTS_LAST, SNAPSHOTS, FINISHED, *(entry["file"] for entry in listed)}
    assert set(results(uninterrupted)) == files, "and nothing that was kept on the way"


def test_snapshots_are_the_weights_after_their_epochs(uninterrupted: Path) -> None:
    log = read_log(uninterrupted)
    for entry in json.loads((uninterrupted / SNAPSHOTS).read_text())[:-1]:
        cycle, _, kind = entry["name"].rpartition("-")
        records = [record for record in log if record["stage"] == cycle]
        best = max(records, key=lambda record: record["score"])
        assert entry["epochs"] == [(best if kind == "best" else records[-1])["total_epochs"]]
        assert entry["score"] == log[entry["epochs"][0] - 1]["score"]
        net = build_net(tiny_recipe(RESTLESS).net, in_channels=2)
        net.load_state_dict(load_tensors(uninterrupted / entry["file"])[0])
        score = restless_scores(net, tiny_fold(tiny_recipe()).held_out)["score"]
        assert score == pytest.approx(entry["score"], abs=1e-6)


def test_the_log_tells_of_early_ends_and_falling_rates(recipe: Recipe, uninterrupted: Path) -> None:
    log = read_log(uninterrupted)
    for stage in recipe.stages:
        for name in stage.cycle_names:
            records = [record for record in log if record["stage"] == name]
            scores = [record["score"] for record in records]
            assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
            for count in range(1, len(records)):
                assert count - 1 - scores.index(max(scores[:count])) < (stage.stop_patience or 99), "it had ended"
            ended = len(scores) - 1 - scores.index(max(scores))
            assert len(records) == stage.epochs or ended == stage.stop_patience
            if stage.schedule.name == "plateau":
                lower = [index > 0 and score < max(scores[:index]) for index, score in enumerate(scores)]
                expected = [stage.optimiser.lr * 0.7 ** sum(lower[:index]) for index in range(len(scores))]
                assert [record["learning_rate"] for record in records] == pytest.approx(expected)


def stop_after(recipe: Recipe, folder: Path, step: int) -> list[int]:
    """Train up to a step; gives the steps as they were counted, after a 0."""
    taken = [0]
    with pytest.raises(Stopped):
        fit_tiny(recipe, folder, stop_asked=lambda: SIGTERM if taken[-1] == step - 1 else None, on_step=taken.append)
    return taken


@pytest.mark.usefixtures("_restless")
def test_stops_at_all_steps_change_no_byte(recipe: Recipe, uninterrupted: Path, tmp_path: Path) -> None:
    for _ in range(num_steps(uninterrupted)):
        with pytest.raises(Stopped):
            fit_tiny(recipe, tmp_path, stop_asked=lambda: SIGTERM)
    fit_tiny(recipe, tmp_path)
    assert results(tmp_path) == results(uninterrupted)


@pytest.mark.usefixtures("_restless")
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_stop_changes_no_byte(recipe: Recipe, uninterrupted: Path, tmp_path: Path, share: float) -> None:
    taken = stop_after(recipe, tmp_path, round(share * num_steps(uninterrupted)))
    fit_tiny(recipe, tmp_path, on_step=taken.append)
    assert taken == list(range(num_steps(uninterrupted) + 1)), "no step is lost or taken twice"
    assert results(tmp_path) == results(uninterrupted)


@pytest.mark.usefixtures("_restless")
def test_the_state_before_the_last_one_is_enough_at_any_step(
    recipe: Recipe, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitting, "SAVE_EVERY_S", 0.0)
    for step in range(2, num_steps(uninterrupted), 3):
        stop_after(recipe, tmp_path, step)
        (tmp_path / NAME).write_bytes(b"cut off")
    fit_tiny(recipe, tmp_path)
    for damaged in tmp_path.glob("damaged-*"):
        damaged.unlink()
    assert results(tmp_path) == results(uninterrupted)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return killed_folders(tmp_path_factory.mktemp("killed"), "restless/steps", "restless/times") / "restless"


@pytest.mark.parametrize("kind", ["steps", "times"])
def test_sigkill_at_random_changes_no_byte(uninterrupted: Path, killed: Path, kind: str) -> None:
    litter = {path.name for path in (killed / kind).iterdir() if path.name.startswith((".", "damaged-"))}
    found = {name: content for name, content in results(killed / kind).items() if name not in litter}
    assert found == results(uninterrupted)


class _Killed(BaseException):
    pass


@pytest.mark.usefixtures("_restless")
@pytest.mark.parametrize("at", [0, 6, 7, 8])
def test_a_death_while_snapshots_are_written_changes_no_byte(
    recipe: Recipe, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """At the first and the last of seven, before the list of them, and before what they were made of is removed."""
    writing, calls = [False], [0]

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls[0] += writing[0]
            if calls[0] == at + 1:
                raise _Killed
            return function(*arguments, **named)

        return call

    def write(*arguments: Any, **named: Any) -> None:
        writing[0] = True
        snapshots.write_snapshots(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "write_snapshots", write)
        patch.setattr(snapshots, "save_tensors", mortal(save_tensors))
        patch.setattr(snapshots, "write_json", mortal(write_json))
        patch.setattr(fit, "drop_epochs", mortal(drop_epochs))
        with pytest.raises(_Killed):
            fit_tiny(recipe, tmp_path)
    fit_tiny(recipe, tmp_path)
    assert results(tmp_path) == results(uninterrupted)


# Scores from a list: one thing at a time.


def train_with_scores(
    changes: Mapping[str, Any], scores: list[float], folder: Path, patch: pytest.MonkeyPatch
) -> Recipe:
    """Train the tiny recipe with the scores of its epochs given."""
    recipe, left = tiny_recipe({"average.decay": 0.0, **changes}), iter(scores)
    patch.setattr(fit, "score_held_out", lambda *_, **__: {"score": next(left), "predicted_empty": 0.0})
    fit_tiny(recipe, folder)
    assert list(left) == [], "so many epochs"
    return recipe


def tensors_of(folder: Path, name: str) -> dict[str, Tensor]:
    return load_tensors(folder / name)[0]


def parameters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if "running" not in name and "num_batches" not in name}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_laurans_trains_to_the_plateau_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "stages.0.cycles": 2, "stages.0.epochs": 30, "stages.0.snapshot": {}, "stages.0.stop_patience": 3,
        "stages.0.schedule": {"name": "plateau", "factor": 0.7, "patience": 2}, "stages.0.optimiser.lr": 1e-4,
    }  # fmt: skip
    first, second = [0.1, 0.2, 0.1, 0.1, 0.3, 0.2, 0.2, 0.2], [0.1, 0.05, 0.05, 0.05]
    train_with_scores(changes, [*first, *second, 0.2, 0.2], tmp_path, monkeypatch)
    log = read_log(tmp_path)
    assert [record["stage"] for record in log] == [*["small-1"] * 8, *["small-2"] * 4, "native", "native"]
    rates = [1.0, 1.0, 1.0, 1.0, 0.7, 0.7, 0.7, 0.49]
    assert [record["learning_rate"] for record in log[:8]] == pytest.approx([1e-4 * rate for rate in rates])
    assert [record["learning_rate"] for record in log[8:12]] == pytest.approx([1e-4, 1e-4, 1e-4, 0.7e-4])
    listed = json.loads((tmp_path / SNAPSHOTS).read_text())
    assert [entry["epochs"] for entry in listed] == [[5], [8], [9], [12]]


@pytest.mark.parametrize("start_from", ["best", "last"])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_stage_starts_from_the_weights_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_from: str, decay: float
) -> None:
    changes = {
        "average.decay": decay, "stages.0.epochs": 3, "stages.0.snapshot": {}, "stages.1.epochs": 1,
        "stages.1.start_from": start_from, "stages.1.schedule": {"name": "constant"},
        # Steps too small to change a weight.
        "stages.1.optimiser": {"name": "sgd", "lr": 1e-30, "weight_decay": 0.0},
    }  # fmt: skip
    train_with_scores(changes, [0.1, 0.9, 0.3, 0.2], tmp_path, monkeypatch)
    best, last = (parameters(tensors_of(tmp_path, f"snapshot-small-{kind}.safetensors")) for kind in ("best", "last"))
    end = parameters(tensors_of(tmp_path, WEIGHTS_LAST))
    assert not same(best, last)
    if decay == 0 or start_from == "best":
        assert same(end, best if start_from == "best" else last)


def test_a_cycle_that_keeps_the_state_goes_on_and_one_that_does_not_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {}
    for name, changes in {
        "one": {"stages.0.epochs": 4},
        "kept": {"stages.0.epochs": 2, "stages.0.cycles": 2, "stages.0.keep_state": True},
        "anew": {"stages.0.epochs": 2, "stages.0.cycles": 2},
    }.items():
        whole = {"stages.0.schedule": {"name": "constant"}, "stages.0.optimiser": {"name": "sgd", "lr": 0.1}, **changes}
        train_with_scores(whole, [0.1] * 6, tmp_path / name, monkeypatch)
        ends[name] = tensors_of(tmp_path / name, WEIGHTS_LAST)
    assert same(ends["kept"], ends["one"])
    assert not same(ends["anew"], ends["one"])


def test_the_average_of_ten_has_statistics_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for norms in ("mean", "estimate"):
        changes = {
            "stages.1.epochs": 4, "average.method": "halving", "average.count": 2, "average.norms": norms,
            "net.decoder.dropout": 0.0, "stages.1.batch": 12, "stages.1.snapshot": {},
        }  # fmt: skip
        scores = [0.9, 0.9, 0.1, 0.4, 0.2, 0.3]
        recipe = train_with_scores(changes, [*scores, 0.75], tmp_path / norms, monkeypatch)
        found[norms] = tensors_of(tmp_path / norms, "snapshot-average.safetensors")
        entry = json.loads((tmp_path / norms / SNAPSHOTS).read_text())[-1]
        assert (entry["epochs"], entry["score"]) == ([4, 6], 0.75)
        best, last = (tensors_of(tmp_path / norms, f"snapshot-native-{kind}.safetensors") for kind in ("best", "last"))
        for name, value in found[norms].items():
            if value.is_floating_point() and (norms == "mean" or name in parameters(found[norms])):
                torch.testing.assert_close(value, (2 * best[name] + last[name]) / 3)
    net = build_net(recipe.net, in_channels=2)
    net.load_state_dict(found["estimate"])
    fold = tiny_fold(recipe)
    inputs = net_input(
        fold.train.images.float() / 255, fold.train.depths_m, spec=fold.spec, frame=sitting.build_frame(recipe.framing)
    )
    seen: dict[str, Tensor] = {}
    norm_name, norm = next((name, each) for name, each in net.named_modules() if isinstance(each, torch.nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _, given: seen.update(first=given[0]))
    with torch.no_grad():
        net.eval()(inputs)
    expected = seen["first"].transpose(0, 1).flatten(1)
    torch.testing.assert_close(found["estimate"][f"{norm_name}.running_mean"], expected.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["estimate"][f"{norm_name}.running_var"], expected.var(1), atol=1e-5, rtol=1e-4)
    assert not torch.equal(found["mean"][f"{norm_name}.running_mean"], found["estimate"][f"{norm_name}.running_mean"])
