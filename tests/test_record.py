import re
from pathlib import Path
from typing import Any

import pytest

from diapir import __version__
from diapir.faults import InputError
from diapir.record import RECORD, provenance, read_record
from diapir.runs import read_json, write_json

SOUND: dict[str, Any] = {
    "recipe": "tgs-cpu",
    "recipe_digest": "0" * 64,
    "score": 0.8,
    "interval_95": [0.75, 1],
    "score_kind": "mean over 9 held-out tiles",
    "threshold": 0.5,
    "folds_held_out": [0, 4],
    "train_minutes": 0.1,
    "epochs": 3,
    "precision": "32-true",
    "device": "cpu",
    "threads": [2],
    "processors": ["AMD EPYC"],
    "files": {"groups.csv": None},
    "data": {"digest": "1" * 64},
    "provenance": {"cores": 2, "processor": "AMD EPYC"},
}


def test_a_sound_record_is_read_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, SOUND | {"more": None})
    assert read_record(tmp_path, keys=("score", "data")) == SOUND | {"more": None}


def test_a_record_without_what_is_needed_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected this file, found none"):
        read_record(tmp_path, keys=())
    write_json(tmp_path / RECORD, {"recipe": "a"})
    with pytest.raises(InputError, match="found no score, data in it; use another copy of the run"):
        read_record(tmp_path, keys=("score", "data", "recipe"))
    others: tuple[object, ...] = ([], None, 3, "text")
    for other in others:
        write_json(tmp_path / RECORD, other)
        with pytest.raises(InputError, match=re.escape(f"finished run, found {other!r}; use another copy")):
            read_record(tmp_path, keys=())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recipe", 3),
        ("recipe_digest", None),
        ("score", "0.8"),
        ("score", float("nan")),
        ("score", 1.5),
        ("score", True),
        ("interval_95", [0.1]),
        ("interval_95", [0.1, float("inf")]),
        ("interval_95", 0.1),
        ("score_kind", 1),
        ("threshold", -0.1),
        ("folds_held_out", [{"a": 1}, 0]),
        ("train_minutes", -1),
        ("epochs", 2.5),
        ("precision", 16),
        ("device", None),
        ("threads", 2),
        ("processors", [2]),
        ("files", []),
        ("data", 3),
        ("data", {"digest": 3}),
        ("provenance", {"cores": 2}),
    ],
)
def test_a_value_that_no_run_writes_is_told(tmp_path: Path, key: str, value: object) -> None:
    write_json(tmp_path / RECORD, SOUND | {key: value})
    with pytest.raises(InputError, match=f"expected under '{key}' what a run writes there, found"):
        read_record(tmp_path, keys=())


def test_every_fault_of_a_record_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, {"score": "x", "data": 3})
    with pytest.raises(InputError) as caught:
        read_record(tmp_path, keys=("recipe",))
    assert [fault.what.split(",")[0] for fault in caught.value.faults] == [
        "expected the record of a finished run",
        "expected under 'score' what a run writes there",
        "expected under 'data' what a run writes there",
    ]


def test_provenance_is_plain_and_names_what_was_used(tmp_path: Path) -> None:
    write_json(tmp_path / "file", provenance())
    found = read_json(tmp_path / "file")
    assert found["diapir"] == __version__
    assert found["libraries"].keys() == {"torch", "numpy", "timm", "lightning-fabric"}
    assert all(found["libraries"].values())
    assert found["cores"] >= 1
