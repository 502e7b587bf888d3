"""One linear unit over the members of an ensemble, fitted on out-of-fold tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from diapir.predict.ensemble import Probability

_CHUNK = 32  # tiles in hand at once: 2.6 MB of float64 for each member
_MOST_STEPS = 50
_CLOSE = 1e-12  # Newton's own estimate of what is left to gain, in nats a pixel
_ROUNDING = 1e-14  # by which sums over all pixels may seem to rise
_FIRST_SLOPE, _FIRST_BIAS = 8.0, -4.0  # of the members' mean: an unsure copy of it, near which the best is found


@dataclass(frozen=True)
class Stack:
    """The linear unit: probability = sigmoid(sum of weights x members + bias), the same for every pixel.

    Args:
        cross_entropy: on the tiles it was fitted on, nats a pixel, without the penalty.
    """

    weights: tuple[float, ...]
    bias: float
    cross_entropy: float


def fit_stack(members: Sequence[Probability], truth: NDArray[np.uint8], *, ridge: float = 1e-5) -> Stack:
    """The linear unit that is best on tiles that none of the members' nets saw.

    It minimises the binary cross-entropy, the mean over all pixels of all tiles, plus
    ridge / 2 x (sum of (weight - mean weight)² + (members x mean weight² + bias²) / 1000).
    Members are much alike, so the cross-entropy alone hardly tells their weights apart; the penalty draws them towards
    equal ones, the plain mean, and hardly touches their sum. It is convex with one minimum, found by Newton steps,
    halved where they overshoot.

    Args:
        members: (n, h, w) each, out-of-fold.
        truth: uint8 (n, h, w) of 0 and 1.

    Source: Laurans' meta-model (TGS competition), fitted there by gradient steps with early stopping on training tiles.
    """
    assert ridge > 0, f"ridge must be above 0: got {ridge}"
    number = len(members)
    unit = np.array([*[_FIRST_SLOPE / number] * number, _FIRST_BIAS])
    penalty = _penalty(number, ridge)
    found = _measure(unit, members, truth, penalty=penalty)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(found.curvature, -found.slope)
        if -found.slope @ step / 2 < _CLOSE:
            break
        after = _measure(unit + step, members, truth, penalty=penalty)
        while after.value > found.value + _ROUNDING:
            step /= 2
            after = _measure(unit + step, members, truth, penalty=penalty)
        unit, found = unit + step, after
    cross_entropy = found.value - float(unit @ penalty @ unit) / 2
    return Stack(weights=tuple(unit[:-1].tolist()), bias=float(unit[-1]), cross_entropy=cross_entropy)


def stacked(members: Sequence[Probability], stack: Stack) -> Probability:
    """The stack's probability: (n, h, w), of the members' own type."""
    result: Probability = np.empty(members[0].shape, np.result_type(*members))
    for start in range(0, len(result), _CHUNK):
        own = slice(start, start + _CHUNK)
        logits = np.full(result[own].shape, stack.bias)
        for member, weight in zip(members, stack.weights, strict=True):
            logits += np.multiply(member[own], weight, dtype=np.float64)
        result[own] = expit(logits)
    return result


class _Found(NamedTuple):
    """What is minimised, nats a pixel, with its first and second derivatives by weights and bias."""

    value: float
    slope: NDArray[np.float64]
    curvature: NDArray[np.float64]


def _measure(
    unit: NDArray[np.float64],
    members: Sequence[Probability],
    truth: NDArray[np.uint8],
    *,
    penalty: NDArray[np.float64],
) -> _Found:
    value, slope, curvature = 0.0, np.zeros_like(unit), np.zeros((len(unit), len(unit)))
    for start in range(0, len(truth), _CHUNK):
        own = slice(start, start + _CHUNK)
        is_salt = truth[own].ravel() > 0
        inputs = np.ones((len(unit), is_salt.size))
        for row, member in enumerate(members):
            inputs[row] = member[own].ravel()
        logits = unit @ inputs
        probability = expit(logits)
        # log(1 + e^z) - z y, by way of |z|, so that no exponential overflows.
        value += float(np.log1p(np.exp(-np.abs(logits))).sum() + np.where(is_salt, -logits, logits).clip(min=0).sum())
        slope += inputs @ (probability - is_salt)
        curvature += (inputs * (probability * (1 - probability))) @ inputs.T
    pixels = truth.size
    pull = penalty @ unit
    return _Found(value / pixels + float(unit @ pull) / 2, slope / pixels + pull, curvature / pixels + penalty)


def _penalty(members: int, ridge: float) -> NDArray[np.float64]:
    """The quadratic form of the penalty: (members + 1, members + 1), the bias last."""
    form = np.zeros((members + 1, members + 1))
    form[:-1, :-1] = np.eye(members) - 0.999 / members
    form[-1, -1] = 0.001
    return ridge * form
