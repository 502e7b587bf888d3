import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import DataSet, write_data
from diapir.faults import InputError
from diapir.nets.build import build_net
from diapir.nets.framing import InputSpec
from diapir.nets.infer import predict_heads
from diapir.nets.weights import load_tensors
from diapir.pipeline import run as pipeline
from diapir.pipeline import training
from diapir.pipeline.new_tiles import predict_with_run
from diapir.pipeline.predicting import fold_batches, net_batches
from diapir.pipeline.predictions import read_predictions
from diapir.pipeline.run import run_recipe, summary
from diapir.predict.scoring import score_submission
from diapir.predict.submission import read_submission, write_submission
from diapir.predict.threshold import CANDIDATES
from diapir.recipe.files import read_recipe, write_recipe
from diapir.recipe.nets import TimmEncoder, UNet
from diapir.recipe.steps import Train
from diapir.recipe.whole import Recipe
from diapir.runs import read_json, write_json
from diapir.train.epoch_log import read_log
from diapir.train.sitting import Fold, build_frame
from diapir.train.snapshots import WEIGHTS_LAST
from diapir.train.tile_tensors import tile_tensors
from diapir.train.together import make_fabric
from fake_tgs import UNLABELLED, tgs_files, write_folder
from fake_training import tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

QUICKSTART = Path(__file__).parent.parent.parent / "recipes" / "quickstart.yaml"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return tiny_run_recipe()


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make_synthetic(labelled=20, unlabelled=5, seed=1)[0]


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    run_recipe(recipe, out, data_path=None)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(training, "fit_fold", refuse)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def ids_of(path: Path) -> list[str]:
    return list(read_submission(path).texts)


# A whole run.


def test_the_quickstart_runs_to_its_end(tmp_path: Path) -> None:
    changes = [
        "data.synthetic={labelled: 12, unlabelled: 3, seed: 1}",
        "folds.count=2",
        *(f"stages.{stage}.{setting}" for stage in (0, 1) for setting in ("epochs=1", "batch=4")),
    ]
    recipe = read_recipe(QUICKSTART, changes=changes)
    record = run_recipe(recipe, tmp_path / "run", data_path=None)
    data = make_synthetic(labelled=12, unlabelled=3, seed=1)[0]
    assert visible(tmp_path / "run") == {
        "recipe.yaml", "folds.csv", "train", "predict", "submit", "submission.csv", "truth.csv", "tiles.png",
        "record.json", "held-out.csv",
    }  # fmt: skip
    assert read_json(tmp_path / "run" / "record.json") == record
    assert ids_of(tmp_path / "run" / "submission.csv") == list(data.unlabelled.ids)
    assert 0 <= record["interval_95"][0] <= record["score"] <= record["interval_95"][1] <= 1
    assert record["data"]["digest"] == data.digest
    assert record["recipe_digest"] == recipe.digest
    assert record["threshold"] in CANDIDATES
    assert (tmp_path / "run" / "tiles.png").read_bytes().startswith(b"\x89PNG")
    told = summary(record, tmp_path / "run")
    for part in (f"{record['score']:.4f}", "submission.csv", "tiles.png", "record.json"):
        assert part in told


def test_each_epoch_is_a_line_of_the_log(finished: Path, recipe: Recipe) -> None:
    log, num_epochs = read_log(finished / "train" / "fold-0"), sum(stage.epochs for stage in recipe.stages)
    assert len((finished / "train" / "fold-0" / "log.jsonl").read_text().splitlines()) == len(log) == num_epochs
    assert read_json(finished / "record.json")["epochs"] == num_epochs


def test_the_folds_are_written_with_their_scheme(finished: Path, data: DataSet) -> None:
    scheme, *rows = (finished / "folds.csv").read_text().splitlines()
    assert scheme == "# scheme=depth count=2 seed=0"
    assert [row["id"] for row in csv.DictReader(rows)] == list(data.labelled.ids)
    assert {row["fold"] for row in csv.DictReader(rows)} == {"0", "1"}


def test_the_run_keeps_its_recipe(finished: Path, recipe: Recipe) -> None:
    assert read_recipe(finished / "recipe.yaml") == recipe


def test_the_score_of_a_fixed_threshold_is_that_of_the_submission_format(tmp_path: Path, data: DataSet) -> None:
    # The held-out tiles given as unlabelled ones: the submission's score is the record's.
    recipe = tiny_run_recipe({"predict.threshold": 0.4})
    record = run_recipe(recipe, tmp_path / "run", data_path=None)
    with (tmp_path / "run" / "folds.csv").open() as file:
        folds = [row["fold"] for row in csv.DictReader(line for line in file if not line.startswith("#"))]
    held_out = data.labelled.take(np.flatnonzero(np.array(folds) == "0"))
    assert held_out.masks is not None
    write_data(replace(data, unlabelled=replace(held_out, masks=None)), tmp_path / "data")
    tiles, masks = predict_with_run(tmp_path / "run", tmp_path / "data")
    assert tiles.ids == held_out.ids
    write_submission(tmp_path / "predicted.csv", tiles.ids, masks)
    write_submission(tmp_path / "true.csv", tiles.ids, held_out.masks)
    assert record["threshold"] == 0.4
    assert score_submission(tmp_path / "predicted.csv", tmp_path / "true.csv").total.score == pytest.approx(
        record["score"], abs=1e-4
    )


def test_a_net_without_a_has_salt_head_leaves_masks_alone(tmp_path: Path) -> None:
    silent = {"net.has_salt_head": False, "stages.0.loss.has_salt": 0.0, "stages.0.epochs": 1, "stages.1.epochs": 1}
    run_recipe(tiny_run_recipe(silent), tmp_path / "run", data_path=None)
    assert read_predictions(tmp_path / "run" / "predict").has_salt is None


@pytest.mark.parametrize(("weights", "unused"), [({}, False), ({"side": 0.0}, True), ({"has_salt": 0.0}, True)])
def test_heads_that_a_stage_does_not_weigh_are_said_to_be_left_unused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, float], unused: bool
) -> None:
    told: list[bool] = []

    def note(*_: object, may_leave_weights_unused: bool, **__: object) -> None:
        told.append(may_leave_weights_unused)
        raise InputError.of("", "enough")

    monkeypatch.setattr(pipeline, "make_fabric", note)
    monkeypatch.setattr(pipeline, "_require_nets", lambda _: None)
    weighed = {"bce": 1.0, "has_salt": 0.1, "side": 0.1}
    stages = [{"name": name, "epochs": 1, "loss": loss} for name, loss in (("a", weighed), ("b", weighed | weights))]
    changes = {"net": {"kind": "phalanx", "version": "v3"}, "stages": stages, "framing": {"size": 128}}
    with pytest.raises(InputError, match="enough"):
        run_recipe(tiny_run_recipe(changes), tmp_path / "run", data_path=None)
    assert told == [unused]


def test_all_folds_train_a_model_each_and_predict_by_their_mean(tmp_path: Path, data: DataSet) -> None:
    recipe = tiny_run_recipe({"folds.held_out": [], "predict.threshold": 0.5, "predict.views": ["plain"]})
    record = run_recipe(recipe, tmp_path, data_path=None)
    assert record["folds_held_out"] == [0, 1]
    assert "mean over 20 held-out tiles" in record["score_kind"]
    probabilities = []
    for fold in (0, 1):
        weights, facts = load_tensors(tmp_path / "train" / f"fold-{fold}" / WEIGHTS_LAST)
        net = build_net(recipe.net, in_channels=2)
        net.load_state_dict(weights)
        spec = InputSpec(**facts["spec"] | {"channels": recipe.input.channels})
        tiles = tile_tensors(data.unlabelled, torch.device("cpu"))
        batches = predict_heads(
            net, tiles, spec=spec, frame=build_frame(recipe.framing), views=("plain",), batch=99,
            autocast=torch.no_grad,
        )  # fmt: skip
        probabilities.append(torch.cat([each.mask for each in batches]).numpy())
    mean = (probabilities[0] + probabilities[1]) / 2
    assert np.abs(probabilities[0] - probabilities[1]).max() > 0.01, "two models"
    _, masks = predict_with_run(tmp_path, write_set(data, tmp_path / "data"))
    sure = np.abs(mean - 0.5) > 1e-3  # the run keeps halves
    assert sure.mean() > 0.99
    assert ((mean > 0.5) == masks.astype(bool))[sure].all()


def write_set(data: DataSet, folder: Path) -> Path:
    write_data(data, folder)
    return folder


# A folder that holds something already.


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_run_is_not_done_again(finished: Path, recipe: Recipe, resume: bool) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    assert run_recipe(recipe, finished, data_path=None, resume=resume) == read_json(finished / "record.json")
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}


def test_an_unfinished_run_needs_resume(copy: Path, finished: Path, recipe: Recipe) -> None:
    (copy / "record.json").unlink()
    with pytest.raises(InputError, match="add --resume to go on with it"):
        run_recipe(recipe, copy, data_path=None)
    record = run_recipe(recipe, copy, data_path=None, resume=True)
    assert record == read_json(finished / "record.json")
    assert (copy / "submission.csv").read_bytes() == (finished / "submission.csv").read_bytes()


def test_resume_may_be_given_from_the_start(recipe: Recipe, tmp_path: Path, finished: Path) -> None:
    run_recipe(recipe, tmp_path / "run", data_path=None, resume=True)
    for name in (
        "submission.csv",
        "train/fold-0/weights-last.safetensors",
        "train/fold-0/weights-best.safetensors",
        "tiles.png",
    ):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.usefixtures("_no_training")
def test_a_run_of_another_recipe_is_refused(copy: Path) -> None:
    with pytest.raises(InputError, match="a run of another recipe"):
        run_recipe(tiny_run_recipe({"seed": 9}), copy, data_path=None, resume=True)


@pytest.mark.usefixtures("_no_training")
def test_a_finished_run_of_other_data_is_refused(copy: Path, recipe: Recipe, data: DataSet, tmp_path: Path) -> None:
    other = write_set(replace(data, labelled=data.labelled.take(np.arange(18))), tmp_path / "data")
    with pytest.raises(InputError, match="a run of other data"):
        run_recipe(recipe, copy, data_path=other)


def test_an_unfinished_run_of_other_data_is_refused(copy: Path, recipe: Recipe, data: DataSet, tmp_path: Path) -> None:
    (copy / "record.json").unlink()
    other = write_set(replace(data, labelled=data.labelled.take(np.arange(18))), tmp_path / "data")
    with pytest.raises(InputError, match="a run of other data"):
        run_recipe(recipe, copy, data_path=other, resume=True)


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("resume", [False, True])
def test_a_strangers_folder_is_refused(recipe: Recipe, tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"expected a new or empty folder, found thesis\.tex there"):
        run_recipe(recipe, tmp_path, data_path=None, resume=resume)
    assert visible(tmp_path) == {"thesis.tex"}


@pytest.mark.parametrize(
    ("changes", "options", "fault"),
    [
        ({"net.encoder": {"kind": "timm", "name": "resnet3"}}, {}, "timm has no model 'resnet3'"),
        ({"net.encoder": {"kind": "timm", "name": "resnet18"}}, {}, "net.decoder.widths: expected 4"),
        (
            {"net.encoder": {"kind": "timm", "name": "resnet18", "weights": "absent"}, "net.decoder.widths": [4] * 4},
            {},
            "absent: expected a .safetensors file, found nothing there",
        ),
        ({"data": {}}, {}, "makes no data of its own: name a data set"),
        ({"folds": {"count": 21}}, {}, "expected at least 21 labelled tiles"),
        ({}, {"devices": 99}, "expected at most"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_the_folder_to_the_next_run(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        run_recipe(tiny_run_recipe(changes), tmp_path, data_path=None, **options)
    assert visible(tmp_path) == set()


# Data.


def test_weights_that_cannot_be_had_are_told_before_data_are_read(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> Path:
        raise InputError.of("net.encoder.weights", f"no network for {name}")

    monkeypatch.setattr(pipeline, "fetch_pretrained", refuse)
    monkeypatch.setattr(pipeline, "open_run_data", lambda *_, **__: pytest.fail("data were read first"))
    encoder = TimmEncoder(name="resnet18", weights="pretrained")
    absent = recipe.model_copy(update={"net": UNet(encoder=encoder)})
    with pytest.raises(InputError, match="no network for resnet18"):
        run_recipe(absent, tmp_path / "run", data_path=None)


def test_a_set_without_unlabelled_tiles_gives_a_score_alone(tmp_path: Path, recipe: Recipe, data: DataSet) -> None:
    none = data.unlabelled.take(np.arange(0))
    path = write_set(replace(data, unlabelled=none), tmp_path / "data")
    record = run_recipe(recipe, tmp_path / "run", data_path=path)
    assert record["data"]["unlabelled"] == 0
    assert not (tmp_path / "run" / "submission.csv").exists()
    assert "submission" not in summary(record, tmp_path / "run")
    with pytest.raises(InputError, match="expected unlabelled tiles to find salt in, found none"):
        predict_with_run(tmp_path / "run", path)


def test_two_tiles_to_train_on_are_enough_and_one_is_not(tmp_path: Path, data: DataSet) -> None:
    assert data.labelled.masks is not None
    salted = np.flatnonzero(data.labelled.masks.any((1, 2)))
    recipe = tiny_run_recipe()
    four = write_set(replace(data, labelled=data.labelled.take(salted[:4])), tmp_path / "four")
    assert run_recipe(recipe, tmp_path / "run", data_path=four)["data"]["labelled"] == 4
    two = write_set(replace(data, labelled=data.labelled.take(salted[:2])), tmp_path / "two")
    with pytest.raises(InputError, match="expected at least 2 tiles to train on, found 1"):
        run_recipe(recipe, tmp_path / "other", data_path=two)


def test_a_fold_without_salt_is_refused(tmp_path: Path, recipe: Recipe, data: DataSet) -> None:
    assert data.labelled.masks is not None
    empty = replace(data.labelled, masks=np.zeros_like(data.labelled.masks))
    path = write_set(replace(data, labelled=empty), tmp_path / "data")
    with pytest.raises(InputError, match="none of its tiles has salt") as error:
        run_recipe(recipe, tmp_path / "run", data_path=path)
    assert len(error.value.faults) == 2


def test_bad_tiles_are_skipped_if_wanted_and_named_in_the_record(tmp_path: Path, recipe: Recipe) -> None:
    files = tgs_files()
    files[f"test/images/{UNLABELLED[0]}.png"] = b"cut off"
    folder = write_folder(files, tmp_path / "tgs")
    with pytest.raises(InputError, match=UNLABELLED[0]):
        run_recipe(recipe, tmp_path / "run", data_path=folder)
    record = run_recipe(recipe, tmp_path / "run", data_path=folder, skip_bad=True)
    assert [skipped["tile"] for skipped in record["data"]["skipped"]] == [UNLABELLED[0]]
    assert ids_of(tmp_path / "run" / "submission.csv") == list(UNLABELLED[1:])
    with pytest.raises(InputError, match=UNLABELLED[0]):
        predict_with_run(tmp_path / "run", folder)
    assert predict_with_run(tmp_path / "run", folder, skip_bad=True)[0].ids == UNLABELLED[1:]


def test_constant_tiles_are_dropped_from_training_alone(
    tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = data.labelled.images.copy()
    images[::4] = 128
    path = write_set(replace(data, labelled=replace(data.labelled, images=images)), tmp_path / "data")
    found: list[Fold] = []

    def note(recipe: Recipe, fold: Fold, **named: object) -> None:
        found.append(fold)
        raise InputError.of("", "enough")

    monkeypatch.setattr(training, "fit_fold", note)
    for drop in (False, True):
        with pytest.raises(InputError, match="enough"):
            run_recipe(tiny_run_recipe({"data.drop_constant": drop}), tmp_path / str(drop), data_path=path)
    with_constant, without = found
    num_constant = sum(int(image.min() == image.max()) for image in with_constant.train.images)
    assert num_constant > 0
    assert len(without.train) == len(with_constant.train) - num_constant
    assert len(without.held_out) == len(with_constant.held_out)


# Predictions of a finished run.


def test_a_finished_run_predicts_the_same_masks_again(finished: Path, data: DataSet, tmp_path: Path) -> None:
    tiles, masks = predict_with_run(finished, write_set(data, tmp_path / "data"))
    write_submission(tmp_path / "again.csv", tiles.ids, masks)
    assert (tmp_path / "again.csv").read_bytes() == (finished / "submission.csv").read_bytes()


def test_a_run_that_cannot_predict_says_why(copy: Path, data: DataSet, tmp_path: Path) -> None:
    path = write_set(data, tmp_path / "data")
    weights = copy / "train" / "fold-0" / WEIGHTS_LAST
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    with pytest.raises(InputError, match=WEIGHTS_LAST):
        predict_with_run(copy, path)
    weights.write_bytes(whole)
    (copy / "recipe.yaml").write_text(write_recipe(tiny_run_recipe({"net.decoder.widths": [8]})))
    with pytest.raises(InputError, match="do not belong together"):
        predict_with_run(copy, path)
    write_json(copy / "record.json", [])
    with pytest.raises(InputError, match="expected the record of a finished run, found"):
        predict_with_run(copy, path)
    (copy / "record.json").write_text("{")
    with pytest.raises(InputError, match="expected JSON"):
        predict_with_run(copy, path)
    (copy / "record.json").unlink()
    with pytest.raises(InputError, match="expected the folder of a finished run"):
        predict_with_run(copy, path)


def test_the_best_weights_predict_where_the_recipe_says_so(finished: Path, data: DataSet, tmp_path: Path) -> None:
    recipe = tiny_run_recipe({"predict.weights": "best"})
    run_recipe(recipe, tmp_path / "run", data_path=None)
    (tmp_path / "run" / "train" / "fold-0" / WEIGHTS_LAST).unlink()
    assert len(predict_with_run(tmp_path / "run", write_set(data, tmp_path / "data"))[0]) == 5
    assert json.loads((tmp_path / "run" / "record.json").read_text())["recipe_digest"] == recipe.digest


def test_snapshots_predict_by_their_weighted_mean(tmp_path: Path, data: DataSet) -> None:
    changes = {
        "stages.0.epochs": 1, "stages.1.epochs": 1, "stages.1.cycles": 2, "stages.1.framing": {"size": 32},
        "stages.1.framing.method": "resize", "stages.0.snapshot": {"weight": 3.0}, "stages.1.snapshot": {},
        "average.decay": 0.0, "predict.weights": "snapshots", "predict.threshold": 0.5, "stages.1.schedule": {},
    }  # fmt: skip
    recipe = tiny_run_recipe(changes)
    record = run_recipe(recipe, tmp_path / "run", data_path=None)
    fabric = make_fabric("float32", devices=1)
    folder, step = tmp_path / "run" / "train" / "fold-0", recipe.all_steps[0]
    assert isinstance(step, Train)
    mean, has_salt = np.zeros(data.unlabelled.images.shape), np.zeros(len(data.unlabelled))
    for name, weight in (("small-best", 3), ("native-1-best", 1), ("native-2-best", 1)):
        path = folder / f"snapshot-{name}.safetensors"
        for part in net_batches(recipe, data.unlabelled, weights=path, fabric=fabric):
            assert part.has_salt is not None
            mean += part.mask * weight / 5
            has_salt += part.has_salt * weight / 5
    [batch] = fold_batches(recipe, step, data.unlabelled, fold=0, out=tmp_path / "run", fabric=fabric)
    assert batch.mask == pytest.approx(mean, abs=1e-6)
    kept = read_predictions(tmp_path / "run" / "predict").has_salt
    assert kept is not None
    assert kept.unlabelled == pytest.approx(has_salt, abs=1e-6)
    assert len(kept.held_out) == 10
    assert record["epochs"] == 3
