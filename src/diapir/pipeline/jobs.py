"""What a worker of a dask cluster does for a run: one fold of a train step, or one predict step, and no more."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from distributed import Status, Worker, get_worker
from numpy.typing import NDArray

from diapir.data.tiles import DataSet
from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.plan import RECIPE, STEP
from diapir.pipeline.predicting import predict
from diapir.pipeline.run import open_run_data
from diapir.pipeline.training import LEAVING_S, train_fold
from diapir.pipeline.workplace import Fold, Workplace, step_named
from diapir.recipe.files import read_recipe
from diapir.recipe.steps import PredictStep, Train
from diapir.recipe.whole import Recipe
from diapir.record import provenance
from diapir.runs import locked_folder, read_json
from diapir.train.doctor import TrainingFailed
from diapir.train.stop import Stopped
from diapir.train.together import make_fabric

Versions = tuple[tuple[str, str | None], ...]
_stops: dict[str, int] = {}
"""Tokens of runs that were asked to stop, each with the signal that asked."""


@dataclass(frozen=True)
class Setting:
    """What all jobs of a sitting have in common, in plain values that travel.

    Args:
        token: of the sitting; a stop is asked for by it.
        out, data_path: full paths, the same for the first process and for every worker.
        threads: of the processor for each net; None leaves the worker's own number.
    """

    token: str
    out: Path
    recipe_digest: str
    data_path: Path | None
    data_digest: str
    skip_bad: bool
    precision: Literal["float32", "bfloat16"]
    threads: int | None
    versions: Versions


@dataclass(frozen=True)
class Job:
    """A fold of a train step, or a whole predict step.

    Args:
        digest: of the step.
        numbers: fold of each labelled tile, (n,).
    """

    setting: Setting
    step: str
    digest: str
    fold: Fold
    numbers: NDArray[np.int64] = field(compare=False)


@dataclass(frozen=True)
class Outcome:
    """How a job ended. What a person did wrong travels as a value, for then dask does not call it a mistake of ours.

    Args:
        found: the epochs of a fold, or the figures of a predict step.
        failure: why training cannot succeed.
        stopped: by which signal.
    """

    processor: str
    found: Any = None
    faults: tuple[Fault, ...] = ()
    failure: str = ""
    stopped: int | None = None


def do_job(job: Job) -> Outcome:
    """Do a job in the worker that this is called in; whatever an earlier try has left is gone on with."""
    worker = get_worker()
    processor = provenance()["processor"]
    try:
        place = _workplace(job, worker)
        return Outcome(processor, found=_do(job, place, _stop_asked(job.setting.token, worker)))
    except InputError as error:
        return Outcome(processor, faults=error.faults)
    except TrainingFailed as error:
        return Outcome(processor, failure=str(error))
    except Stopped as stop:
        return Outcome(processor, stopped=stop.signal_number)


def ask_to_stop(token: str, signal_number: int) -> None:
    """Have the jobs of a sitting stop at their next step, in the worker that this is called in."""
    _stops[token] = signal_number


def versions() -> Versions:
    """What the bytes of a result depend on besides recipe, data, device and threads: name and version of each."""
    here = provenance()
    own = (("diapir", here["diapir"]), ("diapir's commit", here["commit"]), ("distributed", version("distributed")))
    return (*own, *sorted(here["libraries"].items()))


def worker_faults(where: str, *, tasks_at_once: int, theirs: Versions, ours: Versions) -> list[Fault]:
    """Why a worker would not give the results that one after another gives."""
    known = dict(theirs)
    faults = [
        Fault(
            where, f"expected {name} {wanted}, as the first process has it, found {known.get(name)}: install the same"
        )
        for name, wanted in ours
        if known.get(name) != wanted
    ]
    if tasks_at_once != 1:
        faults.append(
            Fault(
                where,
                f"expected a worker that does one task at once, found {tasks_at_once}: start it with --nthreads 1",
            )
        )
    return faults


def _do(job: Job, place: Workplace, stop_asked: Callable[[], int | None]) -> Any:
    step = step_named(place.recipe, job.step)
    match step:
        case Train():
            return train_fold(place, step, job.fold, digest=job.digest, stop_asked=stop_asked, shown=False)
        case PredictStep():
            with locked_folder(place.out / step.name, wait_s=LEAVING_S):
                return predict(place, step, stop_asked=stop_asked, shown=False)
        case _:
            raise AssertionError(f"{step.do} is no job for a worker")


def _stop_asked(token: str, worker: Worker) -> Callable[[], int | None]:
    """Whether to stop: because a person asked for it, or because nobody waits for this job here any more.

    A worker that lost its scheduler, or whose first process died, must not go on writing: the job may be under way
    elsewhere by now.
    """
    key = worker.get_current_task()

    def asked() -> int | None:
        if token in _stops:
            return _stops[token]
        task = worker.state.tasks.get(key)
        wanted = task is not None and task.state == "executing" and worker.status in (Status.running, Status.paused)
        return None if wanted else signal.SIGTERM

    return asked


def _workplace(job: Job, worker: Worker) -> Workplace:
    """The run as this worker sees it.

    Raises:
        InputError: it is not the run that the first process sees.
    """
    setting, where = job.setting, f"worker {worker.address}"
    tasks_at_once = worker.state.nthreads
    raise_if_any(worker_faults(where, tasks_at_once=tasks_at_once, theirs=versions(), ours=setting.versions))
    mark = setting.out / job.step / STEP
    if not mark.exists() or read_json(mark) != {"digest": job.digest, "finished": False}:
        raise InputError.of(
            where,
            f"expected to find the run in {setting.out} as the first process does, found it not; "
            "the run's folder must lie where all workers see it, under the same name",
        )
    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    recipe, data = _opened(setting, where)
    fabric = make_fabric(setting.precision, devices=1)
    return Workplace(recipe=recipe, data=data, numbers=job.numbers, out=setting.out, fabric=fabric)


@lru_cache(maxsize=1)
def _opened(setting: Setting, where: str) -> tuple[Recipe, DataSet]:
    """Recipe and data, read once for all the jobs of a sitting."""
    recipe = read_recipe(setting.out / RECIPE)
    if recipe.digest != setting.recipe_digest:
        raise InputError.of(
            where, f"its {setting.out / RECIPE} is not that of the first process; share the run's folder"
        )
    try:
        data, _ = open_run_data(recipe, setting.data_path, skip_bad=setting.skip_bad)
    except OSError as error:
        raise InputError.of(
            where,
            f"{error.filename}: {error.strerror}; the data must lie where all workers see them, under the same name",
        ) from None
    if data.digest != setting.data_digest:
        raise InputError.of(
            where,
            f"expected the data of the first process in {setting.data_path}, digest {setting.data_digest[:12]}, found "
            f"others, digest {data.digest[:12]}; the data must lie where all workers see them, under the same name",
        )
    return recipe, data
