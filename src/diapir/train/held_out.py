"""How a net in training does on tiles that it never sees."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from diapir.data.tiles import UNKNOWN
from diapir.metrics import tile_scores
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors, predict_heads


def score_held_out(
    net: nn.Module,
    tiles: TileTensors,
    *,
    spec: InputSpec,
    frame: Frame,
    batch: int,
    autocast: Callable[[], AbstractContextManager[Any]],
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """`score`: the mean at probability 0.5, plain view; `predicted_empty`: share of tiles without any salt pixel.

    With `loss` also `held_out_loss`, its mean, and `accuracy`, the share of right pixels.

    Args:
        tiles: at least one, with masks.
        loss: from logits and truth (n, h, w), NaN where unknown, to the loss of each tile (n,).

    Pixels that are not known count for nothing.
    """
    assert tiles.masks is not None
    found: dict[str, list[Tensor]] = {"score": [], "predicted_empty": [], "held_out_loss": [], "accuracy": []}
    batches = predict_heads(net, tiles, spec=spec, frame=frame, views=("plain",), batch=batch, autocast=autocast)
    for start, (probability, _) in zip(range(0, len(tiles), batch), batches, strict=True):
        salt, truth = probability > 0.5, tiles.masks[start : start + batch]
        known = truth != UNKNOWN
        found["score"].append(tile_scores(salt & known, (truth == 1)))
        found["predicted_empty"].append(~salt.flatten(1).any(1))
        if loss is not None:
            # The logit of a float32 probability; one that has been rounded to 0 or 1 counts as just inside.
            asked = truth.float().masked_fill(~known, math.nan)
            found["held_out_loss"].append(loss(probability.logit(eps=1e-7), asked))
            right = ((salt == (truth == 1)) & known).flatten(1).sum(1)
            found["accuracy"].append(right.double() / known.flatten(1).sum(1).clamp(min=1))
    return {name: float(torch.cat(values).double().mean()) for name, values in found.items() if values}
