"""Made surveys as SEG-Y files of any size, with some labelled inlines and the exact salt."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from diapir.faults import Fault, raise_if_any
from diapir.runs import atomic_folder, require_file_place, require_new_folder
from diapir.volume.line_numbers import Axis
from diapir.volume.segy import open_segy, raw_headers
from diapir.volume.segy_format import FORMATS, FormatName, Order
from diapir.volume.segy_headers import (
    DEAD,
    LIVE,
    TRACE_FIELDS,
    TRACE_HEADER_BYTES,
    new_file_header,
    new_trace_headers,
    put_field,
)
from diapir.volume.segy_write import Block, write_segy
from diapir.volume.synthetic_cube import Earth, draw_earth
from diapir.volume.synthetic_survey import (
    CROSSLINES,
    FEWEST_LINES,
    INLINES,
    SAMPLES,
    MaskKind,
    SurveyGrid,
    decimated_grid,
    faults_of_sizes,
    live_mask,
    survey_parts,
    trace_positions,
)

_MOST = 2**34  # 64 GiB of samples; more is a slip of the finger
_PIECE = 4 << 20
_ORDER_STREAM = 3
_KINDS_IN_TEXT: dict[MaskKind, str] = {
    "regular": "REGULAR",
    "ragged": "RAGGED: NO TRACES OUTSIDE OF ITS OUTLINE",
    "dead": "WITH DEAD TRACES, WHICH ARE ZERO AND OF KIND 2 AT BYTE 29",
}
_Lines = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be written.

    Args:
        every: of the earth's inlines and crosslines every so many-th is in the file.
        grid: numbers and positions of those.
        is_live: bool (inlines, crosslines) of the file.
        is_there: bool of that shape, places that have a trace, dead or live.
        order: int64 (traces,), which trace comes when; None where inline follows inline.
        labelled: places of the labelled inlines.
    """

    earth: Earth
    every: int
    kind: MaskKind
    grid: SurveyGrid
    is_live: _Lines
    is_there: _Lines
    order: NDArray[np.int64] | None
    labelled: tuple[int, ...]
    stored: FormatName
    byte_order: Order

    @property
    def num_samples(self) -> int:
        """Samples of a trace."""
        return self.earth.shape[2]

    @property
    def interval_us(self) -> float:
        """Microseconds between samples."""
        return 1000 * self.grid.interval_ms

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Numbers of inlines and crosslines."""
        inlines, crosslines = self.is_there.shape
        grid = self.grid
        return (
            Axis(grid.inline_first, grid.inline_step, inlines),
            Axis(grid.crossline_first, grid.crossline_step, crosslines),
        )


def write_synthetic_survey(
    out: Path,
    *,
    inlines: int = INLINES,
    crosslines: int = CROSSLINES,
    samples: int = SAMPLES,
    seed: int = 0,
    kind: MaskKind = "regular",
    shuffled: bool = False,
    every: int = 1,
    stored: FormatName = "ieee32",
    order: Order = "big",
    labels: Path | None = None,
    label_lines: int = 5,
    truth: Path | None = None,
) -> str:
    """Write a made survey, which is that of `make_survey` with the same seed, and say what was written.

    Memory does not grow with the number of inlines. Truth and shuffled files take room for the time of writing: a 32nd
    of a file of four bytes a sample and as much as that file, in the folder of `out`.

    Args:
        inlines, crosslines, samples: of the earth, before lines are left out.
        kind: "ragged": traces outside of an outline are absent; "dead": in clusters they are zero, and dead by header.
        shuffled: traces come in no order.
        every: every so many-th inline and crossline is written, with the number that it has.
        labels: a new folder for `inline-NUMBER.png` of some inlines: grey, 255 for salt, a row for each sample and a
            column for each crossline of the grid in rising order, whether it has a trace or not.
        label_lines: how many, evenly spread.
        truth: a SEG-Y file with the same trace headers, and 1 for every sample in salt, 0 for others.

    Raises:
        InputError: a number is too small or too large, or a file cannot be where it is to be; with every fault.
    """
    shape = (inlines, crosslines, samples)
    faults = faults_of_sizes(shape, seed=seed, most=_MOST)
    faults += _faults(shape, every=every, stored=stored, label_lines=label_lines if labels else None)
    if truth and os.path.realpath(truth) == os.path.realpath(out):
        faults.append(Fault("--truth", f"expected another file than the survey's, found {truth}; name another"))
    raise_if_any(faults)
    for path in (out, truth):
        if path:
            require_file_place(path)
    if labels:
        require_new_folder(labels)
    is_live = live_mask(inlines=-(-inlines // every), crosslines=-(-crosslines // every), kind=kind, seed=seed)
    is_there = np.ones_like(is_live) if kind == "dead" else is_live
    num_traces = int(is_there.sum())
    plan = _Plan(
        earth=draw_earth(shape, seed=seed),
        every=every,
        kind=kind,
        grid=decimated_grid(SurveyGrid(), inlines=every, crosslines=every),
        is_live=is_live,
        is_there=is_there,
        order=np.random.default_rng([seed, _ORDER_STREAM]).permutation(num_traces) if shuffled else None,
        labelled=_spread(len(is_live), label_lines) if labels else (),
        stored=stored,
        byte_order=order,
    )
    _write(plan, out, labels=labels, truth=truth)
    return _summary(plan, out, labels=labels, truth=truth)


def _faults(shape: tuple[int, int, int], *, every: int, stored: FormatName, label_lines: int | None) -> Iterator[Fault]:
    most = max((min(shape[:2]) - 1) // (FEWEST_LINES - 1), 1)
    if not 1 <= every <= most:
        yield Fault("--every", f"expected 1 to {most}, so that {FEWEST_LINES} lines stay each way, found {every}")
    elif label_lines is not None and not 1 <= label_lines <= -(-shape[0] // every):
        yield Fault("--label-lines", f"expected 1 to {-(-shape[0] // every)}, all inlines, found {label_lines}")
    if not _holds_amplitudes(stored):
        able = "|".join(name for name in FORMATS if _holds_amplitudes(name))
        yield Fault("--format", f"expected one that holds amplitudes to 32767 of both signs ({able}), found {stored}")


def _holds_amplitudes(name: FormatName) -> bool:
    return FORMATS[name].is_float or FORMATS[name].limits[0] <= -(2**15)


def _spread(count: int, wanted: int) -> tuple[int, ...]:
    """The middles of so many equal parts of a row."""
    return tuple((2 * part + 1) * count // (2 * wanted) for part in range(wanted))


def _write(plan: _Plan, out: Path, *, labels: Path | None, truth: Path | None) -> None:
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent if out.is_file() or not out.exists() else None
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        task = bar.add_task("Making inlines", total=plan.earth.shape[0])
        folder = stack.enter_context(atomic_folder(labels)) if labels else None
        salt = stack.enter_context(tempfile.TemporaryFile(dir=beside)) if truth else None
        blocks = _blocks(plan, salt=salt, folder=folder, advance=lambda inlines: bar.advance(task, inlines))
        if plan.order is not None:
            traces = stack.enter_context(tempfile.TemporaryFile(dir=beside))
            blocks = _in_order(plan, plan.order, blocks, file=traces)
        _write_file(plan, out, blocks, what="AMPLITUDE AFTER STACK AND MIGRATION, ZERO PHASE, TOP OF SALT POSITIVE")
        if truth and salt:
            _write_file(plan, truth, _truth_blocks(plan, out, salt=salt), what="EXACT SALT: 1 INSIDE, 0 OUTSIDE")


def _write_file(plan: _Plan, path: Path, blocks: Iterator[Block], *, what: str) -> None:
    inlines, crosslines = (str(axis).upper() for axis in plan.axes)
    bodies = ", ".join(plan.earth.salt.kinds).upper()
    lines = [
        "SYNTHETIC SURVEY MADE BY DIAPIR: NO REAL DATA",
        what,
        f"SEED {plan.earth.seed}   SALT BODIES: {bodies}",
        f"INLINE NUMBER AT BYTE {TRACE_FIELDS['inline'].byte}: {inlines}",
        f"CROSSLINE NUMBER AT BYTE {TRACE_FIELDS['crossline'].byte}: {crosslines}",
        f"CDP X AT BYTE {TRACE_FIELDS['cdp_x'].byte}, CDP Y AT BYTE {TRACE_FIELDS['cdp_y'].byte}, METRES, SCALED",
        _KINDS_IN_TEXT[plan.kind],
        "TRACES INLINE BY INLINE" if plan.order is None else "TRACES IN NO ORDER",
    ]
    stored = FORMATS[plan.stored]
    header = new_file_header(
        num_samples=plan.num_samples, interval_us=plan.interval_us, stored=stored, order=plan.byte_order, lines=lines
    )
    write_segy(path, file_header=header, blocks=blocks, stored=stored, order=plan.byte_order)


def _blocks(
    plan: _Plan, *, salt: BinaryIO | None, folder: Path | None, advance: Callable[[int], None]
) -> Iterator[Block]:
    """Traces, inline by inline; on the way salt goes into a file, eight samples a byte, and labels into a folder."""
    first_row = 0
    for first, last, part in survey_parts(plan.earth):
        for inline in range(-(-first // plan.every), -(-last // plan.every)):
            cut = inline * plan.every - first, np.s_[:: plan.every]
            is_there = plan.is_there[inline]
            in_salt = part.salt[cut]
            if salt:
                salt.write(np.packbits(in_salt[is_there], axis=1).data)
            if folder and inline in plan.labelled:
                number = plan.axes[0].first + plan.axes[0].step * inline
                Image.fromarray(np.where(in_salt.T, np.uint8(255), np.uint8(0))).save(folder / f"inline-{number}.png")
            values = np.where(plan.is_live[inline][:, None], part.amplitude[cut], np.float32(0))[is_there]
            yield _headers(plan, inline, first_row=first_row), values
            first_row += len(values)
        advance(last - first)


def _headers(plan: _Plan, inline: int, *, first_row: int) -> NDArray[np.uint8]:
    """Headers of the traces of one inline: uint8 (n, 240)."""
    is_there = plan.is_there[inline]
    inlines, crosslines = plan.axes
    x, y = trace_positions(plan.grid, inlines=1, crosslines=len(is_there), first_inline=inline)
    headers = new_trace_headers(
        inline=np.full(int(is_there.sum()), inlines.first + inlines.step * inline),
        crossline=crosslines.numbers[is_there],
        cdp_x=x[0, is_there],
        cdp_y=y[0, is_there],
        num_samples=plan.num_samples,
        interval_us=plan.interval_us,
        order=plan.byte_order,
        first_row=first_row,
    )
    kinds = np.where(plan.is_live[inline][is_there], LIVE, DEAD)
    put_field(headers, TRACE_FIELDS["kind"], kinds, order=plan.byte_order)
    return headers


def _in_order(plan: _Plan, order: NDArray[np.int64], blocks: Iterator[Block], *, file: BinaryIO) -> Iterator[Block]:
    """The same traces in another order, by way of a file, and numbered anew."""
    for headers, values in blocks:
        file.write(np.concatenate([headers, values.view(np.uint8)], axis=1).data)
    width = TRACE_HEADER_BYTES + 4 * plan.num_samples
    for first_row, raw in _rows_of(plan, order, file=file, width=width):
        headers = raw[:, :TRACE_HEADER_BYTES].copy()
        for name in ("trace_in_line", "trace_in_file"):
            rows = first_row + 1 + np.arange(len(raw))
            put_field(headers, TRACE_FIELDS[name], rows, order=plan.byte_order)
        yield headers, raw[:, TRACE_HEADER_BYTES:].copy().view(np.float32)


def _truth_blocks(plan: _Plan, survey: Path, *, salt: BinaryIO) -> Iterator[Block]:
    """Salt under the headers of the survey's traces."""
    segy = open_segy(survey)
    order = np.arange(segy.num_traces) if plan.order is None else plan.order
    for first_row, packed in _rows_of(plan, order, file=salt, width=math.ceil(plan.num_samples / 8)):
        bits = np.unpackbits(packed, axis=1, count=plan.num_samples)
        yield raw_headers(segy, slice(first_row, first_row + len(bits))), bits.astype(np.float32)


def _rows_of(
    plan: _Plan, order: NDArray[np.int64], *, file: BinaryIO, width: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Rows of a file in some order, with how many came before: uint8 (k, width)."""
    file.flush()
    at_once = max(_PIECE // (TRACE_HEADER_BYTES + 4 * plan.num_samples), 1)
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        yield start, np.stack([np.frombuffer(os.pread(file.fileno(), width, row * width), np.uint8) for row in rows])


def _summary(plan: _Plan, out: Path, *, labels: Path | None, truth: Path | None) -> str:
    inlines, crosslines = plan.axes
    count = f"{int(plan.is_there.sum())} traces of {plan.num_samples} samples"
    bodies = ", ".join(plan.earth.salt.kinds)
    more = [f"{len(plan.labelled)} labelled inlines in {labels}"] if labels else []
    more += [f"exact salt in {truth}"] if truth else []
    parts = [f"{out}: {count}", f"inlines {inlines}, crosslines {crosslines}", f"salt bodies: {bodies}", *more]
    return "; ".join(parts)
