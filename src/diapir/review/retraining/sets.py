"""What is learned from when a model is trained on corrections, and what is kept back so that it can be judged."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diapir.data.tiles import UNKNOWN, DataSet, TileSet, write_data
from diapir.faults import InputError
from diapir.pipeline.bundle import Model
from diapir.pipeline.plan import FOLDS
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.records import history, mask_of
from diapir.review.corrections.saving import corrected_targets
from diapir.review.corrections.subjects import Subject, SurveySubject, TileSubject
from diapir.review.corrections.targets import Target, section_target
from diapir.runs import atomic_path
from diapir.volume.line_numbers import DIRECTIONS
from diapir.volume.sections import axis_of, place_of
from diapir.volume.store import read_map

_FOLD = re.compile(r"fold-([0-9]{1,4})(?:/|$)")
_GREYS = {0: 0, 1: 255, UNKNOWN: 128}
_FEW_UNLABELLED = 8
_LEAST_KNOWN = 0.1
_SALTED_NEEDED = 2  # sections: one to learn from, one to hold out


def corrected_masks(subject: Subject) -> dict[Target, Mask]:
    """What everybody has corrected, as it is now; what was changed last comes last.

    Raises:
        InputError: a record is damaged.
    """
    last = corrected_targets(history(subject.store))
    return {
        target: mask_of(subject.store, record.number, "after", shape=subject.shape(target))
        for target, record in sorted(last.items(), key=lambda item: item[1].number)
    }


def first_weights(model: Model) -> str:
    """The file of weights that training goes on from, below the model's folder."""
    return model.members[-1].weights[0].file


def fold_behind(weights: str) -> int | None:
    """The fold that those weights have never seen; None where they have seen all."""
    match = _FOLD.search(weights)
    return int(match[1]) if match else None


def control_sections(
    subject: SurveySubject, corrected: Mapping[Target, Mask], *, fold: int | None, gap: int
) -> dict[Target, Mask]:
    """Labelled sections that the weights have not seen, and that will not be learned from: what can be judged by.

    Within `gap` lines of a section that is learned from nothing of them counts.
    """
    if fold is None or subject.run is None or not subject.labels:
        return {}
    folds = _folds_of_ids(subject.run.folder / FOLDS)
    held_out = {_target_of_id(name) for name, own in folds.items() if own == fold} - {None}
    chosen = {target: mask for target, mask in subject.labels.items() if target in held_out and target not in corrected}
    learned = [target for target in {*subject.labels, *corrected} if target not in chosen]
    if sum((_mask(subject, target, corrected) == 1).any() for target in learned) < _SALTED_NEEDED:
        return {}
    controls = {target: _away_from(subject, target, mask, learned, gap=gap) for target, mask in chosen.items()}
    return {target: mask for target, mask in controls.items() if (mask != UNKNOWN).mean() >= _LEAST_KNOWN}


def write_labels(subject: SurveySubject, masks: Mapping[Target, Mask], folder: Path) -> None:
    """Sections as PNGs that `diapir survey train --labels` takes; sections that are unknown or dead alone are left out.

    Raises:
        InputError: none is left.
    """
    live = read_map(subject.main, "live")
    written = 0
    for target, mask in masks.items():
        place = place_of(axis_of(subject.main.grid, target.direction), target.line)
        assert place is not None
        own = live[place] if target.kind == "inline" else live[:, place]
        if not (mask[:, own] != UNKNOWN).any():
            continue
        greys = np.full(mask.shape, _GREYS[UNKNOWN], np.uint8)
        for value, grey in _GREYS.items():
            greys[mask == value] = grey
        with atomic_path(folder / f"{target.kind}-{target.line}.png") as temporary:
            Image.fromarray(greys).save(temporary, format="PNG")
        written += 1
    if not written:
        raise InputError.of("", "expected corrected sections with something known in them, found none")


def labels_to_learn(
    subject: SurveySubject, corrected: Mapping[Target, Mask], controls: Iterable[Target]
) -> dict[Target, Mask]:
    """Sections of the run's labels, as they are now, and of the corrections; without those that are kept back."""
    every = {target: _mask(subject, target, corrected) for target in {*subject.labels, *corrected}}
    kept_back = set(controls)
    return {target: mask for target, mask in sorted(every.items()) if target not in kept_back}


def control_tiles(subject: TileSubject, corrected: Mapping[Target, Mask], *, fold: int | None) -> list[int]:
    """Rows of the labelled tiles that the weights have not seen, and that nobody corrected."""
    if fold is None:
        return []
    folds = _folds_of_ids(subject.run.folder / FOLDS)
    ids = enumerate(subject.data.labelled.ids)
    return [row for row, name in ids if folds.get(name) == fold and Target("tile", name) not in corrected]


def write_corrected_tiles(
    subject: TileSubject, corrected: Mapping[Target, Mask], controls: Iterable[int], folder: Path
) -> DataSet:
    """A prepared data set with corrected masks, without the tiles that are kept back."""
    data, kept_back = subject.data, set(controls)
    masks = data.labelled.masks
    assert masks is not None
    rows = np.array([row for row in range(len(data.labelled)) if row not in kept_back], np.int64)
    names = [data.labelled.ids[row] for row in rows]
    own = [corrected.get(Target("tile", name), masks[row]) for name, row in zip(names, rows, strict=True)]
    labelled = replace(data.labelled.take(rows), masks=np.stack(own))
    new_rows = [row for row, name in enumerate(data.unlabelled.ids) if Target("tile", name) in corrected]
    new = data.unlabelled.take(np.array(new_rows, np.int64))
    together = _with(labelled, new, [corrected[Target("tile", name)] for name in new.ids])
    others = [row for row in range(len(data.unlabelled)) if row not in set(new_rows)][:_FEW_UNLABELLED]
    record = {"source": "corrected", "of": data.digest, "corrected": len(corrected), "kept_back": len(kept_back)}
    made = DataSet(together, data.unlabelled.take(np.array(others, np.int64)), record)
    write_data(made, folder)
    return made


def _with(tiles: TileSet, new: TileSet, masks: list[Mask]) -> TileSet:
    assert tiles.masks is not None
    if not len(new):
        return tiles
    return TileSet(
        ids=tiles.ids + new.ids,
        images=np.concatenate([tiles.images, new.images]),
        masks=np.concatenate([tiles.masks, np.stack(masks)]),
        depths_m=np.concatenate([tiles.depths_m, new.depths_m]),
        places=None,
    )


def _mask(subject: SurveySubject, target: Target, corrected: Mapping[Target, Mask]) -> Mask:
    return corrected[target] if target in corrected else subject.labels[target]


def _away_from(
    subject: SurveySubject, target: Target, mask: Mask, learned: Iterable[Target], *, gap: int
) -> NDArray[np.uint8]:
    """The mask, unknown within `gap` lines of sections that are learned from."""
    grid, mask = subject.main.grid, mask.copy()
    own = place_of(axis_of(grid, target.direction), target.line)
    assert own is not None
    for other in learned:
        place = place_of(axis_of(grid, other.direction), other.line)
        assert place is not None
        if other.kind != target.kind:
            mask[:, max(place - gap, 0) : place + gap + 1] = UNKNOWN
        elif abs(place - own) <= gap:
            mask[...] = UNKNOWN
    return mask


def _folds_of_ids(path: Path) -> dict[str, int]:
    """Fold of each labelled tile of a run; nothing where the file is absent, as in bundles."""
    if not path.exists():
        return {}
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[2:]
        return {name: int(fold) for name, fold in rows}
    except (ValueError, csv.Error) as error:
        raise InputError.of(path, f"expected the folds of a run ({error}); use another copy of the run") from None


def _target_of_id(name: str) -> Target | None:
    """The section of a tile such as inline-120-s0000-t0007."""
    for along in DIRECTIONS:
        match = re.fullmatch(rf"{along}-(-?[0-9]{{1,10}})-s[0-9]+-t[0-9]+", name)
        if match:
            return section_target(along, int(match[1]))
    return None
