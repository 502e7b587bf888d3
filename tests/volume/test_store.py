"""A store gives back what was put into it, and says which file of it is missing or damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.volume.store import (
    STRIP,
    Store,
    cut_of,
    new_store,
    open_store,
    open_unfinished,
    read_array,
    read_map,
    read_volume,
    strip_cut,
)
from fake_stores import fake_store, grid_of

SHAPE = (70, 90, 1100)


@pytest.fixture(scope="module")
def amplitude() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def store(amplitude: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fake_store(tmp_path_factory.mktemp("stores") / "survey.zarr", {"amplitude": amplitude})


@pytest.fixture
def small(tmp_path: Path) -> Store:
    rng = np.random.default_rng(1)
    return fake_store(tmp_path / "small.zarr", {"amplitude": rng.normal(size=(80, 20, 30)).astype(np.float32)})


@pytest.mark.parametrize(
    ("inlines", "crosslines"),
    [
        (slice(None), slice(7, 8)),
        (slice(33, 34), slice(None)),
        (slice(0, 16), slice(64, 90)),
        (slice(69, 99), slice(89, 90)),
    ],
)
def test_sections_and_blocks_come_back_as_they_were(
    store: Store, amplitude: NDArray[np.float32], inlines: slice, crosslines: slice
) -> None:
    found = read_volume(store, "amplitude", inlines=inlines, crosslines=crosslines)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, amplitude[inlines, crosslines])


def test_axes_and_maps_have_their_numbers(store: Store) -> None:
    assert store.grid == grid_of(SHAPE)
    np.testing.assert_array_equal(read_array(store, "inline"), np.arange(100, 170))
    np.testing.assert_array_equal(read_array(store, "crossline"), np.arange(300, 480, 2))
    np.testing.assert_array_equal(read_array(store, "sample"), 4.0 * np.arange(1100))
    np.testing.assert_array_equal(read_map(store, "x"), np.broadcast_to(25.0 * np.arange(70)[:, None], SHAPE[:2]))


def test_the_layout_is_what_other_readers_of_zarr_expect(store: Store) -> None:
    told = json.loads((store.path / "amplitude" / "zarr.json").read_text())
    assert told["zarr_format"] == 3
    assert told["dimension_names"] == ["inline", "crossline", "sample"]
    assert json.loads((store.path / "sample" / "zarr.json").read_text())["attributes"] == {"units": "ms"}


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5000, 20), (1000, 1000, 2000), (400, 400, 32767)])
def test_no_block_needs_much_memory(shape: tuple[int, ...]) -> None:
    chunk, shard = cut_of(shape)
    assert chunk[:2] == tuple(min(side, STRIP) for side in shape[:2])
    assert all(large % small == 0 for large, small in zip(shard, chunk, strict=True))
    is_smallest = max(shard[:2]) <= STRIP
    assert shard[0] * shard[1] * shape[2] * 4 <= 64 << 20 or is_smallest
    for along in ("inline", "crossline"):
        chunk, shard = strip_cut(shape, along=along)
        across = 0 if along == "inline" else 1
        assert shard[across] == min(shape[across], STRIP)
        assert all(large % small == 0 for large, small in zip(shard, chunk, strict=True))


@pytest.mark.parametrize("shape", [(1, 200, 30), (200, 1, 30), (1, 64, 1100), (3, 5, 7)])
def test_a_line_takes_little_more_room_than_its_samples(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    store = fake_store(tmp_path / "line.zarr", {"amplitude": values})
    np.testing.assert_array_equal(read_volume(store, "amplitude"), values)
    size = sum(file.stat().st_size for file in (store.path / "amplitude" / "c").rglob("*") if file.is_file())
    assert size < 1.4 * values.nbytes


def test_every_file_that_is_missing_is_named(small: Store) -> None:
    files = sorted((small.path / "amplitude" / "c").rglob("*"))
    files = [file for file in files if file.is_file()]
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(InputError, match=str(file)):
            open_store(small.path)
        with pytest.raises(InputError, match=str(file)):
            read_volume(small, "amplitude")
        file.write_bytes(content)
    (small.path / "live" / "c" / "0" / "0").unlink()
    with pytest.raises(InputError, match="live/c/0/0"):
        open_store(small.path)


def test_a_flipped_bit_anywhere_in_a_chunk_is_noticed(small: Store) -> None:
    file = small.path / "amplitude" / "c" / "0" / "0" / "0"
    content = file.read_bytes()
    # The last 16 bytes of a chunk's index stand for places beyond the volume.
    for place in np.random.default_rng(2).integers(0, 8 * 16 * 16 * 30 * 4, 40):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="not those that were written"):
            read_volume(small, "amplitude")
    for size in (0, 3, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(InputError, match="not those that were written"):
            read_volume(small, "amplitude")
    file.write_bytes(content)
    read_volume(small, "amplitude")


def edited(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda own: own.update(version=99), "expected version 1"),
        (lambda own: own.update(format="other"), "another kind of Zarr group"),
        (lambda own: own["facts"].update(finished=False), "was not finished"),
        (lambda own: own.update(facts=3), "expected facts"),
        (lambda own: own["grid"]["inlines"].update(count=10**9), "expected a float32|none that a survey has"),
        (lambda own: own["grid"]["inlines"].update(count=81), r"expected float32 \(81, 20, 30\)"),
        (lambda own: own["grid"]["inlines"].update(count=-1), "none that a survey has"),
        (lambda own: own["grid"]["inlines"].update(step=0), "none that a survey has"),
        (lambda own: own["grid"].update(interval=0), "none that a survey has"),
        (lambda own: own["grid"].update(interval=10**400), "expected inlines, crosslines and samples"),
        (lambda own: own["grid"]["inlines"].update(first=2**70), "none that a survey has"),
        (lambda own: own["grid"]["crosslines"].update(step=2**70), "none that a survey has"),
        (lambda own: own["grid"].update(unit="furlong"), "none that a survey has"),
        (lambda own: own["grid"].update(num_samples="many"), "expected inlines, crosslines and samples"),
        (lambda own: own["grid"].pop("crosslines"), "expected inlines, crosslines and samples"),
    ],
)
def test_attributes_that_lie_are_refused(small: Store, edit: Callable[[dict[str, Any]], object], fault: str) -> None:
    edited(small.path / "zarr.json", lambda raw: edit(raw["attributes"]["diapir"]))
    with pytest.raises(InputError, match=fault):
        open_store(small.path)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda raw: raw.update(shape=[80, 20, 10**12]), "expected float32"),
        (lambda raw: raw.update(data_type="float64"), "expected float32"),
        (lambda raw: raw.update(data_type="object"), "expected an array"),
        (
            lambda raw: raw["chunk_grid"]["configuration"].update(chunk_shape=[16 * 10**5, 16 * 10**5, 3 * 10**6]),
            "its chunks are none",
        ),
        (lambda raw: raw.update(node_type="group"), "expected an array"),
        (lambda raw: raw.clear(), "expected an array"),
    ],
)
def test_an_array_that_does_not_fit_the_grid_is_refused(
    small: Store, edit: Callable[[dict[str, Any]], object], fault: str
) -> None:
    edited(small.path / "amplitude" / "zarr.json", edit)
    with pytest.raises(InputError, match=fault):
        open_store(small.path)


def test_what_is_no_store_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "zarr.json").write_text("{")
    for name in ("absent", "empty", "file", "torn"):
        with pytest.raises(InputError, match="expected a store"):
            open_store(tmp_path / name)


def test_a_store_is_whole_only_when_it_was_finished(tmp_path: Path) -> None:
    new_store(tmp_path / "new.zarr", grid_of((3, 4, 5)), {"finished": False})
    assert open_unfinished(tmp_path / "new.zarr").grid == grid_of((3, 4, 5))
    with pytest.raises(InputError, match="was not finished"):
        open_store(tmp_path / "new.zarr")


def test_a_store_says_what_it_is_from_its_first_file_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diapir.volume.store.put_array", killed)
    monkeypatch.setattr("zarr.Group.update_attributes", killed)
    with pytest.raises(KeyboardInterrupt):
        new_store(tmp_path / "new.zarr", grid_of((3, 4, 5)), {"finished": False})
    assert open_unfinished(tmp_path / "new.zarr").grid == grid_of((3, 4, 5))


def test_a_volume_that_is_not_there_is_told_with_those_that_are(small: Store) -> None:
    with pytest.raises(InputError, match="expected a volume mask, found amplitude"):
        read_volume(small, "mask")
