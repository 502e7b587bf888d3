"""A report holds what was asked of it, asks for nothing itself, and says in words what a run lacks."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import write_data
from diapir.faults import InputError
from diapir.pipeline.run import run_recipe
from diapir.review.report.page import write_report
from diapir.runs import read_json, write_json
from fake_report_run import STEPS, fake_recipe, write_fake_run
from fake_training import tiny_run_recipe
from page_checks import Page

SECTIONS = (
    "Score", "Threshold, calibration, empty tiles", "By depth, coverage and boundary", "Training", "Tiles to look at",
    "What blending and post-processing changed", "Time and memory", "Recipe", "Data", "Environment",
)  # fmt: skip
HOSTILE = """</style></title><script src="http://evil/x.js">alert(1)</script><img src=//evil onerror="x('">\x00\u202e"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_fake_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of few tiles, and so quick to report; not to be changed."""
    return write_fake_run(tmp_path_factory.mktemp("runs") / "small", labelled=6)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A worse one, of one model."""
    return write_fake_run(tmp_path_factory.mktemp("runs") / "worse", steps=False, blur=14.0)


def page_of(folder: Path, *runs: Path, **named: Path) -> Page:
    out = folder / "report.html"
    write_report(runs, out, **named)
    return Page(out.read_text(encoding="utf-8"))


def page_or_error(folder: Path, run: Path) -> tuple[Page | None, str]:
    """A page, or how the user is told that there can be none; whatever else is raised is a fault of ours."""
    try:
        return page_of(folder, run), ""
    except InputError as error:
        return None, str(error)


def test_a_report_of_a_run_asks_for_nothing_and_can_be_read_by_all(run: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, run)
    assert page.faults == []
    for title in SECTIONS:
        assert title in page.text
    assert page.counts["table"] >= 8
    assert page.counts["img"] >= 3 * 6 * 5, "worst, best, uncertain: image, truth, probability, mask, difference"
    record = read_json(run / "record.json")
    assert f"{record['score']:.4f}" in page.text
    assert "{:.4f} to {:.4f}".format(*record["interval_95"]) in page.text
    assert "812 MB" in page.text
    assert "+0.0200 (+0.0100 to +0.0300)" in page.text, "what an edit was worth"
    assert (tmp_path / "report.html").stat().st_size < 2e6


def test_what_a_run_writes_today_is_all_there(tmp_path: Path, one_thread: None) -> None:
    run_recipe(tiny_run_recipe({"steps": STEPS}), tmp_path / "run", data_path=None)
    page = page_of(tmp_path, tmp_path / "run")
    assert page.faults == []
    assert "not kept" not in page.text
    assert "missing" not in page.text
    curve = read_json(tmp_path / "run" / "edited" / "step.json")["figures"]["score_by_threshold"]
    assert len(curve["threshold"]) == len(curve["score"]) > 10
    assert read_json(tmp_path / "run" / "one" / "step.json")["figures"]["peak_memory_mb"] > 50


def test_text_of_files_never_becomes_markup(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "runs" / "<b>run&amp;", changes={"about": HOSTILE[:-2]})
    record = read_json(run / "record.json")
    record |= {"score_kind": HOSTILE, "device": HOSTILE, "processors": [HOSTILE], "identity": HOSTILE}
    record["provenance"] |= {HOSTILE: HOSTILE}
    record["data"] |= {"source": HOSTILE, "labelled_sections": [{"direction": HOSTILE}], "notes": [HOSTILE]}
    write_json(run / "record.json", record)
    log = run / "one" / "fold-0" / "log.jsonl"
    log.write_text(log.read_text().replace('"small"', json.dumps(HOSTILE)))
    step = read_json(run / "edited" / "step.json")
    step["figures"]["held_out"][0] |= {"name": HOSTILE, "left_out": HOSTILE}
    write_json(run / "edited" / "step.json", step)
    page = page_of(tmp_path, run)
    assert page.faults == []
    assert page.text.count("alert(1)") >= 8
    assert not set("\x00\u202e") & set(page.text)


def test_ids_of_tiles_never_become_markup(tmp_path: Path) -> None:
    runs = [write_fake_run(tmp_path / name, steps=False) for name in ("one", "two")]
    for run in runs:
        table = (run / "held-out.csv").read_text().splitlines()
        rows = [f'"<script>{number}</script>",{row.partition(",")[2]}' for number, row in enumerate(table[1:])]
        (run / "held-out.csv").write_text("\n".join([table[0], *rows]) + "\n")
        record = read_json(run / "record.json")
        record["data"]["digest"] = "another"
        write_json(run / "record.json", record)
    assert page_of(tmp_path, *runs).faults == []


KEPT = sorted(
    str(path)
    for path in (
        "held-out.csv", "folds.csv", "edited/held-out.npy", "edited/held-out-rows.npy", "both/held-out.npy",
        "one/step.json", "both/step.json", "edited/step.json", "one/fold-0/log.jsonl", "two/fold-1/log.jsonl",
    )
)  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_an_older_run_lacks_is_told_in_its_place(name: str, small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    page = page_of(tmp_path, tmp_path / "run")
    assert page.faults == []
    for title in SECTIONS:
        assert title in page.text


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda old: old[: len(old) // 2],
    lambda old: b"",
    lambda old: b"[]\n",
    lambda old: b"\xff" * 40,
]
ODD = [None, -1, "text", [], {"a": [1]}, float("nan"), 10**400, [None, None]]


@pytest.mark.parametrize("place", range(len(KEPT) + 2))
def test_a_damaged_run_is_told_in_words_or_left_out(place: int, small: Path, tmp_path: Path) -> None:
    name = [*KEPT, "record.json", "recipe.yaml"][place]
    whole = (small / name).read_bytes()
    shutil.copytree(small, tmp_path / "run")
    # Each way of damage for two files in five, so that the suite stays quick.
    for damage in (DAMAGES[place % 4], DAMAGES[(place + 1) % 4]):
        (tmp_path / "run" / name).write_bytes(damage(whole))
        page, told = page_or_error(tmp_path, tmp_path / "run")
        assert str(tmp_path / "run") in told if page is None else page.faults == []


def test_a_record_of_odd_values_is_told_in_words_or_left_out(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "run")
    record = read_json(small / "record.json")
    for place, key in enumerate(record):
        odd = ODD[place % len(ODD)]
        write_json(tmp_path / "run" / "record.json", record | {key: odd})
        page, told = page_or_error(tmp_path, tmp_path / "run")
        assert "record" in told if page is None else page.faults == [], (key, odd)


def test_without_its_tiles_a_run_still_has_its_figures_and_says_what_to_give(run: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(run, tmp_path / "run")
    record = read_json(run / "record.json")
    record["data"]["digest"] = "of tiles that lie elsewhere"
    write_json(foreign / "record.json", record)
    page = page_of(tmp_path, foreign)
    assert page.faults == []
    assert "--data" in page.text
    assert "Score against threshold" in page.text
    assert "best 0." in page.text, "the run kept its scores by threshold"
    assert "tiles without salt are given some" in page.text


def test_data_that_are_named_are_those_of_the_run_or_refused(run: Path, tmp_path: Path) -> None:
    data, _ = make_synthetic(labelled=24, unlabelled=3, seed=1)
    write_data(data, tmp_path / "own")
    write_data(make_synthetic(labelled=24, unlabelled=3, seed=2)[0], tmp_path / "others")
    recipe = (run / "recipe.yaml").read_text()
    foreign = shutil.copytree(run, tmp_path / "run")
    (foreign / "recipe.yaml").write_text(re.sub(r"synthetic:\n(    .*\n)+", "synthetic: null\n", recipe))
    assert page_of(tmp_path, foreign, data_path=tmp_path / "own").counts["img"] >= 90
    with pytest.raises(InputError, match="are not those that it was trained on"):
        page_of(tmp_path, foreign, data_path=tmp_path / "others")


def test_runs_stand_side_by_side_with_their_paired_difference(run: Path, other: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, run, other)
    assert page.faults == []
    assert "worse is worse than made" in page.text
    assert "worse less made" in page.text
    for record in (read_json(run / "record.json"), read_json(other / "record.json")):
        assert page.text.count(f"{record['score']:.4f}") >= 2
    assert page.text.count("Time and memory") == 2, "all of each run"


def test_a_run_beside_itself_cannot_be_told_from_it(run: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(run, tmp_path / "x" / run.name)
    page = page_of(tmp_path, run, twin)
    assert "made (2) cannot be told from made (1): +0.000" in page.text


def test_runs_without_common_tiles_are_still_shown(run: Path, tmp_path: Path) -> None:
    strange = shutil.copytree(run, tmp_path / "strange")
    table = (run / "held-out.csv").read_text().splitlines()
    (strange / "held-out.csv").write_text("\n".join([table[0], *(f"x{row}" for row in table[1:])]) + "\n")
    record = read_json(run / "record.json")
    record["data"]["digest"] = "x"
    write_json(strange / "record.json", record)
    page = page_of(tmp_path, run, strange)
    assert page.faults == []
    assert "held out no tile in common" in page.text


def test_the_parent_of_a_recipe_is_named(run: Path, tmp_path: Path) -> None:
    parent = write_fake_run(tmp_path / "parent", changes={"stages.0.optimiser.lr": 0.5})
    page = page_of(tmp_path, run, parent=parent)
    assert "stages.0.optimiser.lr" in page.text
    assert "in 1 settings" in page.text
    assert "has the settings of its parent" in page_of(tmp_path, run, parent=run / "recipe.yaml").text


def test_what_is_no_run_is_refused_with_all_faults(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as error:
        write_report([tmp_path / "empty", tmp_path / "absent", run, run], tmp_path / "out.html")
    assert len(error.value.faults) == 3
    assert not (tmp_path / "out.html").exists()
    with pytest.raises(InputError, match="none"):
        write_report([], tmp_path / "out.html")
    with pytest.raises(InputError, match="folder"):
        write_report([run], tmp_path / "empty")


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    begun = shutil.copytree(run, tmp_path / "begun")
    (begun / "record.json").unlink()
    with pytest.raises(InputError, match=r"record\.json"):
        write_report([begun], tmp_path / "out.html")


def test_predictions_of_other_tiles_are_refused(run: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(run, tmp_path / "mixed")
    rows = np.load(mixed / "edited" / "held-out-rows.npy")
    np.save(mixed / "edited" / "held-out-rows.npy", rows[::-1])
    with pytest.raises(InputError, match="expected the tiles"):
        write_report([mixed], tmp_path / "out.html")
    np.save(mixed / "edited" / "held-out-rows.npy", rows + 10**6)
    with pytest.raises(InputError, match="expected the tiles"):
        write_report([mixed], tmp_path / "out.html")
    np.save(mixed / "edited" / "held-out-rows.npy", rows[1:])
    with pytest.raises(InputError, match="expected predictions"):
        write_report([mixed], tmp_path / "out.html")


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("one.html", "two.html"):
        write_report([run], tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_the_fake_is_of_the_recipe_that_it_says() -> None:
    assert [step.do for step in fake_recipe().all_steps] == [step["do"] for step in STEPS]
