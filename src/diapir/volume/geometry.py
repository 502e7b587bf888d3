"""From trace headers to a grid of inlines and crosslines: which trace of the file lies where."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.faults import Fault, InputError, raise_if_any
from diapir.volume.line_numbers import (
    COORDINATES,
    STANDARD,
    Axis,
    Column,
    Trial,
    column_of,
    far_off,
    guess_pair,
    is_crowded,
    is_path,
    is_usable_line,
    pair_in_text,
    read_columns,
    try_pair,
)
from diapir.volume.segy import Segy, header_values
from diapir.volume.segy_headers import DEAD, DUMMY, TRACE_FIELDS
from diapir.volume.start_times import Start, find_start

Kind = Literal["3-D", "one inline", "one crossline", "2-D line", "one trace"]

NO_TRACE = -1
"""What stands in `trace_rows` where there is none."""
_CDP_BYTE = TRACE_FIELDS["cdp"].byte
_LEAST_FILLED = 0.2
_WHAT_TO_DO = (
    "give the bytes of inline and crossline with --inline-byte and --crossline-byte (of a line, e.g. 189 and 21)"
)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where every trace of a file lies.

    Args:
        trace_rows: int64 (inlines, crosslines), each place's trace by its row in the file; -1 where there is none.
        is_dead: bool (inlines, crosslines), traces whose header calls them dead or dummies. Those whose samples are
            all zero are found when these are read.
        duplicates: int64 (d, 2), rows of traces whose place another holds, and that other's row. Of several traces the
            first that is not dead holds the place. Of dead traces without a place -1 stands for the other.
        inline_byte, crossline_byte: where their numbers stand in trace headers; None of a line without them.
        start: when the traces begin.
        reason: why these bytes.
        tried: other bytes, and why they are not it.
    """

    kind: Kind
    inlines: Axis
    crosslines: Axis
    trace_rows: NDArray[np.int64]
    is_dead: NDArray[np.bool_]
    duplicates: NDArray[np.int64]
    inline_byte: int | None
    crossline_byte: int | None
    start: Start
    reason: str
    tried: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Inlines and crosslines."""
        return self.inlines.count, self.crosslines.count

    @property
    def is_live(self) -> NDArray[np.bool_]:
        """Places with a trace that is not dead by its header: bool (inlines, crosslines)."""
        is_live: NDArray[np.bool_] = (self.trace_rows != NO_TRACE) & ~self.is_dead
        return is_live


@dataclass(frozen=True, eq=False)
class _Choice:
    """Line numbers of every trace, with what led to them."""

    kind: Kind
    inline: Column
    crossline: Column
    inline_byte: int | None
    crossline_byte: int | None
    reason: str
    tried: tuple[str, ...] = ()
    doubt: str = ""


class _Marks(NamedTuple):
    """What headers say of every trace besides its place.

    Args:
        is_dead: bool (n,), called dead or a dummy.
    """

    is_dead: NDArray[np.bool_]
    start: Start


def find_geometry(segy: Segy, *, inline_byte: int | None = None, crossline_byte: int | None = None) -> Geometry:
    """The grid of a file's traces: by the bytes that are given, by the standard's, or by those that make one.

    Memory and time go with the number of traces; a grid that is all but empty is refused before it is made.

    Raises:
        InputError: there is no such byte, or no bytes make a grid.
    """
    marks = _marks(segy)
    if inline_byte is not None or crossline_byte is not None:
        asked = inline_byte, crossline_byte
        inline, crossline = (usual if byte is None else byte for byte, usual in zip(asked, STANDARD, strict=True))
        choice = _chosen_by_hand(segy, (inline, crossline), marks.is_dead)
    else:
        choice = _chosen_by_header(segy, marks.is_dead)
    return _lay_out(choice, marks)


def lay_on(segy: Segy, pair: tuple[int, int], *, inlines: Axis, crosslines: Axis) -> Geometry:
    """Where the traces of a file lie among the lines of a survey, by two of their bytes; it may have a few of them.

    Dead traces with other numbers have no place.

    Raises:
        InputError: there are no such bytes, live traces have other numbers, or there are several at each place.
    """
    found, marks = _columns_at(segy, pair), _marks(segy)
    inline, crossline = (
        replace(found[byte], axis=axis) for byte, axis in zip(pair, (inlines, crosslines), strict=True)
    )
    raise_if_any(_strangers(segy, inline, crossline, is_dead=marks.is_dead))
    trial = try_pair(found, pair)
    if is_crowded(trial):
        raise InputError.of(segy.path, f"expected a place in the survey for each trace, found {trial}")
    return _lay_out(_choice(replace(trial, inline=inline, crossline=crossline), str(trial)), marks)


def _marks(segy: Segy) -> _Marks:
    fields = [TRACE_FIELDS[name] for name in ("kind", "delay_ms", "time_scalar")]
    kinds, delay, scalar = header_values(segy, fields)
    is_dead = np.isin(kinds, (DEAD, DUMMY))
    return _Marks(is_dead, find_start(delay, scalar, is_dead=is_dead, has_scalar=segy.layout.revision[0] >= 1))


def _strangers(segy: Segy, inline: Column, crossline: Column, *, is_dead: NDArray[np.bool_]) -> Iterator[Fault]:
    for name, column in (("inlines", inline), ("crosslines", crossline)):
        strange = np.unique(column.values[~is_dead & ~column.is_on_axis]).tolist()
        if strange:
            shown = ", ".join(map(str, strange[:5])) + ", ..." * (len(strange) > 5)
            found = f"found {len(strange)} others ({shown})"
            yield Fault(str(segy.path), f"expected {name} of the survey ({column.axis}), {found}")


def _columns_at(segy: Segy, pair: tuple[int, int], is_dead: NDArray[np.bool_] | None = None) -> dict[int, Column]:
    last = segy.header_bytes - 3
    raise_if_any(
        Fault(f"--{name}-byte", f"expected a byte of the trace header from 1 to {last}, found {byte}")
        for name, byte in zip(("inline", "crossline"), pair, strict=True)
        if not 1 <= byte <= last
    )
    return read_columns(segy, sorted(set(pair)), is_dead=is_dead)


def _chosen_by_hand(segy: Segy, pair: tuple[int, int], is_dead: NDArray[np.bool_]) -> _Choice:
    trial = try_pair(_columns_at(segy, pair, is_dead), pair)
    if trial.problem:
        raise _no_grid(segy, trial)
    return _choice(trial, f"{trial}; as asked")


def _chosen_by_header(segy: Segy, is_dead: NDArray[np.bool_]) -> _Choice:
    standard = try_pair(read_columns(segy, STANDARD, is_dead=is_dead), STANDARD)
    sizes = len(standard.inline.distinct), len(standard.crossline.distinct)
    if segy.num_traces == 1:
        return _choice(standard, "a single trace")
    if not standard.problem and min(sizes) > 1 and not is_path(standard):
        return _choice(standard, f"{standard}; the standard's bytes")
    is_line = not standard.problem and max(sizes) > 1 and min(sizes) == 1
    varying, constant = (
        (standard.crossline, standard.inline) if sizes[0] == 1 else (standard.inline, standard.crossline)
    )
    if is_line and int(constant.distinct[0]) != 0 and is_usable_line(varying):
        return _choice(standard, f"{standard}; the standard's bytes, one of which is the same in every trace")
    best, tried = guess_pair(segy, standard=standard, is_dead=is_dead)
    if best:
        why = "the fullest grid of all that were tried, while the standard's bytes make none"
        return replace(_choice(best, f"{best}; {why}", tried), doubt=_doubt(segy, best))
    cdp = read_columns(segy, [_CDP_BYTE], is_dead=is_dead)[_CDP_BYTE]
    # Of numbers that stand twice, as shot points do, half of the traces would be lost.
    if is_line and (is_usable_line(varying) or not is_usable_line(cdp)):
        return _choice(standard, f"{standard}; the standard's bytes, and no others make a grid", tried)
    if is_line or max(sizes) == 1 or (not standard.problem and is_path(standard)):
        return _line(segy, standard, cdp, tried)
    raise _no_grid(segy, standard)


def _doubt(segy: Segy, trial: Trial) -> str:
    """What a person should look at where the standard has coordinates, and nobody says that these are lines."""
    pair = trial.inline_byte, trial.crossline_byte
    if pair != COORDINATES or pair_in_text(segy.text.lines) == pair:
        return ""
    return (
        f"lines are numbered by bytes {pair[0]} and {pair[1]}, where the standard has X and Y, for no others make as "
        f"full a grid; if these are coordinates, {_WHAT_TO_DO}"
    )


def _no_grid(segy: Segy, trial: Trial) -> InputError:
    found = f"found inlines {trial.inline.axis} (byte {trial.inline_byte}) and crosslines {trial.crossline.axis}"
    what = f"expected line numbers that make a grid, {found} (byte {trial.crossline_byte}): {trial.problem}"
    return InputError.of(segy.path, f"{what}; {_WHAT_TO_DO}")


def _choice(trial: Trial, reason: str, tried: list[str] | None = None) -> _Choice:
    counts = len(trial.inline.distinct), len(trial.crossline.distinct)
    kind: Kind = "3-D"
    if len(trial.inline.values) == 1:
        kind = "one trace"
    elif min(counts) == 1:
        kind = "one inline" if counts[0] == 1 else "one crossline"
    pair = trial.inline_byte, trial.crossline_byte
    return _Choice(kind, trial.inline, trial.crossline, *pair, reason, tuple(tried or ()))


def _line(segy: Segy, standard: Trial, cdp: Column, tried: list[str]) -> _Choice:
    """A line that no grid holds: its traces by their CDP, or in the order of the file."""
    if is_path(standard):
        why = f"{standard}; they follow one path across the survey"
    elif max(len(standard.inline.distinct), len(standard.crossline.distinct)) > 1:
        why = f"{standard}; they number no traces"
    else:
        why = f"inline and crossline are the same in all {segy.num_traces} traces (bytes {STANDARD[0]}, {STANDARD[1]})"
    nothing = column_of(np.zeros(segy.num_traces, np.int64))
    if is_usable_line(cdp):
        reason = f"{why}, so this is a line; its traces are numbered by their CDP (byte {_CDP_BYTE})"
        return _Choice("2-D line", nothing, cdp, None, _CDP_BYTE, reason, tuple(tried))
    numbers = column_of(np.arange(1, segy.num_traces + 1))
    reason = f"{why}, so this is a line; its traces are numbered as they come, for CDPs (byte {_CDP_BYTE}) do not"
    return _Choice("2-D line", nothing, numbers, None, None, reason, tuple(tried))


def _lay_out(choice: _Choice, marks: _Marks) -> Geometry:
    is_dead = marks.is_dead
    inlines, crosslines = choice.inline.axis, choice.crossline.axis
    is_on = choice.inline.is_on_axis & choice.crossline.is_on_axis
    rows, far = np.flatnonzero(is_on), np.flatnonzero(~is_on)
    places = (choice.inline.values[rows] - inlines.first) // inlines.step * crosslines.count
    places += (choice.crossline.values[rows] - crosslines.first) // crosslines.step
    # By place, then live before dead, then as they come.
    order = np.lexsort((rows, is_dead[rows], places))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = np.diff(places[order]) != 0
    first = order[is_first]
    trace_rows = np.full(inlines.count * crosslines.count, NO_TRACE, np.int64)
    trace_rows[places[first]] = rows[first]
    others = np.sort(order[~is_first])
    duplicates = np.concatenate(
        [
            np.stack([rows[others], trace_rows[places[others]]], axis=1),
            np.stack([far, np.full(len(far), NO_TRACE)], axis=1),
        ]
    )
    dead = np.zeros(len(trace_rows), np.bool_)
    dead[places[first]] = is_dead[rows[first]]
    shape = inlines.count, crosslines.count
    return Geometry(
        kind=choice.kind,
        inlines=inlines,
        crosslines=crosslines,
        trace_rows=trace_rows.reshape(shape),
        is_dead=dead.reshape(shape),
        duplicates=duplicates[np.argsort(duplicates[:, 0], kind="stable")],
        inline_byte=choice.inline_byte,
        crossline_byte=choice.crossline_byte,
        reason=choice.reason,
        tried=choice.tried,
        start=marks.start,
        warnings=tuple(_warnings(choice, duplicates, marks.start)),
    )


def _warnings(choice: _Choice, duplicates: NDArray[np.int64], start: Start) -> Iterator[str]:
    inlines, crosslines = choice.inline.axis, choice.crossline.axis
    if start.share < 1:
        yield str(start)
    if choice.doubt:
        yield choice.doubt
    others, far = (duplicates[where] for where in (duplicates[:, 1] != NO_TRACE, duplicates[:, 1] == NO_TRACE))
    if len(others):
        yield (
            f"{len(others)} traces have the place of another, e.g. trace {others[0, 0] + 1} that of trace "
            f"{others[0, 1] + 1}; the first live one is read"
        )
    num_places, num_filled = inlines.count * crosslines.count, len(choice.inline.values) - len(duplicates)
    if min(inlines.count, crosslines.count) > 1 and num_filled < _LEAST_FILLED * num_places:
        empty = f"{num_filled / num_places:.1%} of the {num_places} places of the grid have a trace, and all take room"
        yield f"{empty}{far_off(choice.inline, choice.crossline)}"
    if len(far):
        row = int(far[0, 0])
        numbers = f"inline {choice.inline.values[row]}, crossline {choice.crossline.values[row]}"
        yield (
            f"{len(far)} dead traces lie far from all others, e.g. trace {row + 1} ({numbers}); they have no place in "
            f"the grid, and their headers are kept"
        )


def coordinates(segy: Segy, geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and Y of every place, each float64 (inlines, crosslines), in the file's unit; NaN where none is known.

    They are those of the CDP (bytes 181, 185), or of the source (73, 77) where all of these are zero. The scalar (71)
    multiplies where it is positive, divides where negative; zero is one.

    Source: SEG-Y revision 1, table 3.
    """
    present = geometry.trace_rows != NO_TRACE
    fields = [TRACE_FIELDS[name] for name in ("coordinate_scalar", "cdp_x", "cdp_y", "source_x", "source_y")]
    found = header_values(segy, fields, rows=geometry.trace_rows[present])
    scalar, x, y = found[:3] if found[1].any() or found[2].any() else (found[0], *found[3:])
    times, divided_by = np.where(scalar > 0, scalar, 1), np.where(scalar < 0, -scalar, 1)
    # Not both are zero where a survey lies.
    is_known = (x != 0) | (y != 0)
    grids = np.full((2, *geometry.shape), np.nan)
    for grid, values in zip(grids, (x, y), strict=True):
        grid[present] = np.where(is_known, values * times / divided_by, np.nan)
    return grids[0], grids[1]
