import numpy as np
import pytest
import torch

from diapir.nets.infer import TileTensors
from diapir.train.offline import fourfold
from fake_training import tiny_tiles


def made(count: int = 30, *, shift: float = 0.2, seed: int = 0) -> tuple[TileTensors, TileTensors]:
    tiles = tiny_tiles(count, seed=1)
    return tiles, fourfold(tiles, shift=shift, rng=torch.Generator().manual_seed(seed))


def quarter(tiles: TileTensors, part: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    assert tiles.masks is not None
    rows = slice(part * len(tiles) // 4, (part + 1) * len(tiles) // 4)
    return tiles.images[rows], tiles.masks[rows], tiles.depths_m[rows]


def test_the_first_half_is_the_tiles_and_their_mirror_images() -> None:
    tiles, found = made()
    assert tiles.masks is not None
    assert len(found) == 4 * len(tiles)
    for part, flip in ((0, []), (1, [-1])):
        images, masks, depths_m = quarter(found, part)
        assert torch.equal(images, tiles.images.flip(flip))
        assert torch.equal(masks, tiles.masks.flip(flip))
        assert torch.equal(depths_m, tiles.depths_m)


@pytest.mark.parametrize("part", [2, 3])
def test_the_second_half_is_the_first_shifted_by_whole_pixels_with_a_reflected_border(part: int) -> None:
    tiles, found = made()
    images, masks, depths_m = quarter(found, part)
    before_images, before_masks, _ = quarter(found, part - 2)
    assert torch.equal(depths_m, tiles.depths_m)
    side, shifts = images.shape[-1], set()
    reach = round(0.2 * side)
    for tile in range(len(images)):
        padded = np.pad(before_images[tile].numpy(), reach, mode="reflect")
        fits = [
            (down, right)
            for down in range(-reach, reach + 1)
            for right in range(-reach, reach + 1)
            if np.array_equal(
                padded[reach - down : reach - down + side, reach - right : reach - right + side], images[tile].numpy()
            )
        ]
        assert len(fits) == 1
        (down, right) = fits[0]
        mask = np.pad(before_masks[tile].numpy(), reach, mode="reflect")
        expected = mask[reach - down : reach - down + side, reach - right : reach - right + side]
        np.testing.assert_array_equal(masks[tile].numpy(), expected)
        shifts.add((down, right))
    assert len(shifts) > 15  # each tile by its own
    assert max(max(map(abs, pair)) for pair in shifts) > reach // 2


def test_one_seed_gives_one_set_and_no_shift_gives_copies() -> None:
    _, found = made()
    _, again = made()
    _, other = made(seed=1)
    assert torch.equal(found.images, again.images)
    assert not torch.equal(found.images, other.images)
    _, still = made(shift=0.0)
    assert torch.equal(quarter(still, 2)[0], quarter(still, 0)[0])
    assert still.images.dtype == torch.uint8
