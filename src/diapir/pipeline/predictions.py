"""Probabilities and other arrays in a run's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.pipeline.workplace import Fold
from diapir.runs import atomic_path

ROWS, HELD_OUT, UNLABELLED = "held-out-rows.npy", "held-out.npy", "unlabelled.npy"
HELD_OUT_HAS_SALT, UNLABELLED_HAS_SALT = "held-out-has-salt.npy", "unlabelled-has-salt.npy"


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


def read_predictions(folder: Path, fold: Fold = None) -> Predictions:
    """Predictions of a step; of the unlabelled tiles those of one fold's models alone, where a fold is named.

    Raises:
        InputError: a file is absent or damaged.
    """
    is_kept = fold is None and all((folder / name).exists() for name in (HELD_OUT_HAS_SALT, UNLABELLED_HAS_SALT))
    return Predictions(
        rows=read_array(folder / ROWS),
        held_out=read_array(folder / HELD_OUT),
        unlabelled=read_array(folder / unlabelled_name(fold)),
        has_salt=HasSalt(read_array(folder / HELD_OUT_HAS_SALT), read_array(folder / UNLABELLED_HAS_SALT))
        if is_kept
        else None,
    )


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
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError.of(path, "expected this file, found none: remove its folder, and run again") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError.of(path, f"cannot be read ({error}): remove its folder, and run again") from None
    return array


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array that is never seen half written."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def unlabelled_name(fold: Fold) -> str:
    """The file of the unlabelled tiles' probabilities: of the mean over folds, or of one fold's model."""
    return UNLABELLED if fold is None else f"unlabelled-fold-{fold}.npy"
