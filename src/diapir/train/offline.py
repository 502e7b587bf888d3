"""Training sets made larger once, before training, as some did instead of drawing changes at every step."""

from dataclasses import replace

import torch
from torch import Tensor

from diapir.nets.infer import TileTensors


def fourfold(tiles: TileTensors, *, shift: float, rng: torch.Generator) -> TileTensors:
    """Four times the tiles: as they are, flipped, shifted, and flipped and shifted.

    Shifts are whole pixels, drawn for each tile and each copy once and for all, along rows and columns; what lies
    beyond the border is reflected, the edge pixel once.

    Args:
        shift: largest, to each side, as a share of the side.

    Source: Laurans (TGS competition), with a share of 0.2.
    """
    assert tiles.masks is not None
    both = torch.stack([tiles.images, tiles.masks], dim=1)
    copies = [both, both.flip(-1), _shifted(both, shift, rng=rng), _shifted(both.flip(-1), shift, rng=rng)]
    images, masks = torch.cat(copies).unbind(1)
    return replace(tiles, images=images.contiguous(), masks=masks.contiguous(), depths_m=tiles.depths_m.repeat(4))


def _shifted(tiles: Tensor, share: float, *, rng: torch.Generator) -> Tensor:
    """Tiles (n, c, h, w), each shifted by its own whole pixels."""
    count, _, height, width = tiles.shape
    sources = []
    for side in (height, width):
        pixels = ((torch.rand(count, 1, generator=rng) * 2 - 1) * share * side).round().long()
        place = (torch.arange(side) - pixels).abs()
        sources.append((side - 1 - (place - (side - 1)).abs()).to(tiles.device))
    rows, columns = sources
    moved = tiles.gather(2, rows[:, None, :, None].expand_as(tiles))
    return moved.gather(3, columns[:, None, None, :].expand_as(tiles))
