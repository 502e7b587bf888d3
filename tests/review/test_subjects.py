"""What is said of a run's tiles: by its models, and by the masks that were edited from that."""

from pathlib import Path

import numpy as np

from diapir.pipeline.predictions import read_predictions
from diapir.recipe.files import read_recipe
from diapir.review.corrections.saving import corrections_beside
from diapir.review.corrections.subjects import TileSubject
from diapir.review.corrections.suggestions import suggestions_of
from diapir.review.corrections.targets import Target
from diapir.review.retraining.process import RunFiles
from diapir.runs import read_json
from fake_viewed import EDITED, write_viewed_run


def test_of_a_run_that_edits_masks_models_say_what_they_said_and_the_masks_stay_as_edited(tmp_path: Path) -> None:
    run, tiles = write_viewed_run(tmp_path, steps=EDITED)
    files = RunFiles("run", run, read_recipe(run / "recipe.yaml"), read_json(run / "record.json"), tiles)
    subject = TileSubject(files, corrections_beside(run, identity="x"))
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
