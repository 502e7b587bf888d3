"""Strips of a survey on the workers of a dask cluster, or on processes of this machine."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from distributed import Future, KilledWorker

from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.side_by_side import LOST, UNDER_WAY, Crew
from diapir.train.doctor import TrainingFailed
from diapir.train.stop import Stopped, stop_requests
from diapir.volume.segment_strip import StripJob, do_strip

_GO_ON = "what is done is saved: the same command goes on"
_PATIENCE_S = 10.0
_AHEAD = 2
"""Strips a worker has at most, one of them waiting."""


def strips_by(crew: Crew) -> Callable[[Sequence[StripJob]], Iterator[StripJob]]:
    """What does strips by the workers of a crew, and gives each as soon as it is done."""
    return partial(_do_strips, crew)


def _do_strips(crew: Crew, jobs: Sequence[StripJob]) -> Iterator[StripJob]:
    """Give each strip when it is done.

    Raises:
        InputError: what a worker found wrong, or the scheduler was lost.
        TrainingFailed: worker after worker died.
        Stopped: on a signal.
    """
    left, running = list(reversed(jobs)), dict[Future[tuple[Fault, ...]], StripJob]()
    left_at = None
    try:
        with stop_requests() as stop_asked:
            while left or running:
                if (number := stop_asked()) is not None:
                    raise Stopped(number, _GO_ON)
                num_workers = _num_workers(crew)
                left_at = None if num_workers else _waited(crew, left_at)
                while left and len(running) < _AHEAD * num_workers:
                    job = left.pop()
                    running[crew.client.submit(_on_worker, job, pure=False)] = job
                ended = [future for future in running if future.status not in UNDER_WAY]
                for future in ended:
                    job = running.pop(future)
                    _require_done(crew, future, job)
                    yield job
                if left and not running and crew.client.status != "running":
                    # Without a strip under way no future tells that nobody hands out work any more.
                    raise _lost(crew)
                if not ended:
                    time.sleep(0.02)
    finally:
        with suppress(*LOST):
            crew.client.cancel(list(running))  # type: ignore[no-untyped-call]


def _on_worker(job: StripJob) -> tuple[Fault, ...]:
    """A strip, in the worker that this is called in; what a person did wrong travels as a value."""
    try:
        do_strip(job)
    except InputError as error:
        return error.faults
    return ()


def _require_done(crew: Crew, future: "Future[tuple[Fault, ...]]", job: StripJob) -> None:
    name = f"{job.direction} strip {job.number}"
    if future.status == "cancelled":
        raise _lost(crew)
    if future.status == "error":
        error = future.exception()  # type: ignore[no-untyped-call]
        assert isinstance(error, BaseException)
        if isinstance(error, KilledWorker):
            raise TrainingFailed(
                f"{name}: {error.allowed_failures + 1} workers died at it, one after another, most often because "
                f"memory was too small: try fewer workers a machine; {_GO_ON}"
            )
        raise error
    raise_if_any(future.result())


def _lost(crew: Crew) -> InputError:
    return InputError.of(crew.name, f"the connection to the scheduler was lost; {_GO_ON}")


def _waited(crew: Crew, left_at: float | None) -> float:
    """When the last worker was missed first; after some seconds a person is told, once."""
    now = time.monotonic()
    if left_at is None or now - left_at <= _PATIENCE_S:
        return now if left_at is None else left_at
    print(f"note: {crew.name}: no worker is left; it waits for another; {_GO_ON}", file=sys.stderr)
    return math.inf


def _num_workers(crew: Crew) -> int:
    with suppress(*LOST):
        return len(crew.client.nthreads())  # type: ignore[no-untyped-call]
    return 0
