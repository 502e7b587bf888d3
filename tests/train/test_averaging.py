import copy
import math

import pytest
import torch
from torch import Tensor, nn

from diapir.train.averaging import update_average


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))


def floats(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics of norms, in double precision."""
    return {name: value.double().clone() for name, value in net.state_dict().items() if value.is_floating_point()}


@pytest.mark.parametrize("decay", [0.0, 0.05, 0.5, 0.99])
def test_the_average_agrees_with_the_slow_formula(decay: float) -> None:
    net = small_net()
    average = copy.deepcopy(net).requires_grad_(False)
    expected = floats(net)
    assert {name.split(".")[-1] for name in expected} == {"weight", "bias", "running_mean", "running_var"}
    for step in range(30):
        with torch.no_grad():
            for each in net.parameters():
                each.add_(torch.randn_like(each))
        net(torch.randn(4, 1, 6, 6))  # moves the statistics of the norm
        update_average(average, net, step=step, decay=decay)
        share = min(decay, (1 + step) / (10 + step))
        expected = {name: share * expected[name] + (1 - share) * value for name, value in floats(net).items()}
    for name, value in floats(average).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_the_random_start_is_forgotten_by_the_product_of_the_decays() -> None:
    net, average = small_net(0), small_net(1)
    start, target = floats(average), floats(net)
    for step in range(500):
        update_average(average, net, step=step, decay=0.99)
    left = math.prod(min(0.99, (1 + step) / (10 + step)) for step in range(500))
    assert left < 1e-9
    update_average(start_again := small_net(1), net, step=0, decay=0.99)
    for name, value in floats(average).items():
        torch.testing.assert_close(value, target[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(floats(start_again)[name], 0.1 * start[name] + 0.9 * target[name])


def test_the_net_is_left_alone_and_counts_are_not_averaged() -> None:
    net, average = small_net(0), small_net(1)
    net(torch.randn(2, 1, 6, 6))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    update_average(average, net, step=1000, decay=0.5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert average.state_dict()["1.num_batches_tracked"].item() == 0
