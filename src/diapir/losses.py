"""What training minimises: functions of logits and truth, in float32 inside, without a loop over images.

Every loss takes `logits` (n, h, w) of any float type and `truth` (n, h, w) of 0 and 1, and gives one value per
image, (n,), so that side losses may leave images out before the mean is taken. `mixed_loss` is their weighted sum.
Soft labels have what lies between 0 and 1: cross-entropy, Dice and focal make use of it; Lovasz, which sorts by
class, sees only whether it is above a half. Pixels that are not `known`, bool (n, h, w), have no part in it; their
truth must be 0, and an image without any known pixel loses nothing.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Literal, assert_never

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diapir.recipe.training import LossName

Hinge = Literal["relu", "elu"]

_SORTERS = ThreadPoolExecutor(thread_name_prefix="sort")
_LEAST_TO_SPLIT = 1 << 16
_NEVER = -1e4  # the margin of a pixel that is never wrong: both hinges and their slopes are 0 there


def bce(logits: Tensor, truth: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, the mean over each image's pixels: (n,)."""
    return _mean(F.binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none"), known)


def dice(
    logits: Tensor, truth: Tensor, *, smooth: float = 1.0, whole_batch: bool = False, known: Tensor | None = None
) -> Tensor:
    """One minus the soft Dice coefficient with `smooth` in numerator and denominator: (n,).

    Args:
        whole_batch: take the batch as one image, as the 1st place and Laurans did; every entry is then the same.

    Source: Milletari et al. 2016, section 3 (arXiv:1606.04797), without the squares.
    """
    probability, target = logits.float().sigmoid().flatten(1), truth.float().flatten(1)
    if known is not None:
        probability = probability * known.flatten(1)
    overlap, total = (probability * target).sum(1), (probability + target).sum(1)
    if whole_batch:
        overlap, total = overlap.sum().expand_as(overlap), total.sum().expand_as(total)
    return 1 - (2 * overlap + smooth) / (total + smooth)


def focal(logits: Tensor, truth: Tensor, *, gamma: float = 2.0, known: Tensor | None = None) -> Tensor:
    """Focal loss without class weights, the mean over each image's pixels: (n,).

    Source: Lin et al. 2017, equation 4 (arXiv:1708.02002).
    """
    logits, truth = logits.float(), truth.float()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    # (1 - p_t)^gamma by way of its logarithm: no cancellation, and a finite slope at 0 for every gamma.
    log_wrong = F.logsigmoid(torch.where(truth > 0.5, -logits, logits))
    return _mean((gamma * log_wrong).exp() * entropy, known)


def lovasz(
    logits: Tensor, truth: Tensor, *, hinge: Hinge = "elu", whole_batch: bool = False, known: Tensor | None = None
) -> Tensor:
    """Lovasz hinge: the convex extension of one minus the intersection over union: (n,).

    The margin of a pixel is m = 1 - z(2y - 1); with margins in decreasing order and g the step of the Jaccard loss
    at each, the loss is sum phi(m) g. For an empty mask g = (1, 0, ...): one pixel alone has a gradient.

    Args:
        hinge: phi; "relu" as in the paper, or "elu" for ELU + 1, which goes on pushing pixels that are right.
        whole_batch: sort the pixels of all images together; every entry is then the same.

    Source: Berman et al. 2018, equations 8 and 9 and algorithm 1 (arXiv:1705.08790).
    """
    images = len(logits)
    flat_logits, flat_truth = logits.float().flatten(1), truth.flatten(1)
    if whole_batch:
        flat_logits, flat_truth = flat_logits.reshape(1, -1), flat_truth.reshape(1, -1)
    is_salt = flat_truth > 0.5
    sign = torch.where(is_salt, 1.0, -1.0)
    margins = 1 - flat_logits * sign
    if known is not None:
        # Last in the order, where no salt is left and the Jaccard loss takes no more steps.
        margins = margins.masked_fill(~known.reshape(margins.shape), _NEVER)
    weights = _jaccard_steps(margins.detach(), is_salt)
    match hinge:
        case "relu":
            values = F.relu(margins)
        case "elu":
            values = F.elu(margins) + 1
        case _:
            assert_never(hinge)
    # Not torch.linalg.vecdot: autocast would bring that down to bfloat16.
    return (values * weights).sum(1).expand(images)


def symmetric_lovasz(
    logits: Tensor, truth: Tensor, *, hinge: Hinge = "elu", whole_batch: bool = False, known: Tensor | None = None
) -> Tensor:
    """Mean of the Lovasz hinge of salt and of its complement, so that empty masks move every pixel: (n,).

    Source: the 9th place of the TGS competition (tugstugi).
    """
    logits = logits.float()  # here, so that the gradients of both are added in float32
    rest = 1 - truth if known is None else (1 - truth) * known
    straight = lovasz(logits, truth, hinge=hinge, whole_batch=whole_batch, known=known)
    return (straight + lovasz(-logits, rest, hinge=hinge, whole_batch=whole_batch, known=known)) / 2


def mixed_loss(
    logits: Tensor,
    truth: Tensor,
    *,
    weights: Mapping[LossName, float],
    options: Mapping[str, Any] | None = None,
    is_partial: bool = False,
) -> Tensor:
    """Weighted sum of losses, (n,), one value per image.

    Args:
        truth: where `is_partial`, NaN in pixels that are not known.
        weights: weight of each loss by name.
        options: `hinge`, `whole_batch`, `gamma`, `smooth`: each is handed to the losses that know it.
    """
    chosen = dict(options or {})
    known = ~truth.isnan() if is_partial else None
    truth = truth.nan_to_num(0.0) if is_partial else truth
    logits = logits.float()  # here, so that the gradients of all are added in float32
    total = torch.zeros(len(logits), device=logits.device)
    for name, weight in weights.items():
        total = total + weight * _one_loss(name, logits, truth, known, chosen)
    return total


def has_salt_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of "this image holds salt": logits (n,), truth (n, h, w), NaN where unknown -> (n,).

    0 where no known pixel is salt and some are not known: nobody can say.
    """
    target = holds_salt(truth)
    is_told = target | ~truth.flatten(1).isnan().any(1)
    return F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none") * is_told


def mean_with_salt(per_image: Tensor, truth: Tensor, *, over: Literal["salt", "all"] = "salt") -> Tensor:
    """Sum of the losses (n,) of images that hold salt, divided by their number or by that of all: a scalar.

    0 where no image holds any. Source: 9th place of the TGS competition (`salt`), 1st place (`all`).
    """
    with_salt = holds_salt(truth).float()
    number = with_salt.sum().clamp(min=1) if over == "salt" else len(truth)
    return (per_image * with_salt).sum() / number


def holds_salt(truth: Tensor) -> Tensor:
    """Whether any known pixel of a mask (n, h, w) is salt: (n,) bool."""
    return (truth.flatten(1) > 0.5).any(1)


def _one_loss(
    name: LossName, logits: Tensor, truth: Tensor, known: Tensor | None, options: Mapping[str, Any]
) -> Tensor:
    def chosen(*names: str) -> dict[str, Any]:
        return {key: options[key] for key in names if key in options}

    match name:
        case "bce":
            return bce(logits, truth, known=known)
        case "dice":
            return dice(logits, truth, known=known, **chosen("smooth", "whole_batch"))
        case "focal":
            return focal(logits, truth, known=known, **chosen("gamma"))
        case "lovasz":
            return lovasz(logits, truth, known=known, **chosen("hinge", "whole_batch"))
        case "symmetric_lovasz":
            return symmetric_lovasz(logits, truth, known=known, **chosen("hinge", "whole_batch"))
        case _:
            assert_never(name)


def _mean(values: Tensor, known: Tensor | None) -> Tensor:
    """Over each image's known pixels: (n,)."""
    if known is None:
        return values.flatten(1).mean(1)
    return (values * known).flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)


def _jaccard_steps(margins: Tensor, truth: Tensor) -> Tensor:
    """g of each pixel, in the pixels' own order: (n, p), float32; margins (n, p) float32, truth (n, p) bool."""
    if margins.device.type == "cpu":
        return torch.from_numpy(_jaccard_steps_on_processor(margins.numpy(), truth.numpy()))
    return _jaccard_steps_on_device(margins, truth)


def _jaccard_steps_on_device(margins: Tensor, truth: Tensor) -> Tensor:
    """`_jaccard_steps` with torch's own sort, which any device has."""
    order = torch.sort(margins, dim=1, descending=True, stable=True).indices
    truth_sorted = truth.gather(1, order)
    # Counts stay exact in float32 up to 2^24 pixels, more than any batch of tiles holds.
    salt_left = truth_sorted.sum(1, keepdim=True) - truth_sorted.cumsum(1, dtype=torch.float32)
    jaccard = 1 - salt_left / (salt_left + torch.arange(1, margins.shape[1] + 1, device=margins.device))
    steps = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1]))
    return torch.empty_like(steps).scatter_(1, order, steps)


def _jaccard_steps_on_processor(margins: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`_jaccard_steps` with NumPy, one block of rows a thread."""
    steps = np.empty(margins.shape, np.float32)
    parts = min(len(margins), torch.get_num_threads()) if margins.size >= _LEAST_TO_SPLIT else 1
    bounds = np.linspace(0, len(margins), parts + 1).astype(int)
    blocks = [slice(low, high) for low, high in pairwise(bounds)]
    waiting = [_SORTERS.submit(_fill_steps, margins[block], truth[block], steps[block]) for block in blocks[1:]]
    _fill_steps(margins[blocks[0]], truth[blocks[0]], steps[blocks[0]])
    for block in waiting:
        block.result()
    return steps


def _fill_steps(margins: NDArray[np.float32], truth: NDArray[np.bool_], steps: NDArray[np.float32]) -> None:
    """Write g of each pixel into `steps`; all (n, p)."""
    order = _descending(margins)
    salt_left = truth.reshape(-1).take(order).cumsum(axis=1, dtype=np.float32)
    np.subtract(salt_left[:, -1:], salt_left, out=salt_left)
    jaccard = salt_left + np.arange(1, margins.shape[1] + 1, dtype=np.float32)
    np.divide(salt_left, jaccard, out=jaccard)
    np.subtract(1, jaccard, out=jaccard)
    steps.reshape(-1)[order[:, 0]] = jaccard[:, 0]
    steps.reshape(-1)[order[:, 1:]] = np.diff(jaccard, axis=1)


def _descending(margins: NDArray[np.float32]) -> NDArray[np.intp]:
    """Flat position of each row's values, largest first and ties by position: (n, p).

    NumPy sorts 16-bit integers in linear time. Two such passes, low half then high half, put floats in order several
    times faster than its own or torch's sort of floats.
    """
    rows, pixels = margins.shape
    bits = np.negative(margins).view(np.int32)
    # IEEE floats sort like unsigned integers once negative ones are complemented and the sign bit is flipped.
    keys = (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32)
    row_start = np.arange(0, rows * pixels, pixels)[:, None]
    by_low = keys.astype(np.uint16).argsort(axis=1, kind="stable")
    by_low += row_start
    by_high = (keys >> 16).astype(np.uint16).reshape(-1).take(by_low).argsort(axis=1, kind="stable")
    by_high += row_start
    return by_low.reshape(-1).take(by_high)
