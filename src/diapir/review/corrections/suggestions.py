"""Labels that may be wrong: looked for once, kept beside corrections, and not told again once they are answered."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diapir.data.mosaic import NONE, neighbours
from diapir.pipeline.mosaics import mosaics_of
from diapir.predict.mosaic_rules import are_walls
from diapir.review.corrections.found_once import found_once
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.records import Correction
from diapir.review.corrections.saving import undone_numbers
from diapir.review.corrections.subjects import Subject, SurveySubject, TileSubject
from diapir.review.corrections.suggestion_rules import (
    SURE_SHARE,
    WALL_ROWS,
    band,
    contradiction,
    flipped,
    proposed,
    sure_otherwise,
    walls_of,
)
from diapir.review.corrections.targets import Target
from diapir.runs import json_digest
from diapir.volume.sections import axis_of, place_of

Sort = Literal["vertical", "seam", "confident"]
SORTS: tuple[Sort, ...] = ("vertical", "seam", "confident")

_VERSION = 2
_MOST = 500  # of a sort: more than anybody answers


@dataclass(frozen=True)
class Suggestion:
    """A label that may be wrong.

    Args:
        target: whose mask would be changed.
        words: why, and what accepting does.
        strength: pixels that speak for it.
        row, column: where a seam or a wall is; None where it is of no place.
    """

    sort: Sort
    target: Target
    words: str
    strength: int
    row: int | None = None
    column: int | None = None

    @property
    def key(self) -> str:
        """The same for the same finding, whatever words it is told in."""
        facts = {"sort": self.sort, "target": self.target.to_json(), "row": self.row, "column": self.column}
        return json_digest(facts | {"strength": self.strength})[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, its key among them."""
        return asdict(self) | {"key": self.key}


def suggestions_of(subject: Subject) -> tuple[Suggestion, ...]:
    """All that was found, the strongest first; looked for when first asked for.

    Raises:
        InputError: the run or the store is damaged.
    """
    return found_once(
        subject.store,
        "suggestions.json",
        key=_identity(subject),
        find=lambda: tuple(_looked_for(subject)),
        read=_read,
        to_json=lambda found: {"suggestions": [each.to_json() for each in found]},
    )


def open_suggestions(found: Iterable[Suggestion], records: Iterable[Correction]) -> list[Suggestion]:
    """Those that nobody has accepted or refused; an answer that was undone is none."""
    records = list(records)
    undone = undone_numbers(records)
    answered = {record.suggestion for record in records if record.suggestion and record.number not in undone}
    return [each for each in found if each.key not in answered]


def proposal(subject: Subject, suggestion: Suggestion) -> Mask:
    """The mask that accepting a suggestion would make of the label as it was.

    Raises:
        InputError: as `suggestions_of`.
    """
    target = suggestion.target
    label, probability = subject.original(target), _held_out(subject, target)
    if suggestion.sort == "confident":
        assert probability is not None
        return flipped(label, sure_otherwise(label, probability))
    if suggestion.row is None and suggestion.column is None:
        where = np.ones(label.shape, np.bool_)
    else:
        where = band((label.shape[0], label.shape[1]), row=suggestion.row, column=suggestion.column)
    return proposed(label, probability, where=where, cut=subject.threshold)


def _looked_for(subject: Subject) -> Iterator[Suggestion]:
    finders = _tile_finders(subject) if isinstance(subject, TileSubject) else _section_finders(subject)
    found = [each for finder in finders for each in islice(_strongest(finder), _MOST)]
    yield from _strongest(found)


def _tile_finders(subject: TileSubject) -> list[Iterator[Suggestion]]:
    return [_tile_walls(subject), _tile_seams(subject), _sure_tiles(subject)]


def _section_finders(subject: SurveySubject) -> list[Iterator[Suggestion]]:
    return [_section_walls(subject), _section_seams(subject), _sure_sections(subject)]


def _strongest(found: Iterable[Suggestion]) -> list[Suggestion]:
    return sorted(found, key=lambda each: (-each.strength, each.target, each.sort))


def _tile_walls(subject: TileSubject) -> Iterator[Suggestion]:
    tiles = subject.data.labelled
    assert tiles.masks is not None
    for row in np.flatnonzero(are_walls(tiles.masks, rows=WALL_ROWS)).tolist():
        target = Target("tile", tiles.ids[row])
        words = f"the label's last {WALL_ROWS} rows are all the same, as if a line had been drawn straight down; "
        yield Suggestion("vertical", target, words + _does(subject, target, "all of it"), WALL_ROWS)


def _tile_seams(subject: TileSubject) -> Iterator[Suggestion]:
    """Labels of neighbours in the survey that do not go on into each other."""
    tiles = subject.data.labelled
    masks = tiles.masks
    assert masks is not None
    beside = neighbours(mosaics_of(subject.data, subject.run.folder, keep=False))[: len(tiles)]
    height, width = masks.shape[1:]
    for first, (_, below, _, right) in enumerate(beside.tolist()):
        for second, is_below in ((below, True), (right, False)):
            if second == NONE or second >= len(tiles):
                continue
            ends = (masks[first, -1], masks[second, 0]) if is_below else (masks[first, :, -1], masks[second, :, 0])
            strength = contradiction(*ends)
            if not strength:
                continue
            chosen = max((first, second), key=lambda tile: _doubt(subject, Target("tile", tiles.ids[tile])))
            other = second if chosen == first else first
            edge = {"row": height - 1 if chosen == first else 0} if is_below else {}
            edge |= {} if is_below else {"column": width - 1 if chosen == first else 0}
            target = Target("tile", tiles.ids[chosen])
            words = f"its neighbour in the survey, tile {tiles.ids[other]}, says otherwise along {strength} pixels of "
            words += f"their seam; {_does(subject, target, 'what lies along the seam')}"
            yield Suggestion("seam", target, words, strength, **edge)


def _sure_tiles(subject: TileSubject) -> Iterator[Suggestion]:
    tiles = subject.data.labelled
    for row in sorted(subject.held_out_row):
        yield from _sure(subject, Target("tile", tiles.ids[row]), share=SURE_SHARE)


def _section_walls(subject: SurveySubject) -> Iterator[Suggestion]:
    for target, label in subject.labels.items():
        for wall in walls_of(label)[:3]:
            words = f"a side of the label runs straight down for {wall.samples} samples at trace {wall.column + 1}; "
            words += _does(subject, target, "what lies along it")
            yield Suggestion("vertical", target, words, wall.samples, column=wall.column)


def _section_seams(subject: SurveySubject) -> Iterator[Suggestion]:
    """Labelled inlines and crosslines that contradict each other where they cross."""
    grid = subject.main.grid
    for along in (target for target in subject.labels if target.kind == "inline"):
        for across in (target for target in subject.labels if target.kind == "crossline"):
            trace = place_of(axis_of(grid, "crossline"), across.line)
            other = place_of(axis_of(grid, "inline"), along.line)
            assert trace is not None
            assert other is not None
            strength = contradiction(subject.labels[along][:, trace], subject.labels[across][:, other])
            if strength:
                chosen, column, rest = max(
                    ((along, trace, across), (across, other, along)), key=lambda each: _doubt(subject, each[0])
                )
                words = f"{rest} says otherwise along {strength} samples where they cross; "
                words += _does(subject, chosen, "what lies along it")
                yield Suggestion("seam", chosen, words, strength, column=column)


def _sure_sections(subject: SurveySubject) -> Iterator[Suggestion]:
    for target in subject.held_out:
        yield from _sure(subject, target, share=SURE_SHARE / 5)


def _sure(subject: Subject, target: Target, *, share: float) -> Iterator[Suggestion]:
    probability = _held_out(subject, target)
    if probability is None:
        return
    where = sure_otherwise(_label(subject, target), probability)
    strength = int(where.sum())
    if strength and strength >= share * where.size:
        words = f"models that never saw it are sure of the opposite at {strength} pixels; accepting turns these"
        yield Suggestion("confident", target, words, strength)


def _label(subject: Subject, target: Target) -> Mask:
    return subject.original(target) if isinstance(subject, TileSubject) else subject.labels[target]


def _held_out(subject: Subject, target: Target) -> NDArray[np.floating[Any]] | None:
    """Of a labelled tile or section, by models that never saw it; None where none was asked."""
    return subject.probability(target) if isinstance(subject, TileSubject) else subject.held_out.get(target)


def _doubt(subject: Subject, target: Target) -> float:
    """Share of a label that models say otherwise of; -1 where none was asked."""
    probability = _held_out(subject, target)
    if probability is None:
        return -1.0
    label = _label(subject, target)
    known = (label <= 1) & ~np.isnan(probability)
    return float(((probability > subject.threshold) != (label == 1))[known].mean()) if known.any() else -1.0


def _does(subject: Subject, target: Target, what: str) -> str:
    if _held_out(subject, target) is None:
        return f"accepting calls {what} unknown, so that nothing is learned from it"
    return f"accepting takes for {what} what models say that never saw it"


def _identity(subject: Subject) -> str:
    run = subject.run
    return json_digest({"version": _VERSION, "run": None if run is None else run.record.get("identity")})


def _read(raw: Any) -> tuple[Suggestion, ...]:
    found = []
    for each in raw["suggestions"]:
        target = Target.of(each["target"]["kind"], each["target"]["name"])
        fields = {name: each[name] for name in ("words", "strength", "row", "column")}
        if each["sort"] not in SORTS:
            raise ValueError("one of the sorts that are looked for is wanted")
        found.append(Suggestion(each["sort"], target, **fields))
    return tuple(found)
