"""Recipe section -> optimiser."""

from collections.abc import Iterable
from typing import Any, assert_never

import torch
from torch import nn

from diapir.recipe.training import Optimiser


def build_optimiser(section: Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that a stage names; its learning rate is set anew at each step by the schedule."""
    lr, decay, momentum, eps = section.lr, section.weight_decay, section.momentum, section.eps
    groups = _groups(section, parameters)
    match section.name:
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, eps=eps, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, eps=eps, weight_decay=decay, fused=True)
        case "rmsprop":
            rho = section.rho
            return torch.optim.RMSprop(groups, lr=lr, alpha=rho, eps=eps, weight_decay=decay, momentum=momentum)
        case _:
            assert_never(section.name)


def hand_over(before: torch.optim.Optimizer, after: torch.optim.Optimizer) -> None:
    """Give the state of one optimiser, weight by weight, to another of its kind, however they group the weights."""
    assert type(before) is type(after)
    after.state.update(before.state)


def _groups(section: Optimiser, parameters: Iterable[nn.Parameter]) -> list[Any]:
    """All parameters, or the kernels of convolutions and, without decay, the rest."""
    match section.decay_on:
        case "all":
            return list(parameters)
        case "convolutions":
            every = list(parameters)
            kernels = [each for each in every if each.ndim == 4]
            rest = [each for each in every if each.ndim != 4]
            return [{"params": kernels}, {"params": rest, "weight_decay": 0.0}]
        case _:
            assert_never(section.decay_on)
