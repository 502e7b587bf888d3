"""The mosaics of a run's tiles: found once, however many steps ask for them."""

from pathlib import Path

import numpy as np

from diapir.data.mosaic import Mosaics, find_mosaics
from diapir.data.mosaic_files import read_mosaics, write_mosaics
from diapir.data.tiles import DataSet


def mosaics_of(data: DataSet, out: Path, *, keep: bool = True) -> Mosaics:
    """The mosaics of the labelled and then the unlabelled tiles, as a run's folder keeps them once they were found.

    Args:
        keep: whether to keep them there.

    Raises:
        InputError: the file that keeps them is damaged.
    """
    # Of this data set alone. Hidden, for it is written before the folder is known to become the run's.
    path = out / f".mosaics-{data.digest[:16]}.csv"
    ids = data.labelled.ids + data.unlabelled.ids
    if path.exists():
        return read_mosaics(path, ids)
    mosaics = find_mosaics(np.concatenate([data.labelled.images, data.unlabelled.images]))
    if keep:
        write_mosaics(path, ids, mosaics)
    return mosaics
