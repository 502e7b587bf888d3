"""The blend and post-process steps: predictions of several steps made one, and masks edited."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.data.mosaic import NONE, find_mosaics
from diapir.metrics import tile_scores
from diapir.pipeline.plan import figures_of
from diapir.pipeline.predictions import Predictions, read_predictions, unlabelled_name, write_array, write_predictions
from diapir.pipeline.workplace import Workplace
from diapir.predict.build import OutOfFold, build_blend, build_edits
from diapir.predict.gain import paired_gain
from diapir.predict.mosaic_edits import apply_mosaic_rules
from diapir.predict.mosaic_rules import labelled_survey
from diapir.predict.postprocess import Masks, Prediction, apply_edits
from diapir.predict.threshold import CANDIDATES, best_threshold, candidate_scores
from diapir.recipe.mosaics import MosaicRule
from diapir.recipe.steps import BlendStep, PostProcessStep


def blend(place: Workplace, step: BlendStep, *, folds: tuple[int, ...]) -> dict[str, Any]:
    """Write the blend of its members; gives the rule and what out-of-fold tiles decided in it.

    Tiles count that every member held out.

    Args:
        folds: for which the blend of each member's own fold is kept too.

    Raises:
        InputError: the recipe speaks of more or fewer members than there are.
    """
    members = [read_predictions(place.out / name) for name in step.of]
    rows = members[0].rows
    for member in members[1:]:
        rows = np.intersect1d(rows, member.rows)
    held_out = [member.held_out[_places(member.rows, rows)] for member in members]
    seconds = [_seconds(place, name) for name in step.of]
    built = build_blend(step.ensemble, OutOfFold(members=held_out, truth=_truth(place, rows), seconds=seconds))

    def blended(parts: list[NDArray[np.float16]]) -> NDArray[np.float16]:
        return built.blend([parts[member] for member in built.needed]).astype(np.float16)

    folder = place.out / step.name
    for fold in folds:
        parts = [read_predictions(place.out / name, fold).unlabelled for name in step.of]
        write_array(folder / unlabelled_name(fold), blended(parts))
    found = Predictions(
        rows=rows, held_out=blended(held_out), unlabelled=blended([member.unlabelled for member in members])
    )
    write_predictions(folder, found)
    return built.record | {"seconds": round(sum(seconds[member] for member in built.needed), 2)}


def post_process(place: Workplace, step: PostProcessStep) -> dict[str, Any]:
    """Write edited masks; gives for each edit what it changed, and its gain on out-of-fold tiles."""
    source = read_predictions(place.out / step.of)
    truth = _truth(place, source.rows)
    scores = candidate_scores(source.held_out, truth)
    edits = build_edits(step, tuned_cut=best_threshold(scores))
    labelled = Prediction(place.data.labelled.images[source.rows], source.held_out)
    masks, on_labelled = apply_edits(edits, labelled, truth=truth, without=step.off)
    before = _score_before(scores)
    unlabelled = Prediction(place.data.unlabelled.images, source.unlabelled)
    others, on_unlabelled = apply_edits(edits, unlabelled, score=before, without=step.off)
    by_mosaics: dict[str, Any] = {}
    if step.mosaic_rules:
        masks, others, by_mosaics = _by_mosaics(place, source.rows, masks, others, rules=step.mosaic_rules)
    found = Predictions(rows=source.rows, held_out=masks.astype(np.float16), unlabelled=others.astype(np.float16))
    write_predictions(place.out / step.name, found)
    return by_mosaics | {
        "held_out": [asdict(each) for each in on_labelled],
        "unlabelled": [asdict(each) for each in on_unlabelled],
        "seconds": _seconds(place, step.of),
    }


def _by_mosaics(
    place: Workplace, rows: NDArray[np.int64], held_out: Masks, unlabelled: Masks, *, rules: Sequence[MosaicRule]
) -> tuple[Masks, Masks, dict[str, Any]]:
    """Masks after the rules of mosaics, and what these did: to held-out tiles as if their fold's masks were unknown."""
    data, count = place.data, len(place.data.labelled)
    survey = labelled_survey(data, find_mosaics(np.concatenate([data.labelled.images, data.unlabelled.images])))
    predicted = np.concatenate([np.zeros_like(data.labelled.images), unlabelled])
    predicted[rows] = held_out
    edited, records = apply_mosaic_rules(predicted, survey, rules=rules)
    after = held_out.copy()
    for fold in np.unique(place.numbers[rows]):
        truth_row = survey.truth_row.copy()
        truth_row[:count][place.numbers == fold] = NONE
        by_others, _ = apply_mosaic_rules(predicted, replace(survey, truth_row=truth_row), rules=rules)
        own = place.numbers[rows] == fold
        after[own] = by_others[rows[own]]
    truth = torch.from_numpy(_truth(place, rows))
    scores = [tile_scores(torch.from_numpy(masks), truth).double().numpy() for masks in (held_out, after)]
    done = [{"rule": each.rule, "reached": each.num_reached, "changed": len(each.changed)} for each in records]
    return after, edited[count:], {"mosaic_rules": done, "mosaic_gain": asdict(paired_gain(*scores))}


def _truth(place: Workplace, rows: NDArray[np.int64]) -> Masks:
    masks = place.data.labelled.masks
    assert masks is not None
    return masks[rows]


def _places(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` stands in `rows`."""
    order = np.argsort(rows)
    return order[np.searchsorted(rows[order], wanted)]


def _seconds(place: Workplace, name: str) -> float:
    return float(figures_of(place.out, name)["seconds"])


def _score_before(scores: NDArray[np.float64]) -> float:
    """The score at a half, before any edit."""
    return float(scores[CANDIDATES.index(0.5)].mean())
