"""Learning rate as a function of the step, or of the held-out scores."""

import math
from collections.abc import Sequence
from typing import assert_never

from diapir.recipe.training import Schedule


def constant(step: int, *, peak: float) -> float:
    """The same rate at every step."""
    assert step >= 0
    return peak


def cosine(step: int, *, peak: float, end: float, steps: int) -> float:
    """From `peak` at step 0 to `end` at the last of `steps`, along half a cosine.

    Source: Loshchilov and Hutter 2017, equation 5, one cycle (arXiv:1608.03983).
    """
    share = min(step / max(steps - 1, 1), 1.0)
    return end + (peak - end) * (1 + math.cos(math.pi * share)) / 2


def one_cycle(step: int, *, start: float, peak: float, end: float, steps: int, warmup: int) -> float:
    """A cosine rise from `start` to `peak` over `warmup` steps, then a cosine fall to `end`.

    Source: Smith and Topin 2018, section 3 (arXiv:1708.07120), with cosines for straight lines.
    """
    if step < warmup:
        return peak + (start - peak) * (1 + math.cos(math.pi * step / warmup)) / 2
    return cosine(step - warmup, peak=peak, end=end, steps=steps - warmup)


def flat_cosine(step: int, *, start: float, peak: float, end: float, steps: int, warmup: int, fall: int) -> float:
    """A cosine rise to `peak` over `warmup` steps, a plain, and a cosine fall to `end` over the last `fall` steps."""
    if step < steps - fall:
        return one_cycle(min(step, warmup), start=start, peak=peak, end=peak, steps=steps, warmup=warmup)
    return cosine(step - (steps - fall), peak=peak, end=end, steps=fall)


def triangular(step: int, *, base: float, peak: float, half_cycle: int) -> float:
    """From `base` up to `peak` over `half_cycle` steps and back over as many, again and again, in straight lines.

    Source: Smith 2017, Cyclical Learning Rates, section 3.2 (arXiv:1506.01186).
    """
    _, height = _triangle(step, half_cycle)
    return base + (peak - base) * height


def triangular2(step: int, *, base: float, peak: float, half_cycle: int) -> float:
    """`triangular`, with half the height over `base` in each cycle of that of the one before.

    Source: Smith 2017, Cyclical Learning Rates, section 3.2 (arXiv:1506.01186).
    """
    cycle, height = _triangle(step, half_cycle)
    return base + (peak - base) * math.ldexp(height, -cycle)


def noam(step: int, *, peak: float, warmup: int) -> float:
    """A straight rise to `peak` at step `warmup`, then a fall as one over the root of the step; step 0 is as step 1.

    Source: Vaswani et al. 2017, equation 3 (arXiv:1706.03762), scaled to its peak as the 9th place did.
    """
    count = float(max(step, 1))
    rise: float = count * warmup**-1.5
    return peak * math.sqrt(warmup) * min(1.0 / math.sqrt(count), rise)


def plateau(scores: Sequence[float], *, peak: float, factor: float, patience: int, lowest: float) -> float:
    """The rate after these held-out scores: times `factor` for each `patience` of them without a higher one.

    Counting starts anew with each higher score and each fall of the rate, as in Keras.
    """
    rate, best, waited = peak, -math.inf, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == patience:
            rate, waited = max(rate * factor, lowest), 0
    return rate


def looks_since_best(scores: Sequence[float]) -> int:
    """How many scores followed the highest, the first of them if it came several times."""
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def learning_rate(section: Schedule, step: int, *, peak: float, steps: int, scores: Sequence[float] = ()) -> float:
    """The rate of one step of a cycle of `steps` steps, or of one epoch where the schedule counts those.

    Args:
        scores: the cycle's held-out scores so far, for a schedule that looks at them.
    """
    lowest = section.lowest_lr
    start, end = (section.start * peak, section.end * peak) if lowest is None else (lowest, lowest)
    warmup, fall = round(section.warmup * steps), round(section.fall * steps)
    match section.name:
        case "constant":
            return constant(step, peak=peak)
        case "cosine":
            return cosine(step, peak=peak, end=end, steps=steps)
        case "one_cycle":
            return one_cycle(step, start=start, peak=peak, end=end, steps=steps, warmup=warmup)
        case "flat_cosine":
            return flat_cosine(step, start=start, peak=peak, end=end, steps=steps, warmup=warmup, fall=fall)
        case "triangular":
            return triangular(step, base=start, peak=peak, half_cycle=section.half_cycle)
        case "triangular2":
            return triangular2(step, base=start, peak=peak, half_cycle=section.half_cycle)
        case "noam":
            return noam(step, peak=peak, warmup=max(warmup, 1))
        case "plateau":
            return plateau(scores, peak=peak, factor=section.factor, patience=section.patience, lowest=end)
        case _:
            assert_never(section.name)


def _triangle(step: int, half_cycle: int) -> tuple[int, float]:
    """Number of the cycle, from 0, and the share of the way up, from 0 to 1."""
    cycle, into = divmod(step, 2 * half_cycle)
    return cycle, 1 - abs(into / half_cycle - 1)
