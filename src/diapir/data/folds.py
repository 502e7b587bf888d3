"""Which labelled tiles are held out together."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from diapir.data.mosaic import NONE, Mosaics, find_mosaics
from diapir.data.section_folds import make_section_folds
from diapir.data.tiles import TileSet, coverage_classes
from diapir.faults import Fault, InputError, raise_if_any
from diapir.recipe.tiles import Folds
from diapir.runs import write_text

Numbers = NDArray[np.int64]


def depth_folds(ids: Sequence[str], depths_m: NDArray[np.float32], *, count: int) -> Numbers:
    """Deal tiles out in turn, shallowest first: (n,) of 0..count-1. Ties go by id; unknown depths come last.

    Source: the 1st place's folds (systems of 2018: rank of all tiles by depth, modulo the number of folds).
    """
    return _deal(np.lexsort((np.asarray(ids), depths_m)), count=count)


def coverage_folds(ids: Sequence[str], masks: NDArray[np.uint8], *, count: int, seed: int) -> Numbers:
    """Deal tiles out within each coverage class, in an order drawn from `seed`: (n,) of 0..count-1."""
    shuffled = _shuffled(ids, seed=seed)
    classes = coverage_classes(masks)
    return _deal(shuffled[np.argsort(classes[shuffled], kind="stable")], count=count)


def random_folds(ids: Sequence[str], *, count: int, seed: int) -> Numbers:
    """Deal tiles out in an order drawn from `seed`: (n,) of 0..count-1, whatever order the tiles came in."""
    return _deal(_shuffled(ids, seed=seed), count=count)


def group_folds(groups: Sequence[str], *, count: int) -> Numbers:
    """Keep each group whole: the largest group goes to the fold that is smallest so far: (n,) of 0..count-1.

    Raises:
        InputError: there are fewer groups than folds.
    """
    names, sizes = np.unique(np.asarray(groups), return_counts=True)
    if len(names) < count:
        raise InputError.of("folds.groups", f"expected at least {count} groups, one a fold, found {len(names)}")
    filled = np.zeros(count, np.int64)
    fold_of: dict[str, int] = {}
    for index in np.lexsort((names, -sizes)):
        fold = int(filled.argmin())
        fold_of[str(names[index])] = fold
        filled[fold] += sizes[index]
    return np.array([fold_of[group] for group in groups], np.int64)


def mosaic_folds(ids: Sequence[str], depths_m: NDArray[np.float32], mosaics: Numbers, *, count: int) -> Numbers:
    """Keep the tiles of each mosaic in one fold, and deal the others by depth so that folds fill up: (n,).

    Mosaics go to the fold that is smallest so far, the one with most tiles first, then the shallower. Without mosaics
    these are `depth_folds`.

    Args:
        mosaics: int64 (n,), the mosaic of each tile, -1 for none.

    Source: the 14th place's folds; how the rest is dealt is the team's.
    """
    ranks = np.empty(len(ids), np.int64)
    ranks[np.lexsort((np.asarray(ids), depths_m))] = np.arange(len(ids))
    numbers, sizes = np.unique(mosaics[mosaics != NONE], return_counts=True)
    together = {int(number): np.flatnonzero(mosaics == number) for number in numbers[sizes > 1]}
    folds = np.full(len(ids), NONE, np.int64)
    filled = np.zeros(count, np.int64)
    for rows in sorted(together.values(), key=lambda rows: (-len(rows), int(ranks[rows].min()))):
        folds[rows] = filled.argmin()
        filled[filled.argmin()] += len(rows)
    rest = np.flatnonzero(folds == NONE)
    folds[rest[np.argsort(ranks[rest])]] = _fill_up(filled, len(rest))
    return folds


def make_folds(
    tiles: TileSet, section: Folds, *, others: TileSet | None = None, survey: Callable[[], Mosaics] | None = None
) -> Numbers:
    """The fold of each labelled tile, by the recipe's scheme: (n,).

    Args:
        others: the unlabelled tiles, for depths that are ranked among `all`.
        survey: finds the mosaics of these tiles and then any others; None looks at these alone.

    Raises:
        InputError: a fold would have no tile, no salt, (groups) the file does not fit the tiles, or (sections) they lie
            in none or in too few, or within the gap of each other.
    """
    assert tiles.masks is not None
    if len(tiles) < section.count:
        raise InputError.of(
            "folds.count", f"expected at least {section.count} labelled tiles, one a fold, found {len(tiles)}"
        )
    match section.scheme:
        case "depth":
            more = others if section.ranked == "all" else None
            ids = tiles.ids + (more.ids if more else ())
            depths_m = np.concatenate([tiles.depths_m, more.depths_m]) if more else tiles.depths_m
            folds = depth_folds(ids, depths_m, count=section.count)[: len(tiles)]
        case "coverage":
            folds = coverage_folds(tiles.ids, tiles.masks, count=section.count, seed=section.seed)
        case "random":
            folds = random_folds(tiles.ids, count=section.count, seed=section.seed)
        case "groups":
            assert section.groups is not None
            folds = group_folds(_read_groups(section.groups, tiles.ids), count=section.count)
        case "mosaic":
            mosaics = find_mosaics(tiles.images) if survey is None else survey()
            folds = mosaic_folds(tiles.ids, tiles.depths_m, mosaics.mosaic[: len(tiles)], count=section.count)
        case "sections":
            folds = make_section_folds(tiles, section)
        case _:
            assert_never(section.scheme)
    _require_salt(folds, tiles.masks, section.count)
    return folds


def write_folds(path: Path, ids: Sequence[str], folds: Numbers, section: Folds) -> None:
    """Write a CSV of id,fold under a line that names scheme, count and seed."""
    text = io.StringIO()
    gap = "" if section.gap is None else f" gap={section.gap}"
    text.write(f"# scheme={section.scheme} count={section.count} seed={section.seed}{gap}\n")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "fold"])
    rows.writerows(zip(ids, folds.tolist(), strict=True))
    write_text(path, text.getvalue())


def read_fold_ids(path: Path) -> list[str]:
    """The ids of the labelled tiles in a file of `write_folds`.

    Raises:
        InputError: the file is absent or is no such file.
    """
    try:
        _, header, *rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError):
        raise InputError.of(
            path, "expected the folds of a run, found no such file; use another copy of the run"
        ) from None
    if header != "id,fold":
        raise InputError.of(f"{path}:2", f"expected the header id,fold, found {header}")
    return [row[0] for row in csv.reader(rows) if row]


def _deal(order: NDArray[np.int64], *, count: int) -> Numbers:
    folds = np.empty(len(order), np.int64)
    folds[order] = np.arange(len(order)) % count
    return folds


def _fill_up(filled: Numbers, number: int) -> Numbers:
    """Folds for `number` tiles in a row that even out folds with `filled` tiles, each coming up evenly: (number,)."""
    shares = np.zeros_like(filled)
    for _ in range(number):
        shares[(filled + shares).argmin()] += 1
    given = np.zeros_like(filled)
    folds = np.empty(number, np.int64)
    for place in range(number):
        # Whole numbers, so that ties are ties: a fold's due share of the tiles up to here, less what it was given.
        folds[place] = (shares * (place + 1) - given * number).argmax()
        given[folds[place]] += 1
    return folds


def _shuffled(ids: Sequence[str], *, seed: int) -> NDArray[np.int64]:
    by_id = np.argsort(np.asarray(ids), kind="stable")
    return by_id[np.random.default_rng(seed).permutation(len(by_id))]


def _require_salt(folds: Numbers, masks: NDArray[np.uint8], count: int) -> None:
    salt = (masks == 1).any((1, 2))
    without = [fold for fold in range(count) if not salt[folds == fold].any()]
    raise_if_any(
        Fault(f"fold {fold}", "none of its tiles has salt, so its score would mean little; use fewer folds")
        for fold in without
    )


def _read_groups(path: Path, ids: Sequence[str]) -> list[str]:
    """The group of each tile, in the order of `ids`."""
    try:
        reader = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError.of(path, f"cannot be read as CSV: {error}") from None
    header = rows[0][1] if rows else []
    if [name.strip() for name in header] != ["id", "group"]:
        raise InputError.of(f"{path}:1", f"expected the header id,group, found {','.join(header) or 'none'}")
    groups: dict[str, str] = {}
    faults = []
    for line, row in rows[1:]:
        if len(row) != 2 or not all(row):
            faults.append(Fault(f"{path}:{line}", f"expected an id and a group, found {','.join(row)}"))
        elif row[0] in groups:
            faults.append(Fault(f"{path}:{line}", f"the id {row[0]} is given twice"))
        else:
            groups[row[0]] = row[1]
    missing = [tile for tile in ids if tile not in groups]
    if missing:
        shown = ", ".join(missing[:5])
        faults.append(Fault(str(path), f"{len(missing)} labelled tiles have no group, e.g. {shown}"))
    raise_if_any(faults)
    return [groups[tile] for tile in ids]
