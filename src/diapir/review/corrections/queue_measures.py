"""What speaks for looking at a tile or a section: disagreement, boundary and novelty, measured once and kept beside."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.statistics import TileStatistics, tile_statistics
from diapir.pipeline.members import steps_behind
from diapir.pipeline.predictions import Predictions, read_predictions
from diapir.predict.comparing import boundary_px
from diapir.recipe.steps import PredictStep
from diapir.review.corrections.found_once import found_once
from diapir.review.corrections.subjects import Subject, SurveySubject, TileSubject
from diapir.review.corrections.targets import Target, section_target
from diapir.runs import json_digest
from diapir.volume.gate_lines import novelty
from diapir.volume.gate_sampling import NothingToJudgeError, survey_statistics
from diapir.volume.line_numbers import DIRECTIONS, Direction
from diapir.volume.sections import axis_of
from diapir.volume.segment_strip import seen_as
from diapir.volume.store import STRIP, Store, read_map, read_volume

Floats = NDArray[np.float64]

MEASURES = ("disagreement", "boundary", "novelty")

_VERSION = 4
_BLOCK = 256  # traces: with 16 lines of 2000 samples, 25 MB of masks and disagreement
_TILES_AT_ONCE = 512
_MANY_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Measures:
    """Figures of n targets; NaN where they are not known.

    Args:
        disagreement: mean over pixels: of members and directions, or where there is one model how unsure that is.
        boundary: pixel sides between salt and none.
        novelty: distance from what the model learned from, in parts of what is natural.
        notes: what a person should know of them.
    """

    targets: tuple[Target, ...]
    disagreement: Floats
    boundary: Floats
    novelty: Floats
    notes: tuple[str, ...]


def measures_of(subject: Subject) -> Measures:
    """The figures of everything that can be corrected; measured when first asked for, and read from then on.

    Memory does not grow with a survey but by its maps of traces and one section.

    Raises:
        InputError: the stores or the run are damaged.
    """
    return found_once(
        subject.store,
        "measures.json",
        key=_key(subject),
        find=lambda: _of_survey(subject) if isinstance(subject, SurveySubject) else _of_tiles(subject),
        read=_read,
        to_json=_to_json,
    )


def _key(subject: Subject) -> str:
    """Digest of what the figures depend on."""
    if isinstance(subject, TileSubject):
        return json_digest({"version": _VERSION, "run": subject.run.record.get("identity")})
    run = None if subject.run is None else subject.run.record.get("identity")
    facts = [None if store is None else dict(store.facts) for store in (subject.survey, subject.salt)]
    return json_digest({"version": _VERSION, "stores": facts, "run": run})


def _of_survey(subject: SurveySubject) -> Measures:
    grid, notes = subject.main.grid, list[str]()
    figures = {name: {along: _unknown(axis_of(grid, along).count) for along in DIRECTIONS} for name in MEASURES}
    if subject.salt is not None and "mask" in subject.found:
        has_spread = "disagreement" in subject.found
        figures["disagreement"], figures["boundary"] = _walked(subject.salt, has_spread=has_spread)
    else:
        notes.append("no salt was named, so sections are ranked by novelty alone")
    if subject.survey is not None:
        training = _training(subject)
        if training is None:
            notes.append("no run on this survey was named: novelty is against the rest of the survey")
        try:
            figures["novelty"] = _novelties(subject, training)
        except NothingToJudgeError as error:  # which no repair of files changes, so that it may be kept
            notes.append(f"novelty is not known: {error.faults[0].what}")
    targets = [section_target(along, int(line)) for along in DIRECTIONS for line in axis_of(grid, along).numbers]
    joined = {name: np.concatenate([found[along] for along in DIRECTIONS]) for name, found in figures.items()}
    return Measures(tuple(targets), **joined, notes=tuple(notes))


def _walked(salt: Store, *, has_spread: bool) -> tuple[dict[Direction, Floats], dict[Direction, Floats]]:
    """Mean disagreement, where the store has it, and boundary of each line, in one walk."""
    live = read_map(salt, "live")
    spread, sides = np.zeros((2, *live.shape))
    along_inlines, along_crosslines = np.zeros(live.shape[0]), np.zeros(live.shape[1])
    above: NDArray[np.uint8] | None = None  # the last inline of the strip before
    for first in range(0, live.shape[0], STRIP):
        lines, beside = slice(first, min(first + STRIP, live.shape[0])), None
        last = np.empty((live.shape[1], salt.grid.num_samples), np.uint8)
        for start in range(0, live.shape[1], _BLOCK):
            traces = slice(start, min(start + _BLOCK, live.shape[1]))
            mask = read_volume(salt, "mask", inlines=lines, crosslines=traces)
            sides[lines, traces] = (mask[..., 1:] != mask[..., :-1]).sum(2)
            across = mask if beside is None else np.concatenate([beside, mask], axis=1)
            along_inlines[lines] += (across[:, 1:] != across[:, :-1]).sum((1, 2))
            down = mask if above is None else np.concatenate([above[None, traces], mask])
            along_crosslines[traces] += (down[1:] != down[:-1]).sum((0, 2))
            beside, last[traces] = mask[:, -1:], mask[-1]
            if has_spread:
                found = read_volume(salt, "disagreement", inlines=lines, crosslines=traces)
                spread[lines, traces] = found.mean(2, dtype=np.float64)
        above = last
    means: dict[Direction, Floats] = {
        "inline": _live_mean(spread, live, axis=1) if has_spread else _unknown(live.shape[0]),
        "crossline": _live_mean(spread, live, axis=0) if has_spread else _unknown(live.shape[1]),
    }
    return means, {"inline": along_inlines + sides.sum(1), "crossline": along_crosslines + sides.sum(0)}


def _live_mean(by_trace: Floats, live: NDArray[np.bool_], *, axis: int) -> Floats:
    """Of live traces, line by line; 0 for a line without any."""
    return np.asarray(np.where(live, by_trace, 0).sum(axis) / np.maximum(live.sum(axis), 1))


def _training(subject: SurveySubject) -> TileStatistics | None:
    return tile_statistics(subject.labelled_tiles().images) if subject.has_labels else None


def _novelties(subject: SurveySubject, training: TileStatistics | None) -> dict[Direction, Floats]:
    """Of each line as the model saw it, between those that were looked at as a straight line between them."""
    survey = subject.survey
    assert survey is not None
    look = None if subject.salt is None else seen_as(subject.salt)
    if look is None:
        statistics = survey_statistics(survey)
    else:
        statistics = survey_statistics(
            survey, limit=look.limit, flip_polarity=look.flip_polarity, resample=look.interval
        )
    found = dict[Direction, Floats]()
    for along in DIRECTIONS:
        numbers = axis_of(survey.grid, along).numbers
        own = sorted((line for line in statistics.lines if line.along == along), key=lambda line: line.number)
        if not own:
            found[along] = _unknown(len(numbers))
            continue
        gains = [novelty(line.tiles, training or statistics.every) for line in own]
        found[along] = np.interp(numbers, [line.number for line in own], gains)
    return found


def _of_tiles(subject: TileSubject) -> Measures:
    data, notes = subject.data, list[str]()
    members = _members(subject)
    if len(members) == 1:
        notes.append("the run has one model: disagreement is how unsure that is")
    labelled, unlabelled = len(data.labelled), len(data.unlabelled)
    disagreement, boundary = _unknown(labelled + unlabelled), _unknown(labelled + unlabelled)
    for rows, parts in _chunks(members):
        disagreement[rows if parts.is_held_out else rows + labelled] = _disagreement(parts.probabilities)
    held_out = subject.predictions.rows
    assert data.labelled.masks is not None
    boundary[:labelled] = boundary_px(data.labelled.masks)
    for start in range(0, unlabelled, _TILES_AT_ONCE):
        part = subject.submitted.unlabelled[start : start + _TILES_AT_ONCE]
        chosen = slice(labelled + start, labelled + start + len(part))
        boundary[chosen] = boundary_px((part > subject.threshold).astype(np.uint8))
    if len(held_out) < labelled:
        notes.append(f"{labelled - len(held_out)} labelled tiles were not held out: of these no model was asked")
    features = np.concatenate([_features(data.labelled.images), _features(data.unlabelled.images)])
    targets = tuple(Target("tile", name) for name in (*data.labelled.ids, *data.unlabelled.ids))
    return Measures(targets, disagreement, boundary, _distances(features, features[:labelled]), tuple(notes))


@dataclass(frozen=True, eq=False)
class _Part:
    is_held_out: bool
    probabilities: NDArray[np.floating[Any]]  # (members, tiles, rows, columns)


def _members(subject: TileSubject) -> list[Predictions]:
    """What each model behind the submission says, as the viewer has it; of a run that keeps none, the submission's."""
    behind = steps_behind(subject.run.folder, subject.run.recipe)
    found = [read_predictions(subject.run.folder / step.name) for step in behind if isinstance(step, PredictStep)]
    alike = [each for each in found if np.array_equal(each.rows, subject.predictions.rows)]
    return alike or [subject.predictions]


def _chunks(members: list[Predictions]) -> Iterator[tuple[NDArray[np.int64], _Part]]:
    for is_held_out in (True, False):
        arrays = [each.held_out if is_held_out else each.unlabelled for each in members]
        for start in range(0, len(arrays[0]), _TILES_AT_ONCE):
            chosen = slice(start, start + _TILES_AT_ONCE)
            parts = np.stack([np.asarray(array[chosen], np.float32) for array in arrays])
            rows = np.asarray(members[0].rows[chosen]) if is_held_out else np.arange(start, start + parts.shape[1])
            yield rows, _Part(is_held_out, parts)


def _disagreement(probabilities: NDArray[np.floating[Any]]) -> Floats:
    if len(probabilities) == 1:
        return np.asarray((1 - np.abs(2 * probabilities[0] - 1)).mean((1, 2)), np.float64)
    return np.asarray(probabilities.std(0).mean((1, 2)), np.float64)


def _features(images: NDArray[np.uint8]) -> Floats:
    """Brightness, contrast, and how quickly greys change down and across: (n, 4)."""
    parts = [np.zeros((0, 4))]
    for start in range(0, len(images), _TILES_AT_ONCE):
        grey = images[start : start + _TILES_AT_ONCE].astype(np.float32) / 255
        steps = [np.abs(np.diff(grey, axis=axis)).mean((1, 2)) for axis in (1, 2)]
        parts.append(np.stack([grey.mean((1, 2)), grey.std((1, 2)), *steps], axis=1).astype(np.float64))
    return np.concatenate(parts)


def _distances(features: Floats, training: Floats) -> Floats:
    """Mahalanobis distances from the training tiles, over the root of the number of features: 1 is usual."""
    if len(training) <= features.shape[1]:
        return _unknown(len(features))
    spread = np.cov(training, rowvar=False) + 1e-8 * np.eye(features.shape[1])
    away = features - training.mean(0)
    squares = np.einsum("ij,jk,ik->i", away, np.linalg.inv(spread), away)
    return np.asarray(np.sqrt(np.maximum(squares, 0) / features.shape[1]))


def _unknown(count: int) -> Floats:
    return np.full(count, np.nan)


def _to_json(found: Measures) -> dict[str, Any]:
    columns = {name: [_figure(value) for value in getattr(found, name).tolist()] for name in MEASURES}
    targets = [[target.kind, target.name] for target in found.targets]
    return {"notes": list(found.notes), "targets": targets, **columns}


def _figure(value: float) -> float | None:
    return float(f"{value:.{_MANY_DIGITS}g}") if math.isfinite(value) else None


def _read(raw: Any) -> Measures:
    targets = tuple(Target.of(kind, name) for kind, name in raw["targets"])
    columns = {
        name: np.array([math.nan if value is None else float(value) for value in raw[name]]) for name in MEASURES
    }
    if any(len(column) != len(targets) for column in columns.values()):
        raise ValueError("a figure for each target is wanted")
    return Measures(targets, **columns, notes=tuple(map(str, raw["notes"])))
