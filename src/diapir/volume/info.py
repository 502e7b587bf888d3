"""What a SEG-Y file is, told and drawn, before anything is made of it."""

import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from diapir import __version__
from diapir.faults import InputError
from diapir.runs import require_outside_results, write_json
from diapir.volume.geometry import NO_TRACE, Geometry, find_geometry
from diapir.volume.info_figures import Amplitudes, Bins, Look, find_bins, header_ranges, look_at
from diapir.volume.info_picture import draw_info
from diapir.volume.line_numbers import Axis
from diapir.volume.segy import Segy, open_segy
from diapir.volume.segy_format import FormatName, Order

_MOST_TEXT_LINES = 12
_EMPTY_LINE = re.compile(r"C?[ \d]*")
_MANY_OFF = 0.5
_Rows = Iterator[tuple[str, str]]


def survey_info(
    path: Path,
    out: Path | None,
    *,
    order: Order | None = None,
    stored: FormatName | None = None,
    num_samples: int | None = None,
    interval_us: float | None = None,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
) -> str:
    """What a file is, as text to print; with `out` also `info.json` and `info.png` in that folder.

    A file whose line numbers make no grid is told of all the same, with what its headers hold, unless their bytes are
    given. Samples are looked at in up to a thousand traces.

    Raises:
        InputError: it cannot be read, or not as asked; with every fault.
        OSError: it cannot be opened, or `out` not be written.
    """
    segy = open_segy(path, order=order, stored=stored, num_samples=num_samples, interval_us=interval_us)
    geometry, problem = _geometry_of(segy, inline_byte, crossline_byte)
    if geometry:
        segy = replace(segy, delay_ms=geometry.start.ms)
    if out:
        require_outside_results(out)
    look = look_at(segy)
    bins = find_bins(segy, geometry) if geometry else None
    warnings = [*segy.warnings, *(geometry.warnings if geometry else ()), *problem, *_doubts(look, bins)]
    figures: dict[str, Any] = {
        "file": _describe_file(segy, how={"order": order is not None, "format": stored is not None}),
        "geometry": _describe_geometry(geometry) if geometry else None,
        "coordinates": asdict(bins) if bins else None,
        "amplitude": asdict(look.amplitudes),
        "trace_headers": header_ranges(segy, look.rows),
        "warnings": warnings,
        "text": list(segy.text.lines),
        "diapir": __version__,
    }
    if out:
        draw_info(segy, geometry, look, out / "info.png")
        write_json(out / "info.json", figures)
    return "\n".join(_lines(figures, look.amplitudes, bins))


def _geometry_of(segy: Segy, inline_byte: int | None, crossline_byte: int | None) -> tuple[Geometry | None, list[str]]:
    """The grid, or why there is none, which is a fault only where its bytes were given."""
    try:
        return find_geometry(segy, inline_byte=inline_byte, crossline_byte=crossline_byte), []
    except InputError as error:
        if inline_byte is not None or crossline_byte is not None:
            raise
        return None, [fault.what for fault in error.faults]


def _doubts(look: Look, bins: Bins | None) -> Iterator[str]:
    found = look.amplitudes
    of_looked = f"among the {found.num_traces} traces that were looked at"
    if found.num_all_zero == found.num_traces:
        yield f"all samples are zero {of_looked}"
    for count, name, first in (
        (found.num_nan, "no numbers (NaN)", found.first_nan),
        (found.num_infinite, "infinite", found.first_infinite),
    ):
        if count:
            yield f"{count} samples are {name} {of_looked}, the first in trace {first}"
    if bins and bins.farthest_off and bins.inline_spacing is not None and bins.crossline_spacing is not None:
        least = min(bins.inline_spacing, bins.crossline_spacing)
        if bins.farthest_off > _MANY_OFF * least:
            off = _length(bins.farthest_off, bins.unit)
            yield f"coordinates do not follow the line numbers evenly: some lie {off} from where the others put them"


def _describe_file(segy: Segy, *, how: dict[str, bool]) -> dict[str, Any]:
    layout = segy.layout
    last_ms = segy.delay_ms + segy.interval_us / 1000 * (segy.num_samples - 1)
    return {
        "path": str(segy.path),
        "bytes": segy.size,
        "revision": list(layout.revision),
        "format": layout.stored.name,
        "format_code": layout.stored.code,
        "format_from": _source(segy, "its samples", is_given=how["format"]),
        "order": layout.order,
        "order_from": _source(segy, "-endian", is_given=how["order"]),
        "traces": segy.num_traces,
        "samples": segy.num_samples,
        "interval_us": segy.interval_us,
        "first_sample_ms": segy.delay_ms,
        "last_sample_ms": last_ms,
        "first_trace_byte": layout.first_trace,
        "bytes_behind_traces": segy.size - segy.end_of_traces,
        "more_trace_headers": layout.num_more_headers,
        "text_encoding": segy.text.encoding,
    }


def _source(segy: Segy, word: str, *, is_given: bool) -> str:
    """Where a reading comes from: the headers, unless a warning says more."""
    if is_given:
        return "as asked"
    return next((warning for warning in segy.warnings if word in warning), "as its headers say")


def _describe_geometry(geometry: Geometry) -> dict[str, Any]:
    is_there = geometry.trace_rows != NO_TRACE
    num_there, num_dead = int(is_there.sum()), int((geometry.is_dead & is_there).sum())
    return {
        "kind": geometry.kind,
        "inlines": _describe_axis(geometry.inlines),
        "crosslines": _describe_axis(geometry.crosslines),
        "inline_byte": geometry.inline_byte,
        "crossline_byte": geometry.crossline_byte,
        "reason": geometry.reason,
        "tried": list(geometry.tried),
        "places": geometry.trace_rows.size,
        "filled": num_there,
        "missing": geometry.trace_rows.size - num_there,
        "dead_by_header": num_dead,
        "duplicates": int((geometry.duplicates[:, 1] != NO_TRACE).sum()),
        "far_off": int((geometry.duplicates[:, 1] == NO_TRACE).sum()),
    }


def _describe_axis(axis: Axis) -> dict[str, int]:
    return {"first": axis.first, "last": axis.last, "step": axis.step, "count": axis.count}


def _lines(figures: dict[str, Any], amplitudes: Amplitudes, bins: Bins | None) -> Iterator[str]:
    """The text, a line at a time."""
    yield _shown(figures["file"]["path"])
    if figures["geometry"]:
        lying: _Rows = chain(_rows_of_grid(figures["geometry"]), _rows_of_bins(bins))
    else:
        lying = _rows_of_headers(figures["trace_headers"])
    for title, what in chain(_rows_of_file(figures["file"]), lying, _rows_of_amplitudes(amplitudes)):
        yield f"  {title:<14} {what}"
    if figures["warnings"]:
        yield "warnings:"
        yield from (f"  {warning}" for warning in figures["warnings"])
    told = [line for line in figures["text"] if not _EMPTY_LINE.fullmatch(line)]
    if told:
        yield "textual header:"
        yield from (f"  {line}" for line in told[:_MOST_TEXT_LINES])
    if len(told) > _MOST_TEXT_LINES:
        yield f"  ... and {len(told) - _MOST_TEXT_LINES} lines more"


def _rows_of_file(file: dict[str, Any]) -> _Rows:
    major, minor = file["revision"]
    yield "size", f"{file['bytes']:,} bytes, SEG-Y revision {major}.{minor}, textual header in {file['text_encoding']}"
    yield "samples", f"{file['format']} (format code {file['format_code']}), {file['format_from']}"
    yield "byte order", f"{file['order']}-endian, {file['order_from']}"
    yield "traces", f"{file['traces']:,} of {file['samples']:,} samples"
    span = f"from {file['first_sample_ms']:.10g} to {file['last_sample_ms']:.10g} ms"
    yield "interval", f"{file['interval_us'] / 1000:g} ms, {span}"
    if file["more_trace_headers"]:
        yield "headers", f"{1 + file['more_trace_headers']} of 240 bytes before each trace"
    if file["bytes_behind_traces"]:
        yield "trailer", f"{file['bytes_behind_traces']:,} bytes behind the last trace"


def _rows_of_grid(grid: dict[str, Any]) -> _Rows:
    yield "kind", grid["kind"]
    for name in ("inlines", "crosslines"):
        axis = grid[name]
        step = f" in steps of {axis['step']}" if axis["count"] > 1 else ""
        numbers = f"{axis['first']} to {axis['last']}{step}" if axis["count"] > 1 else f"{axis['first']}"
        yield name, f"{axis['count']:,}: {numbers}"
    yield "numbers", grid["reason"]
    for tried in grid["tried"]:
        yield "", f"tried {tried}"
    filled = f"{grid['filled']:,} of {grid['places']:,} filled, {grid['missing']:,} missing"
    dead = f"{grid['dead_by_header']:,} dead by their headers, {grid['duplicates']:,} duplicates"
    yield "places", f"{filled}, {dead}"


def _rows_of_headers(ranges: dict[str, dict[str, int]]) -> _Rows:
    """Fields that vary, among which the line numbers may be."""
    yield "kind", "no grid was found; these fields of its trace headers vary:"
    for name, field in ranges.items():
        if field["least"] != field["greatest"]:
            yield "", f"byte {field['byte']:>3} {name:<18} {field['least']} to {field['greatest']}"


def _rows_of_bins(bins: Bins | None) -> _Rows:
    if bins is None:
        yield "coordinates", "none"
        return
    (left, right), (low, high) = bins.x, bins.y
    unit = f" {bins.unit}" if bins.unit else ""
    yield "coordinates", f"X {left:.10g} to {right:.10g}, Y {low:.10g} to {high:.10g}{unit}"
    if bins.trace_spacing is not None:
        yield "bins", f"{_length(bins.trace_spacing, bins.unit)} from trace to trace (median)"
    if bins.inline_spacing is not None and bins.crossline_spacing is not None:
        apart = (_length(bins.inline_spacing, bins.unit), _length(bins.crossline_spacing, bins.unit))
        yield "bins", f"{apart[0]} from inline to inline, {apart[1]} from crossline to crossline"
        ways = f"inlines run to {bins.inline_azimuth:.1f}, crosslines to {bins.crossline_azimuth:.1f} degrees"
        yield "azimuth", f"{ways} (clockwise from the Y axis)"


def _rows_of_amplitudes(found: Amplitudes) -> _Rows:
    if found.least is not None and found.greatest is not None and found.percentiles is not None:
        low, middle, high = found.percentiles
        yield "amplitude", f"{found.least:g} to {found.greatest:g}; 0.5 % {low:g}, 50 % {middle:g}, 99.5 % {high:g}"
    share = (
        "" if found.share_of_zeros is None else f"; {found.share_of_zeros:.1%} of the other traces' samples are zero"
    )
    yield "zeros", f"{found.num_all_zero:,} traces hold nothing else{share}"
    yield "no numbers", f"{found.num_nan:,} NaN, {found.num_infinite:,} infinite"
    yield "looked at", f"{found.num_traces:,} traces spread over the file, {found.num_samples:,} samples of each"


def _length(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()


def _shown(name: str) -> str:
    """A name without what would break a line or cannot be printed."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
