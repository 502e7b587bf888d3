"""What tiles without masks teach: a mean teacher, and two nets that teach each other, as objectives of the one loop.

Unlabelled tiles come beside a batch's labelled ones. They are drawn at each step from all there are, by the generator
that draws everything else, so that nothing about their order need be remembered when training goes on after a stop.
Nets are compared on the tile, with the border that framing added cut off. One process trains alone.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.losses import bce
from diapir.nets.framing import net_input
from diapir.nets.infer import TileTensors
from diapir.nets.pair import Pair, log_mean_probabilities
from diapir.nets.unet import Outputs
from diapir.recipe.semi import CoTraining, MeanTeacher
from diapir.train.augment import apply_changes
from diapir.train.draws import Draws, draw_changes
from diapir.train.loop import Objective, Plan, masks_at, supervised_loss


@dataclass(frozen=True)
class Mixture:
    """Tiles of one step before they are changed: those with masks first.

    Args:
        images: (n, h, w), float in 0..1.
        masks: (n, h, w) float, 0 for tiles without.
        depths_m: (n,).
        labelled: how many have masks.
    """

    images: Tensor
    masks: Tensor
    depths_m: Tensor
    labelled: int


def build_objective(
    section: MeanTeacher | CoTraining,
    *,
    student: nn.Module,
    teacher: nn.Module | None,
    pair: nn.Module,
    tiles: TileTensors,
    unlabelled: TileTensors,
    plan: Plan,
    autocast: Callable[[], AbstractContextManager[Any]],
    epoch: int,
    rng: torch.Generator,
) -> Callable[[Tensor], Objective]:
    """Recipe section -> the objective of an epoch's batches, from the positions of their labelled tiles.

    Args:
        student: the net as it is wrapped for training.
        teacher, pair: bare, each asked for by one of the kinds alone; called within `autocast`.
        epoch: finished epochs of the whole training.
    """
    strength = ramp_up(epoch, epochs=section.rampup_epochs)

    def mixture(rows: Tensor) -> Mixture:
        return draw_mixture(tiles, unlabelled, rows, share=section.unlabelled_share, rng=rng)

    def ask(net: nn.Module, inputs: Tensor) -> Outputs:
        with autocast():
            outputs: Outputs = net(inputs)
        return outputs

    match section:
        case MeanTeacher(weight=weight, has_salt=has_salt):
            assert teacher is not None
            taught = teacher.eval()
            return lambda rows: mean_teacher_objective(
                student, lambda inputs: ask(taught, inputs), mixture(rows),
                plan=plan, weight=strength * weight, has_salt=strength * has_salt, rng=rng,
            )  # fmt: skip
        case CoTraining(agreement=agreement, difference=difference, eps=eps):
            assert isinstance(pair, Pair)
            first, second = pair.first, pair.second
            return lambda rows: co_training_objective(
                lambda inputs: ask(first, inputs), lambda inputs: ask(second, inputs), mixture(rows),
                plan=plan, agreement=strength * agreement, difference=strength * difference, eps=eps, rng=rng,
            )  # fmt: skip
        case _:
            assert_never(section)


def ramp_up(epoch: int, *, epochs: int) -> float:
    """Strength of what unlabelled tiles teach: exp(-5) at epoch 0, and 1 from `epochs` on.

    Source: Laine and Aila 2017, appendix A (arXiv:1610.02242).
    """
    return math.exp(-5 * (1 - min(epoch, epochs) / epochs) ** 2)


def teacher_decay(step: int, *, most: float) -> float:
    """Decay of a mean teacher after step `step`, from 0: the teacher is a plain mean of what it saw, until `most`.

    Source: the released code of Tarvainen and Valpola 2017 (arXiv:1703.01780).
    """
    return min(1 - 1 / (step + 1), most)


def draw_mixture(
    tiles: TileTensors, unlabelled: TileTensors, rows: Tensor, *, share: float, rng: torch.Generator
) -> Mixture:
    """Labelled tiles, and so many unlabelled ones, drawn without replacement, that they are `share` of all.

    One at least, and no more than there are.
    """
    wanted = max(round(len(rows) * share / (1 - share)), 1)
    others = torch.randperm(len(unlabelled), generator=rng)[:wanted].to(tiles.images.device)
    rows = rows.to(tiles.images.device)
    masks = masks_at(tiles, rows)
    return Mixture(
        images=torch.cat([tiles.images[rows], unlabelled.images[others]]).float() / 255,
        masks=torch.cat([masks, masks.new_zeros(len(others), *masks.shape[1:])]),
        depths_m=torch.cat([tiles.depths_m[rows], unlabelled.depths_m[others]]),
        labelled=len(rows),
    )


def mean_teacher_objective(
    student: Callable[[Tensor], Outputs],
    teacher: Callable[[Tensor], Outputs],
    mixture: Mixture,
    *,
    plan: Plan,
    weight: float,
    has_salt: float,
    rng: torch.Generator,
) -> Objective:
    """The supervised loss of the labelled tiles, and how far the student is from the teacher on all of them.

    The teacher sees each tile moved as the student does, in greys, noise and holes of its own, and mirrored with the
    chance of a flip; what it says is mirrored back, so that pixels correspond.

    Args:
        weight, has_salt: of the two consistencies, at the strength of the epoch.
    """
    height, width = mixture.images.shape[-2:]
    draws, own = (
        draw_changes(len(mixture.images), plan.augment, height=height, width=width, rng=rng) for _ in range(2)
    )
    mirrored = (torch.rand(len(mixture.images), generator=rng) < plan.augment.flip).to(mixture.images.device)
    images, masks = apply_changes(mixture.images, mixture.masks, draws)
    again, _ = apply_changes(mixture.images, mixture.masks, same_places(own, draws))

    learnt = student(net_input(images, mixture.depths_m, spec=plan.spec, frame=plan.frame))
    loss = supervised_loss(first_tiles(learnt, mixture.labelled), masks[: mixture.labelled], plan=plan)
    with torch.no_grad():
        seen = mirror(again, mirrored)
        taught = teacher(net_input(seen, mixture.depths_m, spec=plan.spec, frame=plan.frame))
        probability = mirror(on_tile(taught, mixture, plan=plan).sigmoid(), mirrored)
    total = loss + weight * bce(on_tile(learnt, mixture, plan=plan), probability).mean()
    if learnt.has_salt is not None and taught.has_salt is not None:
        probability = taught.has_salt.float().sigmoid()
        total = total + has_salt * F.binary_cross_entropy_with_logits(learnt.has_salt.float(), probability)
    return Objective(total, loss)


def co_training_objective(
    first: Callable[[Tensor], Outputs],
    second: Callable[[Tensor], Outputs],
    mixture: Mixture,
    *,
    plan: Plan,
    agreement: float,
    difference: float,
    eps: float,
    rng: torch.Generator,
) -> Objective:
    """Both nets' supervised losses, their disagreement without masks, and where each fails on what fools the other.

    Args:
        agreement, difference: weights at the strength of the epoch.
        eps: of `fooling`.

    Source: Qiao et al. 2018, section 3 (arXiv:1803.05984): L1 + L2 + agreement JS(p1, p2)
        + difference (H(p1, p2(g1)) + H(p2, p1(g2))), gradients through all but the fooling tiles g1 and g2.
    """
    height, width = mixture.images.shape[-2:]
    draws = draw_changes(len(mixture.images), plan.augment, height=height, width=width, rng=rng)
    images, masks = apply_changes(mixture.images, mixture.masks, draws)
    images.requires_grad_()

    def asked(net: Callable[[Tensor], Outputs], shown: Tensor) -> Outputs:
        return net(net_input(shown, mixture.depths_m, spec=plan.spec, frame=plan.frame))

    answers = [asked(net, images) for net in (first, second)]
    known = mixture.labelled
    supervised = sum(supervised_loss(first_tiles(each, known), masks[:known], plan=plan) for each in answers)
    one, other = (on_tile(each, mixture, plan=plan) for each in answers)
    fooled = [
        on_tile(asked(net, fooling(images, logits, truth=masks[:known], eps=eps)), mixture, plan=plan)
        for net, logits in ((second, one), (first, other))
    ]
    disagreement = divergence(one[known:], other[known:]).mean()
    weakness = cross_entropy(one, fooled[0]).mean() + cross_entropy(other, fooled[1]).mean()
    assert isinstance(supervised, Tensor)
    return Objective(supervised + agreement * disagreement + difference * weakness, supervised / 2)


def fooling(images: Tensor, logits: Tensor, *, truth: Tensor, eps: float) -> Tensor:
    """Tiles with each pixel moved by `eps` to where the loss of a net rises: (n, h, w) in 0..1, without gradient.

    Args:
        images: (n, h, w) that `logits` (n, h, w) came from, asking for gradients.
        truth: (m, h, w), masks of the first m tiles, NaN where unknown; there, and of the other tiles, the net's own
            answers are taken for true.

    Source: Goodfellow et al. 2015, section 4 (arXiv:1412.6572), on grey of 0..1.
    """
    own = (logits > 0).float()
    target = torch.cat([torch.where(truth.isnan(), own[: len(truth)], truth), own[len(truth) :]])
    (slope,) = torch.autograd.grad(bce(logits, target).sum(), images, retain_graph=True)
    return (images + eps * slope.sign()).clamp(0, 1).detach()


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two probabilities given as logits, pixel by pixel, in nats: 0 to ln 2."""
    salt, none = log_mean_probabilities(one, other)
    together = -(salt.exp() * salt + none.exp() * none)
    return together - (cross_entropy(one, one) + cross_entropy(other, other)) / 2


def cross_entropy(one: Tensor, other: Tensor) -> Tensor:
    """-p log q - (1 - p) log(1 - q), pixel by pixel, for logits of p and q; the entropy where they are the same."""
    one, other = one.float(), other.float()
    # Of terms that are all positive: a difference would lose what is left where both are sure.
    return one.sigmoid() * F.softplus(-other) + (-one).sigmoid() * F.softplus(other)


def same_places(draws: Draws, others: Draws) -> Draws:
    """Draws of greys, noise and holes, which move every pixel as `others` do."""
    return replace(
        draws, matrix=others.matrix, crop=others.crop, warp=others.warp, stretch=others.stretch, border=others.border
    )


def mirror(tiles: Tensor, mirrored: Tensor) -> Tensor:
    """Tiles (n, h, w), those of `mirrored` (n,) bool with left and right exchanged; its own inverse."""
    return torch.where(mirrored[:, None, None], tiles.flip(-1), tiles)


def first_tiles(outputs: Outputs, count: int) -> Outputs:
    """What a net gave for the first tiles of a batch."""
    has_salt = None if outputs.has_salt is None else outputs.has_salt[:count]
    return Outputs(outputs.mask[:count], has_salt, tuple(side[:count] for side in outputs.sides))


def on_tile(outputs: Outputs, mixture: Mixture, *, plan: Plan) -> Tensor:
    """The mask's logits on the tile, (n, h, w), float32."""
    height, width = mixture.images.shape[-2:]
    return plan.frame.release(outputs.mask.float()[:, None], height=height, width=width)[:, 0]
