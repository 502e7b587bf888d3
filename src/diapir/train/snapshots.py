"""Snapshots: the sets of weights that a fold leaves to predict with, and the epochs that must be kept for them.

Which epochs those are follows from the recipe and the records of the epochs so far, so nothing else need be remembered
when training goes on after a stop.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from torch import Tensor

from diapir.faults import InputError
from diapir.nets.weights import load_tensors, save_tensors
from diapir.recipe.training import Stage
from diapir.recipe.whole import PredictWeights, Recipe
from diapir.runs import read_json, write_json
from diapir.train.averaging import halving_shares, mean_weights
from diapir.train.checkpoint import Progress
from diapir.train.cycles import cycles_of
from diapir.train.epoch_log import Record, best_of, of_cycle, scores_of

WEIGHTS_BEST, WEIGHTS_LAST, SNAPSHOTS = "weights-best.safetensors", "weights-last.safetensors", "snapshots.json"


@dataclass(frozen=True)
class Snapshot:
    """One set of weights.

    Args:
        name: `<cycle>-best`, `<cycle>-last` or `average`.
        shares: the epochs, counted over the whole fold, whose weights it is the mean of, and their shares.
        weight: in the mean of the fold's probabilities; 0 for one that is stored and does not predict.
    """

    name: str
    shares: Mapping[int, float]
    weight: float

    @property
    def file(self) -> str:
        """Its file in the fold's folder."""
        return f"snapshot-{self.name}.safetensors"


def planned_snapshots(recipe: Recipe, progress: Progress) -> list[Snapshot]:
    """The snapshots that a fold would leave if it ended with the epochs that it has."""
    cycles = cycles_of(recipe)
    under_way = cycles[progress.cycle].name if progress.cycle < len(cycles) else None
    planned = []
    for stage in recipe.stages:
        planned += _of_stage(stage, progress.history, under_way=under_way)
    return planned + _average(recipe, progress.history)


def epochs_to_keep(recipe: Recipe, progress: Progress) -> set[int]:
    """The epochs, counted over the whole fold, whose weights may still be asked for."""
    kept = {epoch for snapshot in planned_snapshots(recipe, progress) for epoch in snapshot.shares}
    cycles = cycles_of(recipe)
    # At the start of a cycle, what it starts from; else what the next one will.
    following = progress.cycle + (progress.epoch > 0)
    if 0 < following < len(cycles) and cycles[following].stage.start_from == "best":
        kept |= {best["total_epochs"] for best in _best(of_cycle(progress.history, cycles[following - 1].name))}
    return kept


def keep_epoch(folder: Path, epoch: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the weights after one epoch until no snapshot can need them."""
    save_tensors(_kept(folder, epoch), tensors, facts)


def kept_weights(folder: Path, epoch: int) -> dict[str, Tensor]:
    """The weights that `keep_epoch` wrote."""
    return load_tensors(_kept(folder, epoch))[0]


def drop_epochs(folder: Path, *, but: Collection[int]) -> None:
    """Remove the weights of all epochs but these."""
    wanted = {_kept(folder, epoch) for epoch in but}
    for path in folder.glob("kept-*.safetensors"):
        if path not in wanted:
            path.unlink()


def write_snapshots(
    folder: Path,
    snapshots: Sequence[Snapshot],
    *,
    facts: Mapping[str, Any],
    finish: Callable[[dict[str, Tensor]], tuple[dict[str, Tensor], float]],
) -> None:
    """Write each snapshot and, last of all, the list of them; then the epochs that they were made of may go.

    Args:
        facts: for every file, beside its score.
        finish: from a mean of weights to those that predict, and their held-out score.
    """
    listed = []
    for snapshot in snapshots:
        if len(snapshot.shares) == 1:
            tensors, own = load_tensors(_kept(folder, *snapshot.shares))
            score = own["score"]
        else:
            parts = ((share, kept_weights(folder, epoch)) for epoch, share in snapshot.shares.items())
            tensors, score = finish(mean_weights(parts))
        save_tensors(folder / snapshot.file, tensors, {**facts, "score": score})
        listed.append(
            {"name": snapshot.name, "file": snapshot.file, "score": score, "weight": snapshot.weight,
             "epochs": sorted(snapshot.shares)}
        )  # fmt: skip
    write_json(folder / SNAPSHOTS, listed)


def predicting_weights(folder: Path, weights: PredictWeights) -> list[tuple[Path, float]]:
    """The files of a fold that predict, each with its share of the mean probability; the shares sum to one.

    Raises:
        InputError: the list of snapshots is absent or damaged.
    """
    match weights:
        case "best":
            return [(folder / WEIGHTS_BEST, 1.0)]
        case "last":
            return [(folder / WEIGHTS_LAST, 1.0)]
        case "snapshots":
            listed = _read_list(folder / SNAPSHOTS)
            total = sum(listed.values())
            return [(folder / file, weight / total) for file, weight in listed.items()]
        case _:
            assert_never(weights)


def _read_list(path: Path) -> dict[str, float]:
    """Weight of each file that has one."""
    listed = read_json(path)
    try:
        weights = {str(entry["file"]): float(entry["weight"]) for entry in listed}
    except (TypeError, KeyError, ValueError):
        weights = {}
    is_sound = all(Path(file).name == file and math.isfinite(weight) for file, weight in weights.items())
    if not is_sound or not any(weight > 0 for weight in weights.values()):
        raise InputError.of(path, "expected a list of snapshots with file and weight; use another copy of the run")
    return {file: weight for file, weight in weights.items() if weight > 0}


def _of_stage(stage: Stage, history: Sequence[Record], *, under_way: str | None) -> list[Snapshot]:
    """Best and last epoch of the stage's cycles, or of the best of these."""
    section = stage.snapshot
    if section is None:
        return []
    ends: dict[str, dict[str, Record]] = {}
    for name in stage.cycle_names:
        records = of_cycle(history, name)
        for best in _best(records):
            # Which epoch of a cycle is its last is known when it is over.
            ends[name] = {"best": best} if name == under_way else {"best": best, "last": records[-1]}
    finished = [name for name in ends if name != under_way]
    finished.sort(key=lambda name: -ends[name][section.epoch]["score"])
    # The cycle under way has not had its last word: the others keep their places until then.
    chosen = {*finished[: section.cycles], under_way}
    return [
        Snapshot(f"{name}-{kind}", {record["total_epochs"]: 1.0}, section.weight if kind == section.epoch else 0.0)
        for name, found in ends.items()
        if name in chosen
        for kind, record in found.items()
    ]


def _average(recipe: Recipe, history: Sequence[Record]) -> list[Snapshot]:
    """The mean of weights after epochs of the last stage, whose losses compare and whose framing is the final one."""
    section = recipe.average
    records = [record for name in recipe.stages[-1].cycle_names for record in of_cycle(history, name)]
    scored = [record for record in records if record["score"] is not None]
    if section.method == "none" or not scored:
        return []
    shares: dict[int, float] = {}
    match section.method:
        case "three_bests":
            lowest_loss = min(scored, key=lambda record: record["held_out_loss"])
            highest_accuracy = max(scored, key=lambda record: record["accuracy"])
            for record in (best_of(scored), lowest_loss, highest_accuracy):
                shares[record["total_epochs"]] = shares.get(record["total_epochs"], 0) + 1 / 3
        case "halving":
            ranked = sorted(scored, key=lambda record: -record["score"])[: section.count]
            halved = halving_shares(len(ranked))
            shares = {record["total_epochs"]: share for record, share in zip(ranked, halved, strict=True)}
        case _:
            assert_never(section.method)
    return [Snapshot("average", shares, 1.0)]


def _best(records: Sequence[Record]) -> list[Record]:
    """The record with the best score, if any has one."""
    return [best_of(records)] if scores_of(records) else []


def _kept(folder: Path, epoch: int) -> Path:
    return folder / f"kept-{epoch}.safetensors"
