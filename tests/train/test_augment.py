import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diapir.recipe.training import Augment
from diapir.train.augment import apply_changes
from diapir.train.draws import Draws, draw_changes

SIDE = 21
EVERYTHING = Augment(
    flip=0.5, geometry=0.5, shift=0.2, scale=0.3, rotation_deg=20, shear=0.2, crop=0.3, elastic=0.3, elastic_px=3,
    tone=0.5, brightness=0.3, contrast=0.4, gamma=0.4, invert=0.3, blur=0.3, noise=0.2, cutout=0.3, cutout_px=7,
)  # fmt: skip
NOTHING = Augment(flip=0)


def batch(count: int = 12, side: int = SIDE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images in 0..1 with values as bytes give, and masks of 0 and 1."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, side, side), generator=rng) / 255
    return images, (torch.rand(count, side, side, generator=rng) < 0.3).float()


def draw(section: Augment, count: int = 12, *, side: int = SIDE, seed: int = 0) -> Draws:
    return draw_changes(count, section, height=side, width=side, rng=torch.Generator().manual_seed(seed))


def change(section: Augment, *, side: int = SIDE, count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    return apply_changes(*batch(count, side), draw(section, count, side=side, seed=seed))


def moved_by(matrix: list[list[float]], images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Images and masks after one known affine change of them all."""
    count = len(images)
    draws = draw(NOTHING, count, side=images.shape[-1])
    return apply_changes(
        images, masks, replace(draws, matrix=torch.tensor(matrix, dtype=torch.float32).expand(count, 2, 3))
    )


def dots(side: int, *places: tuple[int, int]) -> Tensor:
    """One black tile with white pixels."""
    image = torch.zeros(1, side, side)
    for row, column in places:
        image[0, row, column] = 1
    return image


def test_nothing_asked_leaves_every_byte_alone() -> None:
    images, masks = batch()
    found = apply_changes(images, masks, draw(NOTHING))
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], masks)


@pytest.mark.parametrize("seed", range(3))
def test_ranges_of_zero_change_nothing_whatever_their_chance(seed: int) -> None:
    section = Augment(flip=0, geometry=1, crop=1, crop_share=0, elastic=1, elastic_px=0, tone=1)
    images, masks = batch()
    found = apply_changes(images, masks, draw(section, seed=seed))
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], masks)


def test_chances_of_zero_change_nothing_whatever_their_range() -> None:
    section = EVERYTHING.model_copy(
        update=dict.fromkeys(["flip", "geometry", "crop", "elastic", "tone", "invert", "blur", "cutout"], 0.0)
    )
    images, masks = batch()
    found = apply_changes(images, masks, draw(section))
    assert torch.equal(found[0], images)
    assert torch.equal(found[1], masks)


def test_flips_are_exact_copies_and_as_frequent_as_asked() -> None:
    images, masks = batch(400, 5)
    found, found_masks = apply_changes(images, masks, draw(Augment(flip=0.25), 400, side=5))
    flipped = (found != images).flatten(1).any(1)
    assert torch.equal(found, torch.where(flipped[:, None, None], images.flip(-1), images))
    assert torch.equal(found_masks, torch.where(flipped[:, None, None], masks.flip(-1), masks))
    assert 0.18 < flipped.float().mean() < 0.32


def test_what_came_in_is_left_alone() -> None:
    images, masks = batch()
    before = images.clone(), masks.clone()
    apply_changes(images, masks, draw(EVERYTHING))
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    one, again, other = change(EVERYTHING), change(EVERYTHING), change(EVERYTHING, seed=1)
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9), st.lists(st.integers(0, 11), max_size=4))
def test_a_batch_in_parts_is_the_batch_however_it_is_cut(seed: int, cuts: list[int]) -> None:
    images, masks = batch()
    draws = draw(EVERYTHING, seed=seed)
    whole = apply_changes(images, masks, draws)
    bounds = [0, *sorted(cuts), len(images)]
    parts = [
        apply_changes(images[low:high], masks[low:high], draws.part(slice(low, high))) for low, high in pairwise(bounds)
    ]
    assert torch.equal(torch.cat([part[0] for part in parts]), whole[0])
    assert torch.equal(torch.cat([part[1] for part in parts]), whole[1])


@pytest.mark.parametrize("seed", range(10))
def test_images_stay_within_0_and_1_and_masks_are_0_or_1(seed: int) -> None:
    images, masks = change(EVERYTHING, count=40, seed=seed)
    assert images.min() >= 0
    assert images.max() <= 1
    assert ((masks == 0) | (masks == 1)).all()


def test_soft_masks_stay_soft_and_move_as_their_images_do() -> None:
    images, _ = batch()
    draws = replace(draw(Augment(flip=0.5, geometry=1.0, rotation_deg=20)), tone=draw(NOTHING).tone)
    moved, soft = apply_changes(images, images, draws, is_soft=True)
    assert torch.equal(soft, moved)
    assert ((soft > 0) & (soft < 1)).any()
    assert torch.equal(apply_changes(images, images, draws)[1], (soft > 0.5).float())


def test_white_stays_white_and_black_black_however_they_are_moved() -> None:
    section = Augment(geometry=1, shift=0.3, scale=0.4, rotation_deg=40, shear=0.3, crop=1, elastic=1)
    for value in (0.0, 1.0):
        tiles = torch.full((30, SIDE, SIDE), value)
        images, masks = apply_changes(tiles, tiles, draw(section, 30))
        torch.testing.assert_close(images, tiles)
        assert images.max() <= 1
        assert torch.equal(masks, tiles)


def test_image_and_mask_move_together() -> None:
    _, masks = batch(side=41)
    section = Augment(geometry=1, shift=0.2, scale=0.3, rotation_deg=30, shear=0.2, crop=0.5, elastic=0.5)
    images, moved = apply_changes(masks, masks, draw(section, side=41))
    assert not torch.equal(images, masks)
    assert torch.equal((images > 0.5).float(), moved)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -4), (2, 5)])
def test_a_known_shift_moves_a_pixel_to_where_it_should_be(down: int, right: int) -> None:
    # The matrix says where each output pixel comes from, so content moves against it; one pixel is 2 / side.
    matrix = [[1, 0, -2 * right / SIDE], [0, 1, -2 * down / SIDE]]
    found, mask = moved_by(matrix, dots(SIDE, (10, 10)), dots(SIDE, (10, 10)))
    torch.testing.assert_close(found, dots(SIDE, (10 + down, 10 + right)), atol=1e-5, rtol=0)
    assert torch.equal(mask, dots(SIDE, (10 + down, 10 + right)))


def test_beyond_the_border_the_tile_is_reflected() -> None:
    images, masks = batch(1)
    found, _ = moved_by([[1, 0, 0], [0, 1, -2 * 3 / SIDE]], images, masks)
    torch.testing.assert_close(found[:, 3:], images[:, :-3], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, :3], images[:, :3].flip(1), atol=1e-5, rtol=0)


def matrices(count: int = 2000, **settings: float) -> Tensor:
    section = Augment.model_validate({"flip": 0, "geometry": 1, **settings})
    return draw(section, count).matrix


def test_shifts_reach_their_share_of_the_side_and_no_further() -> None:
    shift_px = matrices(shift=0.125)[:, :, 2] * SIDE / 2
    assert shift_px.abs().max() <= 0.125 * SIDE
    assert shift_px.abs().amax(0).min() > 0.12 * SIDE
    assert shift_px.mean(0).abs().max() < 0.01 * SIDE


def test_rotations_are_rotations_up_to_their_limit() -> None:
    linear = matrices(rotation_deg=20)[:, :, :2]
    torch.testing.assert_close(linear @ linear.mT, torch.eye(2).expand(2000, 2, 2))
    angle_deg = torch.atan2(linear[:, 1, 0], linear[:, 0, 0]).rad2deg()
    assert 19.5 < angle_deg.abs().max() <= 20.001
    quarter, _ = moved_by([[0, -1, 0], [1, 0, 0]], images := batch(1)[0], images)
    torch.testing.assert_close(quarter, images.rot90(1, (1, 2)), atol=1e-5, rtol=0)


def test_scales_change_the_size_up_to_their_limit() -> None:
    linear = matrices(scale=0.25)[:, :, :2]
    size = 1 / linear[:, 0, 0]
    assert torch.equal(linear, torch.eye(2) * linear[:, :1, :1])
    assert 0.75 <= size.min() < 0.76
    assert 1.24 < size.max() <= 1.25


def test_shear_moves_the_top_and_bottom_edges_apart_by_up_to_its_share_each() -> None:
    linear = matrices(shear=0.07)[:, :, :2]
    edge = linear[:, 0, 1] * SIDE / 2  # pixels, at the top and bottom edge
    assert 0.069 * SIDE < edge.abs().max() <= 0.0701 * SIDE
    assert torch.equal(linear[:, [0, 1], [0, 1]], torch.ones(2000, 2))
    assert not linear[:, 1, 0].any()


def test_crops_keep_a_part_of_the_tile_that_lies_within_it() -> None:
    section = Augment(flip=0, crop=1, crop_share=0.2)
    matrix = draw(section, 4000).matrix
    half, centre = matrix[:, [0, 1], [0, 1]], matrix[:, :, 2]
    first, last = centre - half, centre + half
    assert (first >= -1 - 1e-6).all()
    assert (last <= 1 + 1e-6).all()
    for off in ((first + 1) / 2, (1 - last) / 2):  # shares of the side that are cut off
        assert off.min() < 0.005
        assert 0.195 < off.max() <= 0.2 + 1e-6
    assert not matrix[:, 0, 1].any()


def test_a_crop_shows_its_part_at_full_size() -> None:
    ramp = (torch.arange(20) / 20).expand(1, 20, 20)
    # Half of the side, from a quarter on: places 5 to 15 of the axis.
    found, _ = moved_by([[0.5, 0, 0], [0, 0.5, 0]], ramp, ramp)
    expected = (5 + (torch.arange(20) + 0.5) / 2 - 0.5) / 20
    torch.testing.assert_close(found, expected.expand(1, 20, 20))


def test_a_flip_turns_what_another_change_gave() -> None:
    section = Augment(flip=0, geometry=1, shift=0.2, scale=0.3, rotation_deg=30, shear=0.2, crop=0.5)
    plain, turned = draw(section), draw(section.model_copy(update={"flip": 1.0}))
    # A flip of the input is a flip of where each output pixel is taken from.
    images, masks = batch()
    straight = apply_changes(images.flip(-1), masks.flip(-1), plain)
    mirrored = apply_changes(images, masks, turned)
    torch.testing.assert_close(mirrored[0], straight[0], atol=1e-4, rtol=0)


def test_no_pixel_is_warped_further_than_asked() -> None:
    side, limit_px = 61, 5.0
    section = Augment(flip=0, elastic=1, elastic_px=limit_px)
    rows, columns = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    draws = draw(section, 20, side=side)
    inside = slice(10, -10)  # away from the reflected border a ramp shows where each pixel came from
    reached = torch.zeros(())
    for ramp in (rows, columns):
        images = ramp.expand(20, side, side)
        found, _ = apply_changes(images, torch.zeros(20, side, side), draws)
        shift_px = ((found - images) * side)[:, inside, inside]
        assert shift_px.abs().max() <= limit_px + 1e-3
        assert (shift_px.diff(dim=1).abs().amax() < 1) & (shift_px.diff(dim=2).abs().amax() < 1)  # it is smooth
        reached = torch.maximum(reached, shift_px.abs().max())
    assert reached > 0.8 * limit_px


def tone(draws: Draws, **values: float) -> Draws:
    """The same known tone for every tile."""
    known = {"added": 0.0, "contrast": 1.0, "gamma": 1.0, "deviation": 0.0, "multiplied": 1.0} | values
    return replace(draws, tone=torch.tensor(list(known.values())).expand(len(draws.tone), 5))


PLAIN = draw(NOTHING)
TONES: dict[str, tuple[Draws, Callable[[Tensor], Tensor]]] = {
    "brightness": (tone(PLAIN, added=0.2), lambda x: (x + 0.2).clamp(0, 1)),
    "contrast": (tone(PLAIN, contrast=0.5), lambda x: (x + x.mean((1, 2), keepdim=True)) / 2),
    "gamma": (tone(PLAIN, gamma=1.5), lambda x: x**1.5),
    "negative": (replace(PLAIN, invert=torch.ones(12, dtype=torch.bool)), lambda x: 1 - x),
}


@pytest.mark.parametrize("name", TONES)
def test_a_tone_is_its_formula_and_leaves_masks_alone(name: str) -> None:
    draws, formula = TONES[name]
    images, masks = batch()
    found, found_masks = apply_changes(images, masks, draws)
    torch.testing.assert_close(found, formula(images))
    assert torch.equal(found_masks, masks)


def test_a_blur_is_the_mean_of_nine_pixels() -> None:
    images, masks = batch()
    found, _ = apply_changes(images, masks, replace(PLAIN, blur=torch.arange(12) % 2 == 0))
    for row, column in ((1, 1), (7, 12), (19, 19)):
        expected = images[::2, row - 1 : row + 2, column - 1 : column + 2].mean((1, 2))
        torch.testing.assert_close(found[::2, row, column], expected)
    assert torch.equal(found[1::2], images[1::2])


def test_noise_has_the_deviation_that_was_drawn() -> None:
    grey = torch.full((12, 101, 101), 0.5)
    found, _ = apply_changes(grey, grey, tone(draw(NOTHING, side=101), deviation=0.1))
    torch.testing.assert_close(found.std((1, 2)), torch.full((12,), 0.1), rtol=0.05, atol=0)
    torch.testing.assert_close(found.mean((1, 2)), torch.full((12,), 0.5), rtol=0.02, atol=0)
    flat = (found - 0.5).flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.05  # tiles do not share their noise


def test_drawn_tones_keep_to_their_ranges() -> None:
    section = Augment(tone=0.5, brightness=0.1, contrast=0.2, gamma=0.3, noise=0.05)
    added, contrast, gamma, deviation, _ = draw(section, 4000).tone.unbind(1)
    for values, limit in ((added, 0.1), (contrast - 1, 0.2), (gamma - 1, 0.3), (deviation, 0.05)):
        assert 0.98 * limit < values.abs().max() <= limit + 1e-6
        assert 0.45 < (values != 0).float().mean() < 0.55
    assert deviation.min() == 0
    together = torch.corrcoef(torch.stack([added != 0, contrast != 1, gamma != 1, deviation != 0]).float())
    assert together.fill_diagonal_(0).abs().max() < 0.06  # each by its own chance


@pytest.mark.parametrize("side_px", [1, 6, 7])
def test_a_hole_is_a_square_of_its_size_and_holds_the_mean(side_px: int) -> None:
    count, side = 200, 41
    images, masks = batch(count, side)
    draws = draw(Augment(flip=0, cutout=1, cutout_px=side_px), count, side=side)
    found, found_masks = apply_changes(images, masks, draws)
    assert torch.equal(found_masks, masks)
    changed = found != images
    high, wide = changed.any(2).sum(1), changed.any(1).sum(1)
    inner = ((draws.hole[:, :2] > side_px) & (draws.hole[:, :2] < side - side_px)).all(1)
    assert inner.sum() > 20
    assert (high <= side_px).all()
    assert (wide <= side_px).all()
    mean = images.mean((1, 2))[:, None, None].expand_as(images)
    torch.testing.assert_close(found[changed], mean[changed])
    whole = (found[inner] == mean[inner]).sum((1, 2))
    assert (whole == side_px**2).all()
    assert ((high - wide)[inner].abs() <= 1).all()


def test_a_hole_lies_about_its_centre() -> None:
    images, masks = batch(1)
    draws = replace(draw(NOTHING, 1), hole=torch.tensor([[5.0, 14.0, 4.0]]))
    found, _ = apply_changes(images, masks, draws)
    rows, columns = (found != images)[0].nonzero().unbind(1)
    assert sorted(set(rows.tolist())) == [3, 4, 5, 6]
    assert sorted(set(columns.tolist())) == [12, 13, 14, 15]


def test_chances_are_as_asked() -> None:
    draws = draw(Augment(invert=0.1, blur=0.3, cutout=0.6, cutout_px=9), 4000)
    for found, chance in ((draws.invert, 0.1), (draws.blur, 0.3), (draws.hole[:, 2] == 9, 0.6)):
        assert found.float().mean().item() == pytest.approx(chance, abs=4 * math.sqrt(chance / 4000))


def test_zero_tiles_are_no_trouble() -> None:
    images, masks = apply_changes(*batch(0), draw(EVERYTHING, 0))
    assert images.shape == masks.shape == (0, SIDE, SIDE)


def test_what_is_unknown_moves_with_the_tile_and_never_becomes_known() -> None:
    images, masks = batch(side=41)
    unknown = torch.zeros_like(masks, dtype=torch.bool)
    unknown[:, 10:18, 25:30] = True
    draws = draw(EVERYTHING, side=41)
    partial_images, partial = apply_changes(images, masks.masked_fill(unknown, math.nan), draws)
    _, whole = apply_changes(images, masks, draws)
    _, touched = apply_changes(images, unknown.float(), draws)
    assert torch.equal(partial[~partial.isnan()], whole[~partial.isnan()])
    assert bool((partial.isnan() | (touched == 0)).all()), "where half or more is unknown, all is"
    share = partial.isnan().float().mean() / unknown.float().mean()
    assert 0.8 < float(share) < 1.8, "a pixel to each side at most"
    plain = apply_changes(images, masks, draw(replace_cutout(EVERYTHING), side=41))[0]
    other = apply_changes(images, masks.masked_fill(unknown, math.nan), draw(replace_cutout(EVERYTHING), side=41))[0]
    assert torch.equal(plain, other)
    assert not partial_images.isnan().any()


def replace_cutout(section: Augment) -> Augment:
    """Without holes, which are spared where they would hide too much salt."""
    return section.model_copy(update={"cutout": 0.0})
