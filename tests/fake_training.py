"""Tiles, recipes and folds so small that a net trains on them in a second."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from diapir.nets.framing import InputSpec
from diapir.nets.infer import TileTensors
from diapir.recipe.files import check_recipe
from diapir.recipe.whole import Recipe
from diapir.train.fit import fit_fold
from diapir.train.sitting import Fold

SIDE, TRAIN_TILES = 24, 12
STEPS_PER_EPOCH, EPOCHS = 3, 4
STEPS = STEPS_PER_EPOCH * EPOCHS

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "precision": "float32",
    "framing": {"method": "native", "size": None},
    "input": {"channels": ["image", "row_ramp"]},
    "net": {
        "encoder": {"kind": "residual", "widths": [4, 8], "blocks": [1, 1], "squeeze": 2},
        "decoder": {"widths": [4], "subpixel": True, "dropout": 0.3, "gate_reduction": 2},
        "has_salt_head": True,
    },
    "augment": {"flip": 0.5, "geometry": 0.5, "shift": 0.1, "elastic": 0.3, "tone": 0.5, "noise": 0.05, "cutout": 0.2},
    "stages": [
        {
            "name": "small",
            "epochs": 2,
            "batch": 4,
            "framing": {"method": "resize", "size": 16},
            "loss": {"bce": 1.0, "has_salt": 0.1},
            "optimiser": {"lr": 0.01},
        },
        {
            "name": "native",
            "epochs": 2,
            "batch": 4,
            "loss": {"bce": 0.1, "lovasz": 0.9},
            "optimiser": {"lr": 0.003, "weight_decay": 0.1},
            "schedule": {"name": "one_cycle", "warmup": 0.4},
        },
    ],
    "average": {"decay": 0.9},
    "predict": {"batch": 8},
}


RESTLESS: dict[str, Any] = {
    "stages.0.cycles": 2,
    "stages.0.epochs": 4,
    "stages.0.replacement": True,
    "stages.0.schedule": {"name": "plateau", "patience": 1, "factor": 0.7},
    "stages.0.stop_patience": 2,
    "stages.0.snapshot": {"epoch": "last"},
    "stages.0.start_from": "best",
    "stages.0.keep_state": True,
    "stages.1.cycles": 2,
    "stages.1.epochs": 3,
    "stages.1.passes": 2,
    "stages.1.keep_state": False,
    "stages.1.schedule": {"name": "triangular2", "half_cycle": 2},
    "stages.1.optimiser": {"name": "sgd", "lr": 0.01, "decay_on": "convolutions"},
    "stages.1.stop_patience": 1,
    "stages.1.start_from": "best",
    "stages.1.snapshot": {"cycles": 1},
    "average.method": "three_bests",
    "predict.weights": "snapshots",
}
"""Everything that looks back on scores: early ends, falling rates, cycles from the best weights, snapshots."""


def restless_scores(net: nn.Module, tiles: TileTensors, **_: object) -> dict[str, float]:
    """Held-out figures that jump about with every bit of the weights, as those of real nets do after many epochs."""
    total = float(sum(tensor.double().abs().sum() for tensor in net.state_dict().values()))
    figures = {"score": total * 1e3, "held_out_loss": total * 1.7e3, "accuracy": total * 2.3e3}
    return {name: value % 1 for name, value in figures.items()} | {"predicted_empty": 0.0}


def tiny_recipe(changes: Mapping[str, Any] | None = None) -> Recipe:
    """The tiny recipe, with changes such as {"stages.0.optimiser.lr": 1.0}."""
    raw = copy.deepcopy(TINY)
    for place, value in (changes or {}).items():
        parts: list[Any] = [int(part) if part.isdecimal() else part for part in place.split(".")]
        node: Any = raw
        for part in parts[:-1]:
            node = node[part] if isinstance(node, list) else node.setdefault(part, {})
        node[parts[-1]] = copy.deepcopy(value)
    return check_recipe(raw, source="tiny")


def tiny_tiles(count: int, *, seed: int, salt: bool = True) -> TileTensors:
    """Noise with a bright block of salt in two tiles of three."""
    rng = np.random.default_rng(seed)
    images = rng.integers(40, 120, (count, SIDE, SIDE), dtype=np.uint8)
    masks = np.zeros_like(images)
    for tile in range(count):
        if salt and tile % 3:
            row, column = rng.integers(2, SIDE // 2, 2)
            masks[tile, row : row + SIDE // 2, column : column + SIDE // 2] = 1
    images[masks == 1] += 100
    depths_m = rng.uniform(50, 900, count).astype(np.float32)
    return TileTensors(torch.from_numpy(images), torch.from_numpy(masks), torch.from_numpy(depths_m))


def tiny_fold(recipe: Recipe, *, train: TileTensors | None = None, held_out: TileTensors | None = None) -> Fold:
    """A fold whose identity is the recipe's."""
    return Fold(
        name="fold 0",
        train=train or tiny_tiles(TRAIN_TILES, seed=1),
        held_out=held_out or tiny_tiles(6, seed=2),
        spec=InputSpec(recipe.input.channels, levels=((0.4, 0.2),), depth_low_m=0.0, depth_high_m=1000.0),
        identity=recipe.digest,
    )


def one_device(precision: Literal["32-true", "bf16-mixed"] = "32-true") -> Fabric:
    """One processor."""
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def fit_tiny(
    recipe: Recipe,
    folder: Path,
    *,
    fold: Fold | None = None,
    fabric: Fabric | None = None,
    stop_asked: Callable[[], int | None] = lambda: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> None:
    """Train the tiny fold in `folder`, or go on with it."""
    fit_fold(
        recipe,
        fold or tiny_fold(recipe),
        folder=folder,
        fabric=fabric or one_device(),
        stop_asked=stop_asked,
        on_step=on_step,
    )


VARYING = {"elapsed_s", "peak_memory_mb"}
"""Keys of an epoch that say how it was to train, and nothing of what came of it."""

RUN: dict[str, Any] = {
    "data": {"synthetic": {"labelled": 20, "unlabelled": 5, "seed": 1}},
    "folds": {"count": 2, "held_out": [0]},
    "stages.0.framing.size": 32,
}
"""What the tiny recipe needs to be run from data to submission."""


def tiny_run_recipe(changes: Mapping[str, Any] | None = None) -> Recipe:
    """The tiny recipe on 20 synthetic tiles of 101 x 101 pixels in two folds, of which one is held out."""
    return tiny_recipe(RUN | dict(changes or {}))
