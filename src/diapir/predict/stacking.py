"""One linear unit over the members of an ensemble, fitted on out-of-fold tiles and checked on tiles it did not see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from diapir.metrics import tile_scores
from diapir.predict.ensemble import Probability
from diapir.predict.gain import Gain, paired_gain

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


@dataclass(frozen=True)
class StackCheck:
    """A stack against the plain mean, on tiles that its weights were not fitted on.

    Args:
        gain: in score, both cut at 0.5; `before` is the mean's.
        cross_entropy: the stack's, nats a pixel.
    """

    gain: Gain
    cross_entropy: float


def fit_stack(
    members: Sequence[Probability],
    truth: NDArray[np.uint8],
    *,
    rows: NDArray[np.int64] | None = None,
    ridge: float = 1e-5,
    start: Stack | None = None,
) -> Stack:
    """The linear unit that is best on tiles that none of the members' nets saw.

    It minimises the binary cross-entropy, the mean over all pixels of all tiles, plus
    ridge / 2 x (sum of (weight - mean weight)² + (members x mean weight² + bias²) / 1000).
    Members are much alike, so the cross-entropy alone hardly tells their weights apart; the penalty draws them towards
    equal ones, the plain mean, and hardly touches their sum. It is convex with one minimum, found by Newton steps,
    halved where they overshoot.

    Args:
        members: (n, h, w) each, out-of-fold.
        truth: uint8 (n, h, w) of 0 and 1.
        rows: the tiles to fit on; all of them if None.
        start: where the search begins; the same minimum is found from anywhere.

    Source: Laurans' meta-model (TGS competition), fitted there by gradient steps with early stopping on training tiles.
    """
    assert ridge > 0, f"ridge must be above 0: got {ridge}"
    rows = np.arange(len(truth)) if rows is None else rows
    number = len(members)
    unit = np.array([*[_FIRST_SLOPE / number] * number, _FIRST_BIAS])
    if start is not None:
        unit = np.array([*start.weights, start.bias])
    penalty = _penalty(number, ridge)
    found = _measure(unit, members, truth, rows=rows, penalty=penalty)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(found.curvature, -found.slope)
        if -found.slope @ step / 2 < _CLOSE:
            break
        after = _measure(unit + step, members, truth, rows=rows, penalty=penalty)
        while after.value > found.value + _ROUNDING:
            step /= 2
            after = _measure(unit + step, members, truth, rows=rows, penalty=penalty)
        unit, found = unit + step, after
    cross_entropy = found.value - float(unit @ penalty @ unit) / 2
    return Stack(weights=tuple(unit[:-1].tolist()), bias=float(unit[-1]), cross_entropy=cross_entropy)


def stacked(members: Sequence[Probability], stack: Stack) -> Probability:
    """The stack's probability: (n, h, w), of the members' own type."""
    result: Probability = np.empty(members[0].shape, np.result_type(*members))
    for start in range(0, len(result), _CHUNK):
        result[start : start + _CHUNK] = _unit_of(members, stack, np.s_[start : start + _CHUNK])
    return result


def check_stack(
    members: Sequence[Probability],
    truth: NDArray[np.uint8],
    *,
    stack: Stack,
    parts: int = 5,
    ridge: float = 1e-5,
    seed: int = 0,
) -> StackCheck:
    """How a stack does on tiles it did not see: tiles are cut into parts, and each is stacked by weights of the others.

    Args:
        stack: fitted on all tiles; the searches begin there, which saves time and does not move what they find.
        parts: at random, at least 2; no more than there are tiles.
    """
    count = len(truth)
    part = np.random.default_rng(seed).permutation(count) % min(parts, count)
    stacked_scores, mean_scores, losses = (np.empty(count) for _ in range(3))
    for one in range(int(part.max()) + 1):
        own = np.flatnonzero(part == one)
        fitted = fit_stack(members, truth, rows=np.flatnonzero(part != one), ridge=ridge, start=stack)
        for low in range(0, len(own), _CHUNK):
            rows = own[low : low + _CHUNK]
            probability = _unit_of(members, fitted, rows)
            plain = np.mean([member[rows].astype(np.float64) for member in members], axis=0)
            stacked_scores[rows] = _scores(probability, truth[rows])
            mean_scores[rows] = _scores(plain, truth[rows])
            wrong = np.where(truth[rows] > 0, 1 - probability, probability)
            losses[rows] = -np.log1p(-np.minimum(wrong, 1 - 1e-12)).mean(axis=(1, 2))
    return StackCheck(gain=paired_gain(mean_scores, stacked_scores), cross_entropy=float(losses.mean()))


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
    rows: NDArray[np.int64],
    penalty: NDArray[np.float64],
) -> _Found:
    value, slope, curvature = 0.0, np.zeros_like(unit), np.zeros((len(unit), len(unit)))
    for start in range(0, len(rows), _CHUNK):
        own = rows[start : start + _CHUNK]
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
    pixels = len(rows) * truth[0].size
    pull = penalty @ unit
    return _Found(value / pixels + float(unit @ pull) / 2, slope / pixels + pull, curvature / pixels + penalty)


def _penalty(members: int, ridge: float) -> NDArray[np.float64]:
    """The quadratic form of the penalty: (members + 1, members + 1), the bias last."""
    form = np.zeros((members + 1, members + 1))
    form[:-1, :-1] = np.eye(members) - 0.999 / members
    form[-1, -1] = 0.001
    return ridge * form


def _unit_of(members: Sequence[Probability], stack: Stack, rows: slice | NDArray[np.int64]) -> NDArray[np.float64]:
    logits = sum(
        (
            np.multiply(member[rows], weight, dtype=np.float64)
            for member, weight in zip(members, stack.weights, strict=True)
        ),
        start=np.full(members[0][rows].shape, stack.bias),
    )
    probability: NDArray[np.float64] = expit(logits)
    return probability


def _scores(probability: NDArray[np.float64], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    return tile_scores(torch.from_numpy(probability > 0.5), torch.from_numpy(truth)).double().numpy()
