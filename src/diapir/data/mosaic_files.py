"""The mosaics of a data set: found, counted, drawn, and kept as a file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diapir.data.folds import depth_folds, mosaic_folds, random_folds
from diapir.data.mosaic import NONE, Mosaics, are_beside_training, find_mosaics
from diapir.data.mosaic_links import LEAST_COMPATIBILITY
from diapir.data.mosaic_picture import draw_mosaics
from diapir.data.tiles import DataSet
from diapir.faults import Fault, InputError, raise_if_any
from diapir.runs import require_outside_results, write_json, write_text

_HEADER = ["id", "mosaic", "row", "column"]
_NUM_LARGEST = 10
_NUM_FOLDS = 5


def survey_mosaics(data: DataSet, out: Path, *, least_compatibility: float = LEAST_COMPATIBILITY) -> Mosaics:
    """Find the mosaics of a data set, print their figures, and write `mosaics.csv`, `mosaics.json` and `mosaics.png`.

    Args:
        least_compatibility: as `find_links` has it.

    Returns:
        the places of the labelled tiles and then of the unlabelled ones.
    """
    require_outside_results(out)
    images = np.concatenate([data.labelled.images, data.unlabelled.images])
    mosaics = find_mosaics(images, least_compatibility=least_compatibility)
    figures = describe_mosaics(data, mosaics)
    write_mosaics(out / "mosaics.csv", data.labelled.ids + data.unlabelled.ids, mosaics)
    write_json(out / "mosaics.json", figures)
    draw_mosaics(data, mosaics, out / "mosaics.png", count=_NUM_LARGEST)
    _print_figures(figures, Console())
    return mosaics


def describe_mosaics(data: DataSet, mosaics: Mosaics) -> dict[str, Any]:
    """Figures of the mosaics of the labelled and then the unlabelled tiles, as plain JSON values.

    `held_out_beside_training` counts the labelled tiles that have a direct neighbour in training when they are held
    out, for five folds of three kinds: what a score of theirs owes to that is no skill.
    """
    num_labelled = len(data.labelled)
    is_member = mosaics.mosaic != NONE
    sizes = np.bincount(mosaics.mosaic[is_member])
    with_labels = np.unique(mosaics.mosaic[:num_labelled][is_member[:num_labelled]])
    ids, depths_m = data.labelled.ids, data.labelled.depths_m
    labelled = mosaics.take(np.arange(num_labelled))
    folds = {
        "random": random_folds(ids, count=_NUM_FOLDS, seed=0),
        "depth": depth_folds(ids, depths_m, count=_NUM_FOLDS),
        "mosaic": mosaic_folds(ids, depths_m, labelled.mosaic, count=_NUM_FOLDS),
    }
    return {
        "digest": data.digest,
        "mosaics": len(sizes),
        "tiles": int(is_member.sum()),
        "labelled_tiles": int(is_member[:num_labelled].sum()),
        "unlabelled_tiles": int(is_member[num_labelled:].sum()),
        "mosaics_with_labelled_tiles": len(with_labels),
        "unlabelled_tiles_of_those": int(np.isin(mosaics.mosaic[num_labelled:], with_labels).sum()),
        "largest": sizes[:_NUM_LARGEST].tolist(),
        "links_dropped": mosaics.num_dropped,
        "held_out_beside_training": {name: int(are_beside_training(f, labelled).sum()) for name, f in folds.items()},
    }


def write_mosaics(path: Path, ids: Sequence[str], mosaics: Mosaics) -> None:
    """Write a CSV of id,mosaic,row,column: the tiles of mosaics in order, and none that is in no mosaic."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_HEADER)
    for place, tile in sorted(mosaics.tiles_by_place().items()):
        rows.writerow([ids[tile], *place])
    write_text(path, text.getvalue())


def read_mosaics(path: Path, ids: Sequence[str]) -> Mosaics:
    """The mosaics of the tiles `ids` from the file of `write_mosaics`; a tile that it does not name is in none.

    Raises:
        InputError: the file cannot be read, a row is none, a tile is named twice, or two tiles share a place.
    """
    try:
        reader = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError.of(path, f"cannot be read as CSV: {error}") from None
    if not rows or rows[0][1] != _HEADER:
        found = ",".join(rows[0][1]) if rows else "none"
        raise InputError.of(f"{path}:1", f"expected the header {','.join(_HEADER)}, found {found}")
    places: dict[str, tuple[int, ...]] = {}
    faults = []
    taken = set()
    for line, row in rows[1:]:
        if len(row) != len(_HEADER) or not all(number.isdecimal() for number in row[1:]):
            faults.append(Fault(f"{path}:{line}", f"expected an id and three whole numbers, found {','.join(row)}"))
            continue
        place = tuple(int(number) for number in row[1:])
        if row[0] in places or place in taken:
            what = f"the id {row[0]}" if row[0] in places else f"the place {','.join(row[1:])}"
            faults.append(Fault(f"{path}:{line}", f"{what} is given twice; find the mosaics again"))
        places[row[0]] = place
        taken.add(place)
    raise_if_any(faults)
    alone = (NONE,) * 3
    columns = np.array([places.get(tile, alone) for tile in ids], np.int64).reshape(len(ids), 3)
    return Mosaics(columns[:, 0], columns[:, 1], columns[:, 2])


def _print_figures(figures: dict[str, Any], console: Console) -> None:
    table = Table("", "", title="mosaics", title_justify="left", show_header=False)
    shown = {
        "mosaics": figures["mosaics"],
        "tiles in mosaics": figures["tiles"],
        "of them labelled": figures["labelled_tiles"],
        "of them unlabelled": figures["unlabelled_tiles"],
        "mosaics with labelled tiles": figures["mosaics_with_labelled_tiles"],
        "unlabelled tiles in those": figures["unlabelled_tiles_of_those"],
        "contradictory links, dropped": figures["links_dropped"],
    }
    for title, number in shown.items():
        table.add_row(title, f"{number:,}")
    table.add_row("tiles of the ten largest", ", ".join(str(size) for size in figures["largest"]))
    for name, number in figures["held_out_beside_training"].items():
        table.add_row(f"held out beside training, {name} folds", f"{number:,}")
    console.print(table)
