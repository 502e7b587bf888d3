"""Tiles that a run has not seen, taken through the steps that led to its submission."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from diapir.data.folds import read_fold_ids
from diapir.data.image_folder import is_image_folder, read_image_folder
from diapir.data.tgs import open_data
from diapir.data.tiles import DataSet, TileSet
from diapir.faults import InputError
from diapir.pipeline.blending import mean_has_salt
from diapir.pipeline.bundle import open_model
from diapir.pipeline.members import built_blend, steps_behind
from diapir.pipeline.mosaics import mosaics_of
from diapir.pipeline.plan import FOLDS, STEP, figures_of
from diapir.pipeline.predicting import mean_batches
from diapir.pipeline.workplace import step_named, trained_step
from diapir.predict.build import build_edits
from diapir.predict.mosaic_edits import apply_mosaic_rules
from diapir.predict.mosaic_rules import labelled_survey
from diapir.predict.postprocess import Masks, Prediction, apply_edits
from diapir.recipe.mosaics import MosaicRule
from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, sources
from diapir.recipe.whole import Recipe
from diapir.train.together import make_fabric


@dataclass(frozen=True)
class _Task:
    """A finished run, and a data set whose unlabelled tiles are to go its way."""

    run: Path
    recipe: Recipe
    data: DataSet
    fabric: Fabric


@dataclass(frozen=True)
class _Found:
    """What a step makes of the tiles.

    Args:
        mask: float16 (n, h, w), through which the run's own went as well.
        has_salt: float32 (n,), or None.
    """

    mask: NDArray[np.float16]
    has_salt: NDArray[np.float32] | None = None


def predict_with_run(run: Path, data_path: Path, *, skip_bad: bool = False) -> tuple[TileSet, Masks]:
    """Masks of a data set's unlabelled tiles, made as a finished run made its submission; a bundle of one will do.

    A folder of PNGs of 101x101 pixels is a data set too.

    Nothing is decided anew: weights of blends, thresholds and guards are those that the run kept. Every model's
    probabilities are in memory until they are blended, 370 MB each for 18,000 tiles.

    Raises:
        InputError: the run is not finished, its files are damaged or lack what a step decided; the bundle is not
            sound; the data are faulty or have no unlabelled tiles; or the run's mosaic rules need labelled tiles that
            are not among the data.
    """
    model = open_model(run)
    recipe = model.recipe
    data = (read_image_folder if is_image_folder(data_path) else open_data)(data_path, skip_bad=skip_bad)
    if not len(data.unlabelled):
        raise InputError.of(data_path, "expected unlabelled tiles to find salt in, found none")
    task = _Task(run, recipe, data, make_fabric(recipe.precision, devices=1))
    source = sources(recipe.all_steps[-1])["of"][0]
    _require_labelled(task, data_path)
    return data.unlabelled, (_result_of(task, source).mask > model.threshold).astype(np.uint8)


def _result_of(task: _Task, name: str) -> _Found:
    """What a predict, blend or post-process step makes of the tiles."""
    match step_named(task.recipe, name):
        case PredictStep() as step:
            return _predicted(task, step)
        case BlendStep() as step:
            return _blended(task, step)
        case PostProcessStep() as step:
            return _edited(task, step)
        case step:
            raise AssertionError(f"a {step.do} step gives no predictions")


def _predicted(task: _Task, step: PredictStep) -> _Found:
    trained = trained_step(task.recipe, step)
    batches = mean_batches(task.recipe, trained, task.data.unlabelled, out=task.run, fabric=task.fabric)
    means = [(mean.mask.astype(np.float16), mean.has_salt) for mean, _ in batches]
    has_salt = [known for _, known in means if known is not None]
    return _Found(np.concatenate([mask for mask, _ in means]), np.concatenate(has_salt) if has_salt else None)


def _blended(task: _Task, step: BlendStep) -> _Found:
    built, ranges = built_blend(task.run, step)
    parts = [_result_of(task, step.of[member]) for member in built.needed]
    mask = built.blend([part.mask for part in parts], ranges=ranges).astype(np.float16)
    return _Found(mask, mean_has_salt(built, [part.has_salt for part in parts]))


def _edited(task: _Task, step: PostProcessStep) -> _Found:
    is_tuned = any(getattr(edit, "cut", None) == "tuned" for edit in step.edits)
    is_guarded = any(getattr(edit, "only_if_score_below", None) is not None for edit in step.edits)
    needed = ["tuned_cut"] * is_tuned + ["score_before"] * is_guarded
    kept = figures_of(task.run, step.name, keys=needed)
    if not all(type(kept[key]) in (int, float) for key in needed):
        raise InputError.of(task.run / step.name / STEP, "expected numbers for figures; use another copy of the run")
    source = _result_of(task, step.of)
    cut = np.full(len(source.mask), kept["tuned_cut"]) if is_tuned else None
    tiles = Prediction(task.data.unlabelled.images, source.mask, source.has_salt, cut)
    score = kept["score_before"] if is_guarded else None
    masks, _ = apply_edits(build_edits(step), tiles, score=score, without=step.edits_off, sizes=_sizes(task, step))
    if step.rules_on:
        masks = _by_mosaics(task, masks, rules=step.rules_on)
    return _Found(masks.astype(np.float16), source.has_salt)


def _sizes(task: _Task, step: PostProcessStep) -> dict[str, int]:
    """The sizes of pieces that the run tuned, by the edits' names."""
    names = {
        edit.name for edit in step.edits if getattr(edit, "smaller_than", None) == "tuned" and edit.name not in step.off
    }
    if not names:
        return {}
    sizes = figures_of(task.run, step.name, keys=["tuned_sizes"])["tuned_sizes"]
    if not isinstance(sizes, dict) or not all(type(sizes.get(name)) is int and sizes[name] > 0 for name in names):
        raise InputError.of(task.run / step.name / STEP, "expected sizes of pieces; use another copy of the run")
    return sizes


def _by_mosaics(task: _Task, masks: Masks, *, rules: Sequence[MosaicRule]) -> Masks:
    """Masks after the rules of mosaics; the data set's labelled tiles are known."""
    labelled = task.data.labelled
    survey = labelled_survey(task.data, mosaics_of(task.data, task.run, keep=False))
    edited, _ = apply_mosaic_rules(np.concatenate([np.zeros_like(labelled.images), masks]), survey, rules=rules)
    return edited[len(labelled) :]


def _require_labelled(task: _Task, data_path: Path) -> None:
    """Refuse mosaic rules where the run's labelled tiles are not at hand, before anything is predicted."""
    for step in steps_behind(task.run, task.recipe):
        if not isinstance(step, PostProcessStep) or not step.rules_on:
            continue
        missing = sorted(set(read_fold_ids(task.run / FOLDS)) - set(task.data.labelled.ids))
        if not missing:
            continue
        rules = ", ".join(step.rules_on)
        raise InputError.of(
            data_path,
            f"step '{step.name}' of the run edits masks by what neighbours in the survey say ({rules}), and needs "
            f"its labelled tiles for that; {len(missing)} of them are not here, e.g. {missing[0]}: give one data set "
            f"with these and the new tiles",
        )
