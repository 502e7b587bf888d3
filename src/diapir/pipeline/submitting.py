"""The submit step: threshold, score, picture and submission."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import known_alone
from diapir.metrics import bootstrap_interval, mask_scores
from diapir.pipeline.plan import PICTURE, SUBMISSION
from diapir.pipeline.predictions import Predictions
from diapir.pipeline.workplace import Workplace
from diapir.predict.calibration import calibration_table
from diapir.predict.comparing import HELD_OUT, write_held_out
from diapir.predict.pictures import draw_predictions
from diapir.predict.submission import write_submission
from diapir.predict.threshold import CANDIDATES, best_threshold, candidate_scores, crossed_cuts, kept_curve
from diapir.recipe.steps import PseudoLabel, sources
from diapir.recipe.whole import Recipe

_Number = NDArray[np.float64]


def submit(place: Workplace, found: Predictions, *, wanted: float | Literal["tuned"]) -> dict[str, Any]:
    """Write the submission and the picture; gives the figures of the record.

    Args:
        wanted: the threshold, or `tuned` for the best on the held-out tiles.
    """
    tiles = place.data.labelled.take(found.rows)
    assert tiles.masks is not None
    truth, held_out = (tiles.masks == 1).astype(np.uint8), known_alone(found.held_out, tiles.masks)
    threshold, scores, figures = _choose_threshold(held_out, truth, wanted=wanted)
    figures["score_kind"] = "; ".join([figures["score_kind"], *flatterers(place.recipe)])
    score = f"{figures['score']:.4f} {interval_text(figures['interval_95'])}"
    draw_predictions(
        place.out / PICTURE,
        ids=tiles.ids,
        images=tiles.images,
        truth=truth,
        probability=held_out.astype(np.float32),
        threshold=threshold,
        scores=scores,
        title=f"{place.recipe.name}: score {score} on held-out tiles",
    )
    write_held_out(place.out / HELD_OUT, tiles, scores)
    if len(place.data.unlabelled):
        masks = (found.unlabelled > threshold).astype(np.uint8)
        write_submission(place.out / SUBMISSION, place.data.unlabelled.ids, masks)
    return figures | {"threshold": threshold, "calibration": calibration_table(found.held_out, tiles.masks)}


def flatterers(recipe: Recipe) -> list[str]:
    """What makes the score of the submission look better than on tiles that nothing was chosen on, in words.

    Weights and thresholds do not: each held-out tile is predicted with those that other tiles decide.
    """
    behind, told = {recipe.all_steps[-1].name}, list[str]()
    for step in reversed(recipe.all_steps):
        if step.name in behind:
            behind |= {name for name, _ in sources(step).values()}
            if isinstance(step, PseudoLabel) and not step.leak_free:
                told.append(f"nets behind {step.name} had learned from them")
    return told[::-1]


def interval_text(interval: Sequence[float]) -> str:
    """For a person: `(0.7980 to 0.8490)`."""
    return f"({interval[0]:.4f} to {interval[1]:.4f})"


def _choose_threshold(
    probability: NDArray[np.float16], truth: NDArray[np.uint8], *, wanted: float | Literal["tuned"]
) -> tuple[float, _Number, dict[str, Any]]:
    """Threshold, score of each tile, and the figures of the record."""
    scores = candidate_scores(probability, truth)
    at_half = scores[CANDIDATES.index(0.5)]
    if wanted == "tuned":
        threshold, kind = best_threshold(scores), "each tile at a threshold chosen on other tiles"
        rows = [CANDIDATES.index(cut) for cut in crossed_cuts(scores)]
        honest = scores[rows, np.arange(len(rows))]
    else:
        threshold, kind = wanted, "at the recipe's threshold"
        honest = mask_scores(probability > threshold, truth)
    interval = bootstrap_interval(honest, rng=np.random.default_rng(0))
    figures = {
        "score": round(float(honest.mean()), 5),
        "interval_95": [round(bound, 5) for bound in interval],
        "score_kind": f"mean over {len(honest)} held-out tiles, {kind}",
        "score_at_half": round(float(at_half.mean()), 5),
        "score_by_threshold": kept_curve(scores),
    }
    return threshold, honest, figures
