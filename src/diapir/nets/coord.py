"""Where a pixel lies, as channels that a convolution can read."""

import torch
from torch import Tensor


def append_coordinates(maps: Tensor, *, radius: bool = False) -> Tensor:
    """Maps with a ramp of x and a ramp of y behind them: a convolution of these is a CoordConv.

    Args:
        maps: (n, channels, h, w).
        radius: append the distance from the centre as well, sqrt(x^2 + y^2).

    Returns:
        (n, channels + 2 or 3, h, w); x runs from -1 at the left to 1 at the right, y from -1 at the top to 1 below.

    Source: Liu et al. 2018, section 3 (arXiv:1807.03247).
    """
    count, _, height, width = maps.shape
    shape = (count, 1, height, width)
    x = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype).expand(shape)
    y = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)[:, None].expand(shape)
    return torch.cat([maps, x, y, *([(x.square() + y.square()).sqrt()] if radius else [])], dim=1)
