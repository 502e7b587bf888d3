"""A recipe's run, from tiles to submission: each step done once, kept, and gone on with where it was stopped."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from diapir.data.folds import make_folds, write_folds
from diapir.data.synthetic import make_synthetic
from diapir.data.tgs import open_data
from diapir.data.tiles import DataSet, TileSet
from diapir.faults import InputError
from diapir.metrics import bootstrap_interval, tile_scores
from diapir.nets.build import build_net
from diapir.nets.framing import InputSpec
from diapir.nets.infer import predict_probabilities
from diapir.nets.weights import fetch_pretrained, load_tensors
from diapir.predict.pictures import draw_predictions
from diapir.predict.submission import write_submission
from diapir.predict.threshold import CANDIDATES, best_threshold, candidate_scores, crossed_scores
from diapir.processor import is_first_process
from diapir.recipe.files import read_recipe, write_recipe
from diapir.recipe.nets import TimmEncoder
from diapir.recipe.whole import Recipe
from diapir.runs import locked_folder, provenance, read_json, write_json, write_text
from diapir.train.epoch_log import read_log
from diapir.train.fit import fit_fold
from diapir.train.sitting import Fold, stage_frame
from diapir.train.snapshots import predicting_weights
from diapir.train.stop import Stopped, stop_requests
from diapir.train.tile_tensors import input_spec, tile_tensors
from diapir.train.together import end_helpers, make_fabric
from diapir.train.tracking import TrackerName, open_trackers, require_trackers

RECIPE, RECORD, FOLDS, SUBMISSION, TRUTH, PICTURE = (
    "recipe.yaml",
    "record.json",
    "folds.csv",
    "submission.csv",
    "truth.csv",
    "tiles.png",
)
_Number = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Predictions of tiles by the models that never saw them.

    Args:
        tiles: with masks, in the order of the probabilities.
        probability: float16 (n, h, w).
    """

    tiles: TileSet
    probability: NDArray[np.float16]


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    data_path: Path | None,
    resume: bool = False,
    skip_bad: bool = False,
    devices: int = 1,
    tracker_names: Sequence[TrackerName] = (),
) -> dict[str, Any]:
    """Do everything that a recipe says, in `out`; gives the record, which is also written there.

    A finished run is not done again. An unfinished one goes on with `resume`. With several devices, this process starts
    the command that it is once more for each of them; those helpers give an empty record.

    Raises:
        InputError: the folder holds another run, or an unfinished one and `resume` is not set; the data are faulty; or
            the recipe, the devices or the trackers cannot be had.
        Stopped: on SIGTERM or Ctrl-C in training, after the state was saved.
        TrainingFailed: as `fit_fold`.
    """
    first = is_first_process()
    with locked_folder(out) if first else nullcontext():
        if first:
            _require_same_run(recipe, out, resume=resume)
            _require_net(recipe)
            require_trackers(tracker_names)
        data, truth = _open_data(recipe, data_path, skip_bad=skip_bad)
        identity = hashlib.sha256(f"{recipe.digest} {data.digest}".encode()).hexdigest()
        if first and (out / RECORD).exists():
            return _finished_record(out, identity)
        numbers = make_folds(data.labelled, recipe.folds)
        fabric = make_fabric(recipe.precision, devices=devices, may_leave_weights_unused=_may_leave_unused(recipe))
        if first:
            # All that can be refused was, so the folder becomes this run's.
            write_text(out / RECIPE, write_recipe(recipe))
            write_folds(out / FOLDS, data.labelled.ids, numbers, recipe.folds)
            if truth is not None:
                write_submission(out / TRUTH, data.unlabelled.ids, truth)
        try:
            fabric.launch()
            names = tracker_names if fabric.is_global_zero else ()
            with stop_requests() as stop_asked:
                _fit_folds(
                    recipe, data, numbers, out=out, fabric=fabric, identity=identity, names=names, stop_asked=stop_asked
                )
        except BaseException:
            end_helpers(fabric)
            raise
        if not fabric.is_global_zero:
            return {}
        return _finish(recipe, data, numbers, out=out, fabric=fabric, identity=identity)


def predict_with_run(run: Path, data_path: Path, *, skip_bad: bool = False) -> tuple[TileSet, NDArray[np.uint8]]:
    """Masks of a data set's unlabelled tiles by the models of a finished run, at its threshold.

    Raises:
        InputError: the run is not finished, its files are damaged, or the data are faulty or have no unlabelled tiles.
    """
    if not (run / RECORD).exists():
        raise InputError.of(run, f"expected the folder of a finished run, found no {RECORD} in it")
    record = read_json(run / RECORD)
    recipe = read_recipe(run / RECIPE)
    if not isinstance(record, dict) or record.get("recipe_digest") != recipe.digest or "threshold" not in record:
        raise InputError.of(run, f"its {RECORD} and {RECIPE} do not belong together; use another copy of the run")
    tiles = open_data(data_path, skip_bad=skip_bad).unlabelled
    if not len(tiles):
        raise InputError.of(data_path, "expected unlabelled tiles to find salt in, found none")
    fabric = make_fabric(recipe.precision, devices=1)
    return tiles, _predict_masks(recipe, tiles, out=run, fabric=fabric, threshold=record["threshold"])


def held_out_folds(recipe: Recipe) -> tuple[int, ...]:
    """The folds that a recipe trains a model for."""
    return recipe.folds.held_out or tuple(range(recipe.folds.count))


def _require_same_run(recipe: Recipe, out: Path, *, resume: bool) -> None:
    if not (out / RECIPE).exists():
        strangers = [path.name for path in out.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise InputError.of(out, f"expected a new or empty folder, found {strangers[0]} there; name another")
        return
    if read_recipe(out / RECIPE).digest != recipe.digest:
        raise InputError.of(out, "it holds a run of another recipe; name another folder")
    if not resume and not (out / RECORD).exists():
        raise InputError.of(out, "it holds an unfinished run of this recipe; add --resume to go on with it")


def _require_net(recipe: Recipe) -> None:
    """Refuse a net that cannot be had before any data are read: that takes seconds, and the answer should not."""
    build_net(recipe.net, in_channels=len(recipe.input.channels))
    encoder = recipe.net.encoder
    if isinstance(encoder, TimmEncoder) and encoder.weights == "pretrained":
        fetch_pretrained(encoder.name)


def _finished_record(out: Path, identity: str) -> dict[str, Any]:
    record: Any = read_json(out / RECORD)
    if not isinstance(record, dict) or record.get("identity") != identity:
        raise InputError.of(out, "it holds a finished run of other data; name another folder")
    return record


def _may_leave_unused(recipe: Recipe) -> bool:
    """Whether the has-salt head takes no part in some stage's loss."""
    return recipe.net.has_salt_head and any(stage.loss.has_salt == 0 for stage in recipe.stages)


def _open_data(recipe: Recipe, data_path: Path | None, *, skip_bad: bool) -> tuple[DataSet, NDArray[np.uint8] | None]:
    """The data set, and the true masks of its unlabelled tiles where it is synthetic."""
    truth = None
    if data_path is not None:
        data = open_data(data_path, skip_bad=skip_bad)
    elif recipe.data.synthetic is not None:
        section = recipe.data.synthetic
        data, truth = make_synthetic(labelled=section.labelled, unlabelled=section.unlabelled, seed=section.seed)
    else:
        raise InputError.of("--data", f"the recipe {recipe.name} makes no data of its own: name a data set")
    if not len(data.labelled):
        raise InputError.of(str(data_path), "it has no labelled tiles to train on")
    return data, truth


def _fit_folds(
    recipe: Recipe,
    data: DataSet,
    numbers: NDArray[np.int64],
    *,
    out: Path,
    fabric: Fabric,
    identity: str,
    names: Sequence[TrackerName],
    stop_asked: Callable[[], int | None],
) -> None:
    for fold in held_out_folds(recipe):
        train, held_out = data.labelled.take(np.flatnonzero(numbers != fold)), _held_out(data, numbers, fold)
        if recipe.data.drop_constant:
            train = train.take(np.flatnonzero(np.ptp(train.images.reshape(len(train), -1), axis=1) > 0))
        if len(train) < 2:
            raise InputError.of(f"fold {fold}", f"expected at least 2 tiles to train on, found {len(train)}")
        fit_fold(
            recipe,
            Fold(
                name=f"fold {fold}",
                train=tile_tensors(train, fabric.device),
                held_out=tile_tensors(held_out, fabric.device),
                spec=input_spec(recipe.input, train, data),
                identity=f"{identity} fold {fold}",
            ),
            folder=_fold_folder(out, fold),
            fabric=fabric,
            trackers=open_trackers(names, out, run_name=f"{recipe.name}-fold-{fold}"),
            stop_asked=stop_asked,
        )
        # Asked while the last epoch was scored, when no step was left to stop at.
        if (number := stop_asked()) is not None:
            raise Stopped(number)


def _finish(
    recipe: Recipe, data: DataSet, numbers: NDArray[np.int64], *, out: Path, fabric: Fabric, identity: str
) -> dict[str, Any]:
    """Held-out predictions, threshold, score, submission, picture, and last of all the record."""
    held_out = _predict_held_out(recipe, data, numbers, out=out, fabric=fabric)
    threshold, scores, figures = _choose_threshold(recipe, held_out)
    masks = held_out.tiles.masks
    assert masks is not None
    title = f"{recipe.name}: score {figures['score']:.4f} {_interval_text(figures['interval_95'])} on held-out tiles"
    draw_predictions(
        out / PICTURE,
        ids=held_out.tiles.ids,
        images=held_out.tiles.images,
        truth=masks,
        probability=held_out.probability.astype(np.float32),
        threshold=threshold,
        scores=scores,
        title=title,
    )
    if len(data.unlabelled):
        predicted = _predict_masks(recipe, data.unlabelled, out=out, fabric=fabric, threshold=threshold)
        write_submission(out / SUBMISSION, data.unlabelled.ids, predicted)
    logs = [read_log(_fold_folder(out, fold)) for fold in held_out_folds(recipe)]
    record = {
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "identity": identity,
        **figures,
        "threshold": threshold,
        "folds_held_out": list(held_out_folds(recipe)),
        "train_minutes": round(sum(log[-1]["elapsed_s"] for log in logs) / 60, 2),
        "epochs": max(len(log) for log in logs),
        "precision": fabric._precision.precision,
        "device": str(fabric.device),
        # What the source counted before skipping and choosing gives way to what was used.
        "data": data.record
        | {"digest": data.digest, "labelled": len(data.labelled), "unlabelled": len(data.unlabelled)},
        "provenance": provenance(),
    }
    write_json(out / RECORD, record)
    return record


def _choose_threshold(recipe: Recipe, held_out: HeldOut) -> tuple[float, _Number, dict[str, Any]]:
    """Threshold, score of each tile, and the figures of the record."""
    assert held_out.tiles.masks is not None
    scores = candidate_scores(held_out.probability, held_out.tiles.masks)
    at_half = scores[CANDIDATES.index(0.5)]
    if recipe.predict.threshold == "tuned":
        threshold, honest = best_threshold(scores), crossed_scores(scores)
        kind = "each tile at a threshold chosen on other tiles"
    else:
        threshold, kind = recipe.predict.threshold, "at the recipe's threshold"
        honest = _scores_at(held_out, threshold)
    interval = bootstrap_interval(honest, rng=np.random.default_rng(0))
    figures = {
        "score": round(float(honest.mean()), 5),
        "interval_95": [round(bound, 5) for bound in interval],
        "score_kind": f"mean over {len(honest)} held-out tiles, {kind}",
        "score_at_half": round(float(at_half.mean()), 5),
    }
    return threshold, honest, figures


def _scores_at(held_out: HeldOut, threshold: float) -> _Number:
    assert held_out.tiles.masks is not None
    predicted = torch.from_numpy(held_out.probability > threshold)
    return tile_scores(predicted, torch.from_numpy(held_out.tiles.masks)).double().numpy()


def _predict_held_out(
    recipe: Recipe, data: DataSet, numbers: NDArray[np.int64], *, out: Path, fabric: Fabric
) -> HeldOut:
    tiles, probabilities = [], []
    for fold in held_out_folds(recipe):
        rows = np.flatnonzero(numbers == fold)
        batches = _fold_batches(recipe, data.labelled.take(rows), fold=fold, out=out, fabric=fabric)
        probabilities += [batch.astype(np.float16) for batch in batches]
        tiles.append(rows)
    return HeldOut(tiles=data.labelled.take(np.concatenate(tiles)), probability=np.concatenate(probabilities))


def _predict_masks(recipe: Recipe, tiles: TileSet, *, out: Path, fabric: Fabric, threshold: float) -> NDArray[np.uint8]:
    """Masks of tiles by the mean of all the folds' models: uint8 (n, h, w)."""
    folds = held_out_folds(recipe)
    streams = [_fold_batches(recipe, tiles, fold=fold, out=out, fabric=fabric) for fold in folds]
    masks = np.empty(tiles.images.shape, np.uint8)
    start = 0
    total = -(-len(tiles) // recipe.predict.batch)
    console = Console(stderr=True)
    for parts in track(
        zip(*streams, strict=True), "predicting", total=total, console=console, disable=not console.is_terminal
    ):
        mean = sum(parts) / len(parts)
        masks[start : start + len(mean)] = mean > threshold
        start += len(mean)
    return masks


def _fold_batches(
    recipe: Recipe, tiles: TileSet, *, fold: int, out: Path, fabric: Fabric
) -> Iterator[NDArray[np.float32]]:
    """Probabilities of tiles by the weights of one fold that predict, batch after batch."""
    chosen = predicting_weights(_fold_folder(out, fold), recipe.predict.weights)
    streams = [_net_batches(recipe, tiles, weights=path, fabric=fabric) for path, _ in chosen]
    for parts in zip(*streams, strict=True):
        yield sum(share * part for (_, share), part in zip(chosen, parts, strict=True))


def _net_batches(recipe: Recipe, tiles: TileSet, *, weights: Path, fabric: Fabric) -> Iterator[NDArray[np.float32]]:
    tensors, facts = load_tensors(weights)
    spec = InputSpec(**facts["spec"] | {"channels": tuple(facts["spec"]["channels"])})
    net = build_net(recipe.net, in_channels=len(spec.channels)).to(memory_format=torch.channels_last)
    net.load_state_dict(tensors)
    net = net.to(fabric.device)
    for batch in predict_probabilities(
        net,
        tile_tensors(tiles, fabric.device),
        spec=spec,
        frame=stage_frame(recipe, recipe.stages[-1]),
        views=recipe.predict.views,
        batch=recipe.predict.batch,
        autocast=fabric.autocast,
    ):
        yield batch.cpu().numpy()


def _held_out(data: DataSet, numbers: NDArray[np.int64], fold: int) -> TileSet:
    return data.labelled.take(np.flatnonzero(numbers == fold))


def _fold_folder(out: Path, fold: int) -> Path:
    return out / f"fold-{fold}"


def _interval_text(interval: Sequence[float]) -> str:
    return f"({interval[0]:.4f} to {interval[1]:.4f})"


def summary(record: dict[str, Any], out: Path) -> str:
    """What a person wants to know at the end of a run."""
    lines = [
        f"score       {record['score']:.4f}  95 % interval {_interval_text(record['interval_95'])}",
        f"            {record['score_kind']}",
        f"threshold   {record['threshold']:.2f}",
        f"training    {record['train_minutes']:.1f} min, {record['epochs']} epochs, {record['precision']}",
        f"picture     {out / PICTURE}",
    ]
    if (out / SUBMISSION).exists():
        lines.append(f"submission  {out / SUBMISSION}")
    if (out / TRUTH).exists():
        lines.append(f"            to score it: diapir score {out / SUBMISSION} {out / TRUTH}")
    lines.append(f"record      {out / RECORD}")
    return "\n".join(lines)
