"""Runs that cannot succeed: told early, with the cause."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_EMPTY_SCORES = 8
_RUNAWAY_FACTOR, _RUNAWAY_EPOCHS = 2.0, 3
_STUCK_EPOCHS, _STUCK_WITHIN = 5, 0.003


class TrainingFailed(Exception):
    """Training was stopped because it cannot succeed; the text names the cause and a remedy. Exit status 3."""


def check_loss(loss: float, *, place: str, learning_rate: float, weights_finite: bool) -> None:
    """Stop at a loss that is not finite.

    Raises:
        TrainingFailed: with the likelier cause.
    """
    if math.isfinite(loss):
        return
    cause = (
        "the net's outputs overflowed while its weights are still finite: try precision: float32, or clip_norm: 1"
        if weights_finite
        else f"the weights overflowed: the learning rate, {learning_rate:.3g} here, is too high; try a tenth of it, "
        "a longer warmup, or clip_norm: 1"
    )
    raise TrainingFailed(f"{place}: the loss is {loss}. {cause}")


def diagnose(history: Sequence[Mapping[str, Any]], *, has_salt: bool) -> str | None:
    """The reason why a run cannot succeed, or None.

    Args:
        history: one record an epoch: `stage`, `epoch`, `loss`, `bce_only`, `learning_rate`; and where the held-out
            tiles were scored, `predicted_empty`, the share of them without any salt pixel.
        has_salt: whether any held-out tile has salt.
    """
    if not history:
        return None
    stage = [epoch for epoch in history if epoch["stage"] == history[-1]["stage"]]
    return _collapsed(history, has_salt=has_salt) or _running_away(stage) or _stuck(stage)


def _collapsed(history: Sequence[Mapping[str, Any]], *, has_salt: bool) -> str | None:
    scored = [epoch["predicted_empty"] for epoch in history if epoch.get("predicted_empty") is not None]
    if not has_salt or len(scored) < _EMPTY_SCORES or min(scored[-_EMPTY_SCORES:]) < 1:
        return None
    return (
        f"the net has called every held-out tile empty {_EMPTY_SCORES} times in a row: it has collapsed to the easy "
        "answer. Train with bce before lovasz, lower the learning rate, or check that images and masks belong together"
    )


def _running_away(stage: Sequence[Mapping[str, Any]]) -> str | None:
    losses = [epoch["loss"] for epoch in stage]
    if len(losses) <= _RUNAWAY_EPOCHS:
        return None
    best, last = min(losses[:-_RUNAWAY_EPOCHS]), losses[-_RUNAWAY_EPOCHS:]
    if min(last) <= max(_RUNAWAY_FACTOR * best, best + 0.1):
        return None
    return (
        f"the loss was {best:.3g} and has stayed above {min(last):.3g} for {_RUNAWAY_EPOCHS} epochs: the learning "
        f"rate, {stage[-1]['learning_rate']:.3g} here, is running away with the weights; try a third of it"
    )


def _stuck(stage: Sequence[Mapping[str, Any]]) -> str | None:
    losses = [epoch["loss"] for epoch in stage if epoch["bce_only"]][-_STUCK_EPOCHS:]
    if len(losses) < _STUCK_EPOCHS or max(abs(loss - math.log(2)) for loss in losses) > _STUCK_WITHIN:
        return None
    return (
        f"the cross-entropy has been ln 2 for {len(losses)} epochs, what a coin would reach: the net learns nothing. "
        "Raise the learning rate, or check that the images are not all alike"
    )
