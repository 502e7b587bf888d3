"""A folder of tiles as PNGs with no tables beside them: nothing is known of them but their images."""

from pathlib import Path

import numpy as np

from diapir.data.png import decode_image
from diapir.data.tgs_files import unprintable
from diapir.data.tiles import TILE, DataSet, TileSet, is_prepared
from diapir.faults import Fault, InputError

_TABLE = "train.csv"


def is_image_folder(path: Path) -> bool:
    """Whether a path is a folder with PNGs in it and nothing that says which of them are labelled."""
    return path.is_dir() and not is_prepared(path) and not (path / _TABLE).exists() and bool(_images(path))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")


def read_image_folder(folder: Path, *, skip_bad: bool = False) -> DataSet:
    """Every PNG of a folder as an unlabelled tile of unknown depth, by name; its id is the name without `.png`.

    Args:
        skip_bad: leave out tiles with a fault, and name them and it in the record, instead of raising.

    Raises:
        InputError: every fault together; with `skip_bad`, only where no tile is left.
    """
    found: dict[str, np.ndarray] = {}
    faults: list[tuple[str, Fault]] = []
    for path in _images(folder):
        if path.stem in found:
            faults.append((path.stem, Fault(str(path), f"another file is called {path.stem} too; rename one of them")))
        elif fault := unprintable(path.stem, where=str(path)):
            faults.append((path.stem, fault))
        else:
            try:
                found[path.stem] = decode_image(path.read_bytes(), where=str(path))
            except InputError as error:
                faults += [(path.stem, fault) for fault in error.faults]
            except OSError as error:
                faults.append((path.stem, Fault(str(path), f"cannot be read: {error.strerror}")))
    if faults and (not skip_bad or not found):
        raise InputError(fault for _, fault in faults)
    skipped = [{"tile": tile, "where": fault.where, "fault": fault.what} for tile, fault in faults]
    nobody = np.zeros((0, TILE, TILE), np.uint8)
    return DataSet(
        labelled=TileSet((), nobody, nobody, np.zeros(0, np.float32)),
        unlabelled=TileSet(tuple(found), np.stack([*found.values()]), None, np.full(len(found), np.nan, np.float32)),
        record={"source": folder.name, "labelled": 0, "unlabelled": len(found), "skipped": skipped},
    )
