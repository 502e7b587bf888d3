"""Cycles: the stretches that stages are made of; their order, epochs, learning rates and ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diapir.recipe.training import Stage
from diapir.recipe.whole import Recipe
from diapir.train.loop import steps_per_epoch
from diapir.train.schedules import learning_rate, looks_since_best


@dataclass(frozen=True)
class Cycle:
    """Once through a stage.

    Args:
        name: of all the recipe's cycles, no two are called alike.
    """

    name: str
    stage: Stage


def cycles_of(recipe: Recipe) -> tuple[Cycle, ...]:
    """All cycles of all stages, in their order."""
    return tuple(Cycle(name, stage) for stage in recipe.stages for name in stage.cycle_names)


def batch_size(stage: Stage, num_tiles: int) -> int:
    """The recipe's, or all the tiles where there are fewer."""
    return min(stage.batch, num_tiles)


def epoch_steps(stage: Stage, num_tiles: int) -> int:
    """Optimiser steps in an epoch: the whole batches in each pass over the tiles."""
    return stage.passes * steps_per_epoch(num_tiles, batch_size(stage, num_tiles))


def epoch_order(stage: Stage, num_tiles: int, *, rng: torch.Generator) -> Tensor:
    """The tiles of an epoch in their order: int64 (steps * batch,)."""
    a_pass = steps_per_epoch(num_tiles, batch_size(stage, num_tiles)) * batch_size(stage, num_tiles)
    if stage.replacement:
        return torch.randint(num_tiles, (stage.passes * a_pass,), generator=rng)
    return torch.cat([torch.randperm(num_tiles, generator=rng)[:a_pass] for _ in range(stage.passes)])


def cycle_rate(stage: Stage, *, epoch: int, step: int, steps: int, scores: Sequence[float]) -> float:
    """The learning rate of one step.

    Args:
        epoch, step: within the cycle and within the epoch, from 0.
        steps: of an epoch.
        scores: the cycle's held-out scores so far.
    """
    schedule, peak = stage.schedule, stage.optimiser.lr
    if schedule.per == "epoch":
        # One more than there are: epoch e of T has the share e / T behind it, as the teams' formulas have it.
        return learning_rate(schedule, epoch, peak=peak, steps=stage.epochs + 1, scores=scores)
    return learning_rate(schedule, epoch * steps + step, peak=peak, steps=stage.epochs * steps, scores=scores)


def is_over(stage: Stage, *, epochs: int, scores: Sequence[float]) -> bool:
    """Whether a cycle ends after so many epochs, with these held-out scores: at its length, or early."""
    patience = stage.stop_patience
    return epochs == stage.epochs or (patience is not None and looks_since_best(scores) >= patience)
