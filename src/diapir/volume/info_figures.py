"""What the traces of a SEG-Y file hold, from some of them, and how its bins lie on the map."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diapir.volume.geometry import Geometry, coordinates
from diapir.volume.greys import amplitude_limit
from diapir.volume.segy import Segy, first_samples, header_values, raw_headers
from diapir.volume.segy_headers import FILE_HEADER_BYTES, TRACE_FIELDS
from diapir.volume.xy_units import XyUnit, xy_unit_of

_MOST_TRACES, _MOST_VALUES, _FEWEST_TRACES = 1000, 2_000_000, 16
_MOST_BINS = 20_000
_PERCENTILES = (0.5, 50.0, 99.5)
_ROUNDS, _FAR, _ROUNDING = 4, 5.0, 1.0

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Amplitudes:
    """Figures of some traces that are spread over the whole file; None where there is nothing to take them from.

    Args:
        num_traces: that were looked at.
        num_samples: of each, from its first on.
        num_all_zero: traces without a sample other than zero.
        share_of_zeros: among the samples of all other traces.
        percentiles: 0.5, 50 and 99.5 % of the finite samples of these.
        num_nan, num_infinite: samples.
        first_nan, first_infinite: trace of the file, from 1 on, where the first of them was met.
    """

    num_traces: int
    num_samples: int
    num_all_zero: int
    share_of_zeros: float | None
    least: float | None
    greatest: float | None
    percentiles: tuple[float, float, float] | None
    num_nan: int
    first_nan: int | None
    num_infinite: int
    first_infinite: int | None


@dataclass(frozen=True, eq=False)
class Look:
    """Some traces, looked at.

    Args:
        rows: int64 (k,), which they are, ascending.
        is_all_zero: bool (k,).
        limit: the size that nearly all of their amplitudes do not exceed.
    """

    rows: NDArray[np.int64]
    is_all_zero: NDArray[np.bool_]
    limit: float
    amplitudes: Amplitudes


@dataclass(frozen=True)
class Bins:
    """How a survey lies on the map, by the coordinates of its traces.

    Args:
        unit: of coordinates and distances; "" where the file does not say.
        x, y: least and greatest.
        inline_spacing: from each inline of the grid to the next, along the crosslines.
        crossline_spacing: from each crossline of the grid to the next, along the inlines.
        inline_azimuth: where inlines run to, in degrees from the Y axis over the X axis, that is clockwise from north.
        crossline_azimuth: the same of crosslines.
        farthest_off: of the traces, from where these figures put them.
        trace_spacing: median distance of neighbours, of a single line.
    """

    num_known: int
    unit: str
    x: tuple[float, float]
    y: tuple[float, float]
    inline_spacing: float | None = None
    crossline_spacing: float | None = None
    inline_azimuth: float | None = None
    crossline_azimuth: float | None = None
    farthest_off: float | None = None
    trace_spacing: float | None = None


def spread_rows(count: int, *, most: int) -> NDArray[np.int64]:
    """Up to `most` of `count` rows, ascending, one drawn from each of as many equal parts: int64.

    Even steps would meet the same crossline again and again. The same rows are drawn every time.
    """
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most + 1).astype(np.int64)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])


def look_at(segy: Segy) -> Look:
    """A thousand traces or all there are, of very long ones fewer and their first part."""
    rows = spread_rows(segy.num_traces, most=min(_MOST_TRACES, max(_MOST_VALUES // segy.num_samples, _FEWEST_TRACES)))
    num_samples = min(segy.num_samples, _MOST_VALUES // len(rows))
    values = np.empty((len(rows), num_samples), np.float32)
    for start, part in first_samples(segy, rows, most=num_samples):
        values[start : start + len(part)] = part
    # Any but the first bit: to ask a NaN of some kinds whether it is zero makes processors warn.
    is_all_zero = np.logical_not((values.view(np.uint32) << np.uint32(1)).any(axis=1))
    others = values[~is_all_zero]
    finite = others[np.isfinite(others)]
    is_nan, is_infinite = np.isnan(values), np.isinf(values)
    amplitudes = Amplitudes(
        num_traces=len(rows),
        num_samples=num_samples,
        num_all_zero=int(is_all_zero.sum()),
        share_of_zeros=float((finite == 0).sum() / others.size) if others.size else None,
        least=float(finite.min()) if finite.size else None,
        greatest=float(finite.max()) if finite.size else None,
        percentiles=_percentiles(finite) if finite.size else None,
        num_nan=int(is_nan.sum()),
        first_nan=_first_trace(rows, is_nan),
        num_infinite=int(is_infinite.sum()),
        first_infinite=_first_trace(rows, is_infinite),
    )
    return Look(rows, is_all_zero, amplitude_limit(finite), amplitudes)


def _percentiles(finite: NDArray[np.float32]) -> tuple[float, float, float]:
    # One of the values, never one between: the sum of two may be too great for float32.
    low, middle, high = (float(value) for value in np.percentile(finite, _PERCENTILES, method="lower"))
    return low, middle, high


def _first_trace(rows: NDArray[np.int64], found: NDArray[np.bool_]) -> int | None:
    traces = rows[found.any(axis=1)]
    return int(traces[0]) + 1 if len(traces) else None


def header_ranges(segy: Segy, rows: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Byte, least and greatest number of every named field in the headers of some traces."""
    columns = header_values(segy, list(TRACE_FIELDS.values()), rows=rows)
    return {
        name: {"byte": field.byte, "least": int(values.min()), "greatest": int(values.max())}
        for (name, field), values in zip(TRACE_FIELDS.items(), columns, strict=True)
    }


def find_bins(segy: Segy, geometry: Geometry) -> Bins | None:
    """Extent, distances and directions of a survey; None where no trace has coordinates.

    Angles are given as they stand, without distances. Source: SEG-Y revision 1, table 3, bytes 71 to 90 and 181 to 188.
    """
    x, y = coordinates(segy, geometry)
    is_known = np.isfinite(x)
    if not is_known.any():
        return None
    places = np.argwhere(is_known)
    known = np.stack([x[is_known], y[is_known]], axis=1)
    (least_x, least_y), (greatest_x, greatest_y) = known.min(axis=0).tolist(), known.max(axis=0).tolist()
    unit, is_length = _unit(segy)
    bins = Bins(num_known=len(known), unit=unit, x=(least_x, greatest_x), y=(least_y, greatest_y))
    if not is_length:
        return bins
    if min(geometry.shape) == 1:
        return replace(bins, trace_spacing=_spacing_of_line(known))
    rows = spread_rows(len(known), most=_MOST_BINS)
    return _with_steps(bins, known[rows], places=places[rows])


def _unit(segy: Segy) -> XyUnit:
    """The unit of coordinates, by the first trace and the binary header."""
    with segy.path.open("rb") as file:
        file_header = file.read(FILE_HEADER_BYTES)
    return xy_unit_of(file_header, raw_headers(segy, slice(0, 1)).tobytes(), segy.layout.order)


def _spacing_of_line(known: Points) -> float | None:
    """Median distance of traces that follow each other."""
    if len(known) < 2:
        return None
    return float(np.median(np.hypot(*np.diff(known, axis=0).T)))


def _with_steps(bins: Bins, known: Points, *, places: NDArray[np.int64]) -> Bins:
    """Distances and directions by the plane grid that is nearest to the traces, without those far from it.

    Args:
        known: X and Y, float64 (k, 2).
        places: of the grid, int64 (k, 2).
    """
    terms = np.column_stack([np.ones(len(places)), places - places.mean(axis=0)])
    is_near = np.ones(len(known), np.bool_)
    steps, off = np.zeros((3, 2)), np.zeros(len(known))
    # A few wrong coordinates draw the first of these grids, and hardly the last.
    for _ in range(_ROUNDS):
        if np.linalg.matrix_rank(terms[is_near]) < 3:
            return bins
        steps, *_ = np.linalg.lstsq(terms[is_near], known[is_near] - known[0])
        off = np.hypot(*(terms @ steps + known[0] - known).T)
        is_near = off <= max(_FAR * float(np.median(off)), _ROUNDING)
    (cross_x, cross_y), (along_x, along_y) = steps[1:].tolist()
    return replace(
        bins,
        inline_spacing=float(np.hypot(cross_x, cross_y)),
        crossline_spacing=float(np.hypot(along_x, along_y)),
        inline_azimuth=float(np.rad2deg(np.arctan2(along_x, along_y)) % 360),
        crossline_azimuth=float(np.rad2deg(np.arctan2(cross_x, cross_y)) % 360),
        farthest_off=float(off.max()),
    )
