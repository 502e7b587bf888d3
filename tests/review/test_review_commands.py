"""Review from a terminal."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from diapir.data.tiles import read_data
from diapir.faults import InputError
from diapir.review.corrections.saving import save_mask
from diapir.review.corrections.subjects import open_subjects
from diapir.review.corrections.targets import Target
from diapir.review.review_commands import export_corrections, review_queue, train_on_corrections
from diapir.volume.segy import open_segy, samples
from diapir.volume.store import read_map
from fake_review import FakePair, FakeSources, opened, salt_of_survey
from fake_stores import SHUFFLED, salt_of_segy

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


def test_corrections_become_the_mask_of_a_segy_file(tmp_path: Path) -> None:
    salt, volumes = salt_of_segy(tmp_path)
    sources = FakeSources(surveys={"salt": FakePair("salt", None, salt)})
    subject = open_subjects(sources)["salt"]
    masks = {Target("crossline", "505"): 1, Target("inline", "12"): 0}
    for target, value in masks.items():
        drawn = np.full(subject.shape(target), value, np.uint8)
        save_mask(subject.store, target, before=None, after=drawn, who="", original=partial(subject.original, target))
    expected = volumes["mask"].copy()
    expected[:, 5], expected[2, np.arange(SHUFFLED[1]) != 5] = 1, 0
    was = volumes["mask"][2, 5]
    expected[2, 5] = np.where(was == 0, 1, 0)  # each changed what the other left
    assert "mask after 2 corrected sections" in export_corrections(sources, tmp_path / "salt.sgy")
    found = samples(open_segy(tmp_path / "salt.sgy"), slice(None))[read_map(salt, "trace_row")]
    np.testing.assert_array_equal(found, expected * read_map(salt, "live")[..., None])


def test_only_salt_goes_into_a_segy_file(review: Path) -> None:
    tile = open_subjects(opened(review))["tiles"].data.labelled.ids[3]  # type: ignore[union-attr]
    correct(review, "tiles", Target("tile", tile))
    with pytest.raises(InputError, match="expected salt that was found in a survey"):
        export_corrections(opened(review), review / "tiles.sgy", name="tiles")
    assert not (review / "tiles.sgy").exists()


def test_training_says_what_it_came_to(review: Path) -> None:
    for line in (110, 130):
        correct(review, "survey", Target("inline", str(line)))
    told = train_on_corrections(opened(review), name="survey", epochs=1, threads=1)
    assert "corrected " in told
    assert "kept back " in told
    assert "next: diapir survey segment" in told


def test_a_name_that_is_not_there_is_told_with_those_that_are(review: Path) -> None:
    with pytest.raises(InputError, match=r"several were named \(tiles, survey\): add --name tiles"):
        review_queue(opened(review))
    with pytest.raises(InputError, match="--name salt: expected one of those that were named: tiles, survey"):
        review_queue(opened(review), name="salt")


def test_what_cannot_be_corrected_is_told() -> None:
    with pytest.raises(InputError, match="found nothing that can be corrected"):
        review_queue(FakeSources(), name="salt")


def test_who_trains_without_a_model_is_told_how_to_name_one(tmp_path: Path) -> None:
    salt, _ = salt_of_segy(tmp_path)
    sources = FakeSources(surveys={"salt": FakePair("salt", None, salt)})
    with pytest.raises(InputError, match=r"name the run too: diapir review train survey\.zarr salt\.zarr RUN"):
        train_on_corrections(sources)
