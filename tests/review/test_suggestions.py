"""Doubtful labels: found where they were put, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.review.corrections.subjects import open_subjects
from diapir.review.corrections.suggestion_rules import contradiction, flipped, proposed, sure_otherwise, walls_of
from diapir.review.corrections.suggestions import open_suggestions, proposal, suggestions_of
from fake_review import SURE_ROWS, SURE_TILES, opened

pytestmark = pytest.mark.usefixtures("one_thread")

Mask = NDArray[np.uint8]
MASKS = npst.arrays(np.uint8, (7, 5), elements=st.sampled_from([0, 1, UNKNOWN]))
PROBABILITIES = npst.arrays(np.float32, (7, 5), elements=st.sampled_from([0.0, 0.04, 0.5, 0.96, 1.0, np.nan]))


def test_models_that_are_sure_of_another_are_found_where_they_were_put(review: Path) -> None:
    subject = open_subjects(opened(review))["tiles"]
    found = [each for each in suggestions_of(subject) if each.sort == "confident"]
    assert len(found) == SURE_TILES
    assert found[0].strength >= 101 * (SURE_ROWS + SURE_TILES - 1)
    for each in found:
        differing = proposal(subject, each) != subject.original(each.target)
        assert differing.sum() == each.strength


def test_what_was_found_once_is_not_looked_for_again(review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = open_subjects(opened(review))["survey"]
    found = suggestions_of(subject)
    monkeypatch.setattr("diapir.review.corrections.suggestions._looked_for", lambda subject: 1 / 0)
    assert suggestions_of(open_subjects(opened(review))["survey"]) == found
    assert open_suggestions(found, []) == list(found)


@given(MASKS, PROBABILITIES)
def test_turned_labels_are_what_models_are_sure_of(label: Mask, probability: NDArray[np.float32]) -> None:
    where = sure_otherwise(label, probability)
    turned = flipped(label, where)
    assert not sure_otherwise(turned, probability).any()
    assert (turned[~where] == label[~where]).all()
    assert (turned[label == UNKNOWN] == UNKNOWN).all()


@given(MASKS, PROBABILITIES)
def test_a_proposal_changes_nothing_elsewhere(label: Mask, probability: NDArray[np.float32]) -> None:
    where = np.zeros(label.shape, np.bool_)
    where[2:4] = True
    for said in (None, probability):
        changed = proposed(label, said, where=where, cut=0.5)
        assert (changed[~where] == label[~where]).all()
        assert set(np.unique(changed)) <= {0, 1, UNKNOWN}
    assert (proposed(label, None, where=where, cut=0.5)[where] == UNKNOWN).all()


@pytest.mark.parametrize(("rows", "found"), [(59, 0), (60, 1), (90, 1)])
def test_a_straight_wall_is_one_of_sixty_samples_or_more(rows: int, found: int) -> None:
    label = np.zeros((100, 40), np.uint8)
    label[5 : 5 + rows, 12:] = 1
    walls = walls_of(label)
    assert [(wall.column, wall.samples) for wall in walls] == [(11, rows)] * found


def test_a_slope_and_the_unknown_are_no_walls() -> None:
    slope = (np.arange(40) > np.arange(100)[:, None] // 3).astype(np.uint8)
    assert walls_of(slope) == []
    broken = np.zeros((100, 40), np.uint8)
    broken[:45, 12:] = broken[50:95, 12:] = 1
    assert walls_of(broken) == []
    half = np.full((100, 40), UNKNOWN, np.uint8)
    half[:, 20:] = 1
    assert walls_of(half) == []


def test_lines_contradict_each_other_where_much_of_what_is_known_differs() -> None:
    first = np.zeros(100, np.uint8)
    second = np.repeat([1, 0], [40, 60]).astype(np.uint8)
    assert contradiction(first, second) == 40
    assert contradiction(first, np.roll(second, 30) * (np.arange(100) < 50)) == 0
    second[45:] = UNKNOWN
    assert contradiction(first, second) == 40
    assert contradiction(np.full(100, UNKNOWN, np.uint8), second) == 0
