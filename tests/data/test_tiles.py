import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diapir.data.tiles import UNKNOWN, DataSet, TileSet, known_alone, read_data, write_data
from diapir.faults import InputError
from fake_masks import blob_masks

AWKWARD_IDS = ("a", "b,c", 'd"e', "größe 雪", " f", "$g$")


def awkward_data() -> DataSet:
    """Tiles whose names and depths a table could bend."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 9, 7), dtype=np.uint8)
    depths_m = rng.uniform(0, 1e6, 8).astype(np.float32)
    depths_m[3] = np.nan
    masks = np.ascontiguousarray(blob_masks(6)[:, :9, :7])
    labelled = TileSet(AWKWARD_IDS, images[:6], masks, depths_m[:6])
    return DataSet(labelled, TileSet(("y", "z"), images[6:], None, depths_m[6:]), {"source": "awkward"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = awkward_data()
    write_data(data, tmp_path / "out")
    found = read_data(tmp_path / "out")
    assert found.digest == data.digest
    assert found.labelled.ids == data.labelled.ids
    assert np.array_equal(found.labelled.depths_m, data.labelled.depths_m, equal_nan=True)
    assert data.labelled.masks is not None
    assert found.labelled.masks is not None
    assert np.array_equal(found.labelled.masks, data.labelled.masks)


def npy(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(content: bytes) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, a=np.frombuffer(content, np.uint8))
    return packed.getvalue()


def claims_to_be_huge(content: bytes) -> bytes:
    header = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 20, 1 << 20)}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue() + content[-100:]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("labelled-images.npy", lambda content: b""),
        ("labelled-images.npy", lambda content: content[:-1]),
        ("labelled-images.npy", lambda content: b"text"),
        ("labelled-images.npy", npz),
        ("labelled-images.npy", claims_to_be_huge),
        ("labelled-images.npy", lambda content: content.replace(b"}", b"\x7f", 1)),
        ("labelled-images.npy", lambda content: npy(np.zeros((6, 9, 7)))),
        ("labelled-images.npy", lambda content: npy(np.zeros((5, 9, 7), np.uint8))),
        ("labelled-masks.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        ("labelled-masks.npy", lambda content: content[:-63] + bytes([content[-63] * 7]) + content[-62:]),
        ("tiles.csv", lambda content: b""),
        ("tiles.csv", lambda content: content.replace(b"labelled", b"unknown")),
        ("tiles.csv", lambda content: content.replace(b"y,", b"x,")),
        ("tiles.csv", lambda content: content.replace(b"y,", b"y" * 200_000 + b",")),
        ("record.json", lambda content: b"[]"),
        ("record.json", lambda content: b"{"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    data = awkward_data()
    assert data.labelled.masks is not None
    data.labelled.masks[-1, 0, 0] = 1  # the byte that is made a 7
    write_data(data, tmp_path)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(InputError, match=r"prepare the data again|expected JSON") as error:
        read_data(tmp_path)
    assert error.value.faults[0].where.startswith(str(tmp_path))


def placed_data() -> DataSet:
    """Tiles of a survey, of some of whose pixels nothing is known."""
    data = awkward_data()
    assert data.labelled.masks is not None
    masks = data.labelled.masks.copy()
    masks[1:4, 2:, 3:] = UNKNOWN
    places = np.arange(32, dtype=np.int64).reshape(8, 4)
    labelled = replace(data.labelled, masks=masks, places=places[:6])
    return replace(data, labelled=labelled, unlabelled=replace(data.unlabelled, places=places[6:]))


def test_places_and_what_is_unknown_are_read_as_they_were_written(tmp_path: Path) -> None:
    data = placed_data()
    write_data(data, tmp_path / "out")
    found = read_data(tmp_path / "out")
    assert found.digest == data.digest
    for one, other in ((found.labelled, data.labelled), (found.unlabelled, data.unlabelled)):
        assert np.array_equal(one.places, other.places)  # type: ignore[arg-type]
    assert np.array_equal(found.labelled.masks, data.labelled.masks)  # type: ignore[arg-type]


def test_places_are_a_part_of_the_identity() -> None:
    data = placed_data()
    assert data.labelled.places is not None
    moved = replace(data, labelled=replace(data.labelled, places=data.labelled.places + 1))
    bare = replace(data, labelled=replace(data.labelled, places=None))
    assert len({data.digest, moved.digest, bare.digest}) == 3


@pytest.mark.parametrize("damage", [b",x\n", b"," + b"9" * 30 + b"\n", b"\n"])
def test_a_damaged_place_is_named(tmp_path: Path, damage: bytes) -> None:
    write_data(placed_data(), tmp_path)
    content = (tmp_path / "tiles.csv").read_bytes()
    (tmp_path / "tiles.csv").write_bytes(content.replace(b",31\n", damage))
    with pytest.raises(InputError, match="prepare the data again"):
        read_data(tmp_path)


def test_chosen_tiles_keep_their_places() -> None:
    tiles = placed_data().labelled
    assert tiles.places is not None
    assert np.array_equal(tiles.take(np.array([4, 1])).places, tiles.places[[4, 1]])  # type: ignore[arg-type]


def test_values_that_nobody_can_judge_become_zero() -> None:
    values = np.full((2, 3, 3), 0.7, np.float16)
    masks = np.array([0, 1, UNKNOWN] * 6, np.uint8).reshape(2, 3, 3)
    found = known_alone(values, masks)
    assert found.dtype == np.float16
    assert (found == np.where(masks == UNKNOWN, np.float16(0), values)).all()
