"""What is said of a run's tiles: by its models, and by the masks that were edited from that."""

import shutil
from pathlib import Path

import numpy as np

from diapir.pipeline.predictions import read_predictions
from diapir.recipe.files import read_recipe
from diapir.review.corrections.queue_measures import measures_of
from diapir.review.corrections.saving import corrections_beside
from diapir.review.corrections.subjects import TileSubject
from diapir.review.corrections.suggestions import suggestions_of
from diapir.review.corrections.targets import Target
from diapir.review.retraining.process import RunFiles
from diapir.runs import read_json, write_json
from fake_viewed import EDITED, write_viewed_run


def subject_of(run: Path, tiles: Path) -> TileSubject:
    files = RunFiles("run", run, read_recipe(run / "recipe.yaml"), read_json(run / "record.json"), tiles)
    return TileSubject(files, corrections_beside(run, identity="x"))


def test_members_that_a_blend_left_out_do_not_disagree(tmp_path: Path) -> None:
    run, tiles = write_viewed_run(tmp_path)
    found = measures_of(subject_of(run, tiles))
    assert not any("one model" in note for note in found.notes)
    note = read_json(run / "both" / "step.json")
    write_json(run / "both" / "step.json", note | {"figures": note["figures"] | {"members": [1]}})
    shutil.rmtree(run.with_name("run.corrections"))  # what was measured
    alone = measures_of(subject_of(run, tiles))
    assert any("one model" in note for note in alone.notes)
    said = read_predictions(run / "right-says").held_out.astype(np.float64)
    unsure = (1 - np.abs(2 * said - 1)).mean((1, 2))
    known = alone.disagreement[np.isfinite(alone.disagreement)]
    np.testing.assert_allclose(known[: len(said)], unsure, atol=1e-3)


def test_of_a_run_that_edits_masks_models_say_what_they_said_and_the_masks_stay_as_edited(tmp_path: Path) -> None:
    run, tiles = write_viewed_run(tmp_path, steps=EDITED)
    subject = subject_of(run, tiles)
    said = read_predictions(run / "both")
    for place, row in enumerate(said.rows.tolist()):
        target = Target("tile", subject.data.labelled.ids[row])
        np.testing.assert_array_equal(subject.probability(target), said.held_out[place].astype(np.float32))
    (unlabelled,) = (Target("tile", name) for name in subject.data.unlabelled.ids)
    assert subject.original(unlabelled).all(), "as it was edited"
    assert not np.any(subject.probability(unlabelled))
    sure = [each for each in suggestions_of(subject) if each.sort == "confident"]
    masks = subject.data.labelled.masks
    assert masks is not None
    wrong = [np.abs(said.held_out[place] - masks[row]) >= 0.95 for place, row in enumerate(said.rows.tolist())]
    assert len(sure) == sum(one.mean() >= 0.05 for one in wrong), "edited masks are no models that are sure"
