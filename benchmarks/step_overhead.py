"""Time of a whole training step / time of the net's forward, backward and optimiser step alone.

    python benchmarks/step_overhead.py [--steps 20] [--gates none scse] [--losses bce lovasz]

ResNet34 U-Net at 128, batch 32. The whole step is the package's loop: draw, augment, frame, forward, loss, backward,
optimiser. "The net alone" works on a ready batch, once with the same loss and once with the mean of the logits, which
costs nothing. The three take turns, in one process, on the same net and optimiser. Without augmentation, a whole step
and one of the net alone must give the same loss and weights, checked first, or the script ends with status 1.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from diapir.processor import tune_process

if __name__ == "__main__":
    tune_process()

import torch
from lightning_fabric import Fabric
from torch import Tensor

from diapir.losses import mixed_loss
from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.nets.infer import TileTensors
from diapir.recipe.training import Augment, Loss, Optimiser
from diapir.train.loop import Plan, train_epoch
from diapir.train.optimisers import build_optimiser
from peer_net import GATES, LOSSES, machine_type, our_net
from rounds import heading, seconds, spread, table

BATCH, SIDE, RATE, TILES = 32, 128, 1e-4, 512
AUGMENT = Augment(flip=0.5, geometry=0.5, shift=0.1, scale=0.1, rotation_deg=10, tone=0.3, brightness=0.1, contrast=0.1)
WARM_UP = 3


@dataclass(frozen=True)
class Bench:
    """A net in training, and the tiles it trains on."""

    net: torch.nn.Module  # as fabric wraps it
    optimiser: Any
    tiles: TileTensors
    plan: Plan
    rng: torch.Generator

    def whole(self, order: Tensor) -> Tensor:
        """One step of the package's loop; gives its loss."""
        steps = train_epoch(
            self.net, self.optimiser, self.tiles, plan=self.plan, order=order, first_step=0,
            learning_rate=lambda _: RATE, rng=self.rng,
        )  # fmt: skip
        return next(steps)

    def alone(self, inputs: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """Forward, `measure` of the logits (n, h, w), backward, optimiser step; gives its loss."""
        value = measure(self.net(inputs).mask.float())
        self.optimiser.zero_grad(set_to_none=True)
        self.plan.backward(value)
        self.optimiser.step()
        return value.detach()

    def same_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The plan's loss of logits (n, 128, 128) and truth (n, 101, 101)."""
        released = self.plan.frame.release(logits[:, None], height=101, width=101)[:, 0]
        return mixed_loss(
            released, truth, weights=self.plan.loss.weights, options={"hinge": self.plan.loss.hinge}
        ).mean()

    def ready(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Net input and masks of some tiles, as they are."""
        assert self.tiles.masks is not None
        images, depths_m = self.tiles.images[rows].float() / 255, self.tiles.depths_m[rows]
        return net_input(images, depths_m, spec=self.plan.spec, frame=self.plan.frame), self.tiles.masks[rows].float()


def make_bench(gate: str, loss: str, *, augment: Augment = AUGMENT) -> Bench:
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed" if machine_type() is torch.bfloat16 else "32-true")
    fabric.launch()
    net = our_net(gate).to(memory_format=torch.channels_last)
    wrapped = fabric.setup_module(net)
    plan = Plan(
        spec=InputSpec(channels=("image",), levels=((0.5, 0.3),), depth_low_m=0, depth_high_m=1),
        frame=Frame("pad", SIDE),
        augment=augment,
        loss=Loss(bce=1.0) if loss == "bce" else Loss(lovasz=1.0),
        batch=BATCH,
        clip_norm=0,
        autocast=fabric.autocast,
        backward=fabric.backward,
    )
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (TILES, 101, 101), dtype=torch.uint8, generator=rng)
    masks = (torch.rand(TILES, 101, 101, generator=rng) < 0.3).to(torch.uint8)
    tiles = TileTensors(images, masks, torch.zeros(TILES))
    optimiser = fabric.setup_optimizers(build_optimiser(Optimiser(lr=RATE), net.parameters()))
    return Bench(wrapped, optimiser, tiles, plan, rng)


def require_equal(gate: str, loss: str) -> str:
    """Without augmentation both ways must give the same loss and the same weights; status 1 where they differ."""
    rows = torch.arange(BATCH)
    first, second = (make_bench(gate, loss, augment=Augment(flip=0)) for _ in range(2))
    inputs, truth = second.ready(rows)
    loss_off = float((first.whole(rows) - second.alone(inputs, lambda logits: second.same_loss(logits, truth))).abs())
    pairs = zip(first.net.parameters(), second.net.parameters(), strict=True)
    off = max(float((one - other).detach().abs().max()) for one, other in pairs)
    text = f"{gate}, {loss}: loss differs by {loss_off:.1e}, weights after the step by {off:.1e}"
    if max(loss_off, off) > 0:
        sys.exit(f"error: {text}; expected no difference")
    return text


def measure_steps(gate: str, loss: str, *, steps: int) -> tuple[str, ...]:
    """Row of the table."""
    bench = make_bench(gate, loss)
    inputs, truth = bench.ready(torch.arange(BATCH))
    times = []
    for _ in range(steps + WARM_UP):
        order = torch.randperm(TILES, generator=bench.rng)[:BATCH]
        times.append(
            (
                seconds(partial(bench.whole, order)),
                seconds(lambda: bench.alone(inputs, lambda logits: bench.same_loss(logits, truth))),
                seconds(lambda: bench.alone(inputs, torch.mean)),
            )
        )
    whole, same, bare = zip(*times[WARM_UP:], strict=True)
    return (
        gate,
        loss,
        spread([1e3 * one for one in whole]).text(0),
        spread([a / b for a, b in zip(whole, same, strict=True)]).text(3),
        spread([a / b for a, b in zip(whole, bare, strict=True)]).text(3),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--gates", nargs="+", choices=GATES, default=GATES)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    arguments = parser.parse_args()
    pairs = [(gate, loss) for gate in arguments.gates for loss in arguments.losses]
    equal = [require_equal(gate, loss) for gate, loss in pairs]
    rows: list[tuple[str, ...]] = [
        ("gates", "loss", "whole step ms", "over the net alone, same loss", "over the net alone, mean of logits")
    ]
    rows += [measure_steps(gate, loss, steps=arguments.steps) for gate, loss in pairs]
    print(heading(threads=torch.get_num_threads()))
    print(f"precision  {machine_type()}, mixed")
    print("equal      " + "\n           ".join(equal))
    print(f"median (least to greatest) of {arguments.steps} triples of steps; goal: at most 1.08\n")
    print(table(rows))


if __name__ == "__main__":
    main()
