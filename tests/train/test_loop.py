from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diapir.nets.framing import Frame, InputSpec
from diapir.nets.unet import Outputs
from diapir.recipe.training import Augment, Loss
from diapir.train.loop import Plan, steps_per_epoch, train_epoch
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
    net: OneLayer, plan: Plan, *, count: int = 12, first_step: int = 0, lr: float = 0.0, seed: int = 5
) -> Iterator[Tensor]:
    return train_epoch(
        net,
        torch.optim.SGD(net.parameters(), lr=9.0),
        tiny_tiles(count, seed=1),
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
