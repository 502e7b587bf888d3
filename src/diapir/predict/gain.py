"""What a change to predictions was worth on tiles whose truth is known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diapir.metrics import bootstrap_interval


@dataclass(frozen=True)
class Gain:
    """Mean score of the same tiles before and after a change.

    Args:
        difference: `after` minus `before`.
        low, high: paired bootstrap 95 % interval of the difference: tiles are drawn, each with both of its scores.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float


def paired_gain(before: NDArray[np.float64], after: NDArray[np.float64], *, seed: int = 0) -> Gain:
    """The gain of a change, from the scores of each tile (n,) without and with it."""
    assert before.shape == after.shape, f"not the same tiles: {before.shape} and {after.shape}"
    difference = after - before
    # Scores are tenths: without rounding, differences that are equal would differ in the last bit.
    low, high = bootstrap_interval(difference.round(9), rng=np.random.default_rng(seed))
    return Gain(
        before=float(before.mean()),
        after=float(after.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
    )
