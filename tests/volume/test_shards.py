"""Shards that are written in one go, held against Zarr."""

import errno
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.volume.line_numbers import Axis
from diapir.volume.shards import put_block
from diapir.volume.store import (
    Grid,
    Shape,
    Store,
    add_volume,
    array_of,
    cut_of,
    finish,
    new_store,
    open_store,
    put_map,
    read_volume,
)

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))


def made(path: Path, shape: tuple[int, int, int]) -> Store:
    return new_store(path, Grid(Axis(1, 1, shape[0]), Axis(1, 1, shape[1]), shape[2], 0.0, 4.0, "ms"), {})


def blocks(shape: Shape, shard: Shape) -> Iterator[tuple[int, int]]:
    return product(range(0, shape[0], shard[0]), range(0, shape[1], shard[1]))


def noise(shape: Shape, kind: str) -> NDArray[np.generic]:
    return (np.random.default_rng(0).standard_normal(shape) * 50).astype(kind)


@settings(max_examples=30)
@given(
    shape=SIDES,
    kind=st.sampled_from(["float32", "float16", "uint8"]),
    is_sharded=st.booleans(),
    depth=st.integers(1, 30),
)
def test_zarr_reads_what_was_put_block_by_block(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], kind: str, is_sharded: bool, depth: int
) -> None:
    store = made(tmp_path_factory.mktemp("a") / "s", shape)
    chunk, shard = (8, 8, depth), (16, 8, depth) if is_sharded else None
    array = add_volume(store, "amplitude", chunk=chunk, shard=shard, kind=kind)
    values = noise(shape, kind)
    steps = shard or chunk
    for first, second in blocks(shape, steps):
        put_block(store, "amplitude", values[first : first + steps[0], second : second + steps[1]], at=(first, second))
    np.testing.assert_array_equal(np.asarray(array[...]), values)


@settings(max_examples=30)
@given(shape=SIDES)
def test_a_file_holds_the_chunks_that_zarr_writes(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int]
) -> None:
    """Chunk by chunk, with checksum; in which order a shard has them is left open by the specification."""
    folder = tmp_path_factory.mktemp("a")
    ours, theirs = made(folder / "ours", shape), made(folder / "theirs", shape)
    values = noise(shape, "float32")
    chunk, shard = (8, 8, 10), (16, 16, 10)
    for store in (ours, theirs):
        add_volume(store, "amplitude", chunk=chunk, shard=shard)
    for first, second in blocks(shape, shard):
        put_block(ours, "amplitude", values[first : first + 16, second : second + 16], at=(first, second))
    array_of(theirs, "amplitude")[...] = values
    files = sorted(
        path.relative_to(theirs.path) for path in (theirs.path / "amplitude" / "c").rglob("*") if path.is_file()
    )
    assert files == sorted(
        path.relative_to(ours.path) for path in (ours.path / "amplitude" / "c").rglob("*") if path.is_file()
    )
    for file in files:
        assert chunks_of(ours.path / file, count=4) == chunks_of(theirs.path / file, count=4)


def chunks_of(path: Path, *, count: int) -> list[bytes]:
    content = path.read_bytes()
    index = np.frombuffer(content[-16 * count - 4 : -4], "<u8").reshape(count, 2)
    return [content[start : start + size] if size < 2**64 - 1 else b"" for start, size in index.tolist()]


def test_a_flipped_bit_is_told(tmp_path: Path) -> None:
    store = made(tmp_path / "s", (20, 20, 12))
    chunk, shard = cut_of((20, 20, 12))
    add_volume(store, "amplitude", chunk=chunk, shard=shard)
    put_block(store, "amplitude", noise((20, 20, 12), "float32"), at=(0, 0))
    finish(store, {})
    file = next(path for path in (store.path / "amplitude" / "c").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="not those that were written"):
        read_volume(store, "amplitude")


def test_numbers_become_those_of_the_volume(tmp_path: Path) -> None:
    store = made(tmp_path / "s", (16, 16, 12))
    array = add_volume(store, "mask", chunk=(16, 16, 12), shard=None)
    put_block(store, "mask", np.ones((16, 16, 12), np.bool_), at=(0, 0))
    found = np.asarray(array[...])
    assert found.dtype == np.uint8
    assert (found == 1).all()


@pytest.mark.parametrize(("at", "size"), [((8, 0), (16, 16)), ((0, 0), (8, 16)), ((0, 16), (16, 8))])
def test_part_of_a_shard_is_never_put(tmp_path: Path, at: tuple[int, int], size: tuple[int, int]) -> None:
    """It would wipe out the rest of it."""
    store = made(tmp_path / "s", (40, 40, 12))
    add_volume(store, "amplitude", chunk=(8, 8, 12), shard=(16, 16, 12))
    with pytest.raises(AssertionError, match="where a shard does"):
        put_block(store, "amplitude", np.zeros((*size, 12), np.float32), at=at)


def test_nothing_but_whole_files_is_left(tmp_path: Path) -> None:
    store = made(tmp_path / "s", (33, 20, 12))
    add_volume(store, "amplitude", chunk=(16, 16, 12), shard=(32, 32, 12))
    put_block(store, "amplitude", noise((32, 20, 12), "float32"), at=(0, 0))
    put_block(store, "amplitude", noise((1, 20, 12), "float32"), at=(32, 0))
    assert not list(store.path.rglob("*.partial"))
    finish(store, {})
    for name in ("live", "x", "y", "trace_row"):
        put_map(store, name, np.ones((33, 20)))
    open_store(store.path)


def test_a_full_disk_is_told_by_the_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(pieces: object, kind: object, *, chunk: object) -> Iterator[NDArray[np.uint8]]:
        yield np.zeros(3, np.uint8)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = made(tmp_path / "s", (16, 8, 5))
    add_volume(store, "mask", chunk=(8, 8, 5), shard=(16, 8, 5), kind="uint8")
    monkeypatch.setattr("diapir.volume.shards._chunks", full)
    with pytest.raises(OSError, match="No space left") as caught:
        put_block(store, "mask", noise((16, 8, 5), "uint8"), at=(0, 0))
    assert caught.value.filename == str(tmp_path / "s" / "mask" / "c" / "0" / "0" / "0")
