"""What a geologist would doubt in a mask, counted, and every change of it kept so that it can be taken back exactly.

`floating-bits` are small bodies that touch neither the border of the survey nor its bottom: they are removed. `holes`
are small pieces without salt that salt encloses: they are filled, after the floating bits are gone. `overhangs`, where
one body comes twice in a trace, are flagged and left as they are. Salt hangs together by faces (6 neighbours), what is
no salt by edges and corners too (26): were both to hang together alike, a slanting wall of salt would both part what
lies on its sides and let it through (Rosenfeld 1970, section 2, in the plane).
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.runs import atomic_path
from diapir.volume.bodies import (
    Connectivity,
    Runs,
    Strip,
    Whole,
    join_runs,
    label_bodies,
    labelled_strips,
    no_runs,
    paint_runs,
)
from diapir.volume.store import Grid, Store, read_volume

Check = Literal["floating-bits", "holes", "overhangs"]
CHECKS: tuple[Check, ...] = get_args(Check)
Change = Literal["floating-bits", "holes"]
"""Checks that change the mask."""

_COLUMNS = ["piece", "inline", "crossline", "first_sample", "num_samples"]
_FILLS = {"floating-bits": False, "holes": True}


@dataclass(frozen=True, eq=False)
class Edit:
    """One change of a mask.

    Args:
        name: of the check that made it.
        runs: what it changed: all to salt, or all from salt.
        piece: number of the piece, from 1 on, of each run, the largest first: int64 (n,).
    """

    name: Change
    runs: Runs
    piece: Whole

    @property
    def num_pieces(self) -> int:
        """Removed or filled."""
        return int(self.piece.max(initial=0))

    @property
    def num_voxels(self) -> int:
        """Changed."""
        return int(self.runs.voxels.sum())


def edge_traces(live: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Traces beyond which nothing is known, and those that are not live: bool (inlines, crosslines)."""
    around = np.pad(live, 1)
    return ~(live & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:])


def find_small(
    name: Change,
    strips: Callable[[], Iterable[Strip]],
    shape: tuple[int, int, int],
    *,
    edge: NDArray[np.bool_],
    smaller_than: int,
) -> Edit:
    """The pieces of fewer than `smaller_than` voxels that do not touch the border.

    Args:
        name: floating-bits or holes.
        strips: of salt for the first, of what is no salt for the second.
        shape: of the survey.
        edge: as `edge_traces` gives it.
    """
    connectivity: Connectivity = 26 if _FILLS[name] else 6
    bodies = label_bodies(strips, shape, connectivity=connectivity, edge=edge)
    is_small = (bodies.voxels < smaller_than) & ~bodies.at_border
    if not is_small.any():
        return Edit(name, no_runs(), np.zeros(0, np.int64))
    number = np.cumsum(is_small)
    found = []
    for strip, body in labelled_strips(strips(), shape, bodies):
        which = is_small[body]
        found.append((strip.runs.take(which), number[body[which]]))
    return Edit(name, join_runs(runs for runs, _ in found), np.concatenate([piece for _, piece in found]))


def apply_edits(
    mask: NDArray[np.uint8], edits: Sequence[Edit], *, inline: int = 0, crossline: int = 0
) -> NDArray[np.uint8]:
    """A block of the mask after the edits: uint8 (inlines, crosslines, samples).

    Args:
        mask: as it was.
        edits: in the order in which they were made.
        inline, crossline: place of the block's first trace.

    Raises:
        InputError: it is not the mask that the edits were made of.
    """
    for edit in edits:
        mask = _put(mask, edit, fill=_FILLS[edit.name], inline=inline, crossline=crossline)
    return mask


def undo_edits(
    mask: NDArray[np.uint8], edits: Sequence[Edit], *, inline: int = 0, crossline: int = 0
) -> NDArray[np.uint8]:
    """The inverse of `apply_edits`: the same bytes as before.

    Raises:
        InputError: it is not a mask after these edits.
    """
    for edit in reversed(edits):
        mask = _put(mask, edit, fill=not _FILLS[edit.name], inline=inline, crossline=crossline)
    return mask


def runs_in(runs: Runs, shape: tuple[int, ...], *, inline: int, crossline: int) -> Whole:
    """Rows of the runs that lie in a block of that shape whose first trace has that place."""
    # They are in the order of their inlines.
    start, stop = np.searchsorted(runs.inline, (inline, inline + shape[0])).tolist()
    across = runs.crossline[start:stop] - crossline
    return np.asarray(start + np.flatnonzero((across >= 0) & (across < shape[1])))


def _put(mask: NDArray[np.uint8], edit: Edit, *, fill: bool, inline: int, crossline: int) -> NDArray[np.uint8]:
    runs = edit.runs.take(runs_in(edit.runs, mask.shape, inline=inline, crossline=crossline))
    if not len(runs.first):
        return mask
    changed = paint_runs(runs, mask.shape, inline=inline, crossline=crossline)
    if (mask[changed] == fill).any():
        what = f"expected the mask that the edits {edit.name} belong to, found another; give them with their own store"
        raise InputError.of(f"inline {inline} on, crossline {crossline} on", what)
    edited = mask.copy()
    edited[changed] = fill
    return edited


def edited_mask(
    store: Store, edits: Sequence[Edit], *, inlines: slice = slice(None), crosslines: slice = slice(None)
) -> NDArray[np.uint8]:
    """Some lines of a salt store's mask after the edits: uint8 (inlines, crosslines, samples).

    Raises:
        InputError: as `read_volume` and `apply_edits`; the mask holds other values than 0 and 1.
    """
    mask = read_volume(store, "mask", inlines=inlines, crosslines=crosslines)
    if mask.max(initial=0) > 1:
        raise InputError.of(store.path / "mask", f"expected 0 and 1, found {mask.max()}: segment again")
    return apply_edits(mask, edits, inline=inlines.start or 0, crossline=crosslines.start or 0)


def write_edits(folder: Path, edits: Iterable[Edit], grid: Grid) -> None:
    """A CSV an edit, named for it: a line a run, with numbers of lines, and of samples from 0 on."""
    for edit in edits:
        lines = grid.inlines.numbers[edit.runs.inline], grid.crosslines.numbers[edit.runs.crossline]
        columns = np.stack([edit.piece, *lines, edit.runs.first, edit.runs.voxels], axis=1)
        with atomic_path(folder / f"{edit.name}.csv") as temporary:
            np.savetxt(temporary, columns, fmt="%d", delimiter=",", header=",".join(_COLUMNS), comments="")


def read_edits(folder: Path, grid: Grid) -> list[Edit]:
    """The edits that `write_edits` wrote, in their order; those without a file are left out.

    Raises:
        InputError: a file is none that it wrote, or of another grid.
    """
    return [_read_edit(folder / f"{name}.csv", name, grid) for name in get_args(Change) if _is_there(folder, name)]


def _is_there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.csv").exists()


def _read_edit(path: Path, name: Change, grid: Grid) -> Edit:
    try:
        header, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        values = np.array([[int(value) for value in row] for row in rows], np.int64).reshape(-1, len(_COLUMNS))
    except (ValueError, OverflowError, csv.Error):
        header, values = [], np.zeros((0, len(_COLUMNS)), np.int64)
    piece, inline, crossline, first, count = values.T
    runs = Runs(
        (inline - grid.inlines.first) // grid.inlines.step,
        (crossline - grid.crosslines.first) // grid.crosslines.step,
        first,
        first + count,
    )
    is_sound = header == _COLUMNS and all(_faultless(runs, grid)) and (piece > 0).all()
    if not is_sound or not _is_sorted(runs):
        what = f"expected lines of {','.join(_COLUMNS)} inside the survey, in order, as diapir survey surfaces wrote"
        raise InputError.of(path, f"{what}; use another copy, or run it again")
    return Edit(name, runs, piece)


def _faultless(runs: Runs, grid: Grid) -> Iterator[bool]:
    for places, count in zip((runs.inline, runs.crossline, runs.end - 1), grid.shape, strict=True):
        yield bool(((places >= 0) & (places < count)).all())
    yield bool(((runs.first >= 0) & (runs.first < runs.end)).all())


def _is_sorted(runs: Runs) -> bool:
    order = np.lexsort((runs.first, runs.crossline, runs.inline))
    follows = (np.diff(runs.inline) == 0) & (np.diff(runs.crossline) == 0)
    return bool((np.diff(order) == 1).all()) and not (follows & (runs.first[1:] <= runs.end[:-1])).any()
