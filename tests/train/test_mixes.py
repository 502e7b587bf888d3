"""Each published mix of losses, as docs/recipes.md gives it, against a plain version that goes image by image."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from diapir.nets.framing import Frame, InputSpec
from diapir.nets.unet import Outputs
from diapir.recipe.training import Augment, Loss
from diapir.train.loop import Plan, supervised_loss

TILE, FRAMED, TOP = 10, 16, 3
PAD, RESIZE, NATIVE = Frame("pad", FRAMED), Frame("resize", FRAMED), Frame("native")


def published() -> dict[str, dict[str, Any]]:
    text = (Path(__file__).parent.parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    (block,) = [yaml.safe_load(block) for block in blocks if "side_mean" in block]
    return dict(block)


SECTIONS = published()


class Given(NamedTuple):
    """What a net would give: logits of the mask (n, s, s), of side heads, and of "holds salt" (n,)."""

    mask: Tensor
    sides: tuple[Tensor, ...]
    has_salt: Tensor


def masks() -> Tensor:
    """Two empty tiles, one with a single pixel of salt that coarse heads overlook, one half full, one nearly full."""
    truth = torch.zeros(5, TILE, TILE)
    truth[1, 4, 6] = 1
    truth[2, 3:, 2:7] = 1
    truth[4] = 1
    truth[4, :2, :3] = 0
    return truth


def given(size: int, sides: tuple[int, ...] = (), *, seed: int = 0) -> Given:
    rng = torch.Generator().manual_seed(seed)

    def logits(*shape: int) -> Tensor:
        return (2 * torch.randn(5, *shape, generator=rng)).requires_grad_()

    return Given(logits(size, size), tuple(logits(side, side) for side in sides), logits())


def loss_of(section: Loss, frame: Frame, found: Given, truth: Tensor) -> Tensor:
    plan = Plan(
        spec=InputSpec(("image",), levels=((0.0, 1.0),), depth_low_m=0.0, depth_high_m=1.0),
        frame=frame,
        augment=Augment(),
        loss=section,
        batch=len(truth),
        clip_norm=0.0,
        autocast=nullcontext,
        backward=torch.autograd.backward,
    )
    return supervised_loss(Outputs(found.mask, found.has_salt, found.sides), truth, plan=plan)


# The plain version: scalars of one image at a time.


def plain_bce(z: Tensor, y: Tensor) -> Tensor:
    p = z.double().sigmoid()
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def plain_focal(z: Tensor, y: Tensor) -> Tensor:
    p = torch.where(y > 0, z.double().sigmoid(), 1 - z.double().sigmoid())
    return -((1 - p) ** 2 * p.log()).mean()


def plain_dice(z: Tensor, y: Tensor) -> Tensor:
    p = z.double().sigmoid()
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def plain_lovasz(z: Tensor, y: Tensor, *, elu: bool) -> Tensor:
    margins = [(1 - a * (2 * b - 1), int(b)) for a, b in zip(z.flatten(), y.flatten(), strict=True)]
    salt, seen, before, total = int(y.sum()), [0, 0], 0.0, torch.zeros((), dtype=torch.float64)
    for margin, label in sorted(margins, key=lambda pair: -pair[0].item()):
        seen[label] += 1
        jaccard = 1 - (salt - seen[1]) / (salt + seen[0])
        height = torch.where(margin > 0, margin + 1, margin.exp()) if elu else margin.clamp(min=0)
        total, before = total + height.double() * (jaccard - before), jaccard
    return total


def elu(z: Tensor, y: Tensor) -> Tensor:
    return plain_lovasz(z, y, elu=True)


def relu(z: Tensor, y: Tensor) -> Tensor:
    return plain_lovasz(z, y, elu=False)


def symmetric(z: Tensor, y: Tensor) -> Tensor:
    return (plain_lovasz(z, y, elu=True) + plain_lovasz(-z, 1 - y, elu=True)) / 2


Plain = Callable[[Tensor, Tensor], Tensor]


def mean(loss: Plain, z: Tensor, y: Tensor) -> Tensor:
    return torch.stack([loss(a, b) for a, b in zip(z, y, strict=True)]).mean()


def over_salt(loss: Plain, z: Tensor, y: Tensor, *, divisor: int | None = None) -> Tensor:
    """Mean over images with salt, or their sum over a divisor."""
    values = [loss(a, b) for a, b in zip(z, y, strict=True) if b.sum() > 0]
    return sum(values, torch.zeros((), dtype=torch.float64)) / (divisor or max(len(values), 1))


def class_loss(z: Tensor, truth: Tensor) -> Tensor:
    return torch.stack([plain_bce(a[None], (b.sum() > 0).float()[None]) for a, b in zip(z, truth, strict=True)]).mean()


def on_tile(z: Tensor) -> Tensor:
    return z[:, TOP : TOP + TILE, TOP : TOP + TILE]


def padded(truth: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([np.pad(mask, TOP, mode="reflect") for mask in truth.numpy()]))


def resized(truth: Tensor) -> Tensor:
    return (F.interpolate(truth[:, None], size=(FRAMED, FRAMED), mode="bilinear")[:, 0] > 0.5).float()


def sosin(bce_weight: float, lovasz_weight: float) -> Callable[[Given, Tensor], Tensor]:
    def mix(z: Tensor, y: Tensor) -> Tensor:
        return bce_weight * plain_bce(z, y) + lovasz_weight * elu(z, y)

    def total(found: Given, truth: Tensor) -> Tensor:
        whole = padded(truth)
        value = mean(mix, found.mask, whole) + 0.05 * class_loss(found.has_salt, truth)
        for side in found.sides:
            step = FRAMED // side.shape[-1]
            value = value + 0.12 * over_salt(mix, side, whole[:, ::step, ::step])
        return value

    return total


def ninth(frame: Callable[[Tensor], Tensor], seen: Callable[[Tensor], Tensor]) -> Callable[[Given, Tensor], Tensor]:
    def total(found: Given, truth: Tensor) -> Tensor:
        value = mean(symmetric, seen(found.mask), frame(truth)) + 0.05 * class_loss(found.has_salt, truth)
        return value + 0.1 * sum(over_salt(symmetric, seen(side), frame(truth)) for side in found.sides)

    return total


def b2(found: Given, truth: Tensor) -> Tensor:
    whole = padded(truth)
    empty = 1 - (truth.flatten(1).sum(1) > 0).float()
    # The team's head predicts "empty": the same cross-entropy with the sign of its logit turned.
    of_class = torch.stack([plain_bce(-z[None], y[None]) for z, y in zip(found.has_salt, empty, strict=True)]).mean()
    return mean(relu, found.mask, whole) + of_class + over_salt(relu, found.sides[0], whole, divisor=len(truth))


def rozhkov(found: Given, truth: Tensor) -> Tensor:
    def mix(z: Tensor, y: Tensor) -> Tensor:
        return plain_bce(z, y) + 0.5 * elu(z, y)

    value = mean(mix, on_tile(found.mask), truth) + 0.05 * class_loss(found.has_salt, truth)
    return value + 0.1 * over_salt(mix, on_tile(found.sides[0]), truth)


def laurans_masked(found: Given, truth: Tensor) -> Tensor:
    of_batch = plain_dice(found.mask, truth)
    values = [
        5 * of_batch + plain_focal(z, y) if y.sum() > 0 else 0.5 * plain_focal(z, y)
        for z, y in zip(found.mask, truth, strict=True)
    ]
    return torch.stack(values).mean()


def twenty_first(found: Given, truth: Tensor) -> Tensor:
    value = mean(elu, on_tile(found.mask), truth) + 0.05 * class_loss(found.has_salt, truth)
    return value + sum(mean(elu, on_tile(side), truth) for side in found.sides)


CASES: dict[str, tuple[Frame, tuple[int, ...], Callable[[Given, Tensor], Tensor]]] = {
    "1st, A, first stage": (
        PAD, (), lambda g, y: 0.5 * mean(plain_bce, g.mask, padded(y)) + 0.5 * plain_dice(g.mask, padded(y)),
    ),
    "1st, A": (PAD, (), lambda g, y: mean(elu, g.mask, padded(y))),
    "1st, B and C": (PAD, (), lambda g, y: mean(relu, g.mask, padded(y))),
    "1st, B2": (PAD, (16,), b2),
    "1st, D": (PAD, (16,), b2),
    "9th, padded": (PAD, (16, 16, 16, 16, 16), ninth(lambda y: y, on_tile)),
    "9th, resized": (RESIZE, (16, 16, 16, 16, 16), ninth(resized, lambda z: z)),
    "11th, Rozhkov": (PAD, (16,), rozhkov),
    "11th, Sosin, first epochs": (PAD, (1, 2, 4, 8), sosin(0.9, 0.1)),
    "11th, Sosin": (PAD, (1, 2, 4, 8), sosin(0.1, 0.9)),
    "28th, first stage": (PAD, (), lambda g, y: mean(plain_bce, on_tile(g.mask), y)),
    "28th": (PAD, (), lambda g, y: 0.1 * mean(plain_bce, on_tile(g.mask), y) + 0.9 * elu(on_tile(g.mask), y)),
    "Odoh, first stage": (NATIVE, (), lambda g, y: mean(plain_bce, g.mask, y)),
    "Odoh": (NATIVE, (), lambda g, y: mean(elu, g.mask, y)),
    "Laurans, base": (NATIVE, (), lambda g, y: 5 * plain_dice(g.mask, y) + mean(plain_focal, g.mask, y)),
    "Laurans, masked": (NATIVE, (), laurans_masked),
    "Laurans, BCE and Lovasz": (NATIVE, (), lambda g, y: mean(plain_bce, g.mask, y) + mean(relu, g.mask, y)),
    "Laurans, Lovasz": (NATIVE, (), lambda g, y: mean(relu, g.mask, y)),
    "2nd": (NATIVE, (), lambda g, y: 1.2 * mean(plain_focal, g.mask, y) + 0.8 * mean(elu, g.mask, y)),
    "21st": (PAD, (16, 16, 16, 16), twenty_first),
}  # fmt: skip


@pytest.mark.parametrize("name", SECTIONS)
def test_each_published_mix_is_its_plain_version_in_value_and_slope(name: str) -> None:
    frame, sides, plain = CASES[name]
    found, truth = given(frame.size or TILE, sides), masks()
    # The 20th of 50 epochs, where a mix has come two fifths of its way.
    section = Loss.model_validate(SECTIONS[name]).at(20, 50)
    loss, expected = loss_of(section, frame, found, truth), plain(found, truth)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    leaves = [found.mask, *found.sides, *([found.has_salt] if "has_salt" in SECTIONS[name] else [])]
    slopes = zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves), strict=True)
    for slope, expected_slope in slopes:
        assert slope.abs().max() > 0
        torch.testing.assert_close(slope, expected_slope, rtol=1e-4, atol=1e-6)


def test_a_mix_goes_evenly_from_its_beginning_to_its_end() -> None:
    section = Loss.model_validate(SECTIONS["2nd"])
    for epoch in range(50):
        weight = 2 * max(0, (50 - epoch) / 50)  # the team's w(e)
        found = section.at(epoch, 50).weights
        assert found["focal"] == pytest.approx(weight)
        assert found.get("lovasz", 0.0) == pytest.approx(2 - weight)
    assert not section.is_plain_bce


def test_every_published_mix_has_its_plain_version() -> None:
    assert SECTIONS.keys() == CASES.keys()


def side_loss(section: Loss, frame: Frame, side: Tensor, truth: Tensor) -> float:
    """What one side head adds."""
    found = given(frame.size or TILE)
    with_side = loss_of(section, frame, found._replace(sides=(side,)), truth)
    return (with_side - loss_of(section.model_copy(update={"side": 0.0}), frame, found, truth)).item()


def test_a_small_head_on_the_tile_leaves_out_the_cells_of_the_border() -> None:
    (side,) = given(8, (8,), seed=3).sides
    found = side_loss(Loss(bce=1.0, side=1.0), PAD, side, masks())
    rows = [row for row in range(8) if TOP <= 2 * row < TOP + TILE]
    cells = slice(rows[0], rows[-1] + 1)
    expected = over_salt(plain_bce, side[:, cells, cells], padded(masks())[:, ::2, ::2][:, cells, cells])
    assert found == pytest.approx(expected.item(), rel=1e-4)


def test_salt_that_a_coarse_head_cannot_see_is_none_to_it() -> None:
    truth = masks()[1:2].repeat(5, 1, 1)  # one pixel of salt, at row 7 and column 9 of the frame
    (side,) = given(8, (8,), seed=3).sides
    assert side_loss(Loss(bce=1.0, side=1.0), PAD, side, truth) == pytest.approx(0, abs=1e-6)
    (side,) = given(16, (16,), seed=3).sides
    assert side_loss(Loss(bce=1.0, side=1.0), PAD, side, truth) > 0.1


@pytest.mark.parametrize("over", ["salt", "all"])
def test_without_salt_side_heads_cost_nothing_and_do_not_move(over: str) -> None:
    section = Loss.model_validate({"lovasz": 1.0, "side": 1.0, "side_mean": over})
    found, empty = given(16, (16, 8)), torch.zeros(5, TILE, TILE)
    loss = loss_of(section, PAD, found, empty)
    assert loss.item() == pytest.approx(loss_of(section.model_copy(update={"side": 0.0}), PAD, found, empty).item())
    for slope in torch.autograd.grad(loss, found.sides):
        assert not slope.any()


def test_heads_of_several_sizes_add_up_in_any_order() -> None:
    section, found = Loss(bce=0.3, symmetric_lovasz=0.7, side=0.5), given(16, (16, 8, 16, 4))
    alone = sum(side_loss(section, PAD, side, masks()) for side in found.sides)
    bare = loss_of(section.model_copy(update={"side": 0.0}), PAD, found, masks()).item()
    for sides in (found.sides, found.sides[::-1]):
        loss = loss_of(section, PAD, found._replace(sides=sides), masks())
        assert loss.item() == pytest.approx(bare + alone, rel=1e-5)


@pytest.mark.parametrize("name", ["9th, padded", "11th, Sosin", "Laurans, masked"])
def test_logits_of_half_precision_are_reckoned_with_in_float32(name: str) -> None:
    frame, sides, _ = CASES[name]
    found, section = given(frame.size or TILE, sides), Loss.model_validate(SECTIONS[name])
    half = Given(found.mask.bfloat16(), tuple(side.bfloat16() for side in found.sides), found.has_salt.bfloat16())
    single = Given(half.mask.float(), tuple(side.float() for side in half.sides), half.has_salt.float())
    loss = loss_of(section, frame, half, masks())
    assert loss.dtype == torch.float32
    assert torch.equal(loss, loss_of(section, frame, single, masks()))


def test_images_without_salt_may_be_left_to_the_has_salt_head() -> None:
    found, truth = given(TILE), masks()
    loss = loss_of(Loss.model_validate({"bce": 1.0, "empty": {}}), NATIVE, found, truth)
    assert loss.item() == pytest.approx(over_salt(plain_bce, found.mask, truth, divisor=5).item(), rel=1e-5)


def test_a_net_without_side_heads_cannot_be_asked_for_their_loss() -> None:
    with pytest.raises(AssertionError, match="side heads"):
        loss_of(Loss(bce=1.0, side=0.1), PAD, given(16), masks())
