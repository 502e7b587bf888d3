"""Held-out tiles of finished runs: a table of them with scores at every threshold, and each as bytes."""

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from fastapi import APIRouter, HTTPException, Query, Response
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN, known_alone
from diapir.faults import InputError
from diapir.metrics import scores_by_threshold
from diapir.review.sources import RunSource
from diapir.review.viewer.background import Slow, StillWorking, Tell, damaged, wait_again
from diapir.review.viewer.held_out import HeldOut, open_held_out
from diapir.review.viewer.levels import LEVELS, listed, planes_response, probability_bytes, spread_bytes, thresholds

_Result = TypeVar("_Result")
_CHUNK = 256  # tiles at once
_TENTHS = 10
_WAIT_S = 1.5
_REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "there is no such run, step or tile"},
    502: {"description": "a file of the run is damaged"},
    503: {"description": "the run's tiles are still being read", "headers": {"Retry-After": {"schema": {}}}},
}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "uint8 pictures, one after another as X-Planes names them, of X-Rows rows of X-Columns bytes",
    }
}


@dataclass(frozen=True, eq=False)
class Table:
    """What a list of tiles is sorted, filtered and scored by.

    Args:
        uncertainty: mean of 4 p (1 - p) over the pixels that are known, (m,).
        disagreement: mean over the same of the members' standard deviation, (m,); None of a single member.
        tenths: score of each tile at each threshold in tenths, uint8 (LEVELS, m); None where no truth is at hand.
    """

    uncertainty: NDArray[np.float64]
    disagreement: NDArray[np.float64] | None
    tenths: NDArray[np.uint8] | None


def tile_routes(runs: Mapping[str, RunSource]) -> APIRouter:
    """`/api/tiles/{source}` and `/api/tiles/{source}/{tile}`."""
    routes = APIRouter(prefix="/api/tiles", tags=["viewer"])
    opened = {name: _slow_held_out(run) for name, run in runs.items()}
    tables: dict[tuple[str, str], Slow[Table]] = {}
    lock = threading.Lock()

    def held_out_of(source: str) -> HeldOut:
        if source not in opened:
            raise HTTPException(404, detail=f"there is no run {source} among those that were opened")
        return _given(opened[source], runs[source])

    @routes.get("/{source}", responses=_REFUSALS)
    def list_tiles(
        source: str, step: Annotated[str, Query(description="whose probabilities; empty: the last step's")] = ""
    ) -> dict[str, Any]:
        """Every held-out tile of a run: facts, uncertainty, disagreement, and scores by threshold."""
        run, found = runs.get(source), held_out_of(source)
        assert run is not None
        chosen = _step_of(found, step)
        with lock:
            slow = tables.setdefault((source, chosen), _slow_table(found, chosen))
        return describe(run, found, chosen, table=_given(slow, run))

    @routes.get("/{source}/{tile}", responses=_REFUSALS | _BYTES, response_class=Response)
    def get_tile(source: str, tile: str, step: str = "") -> Response:
        """One tile: image, truth, probability, disagreement and edited mask, as far as there are any."""
        found = held_out_of(source)
        chosen = _step_of(found, step)
        if tile not in found.ids:
            raise HTTPException(404, detail=f"there is no held-out tile {tile} in {source}")
        return planes_response(planes_of(found, found.ids.index(tile), step=chosen), X_Step=1 / LEVELS)

    return routes


def describe(run: RunSource, found: HeldOut, step: str, *, table: Table) -> dict[str, Any]:
    """A run's list of tiles as plain JSON values; columns of equal length."""
    return {
        "name": run.name,
        "recipe": run.recipe.name,
        # Tiles of such a run are parts of sections, and these are what is corrected.
        "is_of_survey": "survey" in run.record["data"],
        "score": run.record["score"],
        "interval_95": run.record["interval_95"],
        "score_kind": run.record["score_kind"],
        "threshold": run.threshold,
        "thresholds": thresholds(),
        "step": step,
        "steps": [name for name in found.by_step if name != found.edited],
        "edited": found.edited,
        "lacks": list(found.lacks),
        "ids": list(found.ids),
        "columns": {
            **{name: listed(values) for name, values in found.facts.items()},
            "uncertainty": listed(table.uncertainty),
            "disagreement": None if table.disagreement is None else listed(table.disagreement),
        },
        # Tenths, uint8, threshold after threshold.
        "scores": None if table.tenths is None else base64.b64encode(table.tenths.tobytes()).decode(),
    }


def make_table(found: HeldOut, step: str, tell: Tell) -> Table:
    """Uncertainty, disagreement and scores of every held-out tile."""
    count = len(found.ids)
    uncertainty, disagreement = np.zeros(count), np.zeros(count)
    tenths = np.zeros((LEVELS, count), np.uint8)
    levels = torch.tensor(thresholds(), dtype=torch.float32)
    masks = None if found.tiles is None else found.tiles.masks
    for start in range(0, count, _CHUNK):
        tell(f"scoring tiles at {LEVELS} thresholds: {start} of {count}")
        part = slice(start, start + _CHUNK)
        values = np.asarray(found.by_step[step][part], np.float32)
        known = np.ones(values.shape, bool) if masks is None else masks[part] != UNKNOWN
        uncertainty[part] = _mean_where(4 * values * (1 - values), known)
        spread = found.disagreement(part)
        if spread is not None:
            disagreement[part] = _mean_where(spread, known)
        if masks is not None:
            truth = torch.from_numpy((masks[part] == 1).astype(np.uint8))
            scores = scores_by_threshold(torch.from_numpy(known_alone(values, masks[part])), truth, levels)
            tenths[:, part] = torch.round(scores * _TENTHS).to(torch.uint8).numpy()
    return Table(uncertainty, disagreement if len(found.members) > 1 else None, tenths if masks is not None else None)


def planes_of(found: HeldOut, row: int, *, step: str) -> dict[str, NDArray[np.uint8]]:
    """Pictures of one tile by name, uint8 (h, w) each: greys; 0, 1, UNKNOWN; and as `levels` has it."""
    planes = dict[str, NDArray[np.uint8]]()
    if found.tiles is not None and found.tiles.masks is not None:
        planes |= {"image": found.tiles.images[row], "truth": found.tiles.masks[row]}
    planes["probability"] = probability_bytes(np.asarray(found.by_step[step][row]))
    spread = found.disagreement(slice(row, row + 1))
    if spread is not None:
        planes["disagreement"] = spread_bytes(spread[0].astype(np.float16))
    if found.edited is not None:
        planes["edited"] = (np.asarray(found.by_step[found.edited][row]) > 0.5).astype(np.uint8)
    return planes


def _slow_held_out(run: RunSource) -> Slow[HeldOut]:
    return Slow(lambda tell: open_held_out(run, tell), begins="reading what the run kept")


def _slow_table(found: HeldOut, step: str) -> Slow[Table]:
    return Slow(lambda tell: make_table(found, step, tell), begins="scoring tiles")


def _given(slow: Slow[_Result], run: RunSource) -> _Result:
    try:
        return slow.get(wait_s=_WAIT_S)
    except StillWorking as words:
        raise wait_again(words) from None
    except InputError as error:
        raise damaged(error, run.folder) from None


def _step_of(found: HeldOut, asked: str) -> str:
    step = asked or found.shown
    if step not in found.by_step or step == found.edited:
        raise HTTPException(404, detail=f"the run has no probabilities of a step {asked}")
    return step


def _mean_where(values: NDArray[np.floating[Any]], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Over the known pixels of each tile; 0 where none is."""
    sums = np.where(known, values, 0).sum((1, 2), dtype=np.float64)
    return np.asarray(sums / np.maximum(known.sum((1, 2)), 1))
