"""Images of many requests through the nets together: few threads run these, and take tiles from each image in turn."""

import math
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from diapir.faults import InputError
from diapir.pipeline.survey_tiles import Predict
from diapir.review.service.jobs import Greys, Job, add_tile, fail, finish
from diapir.review.service.limits import Limits

_ENDED = "a thread of the nets has ended"


class ModelFailed(Exception):
    """A model could not be loaded, or could not predict; the server's own log says why."""


class _Item(NamedTuple):
    """A tile of a batch."""

    job: Job
    number: int
    tile: Greys


_Batch = list[_Item]


class NetQueue:
    """The threads that run the nets, and the images that wait for them.

    A class, for the threads, the lock and what waits are one thing that changes.

    Args:
        loaders: what loads each model; called once, by one of the threads, when the model is first asked for.
        workers: threads; each has a batch of its own.
        on_start: called by each thread before all else.
        on_batch: told the number of tiles and the seconds of each batch.
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], Predict]],
        *,
        limits: Limits,
        workers: int = 1,
        on_start: Callable[[], object] = lambda: None,
        on_batch: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._loaders, self._limits = loaders, limits
        self._on_start, self._on_batch = on_start, on_batch
        self._loaded: dict[str, Predict] = {}
        self._loading = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._rooms: list[int] = []
        self._tile_s = 0.0
        self._running: dict[int, _Batch] = {}
        # Images that were in batches or waiting when each of the last batches was done; clients who were just answered,
        # by this worker or another, are among neither, so that one figure would be too small.
        self._lately: deque[int] = deque([0], maxlen=2 * workers)
        self._is_closing = False
        self._changed = threading.Condition()
        self._workers = [
            threading.Thread(target=self._work, args=(number,), name=f"nets {number}", daemon=True)
            for number in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def is_open(self) -> bool:
        """Whether images are taken."""
        return not self._is_closing

    @property
    def num_waiting(self) -> int:
        """Images for which room is kept: that wait, are on their way, or were not told yet."""
        return len(self._rooms)

    @property
    def wait_s(self) -> float:
        """How long it will take until what waits now is done, as far as is known."""
        with self._changed:
            return sum(len(job.waiting) for job in self._jobs) * self._tile_s / len(self._workers)

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
            ModelFailed: none is taken any more.
        """
        with self._changed:
            if not self.is_open:
                raise ModelFailed("no images are taken any more")
            self._jobs.append(job)
            self._changed.notify_all()

    def forget(self, job: Job) -> None:
        """Do nothing more for an image that is not done yet."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def close(self) -> None:
        """Take no more images, finish those that were taken, and end the threads."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _work(self, worker: int) -> None:
        try:
            self._on_start()
            while (batch := self._next_batch(worker)) is not None:
                self._do(batch)
                with self._changed:
                    self._lately.append(self._num_images())
                    del self._running[worker]
        except BaseException:
            # A fault of ours: nobody waits for what will not be done.
            with self._changed:
                self._is_closing = True
                left = [*self._jobs, *(item.job for item in self._running.pop(worker, []))]
                self._jobs.clear()
                self._changed.notify_all()
            for job in left:
                fail(job, ModelFailed(_ENDED))
            raise

    def _num_images(self) -> int:
        """Images that wait or are in batches."""
        batches = self._running.values()
        return len({id(job) for job in self._jobs} | {id(item.job) for batch in batches for item in batch})

    def _next_batch(self, worker: int) -> _Batch | None:
        """Tiles of one model, from its images in turn; none where others were faster; None at the end."""
        with self._changed:
            self._drop_unwanted()
            while not self._jobs:
                if self._is_closing:
                    return None
                self._changed.wait()
                self._drop_unwanted()
            if self._linger():
                self._drop_unwanted()
            batch = self._running[worker] = self._taken()
            return batch

    def _linger(self) -> bool:
        """Wait a moment for clients who were answered and ask again, for two half batches take longer than one.

        Returns:
            Whether there was anything to wait for.
        """
        end_s = time.monotonic() + self._limits.gather_s
        did_wait = False
        while self._num_ready() < self._usual_size() and not self._is_closing:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            did_wait = True
            self._changed.wait(left_s)
        return did_wait

    def _usual_size(self) -> int:
        """Tiles of a batch that leave as many for each other worker, with one of each image that was here lately."""
        return min(math.ceil(max(self._lately) / len(self._workers)), self._limits.batch)

    def _num_ready(self) -> int:
        """Tiles of the model whose turn it is."""
        return sum(len(job.waiting) for job in self._jobs if job.model == self._jobs[0].model)

    def _drop_unwanted(self) -> None:
        """Take out the images that nobody waits for any more."""
        now_s = time.monotonic()
        for job in list(self._jobs):
            if job.deadline_s <= now_s:
                fail(job, TimeoutError("its time has passed"))
            if job.future.done():
                self._jobs.remove(job)

    def _taken(self) -> _Batch:
        batch: _Batch = []
        # What there is is shared out, so that no worker has little to do.
        num_here = self._num_ready() + sum(map(len, self._running.values()))
        size = min(max(math.ceil(num_here / len(self._workers)), self._usual_size()), self._limits.batch)
        turn = deque(job for job in self._jobs if job.model == self._jobs[0].model)
        used = list(turn)
        while turn and len(batch) < size:
            job = turn.popleft()
            batch.append(_Item(job, job.waiting.popleft(), np.asarray(next(job.tiles), np.uint8)))
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
        tiles = np.stack([item.tile for item in batch])
        tops_m = np.array([item.job.tops_m[item.number] for item in batch], np.float32)
        name = batch[0].job.model
        try:
            predict = self._predictor(name)
            start_s = time.perf_counter()
            means = predict(tiles, tops_m).mean
        except (InputError, RuntimeError, MemoryError, OSError) as error:
            print(f"model {name}: {error}", file=sys.stderr, flush=True)
            for item in batch:
                fail(item.job, ModelFailed(f"model {name} cannot answer now"))
            return
        with self._changed:
            done = [item.job for item, mean in zip(batch, means, strict=True) if add_tile(item.job, item.number, mean)]
            elapsed_s = time.perf_counter() - start_s
            self._tile_s += (elapsed_s / len(batch) - self._tile_s) * (0.2 if self._tile_s else 1)
        for job in done:
            finish(job)
        self._on_batch(len(batch), elapsed_s)

    def _predictor(self, name: str) -> Predict:
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = self._loaders[name]()
            return self._loaded[name]
