"""Images of many requests through the nets together: few threads run these, and take tiles from each image in turn."""

import math
import queue
import sys
import threading
import time
import traceback
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
        on_start: called by each thread, with its number, before all else.
        on_batch: told the number of tiles and the seconds of each batch.
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], Predict]],
        *,
        limits: Limits,
        workers: int = 1,
        on_start: Callable[[int], object] = lambda _: None,
        on_batch: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._loaders, self._limits = loaders, limits
        self._on_start, self._on_batch = on_start, on_batch
        self._loaded: dict[str, Predict] = {}
        self._loading = {name: threading.Lock() for name in loaders}
        self._jobs: deque[Job] = deque()
        self._rooms: list[int] = []
        self._tile_s = 0.0
        self._running: dict[int, _Batch] = {}
        # Images of a model that were in batches or waiting when each of its last batches was done. Clients who were
        # just answered are among neither, so that one figure would be too small.
        self._lately: dict[str, deque[int]] = {name: deque(maxlen=2 * workers) for name in loaders}
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
        # Images that nobody waits for any more are still held by the batches that they are in.
        held = [*self._rooms, *(job.blend.sums.size for job in self._in_batches() if job.future.done())]
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
        fail(job, ModelFailed("nobody waits for it"))

    def close(self) -> None:
        """Take no more images, finish those that were taken, and end the threads."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _work(self, worker: int) -> None:
        try:
            self._on_start(worker)
            while (batch := self._next_batch(worker)) is not None:
                if batch:
                    self._do(batch, worker)
                # While a thread waits it holds no images.
                del batch
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

    def _num_images(self, model: str) -> int:
        """Images that wait or are in batches, before those who are about to be told ask again."""
        return sum(job.model == model for job in self._in_batches().union(self._jobs))

    def _in_batches(self) -> set[Job]:
        """Images of which tiles are in the nets."""
        return {item.job for batch in list(self._running.values()) for item in batch}

    def _next_batch(self, worker: int) -> _Batch | None:
        """Tiles of one model, from its images in turn; none where others were faster; None at the end."""
        with self._changed:
            self._drop_unwanted()
            start_s = time.monotonic()
            while not self._jobs:
                if self._is_closing:
                    return None
                self._changed.wait()
                self._drop_unwanted()
            if not self._running and time.monotonic() - start_s > self._limits.gather_s:
                for counts in self._lately.values():
                    counts.clear()  # they did not ask again
            self._linger()
            self._drop_unwanted()
            if batch := self._taken():
                self._running[worker] = batch
            return batch

    def _linger(self) -> None:
        """Wait a moment for clients who were answered and ask again, for two half batches take longer than one."""
        end_s = time.monotonic() + self._limits.gather_s
        while self._num_ready() < self._usual_size() and not self._is_closing and self._is_of_one_model():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return
            self._changed.wait(left_s)

    def _usual_size(self) -> int:
        """Tiles of a batch that leave as many for each other worker, with one of each image that was here lately."""
        counts = self._lately[self._jobs[0].model] if self._jobs else ()
        return min(math.ceil(max(counts, default=0) / len(self._workers)), self._limits.batch)

    def _is_of_one_model(self) -> bool:
        """Whether nothing waits for another model, which would have to wait in vain."""
        return len({job.model for job in self._jobs}) <= 1

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
        self._jobs.extend(turn)
        return batch

    def _do(self, batch: _Batch, worker: int) -> None:
        tiles = np.stack([item.tile for item in batch])
        tops_m = np.array([item.job.tops_m[item.number] for item in batch], np.float32)
        name = batch[0].job.model
        try:
            predict = self._predictor(name)
            start_s = time.perf_counter()
            means = predict(tiles, tops_m).mean
        except Exception as error:  # noqa: BLE001 - other models and images are not to suffer by it
            if not isinstance(error, InputError | OSError):
                traceback.print_exception(error)
            print(f"model {name}: {error}", file=sys.stderr, flush=True)
            with self._changed:
                self._end(worker)
            for item in batch:
                fail(item.job, ModelFailed(f"model {name} cannot answer now"))
            return
        with self._changed:
            done = [item.job for item, mean in zip(batch, means, strict=True) if add_tile(item.job, item.number, mean)]
            elapsed_s = time.perf_counter() - start_s
            self._tile_s += (elapsed_s / len(batch) - self._tile_s) * (0.2 if self._tile_s else 1)
            self._end(worker)
        for job in done:
            finish(job)
        self._on_batch(len(batch), elapsed_s)

    def _end(self, worker: int) -> None:
        """Of a batch."""
        model = self._running[worker][0].job.model
        self._lately[model].append(self._num_images(model))
        del self._running[worker]

    def _predictor(self, name: str) -> Predict:
        with self._loading[name]:
            if name not in self._loaded:
                self._loaded[name] = self._loaders[name]()
            return self._loaded[name]
