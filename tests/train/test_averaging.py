import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from diapir.train.averaging import estimate_norms, halving_shares, mean_weights, update_average


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


# Means of kept weights.


def test_ten_halving_shares_follow_the_poster_of_the_28th_place() -> None:
    # W = a (W10 + (1 - a) W9 + ... + (1 - a)^9 W1), with a = 1 / 2, divided by 1 - 2^-10.
    expected = [0.5 * (1 - 0.5) ** rank / (1 - 2**-10) for rank in range(10)]
    assert halving_shares(10) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_halving_shares_sum_to_one_and_halve(count: int) -> None:
    shares = halving_shares(count)
    assert sum(shares) == pytest.approx(1, rel=1e-12)
    assert all(low == pytest.approx(high / 2) for high, low in itertools.pairwise(shares))


def test_the_mean_of_ten_nets_agrees_with_the_formula_weight_by_weight() -> None:
    nets = [small_net(seed) for seed in range(10)]
    for steps, net in enumerate(nets):
        for _ in range(steps):
            net(torch.randn(2, 1, 6, 6))
    found = mean_weights(zip(halving_shares(10), [net.state_dict() for net in nets], strict=True))
    for name, value in found.items():
        values = [net.state_dict()[name] for net in nets]
        assert value.dtype == values[0].dtype
        if value.is_floating_point():
            total = torch.zeros_like(value, dtype=torch.float64)
            for worse in reversed(values):
                total = (total + worse.double()) / 2
            torch.testing.assert_close(value.double(), total / (1 - 2**-10), rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, values[0])


def test_the_mean_of_one_is_itself() -> None:
    state = small_net().state_dict()
    assert all(torch.equal(value, state[name]) for name, value in mean_weights([(1.0, state)]).items())


# Statistics of norms.


def linear_net() -> tuple[nn.Sequential, nn.BatchNorm2d]:
    """Without anything that is not linear but the norm at its end, whose statistics follow from the data's."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 1), norm).double()
    for _ in range(5):
        net(7 + 3 * torch.randn(8, 2, 5, 5, dtype=torch.float64))
    return net.eval(), norm


def before_the_norm(net: nn.Sequential, inputs: Tensor) -> Tensor:
    """Channels and all their values."""
    return torch.as_tensor(net[:2](inputs)).transpose(0, 1).flatten(1)


def test_statistics_of_all_the_data_at_once_are_those_of_the_data() -> None:
    (net, norm), inputs = linear_net(), torch.randn(30, 2, 5, 5, dtype=torch.float64) * 2 + 1
    estimate_norms(net, [inputs])
    seen = before_the_norm(net, inputs)
    torch.testing.assert_close(norm.running_mean, seen.mean(1))
    torch.testing.assert_close(norm.running_var, seen.var(1))


@pytest.mark.parametrize("sizes", [[10, 10, 10], [12, 12, 6], [1, 29], [5, 4, 3, 2, 1]])
def test_batches_count_by_their_images(sizes: list[int]) -> None:
    (net, norm), inputs = linear_net(), torch.randn(sum(sizes), 2, 5, 5, dtype=torch.float64) * 2 + 1
    ends = list(itertools.accumulate(sizes))
    batches = [inputs[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    estimate_norms(net, iter(batches))
    torch.testing.assert_close(norm.running_mean, before_the_norm(net, inputs).mean(1))
    variances = torch.stack([len(batch) * before_the_norm(net, batch).var(1) for batch in batches])
    torch.testing.assert_close(norm.running_var, variances.sum(0) / sum(sizes))


def test_an_estimate_leaves_weights_modes_and_momenta_alone() -> None:
    net, norm = linear_net()
    net.train()
    net[0].eval()
    norm.momentum = 0.03
    before = {name: value.clone() for name, value in net.named_parameters()}
    estimate_norms(net, [torch.randn(4, 2, 5, 5, dtype=torch.float64)])
    assert [module.training for module in net] == [False, True, True]
    assert norm.momentum == 0.03
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())


def test_dropout_takes_part_in_an_estimate() -> None:
    norm = nn.BatchNorm2d(1)
    net = nn.Sequential(nn.Dropout(0.5), norm).eval()
    torch.manual_seed(0)
    estimate_norms(net, [torch.ones(64, 1, 8, 8)])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # Half of the ones are dropped and the others doubled: mean 1, variance 1.
    assert norm.running_mean.item() == pytest.approx(1, abs=0.1)
    assert norm.running_var.item() == pytest.approx(1, abs=0.1)
