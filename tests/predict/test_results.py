from pathlib import Path
from typing import Any

import pytest

from diapir.faults import InputError
from diapir.predict.results import results_page
from diapir.runs import write_json, write_text

RECORD: dict[str, Any] = {
    "recipe": "one", "score": 0.8284, "interval_95": [0.8021, 0.854], "score_kind": "mean over 9 tiles",
    "train_minutes": 59.04, "folds_held_out": [0], "device": "cpu",
    "provenance": {"cores": 2, "processor": "a processor"},
}  # fmt: skip


def results(tmp_path: Path, record: dict[str, Any], *, published: str = "") -> Path:
    write_json(tmp_path / "tgs" / "one" / "record.json", record)
    if published:
        write_text(tmp_path / "published.yaml", published)
    return tmp_path / "tgs"


def test_figures_come_from_records_and_the_gap_is_theirs(tmp_path: Path) -> None:
    published = "one: {local: 0.85, public: null, private: 0.9, of: a blend}\n"
    published += "other: {local: null, public: 1, private: 1, of: x}\n"
    page = results_page(results(tmp_path, RECORD, published=published))
    assert "| one | 0.85 / - / 0.9 | 0.828 (0.802 to 0.854) | -0.022 | 0 | 59 | 2 cores, a processor |" in page
    assert "| other | - / 1 / 1 | not run at full scale | | | | |" in page
    assert "- one: published figures are of a blend." in page


def test_a_recipe_that_nobody_published_stands_there_too(tmp_path: Path) -> None:
    assert "| one | not published | 0.828" in results_page(results(tmp_path, RECORD))


def test_a_variant_follows_its_system_and_is_held_against_its_figures(tmp_path: Path) -> None:
    published = "".join(f"{name}: {{local: 0.8, public: null, private: null, of: x}}\n" for name in ("two", "one"))
    folder = results(tmp_path, RECORD, published=published)
    for name in ("two-cpu", "another"):
        write_json(folder / name / "record.json", RECORD)
    lines = [line.split(" | ") for line in results_page(folder).splitlines() if line.startswith("| ")][1:]
    assert [line[0] for line in lines] == ["| two", "| two-cpu", "| one", "| another"]
    assert [line[3].rstrip(" |") for line in lines] == ["", "+0.028", "+0.028", ""]


def test_notes_follow_the_table(tmp_path: Path) -> None:
    folder = results(tmp_path, RECORD)
    write_text(tmp_path / "notes.md", "## Tried\n\nThis.\n")
    assert results_page(folder).endswith("tiles.\n\n## Tried\n\nThis.\n")


def test_every_gap_of_a_record_is_told(tmp_path: Path) -> None:
    record = {key: value for key, value in RECORD.items() if key not in ("score", "device")}
    write_text(tmp_path / "tgs" / "other" / "record.json", "no JSON")
    with pytest.raises(InputError) as error:
        results_page(results(tmp_path, record | {"interval_95": 1}))
    told = [str(each) for each in error.value.faults]
    assert len(told) == 3
    for words, line in zip(("found no score, device in it", "under 'interval_95'", "expected JSON"), told, strict=True):
        assert words in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("score", "good"),
        ("interval_95", [0.1]),
        ("folds_held_out", [{}]),
        ("score", float("nan")),
        ("device", None),
        ("provenance", {"cores": 2}),
    ],
)
def test_a_record_of_another_form_is_told(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"expected under '{key}' what a run writes there"):
        results_page(results(tmp_path, RECORD | {key: value}))


def test_a_folder_without_records_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected folders with a record"):
        results_page(tmp_path / "absent")


@pytest.mark.parametrize(
    "published", ["one: [", "one: {local: 1}", "- 3", "one: {local: good, public: 1, private: 1, of: x}"]
)
def test_published_figures_that_cannot_be_read_are_told(tmp_path: Path, published: str) -> None:
    with pytest.raises(InputError, match="published"):
        results_page(results(tmp_path, RECORD, published=published))
