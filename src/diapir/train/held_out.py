"""How a net in training does on tiles that it never sees."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from diapir.metrics import tile_scores
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors, predict_probabilities


def score_held_out(
    net: nn.Module,
    tiles: TileTensors,
    *,
    spec: InputSpec,
    frame: Frame,
    batch: int,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    """`score`: the mean at probability 0.5, plain view; `predicted_empty`: share of tiles without any salt pixel.

    Args:
        tiles: at least one, with masks.
    """
    assert tiles.masks is not None
    scores, empty = [], 0
    batches = predict_probabilities(
        net, tiles, spec=spec, frame=frame, views=("plain",), batch=batch, autocast=autocast
    )
    for start, probability in zip(range(0, len(tiles), batch), batches, strict=True):
        salt = probability > 0.5
        scores.append(tile_scores(salt, tiles.masks[start : start + batch]))
        empty += int((~salt.flatten(1).any(1)).sum())
    return {"score": float(torch.cat(scores).double().mean()), "predicted_empty": empty / len(tiles)}
