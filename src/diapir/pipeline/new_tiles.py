"""Tiles that a run has not seen, taken through the steps that led to its submission."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from diapir.data.folds import read_fold_ids
from diapir.data.tgs import open_data
from diapir.data.tiles import DataSet, TileSet
from diapir.faults import InputError
from diapir.pipeline.blending import mean_has_salt
from diapir.pipeline.mosaics import mosaics_of
from diapir.pipeline.plan import FOLDS, RECIPE, RECORD, figures_of, require_finished
from diapir.pipeline.predicting import mean_batches
from diapir.pipeline.workplace import step_named, trained_step
from diapir.predict.build import build_edits, stored_blend
from diapir.predict.mosaic_edits import apply_mosaic_rules
from diapir.predict.mosaic_rules import labelled_survey
from diapir.predict.postprocess import Masks, Prediction, apply_edits
from diapir.recipe.files import read_recipe
from diapir.recipe.mosaics import MosaicRule
from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, sources
from diapir.recipe.whole import Recipe
from diapir.runs import read_json
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
    """Masks of a data set's unlabelled tiles, made as a finished run made its submission.

    Nothing is decided anew: weights of blends, thresholds and guards are those that the run kept. Every model's
    probabilities are in memory until they are blended, 370 MB each for 18,000 tiles.

    Raises:
        InputError: the run is not finished, its files are damaged or lack what a step decided; the data are faulty or
            have no unlabelled tiles; or the run's mosaic rules need labelled tiles that are not among the data.
    """
    require_finished(run)
    record = read_json(run / RECORD)
    recipe = read_recipe(run / RECIPE)
    if not isinstance(record, dict) or record.get("recipe_digest") != recipe.digest or "threshold" not in record:
        raise InputError.of(run, f"its {RECORD} and {RECIPE} do not belong together; use another copy of the run")
    data = open_data(data_path, skip_bad=skip_bad)
    if not len(data.unlabelled):
        raise InputError.of(data_path, "expected unlabelled tiles to find salt in, found none")
    task = _Task(run, recipe, data, make_fabric(recipe.precision, devices=1))
    source = sources(recipe.all_steps[-1])["of"][0]
    _require_labelled(task, source, data_path)
    return data.unlabelled, (_result_of(task, source).mask > record["threshold"]).astype(np.uint8)


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
    kept = figures_of(task.run, step.name, keys=["members", *(["ranges"] if step.ensemble.rescale else [])])
    built = stored_blend(step.ensemble, kept)
    parts = [_result_of(task, step.of[member]) for member in built.needed]
    ranges = [(float(low), float(high)) for low, high in kept.get("ranges", ())]
    mask = built.blend([part.mask for part in parts], ranges=ranges).astype(np.float16)
    return _Found(mask, mean_has_salt(built, [part.has_salt for part in parts]))


def _edited(task: _Task, step: PostProcessStep) -> _Found:
    is_tuned = any(getattr(edit, "cut", None) == "tuned" for edit in step.edits)
    is_guarded = any(getattr(edit, "only_if_score_below", None) is not None for edit in step.edits)
    kept = figures_of(task.run, step.name, keys=["tuned_cut"] * is_tuned + ["score_before"] * is_guarded)
    source = _result_of(task, step.of)
    cut = np.full(len(source.mask), kept["tuned_cut"]) if is_tuned else None
    tiles = Prediction(task.data.unlabelled.images, source.mask, source.has_salt, cut)
    masks, _ = apply_edits(build_edits(step), tiles, score=kept.get("score_before"), without=step.off)
    if step.mosaic_rules:
        masks = _by_mosaics(task, masks, rules=step.mosaic_rules)
    return _Found(masks.astype(np.float16), source.has_salt)


def _by_mosaics(task: _Task, masks: Masks, *, rules: Sequence[MosaicRule]) -> Masks:
    """Masks after the rules of mosaics; the data set's labelled tiles are known."""
    labelled = task.data.labelled
    survey = labelled_survey(task.data, mosaics_of(task.data, task.run, keep=False))
    edited, _ = apply_mosaic_rules(np.concatenate([np.zeros_like(labelled.images), masks]), survey, rules=rules)
    return edited[len(labelled) :]


def _require_labelled(task: _Task, name: str, data_path: Path) -> None:
    """Refuse mosaic rules where the run's labelled tiles are not at hand, before anything is predicted."""
    step = step_named(task.recipe, name)
    if isinstance(step, PredictStep):
        return
    for source, _ in sources(step).values():
        _require_labelled(task, source, data_path)
    if not isinstance(step, PostProcessStep) or not step.mosaic_rules:
        return
    missing = sorted(set(read_fold_ids(task.run / FOLDS)) - set(task.data.labelled.ids))
    if missing:
        raise InputError.of(
            data_path,
            f"step '{name}' of the run edits masks by what neighbours in the survey say ({', '.join(step.mosaic_rules)}"
            f"), and needs its labelled tiles for that; {len(missing)} of them are not here, e.g. {missing[0]}: give "
            f"one data set with these and the new tiles",
        )
