"""Folds and members side by side, on a dask cluster or on processes of this machine: the first process's part."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import torch
from distributed import Client, Future, KilledWorker, Nanny, Scheduler, Security, SpecCluster
from distributed.comm.core import CommClosedError, connect

from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.jobs import Job, Outcome, Setting, ask_to_stop, do_job, versions, worker_faults
from diapir.pipeline.plan import Planned, mark_done
from diapir.pipeline.run import begin_step, do_step
from diapir.pipeline.training import fold_name, tracked_name, train_figures
from diapir.pipeline.workplace import Workplace, fold_folder, folds_of, step_named
from diapir.recipe.steps import PredictStep, Train, sources
from diapir.train.doctor import TrainingFailed
from diapir.train.epoch_log import Record, epoch_line, read_log
from diapir.train.stop import Stopped, stop_requests
from diapir.train.tracking import Tracker, open_trackers

_CONNECT_S, _WORKERS_S, _SAVING_S = 5.0, 30.0, 120.0
_UNSEEN = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Nobody on another machine reaches what runs here."""
_GO_ON = "what is done is saved: the same command with --resume goes on"
_LOOK_S = 1.0
UNDER_WAY = ("pending", "lost")
LOST = (OSError, TimeoutError, RuntimeError, ValueError)
"""What a client raises whose scheduler has gone, by the moment."""


@dataclass(frozen=True)
class Crew:
    """Workers that take jobs.

    Args:
        name: what a person asked for.
        threads: of the processor for each net; None leaves each worker its own number.
    """

    client: Client
    name: str
    threads: int | None


@contextmanager
def workers_at(address: str, *, threads: int | None) -> Iterator[Crew]:
    """The workers of a dask cluster that is running.

    Args:
        address: of its scheduler, such as tcp://host:8786.

    Raises:
        InputError: there is none, it has no workers, or these would not give the same results as this process.
    """
    name = f"--scheduler {address}"
    for logger in ("distributed", "distributed.client"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what a person must know is said below, in other words
    _require_listener(name, address)
    try:
        # A client that fails leaves threads behind, which complain when the process ends.
        asyncio.run(_greet(address))
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError, AssertionError, MemoryError) as error:
        # Whatever else listens there says things that dask cannot make sense of, each in its own way.
        raise InputError.of(name, f"what answers there is no dask scheduler of a version that fits ({error})") from None
    with client:
        _require_workers(client, name)
        yield Crew(client, name, threads)


@contextmanager
def local_workers(count: int, *, threads: int | None, option: str = "--side-by-side") -> Iterator[Crew]:
    """New processes of this machine, each bound to one of its devices; without any they share the processor's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = {
        row: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,
                **_UNSEEN,
                "preload": ["diapir.processor"],
                "env": _device_of(row),
            },
        }
        for row in range(count)
    }
    scheduler = {"cls": Scheduler, "options": {"port": 0, **_UNSEEN}}
    quiet = {
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
        "distributed.worker.profile.enabled": False,
    }
    with (
        dask.config.set(quiet),
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs="CRITICAL") as cluster,  # type: ignore[no-untyped-call]
        Client(cluster, set_as_default=False) as client,  # type: ignore[no-untyped-call]
    ):
        yield Crew(client, f"{option} {count}", threads or max(1, cores // count))


def side_by_side(
    place: Workplace, plan: Sequence[Planned], *, crew: Crew, data_path: Path | None, skip_bad: bool
) -> None:
    """Do what is not done: folds of train steps and predict steps by workers, as soon as what they need is there.

    All other steps are done by this process.

    Raises:
        InputError, TrainingFailed, Stopped: of the first that ends so, after the others saved their state.
    """
    board = _Board(
        place=place,
        crew=crew,
        setting=_setting(place, crew, data_path=data_path, skip_bad=skip_bad),
        left={one.step.name: one for one in plan if one.state != "done"},
        done={one.step.name for one in plan if one.state == "done"},
    )
    try:
        while board.left:
            _begin_what_is_ready(board)
            _send(board)
            if not _do_one_here(board):
                _collect(board)
    except BaseException as error:
        _stop_jobs(board, error.signal_number if isinstance(error, Stopped) else signal.SIGTERM)
        raise


@dataclass(frozen=True)
class _Board:
    """What is to do, under way and done; its tables move on.

    Args:
        left, done: steps by name.
        queue: jobs that wait for a worker.
        ended: of each step whose jobs were made, how those ended that did.
        seen: how many epochs of a job were told.
    """

    place: Workplace
    crew: Crew
    setting: Setting
    left: dict[str, Planned]
    done: set[str]
    queue: deque[Job] = field(default_factory=deque)
    running: dict[Future[Outcome], Job] = field(default_factory=dict)
    ended: dict[str, list[Outcome]] = field(default_factory=dict)
    seen: dict[Job, int] = field(default_factory=dict)
    trackers: dict[Job, list[Tracker]] = field(default_factory=dict)


def _setting(place: Workplace, crew: Crew, *, data_path: Path | None, skip_bad: bool) -> Setting:
    return Setting(
        token=uuid.uuid4().hex,
        out=Path(os.path.realpath(place.out)),
        recipe_digest=place.recipe.digest,
        data_path=None if data_path is None else Path(os.path.realpath(data_path)),
        data_digest=place.data.digest,
        skip_bad=skip_bad,
        # Decided once, here: workers of other kinds would each decide for themselves.
        precision="bfloat16" if place.fabric._precision.precision == "bf16-mixed" else "float32",
        threads=crew.threads,
        versions=versions(),
    )


def _ready(board: _Board) -> list[Planned]:
    """Steps that are not done, and have all that they take something from."""
    return [one for one in board.left.values() if {name for name, _ in sources(one.step).values()} <= board.done]


def _begin_what_is_ready(board: _Board) -> None:
    for planned in _ready(board):
        step = planned.step
        if not isinstance(step, Train | PredictStep) or step.name in board.ended:
            continue
        begin_step(board.place, planned)
        board.ended[step.name] = []
        folds = folds_of(board.place.recipe, step) if isinstance(step, Train) else (None,)
        board.queue.extend(Job(board.setting, step.name, planned.digest, fold, board.place.numbers) for fold in folds)


def _send(board: _Board) -> None:
    """Give each worker that has none a job; what waits here can be given to one that joins later."""
    while board.queue and len(board.running) < _num_workers(board.crew):
        job = board.queue.popleft()
        step = step_named(board.place.recipe, job.step)
        if isinstance(step, Train) and job not in board.seen:
            board.seen[job] = len(read_log(fold_folder(board.place.out, step, job.fold)))
            name = tracked_name(board.place, step, job.fold)
            board.trackers[job] = open_trackers(board.place.trackers, board.place.out, run_name=name)
        key = f"diapir-{_name(board, job).replace(' ', '-')}-{uuid.uuid4().hex}"
        board.running[board.crew.client.submit(do_job, job, key=key, pure=False)] = job


def _do_one_here(board: _Board) -> bool:
    """Do a step that is this process's own, if one is ready."""
    for planned in _ready(board):
        if not isinstance(planned.step, Train | PredictStep):
            begin_step(board.place, planned)
            figures = do_step(board.place, planned, stop_asked=lambda: None)
            _finish(board, planned, figures)
            return True
    return False


def _finish(board: _Board, planned: Planned, figures: dict[str, Any]) -> None:
    mark_done(board.place.out, planned, figures)
    del board.left[planned.step.name]
    board.done.add(planned.step.name)


def _collect(board: _Board) -> None:
    """Wait for a job to end, a while at most; tell the epochs that were done, and finish steps whose jobs all ended."""
    for future in _ended_futures(board):
        job = board.running.pop(future)
        outcome = _outcome(board, future, job)
        if outcome.stopped is not None:
            # Nobody asked this run to stop: the job's worker was closed.
            board.queue.appendleft(job)
            continue
        planned, ended = board.left[job.step], board.ended[job.step]
        ended.append(outcome)
        if isinstance(planned.step, Train):
            _tell(board, job, outcome.found)
        if not any(other.step == job.step for other in (*board.queue, *board.running.values())):
            _finish(board, planned, _figures(planned, ended))
    for job in board.running.values():
        step = step_named(board.place.recipe, job.step)
        if isinstance(step, Train):
            _tell(board, job, read_log(fold_folder(board.place.out, step, job.fold)))


def _ended_futures(board: _Board) -> list[Future[Outcome]]:
    """Jobs that ended; none where none did for a while."""
    deadline = time.monotonic() + _LOOK_S
    with stop_requests() as stop_asked:
        while True:
            ended = [future for future in board.running if future.status not in UNDER_WAY]
            if (number := stop_asked()) is not None:
                raise Stopped(number)
            if ended or time.monotonic() > deadline:
                return ended
            time.sleep(0.05)


def _outcome(board: _Board, future: Future[Outcome], job: Job) -> Outcome:
    """How a job ended.

    Raises:
        InputError, TrainingFailed: it ended so; or the scheduler was lost, or worker after worker died at it.
    """
    if future.status == "cancelled":
        raise InputError.of(board.crew.name, f"the connection to the scheduler was lost; {_GO_ON}")
    if future.status == "error":
        error = future.exception()  # type: ignore[no-untyped-call]
        assert isinstance(error, BaseException)
        if isinstance(error, KilledWorker):
            raise TrainingFailed(
                f"{_name(board, job)}: {error.allowed_failures + 1} workers died at it, one after another, most often "
                f"because memory was too small: try fewer workers a machine, or smaller batches; {_GO_ON}"
            )
        raise error
    outcome: Outcome = future.result()
    raise_if_any(outcome.faults)
    if outcome.failure:
        raise TrainingFailed(outcome.failure)
    return outcome


def _figures(planned: Planned, ended: Sequence[Outcome]) -> dict[str, Any]:
    if not isinstance(planned.step, Train):
        figures: dict[str, Any] = ended[0].found
        return figures
    processors = sorted({outcome.processor for outcome in ended})
    return train_figures([outcome.found for outcome in ended]) | {"processors": processors}


def _tell(board: _Board, job: Job, log: Sequence[Record]) -> None:
    """A line for each epoch that was not told yet; one that went on from its checkpoint may have fewer than before."""
    for record in log[board.seen[job] :]:
        print(epoch_line(_name(board, job), record), file=sys.stderr, flush=True)
        for track in board.trackers[job]:
            track(record)
    board.seen[job] = len(log)


def _name(board: _Board, job: Job) -> str:
    step = step_named(board.place.recipe, job.step)
    return fold_name(step, job.fold) if isinstance(step, Train) else step.name


def _stop_jobs(board: _Board, signal_number: int) -> None:
    """Have workers save what is under way, and wait until they have; a signal leaves at once."""
    client, running = board.crew.client, board.running
    if not running:
        return
    print("stopping: what is under way is being saved; Ctrl-C leaves at once", file=sys.stderr, flush=True)
    deadline = time.monotonic() + _SAVING_S
    with suppress(*LOST), stop_requests() as asked_again:
        client.run(ask_to_stop, board.setting.token, signal_number, on_error="ignore")
        while time.monotonic() < deadline and asked_again() is None and _num_workers(board.crew):
            if all(future.status not in UNDER_WAY for future in running):
                break
            time.sleep(0.05)
        client.cancel(list(running))  # type: ignore[no-untyped-call]


def _num_workers(crew: Crew) -> int:
    """Workers that are there now; none also where the scheduler does not answer, which its futures tell soon."""
    with suppress(*LOST):
        return len(crew.client.nthreads())  # type: ignore[no-untyped-call]
    return 0


def _require_listener(name: str, address: str) -> None:
    """Refuse an address where nobody answers: dask itself goes on trying."""
    wanted = "expected the address of a dask scheduler, such as tcp://host:8786"
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError.of(name, f"{wanted}, found another port ({error})") from None
    if parts.scheme not in ("tcp", "tls") or not host or not port:
        raise InputError.of(name, f"{wanted}, found none with tcp or tls, host and port")
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise InputError.of(
            name, f"nobody answers there ({error.strerror or error}); start one: dask scheduler"
        ) from None


async def _greet(address: str) -> None:
    comm = await connect(address, timeout=_CONNECT_S, **Security().get_connection_args("client"))  # type: ignore[no-untyped-call]
    await comm.close()


def _require_workers(client: Client, name: str) -> None:
    faults: list[Fault] = []
    answers, ours = _answers(client, name), versions()
    tasks_at_once = client.nthreads()  # type: ignore[no-untyped-call]
    for address, theirs in answers.items():
        where = f"worker {address}"
        if isinstance(theirs, Exception):
            faults.append(Fault(where, f"it cannot load diapir {dict(ours)['diapir']} ({theirs}): install it there"))
        else:
            faults += worker_faults(where, tasks_at_once=tasks_at_once.get(address, 1), theirs=theirs, ours=ours)
    raise_if_any(faults)


def _answers(client: Client, name: str) -> dict[str, Any]:
    """Versions that each worker has, or why it has none; of one that died meanwhile nothing, for others are enough."""
    deadline = time.monotonic() + _WORKERS_S
    while time.monotonic() < deadline:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError:
            raise InputError.of(name, "it has no workers; start some: dask worker ADDRESS --nthreads 1") from None
        found = client.run(versions, on_error="return")
        there = client.nthreads()  # type: ignore[no-untyped-call]
        # Loading diapir may raise an OSError too; one of a worker that is not there any more says that it is gone.
        if answers := {
            address: answer
            for address, answer in found.items()
            if not isinstance(answer, CommClosedError) and not (isinstance(answer, OSError) and address not in there)
        }:
            return answers
    raise InputError.of(name, "each of its workers died when it was asked for its versions; look at what they print")


def _device_of(row: int) -> dict[str, str]:
    """What shows a process one of this machine's devices alone; empty where there are none."""
    count = torch.cuda.device_count()
    if not count:
        return {}
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(index) for index in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[row % count]}
