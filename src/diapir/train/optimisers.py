"""Recipe section -> optimiser."""

from collections.abc import Iterable
from typing import assert_never

import torch
from torch import nn

from diapir.recipe.training import Optimiser


def build_optimiser(section: Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that a stage names; its learning rate is set anew at each step by the schedule."""
    lr, decay = section.lr, section.weight_decay
    match section.name:
        case "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=section.momentum, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=lr, weight_decay=decay, momentum=section.momentum)
        case _:
            assert_never(section.name)
