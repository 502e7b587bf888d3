"""The learning-rate range test: the rate rises step by step, and where the loss falls fastest is a good place to start.

Source: Smith 2017, section 3.3 (arXiv:1506.01186), with the rate rising by a factor instead of a difference, and the
steepest place of the loss over the rate's logarithm taken, as the 11th place did.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.nets.framing import InputSpec
from diapir.nets.infer import TileTensors
from diapir.recipe.whole import Recipe
from diapir.runs import atomic_path, require_file_place
from diapir.train.cycles import batch_size
from diapir.train.loop import Plan, train_epoch
from diapir.train.optimisers import build_optimiser
from diapir.train.sitting import new_net, stage_frame
from diapir.train.tile_tensors import input_spec, tile_tensors
from diapir.train.together import make_fabric

_LOW, _HIGH, _STEPS = 1e-6, 10.0, 200
# Over a twentieth of the sweep: wide enough for the noise of batches, narrow beside the fall of the loss.
_SMOOTHING = 1 / 20
_RUNAWAY, _RUNAWAY_STEPS = 4.0, 5


@dataclass(frozen=True)
class RateSweep:
    """A sweep of the learning rate.

    Args:
        rates: of the steps that were taken, each a constant factor above the one before.
        losses, smoothed: of those steps.
        steepest: the rate at which the smoothed loss falls fastest, per factor of the rate.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    steepest: float


def find_rate(recipe: Recipe, data: DataSet, out: Path) -> RateSweep:
    """Sweep the rate of a recipe's first stage over its labelled tiles, and draw the losses into a PNG.

    Raises:
        InputError: there are no labelled tiles, the recipe has no stages, or the loss falls nowhere.
    """
    require_file_place(out)
    if not recipe.stages:
        names = ", ".join(recipe.models)
        told = f"those of its models: give one of them with --model, {names}" if names else "none: give it some"
        raise InputError.of("stages", f"expected stages of the recipe's own, found {told}")
    if len(data.labelled) < 2:
        raise InputError.of("--data", f"expected at least 2 labelled tiles to train on, found {len(data.labelled)}")
    fabric = make_fabric(recipe.precision, devices=1)
    fabric.launch()
    tiles = tile_tensors(data.labelled, fabric.device)
    sweep = sweep_rates(recipe, tiles, spec=input_spec(recipe.input, data.labelled, data), fabric=fabric)
    draw_sweep(sweep, out, title=f"{recipe.name}, stage {recipe.stages[0].name}")
    return sweep


def sweep_rates(
    recipe: Recipe,
    tiles: TileTensors,
    *,
    spec: InputSpec,
    fabric: Fabric,
    low: float = _LOW,
    high: float = _HIGH,
    steps: int = _STEPS,
) -> RateSweep:
    """Train a new net on tiles drawn at random while the rate rises from `low` to `high`, or until the loss runs away.

    Raises:
        InputError: the loss falls nowhere.
    """
    stage = recipe.stages[0]
    # What the labelled tiles teach alone, to a single net.
    net = new_net(recipe.model_copy(update={"semi": None}), spec)
    batch = batch_size(stage, len(tiles))
    rng = torch.Generator().manual_seed(recipe.seed)
    rates = np.geomspace(low, high, steps)
    wrapped: Any = fabric.setup_module(net)
    optimiser: Any = fabric.setup_optimizers(build_optimiser(stage.optimiser, net.parameters()))
    losses: list[float] = []
    for loss in train_epoch(
        wrapped,
        optimiser,
        tiles,
        plan=Plan(
            spec=spec, frame=stage_frame(recipe, stage), augment=stage.augment or recipe.augment, loss=stage.loss,
            batch=batch, clip_norm=stage.optimiser.clip_norm, autocast=nullcontext, backward=fabric.backward,
            is_partial=tiles.is_partial,
            is_soft=tiles.is_soft,
        ),
        order=torch.randint(len(tiles), (steps * batch,), generator=rng),
        first_step=0,
        learning_rate=lambda step: float(rates[step]),
        rng=rng,
    ):  # fmt: skip
        if not math.isfinite(float(loss)):
            break
        losses.append(float(loss))
        if runs_away(losses):
            break
    taken, found = rates[: len(losses)], np.array(losses)
    smoothed = smooth(found, width=steps * _SMOOTHING)
    return RateSweep(taken, found, smoothed, steepest=steepest_rate(taken, smoothed))


def runs_away(losses: Sequence[float]) -> bool:
    """Whether the mean of the last losses is far above the lowest that such a mean has been."""
    if len(losses) < _RUNAWAY_STEPS:
        return False
    means = np.convolve(losses, np.full(_RUNAWAY_STEPS, 1 / _RUNAWAY_STEPS), mode="valid")
    return bool(means[-1] > _RUNAWAY * means.min())


def smooth(losses: NDArray[np.float64], *, width: float) -> NDArray[np.float64]:
    """Losses without the noise of their batches: weighted means around each step, which do not lag behind.

    Args:
        width: in steps, from one side of the weights' bell to the other (two standard deviations).
    """
    return np.asarray(gaussian_filter1d(losses, sigma=width / 2, mode="nearest")) if len(losses) else losses


def steepest_rate(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """The rate at which the loss falls fastest, per factor of the rate, before it is at its lowest.

    Raises:
        InputError: it falls nowhere.
    """
    end = int(np.argmin(losses)) + 1 if len(losses) else 0
    if end < 2:
        raise InputError.of(
            "find-lr", f"the loss falls at no learning rate from {_LOW:g} to {_HIGH:g}: look at data, loss and net"
        )
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slopes))])


def draw_sweep(sweep: RateSweep, path: Path, *, title: str) -> None:
    """Draw loss over learning rate, with the steepest place marked, into a PNG."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(sweep.rates, sweep.losses, color="#9aa5b1", linewidth=0.8, label="each batch")
    axes.plot(sweep.rates, sweep.smoothed, color="#1f5c99", linewidth=2, label="smoothed")
    axes.axvline(sweep.steepest, color="#e4572e", linewidth=1.5, label=f"steepest: {sweep.steepest:.2g}")
    lowest, highest = float(sweep.smoothed.min()), float(sweep.smoothed[: max(len(sweep.smoothed) // 2, 1)].max())
    margin = 0.5 * (highest - lowest) + 1e-6
    axes.set(title=title, xlabel="learning rate", ylabel="training loss", xscale="log")
    axes.set_ylim(lowest - margin, highest + margin)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
