"""Review from a terminal."""

from pathlib import Path

import pytest

from diapir.data.tiles import read_data
from diapir.faults import InputError
from diapir.review.corrections import save_mask
from diapir.review.review_commands import export_corrections, review_queue, train_on_corrections
from diapir.review.subjects import open_subjects
from diapir.review.targets import Target
from fake_review import opened, salt_of_survey

pytestmark = pytest.mark.usefixtures("one_thread")


def correct(folder: Path, name: str, target: Target) -> None:
    subject = open_subjects(opened(folder))[name]
    mask = 1 - subject.original(target) if name == "tiles" else salt_of_survey()[int(target.name) - 100].T
    save_mask(subject.store, target, before=None, after=mask, who="", original=lambda: subject.original(target))


def test_the_queue_is_told_with_reasons(review: Path) -> None:
    told = review_queue(opened(review), name="survey", count=3)
    assert "  1. " in told
    assert "disagree" in told
    assert told.endswith("0 of 72 are corrected")


def test_corrections_become_labels(review: Path) -> None:
    with pytest.raises(InputError, match="expected corrections, found none"):
        export_corrections(opened(review), review / "labels-2", name="survey")
    correct(review, "survey", Target("inline", "110"))
    assert "1 corrected sections" in export_corrections(opened(review), review / "labels-2", name="survey")
    assert [path.name for path in (review / "labels-2").iterdir()] == ["inline-110.png"]
    tile = open_subjects(opened(review))["tiles"].data.labelled.ids[3]  # type: ignore[union-attr]
    correct(review, "tiles", Target("tile", tile))
    export_corrections(opened(review), review / "tiles-2", name="tiles")
    data = read_data(review / "tiles-2").labelled
    assert data.masks is not None
    assert (data.masks[3] != open_subjects(opened(review))["tiles"].data.labelled.masks[3]).all()  # type: ignore[union-attr, index]


def test_training_says_what_it_came_to(review: Path) -> None:
    for line in (110, 130):
        correct(review, "survey", Target("inline", str(line)))
    told = train_on_corrections(opened(review), name="survey", epochs=1, threads=1)
    assert "corrected " in told
    assert "kept back " in told
    assert "next: diapir survey segment" in told


def test_a_name_that_is_not_there_is_told_with_those_that_are(review: Path) -> None:
    with pytest.raises(InputError, match="there are: tiles, survey"):
        review_queue(opened(review))
    with pytest.raises(InputError, match="not salt; there are: tiles, survey"):
        review_queue(opened(review), name="salt")
