"""Arrays in a run's folder that are damaged, or of other tiles: told in words by every reader."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.pipeline.predictions import (
    HELD_OUT,
    HELD_OUT_HAS_SALT,
    ROWS,
    UNLABELLED,
    UNLABELLED_HAS_SALT,
    HasSalt,
    Predictions,
    read_array,
    read_predictions,
    write_array,
    write_predictions,
)
from diapir.pipeline.pseudo import read_pseudo_labels


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make_synthetic(labelled=6, unlabelled=4, seed=0)[0]


def halves(*shape: int) -> NDArray[np.float16]:
    return np.full(shape, 0.5, np.float16)


def sound() -> Predictions:
    says = HasSalt(np.full(3, 0.5, np.float32), np.full(4, 0.5, np.float32))
    return Predictions(np.array([0, 2, 5]), halves(3, 101, 101), halves(4, 101, 101), says)


def array_file(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w"):
        pass
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        archive(),
        array_file(b"{'descr': '<f2', 'fortran_order': False, 'shape': (2,), \x7f\n"),
        array_file(b"{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 2)}\n"),
        array_file(b"{'descr': '<f2', 'fortran_order': False, 'shape': (4611686018427387904, 8)}\n"),
        array_file(b"{'descr': '<f2', 'fortran_order': False, 'shape': (True, 8)}\n"),
        array_file(b"{[1]: 2}\n"),
        array_file(b"(" * 9000),
    ],
)
def test_a_damaged_array_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"array\.npy: .*: remove its folder, and run again"):
        read_array(path)


def test_what_was_written_is_read_with_and_without_its_tiles(tmp_path: Path, data: DataSet) -> None:
    write_predictions(tmp_path, sound())
    for found in (read_predictions(tmp_path), read_predictions(tmp_path, data=data)):
        assert (found.rows == [0, 2, 5]).all()
        assert found.held_out.shape == (3, 101, 101)
        assert found.has_salt is not None


@pytest.mark.parametrize(
    ("name", "array"),
    [
        (ROWS, np.array([0, 2, 6])),
        (ROWS, np.array([-1, 2, 5])),
        (ROWS, np.array([0.0, 2, 5])),
        (ROWS, np.array([[0, 2, 5]])),
        (ROWS, np.array(2)),
        (HELD_OUT, halves(2, 101, 101)),
        (HELD_OUT, halves(3, 101, 101) * np.float16(np.nan)),
        (HELD_OUT, halves(3, 101, 101) + np.float16(0.6)),
        (UNLABELLED, halves(4, 50, 101)),
        (UNLABELLED, np.zeros((4, 101, 101), "S1")),
        (HELD_OUT_HAS_SALT, np.zeros(4, np.float32)),
        (UNLABELLED_HAS_SALT, np.full(4, np.inf, np.float32)),
    ],
)
def test_predictions_of_other_tiles_are_told(
    tmp_path: Path, data: DataSet, name: str, array: NDArray[np.generic]
) -> None:
    write_predictions(tmp_path, sound())
    write_array(tmp_path / name, array)
    with pytest.raises(InputError, match=rf"{name}: expected .*found others: remove its folder, and run again"):
        read_predictions(tmp_path, data=data)


@pytest.mark.parametrize(
    ("rows", "masks"),
    [
        (np.array([0, 4]), np.zeros((2, 101, 101), np.uint8)),
        (np.array([0, 3]), np.zeros((1, 101, 101), np.uint8)),
        (np.array([0, 3]), np.full((2, 101, 101), 2, np.uint8)),
        (np.array([0, 3]), halves(2, 101, 101) * np.float16(np.nan)),
    ],
)
def test_labels_of_other_tiles_are_told(
    tmp_path: Path, data: DataSet, rows: NDArray[np.int64], masks: NDArray[np.generic]
) -> None:
    write_array(tmp_path / "rows.npy", rows)
    write_array(tmp_path / "masks.npy", masks)
    with pytest.raises(InputError, match="expected labels of unlabelled tiles, found others"):
        read_pseudo_labels(tmp_path, 0, tiles=data.unlabelled)
