"""Which file of the competition's download plays which part, and what its tables say of which tile."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from diapir.data.archive import Member, read_alike
from diapir.data.rle import rle_fault
from diapir.data.tables import parse_table
from diapir.data.tiles import TILE
from diapir.faults import Fault, InputError, raise_if_any

FORMS = (
    "give the competition's zip, the folder of its zips and CSVs, that folder unpacked (train.csv, depths.csv, "
    "train/images, train/masks, test/images), or a folder that `diapir data tgs` wrote"
)
"""What tiles can be read from, as messages say it."""

_TRAIN, _DEPTHS, _SAMPLE = "train.csv", "depths.csv", "sample_submission.csv"
_COLUMNS = {_TRAIN: ("id", "rle_mask"), _DEPTHS: ("id", "z"), _SAMPLE: ("id", "rle_mask")}
_UNPACK = "unpack or download the set again"
# Longer numbers are no depth on this planet, and would not fit a float32.
_DEPTH = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")

Copies = tuple[Member, ...]
"""One file, which a source may hold more than once, as in a zip and unpacked beside it."""
TileFault = tuple[str, Fault]
"""The tile that a fault makes useless, or "" where it has no name, and the fault."""


@dataclass(frozen=True)
class TgsFiles:
    """The files of a source by the part they play.

    Args:
        tables: CSV files by their name.
        labelled, unlabelled, masks: PNG files by tile.
        loose: images that lie below neither train nor test.
        ignored: files that play no part, by their names from the source on.
    """

    tables: Mapping[str, Copies]
    labelled: Mapping[str, Copies]
    unlabelled: Mapping[str, Copies]
    masks: Mapping[str, Copies]
    loose: Mapping[str, Copies]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """The rows of a table.

    Args:
        values: what stands behind the id, by tile, in the order of the file.
        where: file and line by tile, for messages.
        faults: rows that cannot be used.
    """

    values: Mapping[str, str]
    where: Mapping[str, str]
    faults: tuple[TileFault, ...]


@dataclass(frozen=True)
class TgsTables:
    """The tables of a source; None where there is no such table."""

    train: Rows
    depths: Rows | None
    sample: Rows | None


def sort_files(members: Iterable[Member]) -> TgsFiles:
    """Every file's part, by its name and by the folders and zips it lies in."""
    tables: dict[str, Copies] = {}
    pictures: dict[str, dict[str, Copies]] = {"labelled": {}, "unlabelled": {}, "masks": {}, "loose": {}}
    ignored = []
    for member in members:
        name, part = member.parts[-1], _part(member)
        if part:
            tile = PurePosixPath(name).stem
            pictures[part][tile] = (*pictures[part].get(tile, ()), member)
        elif name in _COLUMNS:
            tables[name] = (*tables.get(name, ()), member)
        else:
            ignored.append("/".join(member.parts))  # from the source on: a whole path would tell of one machine
    return TgsFiles(tables=tables, **pictures, ignored=tuple(ignored))


def _part(member: Member) -> str | None:
    """The part of a PNG: what counts is images or masks right above it, and the nearest train or test above these."""
    *folders, _ = member.parts
    if member.suffix != ".png" or not folders or folders[-1] not in ("images", "masks"):
        return None
    if folders[-1] == "masks":
        return "masks"
    nearest = next((name for name in reversed(folders) if name in ("train", "test")), "")
    return {"train": "labelled", "test": "unlabelled"}.get(nearest, "loose")


def read_tables(files: TgsFiles, *, source: Path) -> TgsTables:
    """The tables of a source; their rows are not held against the images yet.

    Raises:
        InputError: train.csv is missing, a table lacks a column or cannot be read at all.
    """
    if _TRAIN not in files.tables:
        raise InputError.of(source, f"expected tiles, found no {_TRAIN} in it; {FORMS}")
    tables: dict[str, Rows | None] = dict.fromkeys(_COLUMNS)
    faults: list[Fault] = []
    for name, copies in files.tables.items():
        try:
            tables[name] = _read_rows(copies, columns=_COLUMNS[name])
        except InputError as error:
            faults += error.faults
    raise_if_any(faults)
    train = tables[_TRAIN]
    assert train is not None
    return TgsTables(train=train, depths=tables[_DEPTHS], sample=tables[_SAMPLE])


def _read_rows(copies: Copies, *, columns: tuple[str, str]) -> Rows:
    table = parse_table(read_alike(copies), path=Path(copies[0].where), columns=columns)
    values: dict[str, str] = {}
    where: dict[str, str] = {}
    faults = [("", fault) for fault in table.faults]
    for row, (tile, value) in enumerate(table.rows):
        if not tile:
            faults.append(("", Fault(table.where(row), "expected an id, found none; add it, or remove the line")))
        elif tile in values:
            what = f'id "{tile}" is in {where[tile]} already; keep one of the two lines'
            faults.append((tile, Fault(table.where(row), what)))
        else:
            values[tile], where[tile] = value, table.where(row)
    return Rows(values, where, tuple(faults))


def faults_of_rows(tables: TgsTables) -> Iterator[TileFault]:
    """Lines of the tables that are no row, and ids that come twice."""
    for rows in (tables.train, tables.depths, tables.sample):
        yield from rows.faults if rows else ()


def place_loose(files: TgsFiles, tables: TgsTables, *, source: Path) -> tuple[TgsFiles, list[TileFault]]:
    """The files with every loose image's part found by the table that names it, and the images that none names.

    Raises:
        InputError: no labelled images are left.
    """
    labelled, unlabelled = dict(files.labelled), dict(files.unlabelled)
    faults = []
    for tile, copies in files.loose.items():
        if tile in tables.train.values:
            labelled[tile] = (*labelled.get(tile, ()), *copies)
        elif tables.sample and tile in tables.sample.values:
            unlabelled[tile] = (*unlabelled.get(tile, ()), *copies)
        else:
            what = f'lies below neither train nor test, and no table names the id "{tile}"; move it below one of them'
            faults.append((tile, Fault(copies[0].where, what)))
    if not labelled:
        found = f"found none ({len(unlabelled)} without labels)"
        what = f"expected images of the tiles in {_TRAIN}, {found}; {FORMS}"
        raise InputError([Fault(str(source), what), *(fault for _, fault in faults)])
    return replace(files, labelled=labelled, unlabelled=unlabelled, loose={}), faults


def faults_of_names(files: TgsFiles, tables: TgsTables) -> Iterator[TileFault]:
    """Tiles that a table names and no image shows, or the other way round, or that have two parts."""
    train, sample = tables.train, tables.sample
    yield from _unprintable(files)
    yield from _not_in_both(train, files.labelled, folder="train/images")
    for tile, copies in files.masks.items():
        if tile not in train.values:
            yield tile, Fault(copies[0].where, f'id "{tile}" is not in {_TRAIN}; remove the mask, or add its row')
    # Without any mask as PNG, train.csv is the only truth; with some, a missing one was lost.
    for tile in train.values if files.masks else ():
        if tile not in files.masks:
            what = f'expected the mask train/masks/{tile}.png of the id "{tile}", found none; {_UNPACK}'
            yield tile, Fault(train.where[tile], what)
    for tile, copies in files.unlabelled.items():
        if tile in files.labelled:
            what = f"is an image without label, and {files.labelled[tile][0].where} is one with; keep one of them"
            yield tile, Fault(copies[0].where, what)
    # Without any unlabelled image, the set is a labelled one alone.
    if sample and files.unlabelled:
        yield from _not_in_both(sample, files.unlabelled, folder="test/images")


def _unprintable(files: TgsFiles) -> Iterator[TileFault]:
    for images in (files.labelled, files.unlabelled, files.masks):
        for tile, copies in images.items():
            if fault := unprintable(tile, where=copies[0].where):
                yield tile, fault


def unprintable(tile: str, *, where: str) -> Fault | None:
    """What is wrong with the name of a tile, if anything."""
    # Cc: line ends and other controls; Cs: bytes that are no UTF-8.
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in tile):
        return Fault(where, "has characters in its name that no table can hold; rename it")
    return None


def _not_in_both(rows: Rows, images: Mapping[str, Copies], *, folder: str) -> Iterator[TileFault]:
    for tile, where in rows.where.items():
        if tile not in images:
            yield (
                tile,
                Fault(where, f'expected the image {folder}/{tile}.png of the id "{tile}", found none; {_UNPACK}'),
            )
    table = _TRAIN if folder.startswith("train") else _SAMPLE
    for tile, copies in images.items():
        if tile not in rows.values:
            yield tile, Fault(copies[0].where, f'id "{tile}" is not in {table}; remove the image, or add its row')


def faults_of_rle(tables: TgsTables) -> Iterator[TileFault]:
    """Run-length texts that are none of a tile."""
    for tile, text in tables.train.values.items():
        fault = rle_fault(text, height=TILE, width=TILE)
        if fault:
            yield tile, Fault(tables.train.where[tile], f'id "{tile}": {fault}')


def faults_of_depths(files: TgsFiles, tables: TgsTables) -> Iterator[TileFault]:
    """Depths that are none, and tiles without a depth where there is a table of depths."""
    if tables.depths is None:
        return
    for tile, text in tables.depths.values.items():
        if not _DEPTH.fullmatch(text):
            found = f"found {text[:24]!a}" if text else "found nothing"
            what = f'id "{tile}": expected a depth in metres, a number of 0 or more, {found}; correct it'
            yield tile, Fault(tables.depths.where[tile], what)
    for images in (files.labelled, files.unlabelled):
        for tile, copies in images.items():
            if tile not in tables.depths.values:
                yield (
                    tile,
                    Fault(copies[0].where, f'expected a row of the id "{tile}" in {_DEPTHS}, found none; add it'),
                )


def depth_m(tables: TgsTables, tile: str) -> float:
    """A tile's depth; NaN where it is not known or is no number."""
    text = tables.depths.values.get(tile, "") if tables.depths else ""
    return float(text) if _DEPTH.fullmatch(text) else float("nan")
