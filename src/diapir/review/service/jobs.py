"""An image on its way through a model: cut into tiles, whose predictions are put together in their order."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import TILE
from diapir.pipeline.survey_tiles import Floats
from diapir.volume.tiling import Blend, cut_tiles, plan_tiling

OVERLAP = TILE // 4
"""Pixels that neighbouring tiles share at least: as surveys have it."""

Greys = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Job:
    """An image on its way through a model.

    Args:
        tiles: those that were not taken yet.
        waiting: their numbers; shorter with each that is taken.
        missing: numbers of those whose predictions were not added yet; shorter with each that is.
        early: predictions that came before one of a lower number.
        tops_m: depth of each tile's top, NaN where unknown.
        deadline_s: of the monotonic clock; nobody waits for what is done later.
        future: the image put together again; `NetQueue.forget` the job where nobody waits for it any more.
    """

    model: str
    blend: Blend
    tiles: Iterator[NDArray[np.generic]]
    waiting: deque[int]
    missing: deque[int]
    early: dict[int, Floats]
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
    return Job(
        model,
        Blend.empty(tiling),
        tiles=cut_tiles(greys, tiling),
        waiting=deque(range(len(tiling))),
        missing=deque(range(len(tiling))),
        early={},
        tops_m=tops_m,
        deadline_s=deadline_s,
        future=Future(),
    )


def add_tile(job: Job, number: int, mean: Floats) -> bool:
    """Add a tile's prediction when those before it are there, for sums of floats depend on their order.

    Returns:
        Whether the image is whole.
    """
    # One that has to wait does not hold the batch that it is part of.
    job.early[number] = mean if job.missing[0] == number else mean.copy()
    while job.missing and job.missing[0] in job.early:
        job.blend.add(job.missing[0], job.early.pop(job.missing.popleft()))
    return not job.missing


def finish(job: Job) -> None:
    """Hand the image over, unless it was cancelled or failed meanwhile."""
    try:
        job.future.set_result(job.blend)
    except InvalidStateError:
        return


def fail(job: Job, error: Exception) -> None:
    """Say why there will be no image, unless somebody was told already."""
    try:
        job.future.set_exception(error)
    except InvalidStateError:
        return
