"""The competition's tiles, in any form that it or its users keep them in: every fault found, then one report."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from diapir.data import rle
from diapir.data.archive import open_source, read_alike
from diapir.data.png import decode_image, decode_mask
from diapir.data.tgs_files import (
    Copies,
    TgsFiles,
    TgsTables,
    TileFault,
    depth_m,
    faults_of_depths,
    faults_of_names,
    faults_of_rle,
    faults_of_rows,
    place_loose,
    read_tables,
    sort_files,
)
from diapir.data.tiles import TILE, DataSet, TileSet, is_prepared, read_data, write_data
from diapir.faults import Fault, InputError
from diapir.runs import require_new_folder

Tick = Callable[[], None]


@dataclass(frozen=True)
class _Reading:
    """Tiles as they were read, useless ones included.

    Args:
        tiles: all tiles whose image is there; the arrays of useless ones are zero.
        faults: what is wrong with which.
    """

    tiles: TileSet
    faults: tuple[TileFault, ...]


def prepare_tgs(source: Path, out: Path, *, skip_bad: bool = False) -> DataSet:
    """Read the competition's download and write it as a prepared folder, whole or not at all.

    Raises:
        InputError: as `read_tgs`; or `out` holds files already.
    """
    require_new_folder(out)
    data = read_tgs(source, skip_bad=skip_bad)
    write_data(data, out)
    return data


def open_data(path: Path, *, skip_bad: bool = False) -> DataSet:
    """The tiles of a prepared folder, or of the competition's download in any of its forms.

    Raises:
        InputError: it is neither, or is damaged; see `read_tgs`.
    """
    return read_data(path) if is_prepared(path) else read_tgs(path, skip_bad=skip_bad)


def read_tgs(source: Path, *, skip_bad: bool = False) -> DataSet:
    """The labelled tiles in the order of train.csv, the others in that of sample_submission.csv, or else by name.

    Args:
        source: a zip, a folder of zips and CSV files, or a folder where they are unpacked.
        skip_bad: leave out tiles with a fault, and name them and it in the record, instead of raising.

    Raises:
        InputError: every fault of the source together, with file and line or member; with `skip_bad`, only what
            leaves no tile: no or damaged archives, no train.csv, a missing column, not one good labelled tile.
    """
    with open_source(source) as members:
        files = sort_files(members)
        tables = read_tables(files, source=source)
        files, loose_faults = place_loose(files, tables, source=source)
        rle_faults = dict(faults_of_rle(tables))
        faults = [*loose_faults, *faults_of_rows(tables), *rle_faults.items()]
        faults += [*faults_of_names(files, tables), *faults_of_depths(files, tables)]
        with _progress(len(files.labelled) + len(files.masks) + len(files.unlabelled)) as tick:
            labelled = _read_labelled(files, tables, without_rle=rle_faults.keys(), tick=tick)
            unlabelled = _read_unlabelled(files, tables, tick=tick)
    faults += [*labelled.faults, *unlabelled.faults]
    kept = [_without(reading.tiles, {tile for tile, _ in faults}) for reading in (labelled, unlabelled)]
    if faults and (not skip_bad or not len(kept[0])):
        raise InputError(sorted((fault for _, fault in faults), key=_place))
    if not len(kept[0]):
        raise InputError.of(source, "expected labelled tiles, found none: its train.csv has no rows")
    record = _record(files, tables, source=source) | {
        "labelled": len(kept[0]),
        "unlabelled": len(kept[1]),
        "skipped": [{"tile": tile, "where": fault.where, "fault": fault.what} for tile, fault in faults],
    }
    return DataSet(labelled=kept[0], unlabelled=kept[1], record=record)


def _read_labelled(files: TgsFiles, tables: TgsTables, *, without_rle: Collection[str], tick: Tick) -> _Reading:
    """Images and masks of every row of train.csv whose image is there.

    Args:
        without_rle: tiles whose run-length text is none.
    """
    texts = tables.train.values
    tiles = [tile for tile in texts if tile in files.labelled]
    images, faults = _read_pictures(tiles, files.labelled, decode=decode_image, tick=tick)
    masks = rle.decode(["" if tile in without_rle else texts[tile] for tile in tiles], height=TILE, width=TILE)
    drawn = [tile for tile in tiles if tile in files.masks]
    drawn_masks, mask_faults = _read_pictures(drawn, files.masks, decode=decode_mask, tick=tick)
    comparable = set(drawn) - set(without_rle) - {tile for tile, _ in mask_faults}
    told = dict(zip(tiles, masks, strict=True))
    for tile, mask in zip(drawn, drawn_masks, strict=True):
        if tile in comparable and (differing := np.count_nonzero(mask != told[tile])):
            found = f"differs from {files.masks[tile][0].where} in {differing} of {TILE * TILE} pixels"
            what = f'id "{tile}": the mask {found}; take both from the download again'
            faults.append((tile, Fault(tables.train.where[tile], what)))
    return _Reading(TileSet(tuple(tiles), images, masks, _depths_m(tables, tiles)), (*faults, *mask_faults))


def _read_unlabelled(files: TgsFiles, tables: TgsTables, *, tick: Tick) -> _Reading:
    listed = tables.sample.values if tables.sample else {}
    # An image that is not listed is a fault; it is read all the same, to find what else is wrong with it.
    tiles = [tile for tile in listed if tile in files.unlabelled]
    tiles += sorted(files.unlabelled.keys() - listed.keys())
    images, faults = _read_pictures(tiles, files.unlabelled, decode=decode_image, tick=tick)
    return _Reading(TileSet(tuple(tiles), images, None, _depths_m(tables, tiles)), tuple(faults))


def _read_pictures(
    tiles: Sequence[str], pictures: Mapping[str, Copies], *, decode: Callable[..., NDArray[np.uint8]], tick: Tick
) -> tuple[NDArray[np.uint8], list[TileFault]]:
    """What PNGs show: uint8 (tiles, height, width), zero where one cannot be used, and why not."""
    pixels = np.zeros((len(tiles), TILE, TILE), np.uint8)
    faults: list[TileFault] = []
    for row, tile in enumerate(tiles):
        copies = pictures[tile]
        try:
            pixels[row] = decode(read_alike(copies), where=copies[0].where)
        except InputError as error:
            faults += [(tile, fault) for fault in error.faults]
        tick()
    return pixels, faults


def _depths_m(tables: TgsTables, tiles: Sequence[str]) -> NDArray[np.float32]:
    return np.array([depth_m(tables, tile) for tile in tiles], np.float32)


def _without(tiles: TileSet, bad: Collection[str]) -> TileSet:
    return tiles.take(np.flatnonzero([tile not in bad for tile in tiles.ids]))


def _record(files: TgsFiles, tables: TgsTables, *, source: Path) -> dict[str, Any]:
    """Where tiles came from, and what of it was not used."""
    known = files.labelled.keys() | files.unlabelled.keys()
    return {
        "source": source.name,  # a path would tell of one machine
        "masks": "PNG and run lengths, which agree" if files.masks else "run lengths",
        "depths": "none" if tables.depths is None else "depths.csv",
        "depths_of_other_tiles": len(tables.depths.values.keys() - known) if tables.depths else 0,
        "order": "sample_submission.csv" if tables.sample and files.unlabelled else "by name",
        "ignored_files": list(files.ignored),
    }


def _place(fault: Fault) -> tuple[str, int]:
    """Order of faults: by file, then by line."""
    path, _, line = fault.where.rpartition(":")
    return (path, int(line)) if line.isdecimal() else (fault.where, 0)


@contextmanager
def _progress(total: int) -> Iterator[Tick]:
    """A bar on stderr where that is a terminal; it goes when all is read."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("reading PNGs", total=total)
        yield lambda: progress.advance(task)
