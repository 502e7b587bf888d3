"""Folders of finished runs, written in a second: synthetic tiles, and predictions made by blurring their truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from diapir.data.folds import make_folds, write_folds
from diapir.data.synthetic import make_synthetic
from diapir.metrics import bootstrap_interval, mask_scores
from diapir.pipeline.predictions import HELD_OUT, ROWS, write_array
from diapir.predict.calibration import calibration_table
from diapir.predict.comparing import write_held_out
from diapir.predict.threshold import candidate_scores, kept_curve
from diapir.recipe.files import write_recipe
from diapir.recipe.whole import Recipe
from diapir.record import provenance
from diapir.runs import json_digest, write_json, write_text
from fake_training import tiny_recipe

STEPS: list[dict[str, Any]] = [
    {"do": "train", "name": "one"},
    {"do": "predict", "name": "one-says", "of": "one"},
    {"do": "train", "name": "two"},
    {"do": "predict", "name": "two-says", "of": "two"},
    {"do": "blend", "name": "both", "of": ["one-says", "two-says"]},
    {"do": "post-process", "name": "edited", "of": "both", "edits": [{"name": "threshold", "cut": 0.4}]},
    {"do": "submit", "of": "edited"},
]
GAIN = {"before": 0.5, "after": 0.52, "difference": 0.02, "low": 0.01, "high": 0.03}


def fake_recipe(*, labelled: int = 24, steps: bool = True, changes: dict[str, Any] | None = None) -> Recipe:
    """Two models, a blend and an edit; or one model alone."""
    own = {
        "data": {"synthetic": {"labelled": labelled, "unlabelled": 3, "seed": 1}},
        "folds": {"count": 2, "held_out": [0, 1]},
        "stages.0.framing.size": 32,
    }
    return tiny_recipe(own | ({"steps": STEPS} if steps else {}) | (changes or {}))


def write_fake_run(
    folder: Path, *, labelled: int = 24, steps: bool = True, blur: float = 3.0, changes: dict[str, Any] | None = None
) -> Path:
    """A finished run in every file that a report reads; the greater the blur, the worse it is."""
    recipe = fake_recipe(labelled=labelled, steps=steps, changes=changes)
    data, _ = make_synthetic(labelled=labelled, unlabelled=3, seed=1)
    numbers = make_folds(data.labelled, recipe.folds, survey=lambda: None)  # type: ignore[arg-type, return-value]
    rows = np.concatenate([np.flatnonzero(numbers == fold) for fold in (0, 1)])
    tiles = data.labelled.take(rows)
    assert tiles.masks is not None
    truth = (tiles.masks == 1).astype(np.uint8)
    noise = np.random.default_rng(3).normal(0, 0.12, len(rows))[:, None, None]
    probability = gaussian_filter(truth.astype(np.float32), (0, blur, blur)) + noise
    probability = np.clip(probability, 0, 1).astype(np.float16)
    source, final = ("both", "edited") if steps else ("predict", "predict")
    masks = (probability > 0.4).astype(np.float16) if steps else probability
    for name, array in {source: probability, final: masks}.items():
        write_array(folder / name / ROWS, rows)
        write_array(folder / name / HELD_OUT, array)
    scores = mask_scores((masks > 0.5).astype(np.uint8), truth)
    interval = bootstrap_interval(scores, rng=np.random.default_rng(0))
    write_text(folder / "recipe.yaml", write_recipe(recipe))
    write_folds(folder / "folds.csv", data.labelled.ids, numbers, recipe.folds)
    write_held_out(folder / "held-out.csv", tiles, scores)
    curve = kept_curve(candidate_scores(probability, truth))
    _write_steps(folder, recipe, curve)
    record = {
        "recipe": recipe.name, "recipe_digest": recipe.digest, "identity": json_digest(str(folder.name)),
        "score": round(float(scores.mean()), 5), "interval_95": [round(end, 5) for end in interval],
        "score_kind": f"mean over {len(rows)} held-out tiles, at the recipe's threshold",
        "score_at_half": round(float(scores.mean()), 5), "threshold": 0.5, "folds_held_out": [0, 1],
        "score_by_threshold": curve, "train_minutes": 1.5, "epochs": 4, "precision": "32-true", "device": "cpu",
        "threads": [1], "processors": ["some processor"],
        "calibration": calibration_table(probability, tiles.masks),
        "data": data.record | {"digest": data.digest, "labelled": labelled, "unlabelled": 3},
        "provenance": provenance(),
    }  # fmt: skip
    write_json(folder / "record.json", record)
    return folder


def _write_steps(folder: Path, recipe: Recipe, curve: dict[str, list[float]]) -> None:
    figures: dict[str, dict[str, Any]] = {
        "train": {"train_minutes": 0.75, "epochs": 4, "models": 2, "devices": ["cpu"], "peak_memory_mb": 812.5},
        "predict": {"held_out": 24, "unlabelled": 3, "seconds": 2.5, "peak_memory_mb": 640.0},
        "blend": {
            "rule": "mean", "members": [0, 1], "weights": [0.5, 0.5], "scores": [0.7, 0.6], "gain_over_mean": GAIN,
            "seconds": 5.0,
        },
        "post-process": {
            "tuned_cut": 0.4, "score_before": 0.5, "score_by_threshold": curve, "seconds": 5.0,
            "held_out": [{"name": "threshold", "num_tiles": 7, "num_pixels": 1234, "gain": GAIN, "left_out": ""}],
            "unlabelled": [{"name": "threshold", "num_tiles": 2, "num_pixels": 99, "gain": None, "left_out": ""}],
        },
    }  # fmt: skip
    for step in recipe.all_steps:
        note = {"digest": "d", "finished": True, "figures": figures.get(step.do, {})}
        write_json(folder / step.name / "step.json", note)
        for fold in (0, 1) if step.do == "train" else ():
            write_text(folder / step.name / f"fold-{fold}" / "log.jsonl", "".join(map(_epoch, range(1, 5))))


def _epoch(number: int) -> str:
    stage = "small" if number < 3 else "native"
    score = 0.1 * number if number % 2 == 0 else None
    facts = {
        "stage": stage,
        "epoch": number,
        "total_epochs": number,
        "loss": 1 / number,
        "learning_rate": 0.01 / number,
    }
    return json.dumps(facts | {"score": score, "elapsed_s": 10.0 * number, "peak_memory_mb": 812.5}) + "\n"
