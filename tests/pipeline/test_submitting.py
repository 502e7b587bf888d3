"""What a record says of its score."""

from typing import Any

import pytest

from diapir.pipeline.submitting import flatterers
from fake_training import tiny_run_recipe

STEPS: list[dict[str, Any]] = [
    {"do": "train", "name": "one"},
    {"do": "predict", "name": "says", "of": "one"},
    {"do": "pseudo-label", "name": "round", "of": "says"},
    {"do": "train", "name": "two", "tiles": ["labelled", "round"]},
    {"do": "predict", "name": "says-two", "of": "two"},
    {"do": "blend", "name": "both", "of": ["says", "says-two"]},
    {"do": "post-process", "name": "edited", "of": "both", "edits": [{"name": "threshold", "cut": 0.4}]},
    {"do": "submit", "of": "edited"},
]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"steps.5.ensemble": {"blend": {"name": "stacked"}}, "steps.6.edits.0.cut": "tuned"}, []),
        ({"steps.2.leak_free": False}, ["nets behind round had learned from them"]),
        ({"steps.2.leak_free": False, "steps.7.of": "says"}, []),
    ],
)
def test_what_flatters_a_score_is_told_where_the_submission_comes_from_it(
    changes: dict[str, Any], told: list[str]
) -> None:
    assert flatterers(tiny_run_recipe({"steps": STEPS} | changes)) == told
