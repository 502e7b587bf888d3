import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diapir.recipe.training import Optimiser
from diapir.train.optimisers import build_optimiser, hand_over

STEPS = 6


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 1, 2)).double()


def gradients(seed: int, like: Sequence[Tensor]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(each.shape, generator=rng, dtype=torch.float64) for each in like]


def take_step(optimiser: torch.optim.Optimizer, net: nn.Module, *, seed: int) -> None:
    weights = list(net.parameters())
    for weight, gradient in zip(weights, gradients(seed, weights), strict=True):
        weight.grad = gradient
    optimiser.step()


def train(**named: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Weights before and after some steps along gradients that are drawn."""
    net = small_net()
    before = [weight.detach().clone() for weight in net.parameters()]
    optimiser = build_optimiser(Optimiser.model_validate(named), net.parameters())
    for step in range(STEPS):
        take_step(optimiser, net, seed=step)
    return before, [weight.detach() for weight in net.parameters()]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_rmsprop_follows_the_formula_of_keras() -> None:
    lr, rho, eps = 1e-4, 0.9, 1e-7
    weights, found = train(name="rmsprop", lr=lr, rho=rho, eps=eps, momentum=0.0, weight_decay=0.0)
    squares = [torch.zeros_like(weight) for weight in weights]
    for step in range(STEPS):
        for weight, square, gradient in zip(weights, squares, gradients(step, weights), strict=True):
            square.mul_(rho).add_((1 - rho) * gradient**2)
            weight.sub_(lr * gradient / (square.sqrt() + eps))
    assert_same(found, weights)


def test_adam_decays_through_the_gradient_and_adamw_past_it() -> None:
    lr, decay, eps = 1e-2, 0.3, 1e-7
    for name in ("adam", "adamw"):
        weights, found = train(name=name, lr=lr, weight_decay=decay, eps=eps)
        first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        for step in range(STEPS):
            for index, gradient in enumerate(gradients(step, weights)):
                weight = weights[index]
                pull = gradient + decay * weight if name == "adam" else gradient
                first[index] = 0.9 * first[index] + 0.1 * pull
                second[index] = 0.999 * second[index] + 0.001 * pull**2
                mean, square = first[index] / (1 - 0.9 ** (step + 1)), second[index] / (1 - 0.999 ** (step + 1))
                shrunk = weight * (1 - lr * decay) if name == "adamw" else weight
                weights[index] = shrunk - lr * mean / (square.sqrt() + eps)
        assert_same(found, weights)


def test_sgd_has_momentum_and_decays_through_the_gradient() -> None:
    lr, decay = 0.05, 1e-4
    weights, found = train(name="sgd", lr=lr, weight_decay=decay, momentum=0.9)
    pace = [torch.zeros_like(weight) for weight in weights]
    for step in range(STEPS):
        for index, gradient in enumerate(gradients(step, weights)):
            pace[index] = 0.9 * pace[index] + gradient + decay * weights[index]
            weights[index] = weights[index] - lr * pace[index]
    assert_same(found, weights)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_kernels_of_convolutions_alone_may_decay(name: str) -> None:
    _, decayed = train(name=name, weight_decay=0.5, decay_on="convolutions")
    _, whole = train(name=name, weight_decay=0.5)
    _, free = train(name=name, weight_decay=0.0)
    for found, with_decay, without in zip(decayed, whole, free, strict=True):
        assert torch.equal(found, with_decay if found.ndim == 4 else without)
        assert not torch.equal(with_decay, without)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_state_is_handed_over_weight_by_weight_whatever_the_groups(name: str) -> None:
    def ended(*, changes: bool) -> list[Tensor]:
        net = small_net()
        section = Optimiser.model_validate({"name": name, "weight_decay": 0.0})
        optimiser = build_optimiser(section, net.parameters())
        for step in range(STEPS):
            take_step(optimiser, net, seed=step)
            if changes:
                before, grouping = optimiser, "convolutions" if step % 2 else "all"
                section = section.model_copy(update={"decay_on": grouping})
                optimiser = build_optimiser(section, net.parameters())
                hand_over(before, optimiser)
        return [weight.detach() for weight in net.parameters()]

    assert all(map(torch.equal, ended(changes=True), ended(changes=False)))


def test_without_momentum_a_step_is_the_gradient() -> None:
    before, after = train(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0)
    summed = copy.deepcopy(before)
    for step in range(STEPS):
        summed = [weight - gradient for weight, gradient in zip(summed, gradients(step, before), strict=True)]
    assert_same(after, summed)
