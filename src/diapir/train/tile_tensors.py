"""Tiles as tensors on a device, and how a net's input is scaled."""

import numpy as np
import torch

from diapir.data.tiles import UNKNOWN, DataSet, TileSet
from diapir.nets.framing import IMAGENET, IMAGENET_GREY, InputSpec
from diapir.nets.infer import TileTensors
from diapir.recipe.tiles import Input


def tile_tensors(tiles: TileSet, device: torch.device) -> TileTensors:
    """A set of tiles on the device that works on them."""
    return TileTensors(
        images=torch.from_numpy(tiles.images).to(device),
        masks=None if tiles.masks is None else torch.from_numpy(tiles.masks).to(device),
        depths_m=torch.from_numpy(tiles.depths_m).to(device),
        is_partial=tiles.masks is not None and bool((tiles.masks == UNKNOWN).any()),
    )


def input_spec(section: Input, train: TileSet, data: DataSet) -> InputSpec:
    """Scaling from the training tiles; the depth range from all the tiles, as the 28th place took it."""
    depths = np.concatenate([data.labelled.depths_m, data.unlabelled.depths_m])
    known = depths[~np.isnan(depths)]
    levels: tuple[tuple[float, float], ...]
    match section.scaling:
        case "unit":
            levels = ((0.0, 1.0),)
        case "imagenet":
            levels = IMAGENET if section.channels.count("image") == len(IMAGENET) else (IMAGENET_GREY,)
        case "standard":
            levels = ((float(train.images.mean() / 255), max(float(train.images.std() / 255), 1e-3)),)
    return InputSpec(
        channels=section.channels,
        levels=levels,
        depth_low_m=float(known.min()) if len(known) else 0.0,
        depth_high_m=float(known.max()) if len(known) else 1.0,
        ramps=section.ramps,
    )
