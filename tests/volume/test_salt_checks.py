from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from diapir.faults import InputError
from diapir.volume.bodies import Strip, find_runs, strip_spans
from diapir.volume.salt_checks import (
    Change,
    Edit,
    apply_edits,
    edge_traces,
    edited_mask,
    find_small,
    read_edits,
    undo_edits,
    write_edits,
)
from diapir.volume.store import Store, read_volume
from fake_salt import write_salt

SHAPE = (13, 9, 12)
Mask = NDArray[np.uint8]


def draw_mask(seed: int, *, share: float) -> Mask:
    return (np.random.default_rng(seed).random(SHAPE) < share).astype(np.uint8)


def find(name: Change, mask: Mask, *, smaller_than: int, live: NDArray[np.bool_] | None = None, size: int = 4) -> Edit:
    live = np.ones(SHAPE[:2], np.bool_) if live is None else live
    inside = mask.astype(np.bool_) & live[:, :, None]
    inside = inside if name == "floating-bits" else ~inside
    strips = [Strip(a, b, find_runs(inside[a:b], inline=a)) for a, b in strip_spans(len(inside), size)]
    return find_small(name, lambda: strips, SHAPE, edge=edge_traces(live), smaller_than=smaller_than)


def slow_edit(name: Change, mask: Mask, *, smaller_than: int, live: NDArray[np.bool_]) -> tuple[Mask, int]:
    """The whole volume at once, piece by piece."""
    inside = mask.astype(np.bool_) & live[:, :, None]
    inside = inside if name == "floating-bits" else ~inside
    labels, count = ndimage.label(inside, structure=None if name == "floating-bits" else np.ones((3, 3, 3)))
    outside = np.pad(np.broadcast_to(live[:, :, None], SHAPE), 1)
    border = ~ndimage.binary_erosion(outside)[1:-1, 1:-1, 1:-1]
    edited, num = mask.copy(), 0
    for number in range(1, count + 1):
        piece = labels == number
        if piece.sum() < smaller_than and not border[piece].any():
            edited[piece] = name == "holes"
            num += 1
    return edited, num


@pytest.mark.parametrize(("name", "share"), [("floating-bits", 0.12), ("holes", 0.9)])
@pytest.mark.parametrize("smaller_than", [1, 2, 4, 1000])
def test_small_pieces_are_those_of_the_whole_volume(name: Change, share: float, smaller_than: int) -> None:
    live = np.ones(SHAPE[:2], np.bool_)
    live[4:6, 3] = False
    for seed in range(4):
        mask = draw_mask(seed, share=share)
        edit = find(name, mask, smaller_than=smaller_than, live=live)
        expected, num = slow_edit(name, mask, smaller_than=smaller_than, live=live)
        np.testing.assert_array_equal(apply_edits(mask, [edit]), expected)
        assert edit.num_pieces == num
        assert edit.num_voxels == (mask != expected).sum()
        assert (num > 0) == (smaller_than > 1)


def test_a_bit_at_the_border_or_the_bottom_stays() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[5, 5, 5] = mask[0, 4, 4] = mask[4, 0, 4] = mask[2, 2, 0] = mask[7, 7, -1] = 1
    assert find("floating-bits", mask, smaller_than=5).num_voxels == 1


def test_a_hole_that_only_corners_open_is_open() -> None:
    mask = np.ones(SHAPE, np.uint8)
    mask[5, 5, 5] = 0
    assert find("holes", mask, smaller_than=5).num_voxels == 1
    for step in range(1, 6):
        mask[5 + step, 5 - step, 5] = 0
    assert find("holes", mask, smaller_than=50).num_voxels == 0


def both_edits(mask: Mask) -> list[Edit]:
    bits = find("floating-bits", mask, smaller_than=50)
    return [bits, find("holes", apply_edits(mask, [bits]), smaller_than=50)]


def draw_bodies() -> Mask:
    """A body with holes, of which one holds a bit, and bits around it."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 2:8, 2:9] = 1
    mask[3:8, 3:6, 3:6] = 0
    mask[5, 4, 4] = 1
    mask[4, 6, 7] = 0
    mask[11, 7, 10] = 1
    return mask


@pytest.mark.parametrize("case", ["bodies", "noise"])
def test_undone_edits_give_the_same_bytes(case: str) -> None:
    mask = draw_bodies() if case == "bodies" else draw_mask(3, share=0.5)
    edits = both_edits(mask)
    edited = apply_edits(mask, edits)
    assert edited.tobytes() != mask.tobytes()
    assert undo_edits(edited, edits).tobytes() == mask.tobytes()


def test_a_bit_in_a_hole_goes_before_the_hole_is_filled() -> None:
    bits, holes = both_edits(draw_bodies())
    assert (bits.num_pieces, bits.num_voxels) == (2, 2)
    assert (holes.num_pieces, holes.num_voxels) == (2, 5 * 3 * 3 + 1)
    edited = apply_edits(draw_bodies(), [bits, holes])
    assert edited.sum() == 8 * 6 * 7


def test_blocks_are_edited_as_the_whole_is() -> None:
    mask = draw_mask(5, share=0.5)
    edits = both_edits(mask)
    whole = apply_edits(mask, edits)
    for a, b in strip_spans(SHAPE[0], 5):
        for c, d in strip_spans(SHAPE[1], 4):
            np.testing.assert_array_equal(apply_edits(mask[a:b, c:d], edits, inline=a, crossline=c), whole[a:b, c:d])


def test_a_mask_of_another_store_is_refused() -> None:
    mask = draw_bodies()
    edits = both_edits(mask)
    with pytest.raises(InputError, match="expected the mask that the edits floating-bits belong to"):
        apply_edits(np.zeros_like(mask), edits)
    with pytest.raises(InputError, match="expected the mask that the edits holes belong to"):
        undo_edits(mask, edits)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_salt(tmp_path / "salt.zarr", draw_bodies().astype(np.float32))


def test_files_keep_edits_and_the_store_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    edits = both_edits(draw_bodies())
    write_edits(tmp_path, edits, store.grid)
    found = read_edits(tmp_path, store.grid)
    assert [edit.name for edit in found] == ["floating-bits", "holes"]
    for edit, other in zip(edits, found, strict=True):
        np.testing.assert_array_equal(np.stack([*edit.runs, edit.piece]), np.stack([*other.runs, other.piece]))
    edited = edited_mask(store, found)
    np.testing.assert_array_equal(edited, apply_edits(draw_bodies(), edits))
    assert read_volume(store, "mask").tobytes() == undo_edits(edited, found).tobytes() == draw_bodies().tobytes()
    window = edited_mask(store, found, inlines=slice(3, 9), crosslines=slice(2, 7))
    np.testing.assert_array_equal(window, edited[3:9, 2:7])


def test_edits_that_found_nothing_are_kept_too(store: Store, tmp_path: Path) -> None:
    write_edits(tmp_path, [find("holes", np.zeros(SHAPE, np.uint8), smaller_than=3)], store.grid)
    (edit,) = read_edits(tmp_path, store.grid)
    assert (edit.name, edit.num_pieces, edit.num_voxels) == ("holes", 0, 0)


HEADER = "piece,inline,crossline,first_sample,num_samples\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n",
        HEADER + "1,100,300,2\n",
        HEADER + "1,100,300,2,x\n",
        HEADER + "0,100,300,2,1\n",
        HEADER + "1,98,300,2,1\n",
        HEADER + "1,100,309,2,1\n",
        HEADER + "1,100,300,2,11\n",
        HEADER + "1,100,300,2,0\n",
        HEADER + "1,100,300,-1,3\n",
        HEADER + "1,102,300,2,1\n1,100,300,2,1\n",
        HEADER + "1,100,300,2,3\n1,100,300,4,1\n",
        HEADER + "1,99999999999999999999999,300,2,1\n",
    ],
)
def test_files_that_are_no_edits_are_refused(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / "holes.csv").write_text(text)
    with pytest.raises(InputError, match=r"holes\.csv: expected lines of piece,inline"):
        read_edits(tmp_path, store.grid)
