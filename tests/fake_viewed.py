"""What the viewer's tests look at: a made survey with salt in it, and a run of two members, without any training."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift

from diapir.data.folds import write_folds
from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import write_data
from diapir.metrics import mask_scores
from diapir.pipeline.plan import FOLDS, RECIPE, STEP
from diapir.pipeline.predictions import Predictions, write_predictions
from diapir.predict.comparing import HELD_OUT, write_held_out
from diapir.recipe.files import write_recipe
from diapir.record import RECORD
from diapir.runs import write_json, write_text
from diapir.volume.store import Store
from diapir.volume.synthetic_survey import make_survey
from fake_stores import fake_store
from fake_training import tiny_recipe

MEMBERS = ("left-says", "right-says")
_STEPS: list[dict[str, Any]] = [
    {"do": "train", "name": "left"},
    {"do": "train", "name": "right"},
    {"do": "predict", "name": "left-says", "of": "left"},
    {"do": "predict", "name": "right-says", "of": "right"},
    {"do": "blend", "name": "both", "of": list(MEMBERS)},
    {"do": "submit", "of": "both"},
]
EDITED: list[dict[str, Any]] = [
    *_STEPS[:-1],
    {"do": "post-process", "name": "edited", "of": "both"},
    {"do": "submit", "of": "edited"},
]
"""The masks of the blend are edited."""
BLENDED_MASKS: list[dict[str, Any]] = [
    *_STEPS[:4],
    {"do": "post-process", "name": "left-edited", "of": "left-says"},
    {"do": "blend", "name": "both", "of": ["left-edited", "right-says"]},
    {"do": "submit", "of": "both"},
]
"""The masks of a member are edited before they are blended."""


def write_viewed_survey(
    folder: Path, *, shape: tuple[int, int, int] = (48, 40, 64), seed: int = 3, dead: bool = False
) -> tuple[Store, Store]:
    """`survey.zarr` and `salt.zarr`: probabilities are the truth, smeared; members disagree most on the tenth inline.

    Args:
        dead: whether a corner of the survey has no traces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    survey = make_survey(inlines=shape[0], crosslines=shape[1], samples=shape[2], seed=seed, kinds=("dome", "sheet"))
    live = np.ones(shape[:2], np.bool_)
    amplitude = survey.amplitude
    if dead:
        live[-shape[0] // 5 :, -shape[1] // 4 :] = False
        amplitude = np.where(live[..., None], amplitude, 0).astype(np.float32)
    smear = gaussian_filter(survey.salt.astype(np.float32), (0.5, 1.5, 2.5))
    probability = np.where(live[..., None], np.clip(0.02 + 0.96 * smear, 0, 1), 0)
    spread = 0.25 * np.sqrt(probability * (1 - probability))
    spread[9] = np.minimum(spread[9] + 0.1, 0.5)
    salt: dict[str, NDArray[Any]] = {
        "probability": probability.astype(np.float16),
        "disagreement": np.where(live[..., None], spread, 0).astype(np.float16),
        "mask": (probability > 0.5).astype(np.uint8),
    }
    own = fake_store(folder / "survey.zarr", {"amplitude": amplitude}, live=live)
    return own, fake_store(folder / "salt.zarr", salt, live=live, threshold=0.5, model={"name": "made"})


def write_viewed_run(
    folder: Path, *, count: int = 24, seed: int = 1, steps: list[dict[str, Any]] | None = None
) -> tuple[Path, Path]:
    """`run` and `tiles`: a finished run by two members that are each wrong in a way of their own.

    Args:
        steps: in place of a plain blend; an edit is another threshold, and makes the only unlabelled tile salt.
    """
    data, _ = make_synthetic(labelled=count, unlabelled=1, seed=seed)
    write_data(data, folder / "tiles")
    run = folder / "run"
    run.mkdir()
    recipe = tiny_recipe({"steps": steps or _STEPS, "folds": {"count": 2, "held_out": [0]}})
    rows = np.arange(0, count, 2)
    tiles = data.labelled.take(rows)
    assert tiles.masks is not None
    says = dict(zip(MEMBERS, (_wrong(tiles.masks, 3.0, seed=7), _wrong(tiles.masks, -2.0, seed=8)), strict=True))
    none = np.zeros((1, *tiles.images.shape[1:]), np.float16)
    edits = set[str]()
    for step in recipe.all_steps:
        if step.do == "blend":
            says[step.name] = np.mean([says[name].astype(np.float32) for name in step.of], axis=0).astype(np.float16)
        elif step.do == "post-process":
            says[step.name] = (says[step.of] > 0.7).astype(np.float16)
            edits.add(step.name)
    for name, found in says.items():
        write_predictions(run / name, Predictions(rows, found, none + (name in edits)))
    final = recipe.all_steps[-1]
    assert final.do == "submit"
    write_json(run / "both" / STEP, {"digest": "0", "finished": True, "figures": {"rule": "mean", "members": [0, 1]}})
    write_text(run / RECIPE, write_recipe(recipe))
    write_folds(run / FOLDS, data.labelled.ids, np.arange(count) % 2, recipe.folds)
    scores = mask_scores(says[final.of] > 0.5, tiles.masks)
    write_held_out(run / HELD_OUT, tiles, scores)
    record = {
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "threshold": 0.5,
        "score": round(float(scores.mean()), 5),
        "interval_95": [round(float(np.clip(scores.mean() + off, 0, 1)), 5) for off in (-0.1, 0.1)],
        "score_kind": f"mean over {len(rows)} held-out tiles, at the recipe's threshold",
        "data": data.record | {"digest": data.digest},
    }
    write_json(run / RECORD, record)
    return run, folder / "tiles"


def _wrong(masks: NDArray[np.uint8], by: float, *, seed: int) -> NDArray[np.float16]:
    """Truth that is moved by some pixels, smeared, and less sure here than there."""
    rng = np.random.default_rng(seed)
    moved = shift(masks.astype(np.float32), (0, by, by), order=1, mode="nearest")
    smeared = gaussian_filter(moved, (0, 2.5, 2.5))
    doubt = gaussian_filter(rng.normal(size=masks.shape), (0, 9, 9))
    doubt /= max(float(np.abs(doubt).max()), 1e-6)
    return np.asarray(np.clip(smeared + 0.45 * doubt * (0.2 + smeared), 0, 1), np.float16)
