"""Learning rate as a function of the step."""

import math
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


def learning_rate(section: Schedule, step: int, *, peak: float, steps: int) -> float:
    """The rate of one step of a stage of `steps` steps."""
    start, end = section.start * peak, section.end * peak
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
        case _:
            assert_never(section.name)
