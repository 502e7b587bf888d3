"""Runs that learn from unlabelled tiles."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.nets.build import build_net
from diapir.nets.framing import InputSpec
from diapir.nets.infer import predict_heads
from diapir.nets.weights import load_tensors
from diapir.pipeline import run as pipeline
from diapir.pipeline import training
from diapir.pipeline.predictions import read_predictions
from diapir.pipeline.run import run_recipe
from diapir.recipe.whole import Recipe
from diapir.train.sitting import Fold, stage_frame
from diapir.train.snapshots import WEIGHTS_LAST
from diapir.train.tile_tensors import tile_tensors
from fake_training import TINY, tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def semi_recipe(kind: str, changes: dict[str, Any] | None = None) -> Recipe:
    stages = [{**TINY["stages"][0], "epochs": 1}]
    return tiny_run_recipe({"stages": stages, "average.decay": 0.0, "semi": {"kind": kind}} | (changes or {}))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make_synthetic(labelled=20, unlabelled=5, seed=1)[0]


def test_two_nets_predict_the_mean_of_what_each_says(tmp_path: Path, data: DataSet) -> None:
    recipe = semi_recipe("co-training")
    run_recipe(recipe, tmp_path / "run", data_path=None)
    tensors, facts = load_tensors(tmp_path / "run" / "train" / "fold-0" / WEIGHTS_LAST)
    spec = InputSpec(**facts["spec"] | {"channels": tuple(facts["spec"]["channels"])})
    total = torch.zeros(5, 101, 101)
    for side in ("first.", "second."):
        net = build_net(recipe.net, in_channels=len(spec.channels))
        own = {name.removeprefix(side): value for name, value in tensors.items() if name.startswith(side)}
        net.load_state_dict(own)
        tiles = tile_tensors(data.unlabelled, torch.device("cpu"))
        batches = predict_heads(
            net, tiles, spec=spec, frame=stage_frame(recipe, recipe.stages[-1]), views=("plain", "flip"), batch=5,
            autocast=torch.no_grad,
        )  # fmt: skip
        total += torch.cat([each.mask for each in batches]) / 2
    found = read_predictions(tmp_path / "run" / "predict").unlabelled.astype(np.float32)
    assert np.abs(found - total.numpy()).max() < 2e-3


@pytest.mark.parametrize("kind", ["mean-teacher", None])
def test_a_fold_is_given_all_unlabelled_tiles_and_none_of_the_labelled_only_if_its_recipe_asks(
    kind: str | None, tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds: list[Fold] = []

    def note(_: Recipe, fold: Fold, **__: object) -> None:
        folds.append(fold)
        raise InputError.of("", "enough")

    monkeypatch.setattr(training, "fit_fold", note)
    recipe = semi_recipe("mean-teacher") if kind else tiny_run_recipe()
    with pytest.raises(InputError, match="enough"):
        run_recipe(recipe, tmp_path / "run", data_path=None)
    given = folds[0].unlabelled
    if kind is None:
        assert given is None
    else:
        assert given is not None
        assert given.masks is None
        assert np.array_equal(given.images.numpy(), data.unlabelled.images)


@pytest.mark.parametrize("constant", [False, True])
def test_data_without_unlabelled_tiles_are_refused_before_anything_is_trained(
    constant: bool, tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None at all, or only such as the recipe leaves out.
    tiles = data.unlabelled.take(np.arange(2 if constant else 0))
    none = replace(data, unlabelled=replace(tiles, images=np.zeros_like(tiles.images)))
    monkeypatch.setattr(pipeline, "open_run_data", lambda *_, **__: (none, None))
    recipe = semi_recipe("mean-teacher", {"data.drop_constant": constant})
    with pytest.raises(InputError) as error:
        run_recipe(recipe, tmp_path / "run", data_path=None)
    assert str(error.value).startswith("step train: semi.kind 'mean-teacher' learns from unlabelled tiles too, and the")
    assert not (tmp_path / "run" / "recipe.yaml").exists()
