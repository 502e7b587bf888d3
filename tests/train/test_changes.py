"""What each change of a group does to tiles, against plain statements of it."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diapir.recipe.training import Augment
from diapir.train.augment import apply_changes
from diapir.train.draws import Draws, draw_changes

SIDE = 20
PAD_MODES: dict[str, Any] = {"mirror": "symmetric", "reflect": "reflect", "zero": "constant"}
borders = pytest.mark.parametrize("border", PAD_MODES)


def batch(count: int = 6, side: int = SIDE) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, side, side), generator=rng) / 255
    return images, (torch.rand(count, side, side, generator=rng) < 0.4).float()


def draw(
    *changes: dict[str, Any], count: int = 6, side: int = SIDE, flip: float = 0.0, border: str = "mirror"
) -> Draws:
    section = Augment.model_validate({"flip": flip, "border": border, "changes": changes})
    return draw_changes(count, section, height=side, width=side, rng=torch.Generator().manual_seed(7))


def sources(draws: Draws, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Row and column, in pixels, that each output pixel comes from (n, side, side); right where the border is far."""
    ramp = torch.arange(side) / side
    count = len(draws.matrix)
    zero = torch.zeros(count, side, side)
    rows, _ = apply_changes(ramp[:, None].expand(count, side, side), zero, draws)
    columns, _ = apply_changes(ramp.expand(count, side, side), zero, draws)
    return rows * side, columns * side


IDENTITIES: list[dict[str, Any]] = [
    {"shift": 0, "scale": 0, "rotation_deg": 0, "shear": 0},
    {"add": 0, "multiply": 0, "contrast": 0, "gamma": 0},
    {"window": 1.0},
    {"chance": 0, "pick": "each", "crop": 0.3, "grid": 0.3, "invert": True, "blur": True, "cutout_px": 9, "shift": 0.3},
]


@borders
@pytest.mark.parametrize("change", IDENTITIES, ids=lambda change: next(reversed(change)))
def test_ranges_or_chances_of_nothing_leave_every_byte_alone(change: dict[str, Any], border: str) -> None:
    images, masks = batch()
    found = apply_changes(images, masks, draw(change, border=border))
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], masks)


def test_a_flip_with_groups_that_do_nothing_is_an_exact_flip() -> None:
    images, masks = batch()
    for change in ({"shift": 0}, {"window": 1.0}, {"add": 0}):
        found = apply_changes(images, masks, draw(change, flip=1.0))
        assert torch.equal(found[0], images.flip(-1))
        assert torch.equal(found[1], masks.flip(-1))


# What moves.


@borders
@pytest.mark.parametrize(("down", "right"), [(0, 4), (3, 3), (0, -5)])
def test_a_shift_goes_right_and_down_and_the_border_fills_what_it_leaves(border: str, down: int, right: int) -> None:
    images, masks = batch()
    draws = draw({"shift": [right / SIDE, right / SIDE]}, border=border)
    draws = replace(draws, matrix=draws.matrix.clone())
    draws.matrix[:, 1, 2] = -2 * down / SIDE
    found = apply_changes(images, masks, draws)
    for before, after in zip((images, masks), found, strict=True):
        padded = np.pad(before.numpy(), ((0, 0), (9, 9), (9, 9)), mode=PAD_MODES[border])
        expected = padded[:, 9 - down : 9 - down + SIDE, 9 - right : 9 - right + SIDE]
        np.testing.assert_allclose(after.numpy(), expected, atol=2e-5)


@borders
def test_a_right_angle_turns_clockwise_and_back(border: str) -> None:
    images, masks = batch()
    found = apply_changes(images, masks, draw({"rotation_deg": [90, 90]}, border=border))
    for before, after in zip((images, masks), found, strict=True):
        torch.testing.assert_close(after, before.rot90(-1, (1, 2)), atol=2e-5, rtol=0)
    back = apply_changes(*found, draw({"rotation_deg": [-90, -90]}, border=border))
    torch.testing.assert_close(back[0], images, atol=4e-5, rtol=0)


def test_a_scale_is_of_size_about_the_centre_and_a_shift_with_it_is_of_what_is_seen() -> None:
    side, factor, share = 40, 1.5, 0.1
    rows, columns = sources(draw({"scale": [factor, factor], "shift": [share, share]}, side=side), side)
    centre, place = (side - 1) / 2, torch.arange(side)
    expected = centre + (place - centre - share * side) / factor
    inner = slice(8, -8)
    torch.testing.assert_close(columns[0, 20, inner], expected[inner], atol=1e-3, rtol=0)
    torch.testing.assert_close(rows[0, inner, 20], expected[inner], atol=1e-3, rtol=0)


def test_a_shear_moves_the_top_edge_right_and_the_bottom_edge_left() -> None:
    side, share = 40, 0.07
    rows, columns = sources(draw({"shear": [share, share]}, side=side), side)
    place = torch.arange(side)
    from_top = (place + 0.5) / side  # 0 at the top edge, 1 at the bottom
    moved = share * side * (1 - 2 * from_top)
    inner = slice(8, -8)
    expected = place[None, inner] - moved[:, None]
    torch.testing.assert_close(columns[0, :, inner], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(rows[0, 1:-1], place[1:-1, None].expand(side - 2, side).float(), atol=1e-3, rtol=0)


def test_a_small_rotation_turns_every_place_about_the_centre() -> None:
    side = 40
    rows, columns = sources(draw({"rotation_deg": [10, 10]}, side=side), side)
    cos, sin, centre = math.cos(math.radians(10)), math.sin(math.radians(10)), (side - 1) / 2
    for row, column in ((10, 10), (25, 12), (20, 28)):
        across, down = column - centre, row - centre
        # What is seen here was, before a clockwise turn, an angle further back.
        assert columns[0, row, column] == pytest.approx(centre + across * cos + down * sin, abs=1e-3)
        assert rows[0, row, column] == pytest.approx(centre - across * sin + down * cos, abs=1e-3)


@pytest.mark.parametrize("change", [{"crop": 0.3}, {"window": 0.6}], ids=["crop", "window"])
def test_a_crop_shows_a_part_of_the_tile_at_full_size(change: dict[str, Any]) -> None:
    side = 40
    draws = draw(change, side=side)
    assert draws.crop is not None
    rows, columns = sources(draws, side)
    half, centre = draws.crop.diagonal(dim1=1, dim2=2), draws.crop[:, :, 2]
    place = (torch.arange(side) + 0.5) / side  # along the output, 0 to 1
    for found, axis in ((columns[:, 20], 0), (rows[:, :, 20], 1)):
        first = (1 + centre - half)[:, axis] / 2 * side
        expected = first[:, None] + place * (half[:, axis] * side)[:, None] - 0.5
        torch.testing.assert_close(found[:, 1:-1], expected[:, 1:-1].clamp(0, side - 1), atol=1e-3, rtol=0)


def test_a_grid_moves_whole_rows_and_columns() -> None:
    side = 60
    draws = draw({"grid": 0.15}, side=side)
    assert draws.stretch is not None
    rows, columns = sources(draws, side)
    inner = slice(4, -14)
    assert columns[:, :, inner].std(1).max() < 1e-3
    assert rows[:, inner].std(2).max() < 1e-3
    place = torch.arange(side)
    torch.testing.assert_close(columns[:, 30, inner], (place + draws.stretch[:, 0])[:, inner], atol=1e-3, rtol=0)
    torch.testing.assert_close(rows[:, inner, 30], (place + draws.stretch[:, 1])[:, inner], atol=1e-3, rtol=0)


def smooth_batch(side: int) -> tuple[Tensor, Tensor]:
    down, along = torch.meshgrid(torch.linspace(0, 3, side), torch.linspace(0, 2, side), indexing="ij")
    image = 0.5 + 0.4 * torch.sin(down + 2 * along)
    return image.expand(6, side, side), (image > 0.6).float().expand(6, side, side)


@borders
def test_the_border_of_a_turned_crop_is_that_of_the_crop(border: str) -> None:
    side = 60
    draws = draw({"crop": 0.2}, {"rotation_deg": 25, "shift": 0.1}, side=side, flip=0.5, border=border)
    still = torch.eye(2, 3).expand(6, 2, 3)
    images, masks = smooth_batch(side)
    at_once = apply_changes(images, masks, draws)
    cropped = apply_changes(images, masks, replace(draws, matrix=still))
    one_by_one = apply_changes(*cropped, replace(draws, crop=None))
    difference = (at_once[0] - one_by_one[0]).abs()
    assert (difference > 0.02).float().mean() < (0.03 if border == "zero" else 0.001)  # the rim of what is black
    assert (at_once[1] != one_by_one[1]).float().mean() < 0.02


def test_image_and_mask_move_together() -> None:
    change = {"crop": 0.2, "shear": 0.1, "rotation_deg": 20, "scale": 0.3, "shift": 0.2, "grid": 0.2}
    _, masks = batch(side=41)
    for border in PAD_MODES:
        images, moved = apply_changes(masks, masks, draw(change, side=41, flip=0.5, border=border))
        assert not torch.equal(moved, masks)
        assert torch.equal((images > 0.5).float(), moved)


# Grey values.

TONES: dict[str, tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = {
    "add": ({"add": [0.2, 0.2]}, lambda x: (x + 0.2).clamp(0, 1)),
    "multiply": ({"multiply": [1.5, 1.5]}, lambda x: (x * 1.5).clamp(0, 1)),
    "add, then multiply": ({"add": [-0.1, -0.1], "multiply": [0.9, 0.9]}, lambda x: ((x - 0.1) * 0.9).clamp(0, 1)),
    "contrast": ({"contrast": [0.5, 0.5]}, lambda x: (x + x.mean()) / 2),
    "gamma": ({"gamma": [1.25, 1.25]}, lambda x: x**1.25),
    "invert": ({"invert": True}, lambda x: 1 - x),
    "gamma, then invert": ({"gamma": [2, 2], "invert": True}, lambda x: 1 - x**2),
}


@pytest.mark.parametrize("name", TONES)
def test_a_tone_is_its_formula_on_each_image_and_leaves_masks_alone(name: str) -> None:
    change, formula = TONES[name]
    images, masks = batch()
    found, found_masks = apply_changes(images, masks, draw(change))
    torch.testing.assert_close(found, torch.stack([formula(image) for image in images]))
    assert torch.equal(found_masks, masks)


def test_a_blur_is_the_mean_of_nine_pixels() -> None:
    images, masks = batch()
    found, _ = apply_changes(images, masks, draw({"chance": 0.5, "blur": True}))
    changed = (found != images).flatten(1).any(1)
    assert 0 < changed.sum() < 6
    for row, column in ((1, 1), (7, 12), (18, 18)):
        nine = images[changed, row - 1 : row + 2, column - 1 : column + 2].mean((1, 2))
        torch.testing.assert_close(found[changed, row, column], nine)


# Holes.


def plain_hole(row: float, column: float, side: float, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Pixels whose centre lies within a square."""
    hole = np.zeros((size, size), bool)
    for r in range(size):
        for c in range(size):
            hole[r, c] = abs(r + 0.5 - row) <= side / 2 and abs(c + 0.5 - column) <= side / 2
    return hole


@pytest.mark.parametrize("hides", [0.5, 0.25, 1.0])
def test_a_hole_is_filled_with_its_grey_unless_it_hides_too_much_salt(hides: float) -> None:
    count = 60
    images, masks = batch(count)
    masks[:, :, 9:] = 0
    masks[:5] = 0
    draws = draw({"chance": 0.8, "cutout_px": [7, 12], "cutout_grey": 0.449, "cutout_hides": hides}, count=count)
    found, found_masks = apply_changes(images, masks, draws)
    skipped = 0
    for tile in range(count):
        row, column, side = draws.cutout[tile, :3].tolist()
        hole = plain_hole(row, column, side, SIDE)
        salt = masks[tile].numpy() > 0
        too_much = (salt & hole).sum() > hides * salt.sum()
        skipped += bool(too_much)
        expected = np.where(hole & (side > 0) & ~too_much, np.float32(0.449), images[tile].numpy())
        np.testing.assert_array_equal(found[tile].numpy(), expected)
    assert torch.equal(found_masks, masks)
    assert (skipped > 0) == (hides < 1)
    assert (draws.cutout[:5, 2] > 0).any()  # a hole may lie in a tile without salt


def test_a_hole_is_cut_before_the_tile_is_flipped_and_its_grey_changed() -> None:
    images, masks = batch()
    draws = draw({"cutout_px": 8}, {"add": [0.2, 0.2]}, flip=1.0)
    alone = replace(
        draws, matrix=torch.eye(2, 3).expand(6, 2, 3), tone=draws.tone * 0 + torch.tensor([0.0, 1, 1, 0, 1])
    )
    with_hole, _ = apply_changes(images, masks, alone)
    assert (with_hole != images).any()
    found, _ = apply_changes(images, masks, draws)
    torch.testing.assert_close(found, (with_hole.flip(-1) + 0.2).clamp(0, 1))


def test_zero_tiles_are_no_trouble() -> None:
    draws = draw({"crop": 0.1, "shift": 0.1, "grid": 0.1, "add": 0.1, "cutout_px": 5, "blur": True}, count=0)
    images, masks = apply_changes(*batch(0), draws)
    assert images.shape == masks.shape == (0, SIDE, SIDE)
