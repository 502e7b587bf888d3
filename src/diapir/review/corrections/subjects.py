"""What can be corrected: the tiles of a run, and the sections of a survey; how each looks, and what was said of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import INLINE, TILE, UNKNOWN, DataSet, TileSet, read_data
from diapir.faults import InputError
from diapir.pipeline.plan import SURVEY_TILES
from diapir.pipeline.predictions import Predictions, read_predictions
from diapir.pipeline.run import open_run_data
from diapir.pipeline.workplace import step_named
from diapir.recipe.steps import PostProcessStep
from diapir.recipe.steps import sources as sources_of
from diapir.recipe.whole import Recipe
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.records import CorrectionStore
from diapir.review.corrections.saving import corrections_beside
from diapir.review.corrections.targets import Target, section_target
from diapir.runs import json_digest
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.line_numbers import DIRECTIONS
from diapir.volume.sections import axis_of, place_of, read_section, section_shape
from diapir.volume.store import Store, read_volume

Greys = NDArray[np.uint8]
Floats = NDArray[np.float32]


class OpenedRun(Protocol):
    """A finished run, as `review.sources` opens it."""

    @property
    def name(self) -> str: ...  # noqa: D102 - its name says it
    @property
    def folder(self) -> Path: ...  # noqa: D102
    @property
    def recipe(self) -> Recipe: ...  # noqa: D102
    @property
    def record(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def data_path(self) -> Path | None: ...  # noqa: D102


class OpenedSurvey(Protocol):
    """A survey, what was found in it, or both, as `review.sources` opens them."""

    @property
    def name(self) -> str: ...  # noqa: D102 - its name says it
    @property
    def survey(self) -> Store | None: ...  # noqa: D102
    @property
    def salt(self) -> Store | None: ...  # noqa: D102


class OpenedSources(Protocol):
    """Everything that was named, as `review.sources` opens it."""

    @property
    def runs(self) -> Mapping[str, OpenedRun]: ...  # noqa: D102 - its name says it
    @property
    def surveys(self) -> Mapping[str, OpenedSurvey]: ...  # noqa: D102


class NoSuchTarget(InputError):
    """A tile or section that is not there, or of which nothing can be shown."""


@dataclass(frozen=True, eq=False)
class TileSubject:
    """The tiles of a finished run."""

    run: OpenedRun
    store: CorrectionStore

    @property
    def name(self) -> str:
        """In addresses."""
        return self.run.name

    @property
    def threshold(self) -> float:
        """Probability above which a pixel is salt."""
        return float(self.run.record["threshold"])

    @cached_property
    def data(self) -> DataSet:
        """Its tiles, read when first asked for.

        Raises:
            InputError: nobody named them, or they are damaged, or are others than the run had.
        """
        skipped = bool(self.run.record["data"].get("skipped"))
        data, _ = open_run_data(self.run.recipe, self.run.data_path, skip_bad=skipped)
        if data.digest != self.run.record["data"]["digest"]:
            what = "these are not the tiles that the run was made of: name those when the page is opened"
            raise InputError.of(self.run.data_path or self.run.folder, what)
        return data

    @cached_property
    def predictions(self) -> Predictions:
        """What its submission was cut from: probabilities, and not masks that were edited."""
        return read_predictions(self.run.folder / _probability_step(self.run.recipe))

    @cached_property
    def submitted(self) -> Predictions:
        """The same, or where the run edited masks these."""
        return read_predictions(self.run.folder / _last_step(self.run.recipe))

    @cached_property
    def places(self) -> dict[str, tuple[bool, int]]:
        """Of each id, whether it is labelled, and its row."""
        labelled = {name: (True, row) for row, name in enumerate(self.data.labelled.ids)}
        return labelled | {name: (False, row) for row, name in enumerate(self.data.unlabelled.ids)}

    @cached_property
    def held_out_row(self) -> dict[int, int]:
        """Row in the predictions of each labelled tile that was held out."""
        return {int(tile): row for row, tile in enumerate(self.predictions.rows)}

    def shape(self, target: Target) -> tuple[int, int]:
        """Rows and columns. Raises NoSuchTarget."""
        tiles, _ = self._found(target)
        return tiles.images.shape[1], tiles.images.shape[2]

    def original(self, target: Target) -> Mask:
        """Its label; of a tile without one, what was predicted."""
        tiles, row = self._found(target)
        if tiles.masks is not None:
            return np.asarray(tiles.masks[row])
        return np.asarray(self.submitted.unlabelled[row] > self.threshold, np.uint8)

    def greys(self, target: Target) -> Greys:
        """Its image."""
        tiles, row = self._found(target)
        return np.asarray(tiles.images[row])

    def probability(self, target: Target) -> Floats | None:
        """By models that never saw it; None where there are none."""
        tiles, row = self._found(target)
        if tiles.masks is None:
            return np.asarray(self.predictions.unlabelled[row], np.float32)
        place = self.held_out_row.get(row)
        return None if place is None else np.asarray(self.predictions.held_out[place], np.float32)

    def _found(self, target: Target) -> tuple[TileSet, int]:
        place = self.places.get(target.name) if target.kind == "tile" else None
        if place is None:
            raise NoSuchTarget.of("", f"there is no {target} in {self.name}")
        return (self.data.labelled if place[0] else self.data.unlabelled), place[1]


@dataclass(frozen=True, eq=False)
class SurveySubject:
    """The sections of a survey.

    Args:
        survey: with amplitudes; None where only salt was named.
        salt: what was found; None where only the survey was named.
        run: that learned from labelled sections of it, if one was named.
        found: volumes of the salt when it was opened: one that is gone since was not "never there".
        has_labels: whether the run kept the tiles that it learned from, when it was opened.
    """

    name: str
    survey: Store | None
    salt: Store | None
    run: OpenedRun | None
    store: CorrectionStore
    found: frozenset[str] = field(init=False)
    has_labels: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", frozenset(self.salt.volumes if self.salt else ()))
        has_labels = self.run is not None and (self.run.folder / SURVEY_TILES).is_dir()
        object.__setattr__(self, "has_labels", has_labels)

    @property
    def main(self) -> Store:
        """The salt, or else the survey."""
        store = self.salt or self.survey
        assert store is not None
        return store

    @property
    def threshold(self) -> float:
        """Probability above which a pixel is salt."""
        found = self.salt.facts.get("threshold") if self.salt else None
        return float(found) if isinstance(found, int | float) else 0.5

    @cached_property
    def labels(self) -> dict[Target, Mask]:
        """What the run's labelled sections said, put together of its tiles."""
        return dict(self._put_together(self.labelled_tiles())) if self.has_labels else {}

    @cached_property
    def held_out(self) -> dict[Target, Floats]:
        """Probabilities of labelled sections by models that never saw them, NaN where no model was asked."""
        if self.run is None or not self.labels:
            return {}
        tiles = self.labelled_tiles()
        found = read_predictions(self.run.folder / _probability_step(self.run.recipe))
        return dict(self._blended(tiles.take(found.rows), found.held_out))

    def labelled_tiles(self) -> TileSet:
        """The tiles that the run learned from; to be asked where `has_labels`.

        Raises:
            InputError: they are gone or damaged.
        """
        assert self.run is not None
        return read_data(self.run.folder / SURVEY_TILES).labelled

    def shape(self, target: Target) -> tuple[int, int]:
        """Samples and traces. Raises NoSuchTarget."""
        self._place(target)
        return section_shape(self.main.grid, target.direction)

    def original(self, target: Target) -> Mask:
        """Its label where somebody gave one, and elsewhere what was found."""
        self._place(target)
        if self.salt is None or "mask" not in self.found:
            found = np.full(self.shape(target), UNKNOWN, np.uint8)
        else:
            found = (self._section(self.salt, "mask", target) == 1).astype(np.uint8)
        label = self.labels.get(target)
        return found if label is None else np.where(label == UNKNOWN, found, label)

    def greys(self, target: Target) -> Greys:
        """Its amplitudes as nets see them; even grey where there is no survey."""
        place = self._place(target)
        if self.survey is None:
            return np.full(self.shape(target), 128, np.uint8)
        return to_grey(read_section(self.survey, target.direction, place), limit=grey_limit(self.survey))

    def probability(self, target: Target) -> Floats | None:
        """What was found; None where nothing was."""
        self._place(target)
        if self.salt is None or "probability" not in self.found:
            return None
        return self._section(self.salt, "probability", target).astype(np.float32)

    def _place(self, target: Target) -> int:
        if target.kind == "tile":
            raise NoSuchTarget.of("", f"{self.name} is a survey, which has sections and no tiles")
        axis = axis_of(self.main.grid, target.direction)
        place = place_of(axis, target.line)
        if place is None:
            raise NoSuchTarget.of("", f"there is no {target} in {self.name}, whose {target.kind}s are {axis}")
        return place

    def _section(self, store: Store, volume: str, target: Target) -> NDArray[Any]:
        own = slice(place := self._place(target), place + 1)
        if target.direction == "inline":
            return np.asarray(read_volume(store, volume, inlines=own)[0].T)
        return np.asarray(read_volume(store, volume, crosslines=own)[:, 0].T)

    def _put_together(self, tiles: TileSet) -> Iterator[tuple[Target, Mask]]:
        assert tiles.masks is not None
        for target, rows in self._by_section(tiles):
            whole = np.full(self._padded(target), UNKNOWN, np.uint8)
            for row in rows:
                sample, trace = (int(value) for value in tiles.places[row, 2:])  # type: ignore[index]
                part = whole[sample : sample + TILE, trace : trace + TILE]
                np.copyto(part, tiles.masks[row], where=tiles.masks[row] != UNKNOWN)
            yield target, self._cut(target, whole)

    def _blended(self, tiles: TileSet, found: NDArray[np.float16]) -> Iterator[tuple[Target, Floats]]:
        for target, rows in self._by_section(tiles):
            sums, counts = np.zeros((2, *self._padded(target)), np.float32)
            for row in rows:
                sample, trace = (int(value) for value in tiles.places[row, 2:])  # type: ignore[index]
                sums[sample : sample + TILE, trace : trace + TILE] += found[row]
                counts[sample : sample + TILE, trace : trace + TILE] += 1
            mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
            yield target, self._cut(target, mean)

    def _by_section(self, tiles: TileSet) -> Iterator[tuple[Target, list[int]]]:
        assert tiles.places is not None
        rows: dict[Target, list[int]] = {}
        for row, (direction, place) in enumerate(tiles.places[:, :2].tolist()):
            along = DIRECTIONS[0] if direction == INLINE else DIRECTIONS[1]
            numbers = axis_of(self.main.grid, along).numbers
            if place < len(numbers):
                rows.setdefault(section_target(along, int(numbers[place])), []).append(row)
        yield from rows.items()

    def _padded(self, target: Target) -> tuple[int, int]:
        samples, traces = self.shape(target)
        return max(samples, TILE), max(traces, TILE)

    def _cut(self, target: Target, whole: NDArray[Any]) -> NDArray[Any]:
        samples, traces = self.shape(target)
        return whole[:samples, :traces]


Subject = TileSubject | SurveySubject


def open_subjects(opened: OpenedSources) -> dict[str, Subject]:
    """Everything that can be corrected, by name; a survey whose name a run has too is found as NAME-survey."""
    subjects: dict[str, Subject] = {}
    for name, run in opened.runs.items():
        if "survey" not in run.record["data"]:
            identity = json_digest({"data": run.record["data"].get("digest")})
            subjects[name] = TileSubject(run, corrections_beside(run.folder, identity=identity))
    for name, pair in opened.surveys.items():
        store = pair.salt or pair.survey
        assert store is not None
        key = name if name not in subjects else f"{name}-survey"
        identity = json_digest({"survey": store.facts.get("digest"), "shape": list(store.grid.shape)})
        beside = corrections_beside(store.path, identity=identity)
        subjects[key] = SurveySubject(key, pair.survey, pair.salt, _run_of(opened, pair), beside)
    return subjects


def by_run(subjects: Mapping[str, Subject]) -> dict[str, Subject]:
    """The surveys that runs learned from, by the runs' names: what is corrected of such a run are sections."""
    surveys = [each for each in subjects.values() if isinstance(each, SurveySubject)]
    return {each.run.name: each for each in reversed(surveys) if each.run is not None}


def _run_of(opened: OpenedSources, pair: OpenedSurvey) -> OpenedRun | None:
    """The run that learned from this survey; of several the one that found the salt."""
    own = [run for run in opened.runs.values() if _survey_digest(run) in {_digest(pair.survey), _digest(pair.salt)}]
    model = (pair.salt.facts.get("model") if pair.salt else None) or {}
    own.sort(key=lambda run: (run.recipe.name, run.record["score"]) != (model.get("name"), model.get("score")))
    return own[0] if own else None


def _survey_digest(run: OpenedRun) -> object:
    survey = run.record["data"].get("survey")
    facts = survey.get("facts") if isinstance(survey, dict) else None
    return (facts.get("digest") if isinstance(facts, dict) else None) or ()


def _digest(store: Store | None) -> object:
    return store.facts.get("digest") if store else None


def _last_step(recipe: Recipe) -> str:
    return sources_of(recipe.all_steps[-1])["of"][0]


def _probability_step(recipe: Recipe) -> str:
    """The last step before masks were edited."""
    name = _last_step(recipe)
    while isinstance(step := step_named(recipe, name), PostProcessStep):
        name = step.of
    return name
