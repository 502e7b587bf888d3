"""The pseudo-label step: confident predictions of unlabelled tiles become masks to train on, with an audit trail."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import TileSet, is_constant
from diapir.faults import InputError
from diapir.pipeline.predictions import (
    AGAIN,
    are_probabilities,
    are_rows,
    read_array,
    read_predictions,
    write_array,
)
from diapir.pipeline.workplace import Fold, Workplace
from diapir.recipe.steps import PseudoLabel
from diapir.runs import write_text

AUDIT = "audit.csv"
_CHUNK = 1024


def confidence(probability: NDArray[np.floating], *, low: float, high: float) -> NDArray[np.float64]:
    """Share of each tile's pixels that are sure, for probabilities (n, h, w): (n,).

    Source: the 1st place of the TGS competition, with low 0.2 and high 0.8.
    """
    return _per_tile(probability, lambda part: ((part < low) | (part > high)).mean((1, 2)))


def pseudo_label(place: Workplace, step: PseudoLabel, *, folds: tuple[int, ...], number: int) -> dict[str, Any]:
    """Label the unlabelled tiles that are sure enough, for each fold, or once for all.

    Args:
        folds: the folds of the models behind the predictions.
        number: of this round: of pseudo-label steps that follow from each other, up to and with this one.

    Raises:
        InputError: no tile is sure enough.
    """
    folder = place.out / step.name
    rows_of_audit, counts = [], {}
    for part, fold in enumerate(folds if step.leak_free or step.share_out else (None,)):
        own = fold if step.leak_free else None
        probability = read_predictions(place.out / step.of, own, data=place.data).unlabelled
        sure = confidence(probability, low=step.low, high=step.high)
        rows = _chosen(step, probability, sure, place.data.unlabelled.images)
        # Dealt by the tile's own number: lists of several folds' models differ, and parts must not overlap.
        rows = rows[rows % len(folds) == part] if step.share_out else rows
        if not len(rows):
            best = f"the surest has {sure.max():.3f}" if len(sure) else "there are no unlabelled tiles"
            wanted = (
                f"no tile reaches confidence {step.confidence}" if not step.sizes else "no tile fits any of its sizes"
            )
            raise InputError.of(f"step {step.name}", f"{wanted}; {best}")
        chosen = probability[rows]
        masks = np.asarray(chosen) if step.soft else (chosen > 0.5).astype(np.uint8)
        write_array(folder / _name("rows", fold), rows)
        write_array(folder / _name("masks", fold), masks)
        trained = "all folds" if fold is None else f"fold {fold}"
        counts[trained] = len(rows)
        ids = place.data.unlabelled.ids
        model = f"{step.of} {f'fold {fold}' if step.leak_free else 'mean of all folds'}"
        salt = (chosen > 0.5).mean((1, 2))
        rows_of_audit += [
            (ids[row], model, trained, number, f"{sure[row]:.4f}", f"{share:.4f}")
            for row, share in zip(rows, salt, strict=True)
        ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "model", "trains", "round", "confidence", "salt_share"])
    writer.writerows(rows_of_audit)
    write_text(folder / AUDIT, text.getvalue())
    return {"round": number, "of": step.of, "tiles": counts, "leak_free": step.leak_free}


def _chosen(
    step: PseudoLabel,
    probability: NDArray[np.floating],
    sure: NDArray[np.float64],
    images: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """The tiles that are taken, in their order."""
    allowed = ~is_constant(images) if step.drop_constant else np.ones(len(sure), dtype=bool)
    if not step.sizes:
        return np.flatnonzero(allowed & (sure >= step.confidence))
    salt_px = _per_tile(probability, lambda part: (part > 0.5).sum((1, 2)))
    taken = []
    for size in step.sizes:
        least = step.confidence if size.confidence is None else size.confidence
        of_size = allowed & (salt_px >= size.least_px) & (salt_px <= size.most_px)
        taken.append(np.flatnonzero(of_size & (sure >= least))[:: size.every])
    return np.sort(np.concatenate(taken))


def _per_tile(
    probability: NDArray[np.floating], measure: Callable[[NDArray[np.floating]], NDArray[Any]]
) -> NDArray[Any]:
    """A figure of each tile of (n, h, w), a few tiles at a time, for all of them may not fit in memory twice: (n,)."""
    starts = range(0, max(len(probability), 1), _CHUNK)
    return np.concatenate([measure(probability[start : start + _CHUNK]) for start in starts])


def read_pseudo_labels(folder: Path, fold: Fold, *, tiles: TileSet) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Rows of unlabelled tiles, and their masks (n, h, w): uint8 of 0 and 1, or float16 probabilities.

    Args:
        fold: the fold that is to be trained; labels that were made for all folds serve every one.
        tiles: the unlabelled ones.

    Raises:
        InputError: a file is absent or damaged, or is not of these tiles.
    """
    if not (folder / _name("rows", fold)).exists():
        fold = None
    rows, masks = (read_array(folder / _name(what, fold)) for what in ("rows", "masks"))
    if not are_rows(rows, tiles) or not are_probabilities(masks, (len(rows), *tiles.images.shape[1:])):
        raise InputError.of(folder, f"expected labels of unlabelled tiles, found others: {AGAIN}")
    return np.asarray(rows), np.asarray(masks)


def _name(what: str, fold: Fold) -> str:
    return f"{what}.npy" if fold is None else f"{what}-fold-{fold}.npy"
