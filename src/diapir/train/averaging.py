"""Averages of weights over training."""

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, *, step: int, decay: float) -> None:
    """Move an exponential moving average of parameters and batch-norm statistics one step towards the net.

    Args:
        step: optimiser steps taken before this one. Early on the decay is (1 + step) / (10 + step) where that is
            smaller, so that the random start is soon forgotten.

    Source: Tarvainen and Valpola 2017, section 2 (arXiv:1703.01780); the warm-up is TensorFlow's.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    kept = [tensor for tensor in average.state_dict().values() if tensor.is_floating_point()]
    new = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    torch._foreach_lerp_(kept, new, share)
