"""One fold: stages in order, checkpoints, held-out scores, and the weights to predict with."""

import copy
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.build import build_net
from diapir.nets.encoders import TimmEncoder
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors
from diapir.nets.weights import load_encoder_weights, load_tensors, save_tensors
from diapir.recipe import nets as recipes
from diapir.recipe.tiles import Framing
from diapir.recipe.training import Stage
from diapir.recipe.whole import Recipe
from diapir.runs import write_text
from diapir.train.averaging import update_average
from diapir.train.bar import TrainingBar
from diapir.train.checkpoint import Parts, Progress, load_checkpoint, restore, save_checkpoint
from diapir.train.doctor import TrainingFailed, check_loss, diagnose
from diapir.train.held_out import score_held_out
from diapir.train.loop import Plan, steps_per_epoch, train_epoch
from diapir.train.optimisers import build_optimiser
from diapir.train.schedules import learning_rate
from diapir.train.stop import Stopped
from diapir.train.together import agreed_stop, mean_loss, told_by_first
from diapir.train.tracking import Tracker

LOG, WEIGHTS_BEST, WEIGHTS_LAST = "log.jsonl", "weights-best.safetensors", "weights-last.safetensors"
_SAVE_EVERY_S = 60.0
_LOOK_EVERY_STEPS = 10  # reading the loss waits for the device, so not at every step


@dataclass(frozen=True)
class Fold:
    """What one model is trained on and scored on.

    Args:
        name: for logs and errors.
        train: tiles with masks, on the device.
        held_out: tiles with masks that training never sees.
        spec: channels and scaling.
        identity: digest of recipe, data and fold.
    """

    name: str
    train: TileTensors
    held_out: TileTensors
    spec: InputSpec
    identity: str


@dataclass
class _Sitting:
    """What one sitting of training holds; `progress` and `order` move on, the rest stays."""

    fold: Fold
    recipe: Recipe
    fabric: Fabric
    folder: Path
    net: nn.Module  # as fabric wraps it, for training
    parts: Parts
    progress: Progress
    order: Tensor
    trackers: Sequence[Tracker]
    stop_asked: Callable[[], int | None]
    began_s: float = field(default_factory=time.monotonic)
    saved_s: float = field(default_factory=time.monotonic)

    @property
    def stage(self) -> Stage:
        return self.recipe.stages[self.progress.stage]

    @property
    def predictor(self) -> nn.Module:
        return self.parts.net if self.parts.average is None else self.parts.average


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
) -> None:
    """Train one model and leave `weights-best`, `weights-last` and `log.jsonl` in `folder`.

    Goes on from the folder's checkpoint if it has one; the weights are then the same bytes as those of a run that was
    never interrupted (on a processor).

    Args:
        begin_with: weights of the same net, in place of random ones.
        on_step: called with the number of steps taken; tests interrupt here.

    Raises:
        Stopped: `stop_asked` named a signal; the state was saved.
        TrainingFailed: the run cannot succeed.
        InputError: the folder's checkpoint belongs to something else or cannot be read; or a batch has fewer tiles
            than there are processes.
    """
    smallest = min(_batch(stage, fold) for stage in recipe.stages)
    if smallest < fabric.world_size:
        raise InputError.of(f"--devices {fabric.world_size}", f"a batch of {smallest} cannot be shared by so many")
    folder.mkdir(parents=True, exist_ok=True)
    sitting = _begin(
        recipe, fold, folder=folder, fabric=fabric, begin_with=begin_with, trackers=trackers, stop_asked=stop_asked
    )
    total = sum(stage.epochs * _steps(stage, fold) for stage in recipe.stages)
    _stop_if_hopeless(sitting)
    with TrainingBar(fold.name, total=total, done=sitting.progress.total_steps, shown=fabric.is_global_zero) as bar:
        while sitting.progress.stage < len(recipe.stages):
            _run_epoch(sitting, bar, on_step=on_step)
            _close_epoch(sitting, bar)
            _stop_if_hopeless(sitting)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The epoch records of a fold's folder, oldest first."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def build_frame(section: Framing) -> Frame:
    """Recipe section -> frame."""
    return Frame(section.method, None if section.method == "native" else section.size, section.border)


def stage_frame(recipe: Recipe, stage: Stage) -> Frame:
    """The frame in which a stage sees its tiles; the last stage's is the one to predict in."""
    return build_frame(stage.framing or recipe.framing)


def _begin(
    recipe: Recipe,
    fold: Fold,
    *,
    folder: Path,
    fabric: Fabric,
    begin_with: Path | None,
    trackers: Sequence[Tracker],
    stop_asked: Callable[[], int | None],
) -> _Sitting:
    torch.manual_seed(recipe.seed)
    net = build_net(recipe.net, in_channels=len(fold.spec.channels))
    encoder = recipe.net.encoder
    saved = load_checkpoint(folder, identity=fold.identity, warn=lambda text: _warn(fabric, text))
    if saved is None and isinstance(encoder, recipes.TimmEncoder) and encoder.weights != "none":
        assert isinstance(net.encoder, TimmEncoder)
        load_encoder_weights(net.encoder, encoder.name, encoder.weights)
    if saved is None and begin_with is not None:
        net.load_state_dict(load_tensors(begin_with)[0])
    net = net.to(memory_format=torch.channels_last)
    average = copy.deepcopy(net).requires_grad_(False) if recipe.average.decay else None
    wrapped = fabric.setup_module(net)
    average = None if average is None else average.to(fabric.device)
    stage = recipe.stages[min(saved[0].stage, len(recipe.stages) - 1) if saved else 0]
    rng = torch.Generator().manual_seed(recipe.seed)
    optimiser = build_optimiser(stage.optimiser, net.parameters())
    parts = Parts(net=net, average=average, optimiser=optimiser, rng=rng)
    progress, order = Progress(), torch.empty(0, dtype=torch.int64)
    if saved is not None:
        progress = saved[0]
        order = restore(parts, saved[1])
        if fabric.is_global_zero:
            _write_log(folder, progress)
    sitting = _Sitting(
        fold=fold, recipe=recipe, fabric=fabric, folder=folder, net=wrapped, parts=parts, progress=progress,
        order=order, trackers=trackers, stop_asked=stop_asked,
    )  # fmt: skip
    if saved is None:
        sitting.order = _new_order(sitting)
    return sitting


def _warn(fabric: Fabric, text: str) -> None:
    if fabric.is_global_zero:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def _batch(stage: Stage, fold: Fold) -> int:
    return min(stage.batch, len(fold.train))


def _steps(stage: Stage, fold: Fold) -> int:
    return steps_per_epoch(len(fold.train), _batch(stage, fold))


def _new_order(sitting: _Sitting) -> Tensor:
    return torch.randperm(len(sitting.fold.train), generator=sitting.parts.rng)


def _run_epoch(sitting: _Sitting, bar: TrainingBar, *, on_step: Callable[[int], None]) -> None:
    """The steps that are left of the epoch under way."""
    stage, fold, fabric, start = sitting.stage, sitting.fold, sitting.fabric, time.monotonic()
    pending: list[Tensor] = []
    loss_seen, first_step = float("nan"), sitting.progress.step
    for taken, loss in enumerate(_epoch_steps(sitting), start=1):
        if sitting.parts.average is not None:
            update_average(
                sitting.parts.average,
                sitting.parts.net,
                step=sitting.progress.total_steps,
                decay=sitting.recipe.average.decay,
            )
        pending.append(loss)
        due, asked = _save_due(sitting), sitting.stop_asked()
        look = len(pending) == _LOOK_EVERY_STEPS or first_step + taken == _steps(stage, fold)
        # Processes that train together look, and so save and stop, only at steps that they agree on without a word.
        look = look or (fabric.world_size == 1 and (due or asked is not None))
        if look:
            loss_seen = _look(sitting, pending)
            asked = agreed_stop(fabric, asked)
        sitting.progress = replace(
            sitting.progress, step=first_step + taken, total_steps=sitting.progress.total_steps + 1
        )
        images_per_s = taken * _batch(stage, fold) / (time.monotonic() - start)
        bar.step(stage.name, loss=loss_seen, score=sitting.progress.best_score, images_per_s=images_per_s)
        if look and (due or asked is not None):
            _save(sitting)
        on_step(sitting.progress.total_steps)
        if look and asked is not None:
            raise Stopped(asked)


def _epoch_steps(sitting: _Sitting) -> Iterator[Tensor]:
    stage, fold, fabric = sitting.stage, sitting.fold, sitting.fabric
    plan = Plan(
        spec=fold.spec,
        frame=stage_frame(sitting.recipe, stage),
        augment=stage.augment or sitting.recipe.augment,
        loss=stage.loss,
        batch=_batch(stage, fold),
        clip_norm=stage.optimiser.clip_norm,
        autocast=nullcontext,
        backward=fabric.backward,
        part=(fabric.global_rank, fabric.world_size),
    )
    optimiser: Any = fabric.setup_optimizers(sitting.parts.optimiser)
    return train_epoch(
        sitting.net,
        optimiser,
        fold.train,
        plan=plan,
        order=sitting.order,
        first_step=sitting.progress.step,
        learning_rate=lambda step: _learning_rate(sitting, step),
        rng=sitting.parts.rng,
    )


def _learning_rate(sitting: _Sitting, step: int) -> float:
    stage = sitting.stage
    steps = _steps(stage, sitting.fold)
    return learning_rate(
        stage.schedule,
        sitting.progress.epoch * steps + step,
        peak=stage.optimiser.lr,
        steps=stage.epochs * steps,
    )


def _look(sitting: _Sitting, pending: list[Tensor]) -> float:
    """Add the pending losses to the epoch's, and give the last; stops the run where one is not finite."""
    values = mean_loss(sitting.fabric, torch.stack(pending)).tolist()
    pending.clear()
    for value in values:
        sitting.progress = replace(sitting.progress, loss_sum=sitting.progress.loss_sum + value)
    if not math.isfinite(sum(values)):
        check_loss(
            next(value for value in values if not math.isfinite(value)),
            place=f"{sitting.fold.name}, stage {sitting.stage.name}, epoch {sitting.progress.epoch + 1}",
            learning_rate=_learning_rate(sitting, sitting.progress.step),
            weights_finite=all(bool(torch.isfinite(each).all()) for each in sitting.parts.net.parameters()),
        )
    return float(values[-1])


def _close_epoch(sitting: _Sitting, bar: TrainingBar) -> None:
    """Score, log, move on to the next epoch, and save."""
    stage, progress = sitting.stage, sitting.progress
    last_of_stage = progress.epoch + 1 == stage.epochs
    record: dict[str, Any] = {
        "stage": stage.name,
        "epoch": progress.epoch + 1,
        "total_epochs": len(progress.history) + 1,
        "loss": progress.loss_sum / _steps(stage, sitting.fold),
        "bce_only": set(stage.loss.weights) == {"bce"} and stage.loss.bce == 1 and stage.loss.has_salt == 0,
        "learning_rate": _learning_rate(sitting, progress.step - 1),
        "score": None,
        "predicted_empty": None,
    }
    if last_of_stage or (progress.epoch + 1) % stage.score_every == 0:
        record |= told_by_first(sitting.fabric, lambda: _score(sitting))
    elapsed_s = progress.elapsed_s + time.monotonic() - sitting.began_s
    sitting.began_s = time.monotonic()
    record["elapsed_s"] = round(elapsed_s, 1)
    improved = record["score"] is not None and (progress.best_score is None or record["score"] > progress.best_score)
    best = record["score"] if improved else progress.best_score
    sitting.progress = replace(
        progress,
        stage=progress.stage + last_of_stage,
        epoch=0 if last_of_stage else progress.epoch + 1,
        step=0,
        loss_sum=0.0,
        elapsed_s=elapsed_s,
        best_score=best,
        history=[*progress.history, record],
    )
    if sitting.fabric.is_global_zero:
        _write_epoch(sitting, record, improved=improved)
    bar.epoch(_line(sitting, record))
    _begin_next(sitting, last_of_stage=last_of_stage)


def _stop_if_hopeless(sitting: _Sitting) -> None:
    """Raise TrainingFailed where the epochs so far show that no success will come; also when a failed run goes on."""
    assert sitting.fold.held_out.masks is not None
    history = sitting.progress.history
    trouble = diagnose(history, has_salt=bool(sitting.fold.held_out.masks.any()))
    if trouble:
        raise TrainingFailed(
            f"{sitting.fold.name}, stage {history[-1]['stage']}, epoch {history[-1]['epoch']}: {trouble}"
        )


def _begin_next(sitting: _Sitting, *, last_of_stage: bool) -> None:
    finished = sitting.progress.stage == len(sitting.recipe.stages)
    if last_of_stage and not finished:
        before = sitting.parts.optimiser.state_dict()["state"]
        optimiser = build_optimiser(sitting.stage.optimiser, sitting.parts.net.parameters())
        if sitting.stage.keep_state:
            optimiser.load_state_dict({"state": before, "param_groups": optimiser.state_dict()["param_groups"]})
        sitting.parts = replace(sitting.parts, optimiser=optimiser)
    sitting.order = _new_order(sitting)
    if last_of_stage or time.monotonic() - sitting.saved_s > _SAVE_EVERY_S:
        _save(sitting)


def _save_due(sitting: _Sitting) -> bool:
    return time.monotonic() - sitting.saved_s > _SAVE_EVERY_S


def _save(sitting: _Sitting) -> None:
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


def _write_log(folder: Path, progress: Progress) -> None:
    write_text(folder / LOG, "".join(json.dumps(record) + "\n" for record in progress.history))


def _write_epoch(sitting: _Sitting, record: Mapping[str, Any], *, improved: bool) -> None:
    _write_log(sitting.folder, sitting.progress)
    facts = {"spec": asdict(sitting.fold.spec), "identity": sitting.fold.identity, "score": record["score"]}
    weights = sitting.predictor.state_dict()
    if improved:
        save_tensors(sitting.folder / WEIGHTS_BEST, weights, facts)
    if sitting.progress.stage == len(sitting.recipe.stages):
        save_tensors(sitting.folder / WEIGHTS_LAST, weights, facts)
    for track in sitting.trackers:
        track(record)


def _score(sitting: _Sitting) -> dict[str, float]:
    """Held-out score of the weights that would predict."""
    return score_held_out(
        sitting.predictor,
        sitting.fold.held_out,
        spec=sitting.fold.spec,
        frame=stage_frame(sitting.recipe, sitting.stage),
        batch=sitting.recipe.predict.batch,
        autocast=sitting.fabric.autocast,
    )


def _line(sitting: _Sitting, record: Mapping[str, Any]) -> str:
    score = "" if record["score"] is None else f"  score {record['score']:.4f}"
    return (
        f"{sitting.fold.name}  {record['stage']} {record['epoch']:>3}  loss {record['loss']:.4f}"
        f"{score}  {record['elapsed_s'] / 60:.1f} min"
    )
