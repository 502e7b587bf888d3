"""The only training loop: one epoch's steps over tiles that live on the device."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diapir.losses import has_salt_loss, mixed_loss
from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.nets.infer import TileTensors
from diapir.recipe.training import Augment, Loss
from diapir.train.augment import apply_changes, draw_changes


@dataclass(frozen=True)
class Plan:
    """What stays the same over the steps of one epoch.

    Args:
        part: rank and number of the processes that share each batch.
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
) -> Iterator[Tensor]:
    """Take the epoch's steps from `first_step` on; after each, give its loss (a scalar on the device).

    Where processes share the batch, it is this process's part of the loss, and the mean over them is the batch's.

    Args:
        order: the tiles' positions in the order of this epoch.
        learning_rate: rate of each step of the epoch.
        rng: draws every augmentation, on the CPU, the same for any number of processes.
    """
    net.train()
    for step in range(first_step, steps_per_epoch(len(order), plan.batch)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step)
        rows = order[step * plan.batch : (step + 1) * plan.batch]
        inputs, images_truth = _batch(tiles, rows, plan=plan, rng=rng)
        # Processes' gradients are averaged with equal weight, also where the batch cannot be cut into equal shares.
        loss = _loss(net, inputs, images_truth, plan=plan) * (len(inputs) * plan.part[1] / len(rows))
        optimiser.zero_grad(set_to_none=True)
        plan.backward(loss)
        if plan.clip_norm > 0:
            nn.utils.clip_grad_norm_(net.parameters(), plan.clip_norm)
        optimiser.step()
        yield loss.detach()


def _batch(tiles: TileTensors, rows: Tensor, *, plan: Plan, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """This process's share of a batch: net input (n, c, s, s) and masks (n, h, w), augmented."""
    assert tiles.masks is not None
    height, width = tiles.images.shape[-2:]
    draws = draw_changes(len(rows), plan.augment, height=height, width=width, rng=rng)
    rank, world = plan.part
    mine = slice(rank * len(rows) // world, (rank + 1) * len(rows) // world)
    chosen = rows[mine].to(tiles.images.device)
    images, masks = tiles.images[chosen].float() / 255, tiles.masks[chosen].float()
    images, masks = apply_changes(images, masks, draws.part(mine))
    return net_input(images, tiles.depths_m[chosen], spec=plan.spec, frame=plan.frame), masks


def _loss(net: nn.Module, inputs: Tensor, masks: Tensor, *, plan: Plan) -> Tensor:
    """Mean over images of the stage's loss."""
    height, width = masks.shape[-2:]
    with plan.autocast():
        outputs = net(inputs)
    logits = outputs.mask.float()
    if plan.loss.on_tile:
        logits, truth = plan.frame.release(logits[:, None], height=height, width=width)[:, 0], masks
    else:
        truth = (plan.frame.enclose(masks[:, None])[:, 0] > 0.5).float()
    options = {"hinge": plan.loss.hinge, "whole_batch": plan.loss.whole_batch, "gamma": plan.loss.gamma}
    per_image = mixed_loss(logits, truth, weights=plan.loss.weights, options=options)
    if plan.loss.has_salt > 0:
        per_image = per_image + plan.loss.has_salt * has_salt_loss(outputs.has_salt, masks)
    return per_image.mean()
