"""Images of many requests through the nets together: one thread owns these, and takes tiles from each image in turn."""

import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import TILE
from diapir.faults import InputError
from diapir.pipeline.survey_tiles import Floats, Predict
from diapir.review.service.limits import Limits
from diapir.volume.tiling import Blend, cut_tiles, plan_tiling

OVERLAP = TILE // 4
"""Pixels that neighbouring tiles share at least: as surveys have it."""

Greys = NDArray[np.uint8]

_ENDED = "the nets' thread has ended"


class ModelFailed(Exception):
    """A model could not be loaded, or could not predict; the server's own log says why."""


@dataclass(frozen=True, eq=False)
class Job:
    """An image on its way through a model.

    Args:
        tiles: those that were not taken yet.
        waiting: their numbers; shorter with each that is taken.
        tops_m: depth of each tile's top, NaN where unknown.
        deadline_s: of the monotonic clock; nobody waits for what is done later.
        future: the image put together again; `forget` the job where nobody waits for it any more.
    """

    model: str
    blend: Blend
    tiles: Iterator[NDArray[np.generic]]
    waiting: deque[int]
    tops_m: Floats
    deadline_s: float
    future: "Future[Blend]"


def new_job(
    model: str, greys: Greys, *, deadline_s: float, depth_m: float = float("nan"), row_m: float = float("nan")
) -> Job:
    """An image cut into tiles as a survey's sections are.

    Args:
        greys: (rows, columns).
        depth_m, row_m: depth of the first row, and from one row to the next; NaN where unknown.
    """
    tiling = plan_tiling((greys.shape[0], greys.shape[1]), tile=(TILE, TILE), overlap=(OVERLAP, OVERLAP))
    rows = np.array([row for row, _ in tiling.places], np.float32)
    # An image of one row of tiles needs no distance between rows.
    tops_m = np.where(rows > 0, depth_m + rows * row_m, depth_m).astype(np.float32)
    waiting = deque(range(len(tiling)))
    return Job(model, Blend.empty(tiling), cut_tiles(greys, tiling), waiting, tops_m, deadline_s, Future())


_Batch = list[tuple[Job, int]]


class NetQueue:
    """The thread that owns the nets, and the images that wait for it.

    A class, for the thread, the lock and what waits are one thing that changes.

    Args:
        loaders: what loads each model; called once, by the thread, when the model is first asked for.
        on_batch: told the number of tiles and the seconds of each batch.
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], Predict]],
        *,
        limits: Limits,
        on_batch: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._loaders, self._limits, self._on_batch = loaders, limits, on_batch
        self._loaded: dict[str, Predict] = {}
        self._jobs: deque[Job] = deque()
        self._rooms: list[int] = []
        self._tile_s = 0.0
        self._num_lately = 0  # images in the last batch or waiting when it was done
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="nets", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether images are taken."""
        return not self._is_closing and self._thread.is_alive()

    @property
    def num_waiting(self) -> int:
        """Images for which room is kept: that wait, are on their way, or were not told yet."""
        return len(self._rooms)

    @property
    def wait_s(self) -> float:
        """How long it will take until what waits now is done, as far as is known."""
        with self._changed:
            return sum(len(job.waiting) for job in self._jobs) * self._tile_s

    def has_room(self, num_pixels: int = 0) -> bool:
        """Whether one more image is taken."""
        held = self._rooms.copy()
        # A single image is taken whatever it is padded to.
        fits = not held or sum(held) + num_pixels <= self._limits.waiting_pixels
        return fits and len(held) < self._limits.waiting

    @contextmanager
    def room(self, num_pixels: int) -> Iterator[None]:
        """Keep room for an image, from before anything is made of it until it was told.

        Args:
            num_pixels: with what it is padded by.

        Raises:
            queue.Full: there is none.
        """
        with self._changed:
            if not self.has_room(num_pixels):
                raise queue.Full
            self._rooms.append(num_pixels)
        try:
            yield
        finally:
            with self._changed:
                self._rooms.remove(num_pixels)

    def submit(self, job: Job) -> None:
        """Take an image, for which there is room.

        Raises:
            ModelFailed: the thread has ended.
        """
        with self._changed:
            if not self.is_open:
                raise ModelFailed("no images are taken any more")
            self._jobs.append(job)
            self._changed.notify()

    def forget(self, job: Job) -> None:
        """Do nothing more for an image that is not done yet."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def close(self) -> None:
        """Take no more images, finish those that were taken, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                try:
                    self._do(batch)
                except BaseException:
                    for job, _ in batch:
                        _fail(job, ModelFailed(_ENDED))
                    raise
                with self._changed:
                    self._num_lately = len({id(job) for job, _ in batch} | {id(job) for job in self._jobs})
        finally:
            # Only after a fault of ours is there anything left.
            self._is_closing = True
            while self._jobs:
                _fail(self._jobs.popleft(), ModelFailed(_ENDED))

    def _next_batch(self) -> _Batch | None:
        """Tiles of one model, from its images in turn, when there are any; None at the end."""
        with self._changed:
            self._drop_unwanted()
            while not self._jobs:
                if self._is_closing:
                    return None
                self._changed.wait()
                self._drop_unwanted()
            if self._num_ready() < self._limits.batch and not self._is_closing:
                self._linger()
                self._drop_unwanted()
            return self._taken()

    def _linger(self) -> None:
        """Wait for more tiles; longer for those of clients who ask again, for two half batches take longer than one."""
        start_s = time.monotonic()
        while (num_ready := self._num_ready()) < self._limits.batch and not self._is_closing:
            is_fewer = num_ready < min(self._num_lately, self._limits.batch)
            patience_s = max(self._limits.gather_s if is_fewer else 0.0, self._limits.linger_s)
            left_s = start_s + patience_s - time.monotonic()
            if left_s <= 0:
                return
            self._changed.wait(left_s)

    def _num_ready(self) -> int:
        """Tiles of the model whose turn it is."""
        return sum(len(job.waiting) for job in self._jobs if job.model == self._jobs[0].model)

    def _drop_unwanted(self) -> None:
        """Take out the images that nobody waits for any more."""
        now_s = time.monotonic()
        for job in list(self._jobs):
            if job.deadline_s <= now_s:
                _fail(job, TimeoutError("its time has passed"))
            if job.future.done():
                self._jobs.remove(job)

    def _taken(self) -> _Batch:
        batch: _Batch = []
        turn = deque(job for job in self._jobs if job.model == self._jobs[0].model)
        used = list(turn)
        while turn and len(batch) < self._limits.batch:
            job = turn.popleft()
            batch.append((job, job.waiting.popleft()))
            if job.waiting:
                turn.append(job)
        # Those that had their turn go to the end, so that no large image and no model keeps the others waiting.
        for job in used:
            self._jobs.remove(job)
        self._jobs.extend(job for job in used if job.waiting)
        return batch

    def _do(self, batch: _Batch) -> None:
        if not batch:
            return
        start_s = time.perf_counter()
        tiles = np.stack([np.asarray(next(job.tiles), np.uint8) for job, _ in batch])
        tops_m = np.array([job.tops_m[number] for job, number in batch], np.float32)
        name = batch[0][0].model
        try:
            if name not in self._loaded:
                self._loaded[name] = self._loaders[name]()
                start_s = time.perf_counter()
            means = self._loaded[name](tiles, tops_m).mean
        except (InputError, RuntimeError, MemoryError, OSError) as error:
            print(f"model {name}: {error}", file=sys.stderr, flush=True)
            for job, _ in batch:
                _fail(job, ModelFailed(f"model {name} cannot answer now"))
            return
        for (job, number), mean in zip(batch, means, strict=True):
            job.blend.add(number, mean)
            if number == len(job.blend.tiling) - 1:
                _finish(job)
        elapsed_s = time.perf_counter() - start_s
        self._tile_s += (elapsed_s / len(batch) - self._tile_s) * (0.2 if self._tile_s else 1)
        self._on_batch(len(batch), elapsed_s)


def _finish(job: Job) -> None:
    try:
        job.future.set_result(job.blend)
    except InvalidStateError:  # it was cancelled or failed meanwhile
        return


def _fail(job: Job, error: Exception) -> None:
    try:
        job.future.set_exception(error)
    except InvalidStateError:
        return
