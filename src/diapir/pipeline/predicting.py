"""The predict step: probabilities of a train step's models."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn

from diapir.data.tiles import TileSet, known_alone
from diapir.faults import InputError
from diapir.nets.build import build_model
from diapir.nets.framing import InputSpec
from diapir.nets.infer import predict_heads
from diapir.nets.weights import load_tensors, require_fit
from diapir.pipeline.predictions import HELD_OUT, ROWS, HasSalt, unlabelled_name, write_array, write_has_salt
from diapir.pipeline.workplace import (
    Fold,
    Workplace,
    fold_folder,
    folds_of,
    folds_to_keep,
    held_out_rows,
    trained_step,
)
from diapir.recipe.steps import PredictStep, Train
from diapir.recipe.whole import Recipe
from diapir.runs import atomic_path
from diapir.train.peak_memory import peak_memory_mb
from diapir.train.sitting import stage_frame
from diapir.train.snapshots import predicting_weights
from diapir.train.stop import Stopped
from diapir.train.tile_tensors import tile_tensors

Floats = NDArray[np.float32]
_Item = TypeVar("_Item")


class Batch(NamedTuple):
    """Probabilities of a few tiles.

    Args:
        mask: (b, h, w).
        has_salt: that a tile holds any salt, (b,); None where the net has no head that says so.
    """

    mask: Floats
    has_salt: Floats | None


def predict(
    place: Workplace,
    step: PredictStep,
    *,
    stop_asked: Callable[[], int | None] = lambda: None,
    shown: bool = True,
) -> dict[str, Any]:
    """Write the probabilities of a train step's models; gives how many, and how long it took.

    Of held-out tiles they are 0 where the masks do not know, so that no later step asks there.

    The folds' own of the unlabelled tiles are kept too where leak-free pseudo-labels will ask for them.

    Args:
        shown: whether a person is shown a bar.

    Raises:
        Stopped: `stop_asked` named a signal.
    """
    trained, folder = trained_step(place.recipe, step), place.out / step.name
    rows, held_out, has_salt, start = [], list[NDArray[np.float16]](), list[Floats](), time.monotonic()
    for fold in folds_of(place.recipe, trained):
        own = held_out_rows(place, fold)
        tiles, masks = place.data.labelled.take(own), list[NDArray[np.float16]]()
        assert tiles.masks is not None
        batches = fold_batches(place.recipe, trained, tiles, fold=fold, out=place.out, fabric=place.fabric)
        for batch in _until_asked(batches, stop_asked):
            masks.append(batch.mask.astype(np.float16))
            has_salt += [] if batch.has_salt is None else [batch.has_salt]
        held_out.append(known_alone(np.concatenate(masks), tiles.masks))
        rows.append(own)
    write_array(folder / ROWS, np.concatenate(rows))
    write_array(folder / HELD_OUT, np.concatenate(held_out))
    means = mean_batches(place.recipe, trained, place.data.unlabelled, out=place.out, fabric=place.fabric, shown=shown)
    folds = folds_to_keep(place.recipe, step.name)
    of_unlabelled = _write_unlabelled(place, trained, _until_asked(means, stop_asked), folder=folder, folds=folds)
    if has_salt:
        write_has_salt(folder, HasSalt(np.concatenate(has_salt), of_unlabelled))
    seconds = round(time.monotonic() - start, 2)
    return {
        "held_out": sum(map(len, rows)),
        "unlabelled": len(place.data.unlabelled),
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(place.fabric.device),
    }


def mean_batches(
    recipe: Recipe, step: Train, tiles: TileSet, *, out: Path, fabric: Fabric, shown: bool = True
) -> Iterator[tuple[Batch, list[Batch]]]:
    """Probabilities of tiles, batch after batch: the mean of all the folds' models, and each by itself."""
    streams = [fold_batches(recipe, step, tiles, fold=fold, out=out, fabric=fabric) for fold in folds_of(recipe, step)]
    total = -(-len(tiles) // recipe.of_step(step).predict.batch)
    console = Console(stderr=True)
    for parts in track(
        zip(*streams, strict=True),
        "predicting",
        total=total,
        console=console,
        disable=not (shown and console.is_terminal),
    ):
        yield _combined(parts, lambda values: sum(values) / len(values)), list(parts)


def fold_batches(
    recipe: Recipe, step: Train, tiles: TileSet, *, fold: Fold, out: Path, fabric: Fabric
) -> Iterator[Batch]:
    """Probabilities of tiles by the weights of one fold that predict, batch after batch."""
    own = recipe.of_step(step)
    chosen = predicting_weights(fold_folder(out, step, fold), own.predict.weights)
    streams = [net_batches(own, tiles, weights=path, fabric=fabric) for path, _ in chosen]
    shares = [share for _, share in chosen]
    for parts in zip(*streams, strict=True):
        yield _combined(parts, lambda values: sum(share * value for share, value in zip(shares, values, strict=True)))


def net_batches(own: Recipe, tiles: TileSet, *, weights: Path, fabric: Fabric) -> Iterator[Batch]:
    """Probabilities of tiles by one file of weights, batch after batch.

    Args:
        own: the recipe of the train step alone.

    Raises:
        InputError: as `load_model`.
    """
    net, spec = load_model(own, weights)
    net = net.to(fabric.device)
    for found in predict_heads(
        net,
        tile_tensors(tiles, fabric.device),
        spec=spec,
        frame=stage_frame(own, own.stages[-1]),
        views=own.predict.views,
        batch=own.predict.batch,
        autocast=fabric.autocast,
    ):
        yield Batch(found.mask.cpu().numpy(), None if found.has_salt is None else found.has_salt.cpu().numpy())


def load_model(own: Recipe, weights: Path) -> tuple[nn.Module, InputSpec]:
    """What a train step's recipe predicts with, on the processor, and what it wants to see.

    Raises:
        InputError: the weights are damaged, an earlier version's, or of another recipe.
    """
    tensors, facts = load_tensors(weights)
    spec = stored_spec(own, weights, facts)
    net = build_model(own, in_channels=len(spec.channels))
    require_fit(weights, net, {name: tensor.shape for name, tensor in tensors.items()})
    net.load_state_dict(tensors)
    return net.to(memory_format=torch.channels_last), spec


def stored_spec(own: Recipe, weights: Path, facts: Mapping[str, Any]) -> InputSpec:
    """Channels and scaling of a net's input, of the facts that came with its weights.

    Raises:
        InputError: they are an earlier version's, or of another recipe.
    """
    try:
        spec = InputSpec.stored(facts["spec"])
    except (KeyError, TypeError, ValueError):
        raise InputError.of(
            weights, "of an earlier version, for the scaling of their input is not known: train again"
        ) from None
    if (spec.channels, spec.ramps) != (own.input.channels, own.input.ramps):
        found = f"{', '.join(map(str, spec.channels))} with ramps over the {spec.ramps}"
        wanted = f"{', '.join(own.input.channels)} with ramps over the {own.input.ramps}"
        raise InputError.of(weights, f"expected the recipe's channels ({wanted}), found {found}; use another copy")
    return spec


def _until_asked(batches: Iterable[_Item], stop_asked: Callable[[], int | None]) -> Iterator[_Item]:
    for batch in batches:
        if (number := stop_asked()) is not None:
            raise Stopped(number)
        yield batch


def _combined(parts: Sequence[Batch], combine: Callable[[list[Floats]], Any]) -> Batch:
    """Batches of the same tiles made one, masks and has-salt probabilities in the same way."""
    has_salt = [part.has_salt for part in parts if part.has_salt is not None]
    return Batch(combine([part.mask for part in parts]), combine(has_salt) if has_salt else None)


def _write_unlabelled(
    place: Workplace,
    step: Train,
    means: Iterator[tuple[Batch, list[Batch]]],
    *,
    folder: Path,
    folds: Collection[int],
) -> Floats:
    """Write the masks' probabilities; gives those that tiles hold any salt, none where no head says so."""
    tiles = place.data.unlabelled
    names = [unlabelled_name(None)]
    names += [unlabelled_name(fold) for fold in folds_of(place.recipe, step) if fold in folds]
    with ExitStack() as files:
        arrays = [_new_array(files.enter_context(atomic_path(folder / name)), tiles.images.shape) for name in names]
        start, has_salt = 0, [np.empty(0, np.float32)]
        for mean, parts in means:
            for array, part in zip(arrays, [mean, *parts][: len(arrays)], strict=True):
                array[start : start + len(part.mask)] = part.mask
            start += len(mean.mask)
            has_salt += [] if mean.has_salt is None else [mean.has_salt]
        for array in arrays:
            getattr(array, "flush", lambda: None)()
    return np.concatenate(has_salt)


def _new_array(path: Path, shape: Sequence[int]) -> NDArray[np.float16]:
    """A float16 array whose file grows as it is filled, so that 18,000 tiles by ten folds need no memory."""
    if not shape[0]:
        # An empty file cannot be mapped.
        with path.open("wb") as file:
            np.save(file, np.empty(shape, np.float16), allow_pickle=False)
        return np.empty(shape, np.float16)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=tuple(shape))
