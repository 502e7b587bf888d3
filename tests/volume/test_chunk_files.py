"""Lines that are read without Zarr, held against Zarr."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, GzipCodec

from diapir.faults import InputError
from diapir.volume.chunk_files import is_plain, read_block
from diapir.volume.line_numbers import Axis
from diapir.volume.store import DIMENSIONS, Grid, Store, add_volume, array_of, new_store, read_lines

SHAPE = (20, 37, 12)


def made(
    path: Path, values: NDArray[Any], *, chunk: tuple[int, ...] = (8, 8, 12), shard: tuple[int, ...] | None = None
) -> Store:
    """A store whose amplitudes Zarr has written."""
    shape = values.shape
    store = new_store(path, Grid(Axis(1, 1, shape[0]), Axis(1, 1, shape[1]), shape[2], 0.0, 4.0, "ms"), {})
    add_volume(store, "amplitude", chunk=chunk, shard=shard, kind=str(values.dtype))[...] = values
    return store


def noise(shape: tuple[int, ...] = SHAPE, kind: str = "float32") -> NDArray[Any]:
    return (np.random.default_rng(0).standard_normal(shape) * 50).astype(kind)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30)),
    kind=st.sampled_from(["float32", "float16", "uint8"]),
    is_sharded=st.booleans(),
    depth=st.integers(1, 30),
    data=st.data(),
)
def test_what_zarr_wrote_is_read_as_zarr_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    kind: str,
    is_sharded: bool,
    depth: int,
    data: st.DataObject,
) -> None:
    values, chunk = noise(shape, kind), (8, 8, depth)
    store = made(
        tmp_path_factory.mktemp("a") / "s", values, chunk=chunk, shard=(16, 24, 2 * depth) if is_sharded else None
    )
    array = store.group["amplitude"]
    assert isinstance(array, zarr.Array)
    assert is_plain(array)
    starts = [data.draw(st.integers(0, side)) for side in shape[:2]]
    stops = [data.draw(st.integers(start, side + 3)) for start, side in zip(starts, shape[:2], strict=True)]
    block = (slice(starts[0], stops[0]), slice(starts[1], stops[1]))
    found = read_block(store.path / "amplitude", array, block)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.asarray(array[block]))
    np.testing.assert_array_equal(found, values[block])


@pytest.mark.parametrize(
    "settings",
    [
        {"compressors": GzipCodec()},
        {"compressors": None},
        {"compressors": [GzipCodec(), Crc32cCodec()]},
        {"compressors": GzipCodec(), "shards": (16, 16, 12)},
        {"compressors": Crc32cCodec(), "chunk_key_encoding": {"name": "default", "separator": "."}},
        {"compressors": Crc32cCodec(), "serializer": zarr.codecs.BytesCodec(endian="big")},
    ],
)
def test_a_copy_that_is_kept_in_another_way_is_read_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    values = noise()
    store = made(tmp_path / "s", values)
    array = store.group.create_array(
        "amplitude",
        shape=SHAPE,
        dtype="float32",
        chunks=(8, 8, 12),
        dimension_names=DIMENSIONS,
        overwrite=True,
        **settings,
    )
    array[...] = values
    assert not is_plain(array)
    if "chunk_key_encoding" not in settings:  # the check for absent files knows the usual names alone
        np.testing.assert_array_equal(read_lines(store, "amplitude", inlines=slice(3, 9)), values[3:9])


def test_all_that_is_damaged_or_absent_is_named(tmp_path: Path) -> None:
    store = made(tmp_path / "s", noise())
    folder = store.path / "amplitude" / "c"
    (folder / "0" / "1" / "0").unlink()
    (folder / "1" / "0" / "0").write_bytes(b"")
    content = bytearray((folder / "2" / "4" / "0").read_bytes())
    content[-1] ^= 1
    (folder / "2" / "4" / "0").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_lines(store, "amplitude")
    told = {fault.where: fault.what for fault in caught.value.faults}
    assert list(told) == [str(folder / "/".join(key)) for key in ("010", "100", "240")]
    absent, short, flipped = told.values()
    assert absent.startswith("expected a file of chunks")
    assert "not those that were written (expected 3076 bytes, found 0)" in short
    assert "not those that were written (a checksum is another)" in flipped
    sound = read_lines(store, "amplitude", inlines=slice(16), crosslines=slice(16, 30))
    np.testing.assert_array_equal(sound, noise()[:16, 16:30])


def put_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (lambda file: file.write_bytes(file.read_bytes() + b"more"), "expected 3076 bytes, found 3080"),
        (lambda file: (file.unlink(), file.mkdir()), "it is no file of bytes"),
        (put_pipe, "it is no file of bytes"),
        (lambda file: (file.unlink(), file.symlink_to(file)), "expected a file that can be read, found none"),
    ],
)
def test_what_stands_in_place_of_a_file_is_told(tmp_path: Path, put: Callable[[Path], object], told: str) -> None:
    store = made(tmp_path / "s", noise())
    put(store.path / "amplitude" / "c" / "0" / "0" / "0")
    with pytest.raises(InputError, match=f"c/0/0/0: .*{told}"):
        read_block(store.path / "amplitude", array_of(store, "amplitude"), (slice(8), slice(8)))


def test_only_the_first_few_of_many_faults_are_told(tmp_path: Path) -> None:
    store = made(tmp_path / "s", noise())
    shutil.rmtree(store.path / "amplitude" / "c")
    with pytest.raises(InputError) as caught:
        read_lines(store, "amplitude")
    assert len(caught.value.faults) == 5


def test_lines_that_leave_others_out_are_no_block(tmp_path: Path) -> None:
    store = made(tmp_path / "s", noise())
    with pytest.raises(AssertionError, match="one after another"):
        read_lines(store, "amplitude", inlines=slice(0, 20, 2))


def test_a_chunk_that_a_shard_lacks_is_told(tmp_path: Path) -> None:
    values = noise()
    values[:8, :8] = 0
    store = made(tmp_path / "s", np.zeros_like(values), shard=(16, 16, 12))
    with zarr.config.set({"array.write_empty_chunks": False}):
        array_of(store, "amplitude")[...] = values
    with pytest.raises(InputError, match=r"0/0/0: .*one of its chunks is absent"):
        read_lines(store, "amplitude")


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 10), (0, 2**63), (2**64 - 1, 2**64 - 1), (2**63, 3076), (2**40, 3076), (1, 3076)],
)
def test_an_index_that_lies_is_told(tmp_path: Path, offset: int, length: int) -> None:
    store = made(tmp_path / "s", noise(), shard=(16, 16, 12))
    file = store.path / "amplitude" / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    index = np.frombuffer(content[-4 * 16 - 4 : -4], "<u8").copy()
    assert index[1] == 8 * 8 * 12 * 4 + 4 == 3076
    index[:2] = offset, length
    content[-4 * 16 - 4 :] = index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(InputError, match="0/0/0: its bytes are not those that were written"):
        read_lines(store, "amplitude")
    np.testing.assert_array_equal(read_lines(store, "amplitude", inlines=slice(8, 20)), noise()[8:20])
