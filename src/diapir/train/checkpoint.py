"""The whole state of a fold's training in one file, with the one before kept."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.weights import load_tensors, save_tensors
from diapir.runs import read_json, write_json

NAME, PREVIOUS, FINISHED = "checkpoint.safetensors", "checkpoint-previous.safetensors", "finished.json"
_FOREIGN = "it belongs to another recipe, data set or fold; name another folder"


@dataclass(frozen=True)
class Progress:
    """Where training stands; plain values.

    Args:
        cycle, epoch, step: the next step to take: cycle of all the stages' cycles, epoch within its cycle and step
            within its epoch.
        total_steps: optimiser steps taken in all.
        loss_sum: of this epoch's steps so far.
        elapsed_s: seconds of training, over all the sittings.
        best_score: highest held-out score so far, None before the first.
        history: one record for each finished epoch.
    """

    cycle: int = 0
    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    loss_sum: float = 0.0
    elapsed_s: float = 0.0
    best_score: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """What a checkpoint fills and is filled from: net, its average or None, optimiser, and the generator."""

    net: nn.Module
    average: nn.Module | None
    optimiser: torch.optim.Optimizer
    rng: torch.Generator


def save_checkpoint(folder: Path, parts: Parts, *, progress: Progress, order: Tensor, identity: str) -> None:
    """Write the state; the last good file is kept as the previous one.

    Args:
        order: the tiles' order in the epoch under way, int64 (n,).
        identity: digest of recipe, data and fold, checked when training goes on.
    """
    tensors = {f"net.{name}": tensor for name, tensor in parts.net.state_dict().items()}
    if parts.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in parts.average.state_dict().items()}
    for index, state in parts.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["order"] = order
    tensors["rng"] = parts.rng.get_state()
    tensors["global_rng"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["cuda_rng"] = torch.cuda.get_rng_state()
    newest = folder / NAME
    fresh = folder / f"{NAME}.new"
    save_tensors(fresh, tensors, {"progress": asdict(progress), "identity": identity})
    if newest.exists():
        newest.replace(folder / PREVIOUS)
    fresh.replace(newest)


def load_checkpoint(
    folder: Path, *, identity: str, warn: Callable[[str], None]
) -> tuple[Progress, dict[str, Tensor]] | None:
    """The newest whole state in a folder, or None where there is none.

    A damaged file is passed over, with a word through `warn`, for the one before it, and put aside: the next save
    would else keep it as the previous good one.

    Raises:
        InputError: the state belongs to another recipe, data set or fold, or no file that is there can be read.
    """
    paths = [path for path in (folder / f"{NAME}.new", folder / NAME, folder / PREVIOUS) if path.exists()]
    damaged: dict[Path, str] = {}
    for path in paths:
        try:
            tensors, facts = load_tensors(path)
        except InputError as error:
            damaged[path] = str(error)
            continue
        if facts.get("identity") != identity:
            raise InputError.of(path, _FOREIGN)
        for other, fault in damaged.items():
            warn(f"{fault}; going on from {path.name}")
            if other.exists():
                other.replace(folder / f"damaged-{other.name}")
        return Progress(**facts["progress"]), tensors
    if damaged:
        faults = "; ".join(damaged.values())
        raise InputError.of(folder, f"no checkpoint can be read ({faults}); train anew in another folder")
    return None


def mark_finished(folder: Path, *, identity: str) -> None:
    """Note that training came to its end, and let go of the state: several times the size of the weights."""
    write_json(folder / FINISHED, {"identity": identity})
    for name in (f"{NAME}.new", NAME, PREVIOUS):
        (folder / name).unlink(missing_ok=True)


def is_finished(folder: Path, *, identity: str) -> bool:
    """Whether training came to its end in a folder.

    Raises:
        InputError: it was that of another recipe, data set or fold.
    """
    mark = folder / FINISHED
    if not mark.exists():
        return False
    told = read_json(mark)
    if not isinstance(told, dict) or told.get("identity") != identity:
        raise InputError.of(mark, _FOREIGN)
    return True


def restore(parts: Parts, tensors: Mapping[str, Tensor]) -> Tensor:
    """Fill net, average, optimiser and generators; gives the order of the epoch under way."""
    parts.net.load_state_dict(_part(tensors, "net"))
    if parts.average is not None:
        parts.average.load_state_dict(_part(tensors, "average"))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimiser").items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor
    whole = parts.optimiser.state_dict()
    parts.optimiser.load_state_dict({"state": states, "param_groups": whole["param_groups"]})
    # Fused optimisers walk a weight and its state side by side in memory: both must be laid out alike, as no file is.
    for weight, state in parts.optimiser.state.items():
        for name, value in state.items():
            if value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
    parts.rng.set_state(tensors["rng"])
    torch.set_rng_state(tensors["global_rng"])
    if "cuda_rng" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda_rng"])
    return tensors["order"]


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")
    }
