"""What nets with several heads share: maps of all sizes side by side, and a head for the whole image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resized(maps: Tensor, size: Sequence[int], *, mode: str = "bilinear") -> Tensor:
    """Maps (n, c, h, w) at a size (height, width); as they are where they have it already."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode=mode)


def beside(pixels: Tensor, image: Tensor) -> Tensor:
    """Features of the whole image (n, b) at every place beside those of the place (n, a, h, w): (n, a + b, h, w)."""
    return torch.cat([pixels, image[:, :, None, None].expand(-1, -1, *pixels.shape[-2:])], dim=1)


class ImageHead(nn.Module):
    """Features of the whole image from its deepest maps, and from them the logit of "holds salt".

    Args:
        features: that `forward` gives beside the logit.
        dropout: of the means over the maps.
    """

    def __init__(self, channels: int, *, features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.features = nn.Linear(channels, features)
        self.logit = nn.Linear(features, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels, h, w) -> features (n, features), logit (n,)."""
        features = F.relu(self.features(self.dropout(maps.mean((2, 3)))))
        return features, self.logit(features)[:, 0]
