"""Nets that only predict: batch norms taken into the convolutions before them, which saves a pass over memory each."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Of the largest logit: rounding in another order leaves some 1e-6, a norm in a wrong place far more.
_MOST_DIFFERENT = 1e-3


@torch.no_grad()
def fold_norms(net: nn.Module, image: Tensor) -> nn.Module:
    """The same net, in evaluation mode, with fewer steps; or the net itself where that would say something else.

    A batch norm is taken to follow the convolution that its module registered right before it. That this is so for all
    of them is seen from what both nets say of an image, in float32.

    Args:
        image: (1, c, h, w), as the net wants to see it.

    Source: Jacob et al. 2018, section 3.2 (arXiv:1712.05877).
    """
    net.eval()
    folded = deepcopy(net)
    for parent in folded.modules():
        for first, conv, second, norm in list(_pairs(parent)):
            setattr(parent, first, fuse_conv_bn_eval(conv, norm))
            setattr(parent, second, nn.Identity())
    return folded if _say_the_same(net, folded, image) else net


def _pairs(parent: nn.Module) -> Iterator[tuple[str, nn.Conv2d, str, nn.BatchNorm2d]]:
    """Convolutions and the batch norm behind each, by their names."""
    for (first, conv), (second, norm) in pairwise(parent.named_children()):
        # No kinds that were derived from them: they may do something else besides.
        if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
            continue
        if norm.running_mean is not None and conv.out_channels == norm.num_features:
            yield first, conv, second, norm


def _say_the_same(net: nn.Module, other: nn.Module, image: Tensor) -> bool:
    said, found = ([each for each in made(image)[:2] if each is not None] for made in (net, other))
    return all(
        bool(((one - two).abs().amax() <= _MOST_DIFFERENT * one.abs().amax().clamp(min=1)).item())
        for one, two in zip(said, found, strict=True)
    )
