"""Object context: every place of a map sees all others. All take and give (n, channels, height, width)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.nets.blocks import Activation, activate


class ContextAttention(nn.Module):
    """What each place gathers from all places by their likeness to it; nothing at all as long as the net is new.

    softmax(Q Q^T / sqrt(keys)) V over all places, then a 1x1 convolution that starts at zero. One projection with its
    norm makes query and key.

    Args:
        keys: channels in which likeness is measured.
        values: channels that are gathered.
        scale: side of the max-pool before all this; the result comes back bilinear, corners aligned.
        activation: after the norm of the keys.

    Source: Yuan and Wang 2018, OCNet, section 3 (arXiv:1809.00916); the zero: Wang et al. 2018, section 3.3
    (arXiv:1711.07971).
    """

    def __init__(
        self, channels: int, *, keys: int, values: int, scale: int = 1, activation: Activation = "leaky_relu"
    ) -> None:
        super().__init__()
        self.scale = scale
        self.key = nn.Sequential(nn.Conv2d(channels, keys, 1), nn.BatchNorm2d(keys), activate(activation))
        self.value = nn.Conv2d(channels, values, 1)
        self.give = nn.Conv2d(values, channels, 1)
        self.reset_give()

    def reset_give(self) -> None:
        """Make the block give nothing, as in a new net."""
        nn.init.zeros_(self.give.weight)
        assert self.give.bias is not None
        nn.init.zeros_(self.give.bias)

    def forward(self, maps: Tensor) -> Tensor:
        seen = F.max_pool2d(maps, self.scale) if self.scale > 1 else maps
        keys, values = _places(self.key(seen)), _places(self.value(seen))
        gathered = F.scaled_dot_product_attention(keys, keys, values)
        context: Tensor = self.give(gathered[:, 0].transpose(1, 2).reshape(len(maps), -1, *seen.shape[-2:]))
        if self.scale == 1:
            return context
        return F.interpolate(context, size=maps.shape[-2:], mode="bilinear", align_corners=True)


def _places(maps: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, 1, h * w, c), in one piece: attention in pieces would hold all its weights in memory."""
    return maps.flatten(2).transpose(1, 2)[:, None].contiguous()


class ObjectContext(nn.Module):
    """Context beside the maps themselves, brought back to their width: BaseOC.

    Args:
        keys: channels of keys and of values.
        dropout: share of whole maps dropped at the end.
        activation: after each norm.

    Source: as `ContextAttention`; the 9th place of the TGS competition (tugstugi).
    """

    def __init__(
        self, channels: int, *, keys: int, dropout: float = 0.05, activation: Activation = "leaky_relu"
    ) -> None:
        super().__init__()
        self.attention = ContextAttention(channels, keys=keys, values=keys, activation=activation)
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            nn.BatchNorm2d(channels),
            activate(activation),
            nn.Dropout2d(dropout),
        )

    def forward(self, maps: Tensor) -> Tensor:
        fused: Tensor = self.fuse(torch.cat([self.attention(maps), maps], dim=1))
        return fused


class AtrousObjectContext(nn.Module):
    """Context, the place itself and three rings around it, side by side and brought to one width: ASP-OC.

    Five branches of `out_channels`: context at half size alone, a 1x1 convolution, and a 3x3 one at each dilation. No
    activation anywhere: each branch ends in its norm.

    Args:
        dilations: of the rings, in pixels.
        scale: of the context's max-pool.
        dropout: share of whole maps dropped at the end.

    Source: Yuan and Wang 2018, OCNet, section 3 (arXiv:1809.00916), with the numbers of the 11th place (Sosin).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dilations: tuple[int, int, int] = (12, 24, 36),
        scale: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        attention = ContextAttention(
            out_channels, keys=out_channels // 2, values=out_channels, scale=scale, activation="none"
        )
        self.context = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            attention,
            nn.Conv2d(out_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
        self.place = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.rings = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(out_channels),
            )
            for dilation in dilations
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(5 * out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.Dropout2d(dropout),
        )

    def forward(self, maps: Tensor) -> Tensor:
        branches = [self.context(maps), self.place(maps), *(ring(maps) for ring in self.rings)]
        fused: Tensor = self.fuse(torch.cat(branches, dim=1))
        return fused
