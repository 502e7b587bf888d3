"""Submissions: the CSV file of one mask a tile that the competition takes, written, read and checked."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diapir.data.rle import encode, rle_fault
from diapir.data.tables import Table, read_table
from diapir.data.tiles import TILE
from diapir.faults import Fault, InputError, raise_if_any
from diapir.runs import require_file_place, write_bytes

COLUMNS = ("id", "rle_mask")
"""What a submission's header says."""


@dataclass(frozen=True)
class Submission:
    """Masks as run-length texts, in the order of the file.

    Args:
        path: the file, for messages.
        texts: run-length text of every tile, by its id; not checked yet.
        lines: line number of every tile, by its id.
    """

    path: Path
    texts: dict[str, str]
    lines: dict[str, int]

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, tile: str) -> str:
        """File and line of a tile, as messages name them."""
        return f"{self.path}:{self.lines[tile]}"


def require_submission_place(path: Path) -> None:
    """Refuse to write a submission where none can be, before any work is done.

    Raises:
        InputError: there is a folder of that name, or the name of a file ends with neither .csv nor .csv.gz.
        OSError: the place may not be written to.
    """
    require_file_place(path)
    is_file = path.is_file() or not path.exists()
    if is_file and not path.name.endswith((".csv", ".csv.gz")):
        raise InputError.of(path, "expected a name that ends with .csv or .csv.gz, for that is what is written")


def write_submission(path: Path, ids: Sequence[str], masks: NDArray[np.uint8]) -> None:
    """Write a submission, gzipped if its name ends with .gz; the same masks give the same bytes, whole or not at all.

    Args:
        ids: n distinct names.
        masks: (n, height, width); anything but 0 is salt.
    """
    assert len(ids) == len(masks), f"expected an id for every mask: got {len(ids)} and {len(masks)}"
    assert len(set(ids)) == len(ids), "ids are distinct"
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(zip(ids, encode(masks), strict=True))
    content = text.getvalue().encode()
    write_bytes(path, _gzipped(content) if path.suffix == ".gz" else content)


def read_submission(path: Path) -> Submission:
    """Read a submission or a file of true masks; further columns are left out, run-length texts are not checked.

    Raises:
        InputError: the file cannot be read, or rows have the wrong number of fields, no id, or the id of another.
    """
    table = read_table(path, columns=COLUMNS)
    submission, faults = _by_id(table)
    raise_if_any([*table.faults, *faults])
    return submission


def check_submission(path: Path, *, against: Path) -> list[Fault]:
    """Everything that would make the competition refuse a submission, or score it wrongly, with file and line.

    Args:
        against: the sample submission, or another file with exactly the ids that are wanted.
    """
    try:
        sample = read_submission(against)
        table = read_table(path, columns=COLUMNS)
    except InputError as error:
        return list(error.faults)
    submission, faults = _by_id(table)
    faults += table.faults
    if len(table.header) != len(COLUMNS):
        faults.append(Fault(f"{path}:1", f"expected the columns id and rle_mask alone, found {','.join(table.header)}"))
    faults += mask_faults(submission, submission.texts)
    faults += [
        Fault(submission.where(tile), f'id "{tile}" is not in {against}')
        for tile in submission.texts
        if tile not in sample.texts
    ]
    faults += [
        Fault(str(path), f'no row for the id "{tile}", which is wanted by {sample.where(tile)}')
        for tile in sample.texts
        if tile not in submission.texts
    ]
    return sorted(faults, key=_place)


def mask_faults(submission: Submission, tiles: Iterable[str]) -> list[Fault]:
    """The run-length texts of some tiles that are no masks of 101 x 101 pixels."""
    found = ((tile, rle_fault(submission.texts[tile], height=TILE, width=TILE)) for tile in tiles)
    return [Fault(submission.where(tile), f'id "{tile}": {fault}') for tile, fault in found if fault is not None]


def _by_id(table: Table) -> tuple[Submission, list[Fault]]:
    """Rows by id, and the rows whose id is empty or was there before."""
    texts: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults = []
    for row, (tile, text) in enumerate(table.rows):
        if not tile:
            faults.append(Fault(table.where(row), "expected an id, found none"))
        elif tile in texts:
            faults.append(Fault(table.where(row), f'id "{tile}" is on line {lines[tile]} already; keep one of them'))
        else:
            texts[tile], lines[tile] = text, table.lines[row]
    return Submission(table.path, texts, lines), faults


def _place(fault: Fault) -> tuple[str, int]:
    """Order of faults: by file, then by line; those without a line come last."""
    path, _, line = fault.where.rpartition(":")
    return (path, int(line)) if line.isdecimal() else (fault.where, 1 << 62)


def _gzipped(content: bytes) -> bytes:
    """Gzip data without name and time, so that the same content gives the same bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()
