"""Lovasz hinge, forward and backward, batch 32 at 128 x 128: time of segmentation-models-pytorch / time of diapir.

    python benchmarks/lovasz_speed.py [--pairs 30]

ReLU hinge per image, on logits as an untrained net gives them (normal) and as a trained one does (confident, one
pixel in fifty wrong). Equal losses and gradients first, or the script ends with status 1. The ratio is the median
over pairs of calls, one after the other; above 1 diapir is faster. "Same settings": both in one process with the
memory and thread settings that the `diapir` command makes for itself; "as it comes": the peer in a process without.
"""

import argparse
import sys
from functools import partial

from diapir.processor import tune_process

UNTUNED = "--as-it-comes"  # the flag of the second process
if __name__ == "__main__" and UNTUNED not in sys.argv:
    tune_process()

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor

from diapir.losses import lovasz
from rounds import heading, seconds, serve, spread, start_worker, table

BATCH, SIDE = 32, 128
PEER = LovaszLoss("binary", per_image=True)


def make_case(kind: str) -> tuple[Tensor, Tensor]:
    """Logits (n, h, w) that want a gradient, and masks (n, h, w) of 0 and 1, a quarter of them empty."""
    rng = torch.Generator().manual_seed(0)
    field = F.avg_pool2d(torch.randn(BATCH, 1, SIDE, SIDE, generator=rng), 31, stride=1, padding=15)[:, 0]
    masks = (field > 0).long()
    masks[::4] = 0
    logits = torch.randn(BATCH, SIDE, SIDE, generator=rng)
    if kind == "confident":
        right = torch.where(torch.rand(BATCH, SIDE, SIDE, generator=rng) < 0.02, -1.0, 1.0)
        logits = (2.0 * masks - 1) * right * (6 + 2 * logits)
    return logits.requires_grad_(), masks


def ours(logits: Tensor, masks: Tensor) -> Tensor:
    logits.grad = None
    loss = lovasz(logits, masks, hinge="relu").mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def theirs(logits: Tensor, masks: Tensor) -> Tensor:
    logits.grad = None
    loss: Tensor = PEER(logits[:, None], masks[:, None])
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def require_equal(kind: str) -> str:
    """Compare loss and gradients, and say how close they are; leaves with status 1 where they differ."""
    logits, masks = make_case(kind)
    our_loss = ours(logits, masks)
    our_grad = logits.grad
    their_loss = theirs(logits, masks)
    assert our_grad is not None
    assert logits.grad is not None
    off = float((our_grad - logits.grad).abs().max() / logits.grad.abs().max())
    # Pixels of equal margin may stand in either order: their gradients then swap, and the loss stays.
    total_off = float((our_grad.sum((1, 2)) - logits.grad.sum((1, 2))).abs().max())
    tied = sum(SIDE * SIDE - len(torch.unique(row)) for row in (1 - logits * (2 * masks - 1)).detach().flatten(1))
    swapped = int(((our_grad - logits.grad).abs() > 1e-5 * logits.grad.abs().max()).sum())
    loss_off = abs(float(our_loss - their_loss)) / abs(float(their_loss))
    text = (
        f"{kind}: loss {float(our_loss):.6f} and {float(their_loss):.6f}; largest gradient difference {off:.1e} of the "
        f"largest gradient, {swapped} pixels beyond 1e-5 of it, where {tied} share their margin with another"
    )
    if loss_off > 1e-5 or total_off > 1e-4 or swapped > 2 * tied:
        sys.exit(f"error: losses differ: {text}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument(UNTUNED, action="store_true", help="for the second process that this script starts")
    arguments = parser.parse_args()
    cases = {kind: make_case(kind) for kind in ("untrained", "confident")}
    if arguments.as_it_comes:
        serve(lambda request: {"s": seconds(lambda: theirs(*cases[request["kind"]]))})
        return
    equal = [require_equal(kind) for kind in cases]
    worker = start_worker(__file__, UNTUNED)
    rows = [("logits", "diapir ms", "peer ms", "ratio, same settings", "peer ms as it comes", "ratio, as it comes")]
    for kind, case in cases.items():
        times = []
        for _ in range(arguments.pairs + 3):
            other = worker.ask({"kind": kind})["s"]
            times.append((seconds(partial(ours, *case)), seconds(partial(theirs, *case)), other))
        mine, same, plain = zip(*times[3:], strict=True)
        rows.append(
            (
                kind,
                spread([1e3 * one for one in mine]).text(1),
                spread([1e3 * one for one in same]).text(1),
                spread([b / a for a, b in zip(mine, same, strict=True)]).text(),
                spread([1e3 * one for one in plain]).text(1),
                spread([b / a for a, b in zip(mine, plain, strict=True)]).text(),
            )
        )
    worker.close()
    print(heading("segmentation_models_pytorch", threads=torch.get_num_threads()))
    print("equal      " + "\n           ".join(equal))
    print(f"median (least to greatest) of {arguments.pairs} rounds; goal: 5 with the same settings\n")
    print(table(rows))


if __name__ == "__main__":
    main()
