"""Which bytes of trace headers hold inline and crossline numbers: pairs of fields, and whether each makes a grid."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diapir.volume.segy import Segy, header_values
from diapir.volume.segy_headers import Field

STANDARD = (189, 193)
"""Bytes of inline and crossline since revision 1."""
COORDINATES = (181, 185)
"""Where the standard has X and Y of the CDP."""
# What programs write besides: 9 and 21 of SeisWorks and OpendTect, 5 and 21 of older Petrel, 17 and 25 of Charisma,
# 9 and 17 or 13 and 21 of Kingdom; the Teapot Dome survey has them where the standard has coordinates.
_HABITS = ((9, 21), (5, 21), (17, 25), (9, 17), (13, 21), (17, 21), (17, 13), (5, 9), (9, 13), COORDINATES, (221, 225))
# Of a swath that runs across its lines some 12 places a trace are empty.
_MOST_PLACES_A_TRACE, _MOST_PLACES = 20, 1_000_000
# A trace is far from the others where hardly any lie beyond a gap that is a good part of the whole span.
_FEW_FAR, _WIDE_GAP = 0.01, 0.2
_MOST_TRACES_A_PLACE = 3
_LONGEST_STEP = 10_000
# A guess needs more than the standard's bytes do.
_LEAST_FILLED, _LEAST_APART, _LEAST_A_LINE = 0.05, 0.98, 2
_SHORTEST_PATH = 10
_IN_TEXT = r"\b{}\b[^0-9\n]{{0,40}}?\b(\d{{1,3}})\b"
_INLINE_IN_TEXT = re.compile(_IN_TEXT.format(r"(?:in-?\s?line|iline|il)"), re.IGNORECASE)
_CROSSLINE_IN_TEXT = re.compile(_IN_TEXT.format(r"(?:cross-?\s?line|x-?line|xl)"), re.IGNORECASE)


Direction = Literal["inline", "crossline"]
DIRECTIONS: tuple[Direction, Direction] = ("inline", "crossline")


@dataclass(frozen=True)
class Axis:
    """Line numbers in even steps upwards."""

    first: int
    step: int
    count: int

    @property
    def last(self) -> int:
        """The greatest number."""
        return self.first + self.step * (self.count - 1)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """All numbers, int64 (count,)."""
        return self.first + self.step * np.arange(self.count, dtype=np.int64)

    def __str__(self) -> str:
        step = f" in steps of {self.step}" if self.step > 1 and self.count > 1 else ""
        return f"{self.first} to {self.last}{step}" if self.count > 1 else str(self.first)


@dataclass(frozen=True, eq=False)
class Column:
    """One number of every trace.

    Args:
        values: int64 (n,).
        distinct: int64 (m,), ascending.
        places: int64 (n,), into `distinct`.
        axis: the lines that they are to lie on.
    """

    values: NDArray[np.int64]
    distinct: NDArray[np.int64]
    places: NDArray[np.int64]
    axis: Axis

    @property
    def is_on_axis(self) -> NDArray[np.bool_]:
        """Traces whose number is one of the axis: bool (n,)."""
        steps, rest = np.divmod(self.distinct - self.axis.first, self.axis.step)
        is_on: NDArray[np.bool_] = (rest == 0) & (steps >= 0) & (steps < self.axis.count)
        return is_on[self.places]


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair of fields, tried as inline and crossline.

    Args:
        num_filled: places that have a trace.
        problem: why they make no grid, or "".
    """

    inline_byte: int
    crossline_byte: int
    inline: Column
    crossline: Column
    num_filled: int
    problem: str

    @property
    def num_places(self) -> int:
        """Places of the grid; no memory is taken for it yet."""
        return self.inline.axis.count * self.crossline.axis.count

    @property
    def filled(self) -> float:
        """The part of the places that have a trace."""
        return self.num_filled / self.num_places

    def __str__(self) -> str:
        grid = f"inlines {self.inline.axis}, crosslines {self.crossline.axis}"
        found = self.problem or f"{self.num_filled} of {self.num_places} places filled"
        return f"bytes {self.inline_byte} and {self.crossline_byte} ({grid}): {found}"


def column_of(values: NDArray[np.int64], *, is_dead: NDArray[np.bool_] | None = None) -> Column:
    """Numbers with their distinct ones, and the fewest even steps that meet them all.

    Dead traces that would make most of these lines, as one with zeros for numbers does, are left beside them.

    Args:
        is_dead: bool (n,).
    """
    distinct, places = np.unique(values, return_inverse=True)
    axis = _axis_of(distinct)
    if is_dead is not None and 2 * len(distinct) < axis.count and is_dead.any() and not is_dead.all():
        live = _axis_of(np.unique(values[~is_dead]))
        axis = live if 2 * live.count < axis.count else axis
    return Column(values, distinct, places, axis)


def _axis_of(distinct: NDArray[np.int64]) -> Axis:
    first, last = int(distinct[0]), int(distinct[-1])
    step = int(np.gcd.reduce(np.diff(distinct))) if len(distinct) > 1 else 1
    return Axis(first, step, (last - first) // step + 1)


def read_columns(
    segy: Segy, byte_numbers: Sequence[int], *, is_dead: NDArray[np.bool_] | None = None
) -> dict[int, Column]:
    """The four-byte numbers of all traces at some places of their headers."""
    values = header_values(segy, [Field(byte, 4) for byte in byte_numbers])
    return {byte: column_of(column, is_dead=is_dead) for byte, column in zip(byte_numbers, values, strict=True)}


def try_pair(columns: dict[int, Column], pair: tuple[int, int]) -> Trial:
    """Two fields as inline and crossline."""
    inline, crossline = columns[pair[0]], columns[pair[1]]
    is_on = inline.is_on_axis & crossline.is_on_axis
    num_filled = len(np.unique((inline.places * len(crossline.distinct) + crossline.places)[is_on]))
    problem = _problem(inline, crossline, num_filled, num_traces=int(is_on.sum()))
    return Trial(*pair, inline, crossline, num_filled, problem)


def _problem(inline: Column, crossline: Column, num_filled: int, *, num_traces: int) -> str:
    """Why no grid can be made of these numbers; "" where one can."""
    if inline.axis.count == crossline.axis.count == 1 < num_traces:
        return "they are the same in every trace"
    for name, axis in (("inlines", inline.axis), ("crosslines", crossline.axis)):
        if axis.step > _LONGEST_STEP:
            return f"{name} go from {axis.first} to {axis.last} in steps of {axis.step}, which no survey has"
    num_places = inline.axis.count * crossline.axis.count
    if num_places > _MOST_PLACES and num_places > _MOST_PLACES_A_TRACE * num_traces:
        return f"it would have {num_places} places, and there are {num_traces} traces{far_off(inline, crossline)}"
    if _is_crowded(num_filled, num_traces=num_traces):
        return f"there are {num_traces / num_filled:.0f} traces a place, as in gathers before the stack"
    return ""


def far_off(inline: Column, crossline: Column) -> str:
    """A trace whose numbers are far from nearly all others', with what to do, to end a sentence; "" where none is."""
    for column in (inline, crossline):
        gaps = np.diff(column.distinct)
        if not len(gaps) or gaps.max() < _WIDE_GAP * (column.distinct[-1] - column.distinct[0]):
            continue
        is_below = column.places <= gaps.argmax()
        is_far = is_below if 2 * is_below.sum() < len(is_below) else ~is_below
        if is_far.mean() <= _FEW_FAR:
            row = int(is_far.argmax())
            numbers = f"inline {inline.values[row]}, crossline {crossline.values[row]}"
            return f"; trace {row + 1} lies far from the others ({numbers}): leave it out, or call it dead (byte 29)"
    return ""


def _is_crowded(num_filled: int, *, num_traces: int) -> bool:
    return num_traces > _MOST_TRACES_A_PLACE * num_filled


def is_crowded(trial: Trial) -> bool:
    """Whether there are many traces at a place, as where all have the same numbers."""
    return _is_crowded(trial.num_filled, num_traces=len(trial.inline.values))


def is_path(trial: Trial) -> bool:
    """Whether the traces follow one path across the survey, each a step from the last, and are no grid."""
    longest = max(len(trial.inline.distinct), len(trial.crossline.distinct))
    is_thin = _SHORTEST_PATH <= trial.num_filled <= 1.5 * longest and trial.filled < 0.2
    return is_thin and all(_goes_on(column) for column in (trial.inline, trial.crossline))


def _goes_on(column: Column) -> bool:
    # Numbers in no order go over their whole range every third trace.
    way = np.abs(np.diff(column.values)).sum()
    return int(way) <= 3 * int(column.distinct[-1] - column.distinct[0])


def guess_pair(
    segy: Segy, *, standard: Trial, is_dead: NDArray[np.bool_] | None = None
) -> tuple[Trial | None, list[str]]:
    """The fullest grid among the pairs of bytes that programs use, if there is one, and what became of each."""
    named = pair_in_text(segy.text.lines)
    pairs = [pair for pair in dict.fromkeys((*([named] if named else []), *_HABITS)) if pair != STANDARD]
    columns = read_columns(segy, sorted({byte for pair in pairs for byte in pair}), is_dead=is_dead)
    trials = [try_pair(columns, pair) for pair in pairs]
    good = [trial for trial in trials if not trial.problem and not _doubt(trial)]
    best = max(good, key=lambda trial: (round(trial.filled, 2), trial.num_filled), default=None)
    told = [str(standard), *(_told(trial) for trial in trials if trial is not best)]
    return best, told


def _told(trial: Trial) -> str:
    doubt = "" if trial.problem else _doubt(trial)
    return f"{trial}, but {doubt}" if doubt else str(trial)


def _doubt(trial: Trial) -> str:
    """Why numbers that nobody named as lines are not taken for them; "" where they are."""
    for name, column in (("inline", trial.inline), ("crossline", trial.crossline)):
        if len(column.distinct) == 1:
            return f"there is one {name} alone"
    num_lines = max(len(trial.inline.distinct), len(trial.crossline.distinct))
    if trial.num_filled < _LEAST_A_LINE * num_lines:
        return "one number goes up with the other"
    if trial.num_filled < _LEAST_APART * len(trial.inline.values):
        return f"{len(trial.inline.values) - trial.num_filled} traces have the place of another"
    if trial.filled < _LEAST_FILLED:
        return "nearly all places are empty"
    return ""


def pair_in_text(lines: Sequence[str]) -> tuple[int, int] | None:
    """The bytes of inline and crossline that a textual header names, if it names both."""
    text = "\n".join(lines)
    found = [next(_bytes_named(pattern, text), None) for pattern in (_INLINE_IN_TEXT, _CROSSLINE_IN_TEXT)]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None and found[0] != found[1] else None


def _bytes_named(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    for match in pattern.finditer(text):
        if 1 <= int(match[1]) <= 237:
            yield int(match[1])


def is_usable_line(column: Column) -> bool:
    """Whether a field numbers the traces of one line, without great gaps and hardly a number twice."""
    axis = column.axis
    apart = len(column.distinct) / len(column.values)
    return apart >= _LEAST_APART and axis.step <= _LONGEST_STEP and axis.count <= 4 * len(column.values)
