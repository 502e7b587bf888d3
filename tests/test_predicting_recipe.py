from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from diapir.recipe.predicting import Ensemble, PostProcess

EVERY_EDIT: list[dict[str, Any]] = [
    {"name": "threshold", "cut": 0.4},
    {"name": "bilateral_crf", "only_if_score_below": 0.75},
    {"name": "location_crf"},
    {"name": "small_salt", "smaller_than": 20},
    {"name": "small_holes", "smaller_than": 20},
    {"name": "has_salt_gate"},
    {"name": "constant_to_empty"},
    {"name": "full_to_empty"},
]
EVERY_BLEND: list[dict[str, Any]] = [
    {"name": "mean"},
    {"name": "weighted", "weights": [1, 1, 1, 3]},
    {"name": "weighted", "weights": "score"},
    {"name": "ranked", "decay": 0.5},
    {"name": "vote"},
    {"name": "vote", "weights": "score", "empty_above": 0.5},
    {"name": "aligned"},
    {"name": "aligned", "thresholds": [0.4, 0.55]},
    {"name": "stacked", "ridge": 1e-4},
    {"name": "greedy", "most_s": 3600.0},
]


def messages(section: Any, content: dict[str, Any]) -> list[str]:
    """What is said against a section."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(section).validate_python(content)
    return [line for error in caught.value.errors() for line in error["msg"].removeprefix("Value error, ").splitlines()]


def test_every_edit_is_read_and_written() -> None:
    section = PostProcess.model_validate({"edits": EVERY_EDIT, "off": ["location_crf"]})
    assert [edit.name for edit in section.edits] == [edit["name"] for edit in EVERY_EDIT]
    assert PostProcess.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize("blend", EVERY_BLEND, ids=str)
def test_every_blend_is_read_and_written(blend: dict[str, Any]) -> None:
    section = Ensemble.model_validate({"blend": blend, "rescale": [1]})
    assert section.blend.name == blend["name"]
    assert Ensemble.model_validate(section.model_dump(mode="json")) == section


def test_by_default_nothing_is_edited_and_members_are_averaged() -> None:
    assert PostProcess().edits == ()
    assert Ensemble().blend.name == "mean"


def test_the_published_numbers_are_the_defaults() -> None:
    section = PostProcess.model_validate({"edits": [{"name": "bilateral_crf"}, {"name": "location_crf"}]})
    grey, location = (edit.model_dump() for edit in section.edits)
    assert (location["sigma_px"], location["compat"], location["certainty"], location["steps"]) == (3, 3, 0.7, 10)
    assert (grey["sigma_px"], grey["sigma_grey"], grey["compat"]) == (10, 0.01, 1)


@pytest.mark.parametrize(
    ("edits", "fault"),
    [
        ([{"name": "full_to_empty"}] * 2, "edits: 'full_to_empty' is there twice"),
        (
            [{"name": "full_to_empty"}, {"name": "threshold", "cut": 0.4}],
            "edits: 'threshold' begins with the probabilities again, so put it before 'full_to_empty'",
        ),
        (
            [{"name": "location_crf"}, {"name": "bilateral_crf"}],
            "edits: 'bilateral_crf' begins with the probabilities again, so put it before 'location_crf'",
        ),
        (
            [{"name": "bilateral_crf"}, {"name": "threshold", "cut": 0.4}],
            "edits: 'threshold' would undo 'bilateral_crf', so put it before",
        ),
        (
            [{"name": "small_holes", "smaller_than": None}],
            "smaller_than null would fill the background itself: add at_border: false",
        ),
    ],
)
def test_edits_that_make_no_sense_together_are_refused(edits: list[dict[str, Any]], fault: str) -> None:
    assert messages(PostProcess, {"edits": edits}) == [fault]


def test_every_fault_of_the_edits_is_told_at_once() -> None:
    content = {"edits": [EVERY_EDIT[3], EVERY_EDIT[3], EVERY_EDIT[0]], "off": ["crf"]}
    assert len(messages(PostProcess, content)) == 3


@pytest.mark.parametrize(
    "edit",
    [
        {"name": "threshold", "cut": 1.0},
        {"name": "threshold"},
        {"name": "small_salt", "smaller_than": 0},
        {"name": "small_salt", "smaller_than": 10, "connectivity": 4},
        {"name": "location_crf", "certainty": 0.5},
        {"name": "erode"},
    ],
    ids=str,
)
def test_an_edit_with_impossible_numbers_is_refused(edit: dict[str, Any]) -> None:
    assert messages(PostProcess, {"edits": [edit]})


def test_weights_that_are_all_zero_are_refused() -> None:
    for name in ("weighted", "vote"):
        assert messages(Ensemble, {"blend": {"name": name, "weights": [0, 0]}})[-1] == "every weight is zero"
