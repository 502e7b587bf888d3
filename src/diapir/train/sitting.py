"""What one sitting of training holds: a fold, the state that moves on, how it begins, and how it is saved."""

import copy
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from diapir.nets.build import build_model
from diapir.nets.encoders import TimmEncoder
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors
from diapir.nets.pair import Pair
from diapir.nets.weights import load_encoder_weights, load_tensors
from diapir.recipe.nets import trained_encoder
from diapir.recipe.semi import MeanTeacher
from diapir.recipe.tiles import Framing
from diapir.recipe.training import Stage
from diapir.recipe.whole import Recipe
from diapir.train.checkpoint import Parts, Progress, load_checkpoint, restore, save_checkpoint
from diapir.train.cycles import Cycle, batch_size, cycles_of, epoch_order, epoch_steps
from diapir.train.epoch_log import best_of, of_cycle, scores_of, write_log
from diapir.train.optimisers import build_optimiser, hand_over
from diapir.train.snapshots import drop_epochs, epochs_to_keep, kept_weights
from diapir.train.tracking import Tracker

SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Fold:
    """What one model is trained on and scored on.

    Args:
        name: for logs and errors.
        train: tiles with masks, on the device.
        held_out: tiles with masks that training never sees.
        spec: channels and scaling.
        identity: digest of recipe, data and fold.
        unlabelled: tiles to learn from without masks, on the device; None for a recipe that asks for none.
    """

    name: str
    train: TileTensors
    held_out: TileTensors
    spec: InputSpec
    identity: str
    unlabelled: TileTensors | None = None


@dataclass
class Sitting:
    """What one sitting of training holds; `parts` and what follows it move on, the rest stays.

    Args:
        net: as fabric wraps it, for training.
        kept: the epochs whose weights the state that was saved last may ask for.
    """

    fold: Fold
    recipe: Recipe
    fabric: Fabric
    folder: Path
    net: nn.Module
    cycles: Sequence[Cycle]
    trackers: Sequence[Tracker]
    stop_asked: Callable[[], int | None]
    parts: Parts
    progress: Progress
    order: Tensor
    kept: set[int]
    began_s: float = field(default_factory=time.monotonic)
    saved_s: float = field(default_factory=time.monotonic)

    @property
    def facts(self) -> dict[str, Any]:
        """What stands in every file of weights."""
        return {"spec": asdict(self.fold.spec), "identity": self.fold.identity}

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.progress.cycle == len(self.cycles)

    @property
    def cycle(self) -> Cycle:
        """The cycle under way."""
        return self.cycles[self.progress.cycle]

    @property
    def stage(self) -> Stage:
        """The stage under way."""
        return self.cycle.stage

    @property
    def batch(self) -> int:
        """Tiles in a batch of it."""
        return batch_size(self.stage, len(self.fold.train))

    @property
    def steps(self) -> int:
        """Steps in an epoch of it."""
        return epoch_steps(self.stage, len(self.fold.train))

    @property
    def scores(self) -> list[float]:
        """Held-out scores of the cycle so far."""
        return scores_of(of_cycle(self.progress.history, self.cycle.name))

    @property
    def predictor(self) -> nn.Module:
        """What is scored and kept: the net, or its moving average, such as a teacher, where there is one."""
        return self.parts.net if self.parts.average is None else self.parts.average


def build_frame(section: Framing) -> Frame:
    """Recipe section -> frame."""
    size = None if section.method == "native" else section.size
    return Frame(section.method, size, section.border, inner=section.resize)


def stage_frame(recipe: Recipe, stage: Stage) -> Frame:
    """The frame in which a stage sees its tiles; the last stage's is the one to predict in."""
    return build_frame(stage.framing or recipe.framing)


def new_net(recipe: Recipe, spec: InputSpec, *, trained: bool = True) -> nn.Module:
    """A recipe's net as training starts with it: random weights by its seed, or trained ones where it names them.

    Args:
        trained: false leaves trained weights out, for others will be loaded.
    """
    torch.manual_seed(recipe.seed)
    net = build_model(recipe, in_channels=len(spec.channels))
    wanted = trained_encoder(recipe.net)
    if trained and wanted is not None:
        for each in net.children() if isinstance(net, Pair) else (net,):
            assert isinstance(each.encoder, TimmEncoder)
            load_encoder_weights(each.encoder, *wanted)
    return net.to(memory_format=torch.channels_last)


def begin_sitting(
    recipe: Recipe,
    fold: Fold,
    *,
    folder: Path,
    fabric: Fabric,
    begin_with: Path | None,
    trackers: Sequence[Tracker],
    stop_asked: Callable[[], int | None],
) -> Sitting:
    """A fold at its start, with the weights of `begin_with` if any, or as its folder's checkpoint has it.

    Raises:
        InputError: as `load_checkpoint` and `load_tensors`.
    """
    saved = load_checkpoint(folder, identity=fold.identity, warn=lambda text: _warn(fabric, text))
    net = new_net(recipe, fold.spec, trained=saved is None)
    if saved is None and begin_with is not None:
        net.load_state_dict(load_tensors(begin_with)[0])
    is_averaged = recipe.average.decay > 0 or isinstance(recipe.semi, MeanTeacher)
    average = copy.deepcopy(net).requires_grad_(False) if is_averaged else None
    wrapped = fabric.setup_module(net)
    average = None if average is None else average.to(fabric.device)
    cycles = cycles_of(recipe)
    cycle = cycles[min(saved[0].cycle, len(cycles) - 1) if saved else 0]
    rng = torch.Generator().manual_seed(recipe.seed)
    optimiser = build_optimiser(cycle.stage.optimiser, net.parameters())
    parts = Parts(net=net, average=average, optimiser=optimiser, rng=rng)
    if saved is None:
        progress, order = Progress(), epoch_order(cycle.stage, len(fold.train), rng=rng)
    else:
        progress, order = saved[0], restore(parts, saved[1])
        if fabric.is_global_zero:
            write_log(folder, progress.history)
    return Sitting(
        fold=fold, recipe=recipe, fabric=fabric, folder=folder, net=wrapped, cycles=cycles, trackers=trackers,
        stop_asked=stop_asked, parts=parts, progress=progress, order=order, kept=epochs_to_keep(recipe, progress),
    )  # fmt: skip


def _warn(fabric: Fabric, text: str) -> None:
    if fabric.is_global_zero:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def begin_cycle(sitting: Sitting) -> None:
    """Bring weights and optimiser to where the cycle's stage wants it to start."""
    stage, parts, before = sitting.stage, sitting.parts, sitting.cycles[sitting.progress.cycle - 1]
    if stage.start_from == "best":
        sitting.fabric.barrier()  # the first process may still be writing
        best = best_of(of_cycle(sitting.progress.history, before.name))
        weights = kept_weights(sitting.folder, best["total_epochs"])
        for net in (parts.net, parts.average):
            if net is not None:
                net.load_state_dict(weights)
    optimiser = build_optimiser(stage.optimiser, parts.net.parameters())
    if stage.keep_state:
        hand_over(parts.optimiser, optimiser)
    sitting.parts = replace(parts, optimiser=optimiser)


def save_due(sitting: Sitting) -> bool:
    """Whether so much was done since the last save that it would be a pity to lose it."""
    return time.monotonic() - sitting.saved_s > SAVE_EVERY_S


def save_sitting(sitting: Sitting) -> None:
    """Write the state, and let go of weights that neither it nor the one before can ask for."""
    sitting.saved_s = time.monotonic()
    if not sitting.fabric.is_global_zero:
        return
    elapsed_s = sitting.progress.elapsed_s + time.monotonic() - sitting.began_s
    save_checkpoint(
        sitting.folder,
        sitting.parts,
        progress=replace(sitting.progress, elapsed_s=elapsed_s),
        order=sitting.order,
        identity=sitting.fold.identity,
    )
    # The state before this one lies there too, and training may have to go on from it.
    kept = epochs_to_keep(sitting.recipe, sitting.progress)
    drop_epochs(sitting.folder, but=kept | sitting.kept)
    sitting.kept = kept
