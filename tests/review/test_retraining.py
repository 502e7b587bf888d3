"""Training on corrections, from what was corrected to figures on the same pixels, in a process of its own."""

import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from diapir.data.tiles import UNKNOWN, read_data
from diapir.faults import InputError
from diapir.pipeline.bundle import open_model
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.records import CorrectionStore
from diapir.review.corrections.saving import corrections_beside, save_mask
from diapir.review.corrections.subjects import Subject, SurveySubject, TileSubject, open_subjects
from diapir.review.corrections.targets import Target
from diapir.review.retraining import trainings as retraining
from diapir.review.retraining.process import fine_tuning_recipe, retrain
from diapir.review.retraining.routes import retraining_routes
from diapir.review.retraining.sets import control_sections, corrected_masks, fold_behind, labels_to_learn, write_labels
from diapir.review.retraining.trainings import Retrainings, model_for, say
from diapir.runs import locked_folder, read_json, write_bytes, write_json
from diapir.volume.labels import read_labels
from fake_review import FIRST_INLINE, LABELLED, opened, salt_of_survey

pytestmark = pytest.mark.usefixtures("one_thread")


def subject_of(folder: Path, name: str = "survey") -> Any:
    return open_subjects(opened(folder))[name]


def correct(subject: Subject, target: Target, mask: Mask) -> None:
    save_mask(subject.store, target, before=None, after=mask, who="Ada", original=lambda: subject.original(target))


def correct_some(subject: SurveySubject, *, places: tuple[int, ...] = (10, 30)) -> dict[Target, Mask]:
    """Inlines as the truth has them."""
    truth = {Target("inline", str(FIRST_INLINE + place)): salt_of_survey()[place].T for place in places}
    for target, mask in truth.items():
        correct(subject, target, mask)
    return truth


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A subject with a correction, whose trainings are processes that only wait."""
    script = folder / "wait.sh"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    store = CorrectionStore(folder / "salt.corrections", "x")
    mask = np.zeros((4, 5), np.uint8)
    save_mask(store, Target("tile", "a"), before=mask, after=1 - mask, who="Ada", original=lambda: mask)
    return SimpleNamespace(name="salt", store=store, run=None)


def wait_for_end(trainings: Retrainings, subject: Subject) -> dict[str, Any]:
    for _ in range(1200):
        state = trainings.state(subject)
        if not state["running"]:
            return state
        time.sleep(0.1)
    raise AssertionError(f"still {state}")


def test_the_sections_that_are_kept_back_were_never_seen(review: Path) -> None:
    subject = subject_of(review)
    correct_some(subject)
    corrected = corrected_masks(subject)
    model = open_model(review / "run")
    fold = fold_behind(model.members[-1].weights[0].file)
    controls = control_sections(subject, corrected, fold=fold, gap=2)
    (kept_back,) = controls
    rows = (review / "run" / "folds.csv").read_text().splitlines()[2:]
    assert {row.rpartition(",")[2] for row in rows if row.startswith(f"inline-{kept_back.line}-")} == {"0"}
    learned = labels_to_learn(subject, corrected, controls)
    assert kept_back not in learned
    assert set(learned) == {*subject.labels, *corrected} - {kept_back}


def test_what_lies_near_a_corrected_section_does_not_judge(review: Path) -> None:
    subject = subject_of(review)
    near = Target("inline", str(FIRST_INLINE + LABELLED[0] + 2))
    crossline = Target("crossline", "320")  # the tenth
    corrected = {near: subject.original(near), crossline: subject.original(crossline)}
    assert control_sections(subject, corrected, fold=0, gap=2) == {}
    (mask,) = control_sections(subject, corrected, fold=0, gap=1).values()
    assert (mask[:, 9:12] == UNKNOWN).all()
    assert (mask[:, :9] != UNKNOWN).all()


def test_labels_that_are_written_are_read_as_they_were_drawn(review: Path, tmp_path: Path) -> None:
    subject = subject_of(review)
    truth = correct_some(subject)
    mask = truth[Target("inline", "110")].copy()
    mask[:20] = UNKNOWN
    correct(subject, Target("inline", "110"), mask)
    write_labels(subject, corrected_masks(subject), tmp_path / "labels")
    found = {
        Target(each.direction, str(each.line)): each.mask
        for each in read_labels(tmp_path / "labels", subject.survey).sections
    }
    assert found.keys() == truth.keys()
    assert (found[Target("inline", "110")] == mask).all()


def test_a_survey_is_learned_from_and_judged_on_the_same_pixels(review: Path) -> None:
    subject, trainings = subject_of(review), Retrainings()
    run = {path: path.stat().st_mtime_ns for path in (review / "run").rglob("*") if path.name != ".lock"}
    correct_some(subject)
    begun = trainings.begin(subject, model_for(subject, {}), threads=1)
    assert begun["running"]
    with pytest.raises(InputError, match="one is under way already"):
        trainings.begin(subject, model_for(subject, {}))
    state = wait_for_end(trainings, subject)
    assert state["phase"] == "done", (state, log_of(subject))
    assert state["epochs_done"] == state["epochs"] == 1
    groups = [each["group"] for each in state["result"]["targets"]]
    assert sorted(groups) == ["control", "corrected", "corrected"]
    learned = [each["learned"] for each in state["result"]["targets"] if each["group"] == "control"]
    assert learned == [False]
    assert state["next"].startswith(
        f"diapir survey segment {review / 'survey.zarr'} --model {review / 'salt.zarr'}.corr"
    )
    picture = trainings.picture(subject, state["number"], state["result"]["pictures"][0])
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")
    data = read_data(subject.store.folder / "retraining/001/run/survey_tiles").labelled
    assert data.masks is not None
    assert {name.rpartition("-s")[0] for name in data.ids} >= {"inline-110", "inline-130"}
    assert run == {path: path.stat().st_mtime_ns for path in (review / "run").rglob("*") if path.name != ".lock"}


def log_of(subject: Subject) -> str:
    return (subject.store.folder / "retraining/001/log.txt").read_text()


def test_tiles_are_learned_from_and_judged(review: Path) -> None:
    subject = subject_of(review, "tiles")
    assert isinstance(subject, TileSubject)
    known, new = Target("tile", subject.data.labelled.ids[0]), Target("tile", subject.data.unlabelled.ids[1])
    for target in (known, new):
        mask = np.zeros((101, 101), np.uint8)
        mask[40:] = 1
        correct(subject, target, mask)
    job = subject.store.folder / "retraining" / "001"
    job.mkdir(parents=True)
    facts = retraining._job(subject, model_for(subject, {}), epochs=1, threads=1)
    write_json(job / "job.json", facts)
    retrain(job)
    result = read_json(job / "result.json")
    corrected = [each for each in result["targets"] if each["group"] == "corrected"]
    assert {each["target"]["name"] for each in corrected} == {known.name, new.name}
    controls = {each["target"]["name"] for each in result["targets"] if each["group"] == "control"}
    data = read_data(job / "tiles").labelled
    assert not controls & set(data.ids)
    assert new.name in data.ids
    assert data.masks is not None
    assert data.masks[data.ids.index(known.name), 40:].all()


def test_a_training_is_stopped_when_it_is_asked_to(review: Path) -> None:
    subject, trainings = subject_of(review), Retrainings()
    correct_some(subject)
    trainings.begin(subject, model_for(subject, {}), epochs=1000, threads=1)
    while trainings.state(subject)["phase"] in ("begun", "preparing"):
        time.sleep(0.1)
    trainings.stop(subject)
    state = wait_for_end(trainings, subject)
    assert (state["phase"], state["words"]) == ("stopped", "it was stopped; nothing else was changed")
    with pytest.raises(InputError, match="nothing to stop"):
        trainings.stop(subject)


def test_a_training_that_was_killed_is_told(review: Path) -> None:
    subject, trainings = subject_of(review), Retrainings()
    correct_some(subject)
    trainings.begin(subject, model_for(subject, {}), epochs=1000, threads=1)
    # Another process that serves the same page knows of it by its lock alone.
    other = Retrainings()
    lock = subject.store.folder / "retraining" / ".lock"
    while not (lock.exists() and lock.read_text()):
        time.sleep(0.05)
    assert other.state(subject)["running"]
    os.kill(int(lock.read_text()), signal.SIGKILL)
    state = wait_for_end(trainings, subject)
    assert state["phase"] == "failed"
    assert "it was killed, or the machine was switched off" in state["words"]


def test_a_training_is_known_and_can_be_stopped_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, own, other = stand_in(tmp_path, monkeypatch), Retrainings(), Retrainings()
    own.begin(subject, tmp_path)
    # Another process that serves the same page knows of it by its lock alone.
    assert other.state(subject)["running"]
    with pytest.raises(InputError, match="one is under way already"):
        other.begin(subject, tmp_path)
    other.stop(subject)
    assert wait_for_end(own, subject)["phase"] == "failed"
    with pytest.raises(InputError, match="nothing to stop"):
        other.stop(subject)
    assert other.begin(subject, tmp_path)["number"] == 2, "the lock went with the process"
    other.stop(subject)
    wait_for_end(other, subject)


def test_pictures_are_those_of_the_training_that_is_asked_for(tmp_path: Path) -> None:
    subject: Any = SimpleNamespace(name="salt", store=CorrectionStore(tmp_path, "x"), run=None)
    for folder in ("001", "002"):
        write_json(tmp_path / "retraining" / folder / "result.json", {"pictures": ["000.png"], "targets": []})
        write_bytes(tmp_path / "retraining" / folder / "pictures" / "000.png", folder.encode())
    say(tmp_path / "retraining" / "003", "training", "")
    app = FastAPI()
    app.include_router(retraining_routes(lambda _: subject, models={}))
    client = TestClient(app)
    home = "/api/corrections/salt/retraining"
    assert [client.get(f"{home}/{number}/pictures/000.png").text for number in (1, 2)] == ["001", "002"]
    for number, name in ((2, "001.png"), (3, "000.png"), (4, "000.png")):
        assert client.get(f"{home}/{number}/pictures/{name}").status_code == 404
    for address in ("0/pictures/000.png", "1/pictures/..%2Fresult.json", "x/pictures/000.png"):
        assert client.get(f"{home}/{address}").status_code in (404, 422)
    assert client.get(home).json()["number"] == 3


def test_why_a_training_failed_is_told_without_its_place(tmp_path: Path) -> None:
    subject: Any = SimpleNamespace(name="salt", store=CorrectionStore(tmp_path, "x"), run=None)
    say(
        tmp_path / "retraining" / "001",
        "failed",
        f"{tmp_path}/retraining/001/labels: expected two sections; label another",
    )
    app = FastAPI()
    app.include_router(retraining_routes(lambda _: subject, models={}))
    told = TestClient(app).get("/api/corrections/salt/retraining").json()
    assert told["words"] == "labels: expected two sections; label another"


def test_many_can_look_at_a_training_at_once_and_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = stand_in(tmp_path, monkeypatch)
    home = subject.store.folder / "retraining"
    say(home / "001", "training", "")
    (home / ".lock").write_text("12")
    (home / ".part-of-something.diapir.part").touch()
    assert not Retrainings().state(subject)["running"]
    with (home / ".lock").open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # as another that looks at this moment
        assert not Retrainings().state(subject)["running"]
        assert (home / ".lock").read_text() == "12"
        assert (home / ".part-of-something.diapir.part").exists()
        # Nor is who only looks in the way of who begins.
        threading.Timer(0.1, fcntl.flock, (reader, fcntl.LOCK_UN)).start()
        begun = Retrainings()
        assert begun.begin(subject, tmp_path)["running"]
    begun.stop(subject)
    wait_for_end(begun, subject)


def test_the_process_of_the_page_is_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, killed = stand_in(tmp_path, monkeypatch), list[int]()
    home = subject.store.folder / "retraining"
    say(home / "001", "training", "")
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    with locked_folder(home):
        assert (home / ".lock").read_text() == str(os.getpid())
        Retrainings().stop(subject)
    assert killed == []


@pytest.mark.parametrize(
    ("survey", "salt", "words"),
    [
        ("survey.zarr", "salt.zarr", "survey.zarr --model salt.zarr.corrections/retraining/001/run"),
        ("in/a b.zarr", "found/s.zarr", "'in/a b.zarr' --model found/s.zarr.corrections/retraining/001/run"),
        ("../$HOME.zarr", "a;b.zarr", "'../$HOME.zarr' --model 'a;b.zarr.corrections/retraining/001/run'"),
    ],
)
def test_the_next_command_names_places_as_they_were_named(survey: str, salt: str, words: str) -> None:
    both: list[Any] = [SimpleNamespace(path=Path(name), volumes=()) for name in (survey, salt)]
    store = corrections_beside(Path(salt), identity="x")
    subject = SurveySubject("survey", both[0], both[1], None, store)
    told = retraining._next_command(subject, store.folder / "retraining" / "001" / "run")
    assert told == f"diapir survey segment {words} --out salt-corrected.zarr"


def test_labels_too_few_to_learn_from_are_told_in_words(review: Path) -> None:
    pair = opened(review)
    alone = open_subjects(type(pair)({}, pair.surveys, {}))["survey"]
    correct(alone, Target("inline", "110"), salt_of_survey()[10].T)
    with pytest.raises(InputError, match="expected the run that learned from this survey"):
        model_for(alone, {})
    trainings = Retrainings()
    trainings.begin(alone, model_for(alone, {"run": review / "run"}), threads=1)
    state = wait_for_end(trainings, alone)
    assert state["phase"] == "failed"
    assert "label another" in state["words"]


def test_the_recipe_goes_on_more_slowly_with_the_last_stage(review: Path) -> None:
    model = open_model(review / "run")
    recipe = fine_tuning_recipe(model, epochs=7, of_survey=True)
    own = model.members[-1].recipe.stages[-1]
    (stage,) = recipe.stages
    assert (stage.epochs, stage.loss) == (7, own.loss)
    assert 0 < stage.optimiser.lr < own.optimiser.lr
    assert recipe.folds.held_out == (0,)
