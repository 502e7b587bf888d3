"""Labels in files of traces and in arrays over a survey's grid: SEG-Y and Zarr."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.faults import Fault, InputError, raise_if_any
from diapir.volume.geometry import NO_TRACE, Geometry, find_geometry, lay_on
from diapir.volume.labelled_section import (
    LabelledSection,
    hide_dead,
    lines_with_labels,
    told_values,
)
from diapir.volume.line_numbers import STANDARD, Direction
from diapir.volume.sections import axis_of, section_shape
from diapir.volume.segy import Segy, open_segy, samples
from diapir.volume.start_times import Start
from diapir.volume.store import STRIP, Grid, Lines, Store, is_store, open_store, read_volume

_NAMES = ("labels", "mask")
_BYTE = 2  # stands for 255 in SEG-Y until it is clear that nothing there is 1
_MOST_CHUNK_BYTES = 1 << 28
_EXPECTED_OF_SEGY = "expected samples of 0 (no salt), 1 or 255 (salt), and -1 or NaN (unknown)"
_EXPECTED_OF_ZARR = "expected values of 0 (no salt), 1 (salt), and 255 or -1 (unknown)"


class Found(NamedTuple):
    """Sections of one file.

    Args:
        notes: what a person should know of them.
    """

    sections: list[LabelledSection]
    notes: list[str]


def read_segy_labels(
    path: Path,
    survey: Store,
    *,
    live: NDArray[np.bool_],
    asked: Mapping[str, Any] | None = None,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
) -> Found:
    """Sections of a SEG-Y file whose traces lie on the survey's lines, found by its headers.

    Samples are 0 for no salt, 1 or (all of them) 255 for salt, -1 or NaN for unknown; traces that it lacks, or calls
    dead, are unknown.

    Args:
        asked: what `open_segy` takes besides the path.

    Raises:
        InputError: it is no SEG-Y, has another number of samples or interval, has no line numbers or such as the survey
            does not have, holds other values, or nothing that is known.
    """
    grid, segy = survey.grid, open_segy(path, **(asked or {}))
    faults = list(_faults_of_samples(segy, grid))
    try:
        geometry = _lay_on(segy, survey, inline_byte=inline_byte, crossline_byte=crossline_byte)
    except InputError as error:
        raise InputError([*faults, *error.faults]) from None
    raise_if_any(faults)
    rows = np.where(geometry.is_live, geometry.trace_rows, NO_TRACE)
    is_known = (rows != NO_TRACE) & live
    lines, total = lines_with_labels(is_known, num_samples=grid.num_samples)
    others, sections = Counter[float](), list[LabelledSection]()
    for direction, place in lines:
        chosen = (place, slice(None)) if direction == "inline" else (slice(None), place)
        mask = np.full(section_shape(grid, direction), UNKNOWN, np.uint8)
        mask[:, is_known[chosen]] = _of_samples(samples(segy, rows[chosen][is_known[chosen]]), others).T
        sections.append(_section(grid, direction, place, mask, path))
    found = _finished(path, sections, others, expected=_EXPECTED_OF_SEGY, total=total)
    return found._replace(notes=[*found.notes, *_notes_on_start(path, geometry.start, grid)])


def _notes_on_start(path: Path, start: Start, grid: Grid) -> Iterator[str]:
    """Programs often leave the first sample's time out, so that another one is no fault yet."""
    if grid.unit == "ms" and (abs(start.ms - grid.first_sample) > grid.interval / 2 or not start.is_common):
        told = f"its first sample is at {start.ms:g} ms, the survey's at {grid.first_sample:g} ms"
        told = told if start.is_common else str(start)
        yield f"{path}: {told}; sample is laid on sample: see in tiles.png that the labels lie where they should"


def read_zarr_labels(path: Path, survey: Store, *, live: NDArray[np.bool_]) -> Found:
    """Sections of an array over the whole grid, or of the array `labels` or `mask` of a group: Zarr, format 3.

    0 is no salt, 1 salt, 255 and -1 are unknown. It is read strip by strip.

    Raises:
        InputError: there is no such array, it is of another shape or kind, is damaged, holds other values, or nothing
            that is known; or it is what `segment` wrote, and not whole, or of another survey.
    """
    grid, read = survey.grid, _reader(path, survey)
    others, is_known = Counter[float](), np.zeros(grid.shape[:2], np.bool_)
    for first in range(0, grid.inlines.count, STRIP):
        strip = _of_numbers(read(inlines=slice(first, first + STRIP)), others)
        is_known[first : first + STRIP] = (strip != UNKNOWN).any(2)
    lines, total = lines_with_labels(is_known & live, num_samples=grid.num_samples)
    sections = []
    for direction, place in [] if others else lines:
        line = slice(place, place + 1)
        values = _of_numbers(read(inlines=line) if direction == "inline" else read(crosslines=line), others)
        mask = values[0] if direction == "inline" else values[:, 0]
        sections.append(hide_dead(_section(grid, direction, place, mask.T, path), live))
    return _finished(path, sections, others, expected=_EXPECTED_OF_ZARR, total=total)


def _section(grid: Grid, direction: Direction, place: int, mask: NDArray[np.uint8], path: Path) -> LabelledSection:
    return LabelledSection(direction, int(axis_of(grid, direction).numbers[place]), place, mask, path)


def _finished(
    path: Path, sections: list[LabelledSection], others: Counter[float], *, expected: str, total: int
) -> Found:
    if others:
        raise InputError.of(path, f"{expected}, found {told_values(others)}; write the classes as these numbers")
    if any((each.mask == _BYTE).any() for each in sections):
        if any((each.mask == 1).any() for each in sections):
            raise InputError.of(path, f"{expected}, found both 1 and 255, so one of them is something else")
        for each in sections:
            each.mask[each.mask == _BYTE] = 1
    sections = [each for each in sections if (each.mask != UNKNOWN).any()]
    if not sections:
        raise InputError.of(path, "expected some live traces with salt or with none, found nothing that is known")
    few = f"{path}: {total} lines are labelled, and an even spread of {len(sections)} is used, for memory's sake"
    return Found(sections, [few] if total > len(sections) else [])


def _of_samples(values: NDArray[np.float32], others: Counter[float]) -> NDArray[np.uint8]:
    """Masks of samples, 255 as _BYTE; values that mean nothing are counted."""
    mask = np.full(values.shape, UNKNOWN, np.uint8)
    for value, meaning in ((0, 0), (1, 1), (255, _BYTE)):
        mask[values == value] = meaning
    _count(values[(mask == UNKNOWN) & (values != -1) & ~np.isnan(values)], others)
    return mask


def _of_numbers(values: NDArray[Any], others: Counter[float]) -> NDArray[np.uint8]:
    """Masks of whole numbers; values that mean nothing are counted."""
    is_told = (values == 0) | (values == 1)
    _count(values[~is_told & (values != UNKNOWN) & (values != -1)], others)
    return np.where(is_told, values, UNKNOWN).astype(np.uint8)


def _count(values: NDArray[Any], others: Counter[float]) -> None:
    distinct, counts = np.unique(values, return_counts=True)
    if len(others) < 1000:  # enough to tell what is wrong
        others.update(dict(zip(distinct[:1000].tolist(), counts[:1000].tolist(), strict=True)))


def _faults_of_samples(segy: Segy, grid: Grid) -> Iterator[Fault]:
    where = str(segy.path)
    if segy.num_samples != grid.num_samples:
        yield Fault(where, f"expected {grid.num_samples} samples a trace, as the survey has, found {segy.num_samples}")
    if grid.unit == "ms" and not math.isclose(segy.interval_us / 1000, grid.interval, rel_tol=1e-3):
        found = f"found {segy.interval_us / 1000:g} ms"
        yield Fault(where, f"expected {grid.interval:g} ms between samples, as the survey has, {found}: resample it")


def _lay_on(segy: Segy, survey: Store, *, inline_byte: int | None, crossline_byte: int | None) -> Geometry:
    """Its traces on the survey's lines: by the bytes that are given, by those of the survey, or by its own.

    Of a few lines the survey's bytes alone tell what they are: no two of them make a grid.
    """
    axes = {"inlines": survey.grid.inlines, "crosslines": survey.grid.crosslines}
    own = _bytes_of(survey)
    if inline_byte is not None or crossline_byte is not None:
        first, second = own or STANDARD
        asked = first if inline_byte is None else inline_byte, second if crossline_byte is None else crossline_byte
        return lay_on(segy, asked, **axes)
    told = None
    if own is not None:
        try:
            return lay_on(segy, own, **axes)
        except InputError as error:
            told = error
    try:
        found = find_geometry(segy)
    except InputError as error:
        raise told or error from None
    if found.inline_byte is None or found.crossline_byte is None:
        what = f"expected traces with inline and crossline numbers of the survey, found {found.reason}"
        raise InputError.of(segy.path, what)
    return lay_on(segy, (found.inline_byte, found.crossline_byte), **axes)


def _bytes_of(survey: Store) -> tuple[int, int] | None:
    """Where its file had inline and crossline; None of a line without both. What came from elsewhere has the usual."""
    found = survey.facts.get("geometry")
    if not isinstance(found, dict):
        return STANDARD
    inline, crossline = found.get("inline_byte"), found.get("crossline_byte")
    return (inline, crossline) if isinstance(inline, int) and isinstance(crossline, int) else None


def _reader(path: Path, survey: Store) -> Callable[..., NDArray[Any]]:
    """What reads some `inlines` or `crosslines` of labels in Zarr."""
    # Of a store that is not whole Zarr alone would read what is missing as 0, which is no salt.
    for folder in (path, *([path.parent] if path.name == "mask" else [])):
        if is_store(folder):
            return partial(read_volume, _salt_of(folder, survey), "mask")
    return partial(_read, path, _array(path, survey.grid))


def _salt_of(path: Path, survey: Store) -> Store:
    """What was found in that very survey."""
    try:
        salt = open_store(path)
    except InputError as error:
        hint = "a mask that is corrected in Python is best an array of its own, such as labels.zarr"
        why = "Zarr writes no files of zeros alone, and here they would be missed"
        raise InputError([*error.faults, Fault(str(path), f"{hint}: {why}")]) from None
    if (salt.facts.get("digest"), salt.grid) != (survey.facts.get("digest"), survey.grid):
        raise InputError.of(path, f"expected what was found in {survey.path}, found salt of another survey")
    return salt


def _array(path: Path, grid: Grid) -> zarr.Array[Any]:
    try:
        node = zarr.open(path, mode="r", zarr_format=3)
        if isinstance(node, zarr.Group):
            node = next((node[name] for name in _NAMES if name in node), node)
    except Exception as error:  # noqa: BLE001 - of a description that lies zarr and its parts raise whatever comes
        reason = str(error).partition("\n")[0]
        raise InputError.of(path, f"expected an array of labels in Zarr, format 3, found none ({reason})") from None
    if not isinstance(node, zarr.Array):
        raise InputError.of(path, f"expected an array, or a group with one called {' or '.join(_NAMES)}; found none")
    if node.shape != grid.shape:
        what = f"expected inlines, crosslines and samples of the survey, {grid.shape}, found {node.shape}"
        raise InputError.of(path, f"{what}; write labels over the whole grid, {UNKNOWN} where nobody has said")
    if node.dtype.kind not in "bui":
        raise InputError.of(path, f"expected whole numbers or bool, found {node.dtype}; write uint8 of 0, 1 and 255")
    if math.prod(node.chunks) * node.dtype.itemsize > _MOST_CHUNK_BYTES:
        most = f"expected chunks of at most {_MOST_CHUNK_BYTES >> 20} MiB"
        raise InputError.of(path, f"{most}, found {node.chunks}: write it in smaller ones")
    return node


def _read(
    path: Path, array: zarr.Array[Any], *, inlines: Lines = slice(None), crosslines: Lines = slice(None)
) -> NDArray[Any]:
    try:
        return np.asarray(array[inlines, crosslines])
    except Exception as error:  # noqa: BLE001 - of damaged chunks zarr and its codecs raise whatever comes
        reason = str(error).partition("\n")[0]
        raise InputError.of(path, f"cannot be read ({reason}): write it again, or use another copy") from None
