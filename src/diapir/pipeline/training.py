"""The train step: a model for each fold, on labelled and pseudo-labelled tiles."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN, DataSet, TileSet, is_constant
from diapir.faults import Fault, InputError, raise_if_any
from diapir.nets.framing import InputSpec
from diapir.nets.infer import TileTensors
from diapir.pipeline.begin_with import bundled_weights
from diapir.pipeline.plan import begins_with_best
from diapir.pipeline.pseudo import read_pseudo_labels
from diapir.pipeline.workplace import Fold as FoldNumber
from diapir.pipeline.workplace import (
    Workplace,
    fold_folder,
    folds_of,
    held_out_rows,
    step_named,
    training_part,
)
from diapir.recipe.steps import LABELLED, PseudoLabel, Train
from diapir.recipe.whole import Recipe
from diapir.runs import locked_folder
from diapir.train.epoch_log import Record, read_log
from diapir.train.fit import fit_fold
from diapir.train.offline import fourfold
from diapir.train.sitting import Fold
from diapir.train.snapshots import WEIGHTS_BEST, WEIGHTS_LAST
from diapir.train.stop import Stopped
from diapir.train.tile_tensors import input_spec, tile_tensors
from diapir.train.tracking import Tracker, open_trackers

LEAVING_S = 60.0
"""How long a fold waits for a process that writes in its folder: one that was given up saves its state and leaves."""


def require_unlabelled(recipe: Recipe, data: DataSet) -> None:
    """Refuse steps that ask for unlabelled tiles of a data set that has none: before a teacher is trained for days.

    Raises:
        InputError: naming each of them.
    """
    faults = []
    for step in recipe.all_steps:
        semi = recipe.of_step(step).semi if isinstance(step, Train) else None
        if semi is not None and not len(_learnable(data.unlabelled, recipe)):
            what = f"semi.kind '{semi.kind}' learns from unlabelled tiles too, and the data have none to use"
            faults.append(Fault(f"step {step.name}", f"{what}; add some, or set semi to null"))
        if isinstance(step, PseudoLabel) and not len(data.unlabelled):
            what = "it labels unlabelled tiles, and the data have none; add some, or take the step out"
            faults.append(Fault(f"step {step.name}", what))
    raise_if_any(faults)


def train(place: Workplace, step: Train, *, digest: str, stop_asked: Callable[[], int | None]) -> dict[str, Any]:
    """Train what is not trained yet, one fold after another; gives what `train_figures` does.

    Raises:
        Stopped, TrainingFailed, InputError: as `train_fold`.
    """
    logs = []
    for fold in folds_of(place.recipe, step):
        trackers = open_trackers(place.trackers, place.out, run_name=tracked_name(place, step, fold))
        logs.append(train_fold(place, step, fold, digest=digest, stop_asked=stop_asked, trackers=trackers))
    return train_figures(logs)


def train_fold(
    place: Workplace,
    step: Train,
    fold: FoldNumber,
    *,
    digest: str,
    stop_asked: Callable[[], int | None],
    trackers: Sequence[Tracker] = (),
    shown: bool = True,
) -> list[dict[str, Any]]:
    """Train one fold's model, or go on with it; gives its epochs.

    Args:
        digest: of the step.
        shown: whether a person is shown a bar and the epochs.

    Raises:
        Stopped, TrainingFailed, InputError: as `fit_fold`; or the fold has fewer than two tiles to train on, or another
            process is training it.
    """
    recipe, device = place.recipe.of_step(step), place.fabric.device
    name, folder = fold_name(step, fold), fold_folder(place.out, step, fold)
    training, spec = _training_tiles(place, step, fold, name=name)
    begin_with = _weights_to_begin_with(place, step, fold)
    if recipe.begin_with is not None:
        bundled, spec = bundled_weights(recipe, fold)
        begin_with = begin_with or bundled
    held_out = place.data.labelled.take(held_out_rows(place, fold))
    unlabelled = None if recipe.semi is None else tile_tensors(_learnable(place.data.unlabelled, recipe), device)
    with locked_folder(folder, wait_s=LEAVING_S) if place.fabric.is_global_zero else nullcontext():
        fit_fold(
            recipe,
            Fold(
                name=name,
                train=training,
                held_out=tile_tensors(held_out, device),
                spec=spec,
                identity=f"{digest} fold {fold}",
                unlabelled=unlabelled,
            ),
            folder=folder,
            fabric=place.fabric,
            begin_with=begin_with,
            trackers=trackers,
            stop_asked=stop_asked,
            shown=shown,
        )
        # Asked while the last epoch was scored, when no step was left to stop at.
        if (number := stop_asked()) is not None:
            raise Stopped(number)
        return read_log(folder)


def train_figures(logs: Sequence[Sequence[Record]]) -> dict[str, Any]:
    """Minutes and epochs, summed and counted over the folds, on how many threads of which devices, and peak memory.

    Epochs of an earlier version did not keep their memory; then it is None.
    """
    epochs = [record for log in logs for record in log]
    return {
        "train_minutes": round(sum(log[-1]["elapsed_s"] for log in logs) / 60, 2),
        "epochs": max(map(len, logs)),
        "models": len(logs),
        "threads": sorted({record["threads"] for record in epochs if "threads" in record}),
        "devices": sorted({record["device"] for record in epochs if "device" in record}),
        "peak_memory_mb": max(
            (record["peak_memory_mb"] for record in epochs if "peak_memory_mb" in record), default=None
        ),
    }


def fold_name(step: Train, fold: FoldNumber) -> str:
    """A fold of a step in words."""
    return step.name if fold is None else f"{step.name} fold {fold}"


def tracked_name(place: Workplace, step: Train, fold: FoldNumber) -> str:
    """What trackers call a fold's training."""
    return f"{place.recipe.name}-{fold_name(step, fold).replace(' ', '-')}"


def _training_tiles(place: Workplace, step: Train, fold: FoldNumber, *, name: str) -> tuple[TileTensors, InputSpec]:
    """The tiles that a fold's model learns from, in the order of `step.tiles`, and how their grey values are scaled."""
    recipe, data = place.recipe, place.data
    parts: list[tuple[TileSet, NDArray[Any]]] = []
    for source in step.tiles:
        if source == LABELLED:
            tiles = _learnable(training_part(place, fold), recipe)
            assert tiles.masks is not None
            parts.append((tiles, tiles.masks))
        else:
            rows, masks = read_pseudo_labels(place.out / source, fold, tiles=data.unlabelled)
            parts.append((data.unlabelled.take(rows), masks))
    images = np.concatenate([tiles.images for tiles, _ in parts])
    if len(images) < 2:
        raise InputError.of(name, f"expected at least 2 tiles to train on, found {len(images)}")
    together = TileSet(
        ids=tuple(name for tiles, _ in parts for name in tiles.ids),
        images=images,
        masks=None,
        depths_m=np.concatenate([tiles.depths_m for tiles, _ in parts]),
    )
    # Beside the set, whose masks are whole numbers: soft labels are probabilities.
    answers = np.concatenate([masks for _, masks in parts])
    training = replace(
        tile_tensors(together, place.fabric.device),
        masks=torch.from_numpy(answers).to(place.fabric.device),
        is_partial=bool((answers == UNKNOWN).any()),
        is_soft=answers.dtype.kind == "f",
    )
    if recipe.data.fourfold_shift:
        drawn = torch.Generator().manual_seed(recipe.seed)
        training = fourfold(training, shift=recipe.data.fourfold_shift, rng=drawn)
    return training, input_spec(recipe.of_step(step).input, together, data)


def _learnable(tiles: TileSet, recipe: Recipe) -> TileSet:
    """Tiles without those that the recipe leaves out of training."""
    if not recipe.data.drop_constant:
        return tiles
    return tiles.take(np.flatnonzero(~is_constant(tiles.images)))


def _weights_to_begin_with(place: Workplace, step: Train, fold: FoldNumber) -> Path | None:
    if not step.start_from:
        return None
    source = step_named(place.recipe, step.start_from)
    assert isinstance(source, Train)
    name = WEIGHTS_BEST if begins_with_best(place.recipe, step) else WEIGHTS_LAST
    return fold_folder(place.out, source, None if source.one_model else fold) / name
