import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.predict import stacking
from diapir.predict.stacking import Stack, fit_stack, stacked
from fake_masks import blob_masks


def noisy_members(truth: NDArray[np.uint8], *, noise: tuple[float, ...], seed: int = 0) -> list[NDArray[np.float32]]:
    """Members that see the same truth, each through its own noise."""
    rng = np.random.default_rng(seed)
    return [
        (1 / (1 + np.exp(-(4.0 * truth - 2 + rng.normal(0, level, truth.shape))))).astype(np.float32) for level in noise
    ]


def objective(stack: Stack, members: list[NDArray[np.float32]], truth: NDArray[np.uint8], *, ridge: float) -> float:
    """What the docstring says is minimised, pixel by pixel."""
    inputs = np.stack([member.ravel() for member in members]).astype(np.float64)
    weights = np.array(stack.weights)
    probability = 1 / (1 + np.exp(-(weights @ inputs + stack.bias)))
    salt = truth.ravel() > 0
    entropy = -np.log(np.where(salt, probability, 1 - probability)).mean()
    spread = ((weights - weights.mean()) ** 2).sum()
    rest = len(weights) * weights.mean() ** 2 + stack.bias**2
    return float(entropy + ridge / 2 * (spread + rest / 1000))


def test_known_weights_are_recovered() -> None:
    rng = np.random.default_rng(0)
    members = [rng.random((150, 20, 20)) for _ in range(3)]
    logits = 3.0 * members[0] + 1.0 * members[1] - 2.0 * members[2] - 1.2
    truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    stack = fit_stack(members, truth, ridge=1e-8)
    # 60,000 pixels: standard errors of about 0.04.
    assert stack.weights == pytest.approx((3.0, 1.0, -2.0), abs=0.15)
    assert stack.bias == pytest.approx(-1.2, abs=0.15)


@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_no_other_unit_nearby_does_better(ridge: float) -> None:
    truth = blob_masks(12, side=14)
    members = noisy_members(truth, noise=(3.0, 4.0))
    stack = fit_stack(members, truth, ridge=ridge)
    least = objective(stack, members, truth, ridge=ridge)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(10):
            step = rng.normal(0, size, 3)
            other = Stack(tuple(np.array(stack.weights) + step[:2]), stack.bias + step[2], 0.0)
            assert objective(other, members, truth, ridge=ridge) >= least


def test_twins_share_their_weight() -> None:
    truth = blob_masks(12, side=14)
    [member] = noisy_members(truth, noise=(3.0,))
    alone, twins = fit_stack([member], truth), fit_stack([member, member], truth)
    assert twins.weights[0] == pytest.approx(twins.weights[1])
    assert sum(twins.weights) == pytest.approx(alone.weights[0], rel=1e-2)


def test_a_strong_ridge_gives_the_mean() -> None:
    truth = blob_masks(12, side=14)
    weights = fit_stack(noisy_members(truth, noise=(2.0, 5.0)), truth, ridge=1.0).weights
    assert weights[0] == pytest.approx(weights[1], rel=0.05)
    assert weights[0] > 0


def test_members_that_are_never_wrong_have_a_finite_stack() -> None:
    truth = blob_masks(9, side=14)
    stack = fit_stack([truth.astype(np.float16)], truth)
    assert np.isfinite([*stack.weights, stack.bias]).all()
    assert np.array_equal(stacked([truth.astype(np.float16)], stack) > 0.5, truth > 0)


def test_the_better_member_weighs_more() -> None:
    truth = blob_masks(12, side=14)
    good, bad = fit_stack(noisy_members(truth, noise=(2.0, 5.0)), truth).weights
    assert good > bad > 0


def test_tiles_in_few_hands_or_many_give_the_same_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = blob_masks(14, side=12)
    members = noisy_members(truth, noise=(3.0, 4.0))
    at_once = fit_stack(members, truth)
    monkeypatch.setattr(stacking, "_CHUNK", 4)
    assert fit_stack(members, truth).weights == pytest.approx(at_once.weights)


def test_a_stack_is_a_sigmoid_of_the_weighted_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "_CHUNK", 2)
    members = [np.random.default_rng(seed).random((5, 3, 2)).astype(np.float16) for seed in range(2)]
    found = stacked(members, Stack((2.0, -3.0), 0.5, 0.0))
    assert found.dtype == np.float16
    expected = 1 / (1 + np.exp(-(2.0 * members[0].astype(float) - 3.0 * members[1].astype(float) + 0.5)))
    assert np.allclose(found, expected, atol=1e-3)
