"""What a finished run keeps of its held-out tiles: probabilities by step, and the tiles themselves where they are."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.folds import read_fold_ids
from diapir.data.tiles import TILE, TileSet, coverage_classes
from diapir.faults import InputError
from diapir.pipeline.members import steps_behind
from diapir.pipeline.plan import FOLDS
from diapir.pipeline.predictions import HELD_OUT, ROWS, read_array
from diapir.pipeline.run import open_run_data
from diapir.predict.comparing import HELD_OUT as HELD_OUT_TABLE
from diapir.predict.comparing import boundary_px
from diapir.recipe.steps import PostProcessStep, PredictStep
from diapir.review.sources import RunSource
from diapir.review.viewer.background import Tell

_AGAIN = "use another copy of the run"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out tiles behind a run's score, in one order.

    Args:
        ids: (m,) names.
        facts: by column, (m,) each: depth_m, coverage_class, boundary_px, score; NaN where unknown.
        by_step: probabilities of each step that the submission comes from, the last first, float16 (m, h, w).
        edited: the last step, where its masks were edited after the threshold; None where it gives probabilities.
        members: the steps that ask models.
        tiles: images and truth; None where they cannot be had.
        lacks: what cannot be shown and why, in words.
    """

    ids: tuple[str, ...]
    facts: Mapping[str, NDArray[np.float64]]
    by_step: Mapping[str, NDArray[np.float16]]
    edited: str | None
    members: tuple[str, ...]
    tiles: TileSet | None
    lacks: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The last step that gives probabilities, and not edited masks."""
        return next(name for name in self.by_step if name != self.edited)

    def disagreement(self, places: slice) -> NDArray[np.float32] | None:
        """Standard deviation over the members (n, h, w); None of a single one."""
        if len(self.members) < 2:
            return None
        every = np.stack([self.by_step[name][places].astype(np.float32) for name in self.members])
        return np.asarray(every.std(axis=0))


def open_held_out(run: RunSource, tell: Tell) -> HeldOut:
    """Held-out tiles of a run. Reads, or makes again, its whole data set, and keeps what was held out.

    Raises:
        InputError: a file of the run is absent or damaged.
    """
    behind = steps_behind(run.folder, run.recipe)[::-1]
    rows, by_step = _aligned({step.name: _read(run.folder / step.name) for step in behind})
    ids = _ids(run.folder, rows)
    members = tuple(step.name for step in behind if isinstance(step, PredictStep))
    # Those of members are blended to something like probabilities again, and are not shown by themselves.
    masks = {step.name for step in behind if isinstance(step, PostProcessStep)}
    edited = behind[0].name if behind[0].name in masks else None
    tell("reading the tiles that the run was made of" if run.data_path else "making the run's tiles again")
    tiles, lacks = _tiles(run, rows, ids)
    if tiles is not None and tiles.images.shape != by_step[behind[0].name].shape:
        raise InputError.of(run.folder / behind[0].name, f"its arrays do not fit the run's tiles; {_AGAIN}")
    if len(members) < 2:
        lacks = (*lacks, "One model stands behind the submission, so there is no disagreement between members.")
    return HeldOut(
        ids=ids,
        facts=_facts(run.folder, ids, tiles),
        by_step={name: array for name, array in by_step.items() if name == edited or name not in masks},
        edited=edited,
        members=members,
        tiles=tiles,
        lacks=lacks,
    )


def _read(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    rows, held_out = read_array(folder / ROWS), read_array(folder / HELD_OUT)
    is_sound = (
        rows.ndim == 1
        and rows.dtype == np.int64
        and held_out.ndim == 3
        and held_out.dtype == np.float16
        and len(rows) == len(held_out)
        and held_out.shape[1:] == (TILE, TILE)
        and len(np.unique(rows)) == len(rows)
    )
    if not is_sound:
        found = f"{rows.dtype} {rows.shape} and {held_out.dtype} {held_out.shape}"
        raise InputError.of(folder, f"expected rows and probabilities of held-out tiles, found {found}; {_AGAIN}")
    return rows, held_out


def _aligned(
    found: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float16]]],
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float16]]]:
    """The tiles that every step held out, in the order of the last step."""
    common = set.intersection(*(set(rows.tolist()) for rows, _ in found.values()))
    first = next(iter(found.values()))[0]
    rows = np.array([row for row in first.tolist() if row in common], np.int64)
    by_step = dict[str, NDArray[np.float16]]()
    for name, (own, held_out) in found.items():
        # As it is where nothing has to be moved: it is then read from the disk as it is used.
        by_step[name] = held_out if np.array_equal(own, rows) else held_out[_places(own, rows)]
    return rows, by_step


def _places(own: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(own)
    return np.asarray(order[np.searchsorted(own, rows, sorter=order)])


def _ids(folder: Path, rows: NDArray[np.int64]) -> tuple[str, ...]:
    ids = tuple(read_fold_ids(folder / FOLDS))
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(ids):
        raise InputError.of(folder / FOLDS, f"expected every held-out tile, found {len(ids)} tiles; {_AGAIN}")
    return tuple(ids[row] for row in rows)


def _tiles(run: RunSource, rows: NDArray[np.int64], ids: tuple[str, ...]) -> tuple[TileSet | None, tuple[str, ...]]:
    """Images and truth of what was held out, or what is said in their place."""
    without = "probabilities, masks and the scores of the run are shown without image and truth, and no other threshold"
    if not run.has_tiles:
        do = "name the prepared tiles that it was made of beside the run: diapir serve RUN TILES"
        return None, (f"The run does not keep its tiles, so {without} is scored; {do}.",)
    try:
        data, _ = open_run_data(run.recipe, run.data_path, skip_bad=bool(run.record["data"].get("skipped")))
    except InputError as error:
        told = "; ".join(fault.what for fault in error.faults[:3])
        return None, (f"The tiles that the run was made of cannot be read ({told}), so {without} is scored.",)
    if data.digest != run.record["data"]["digest"] or len(data.labelled) <= rows.max(initial=-1):
        return None, (f"The tiles that were found are not those that the run was made of, so {without} is scored.",)
    tiles = data.labelled.take(rows)
    assert tiles.ids == ids
    return tiles, ()


def _facts(folder: Path, ids: tuple[str, ...], tiles: TileSet | None) -> dict[str, NDArray[np.float64]]:
    """What the run's own table says; of the tiles themselves where they are at hand."""
    table = _read_table(folder / HELD_OUT_TABLE)
    columns = ("depth_m", "coverage_class", "boundary_px", "score")
    rows = [table.get(tile, {}) for tile in ids]
    facts = {name: np.array([float(row.get(name) or "nan") for row in rows]) for name in columns}
    if tiles is not None and tiles.masks is not None:
        facts["depth_m"] = tiles.depths_m.astype(np.float64)
        facts["coverage_class"] = coverage_classes(tiles.masks).astype(np.float64)
        facts["boundary_px"] = boundary_px(tiles.masks).astype(np.float64)
    return facts


def _read_table(path: Path) -> dict[str, dict[str, Any]]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for row in rows:
            for name in ("depth_m", "coverage_class", "boundary_px", "score"):
                float(row[name] or "nan")
        return {row["id"]: row for row in rows}
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError.of(path, f"cannot be read ({type(error).__name__}); {_AGAIN}") from None
