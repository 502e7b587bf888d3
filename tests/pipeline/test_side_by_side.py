"""Folds and members on workers of a dask cluster: the same bytes as one after another, whatever happens on the way."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from distributed import Status, Worker
from distributed.comm.core import CommClosedError

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import write_data
from diapir.faults import InputError
from diapir.nets.weights import load_tensors
from diapir.pipeline import jobs
from diapir.pipeline.jobs import Job, Setting, ask_to_stop, versions, worker_faults
from diapir.pipeline.run import run_recipe, show_plan
from diapir.pipeline.side_by_side import side_by_side, workers_at
from diapir.recipe.files import write_recipe
from diapir.recipe.whole import Recipe
from diapir.runs import read_json, write_json, write_text
from diapir.train.checkpoint import NAME as CHECKPOINT
from diapir.train.doctor import TrainingFailed
from diapir.train.snapshots import WEIGHTS_LAST
from diapir.train.stop import Stopped, stop_at_once
from fake_training import TINY, tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

PATIENCE_S = 500.0
MEMBERS: dict[str, Any] = {
    "folds.held_out": [],
    "models": {
        name: copy.deepcopy(
            {key: TINY[key] for key in ("framing", "input", "net", "augment", "stages", "average", "predict")}
        )
        for name in ("one", "two")
    },
    "models.one.stages.0.framing.size": 32,
    "models.two.stages.0.framing.size": 32,
    "models.one.stages.0.epochs": 1,
    "models.two.stages.1.epochs": 1,
    "steps": [
        {"do": "train", "name": "one", "model": "one"},
        {"do": "predict", "name": "one-says", "of": "one"},
        {"do": "train", "name": "two", "model": "two"},
        {"do": "predict", "name": "two-says", "of": "two"},
        {"do": "blend", "name": "both", "of": ["one-says", "two-says"]},
        {"do": "submit", "of": "both"},
    ],
}
"""Two members, two folds each."""
LONG: dict[str, Any] = {"stages.0.epochs": 1, "stages.1.epochs": 60, "stages.1.score_every": 20}
"""A state is saved early, and then there is time to be killed or stopped in."""


def _is_json(path: Path) -> bool:
    """Whether a file is there with all its content: dask writes this one bit by bit."""
    try:
        return bool(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, started as docs/side-by-side.md has it; its address."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = os.environ | {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(folder / "scheduler.json"))
        await_that(lambda: _is_json(folder / "scheduler.json"))
        address: str = json.loads((folder / "scheduler.json").read_text())["address"]
        for _ in range(2):
            # Without the nanny, which would start a killed one again: it costs two more processes.
            start("worker", address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0",
                  "--local-directory", str(folder), "--preload", "diapir.processor")  # fmt: skip
        yield address
    finally:
        for process in started:
            process.kill()
            process.wait()


def await_that(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def run_on(address: str, recipe: Recipe, out: Path, *, data_path: Path | None = None, **named: Any) -> dict[str, Any]:
    with workers_at(address, threads=1) as crew:
        do_steps = partial(side_by_side, crew=crew, data_path=data_path, skip_bad=False)
        return run_recipe(recipe, out, data_path=data_path, do_steps=do_steps, **named)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Two folds of two members, one after another."""
    out = tmp_path_factory.mktemp("members") / "run"
    run_recipe(tiny_run_recipe(MEMBERS), out, data_path=None)
    return out


@pytest.fixture(scope="module")
def long_one(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    out = tmp_path_factory.mktemp("long") / "run"
    run_recipe(tiny_run_recipe(LONG), out, data_path=None)
    return out


def assert_same_files(run: Path, other: Path) -> None:
    patterns = ("*.npy", "*.csv", "weights-*.safetensors", "tiles.png")
    names = sorted(str(path.relative_to(other)) for pattern in patterns for path in other.rglob(pattern))
    assert any(name.endswith(WEIGHTS_LAST) for name in names)
    for name in names:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name


def when(is_so: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def wait_and_act() -> None:
        await_that(is_so)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


# On a cluster.


def test_folds_and_members_side_by_side_give_the_bytes_of_one_after_another(
    cluster: str, members: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_run_recipe(MEMBERS)
    record = run_on(cluster, recipe, tmp_path / "run")
    assert_same_files(tmp_path / "run", members)
    before = read_json(members / "record.json")
    for key in ("score", "threshold", "recipe_digest", "identity", "epochs", "precision", "device", "threads"):
        assert record[key] == before[key], key
    assert record["threads"] == [1]
    assert all(line.endswith("done, kept") for line in show_plan(recipe, tmp_path / "run", data_path=None).splitlines())
    told = [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()]
    assert sorted(told) == sorted(["one fold 0", "one fold 1", "two fold 0", "two fold 1"] * 3), "a line an epoch"


def test_a_stopped_run_saves_its_state_and_goes_on_without_the_cluster(
    cluster: str, long_one: Path, tmp_path: Path
) -> None:
    recipe, out = tiny_run_recipe(LONG), tmp_path / "run"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_at_once()
    try:
        thread = when(
            (out / "train" / "fold-0" / CHECKPOINT).exists, lambda: os.kill(os.getpid(), signal.SIGTERM)
        )  # fmt: skip
        with pytest.raises(Stopped) as stopped:
            run_on(cluster, recipe, out)
        thread.join()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert stopped.value.signal_number == signal.SIGTERM
    progress = load_tensors(out / "train" / "fold-0" / CHECKPOINT)[1]["progress"]
    assert not (out / "train" / "fold-0" / WEIGHTS_LAST).exists(), "it was stopped on its way"
    assert progress["cycle"] == 1
    assert (progress["epoch"], progress["step"]) > (0, 0), "saved where it was stopped, not where a stage ended"
    run_recipe(recipe, out, data_path=None, resume=True)
    assert_same_files(out, long_one)


@pytest.mark.parametrize(
    ("changes", "tiles", "error", "words"),
    [
        ({"stages.0.optimiser.lr": 1.0e38}, 20, TrainingFailed, "train fold 0, stage small, epoch 1: the loss is"),
        ({"folds.held_out": []}, 2, InputError, "train fold . expected at least 2 tiles to train on, found 1"),
    ],
)
def test_what_goes_wrong_at_a_worker_arrives_in_the_same_words(
    cluster: str, tmp_path: Path, changes: dict[str, Any], tiles: int, error: type[Exception], words: str
) -> None:
    data = make_synthetic(labelled=20, unlabelled=1, seed=1)[0]
    assert data.labelled.masks is not None
    salted = np.flatnonzero(data.labelled.masks.any((1, 2)))
    rows = salted[:tiles] if tiles < 20 else np.arange(20)
    write_data(replace(data, labelled=data.labelled.take(rows)), tmp_path / "data")
    with pytest.raises(error, match=words.replace(" . ", " .: ")):
        run_on(cluster, tiny_run_recipe(changes), tmp_path / "run", data_path=tmp_path / "data")


def test_another_worker_goes_on_with_a_killed_ones_fold(cluster: str, long_one: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "train" / "fold-0"
    killed: list[int] = []

    def kill() -> None:
        killed.append(int((folder / ".lock").read_text()))
        assert killed[0] != os.getpid()
        os.kill(killed[0], signal.SIGKILL)

    thread = when((folder / CHECKPOINT).exists, kill)
    run_on(cluster, tiny_run_recipe(LONG), tmp_path / "run")
    thread.join()
    assert int((folder / ".lock").read_text()) not in killed
    assert_same_files(tmp_path / "run", long_one)


def test_processes_of_this_machine_give_the_bytes_of_one_after_another(members: Path, tmp_path: Path) -> None:
    (tmp_path / "members.yaml").write_text(write_recipe(tiny_run_recipe(MEMBERS)))
    command = [sys.executable, "-m", "diapir", "run", str(tmp_path / "members.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--side-by-side", "2", "--threads", "1"],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 12, done.stderr
    assert_same_files(tmp_path / "run", members)


# What is refused.


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp://127.0.0.1:1", "nobody answers there .*Connection refused.*; start one: dask scheduler"),
        ("127.0.0.1:1", "nobody answers there"),
        ("tcp://no-such-host.invalid:8786", "nobody answers there"),
        ("nonsense", "expected the address of a dask scheduler, such as tcp://host:8786"),
        ("http://host:8786", "expected the address of a dask scheduler"),
        ("tcp://host:port", "expected the address of a dask scheduler"),
    ],
)
def test_an_address_without_a_scheduler_is_refused_in_words(address: str, words: str) -> None:
    with pytest.raises(InputError, match=f"--scheduler {address}: {words}"), workers_at(address, threads=None):
        pass


class FakeClient:
    """Asks two workers, of which one or both are lost on the way as often as it is told, and come back."""

    def __init__(self, *lost: tuple[str, ...]) -> None:
        self.lost, self.asked = lost, 0

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def wait_for_workers(self, count: int, *, timeout: float) -> None:
        assert count == 1
        assert timeout > 0

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(("tcp://a:1", "tcp://b:1"), 1)

    def run(self, ask: Callable[[], Any], *, on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        lost = self.lost[min(self.asked, len(self.lost) - 1)]
        self.asked += 1
        closed = CommClosedError("in <TCP (closed) Scheduler Broadcast>: Stream is closed")
        return {address: closed if address in lost else ask() for address in self.nthreads()}


def greeted(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The same after the first process has asked its workers what they have."""
    place = "diapir.pipeline.side_by_side"

    async def answer(address: str) -> None:
        pass

    monkeypatch.setattr(f"{place}._require_listener", lambda name, address: None)
    monkeypatch.setattr(f"{place}._greet", answer)
    monkeypatch.setattr(f"{place}.Client", lambda address, **options: client)
    with workers_at("tcp://host:8786", threads=None):
        return client


def test_a_worker_that_dies_when_it_is_greeted_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert greeted(FakeClient(("tcp://a:1",)), monkeypatch).asked == 1
    both = ("tcp://a:1", "tcp://b:1")
    assert greeted(FakeClient(both, both, ()), monkeypatch).asked == 3
    monkeypatch.setattr("diapir.pipeline.side_by_side._WORKERS_S", 0.1)
    with pytest.raises(InputError, match="each of its workers died when it was asked for its versions"):
        greeted(FakeClient(both), monkeypatch)


def test_a_worker_that_would_give_other_results_is_refused() -> None:
    ours = versions()
    assert worker_faults("worker a", tasks_at_once=1, theirs=ours, ours=ours) == []
    other = tuple((name, "0.1" if name == "torch" else version) for name, version in ours)
    faults = worker_faults("worker a", tasks_at_once=4, theirs=other, ours=ours)
    assert [fault.where for fault in faults] == ["worker a"] * 2
    assert f"expected torch {dict(ours)['torch']}, as the first process has it, found 0.1" in faults[0].what
    assert "start it with --nthreads 1" in faults[1].what


def fake_worker(*, state: str = "executing", status: Status = Status.running) -> Worker:
    tasks = {"key": SimpleNamespace(state=state)}
    return cast(
        Worker,
        SimpleNamespace(
            address="tcp://a:1",
            status=status,
            state=SimpleNamespace(nthreads=1, tasks=tasks),
            get_current_task=lambda: "key",
        ),
    )


def job_of(recipe: Recipe, out: Path, *, data_path: Path | None = None, data_digest: str) -> Job:
    setting = Setting(
        token="t", out=out, recipe_digest=recipe.digest, data_path=data_path, data_digest=data_digest, skip_bad=False,
        precision="float32", threads=None, versions=versions(),
    )  # fmt: skip
    return Job(setting, "train", "d", 0, np.zeros(1, np.int64))


def test_a_worker_that_sees_another_folder_or_other_data_is_named(tmp_path: Path) -> None:
    recipe, out = tiny_run_recipe(), tmp_path / "run"
    job = job_of(recipe, out, data_digest="0" * 64)
    with pytest.raises(InputError, match=r"worker tcp://a:1: .*the run's folder must lie where all workers see it"):
        jobs._workplace(job, fake_worker())
    write_json(out / "train" / "step.json", {"digest": "another", "finished": False})
    with pytest.raises(InputError, match="the run's folder must lie where all workers see it"):
        jobs._workplace(job, fake_worker())
    write_json(out / "train" / "step.json", {"digest": "d", "finished": False})
    write_text(out / "recipe.yaml", write_recipe(tiny_run_recipe({"seed": 9})))
    with pytest.raises(InputError, match=r"recipe\.yaml is not that of the first process"):
        jobs._workplace(job, fake_worker())
    write_text(out / "recipe.yaml", write_recipe(recipe))
    with pytest.raises(InputError, match=r"expected the data of the first process in .*, digest 000000000000, found"):
        jobs._workplace(job, fake_worker())
    absent = job_of(recipe, out, data_path=tmp_path / "absent", data_digest="0" * 64)
    with pytest.raises(InputError, match=r"absent.*"):
        jobs._workplace(absent, fake_worker())
    digest = make_synthetic(labelled=20, unlabelled=5, seed=1)[0].digest
    assert jobs._workplace(job_of(recipe, out, data_digest=digest), fake_worker()).recipe == recipe


def test_a_job_stops_when_asked_and_when_nobody_waits_for_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_stops", {})
    assert jobs._stop_asked("t", fake_worker())() is None
    assert jobs._stop_asked("t", fake_worker(state="cancelled"))() == signal.SIGTERM
    assert jobs._stop_asked("t", fake_worker(status=Status.closing))() == signal.SIGTERM
    ask_to_stop("t", signal.SIGINT)
    assert jobs._stop_asked("t", fake_worker())() == signal.SIGINT
    assert jobs._stop_asked("another", fake_worker())() is None
