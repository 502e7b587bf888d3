import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diapir.data.tiles import UNKNOWN
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors
from diapir.nets.unet import Outputs
from diapir.recipe.training import Augment, Loss
from diapir.train.loop import Plan, steps_per_epoch, supervised_loss, train_epoch
from fake_training import tiny_tiles

SPEC = InputSpec(("image",), levels=((0.4, 0.2),), depth_low_m=0.0, depth_high_m=1.0)


class OneLayer(nn.Module):
    """The smallest net without batch norm; remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Outputs:
        self.seen.append(image)
        return Outputs(self.conv(image)[:, 0], None)


def one_layer() -> OneLayer:
    torch.manual_seed(0)
    return OneLayer()


def make_plan(batch: int) -> Plan:
    return Plan(
        spec=SPEC,
        frame=Frame("native"),
        augment=Augment(flip=0.5, geometry=0.5, shift=0.2, tone=0.5, brightness=0.2),
        loss=Loss(bce=1.0),
        batch=batch,
        clip_norm=0.0,
        autocast=nullcontext,
        backward=torch.autograd.backward,
    )


def run_epoch(
    net: OneLayer, plan: Plan, *, count: int = 12, first_step: int = 0, lr: float = 0.0, seed: int = 5,
    tiles: TileTensors | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    tiles = tiles or tiny_tiles(count, seed=1)
    count = len(tiles)
    return train_epoch(
        net,
        torch.optim.SGD(net.parameters(), lr=9.0),
        tiles,
        plan=plan,
        order=torch.arange(count).flip(0),
        first_step=first_step,
        learning_rate=lambda step: lr * (step + 1),
        rng=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize(("tiles", "batch", "steps"), [(12, 4, 3), (13, 4, 3), (15, 4, 3), (3, 4, 1), (1, 4, 1)])
def test_an_epoch_has_the_whole_batches(tiles: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(tiles, batch) == steps
    assert len(list(run_epoch(one_layer(), make_plan(batch), count=tiles))) == steps


def test_tiles_come_in_the_order_of_the_epoch() -> None:
    net, plan = one_layer(), replace(make_plan(4), augment=Augment(flip=0.0))
    list(run_epoch(net, plan, count=9))
    ((mean, deviation),) = SPEC.levels
    seen = (torch.cat(net.seen)[:, 0] * deviation + mean) * 255
    assert torch.allclose(seen, tiny_tiles(9, seed=1).images.flip(0)[:8].float(), atol=1e-3)


def test_the_rest_of_an_epoch_takes_its_own_batches() -> None:
    whole, rest = one_layer(), one_layer()
    plan = replace(make_plan(4), augment=Augment(flip=0.0))
    list(run_epoch(whole, plan))
    list(run_epoch(rest, plan, first_step=1))
    assert torch.equal(torch.cat(rest.seen), torch.cat(whole.seen[1:]))


def test_each_step_has_its_own_learning_rate() -> None:
    net, plan = one_layer(), make_plan(4)
    weight, before = net.conv.weight, net.conv.weight.detach().clone()
    for step, _ in enumerate(run_epoch(net, plan, lr=0.1), start=1):
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0
        assert torch.allclose(before - weight.detach(), 0.1 * step * weight.grad, atol=1e-7)
        before = weight.detach().clone()


def test_clipping_bounds_the_gradient() -> None:
    def norms(clip_norm: float) -> list[float]:
        net = one_layer()
        steps = run_epoch(net, replace(make_plan(4), clip_norm=clip_norm))
        return [
            float(torch.cat([each.grad.flatten() for each in net.parameters() if each.grad is not None]).norm())
            for _ in steps
        ]

    free, clipped = norms(0.0), norms(0.01)
    assert min(free) > 0.01
    assert clipped == pytest.approx([0.01] * 3, rel=1e-3)


@pytest.mark.parametrize(("batch", "processes"), [(4, 2), (5, 2), (6, 4), (5, 5)])
def test_processes_that_share_a_batch_make_the_same_step(batch: int, processes: int) -> None:
    def first_step(part: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        net = one_layer()
        loss = next(run_epoch(net, replace(make_plan(batch), part=part)))
        assert net.conv.weight.grad is not None
        return net.seen[0], loss, net.conv.weight.grad

    inputs, loss, gradient = first_step((0, 1))
    shares = [first_step((rank, processes)) for rank in range(processes)]
    assert torch.allclose(torch.cat([share[0] for share in shares]), inputs)
    assert torch.allclose(torch.stack([share[1] for share in shares]).mean(), loss)
    assert torch.allclose(torch.stack([share[2] for share in shares]).mean(0), gradient, atol=1e-7)


def test_the_net_is_left_in_training() -> None:
    net = one_layer().eval()
    list(run_epoch(net, make_plan(4)))
    assert net.training


def test_unlabelled_pixels_teach_nothing() -> None:
    known = tiny_tiles(8, seed=1)
    assert known.masks is not None
    hidden = known.masks.clone()
    hidden[:, :, 12:] = UNKNOWN
    slopes = []
    for answer in (0, 1):
        guessed = torch.where(hidden == UNKNOWN, torch.tensor(answer, dtype=torch.uint8), hidden)
        for masks, is_partial in ((guessed, False), (hidden, True)):
            net, plan = one_layer(), replace(make_plan(8), is_partial=is_partial)
            tiles = replace(known, masks=masks, is_partial=is_partial)
            list(run_epoch(net, plan, tiles=tiles))
            assert net.conv.weight.grad is not None
            slopes.append(net.conv.weight.grad)
    guessed_none, partial, guessed_salt, again = slopes
    assert torch.equal(partial, again)
    assert not torch.allclose(guessed_none, guessed_salt)
    assert not torch.allclose(partial, guessed_none)
    assert partial.isfinite().all()


def test_soft_labels_teach_as_the_mean_of_both_answers_does() -> None:
    known = tiny_tiles(8, seed=1)
    assert known.masks is not None
    share = 0.75
    slopes = {}
    for name, value in (("salt", 1.0), ("none", 0.0), ("soft", share)):
        masks = torch.full(known.masks.shape, value)
        net, plan = one_layer(), replace(make_plan(8), is_soft=True, frame=Frame("resize", 32))
        list(run_epoch(net, replace(plan, loss=Loss(bce=1.0, on_tile=False)), tiles=replace(known, masks=masks)))
        assert net.conv.weight.grad is not None
        slopes[name] = net.conv.weight.grad
    expected = share * slopes["salt"] + (1 - share) * slopes["none"]
    torch.testing.assert_close(slopes["soft"], expected)
    assert not torch.allclose(slopes["soft"], slopes["salt"])


def test_a_mask_is_unknown_where_the_framed_one_was_made_of_unknown_pixels() -> None:
    masks = torch.zeros(2, 10, 10)
    masks[:, :5] = 1
    masks[:, :, 7:] = math.nan
    plan = replace(make_plan(2), frame=Frame("resize", 20), loss=Loss(bce=1.0, on_tile=False), is_partial=True)
    logits = torch.zeros(2, 20, 20)
    logits[:, :10], logits[:, 10:] = 20, -20  # right wherever somebody says
    logits[:, :, 15:] *= -1  # and wrong beyond
    assert float(supervised_loss(Outputs(logits, None), masks, plan=plan)) == pytest.approx(0, abs=0.2)
    logits[:, 0, 0] = -20
    assert float(supervised_loss(Outputs(logits, None), masks, plan=plan)) > 0.05
