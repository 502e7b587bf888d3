"""MDIO stores of stacked surveys into stores of ours; both are Zarr, so that nothing but Zarr is needed."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from diapir.faults import InputError
from diapir.record import provenance
from diapir.runs import (
    atomic_folder,
    json_digest,
    require_new_folder,
    require_outside,
    sha256_of_file,
    sync,
)
from diapir.volume.geometry import NO_TRACE
from diapir.volume.ingest import BAD_SAMPLES, HEADERS_A_CHUNK, amplitude_figures, blocks_of, put_rows, require_some
from diapir.volume.line_numbers import Axis
from diapir.volume.segy_format import FORMATS
from diapir.volume.segy_headers import MOST_PARTS, TRACE_HEADER_BYTES, new_file_header, new_trace_headers
from diapir.volume.shards import put_block
from diapir.volume.store import (
    Grid,
    Store,
    Unit,
    add_volume,
    array_of,
    cut_of,
    finish,
    new_store,
    put_array,
    put_bytes,
    put_map,
)

_AXES: dict[str, tuple[str, Unit]] = {"time": ("time", "ms"), "depth": ("length", "m")}
"""Names of axes down, what they measure, and in what, where the store does not say."""
_UNITS: dict[str, dict[Any, Unit]] = {"time": {"ms": "ms"}, "length": {"m": "m", "ft": "ft"}}
_WANTED = "expected a stacked 3-D survey in an MDIO store of version 1"
_TRACES_LOOKED_AT = 256
_MOST_PLACES = 2**28  # read at once


def is_mdio(path: Path) -> bool:
    """Whether a folder says that it is an MDIO store of version 1."""
    try:
        return "apiVersion" in zarr.open_group(path, mode="r").attrs
    except Exception:  # noqa: BLE001 - of a description that lies zarr and its parts raise whatever comes
        return False


def ingest_mdio(source: Path, out: Path, *, zero_bad: bool = False) -> str:
    """Write a store of an MDIO store, whole or not at all, and say what is in it.

    MDIO does not keep headers byte for byte, so that `export` will write new ones, of SEG-Y revision 1, with inline,
    crossline and CDP where the standard has them.

    Args:
        zero_bad: take samples that are NaN, infinite or beyond float32 as zero.

    Raises:
        InputError: it is no stacked survey in time or depth; samples are no numbers; nothing but zeros; `out` is there.

    Source: MDIO 1.1, dataset templates PostStack3DTime and PostStack3DDepth.
    """
    require_new_folder(out)
    require_outside(out, source)
    group = zarr.open_group(source, mode="r")
    grid = _grid(source, group)
    amplitude = _member(source, group, "amplitude", shape=grid.shape)
    mask = _member(source, group, "trace_mask", shape=grid.shape[:2])
    present = _read(source, mask, ()).astype(np.bool_)
    x, y = (_coordinate(source, group, name, present) for name in ("cdp_x", "cdp_y"))
    parts = _parts(source, x, y)
    with atomic_folder(out) as folder:
        store = new_store(folder, grid, {"kind": "survey", "finished": False})
        live, num_bad = _copy(store, source, amplitude, present)
        if num_bad and not zero_bad:
            what = f"{num_bad} samples are {BAD_SAMPLES}; give --zero-bad to take them as zero, or mend the store"
            raise InputError.of(source / "amplitude", what)
        require_some(source, live)
        rows = np.where(present, np.cumsum(present).reshape(present.shape) - 1, NO_TRACE)
        for name, values in (("live", live), ("trace_row", rows), ("x", x), ("y", y)):
            put_map(store, name, values)
        put_array(store, "duplicates", np.empty((0, 2), np.int64))
        _put_headers(store, present, x, y, parts=parts)
        finish(store, _facts(source, store, live=live, num_bad=num_bad))
        sync(*folder.rglob("*"), folder)
    shape = f"{grid.shape[0]} inlines x {grid.shape[1]} crosslines x {grid.shape[2]} samples"
    return f"{out}: {shape}, from MDIO; {live.sum()} of {present.sum()} traces are live"


def _member(source: Path, group: zarr.Group, name: str, *, shape: tuple[int, ...] | None = None) -> zarr.Array[Any]:
    """An array of numbers of the store; without a `shape`, one of a single axis."""
    try:
        array = group[name]
    except Exception:  # noqa: BLE001 - as above
        array = None
    if not isinstance(array, zarr.Array) or array.dtype.kind not in "fiub":
        raise InputError.of(source, f"{_WANTED}, found no numbers in an array {name}; ingest its SEG-Y file instead")
    if array.shape != shape and (shape is not None or len(array.shape) != 1 or not array.shape[0]):
        wanted = "one axis" if shape is None else f"{shape}, as its axes say"
        raise InputError.of(source / name, f"expected {wanted}, found {array.shape}; ingest its SEG-Y file instead")
    if len(array.shape) < 3 and math.prod(array.shape) > _MOST_PLACES:
        raise InputError.of(source / name, f"its shape is none that a survey has: {array.shape}; use another copy")
    return array


def _read(source: Path, array: zarr.Array[Any], block: tuple[slice, ...]) -> NDArray[Any]:
    """Some of an array, or all of it.

    Raises:
        InputError: its bytes are damaged, or cannot be read.
    """
    try:
        return np.asarray(array[block or ...])
    except Exception as error:  # noqa: BLE001 - of damaged chunks zarr and its codecs raise whatever comes
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise InputError.of(source / array.basename, f"it cannot be read ({reason}); use another copy") from None


def _grid(source: Path, group: zarr.Group) -> Grid:
    axis = next((name for name in _AXES if name in group), None)
    if axis is None:
        raise InputError.of(source, f"{_WANTED}, found neither time nor depth; ingest its SEG-Y file instead")
    first, step, count = _even(source, group, axis)
    inlines, crosslines = (_even(source, group, name) for name in ("inline", "crossline"))
    lines = [Axis(int(found[0]), int(found[1]), found[2]) for found in (inlines, crosslines)]
    return Grid(lines[0], lines[1], count, first, step, _unit(source, group, axis))


def _unit(source: Path, group: zarr.Group, axis: str) -> Unit:
    """What an axis is counted in.

    Source: MDIO 1.1, `unitsV1` of variables.
    """
    measure, usual = _AXES[axis]
    units = group[axis].attrs.get("unitsV1")
    found = units.get(measure, usual) if isinstance(units, dict) else usual
    if not isinstance(found, str) or found not in _UNITS[measure]:
        what = f"expected it in {' or '.join(_UNITS[measure])}, found {found!r}; ingest its SEG-Y file instead"
        raise InputError.of(source / axis, what)
    return _UNITS[measure][found]


def _even(source: Path, group: zarr.Group, name: str) -> tuple[float, float, int]:
    """First, step and number of an axis."""
    numbers = _read(source, _member(source, group, name), ()).astype(np.float64)
    steps = np.diff(numbers)
    step = float(steps[0]) if len(steps) else 1.0
    is_whole = name in _AXES or (numbers == np.rint(numbers)).all()
    is_sound = np.isfinite(numbers).all() and np.abs(numbers).max() < MOST_PARTS
    if not (is_sound and step > 0 and np.allclose(steps, step, rtol=1e-6) and is_whole):
        raise InputError.of(source / name, "expected even steps upwards, found others; ingest its SEG-Y file instead")
    return float(numbers[0]), step, len(numbers)


def _coordinate(source: Path, group: zarr.Group, name: str, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """NaN where there is no trace, or no such array."""
    if name not in group:
        return np.full(present.shape, np.nan)
    values = _read(source, _member(source, group, name, shape=present.shape), ()).astype(np.float64)
    return np.where(present, values, np.nan)


def _copy(
    store: Store, source: Path, amplitude: zarr.Array[Any], present: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], int]:
    """Samples, block after block; gives which traces are live, and how many samples were no numbers."""
    chunk, shard = cut_of(store.grid.shape)
    add_volume(store, "amplitude", chunk=chunk, shard=shard)
    live, num_bad = np.zeros(present.shape, np.bool_), 0
    console = Console(stderr=True)
    blocks = blocks_of(present.shape, shard)
    for block in track(blocks, "ingesting", console=console, disable=not console.is_terminal):
        values = _read(source, amplitude, block).astype(np.float32)
        values[~present[block]] = 0
        is_number = np.isfinite(values)
        num_bad += int((~is_number).sum())
        values[~is_number] = 0
        live[block] = values.any(2)
        put_block(store, "amplitude", values, at=(block[0].start, block[1].start))
    return live, num_bad


def _parts(source: Path, x: NDArray[np.float64], y: NDArray[np.float64]) -> int:
    """Of a metre, that the greatest coordinate can be counted in: a hundred, ten, or one.

    Raises:
        InputError: it fits no header.
    """
    greatest = max(float(np.nanmax(np.abs(values), initial=0)) for values in (x, y))
    fitting = [parts for parts in (100, 10, 1) if parts * greatest <= MOST_PARTS]
    if not fitting:
        what = f"expected coordinates up to {MOST_PARTS}, which headers of SEG-Y hold, found {greatest:g}"
        raise InputError.of(source, f"{what} in cdp_x or cdp_y; ingest its SEG-Y file instead")
    return fitting[0]


def _put_headers(
    store: Store, present: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64], *, parts: int
) -> None:
    """New ones for every trace, inline after inline."""
    grid, places = store.grid, np.argwhere(present)
    header = new_file_header(
        num_samples=grid.num_samples,
        interval_us=1000 * grid.interval,
        stored=FORMATS["ieee32"],
        lines=("WRITTEN BY DIAPIR FROM AN MDIO STORE; HEADERS ARE NEW", "INLINE: BYTE 189, CROSSLINE: BYTE 193"),
    )
    put_bytes(store, "file_header", [header], size=len(header))
    put_bytes(store, "trailer", [], size=0)

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(places), HEADERS_A_CHUNK):
            inline, crossline = places[start : start + HEADERS_A_CHUNK].T
            yield new_trace_headers(
                inline=grid.inlines.first + grid.inlines.step * inline,
                crossline=grid.crosslines.first + grid.crosslines.step * crossline,
                cdp_x=np.nan_to_num(x[inline, crossline]),
                cdp_y=np.nan_to_num(y[inline, crossline]),
                num_samples=grid.num_samples,
                interval_us=1000 * grid.interval,
                first_row=start,
                parts=parts,
            )

    put_rows(store, "trace_headers", pieces(), shape=(len(places), TRACE_HEADER_BYTES))


def _facts(source: Path, store: Store, *, live: NDArray[np.bool_], num_bad: int) -> dict[str, Any]:
    places = np.argwhere(live)
    chosen = places[np.linspace(0, len(places) - 1, min(len(places), _TRACES_LOOKED_AT)).astype(np.int64)]
    volume = array_of(store, "amplitude")
    values = np.stack([np.asarray(volume[int(inline), int(crossline)]) for inline, crossline in chosen])
    content = hashlib.sha256()
    for file in sorted((store.path / "amplitude" / "c").rglob("*")):
        content.update(sha256_of_file(file).encode() if file.is_file() else b"")
    identity = {
        "source": {"name": source.name, "kind": "MDIO", "amplitude": content.hexdigest()},
        "segy": {"order": "big", "format": "ieee32"},
        "num_bad_samples": num_bad,
        "grid": asdict(store.grid),
        "live": hashlib.sha256(live.tobytes()).hexdigest(),
    }
    return {
        **identity,
        "digest": json_digest(identity),
        "num_live": int(live.sum()),
        "amplitude": amplitude_figures(values),
        "provenance": provenance(),
    }
