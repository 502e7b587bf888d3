import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diapir.data.tiles import UNKNOWN
from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.nets.unet import Outputs
from diapir.recipe.training import Augment, Loss
from diapir.train.augment import apply_changes
from diapir.train.draws import draw_changes
from diapir.train.loop import Plan, supervised_loss
from diapir.train.semi import (
    Mixture,
    co_training_objective,
    cross_entropy,
    divergence,
    draw_mixture,
    first_tiles,
    fooling,
    mean_teacher_objective,
    mirror,
    ramp_up,
    same_places,
    teacher_decay,
)
from fake_training import SIDE, tiny_tiles

PLAN = Plan(
    spec=InputSpec(("image", "row_ramp"), levels=((0.4, 0.2),), depth_low_m=0.0, depth_high_m=1.0),
    frame=Frame("pad", SIDE + 7),
    augment=Augment(flip=0.5),
    loss=Loss(bce=0.3, lovasz=0.7, has_salt=0.2),
    batch=4,
    clip_norm=0.0,
    autocast=nullcontext,
    backward=torch.autograd.backward,
)
LOGITS = torch.tensor([-12.0, -3.0, -0.2, 0.0, 0.7, 2.0, 12.0])


class Layers(nn.Module):
    """A net without batch norm or dropout: what it says of a tile hangs on that tile alone."""

    def __init__(self, seed: int, *, reach: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(2, 1, 2 * reach + 1, padding=reach)
        self.slope = nn.Parameter(torch.tensor(1.5))

    def forward(self, image: Tensor) -> Outputs:
        maps = self.conv(image)[:, 0]
        return Outputs(maps, self.slope * maps.mean((1, 2)))


def seed(value: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(value)


def mixture(labelled: int = 4, share: float = 0.4) -> Mixture:
    rows = torch.arange(labelled)
    return draw_mixture(tiny_tiles(8, seed=1), tiny_tiles(6, seed=2), rows, share=share, rng=seed())


def pairs() -> tuple[Tensor, Tensor]:
    return LOGITS.repeat_interleave(len(LOGITS)), LOGITS.repeat(len(LOGITS))


def gradients(total: Tensor, net: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(net.parameters()), retain_graph=True))


# Closed forms.


def test_the_strength_rises_from_exp_minus_5_to_1() -> None:
    assert ramp_up(0, epochs=10) == pytest.approx(math.exp(-5))
    assert ramp_up(5, epochs=10) == pytest.approx(math.exp(-5 / 4))
    assert ramp_up(10, epochs=10) == ramp_up(999, epochs=10) == 1
    values = [ramp_up(epoch, epochs=80) for epoch in range(81)]
    assert values == sorted(set(values))


def test_a_teacher_is_the_plain_mean_until_its_decay_is_reached() -> None:
    teacher = 100.0  # forgotten at once
    for step in range(50):
        decay = teacher_decay(step, most=0.99)
        teacher = decay * teacher + (1 - decay) * step
        assert teacher == pytest.approx(step / 2)
    assert teacher_decay(98, most=0.99) < teacher_decay(99, most=0.99) == pytest.approx(0.99)
    assert teacher_decay(5000, most=0.99) == 0.99


def plain_entropy(p: float, q: float) -> float:
    return sum(-x * math.log(y) for x, y in ((p, q), (1 - p, 1 - q)) if x > 0)


def test_cross_entropy_and_divergence_agree_with_their_definitions() -> None:
    for one, other in zip(*(each.tolist() for each in pairs()), strict=True):
        p, q = (1 / (1 + math.exp(-z)) for z in (one, other))
        given = torch.tensor(one), torch.tensor(other)
        mean = (p + q) / 2
        expected = plain_entropy(mean, mean) - (plain_entropy(p, p) + plain_entropy(q, q)) / 2
        assert divergence(*given).item() == pytest.approx(expected, abs=3e-7)
        assert cross_entropy(*given).item() == pytest.approx(plain_entropy(p, q), rel=1e-5, abs=1e-7)


def test_the_divergence_is_a_distance_of_0_to_ln_2() -> None:
    one, other = pairs()
    found = divergence(one, other)
    torch.testing.assert_close(found, divergence(other, one))
    assert divergence(one, one).abs().max() < 3e-7
    assert found.min() > -3e-7
    torch.testing.assert_close(divergence(torch.tensor(200.0), torch.tensor(-200.0)).item(), math.log(2))


@pytest.mark.parametrize("measure", [divergence, cross_entropy])
def test_gradients_agree_with_those_of_the_definition(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    def plain(one: Tensor, other: Tensor) -> Tensor:
        p, q = one.sigmoid(), other.sigmoid()

        def entropy(x: Tensor, y: Tensor) -> Tensor:
            return -(x * y.log() + (1 - x) * (1 - y).log())

        if measure is cross_entropy:
            return entropy(p, q)
        return entropy((p + q) / 2, (p + q) / 2) - (entropy(p, p) + entropy(q, q)) / 2

    mild = LOGITS[1:-1].double()
    one, other = (each.requires_grad_() for each in (mild.repeat_interleave(5), mild.repeat(5)))
    expected = torch.autograd.grad(plain(one, other).sum(), (one, other))
    for found, wanted in zip(torch.autograd.grad(measure(one, other).sum(), (one, other)), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("measure", [divergence, cross_entropy])
def test_sure_nets_have_finite_gradients(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, other = ((200 * each).sign() * 200 for each in pairs())
    given = one.requires_grad_(), other.requires_grad_()
    assert all(bool(torch.isfinite(each).all()) for each in torch.autograd.grad(measure(*given).sum(), given))


# Tiles.


@pytest.mark.parametrize(("labelled", "share", "expected"), [(6, 0.25, 2), (6, 0.5, 6), (3, 0.1, 1), (8, 0.75, 6)])
def test_unlabelled_tiles_are_their_share_of_all(labelled: int, share: float, expected: int) -> None:
    drawn = mixture(labelled, share)
    assert (drawn.labelled, len(drawn.images)) == (labelled, labelled + expected)


def test_a_mixture_has_the_labelled_tiles_first_and_no_tile_twice() -> None:
    tiles, unlabelled = tiny_tiles(8, seed=1), tiny_tiles(6, seed=2)
    assert tiles.masks is not None
    rows = torch.tensor([5, 0, 3])
    drawn = draw_mixture(tiles, unlabelled, rows, share=0.6, rng=seed())
    assert torch.equal((drawn.images[:3] * 255).round(), tiles.images[rows].float())
    assert torch.equal(drawn.masks[:3], tiles.masks[rows].float())
    assert torch.equal(drawn.depths_m[:3], tiles.depths_m[rows])
    assert not drawn.masks[3:].any(), "masks of tiles that count as unlabelled are not looked at"
    places = [unlabelled.depths_m.tolist().index(depth) for depth in drawn.depths_m[3:].tolist()]
    assert len(set(places)) == len(places) == 4
    assert torch.equal((drawn.images[3:] * 255).round(), unlabelled.images[places].float())


def test_both_views_of_a_tile_show_the_same_places_in_other_greys() -> None:
    section = Augment(flip=0.5, geometry=1.0, rotation_deg=20, elastic=1.0, tone=1.0, brightness=0.3, cutout=1.0)
    tiles = mixture()
    student, teacher = (draw_changes(6, section, height=SIDE, width=SIDE, rng=seed(value)) for value in (1, 2))
    places = torch.linspace(0, 1, SIDE).expand(6, SIDE, SIDE)  # each column's number for its grey
    shown, masks = apply_changes(places, tiles.masks[:6], student)
    again, same = apply_changes(places, tiles.masks[:6], same_places(teacher, student))
    assert torch.equal(masks, same)
    assert not torch.equal(shown, again)
    still = replace(student, tone=torch.tensor([[0.0, 1, 1, 0, 1]] * 6), hole=torch.zeros(6, 3))
    quiet = replace(teacher, tone=still.tone, hole=still.hole)
    moved = [apply_changes(places, tiles.masks[:6], each)[0] for each in (still, same_places(quiet, still), quiet)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


def test_fooling_tiles_are_where_a_line_of_greys_goes_wrong() -> None:
    # Of logits a x + b the loss rises with x where a > 0 and the mask is 0, or a < 0 and it is 1.
    rising = torch.tensor([1.0, -1.0, 1.0, -1.0])
    images = torch.full((4, 2, 2), 0.5).requires_grad_()
    logits = rising[:, None, None] * (images - torch.tensor([0.9, 0.1])) * 9
    truth = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    found = fooling(images, logits, truth=truth, eps=0.02)
    assert not found.requires_grad
    torch.testing.assert_close(found[:2], torch.full((2, 2, 2), 0.52))
    # Their own answers are logits above 0: of an answer that is sure of itself, it is made less so.
    towards = torch.tensor([1.0, -1.0]) * 0.02
    torch.testing.assert_close(found[2:], (0.5 + towards).expand(2, 2, 2))


def test_fooling_tiles_stay_within_black_and_white_and_raise_the_loss() -> None:
    net, tiles = Layers(1), mixture()
    images = tiles.images.clone().requires_grad_()

    def logits(shown: Tensor) -> Tensor:
        outputs: Outputs = net(net_input(shown, tiles.depths_m, spec=PLAN.spec, frame=Frame("native")))
        return outputs.mask

    truth = tiles.masks[:4]
    found = fooling(images, logits(images), truth=truth, eps=0.02)
    assert (found - images).abs().max() < 0.0201
    assert (found - images).abs().mean() > 0.019
    before, after = (cross_entropy(100 * truth - 50, logits(shown)[:4]).mean((1, 2)) for shown in (images, found))
    assert (after > before).all()
    far = fooling(images, logits(images), truth=truth, eps=9.0)
    assert set(far.flatten().tolist()) == {0.0, 1.0}


# Objectives.


def objectives(first: Layers, second: Layers, tiles: Mixture, *, weight: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Both, by name: what is minimised, and what is told."""
    taught = mean_teacher_objective(first, second, tiles, plan=PLAN, weight=weight, has_salt=weight, rng=seed())
    both = co_training_objective(
        first, second, tiles, plan=PLAN, agreement=weight, difference=weight, eps=0.02, rng=seed()
    )
    return {"mean-teacher": taught, "co-training": both}


def alone(net: Layers, tiles: Mixture) -> Tensor:
    """The supervised loss of the labelled tiles, changed as objectives change them."""
    draws = draw_changes(len(tiles.images), PLAN.augment, height=SIDE, width=SIDE, rng=seed())
    images, masks = apply_changes(tiles.images, tiles.masks, draws)
    known = slice(tiles.labelled)
    seen = net_input(images[known], tiles.depths_m[known], spec=PLAN.spec, frame=PLAN.frame)
    return supervised_loss(net(seen), masks[known], plan=PLAN)


def test_without_weight_only_the_labelled_tiles_teach() -> None:
    first, second, tiles = Layers(1), Layers(2), mixture()
    found = objectives(first, second, tiles, weight=0.0)
    for kind, nets in (("mean-teacher", [first]), ("co-training", [first, second])):
        for net in nets:
            wanted = gradients(alone(net, tiles), net)
            torch.testing.assert_close(gradients(found[kind][0], net), wanted)


def test_what_is_told_is_the_supervised_loss() -> None:
    first, second, tiles = Layers(1), Layers(2), mixture()
    found = objectives(first, second, tiles, weight=3.0)
    torch.testing.assert_close(found["mean-teacher"][1], alone(first, tiles))
    torch.testing.assert_close(found["co-training"][1], (alone(first, tiles) + alone(second, tiles)) / 2)


def test_a_teacher_gets_no_gradient_and_a_student_one_from_unlabelled_tiles() -> None:
    student, teacher, tiles = Layers(1), Layers(2), mixture()
    total = objectives(student, teacher, tiles, weight=1.0)["mean-teacher"][0]
    reached = torch.autograd.grad(total, list(teacher.parameters()), allow_unused=True, retain_graph=True)
    assert all(each is None for each in reached)
    other = replace(tiles, images=torch.cat([tiles.images[:4], 1 - tiles.images[4:]]))
    again = objectives(student, teacher, other, weight=1.0)["mean-teacher"][0]
    assert any(
        not torch.allclose(*each) for each in zip(gradients(total, student), gradients(again, student), strict=True)
    )


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_mirrored_tiles_are_compared_pixel_by_pixel(flip: float) -> None:
    # Of a net that looks at single pixels, which teaches itself, the mirror changes nothing: the cross-entropy is then
    # its entropy, the least there is; where any pixel were held against another, it would be more.
    net, tiles = Layers(1, reach=0), mixture()
    plan = replace(PLAN, augment=Augment(flip=flip, geometry=1.0, rotation_deg=30, shift=0.2))
    found = mean_teacher_objective(net, net, tiles, plan=plan, weight=1.0, has_salt=0.0, rng=seed())
    draws = draw_changes(len(tiles.images), plan.augment, height=SIDE, width=SIDE, rng=seed())
    images, _ = apply_changes(tiles.images, tiles.masks, draws)
    logits = net(net_input(images, tiles.depths_m, spec=PLAN.spec, frame=Frame("native"))).mask
    torch.testing.assert_close(found.loss - found.told, cross_entropy(logits, logits).mean())


def test_a_teacher_sees_tiles_mirrored_with_the_chance_of_a_flip() -> None:
    shown: list[Tensor] = []

    class Notes(Layers):
        def forward(self, image: Tensor) -> Outputs:
            shown.append(image)
            return super().forward(image)

    plan = replace(PLAN, frame=Frame("native"))
    for flip in (0.0, 0.5, 1.0):
        plan = replace(plan, augment=Augment(flip=flip))
        mean_teacher_objective(Notes(1), Notes(2), mixture(8), plan=plan, weight=1.0, has_salt=1.0, rng=seed())
        student, teacher = shown[-2:]
        same, other = ((view == student).flatten(1).all(1) for view in (teacher, teacher.flip(-1)))
        assert (same ^ other).all()
        assert {0.0: same.all(), 0.5: same.any() and other.any(), 1.0: other.all()}[flip]


def test_mirroring_is_its_own_inverse() -> None:
    tiles, mirrored = mixture().images[:3], torch.tensor([True, False, True])
    assert torch.equal(mirror(mirror(tiles, mirrored), mirrored), tiles)
    assert torch.equal(mirror(tiles, mirrored)[:2], torch.stack([tiles[0].flip(1), tiles[1]]))


def test_co_training_agrees_with_its_formula_tile_by_tile() -> None:
    first, second, tiles = Layers(1), Layers(2), mixture()
    nets = [first, second]
    plan = replace(PLAN, augment=Augment(flip=0.0), frame=Frame("native"))
    found = co_training_objective(first, second, tiles, plan=plan, agreement=10.0, difference=0.5, eps=0.02, rng=seed())

    def says(net: Layers, image: Tensor) -> Tensor:
        outputs: Outputs = net(net_input(image[None], tiles.depths_m[:1], spec=plan.spec, frame=plan.frame))
        return outputs.mask[0].sigmoid()

    def entropy(p: Tensor, q: Tensor) -> Tensor:
        return -(p * q.log() + (1 - p) * (1 - q).log()).mean()

    def fools(net: Layers, place: int) -> Tensor:
        image = tiles.images[place].clone().requires_grad_()
        p = says(net, image)
        truth = tiles.masks[place] if place < tiles.labelled else (p > 0.5).float()
        (slope,) = torch.autograd.grad(entropy(truth, p), image)
        return (image + 0.02 * slope.sign()).clamp(0, 1).detach()

    js, weak = [], []
    for place, image in enumerate(tiles.images):
        p, q = (says(net, image) for net in nets)
        if place >= tiles.labelled:
            mean = (p + q) / 2
            js.append(entropy(mean, mean) - (entropy(p, p) + entropy(q, q)) / 2)
        weak.append(entropy(p, says(nets[1], fools(nets[0], place))) + entropy(q, says(nets[0], fools(nets[1], place))))
    seen = net_input(tiles.images, tiles.depths_m, spec=plan.spec, frame=plan.frame)[: tiles.labelled]
    told = [supervised_loss(net(seen), tiles.masks[: tiles.labelled], plan=plan) for net in nets]
    expected = told[0] + told[1] + 10 * torch.stack(js).mean() + 0.5 * torch.stack(weak).mean()
    torch.testing.assert_close(found.loss, expected)
    for net in nets:
        torch.testing.assert_close(gradients(found.loss, net), gradients(expected, net), rtol=1e-4, atol=1e-6)


def test_the_first_tiles_of_outputs_are_those_of_every_head() -> None:
    outputs = Outputs(torch.arange(5.0)[:, None, None], torch.arange(5.0), (torch.arange(5.0), 2 * torch.arange(5.0)))
    first = first_tiles(outputs, 2)
    assert first.has_salt is not None
    assert [len(each) for each in (first.mask, first.has_salt, *first.sides)] == [2] * 4
    assert first_tiles(outputs._replace(has_salt=None), 2).has_salt is None


@pytest.mark.parametrize("kind", ["mean-teacher", "co-training"])
def test_what_is_not_known_of_labelled_tiles_teaches_nothing_and_breaks_nothing(kind: str) -> None:
    """The objective is that of tiles whose hidden pixels have whatever truth."""
    tiles = replace(tiny_tiles(4, seed=1), is_partial=True)
    assert tiles.masks is not None
    hidden = tiles.masks.clone()
    hidden[:, :, 12:] = UNKNOWN
    mixed = draw_mixture(replace(tiles, masks=hidden), tiny_tiles(5, seed=2), torch.arange(4), share=0.4, rng=seed())
    assert torch.equal(mixed.masks[:4].isnan(), hidden == UNKNOWN)
    plan = replace(PLAN, loss=Loss(bce=1.0), augment=Augment(flip=0.0), is_partial=True)
    first, second = Layers(0), Layers(1)
    if kind == "mean-teacher":
        found = mean_teacher_objective(first, second, mixed, plan=plan, weight=1.0, has_salt=0.0, rng=seed())
    else:
        found = co_training_objective(
            first, second, mixed, plan=plan, agreement=1.0, difference=1.0, eps=0.02, rng=seed()
        )
    torch.autograd.backward(found.loss)
    assert all(bool(torch.isfinite(each.grad).all()) for each in first.parameters() if each.grad is not None)
    told = []
    for half in (slice(None, 12), slice(None)):
        shown = first(net_input(mixed.images[:4], mixed.depths_m[:4], spec=PLAN.spec, frame=PLAN.frame)).mask
        logits = PLAN.frame.release(shown[:, None], height=SIDE, width=SIDE)[:, 0, :, half]
        truth = tiles.masks[:, :, half].float()
        told.append(float(torch.nn.functional.binary_cross_entropy_with_logits(logits, truth).detach()))
    if kind == "mean-teacher":
        assert float(found.told.detach()) == pytest.approx(told[0], rel=1e-5)
        assert told[0] != pytest.approx(told[1], rel=1e-3)


def test_where_truth_is_not_known_a_fooling_tile_follows_the_nets_own_answer() -> None:
    images = torch.full((1, 2, 2), 0.5, requires_grad=True)
    logits = images * torch.tensor([[[3.0, -3.0], [3.0, -3.0]]])
    own = (logits > 0).float().detach()
    partial = own.clone()
    partial[0, 0] = math.nan
    assert torch.equal(fooling(images, logits, truth=partial, eps=0.1), fooling(images, logits, truth=own, eps=0.1))
