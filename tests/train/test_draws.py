import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from diapir.recipe.files import read_recipe
from diapir.recipe.training import Augment
from diapir.train.augment import apply_changes
from diapir.train.draws import Draws, draw_changes

SIDE = 21
ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
KEYS = Augment(
    flip=0.5, geometry=0.5, shift=0.2, scale=0.3, rotation_deg=20, shear=0.2, crop=0.3, elastic=0.3, elastic_px=3,
    tone=0.5, brightness=0.3, contrast=0.4, gamma=0.4, invert=0.3, blur=0.3, noise=0.2, cutout=0.3, cutout_px=7,
)  # fmt: skip


def published() -> dict[str, Augment]:
    """The sections of the six systems, as docs/recipes.md gives them."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    (block,) = [yaml.safe_load(block) for block in blocks if "changes:" in block]
    return {name: Augment.model_validate(section) for name, section in block.items()}


PUBLISHED = published()


def groups(*changes: dict[str, Any], flip: float = 0.0, **settings: Any) -> Augment:
    return Augment.model_validate({"flip": flip, "changes": changes, **settings})


def draw(section: Augment, count: int = 12, *, side: int = SIDE, seed: int = 0) -> Draws:
    return draw_changes(count, section, height=side, width=side, rng=torch.Generator().manual_seed(seed))


def changed(draws: Draws) -> dict[str, Tensor]:
    """Which tiles have each change, seen in the numbers drawn: (n,) bool."""
    extent = torch.ones(len(draws.tone), 2) if draws.crop is None else draws.crop.diagonal(dim1=1, dim2=2)
    linear, (added, contrast, gamma, _, multiplied) = draws.matrix[:, :, :2], draws.tone.unbind(1)
    stretch = torch.zeros(len(added), 1) if draws.stretch is None else draws.stretch.flatten(1)
    turned = linear[:, 1, 0] != 0
    return {
        "crop": (extent.abs() < 1).any(1),
        "shear": (linear[:, 0, 1] != 0) & ~turned,
        "rotation_deg": turned,
        "grid": (stretch != 0).any(1),
        "add": added != 0,
        "multiply": multiplied != 1,
        "contrast": contrast != 1,
        "gamma": gamma != 1,
    }


def assert_near(found: Tensor, chance: float) -> None:
    """A share of many tiles is near a chance, within four standard errors."""
    error = math.sqrt(chance * (1 - chance) / len(found))
    assert found.float().mean().item() == pytest.approx(chance, abs=4 * error)


# Sections without groups.


def test_a_section_without_groups_draws_the_numbers_it_always_drew_in_their_order() -> None:
    rng, again, n = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3), 9
    draws = draw_changes(n, KEYS, height=SIDE, width=SIDE, rng=rng)

    def rand(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=again)

    def spread(limit: float, on: Tensor) -> Tensor:
        return (rand() * 2 - 1) * limit * on

    flip, on = torch.where(rand() < 0.5, -1.0, 1.0), rand() < 0.5
    angle, zoom = spread(math.radians(20), on), 1 / (1 + spread(0.3, on))
    shear, along, down = spread(2 * 0.2, on), spread(2 * 0.2, on), spread(2 * 0.2, on)
    left, top, right, bottom = ((rand(1) < 0.3).float() * rand(4) * 0.2).unbind(1)
    expected = torch.stack(
        [
            torch.stack([angle.cos() * zoom, -angle.sin() * zoom + shear], 1) * (1 - left - right)[:, None],
            torch.stack([angle.sin() * zoom, angle.cos() * zoom], 1) * (1 - top - bottom)[:, None],
        ],
        dim=1,
    )
    expected = torch.cat([expected, torch.stack([along + left - right, down + top - bottom], 1)[:, :, None]], dim=2)
    expected[:, 0] *= flip[:, None]
    torch.testing.assert_close(draws.matrix, expected)
    warped = rand() < 0.3
    assert draws.warp is not None
    torch.testing.assert_close(draws.warp, (rand(2, 5, 5) * 2 - 1) * 3 * warped[:, None, None, None])
    tones = [spread(limit, rand() < 0.5) for limit in (0.3, 0.4, 0.4, 0.2)]
    expected = torch.stack([tones[0], 1 + tones[1], 1 + tones[2], tones[3].abs(), torch.ones(n)], dim=1)
    assert torch.equal(draws.tone, expected)
    side = 7 * (rand() < 0.3)
    assert torch.equal(draws.hole, torch.stack([rand() * SIDE, rand() * SIDE, side], dim=1))
    assert torch.equal(draws.invert, rand() < 0.3)
    assert torch.equal(draws.blur, rand() < 0.3)
    assert torch.equal(draws.noise_seed, torch.randint(2**31, (n,), generator=again))
    assert torch.equal(rng.get_state(), again.get_state())
    assert draws.crop is draws.stretch is None
    assert not draws.cutout.any()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_without_groups_keep_the_border_that_they_had(path: Path) -> None:
    recipe = read_recipe(path)
    sections = [stage.augment or recipe.augment for stage in recipe.stages]
    assert all(section.border == "mirror" for section in sections if not section.changes)


# Groups.


def test_of_a_group_of_one_exactly_one_is_made_with_its_chance_and_each_as_often() -> None:
    section = groups({"chance": 0.5, "pick": "one", "crop": 0.19, "shear": 0.07, "rotation_deg": [0, 15]})
    found = changed(draw(section, 6000))
    three = torch.stack([found["crop"], found["shear"], found["rotation_deg"]]).float()
    assert set(three.sum(0).tolist()) == {0.0, 1.0}
    assert_near(three.sum(0), 0.5)
    for row in three:
        assert_near(row, 0.5 / 3)


def test_of_a_group_of_each_every_change_has_the_chance_for_itself() -> None:
    section = groups(
        {"chance": 0.125, "pick": "each", "crop": 0.2, "rotation_deg": 15, "grid": 0.15},
        {"chance": 0.165, "pick": "each", "add": 0.1, "multiply": 0.08, "gamma": 0.08},
    )
    draws = draw(section, 6000)
    found = changed(draws)
    moves, tones = ["crop", "rotation_deg", "grid"], ["add", "multiply", "gamma"]
    for name in moves:
        assert_near(found[name], 0.125)
    for name in tones:
        assert_near(found[name], 0.165)
    together = torch.corrcoef(torch.stack([found[name] for name in moves + tones]).float())
    assert together.fill_diagonal_(0).abs().max() < 0.06


def test_of_a_group_of_all_the_changes_come_together() -> None:
    section = groups({"chance": 0.7, "shift": 0.1625, "scale": 0.6, "gamma": 0.1})
    draws = draw(section, 3000)
    moved = (draws.matrix[:, :, 2] != 0).all(1)
    assert_near(moved, 0.7)
    assert torch.equal(moved, draws.matrix[:, 0, 0] != 1)
    assert torch.equal(moved, draws.tone[:, 2] != 1)


def test_a_pair_is_a_range_and_a_number_is_the_range_about_no_change() -> None:
    section = groups({"multiply": 0.08, "gamma": [0.8, 1.25], "contrast": 0.3, "add": [0.1, 0.2]})
    added, contrast, gamma, _, multiplied = draw(section, 4000).tone.unbind(1)
    for values, low, high in (
        (multiplied, 0.92, 1.08),
        (gamma, 0.8, 1.25),
        (contrast, 0.7, 1.3),
        (added / multiplied, 0.1, 0.2),
    ):
        width = high - low
        assert low - 1e-6 <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high + 1e-6
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.03 * width)


def test_shift_and_scale_reach_their_limits_and_no_further() -> None:
    matrix = draw(groups({"shift": 0.1625, "scale": 0.6}), 4000).matrix
    size = 1 / matrix[:, 0, 0]
    assert torch.equal(matrix[:, :, :2], torch.eye(2) * matrix[:, :1, :1])
    assert 0.4 - 1e-6 <= size.min() < 0.41
    assert 1.59 < size.max() <= 1.6 + 1e-6
    shift = -matrix[:, :, 2] * size[:, None] / 2  # of what is seen, as a share of the side
    assert shift.abs().amax(0).min() > 0.161
    assert shift.abs().max() <= 0.1625 + 1e-6


def test_crops_cut_each_side_for_itself_and_windows_have_one_size_anywhere() -> None:
    crop = draw(groups({"crop": 0.24}), 4000).crop
    assert crop is not None
    half, centre = crop.diagonal(dim1=1, dim2=2), crop[:, :, 2]
    off = torch.cat([centre - half + 1, 1 - centre - half], dim=1) / 2  # left, top, right, bottom
    assert -1e-6 <= off.min() < 0.001
    assert (off.amax(0) > 0.235).all()
    assert off.max() <= 0.24 + 1e-6
    assert torch.corrcoef(off.T).fill_diagonal_(0).abs().max() < 0.06
    window = draw(groups({"window": 0.85}), 4000).crop
    assert window is not None
    torch.testing.assert_close(window.diagonal(dim1=1, dim2=2), torch.full((4000, 2), 0.85))
    reach = window[:, :, 2].abs() + 0.85
    assert (reach <= 1 + 1e-6).all()
    assert (reach.amax(0) > 0.999).all()


def test_cells_of_the_grid_are_stretched_by_up_to_their_share_and_each_tile_by_its_own() -> None:
    side, share = 101, 0.15
    stretch = draw(groups({"grid": share}), 300, side=side).stretch
    assert stretch is not None
    edges = torch.cat([torch.zeros(300, 2, 1), stretch], dim=2)
    growth = edges.diff(dim=2)
    growth[:, :, 0] *= 2  # from the edge to the first centre is half a pixel
    assert growth.abs().max() <= share + 1e-5
    assert growth.abs().amax((1, 2)).max() > 0.9 * share
    assert growth.abs().amax((1, 2)).min() < 0.1 * share
    within = growth.diff(dim=2)[:, :, [i for i in range(1, 100) if i % 10 not in (9, 0)]]
    assert within.abs().max() < 1e-5  # one stretch within a cell
    assert stretch[:, 0].ne(stretch[:, 1]).any(1).all()  # rows and columns apart


def test_cutouts_have_every_side_of_their_range_about_as_often_and_lie_anywhere() -> None:
    draws = draw(
        groups({"chance": 0.5, "cutout_px": [20, 30], "cutout_hides": 0.5, "cutout_grey": 0.25}), 4400, side=101
    )
    row, column, side, grey, hides = draws.cutout.unbind(1)
    assert_near(side > 0, 0.5)
    for px in range(20, 31):
        assert_near(side[side > 0] == px, 1 / 11)
    for place in (row, column):
        assert 0 <= place.min() < 1
        assert 100 < place.max() < 101
    assert set(grey.tolist()) == {0.25}
    assert set(hides.tolist()) == {0.5}
    assert set(draw(groups({"cutout_px": 30})).cutout[:, 2].tolist()) == {30.0}


def test_each_published_section_changes_as_many_tiles_as_it_says() -> None:
    shares = {
        "1st, A": {"multiply": 0.2, "contrast": 0.1},
        "11th, Rozhkov": {"gamma": 0.5, "crop": 0.5},
        "11th, Sosin": {"crop": 0.5, "rotation_deg": 1.0},
        "1st, B and C": {"crop": 1 / 6, "rotation_deg": 1 / 6, "add": 0.25, "multiply": 0.25},
        "9th": {"crop": 0.125, "rotation_deg": 0.125, "grid": 0.125, "add": 0.165, "multiply": 0.165, "gamma": 0.165},
        "28th": {"add": 0.3, "contrast": 0.3, "rotation_deg": 0.3},
    }
    assert shares.keys() | {"Odoh", "Laurans"} == PUBLISHED.keys()
    for name, expected in shares.items():
        found = changed(draw(PUBLISHED[name], 3000))
        for change, chance in expected.items():
            assert_near(found[change], chance)


@pytest.mark.parametrize("name", ["Odoh", "Laurans"])
def test_systems_without_changes_in_training_have_none(name: str) -> None:
    images = torch.rand(20, SIDE, SIDE)
    found, masks = apply_changes(images, images.round(), draw(PUBLISHED[name], 20))
    assert torch.equal(found, images)
    assert torch.equal(masks, images.round())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_batch_in_parts_is_the_batch_and_a_seed_is_a_result(name: str) -> None:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(256, (12, 41, 41), generator=rng) / 255
    masks = (torch.rand(12, 41, 41, generator=rng) < 0.3).float()
    draws = draw(PUBLISHED[name], side=41)
    whole = apply_changes(images, masks, draws)
    again = apply_changes(images, masks, draw(PUBLISHED[name], side=41))
    parts = [
        apply_changes(images[low:high], masks[low:high], draws.part(slice(low, high)))
        for low, high in pairwise((0, 3, 3, 8, 12))
    ]
    for index in (0, 1):
        assert torch.equal(torch.cat([part[index] for part in parts]), whole[index])
        assert torch.equal(again[index], whole[index])
        assert 0 <= whole[index].min() <= whole[index].max() <= 1
    assert ((whole[1] == 0) | (whole[1] == 1)).all()
