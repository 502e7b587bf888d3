"""One fold: stages in order, checkpoints, held-out scores, and the weights to predict with."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.losses import mixed_loss
from diapir.nets.framing import net_input
from diapir.nets.weights import save_tensors
from diapir.recipe.semi import MeanTeacher
from diapir.recipe.training import Stage
from diapir.recipe.whole import Recipe
from diapir.train.averaging import estimate_norms, move_average, update_average
from diapir.train.bar import TrainingBar
from diapir.train.checkpoint import is_finished, mark_finished
from diapir.train.cycles import batch_size, cycle_rate, epoch_order, epoch_steps, is_over
from diapir.train.doctor import TrainingFailed, check_loss, diagnose
from diapir.train.epoch_log import Record, epoch_line, scores_of, write_log
from diapir.train.held_out import score_held_out
from diapir.train.loop import Objective, Plan, train_epoch
from diapir.train.peak_memory import peak_memory_mb
from diapir.train.semi import build_objective, teacher_decay
from diapir.train.sitting import Fold, Sitting, begin_cycle, begin_sitting, save_due, save_sitting, stage_frame
from diapir.train.snapshots import (
    SNAPSHOTS,
    WEIGHTS_BEST,
    WEIGHTS_LAST,
    drop_epochs,
    epochs_to_keep,
    keep_epoch,
    planned_snapshots,
    write_snapshots,
)
from diapir.train.stop import Stopped
from diapir.train.together import agreed_stop, mean_loss, told_by_first
from diapir.train.tracking import Tracker

_LOOK_EVERY_STEPS = 10  # reading the loss waits for the device, so not at every step


def fit_fold(
    recipe: Recipe,
    fold: Fold,
    *,
    folder: Path,
    fabric: Fabric,
    begin_with: Path | None = None,
    trackers: Sequence[Tracker] = (),
    stop_asked: Callable[[], int | None] = lambda: None,
    on_step: Callable[[int], None] = lambda _: None,
    shown: bool = True,
) -> None:
    """Train one model and leave `weights-best`, `weights-last`, `log.jsonl` and its snapshots in `folder`.

    Goes on from the folder's checkpoint if it has one; the weights are then the same bytes as those of a run that was
    never interrupted (on a processor). Where training came to its end before, nothing is left to do.

    Args:
        begin_with: weights of the same net, in place of random ones.
        on_step: called with the number of steps taken; tests interrupt here.
        shown: whether a person is shown a bar and the epochs.

    Raises:
        Stopped: `stop_asked` named a signal; the state was saved.
        TrainingFailed: the run cannot succeed.
        InputError: the folder's checkpoint belongs to something else or cannot be read; a batch has fewer tiles than
            there are processes; or there are several, and the recipe is a semi-supervised one.
    """
    if is_finished(folder, identity=fold.identity):
        return
    smallest = min(batch_size(stage, len(fold.train)) for stage in recipe.stages)
    if smallest < fabric.world_size:
        raise InputError.of(f"--devices {fabric.world_size}", f"a batch of {smallest} cannot be shared by so many")
    if recipe.semi is not None and fabric.world_size > 1:
        raise InputError.of(f"--devices {fabric.world_size}", f"semi.kind '{recipe.semi.kind}' trains on one: use 1")
    folder.mkdir(parents=True, exist_ok=True)
    sitting = begin_sitting(
        recipe, fold, folder=folder, fabric=fabric, begin_with=begin_with, trackers=trackers, stop_asked=stop_asked
    )
    total = sum(cycle.stage.epochs * epoch_steps(cycle.stage, len(fold.train)) for cycle in sitting.cycles)
    _stop_if_hopeless(sitting)
    shown = shown and fabric.is_global_zero
    with TrainingBar(fold.name, total=total, done=sitting.progress.total_steps, shown=shown) as bar:
        while not sitting.finished:
            _run_epoch(sitting, bar, on_step=on_step)
            _close_epoch(sitting, bar)
            _stop_if_hopeless(sitting)
    if fabric.is_global_zero:
        _leave_snapshots(sitting)
        mark_finished(folder, identity=fold.identity)


def _run_epoch(sitting: Sitting, bar: TrainingBar, *, on_step: Callable[[int], None]) -> None:
    """The steps that are left of the epoch under way."""
    fabric, start = sitting.fabric, time.monotonic()
    pending: list[Tensor] = []
    loss_seen, first_step = float("nan"), sitting.progress.step
    for taken, loss in enumerate(_epoch_steps(sitting), start=1):
        _follow(sitting)
        pending.append(loss)
        due, asked = save_due(sitting), sitting.stop_asked()
        look = len(pending) == _LOOK_EVERY_STEPS or first_step + taken == sitting.steps
        # Processes that train together look, and so save and stop, only at steps that they agree on without a word.
        look = look or (fabric.world_size == 1 and (due or asked is not None))
        if look:
            loss_seen = _look(sitting, pending)
            asked = agreed_stop(fabric, asked)
        sitting.progress = replace(
            sitting.progress, step=first_step + taken, total_steps=sitting.progress.total_steps + 1
        )
        images_per_s = taken * sitting.batch / (time.monotonic() - start)
        bar.step(sitting.cycle.name, loss=loss_seen, score=sitting.progress.best_score, images_per_s=images_per_s)
        if look and (due or asked is not None):
            save_sitting(sitting)
        on_step(sitting.progress.total_steps)
        if look and asked is not None:
            raise Stopped(asked)


def _follow(sitting: Sitting) -> None:
    """Move the average of the weights, or the teacher, after a step that is not counted yet."""
    average, net, step = sitting.parts.average, sitting.parts.net, sitting.progress.total_steps
    if average is not None and isinstance(sitting.recipe.semi, MeanTeacher):
        move_average(average, net, decay=teacher_decay(step, most=sitting.recipe.semi.decay))
    elif average is not None:
        update_average(average, net, step=step, decay=sitting.recipe.average.decay)


def _epoch_steps(sitting: Sitting) -> Iterator[Tensor]:
    stage, fold, fabric = sitting.stage, sitting.fold, sitting.fabric
    plan = Plan(
        spec=fold.spec,
        frame=stage_frame(sitting.recipe, stage),
        augment=stage.augment or sitting.recipe.augment,
        loss=stage.loss.at(sitting.progress.epoch, stage.epochs),
        batch=sitting.batch,
        clip_norm=stage.optimiser.clip_norm,
        autocast=nullcontext,
        backward=fabric.backward,
        part=(fabric.global_rank, fabric.world_size),
        is_partial=fold.train.is_partial,
        is_soft=fold.train.is_soft,
    )
    optimiser: Any = fabric.setup_optimizers(sitting.parts.optimiser)
    scores = sitting.scores
    return train_epoch(
        sitting.net,
        optimiser,
        fold.train,
        plan=plan,
        order=sitting.order,
        first_step=sitting.progress.step,
        learning_rate=lambda step: _learning_rate(sitting, step, scores=scores),
        rng=sitting.parts.rng,
        objective=_objective(sitting, plan=plan),
    )


def _objective(sitting: Sitting, *, plan: Plan) -> Callable[[Tensor], Objective] | None:
    """What the steps of this epoch learn from where the recipe asks for unlabelled tiles too."""
    section, fold, parts = sitting.recipe.semi, sitting.fold, sitting.parts
    if section is None:
        return None
    assert fold.unlabelled is not None
    return build_objective(
        section,
        student=sitting.net,
        teacher=parts.average,
        pair=parts.net,
        tiles=fold.train,
        unlabelled=fold.unlabelled,
        plan=plan,
        autocast=sitting.fabric.autocast,
        epoch=len(sitting.progress.history),
        rng=parts.rng,
    )


def _learning_rate(sitting: Sitting, step: int, *, scores: Sequence[float]) -> float:
    return cycle_rate(sitting.stage, epoch=sitting.progress.epoch, step=step, steps=sitting.steps, scores=scores)


def _look(sitting: Sitting, pending: list[Tensor]) -> float:
    """Add the pending losses to the epoch's, and give the last; stops the run where one is not finite."""
    values = mean_loss(sitting.fabric, torch.stack(pending)).tolist()
    pending.clear()
    for value in values:
        sitting.progress = replace(sitting.progress, loss_sum=sitting.progress.loss_sum + value)
    if not math.isfinite(sum(values)):
        check_loss(
            next(value for value in values if not math.isfinite(value)),
            place=f"{sitting.fold.name}, stage {sitting.cycle.name}, epoch {sitting.progress.epoch + 1}",
            learning_rate=_learning_rate(sitting, sitting.progress.step, scores=sitting.scores),
            weights_finite=all(bool(torch.isfinite(each).all()) for each in sitting.parts.net.parameters()),
        )
    return float(values[-1])


def _close_epoch(sitting: Sitting, bar: TrainingBar) -> None:
    """Score, log, move on to the next epoch, and save."""
    stage, progress = sitting.stage, sitting.progress
    record: dict[str, Any] = {
        "stage": sitting.cycle.name,
        "epoch": progress.epoch + 1,
        "total_epochs": len(progress.history) + 1,
        "loss": progress.loss_sum / sitting.steps,
        "bce_only": stage.loss.is_plain_bce,
        "learning_rate": _learning_rate(sitting, progress.step - 1, scores=sitting.scores),
        "score": None,
        "predicted_empty": None,
        # With other threads sums are made in another order, and weights differ in their last bits.
        "threads": torch.get_num_threads(),
        "device": str(sitting.fabric.device),
    }
    if progress.epoch + 1 == stage.epochs or (progress.epoch + 1) % stage.score_every == 0:
        record |= told_by_first(sitting.fabric, lambda: _score(sitting, sitting.predictor, stage=stage))
    elapsed_s = progress.elapsed_s + time.monotonic() - sitting.began_s
    sitting.began_s = time.monotonic()
    record |= {"elapsed_s": round(elapsed_s, 1), "peak_memory_mb": peak_memory_mb(sitting.fabric.device)}
    over = is_over(stage, epochs=progress.epoch + 1, scores=[*sitting.scores, *scores_of([record])])
    if over:
        bar.shorten((stage.epochs - progress.epoch - 1) * sitting.steps)
    improved = record["score"] is not None and (progress.best_score is None or record["score"] > progress.best_score)
    sitting.progress = replace(
        progress,
        cycle=progress.cycle + over,
        epoch=0 if over else progress.epoch + 1,
        step=0,
        loss_sum=0.0,
        elapsed_s=elapsed_s,
        best_score=record["score"] if improved else progress.best_score,
        history=[*progress.history, record],
    )
    if sitting.fabric.is_global_zero:
        _write_epoch(sitting, record, improved=improved)
    bar.epoch(epoch_line(sitting.fold.name, record))
    _begin_next(sitting, cycle_over=over)


def _stop_if_hopeless(sitting: Sitting) -> None:
    """Raise TrainingFailed where the epochs so far show that no success will come; also when a failed run goes on."""
    assert sitting.fold.held_out.masks is not None
    history = sitting.progress.history
    trouble = diagnose(history, has_salt=bool((sitting.fold.held_out.masks == 1).any()))
    if trouble:
        raise TrainingFailed(
            f"{sitting.fold.name}, stage {history[-1]['stage']}, epoch {history[-1]['epoch']}: {trouble}"
        )


def _begin_next(sitting: Sitting, *, cycle_over: bool) -> None:
    if cycle_over and not sitting.finished:
        begin_cycle(sitting)
    if not sitting.finished:
        sitting.order = epoch_order(sitting.stage, len(sitting.fold.train), rng=sitting.parts.rng)
    if cycle_over or save_due(sitting):
        save_sitting(sitting)


def _write_epoch(sitting: Sitting, record: Record, *, improved: bool) -> None:
    write_log(sitting.folder, sitting.progress.history)
    facts, weights = sitting.facts | {"score": record["score"]}, sitting.predictor.state_dict()
    if improved:
        save_tensors(sitting.folder / WEIGHTS_BEST, weights, facts)
    if sitting.finished:
        save_tensors(sitting.folder / WEIGHTS_LAST, weights, facts)
    if record["total_epochs"] in epochs_to_keep(sitting.recipe, sitting.progress):
        keep_epoch(sitting.folder, record["total_epochs"], weights, facts)
    for track in sitting.trackers:
        track(record)


def _score(sitting: Sitting, net: nn.Module, *, stage: Stage) -> dict[str, float]:
    """How weights do on the held-out tiles; the loss and the accuracy where the recipe's average is chosen by them."""
    loss = stage.loss
    options = {"hinge": loss.hinge, "whole_batch": loss.whole_batch, "gamma": loss.gamma}

    def per_tile(logits: Tensor, truth: Tensor) -> Tensor:
        is_partial = sitting.fold.held_out.is_partial
        return mixed_loss(logits, truth, weights=loss.weights, options=options, is_partial=is_partial)

    return score_held_out(
        net,
        sitting.fold.held_out,
        spec=sitting.fold.spec,
        frame=stage_frame(sitting.recipe, stage),
        batch=sitting.recipe.predict.batch,
        autocast=sitting.fabric.autocast,
        loss=per_tile if sitting.recipe.average.method == "three_bests" else None,
    )


def _leave_snapshots(sitting: Sitting) -> None:
    """Write the snapshots of a finished fold, unless they are there."""
    snapshots = planned_snapshots(sitting.recipe, sitting.progress)
    if not snapshots:
        return
    if not (sitting.folder / SNAPSHOTS).exists():
        net = copy.deepcopy(sitting.parts.net)
        write_snapshots(
            sitting.folder,
            snapshots,
            facts=sitting.facts,
            finish=lambda weights: _finish_average(sitting, net, weights),
        )
    drop_epochs(sitting.folder, but=())


def _finish_average(sitting: Sitting, net: nn.Module, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """A mean of weights, with batch-norm statistics of its own where the recipe wants them; and its held-out score."""
    net.load_state_dict(weights)
    if sitting.recipe.average.norms == "estimate":
        device = sitting.fabric.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), sitting.fabric.autocast():
            # Dropout takes part; of its own seed, it drops the same whenever this is done.
            torch.manual_seed(sitting.recipe.seed)
            estimate_norms(net, _training_inputs(sitting))
    return net.state_dict(), _score(sitting, net, stage=sitting.recipe.stages[-1])["score"]


def _training_inputs(sitting: Sitting) -> Iterator[Tensor]:
    """The training tiles as they are, in batches of much the same size: a lone tile has no variance."""
    stage, tiles = sitting.recipe.stages[-1], sitting.fold.train
    batches = -(-len(tiles) // batch_size(stage, len(tiles)))
    for rows in torch.arange(len(tiles), device=tiles.images.device).tensor_split(batches):
        images = tiles.images[rows].float() / 255
        frame = stage_frame(sitting.recipe, stage)
        yield net_input(images, tiles.depths_m[rows], spec=sitting.fold.spec, frame=frame)
