"""What every step of a run is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from diapir.data.section_folds import keep_apart
from diapir.data.tiles import DataSet, TileSet
from diapir.recipe.steps import BlendStep, PredictStep, PseudoLabel, Step, Train
from diapir.recipe.whole import Recipe
from diapir.train.tracking import TrackerName

Fold = int | None
"""Number of a fold, or None for the single model of a step that holds no fold out."""


@dataclass(frozen=True)
class Workplace:
    """A run's recipe, data, folder and devices.

    Args:
        numbers: fold of each labelled tile, (n,).
        trackers: where epochs are told besides the run's own log.
    """

    recipe: Recipe
    data: DataSet
    numbers: NDArray[np.int64]
    out: Path
    fabric: Fabric
    trackers: Sequence[TrackerName] = ()


def step_named(recipe: Recipe, name: str) -> Step:
    """The step of that name."""
    return next(step for step in recipe.all_steps if step.name == name)


def trained_step(recipe: Recipe, step: PredictStep) -> Train:
    """The train step whose models a predict step asks."""
    trained = step_named(recipe, step.of)
    assert isinstance(trained, Train)
    return trained


def folds_of(recipe: Recipe, step: Train) -> tuple[Fold, ...]:
    """The folds that a train step makes a model for."""
    if step.one_model:
        return (None,)
    return held_out_folds(recipe)


def held_out_folds(recipe: Recipe) -> tuple[int, ...]:
    """The folds that are held out, each from a model of its own."""
    return recipe.folds.held_out or tuple(range(recipe.folds.count))


def folds_to_keep(recipe: Recipe, name: str) -> tuple[int, ...]:
    """Folds whose models' own predictions of unlabelled tiles a later step will ask for; none where nobody asks."""
    for step in recipe.all_steps:
        if isinstance(step, PseudoLabel) and step.leak_free and step.of == name:
            return held_out_folds(recipe)
        if isinstance(step, BlendStep) and name in step.of and folds_to_keep(recipe, step.name):
            return held_out_folds(recipe)
    return ()


def fold_folder(out: Path, step: Train, fold: Fold) -> Path:
    """Where a fold's weights and log lie."""
    return out / step.name / ("model" if fold is None else f"fold-{fold}")


def held_out_rows(place: Workplace, fold: Fold) -> NDArray[np.int64]:
    """Labelled tiles that a fold's model is not trained on, and scored on."""
    if fold is None:
        return np.arange(len(place.data.labelled))
    return np.flatnonzero(place.numbers == fold)


def training_part(place: Workplace, fold: Fold) -> TileSet:
    """Labelled tiles that a fold's model is trained on; what is too near to those held out is unknown in them."""
    others = place.data.labelled.take(np.flatnonzero(place.numbers != fold))
    gap = place.recipe.folds.gap
    if gap is None:
        return others
    return keep_apart(others, place.data.labelled.take(held_out_rows(place, fold)), gap=gap)
