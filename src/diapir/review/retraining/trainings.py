"""Training on corrections, seen from outside: begun, watched and stopped, one at a time, in folders beside them."""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, get_args

from diapir.faults import InputError
from diapir.review.corrections.records import history
from diapir.review.corrections.saving import corrected_targets
from diapir.review.corrections.subjects import Subject, SurveySubject
from diapir.runs import LOCK, atomic_folder, read_json, write_json

FOLDER, JOB, STATE, RESULT, RUN = "retraining", "job.json", "state.json", "result.json", "run"

Phase = Literal["begun", "preparing", "training", "scoring", "done", "failed", "stopped"]
ENDED = ("done", "failed", "stopped")

_PHASES = get_args(Phase)
_NUMBER = re.compile(r"[0-9]{3,6}")
_LOOKING_S = 0.01
_KILLED = "it ended before it was done: it was killed, or the machine was switched off; begin again"


class Retrainings:
    """Processes that this one has begun.

    It is a class because the processes, and the lock without which two could be begun at once, are shared by requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[Path, subprocess.Popen[bytes]] = {}

    def begin(
        self, subject: Subject, model: Path, *, epochs: int | None = None, threads: int | None = None
    ) -> dict[str, Any]:
        """Begin training on everything that was corrected; gives its state.

        Args:
            model: the run or bundle that is gone on with.
            epochs: None for as many as the last stage of its recipe has.

        Raises:
            InputError: one is under way, nothing was corrected, or there is nothing to learn on.
        """
        _require_ready(subject)
        home = subject.store.folder / FOLDER
        with self._lock, _taken_lock(home) as lock:
            folder = home / f"{_latest_number(home) + 1:03}"
            with atomic_folder(folder) as made:  # who looks at this moment finds no half of it
                write_json(made / JOB, _job(subject, model, epochs=epochs, threads=threads))
                say(made, "begun", "a process for it is being started")
            with (folder / "log.txt").open("wb") as log:
                self._begun[home] = subprocess.Popen(
                    [sys.executable, "-m", "diapir.review.retraining.process", str(folder.resolve())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                    # Ctrl-C in the terminal of the page is not meant for hours of training.
                    start_new_session=True,
                    # It holds the lock from its first moment to its last, whatever becomes of this process.
                    pass_fds=(lock.fileno(),),
                )
            lock.write(str(self._begun[home].pid))
        return self.state(subject)

    def state(self, subject: Subject) -> dict[str, Any]:
        """How far the latest training is, or what it came to, as plain JSON values."""
        home = subject.store.folder / FOLDER
        number = _latest_number(home)
        if not number:
            return {"number": 0, "phase": "none", "words": "nothing was trained on corrections yet", "running": False}
        folder = home / f"{number:03}"
        found = _read_state(folder)
        running = self._is_running(home)
        if not running and found["phase"] not in ENDED:
            found = _read_state(folder)  # it may have ended in between
            if found["phase"] not in ENDED:
                found |= {"phase": "failed", "words": _KILLED}
        found |= {"number": number, "running": running, "epochs_done": _epochs_done(folder / RUN)}
        if found["phase"] == "done":
            found |= {"result": read_json(folder / RESULT), "next": _next_command(subject, folder / RUN)}
        return found

    def stop(self, subject: Subject) -> dict[str, Any]:
        """Ask the training under way to end; gives its state, which may say for a while that it goes on.

        Raises:
            InputError: none is under way.
        """
        home = subject.store.folder / FOLDER
        if not self._is_running(home):
            raise InputError.of("", "there is nothing to stop")
        process = self._begun.get(home)
        if process is not None and process.poll() is None:
            process.terminate()
        elif (pid := _holder(home)) is not None:
            _terminate(pid)
        return self.state(subject)

    def picture(self, subject: Subject, number: int, name: str) -> Path | None:
        """A picture of a training that is done, if it is one of those that its result names."""
        folder = subject.store.folder / FOLDER / f"{number:03}"
        if not (folder / RESULT).is_file() or name not in read_json(folder / RESULT).get("pictures", []):
            return None
        return folder / "pictures" / name

    def _is_running(self, home: Path) -> bool:
        process = self._begun.get(home)
        if process is not None and process.poll() is None:
            return True
        try:
            with (home / LOCK).open() as file:
                # Shared, so that many can look at once; nothing is written, and the lock goes with the block.
                return not _locks(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False


def say(folder: Path, phase: Phase, words: str, *, epochs: int | None = None) -> None:
    """Note how far a training is."""
    before = _read_state(folder) if (folder / STATE).exists() else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"phase": phase, "words": words, "since": now, "started": before.get("started", now)}
    write_json(folder / STATE, content | {"epochs": epochs or before.get("epochs")})


def model_for(subject: Subject, models: Mapping[str, Path]) -> Path:
    """What training goes on with: the run behind the subject, or the only model that was named.

    Raises:
        InputError: there is none, or it is not clear which.
    """
    if subject.run is not None:
        return subject.run.folder
    if len(models) == 1:
        return next(iter(models.values()))
    found = f"found {len(models)}" if models else "found none"
    what = f"expected the run that learned from this survey, or one model to go on with, {found}"
    example = "diapir review train survey.zarr salt.zarr RUN, or diapir serve survey.zarr salt.zarr RUN"
    raise InputError.of("", f"{what}; name the run too: {example}")


def _require_ready(subject: Subject) -> None:
    """Refuse what cannot succeed before a process is started for it."""
    if not corrected_targets(history(subject.store)):
        raise InputError.of("", "nothing was corrected yet; correct some sections or tiles first")
    if isinstance(subject, SurveySubject) and subject.survey is None:
        raise InputError.of("", "the survey itself is needed to learn from: name it beside the salt")


def _job(subject: Subject, model: Path, *, epochs: int | None, threads: int | None) -> dict[str, Any]:
    is_survey = isinstance(subject, SurveySubject)
    stores = (subject.survey, subject.salt) if isinstance(subject, SurveySubject) else (None, None)
    run = subject.run
    return {
        "name": subject.name,
        "corrections": str(subject.store.folder.resolve()),
        "identity": subject.store.identity,
        "model": str(model.resolve()),
        "run": None if run is None else str(run.folder.resolve()),
        "data": None if is_survey or run is None or run.data_path is None else str(run.data_path.resolve()),
        "survey": None if stores[0] is None else str(stores[0].path.resolve()),
        "salt": None if stores[1] is None else str(stores[1].path.resolve()),
        "epochs": epochs,
        "threads": threads,
    }


def _environment() -> dict[str, str]:
    """What `processor.tune_process` sets, which must come before torch is loaded."""
    tuned = {
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "5000",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    }
    return tuned | dict(os.environ)


def _latest_number(home: Path) -> int:
    if not home.is_dir():
        return 0
    return max((int(path.name) for path in home.iterdir() if _NUMBER.fullmatch(path.name)), default=0)


def _read_state(folder: Path) -> dict[str, Any]:
    found = read_json(folder / STATE)
    if not isinstance(found, dict) or found.get("phase") not in _PHASES:
        raise InputError.of(folder / STATE, "expected the state of a training, found something else; begin again")
    return found


def _epochs_done(run: Path) -> int:
    return sum(_lines(path) for path in run.rglob("log.jsonl"))


def _lines(path: Path) -> int:
    try:
        return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line))
    except (OSError, ValueError, RecursionError):
        return 0


@contextmanager
def _taken_lock(home: Path) -> Iterator[IO[str]]:
    """The lock of the trainings in a folder, empty; a process that is handed it goes on holding it.

    Raises:
        InputError: a training holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK).open("a") as file:
        while not _locks(file, fcntl.LOCK_EX):
            if not _locks(file, fcntl.LOCK_SH):
                raise InputError.of("", "one is under way already; wait for it, or stop it")
            # No training has it then, but somebody who looked whether one has.
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(_LOOKING_S)
        file.truncate(0)
        yield file


def _locks(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(home: Path) -> int | None:
    """The process that holds the lock, as it is written there; None where it is not known, or is this one."""
    text = (home / LOCK).read_text(encoding="utf-8").strip()
    pid = int(text) if text.isdecimal() else 0
    return pid if pid not in (0, os.getpid()) else None


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:  # it has just ended
        return
    except PermissionError:
        raise InputError.of("", "another user of this machine began it, and alone can stop it") from None


def _next_command(subject: Subject, run: Path) -> str:
    """What a person does with the new run, with places as she named them, and so for the folder where she did."""
    if isinstance(subject, SurveySubject) and subject.survey is not None:
        words = ["survey", "segment", subject.survey.path, "--model", run, "--out", "salt-corrected.zarr"]
    else:
        words = ["bundle", run, "NEW-MODEL", "--data", run.parent / "tiles"]
    return shlex.join(["diapir", *map(str, words)])
