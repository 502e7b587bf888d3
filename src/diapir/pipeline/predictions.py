"""Probabilities and other arrays in a run's folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import ODD_HEADER, DataSet, TileSet
from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.workplace import Fold
from diapir.runs import atomic_path

ROWS, HELD_OUT, UNLABELLED = "held-out-rows.npy", "held-out.npy", "unlabelled.npy"
HELD_OUT_HAS_SALT, UNLABELLED_HAS_SALT = "held-out-has-salt.npy", "unlabelled-has-salt.npy"
AGAIN = "remove its folder, and run again"
_CHUNK = 1024


class HasSalt(NamedTuple):
    """Probabilities that tiles hold any salt, by a head of their own: float32.

    Args:
        held_out: of the labelled tiles that were held out, (m,).
        unlabelled: of all unlabelled tiles, (n,).
    """

    held_out: NDArray[np.float32]
    unlabelled: NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """What a predict, blend or post-process step leaves.

    Args:
        rows: the labelled tiles that were held out, int64 (m,).
        held_out: their probabilities by models that never saw them, float16 (m, h, w).
        unlabelled: probabilities of all unlabelled tiles, float16 (n, h, w).
        has_salt: of the same tiles; None where a net behind them has no head that says so, where nobody kept it, and
            for one fold's models.
    """

    rows: NDArray[np.int64]
    held_out: NDArray[np.float16]
    unlabelled: NDArray[np.float16]
    has_salt: HasSalt | None = None


def read_predictions(folder: Path, fold: Fold = None, *, data: DataSet | None = None) -> Predictions:
    """Predictions of a step; of the unlabelled tiles those of one fold's models alone, where a fold is named.

    Args:
        data: the tiles that they are of, where these are at hand: predictions that cannot be of them are refused.

    Raises:
        InputError: a file is absent or damaged.
    """
    is_kept = fold is None and all((folder / name).exists() for name in (HELD_OUT_HAS_SALT, UNLABELLED_HAS_SALT))
    found = Predictions(
        rows=read_array(folder / ROWS),
        held_out=read_array(folder / HELD_OUT),
        unlabelled=read_array(folder / unlabelled_name(fold)),
        has_salt=HasSalt(read_array(folder / HELD_OUT_HAS_SALT), read_array(folder / UNLABELLED_HAS_SALT))
        if is_kept
        else None,
    )
    if data is not None:
        raise_if_any(_misfits(folder, found, data, fold=fold))
    return found


def _misfits(folder: Path, found: Predictions, data: DataSet, *, fold: Fold) -> Iterator[Fault]:
    """What predictions of these tiles cannot be."""
    if not are_rows(found.rows, data.labelled):
        yield Fault(str(folder / ROWS), f"expected numbers of labelled tiles, found others: {AGAIN}")
    sized: list[tuple[str, NDArray[Any], int]] = [
        (HELD_OUT, found.held_out, found.rows.size),
        (unlabelled_name(fold), found.unlabelled, len(data.unlabelled)),
    ]
    for name, array, count in sized:
        if not are_probabilities(array, (count, *data.labelled.images.shape[1:])):
            yield Fault(str(folder / name), f"expected probabilities of {count} tiles, found others: {AGAIN}")
    names = (HELD_OUT_HAS_SALT, UNLABELLED_HAS_SALT)
    for name, array, (_, _, count) in zip(names, found.has_salt or (), sized, strict=False):
        if not are_probabilities(array, (count,)):
            yield Fault(str(folder / name), f"expected a probability for each of {count} tiles, found others: {AGAIN}")


def are_rows(array: NDArray[Any], tiles: TileSet) -> bool:
    """Whether an array holds numbers of some of the tiles."""
    is_listed = array.ndim == 1 and array.dtype.kind in "iu"
    return is_listed and bool(((array >= 0) & (array < len(tiles))).all())


def are_probabilities(array: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape holds numbers from 0 to 1, looked at a few tiles at a time."""
    if array.shape != shape or array.dtype.kind not in "fu":
        return False
    parts = (array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK))
    return all(bool(((part >= 0) & (part <= 1)).all()) for part in parts)


def write_predictions(folder: Path, found: Predictions) -> None:
    """Write what `read_predictions` reads."""
    for name, array in ((ROWS, found.rows), (HELD_OUT, found.held_out), (UNLABELLED, found.unlabelled)):
        write_array(folder / name, array)
    if found.has_salt is not None:
        write_has_salt(folder, found.has_salt)


def write_has_salt(folder: Path, has_salt: HasSalt) -> None:
    """Write what stands beside the masks' probabilities."""
    write_array(folder / HELD_OUT_HAS_SALT, has_salt.held_out)
    write_array(folder / UNLABELLED_HAS_SALT, has_salt.unlabelled)


def read_array(path: Path) -> NDArray[Any]:
    """An array, read from the disk as it is used.

    Raises:
        InputError: the file is absent or damaged.
    """
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError.of(path, f"expected this file, found none: {AGAIN}") from None
    except (OSError, EOFError, *ODD_HEADER) as error:
        raise InputError.of(path, f"cannot be read ({str(error)[:200]}): {AGAIN}") from None
    return array


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array that is never seen half written."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def unlabelled_name(fold: Fold) -> str:
    """The file of the unlabelled tiles' probabilities: of the mean over folds, or of one fold's model."""
    return UNLABELLED if fold is None else f"unlabelled-fold-{fold}.npy"
