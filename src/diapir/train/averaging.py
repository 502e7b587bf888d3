"""Averages of weights over training, and the batch-norm statistics that belong to them."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def update_average(average: nn.Module, net: nn.Module, *, step: int, decay: float) -> None:
    """Move an exponential moving average of parameters and batch-norm statistics one step towards the net.

    Args:
        step: optimiser steps taken before this one. Early on the decay is (1 + step) / (10 + step) where that is
            smaller, so that the random start is soon forgotten.

    Source: Tarvainen and Valpola 2017, section 2 (arXiv:1703.01780); the warm-up is TensorFlow's.
    """
    move_average(average, net, decay=min(decay, (1 + step) / (10 + step)))


@torch.no_grad()
def move_average(average: nn.Module, net: nn.Module, *, decay: float) -> None:
    """Move an average's parameters and batch-norm statistics towards the net's, of which it takes the share 1 - decay.

    Tensors of whole numbers stay as they are.
    """
    kept = [tensor for tensor in average.state_dict().values() if tensor.is_floating_point()]
    new = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    torch._foreach_lerp_(kept, new, 1 - decay)


def halving_shares(count: int) -> list[float]:
    """Shares of `count` sets of weights, best first: each half of the one before, and one together.

    Source: the 28th place's poster, W = a (W10 + (1 - a) W9 + ... + (1 - a)^9 W1) with a = 1/2, normalised.
    """
    return [2.0 ** -(rank + 1) / (1 - 2.0**-count) for rank in range(count)]


def mean_weights(states: Iterable[tuple[float, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """Weighted mean of sets of tensors with the same names, summed in double precision; counts are the first's.

    Args:
        states: the share of each set, which sum to one, and the set; taken one after another.
    """
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for share, tensors in states:
        for name, tensor in tensors.items():
            if name not in total:
                kinds[name] = tensor.dtype
                total[name] = tensor.double() * share if tensor.is_floating_point() else tensor
            elif tensor.is_floating_point():
                total[name] += tensor.double() * share
    return {name: tensor.to(kinds[name]) for name, tensor in total.items()}


@torch.no_grad()
def estimate_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Find the statistics of a net's batch norms anew: the mean over batches, each counted by its images.

    The net is in training mode meanwhile, with dropout, as it was when its weights were learnt; the mode of every
    module is then as before.

    Args:
        batches: net inputs, (n, ...) each.

    Source: Izmailov et al. 2018, section 3.2 (arXiv:1803.05407); in one pass over the training tiles, as the 9th place.
    """
    norms = [module for module in net.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    modes = [(module, module.training) for module in net.modules()]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    net.train()
    seen = 0
    for inputs in batches:
        seen += len(inputs)
        for norm in norms:
            norm.momentum = len(inputs) / seen
        net(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in modes:
        module.training = mode
