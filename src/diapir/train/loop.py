"""The only training loop: one epoch's steps over tiles that live on the device."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.data.tiles import UNKNOWN
from diapir.losses import has_salt_loss, holds_salt, mean_with_salt, mixed_loss
from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.nets.infer import TileTensors
from diapir.nets.unet import Outputs
from diapir.recipe.training import Augment, Loss
from diapir.train.augment import apply_changes, hard
from diapir.train.draws import draw_changes


@dataclass(frozen=True)
class Plan:
    """What stays the same over the steps of one epoch.

    Args:
        part: rank and number of the processes that share each batch.
        is_partial: whether masks have pixels that are not known.
        is_soft: whether masks are probabilities.
    """

    spec: InputSpec
    frame: Frame
    augment: Augment
    loss: Loss
    batch: int
    clip_norm: float
    autocast: Callable[[], AbstractContextManager[Any]]
    backward: Callable[[Tensor], None]
    part: tuple[int, int] = (0, 1)
    is_partial: bool = False
    is_soft: bool = False


class Objective(NamedTuple):
    """What a step learns from, scalars on the device.

    Args:
        loss: what is minimised.
        told: its supervised part, the mean over the nets: what logs show and failures are recognised by, for the rest
            of the loss may rise with its weight.
    """

    loss: Tensor
    told: Tensor


def steps_per_epoch(num_tiles: int, batch: int) -> int:
    """Whole batches in one pass over the tiles; the rest waits for the next epoch's order."""
    return max(num_tiles // batch, 1)


def train_epoch(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    tiles: TileTensors,
    *,
    plan: Plan,
    order: Tensor,
    first_step: int,
    learning_rate: Callable[[int], float],
    rng: torch.Generator,
    objective: Callable[[Tensor], Objective] | None = None,
) -> Iterator[Tensor]:
    """Take the epoch's steps from `first_step` on; after each, give its loss as told (a scalar on the device).

    Where processes share the batch, it is this process's part of the loss, and the mean over them is the batch's; but
    what the recipe takes over the whole batch, or over images with salt, each process takes over its own share.

    Args:
        order: the tiles' positions in the order of this epoch.
        learning_rate: rate of each step of the epoch.
        rng: draws every augmentation, on the CPU, the same for any number of processes.
        objective: of a batch, from its tiles' positions; None for the supervised loss.
    """
    net.train()
    objective = objective or partial(_supervised, net, tiles, plan=plan, rng=rng)
    for step in range(first_step, steps_per_epoch(len(order), plan.batch)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step)
        rows = order[step * plan.batch : (step + 1) * plan.batch]
        loss, told = objective(rows)
        optimiser.zero_grad(set_to_none=True)
        plan.backward(loss)
        if plan.clip_norm > 0:
            nn.utils.clip_grad_norm_(net.parameters(), plan.clip_norm)
        optimiser.step()
        yield told.detach()


def _supervised(net: nn.Module, tiles: TileTensors, rows: Tensor, *, plan: Plan, rng: torch.Generator) -> Objective:
    """The stage's loss of this process's share of a batch."""
    inputs, masks = _batch(tiles, rows, plan=plan, rng=rng)
    with plan.autocast():
        outputs: Outputs = net(inputs)
    # Processes' gradients are averaged with equal weight, also where the batch cannot be cut into equal shares.
    loss = supervised_loss(outputs, masks, plan=plan) * (len(inputs) * plan.part[1] / len(rows))
    return Objective(loss, loss)


def _batch(tiles: TileTensors, rows: Tensor, *, plan: Plan, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """This process's share of a batch: net input (n, c, s, s) and masks (n, h, w), augmented."""
    height, width = tiles.images.shape[-2:]
    draws = draw_changes(len(rows), plan.augment, height=height, width=width, rng=rng)
    rank, world = plan.part
    mine = slice(rank * len(rows) // world, (rank + 1) * len(rows) // world)
    chosen = rows[mine].to(tiles.images.device)
    images = tiles.images[chosen].float() / 255
    images, masks = apply_changes(images, masks_at(tiles, chosen), draws.part(mine), is_soft=plan.is_soft)
    return net_input(images, tiles.depths_m[chosen], spec=plan.spec, frame=plan.frame), masks


def masks_at(tiles: TileTensors, rows: Tensor) -> Tensor:
    """Masks of some tiles as losses take them: float32 (b, h, w), NaN where unknown."""
    assert tiles.masks is not None
    masks = tiles.masks[rows].float()
    return masks.masked_fill(masks == UNKNOWN, math.nan) if tiles.is_partial else masks


def supervised_loss(outputs: Outputs, masks: Tensor, *, plan: Plan) -> Tensor:
    """The stage's loss: a mean over images, and for each side head what `side_mean` says.

    Args:
        masks: (n, h, w), the truth of what the net was shown; NaN where unknown.
    """
    section = plan.loss
    options = {"hinge": section.hinge, "whole_batch": section.whole_batch, "gamma": section.gamma}
    measure = partial(mixed_loss, options=options, is_partial=plan.is_partial)
    logits, truth = _compared(outputs.mask[:, None], masks, plan=plan)
    logits = logits[:, 0]
    per_image = measure(logits, truth, weights=section.weights)
    if section.empty is not None:
        per_image = torch.where(holds_salt(truth), per_image, measure(logits, truth, weights=section.empty.weights))
    if section.has_salt > 0:
        assert outputs.has_salt is not None
        per_image = per_image + section.has_salt * has_salt_loss(outputs.has_salt, masks)
    total = per_image.mean()
    assert outputs.sides or section.side == 0, "the net has no side heads to weigh"
    for size in dict.fromkeys(each.shape for each in outputs.sides if section.side > 0):
        # All heads of one size at once, for a few large sorts are quicker than many small ones.
        heads = torch.stack([each for each in outputs.sides if each.shape == size], dim=1)
        logits, truth = _compared(heads, masks, plan=plan)
        number = logits.shape[1]
        truth = truth.repeat_interleave(number, dim=0)
        per_head = measure(logits.flatten(0, 1), truth, weights=section.weights)
        if section.side_mean == "every":
            total = total + section.side * number * per_head.mean()
        else:
            total = total + section.side * number * mean_with_salt(per_head, truth, over=section.side_mean)
    return total


def _compared(logits: Tensor, masks: Tensor, *, plan: Plan) -> tuple[Tensor, Tensor]:
    """What heads are held against: their logits (n, heads, a, b) and truth (n, a, b), on the tile or as the net saw it.

    Args:
        logits: (n, heads, h, w); heads smaller than the net's input keep their scale. The truth of a cell is then the
            framed mask's nearest pixel (the one at its first corner), and on the tile are the cells whose pixel is.
    """
    own, frame, logits = masks.shape[-2:], plan.frame, logits.float()
    framed = own if frame.size is None else (frame.size, frame.size)
    if plan.loss.on_tile and logits.shape[-2:] == framed:
        return frame.release(logits, height=own[0], width=own[1]), masks
    truth = frame.enclose(masks[:, None])
    truth = truth if plan.is_soft else hard(truth)
    if logits.shape[-2:] == framed:
        return logits, truth[:, 0]
    truth = F.interpolate(truth, size=logits.shape[-2:], mode="nearest")
    if plan.loss.on_tile and frame.method == "pad":
        inner = own if frame.inner is None else (frame.inner, frame.inner)
        rows, columns = (_cells_on_tile(*sizes) for sizes in zip(logits.shape[-2:], framed, inner, strict=True))
        logits, truth = logits[..., rows, columns], truth[..., rows, columns]
    return logits, truth[:, 0]


def _cells_on_tile(cells: int, framed: int, own: int) -> slice:
    """Of cells along an axis of `framed` pixels, those whose first pixel lies on the tile of `own` pixels within."""
    first = (framed - own) // 2  # where padding puts the tile
    return slice(math.ceil(first * cells / framed), math.ceil((first + own) * cells / framed))
