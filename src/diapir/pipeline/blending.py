"""The blend and post-process steps: predictions of several steps made one, and masks edited."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.pipeline.plan import figures_of
from diapir.pipeline.predictions import Predictions, read_predictions, unlabelled_name, write_array, write_predictions
from diapir.pipeline.workplace import Workplace
from diapir.predict.build import OutOfFold, build_blend, build_edits
from diapir.predict.postprocess import Masks, Prediction, apply_edits
from diapir.predict.threshold import CANDIDATES, best_threshold, candidate_scores
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
    found = Predictions(rows=source.rows, held_out=masks.astype(np.float16), unlabelled=others.astype(np.float16))
    write_predictions(place.out / step.name, found)
    return {
        "held_out": [asdict(each) for each in on_labelled],
        "unlabelled": [asdict(each) for each in on_unlabelled],
        "seconds": _seconds(place, step.of),
    }


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
