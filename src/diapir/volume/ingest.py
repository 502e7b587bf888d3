"""SEG-Y files into stores: every sample to its place in the grid, and every other byte kept."""

import math
import os
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from zarr.codecs import ZstdCodec

from diapir.faults import InputError
from diapir.record import provenance
from diapir.runs import atomic_folder, json_digest, require_new_folder, sha256_of_file, sync
from diapir.volume.geometry import NO_TRACE, Geometry, coordinates, find_geometry
from diapir.volume.greys import amplitude_limit
from diapir.volume.segy import Segy, file_header, open_segy, raw_headers, samples, traces, trailer
from diapir.volume.shards import put_block
from diapir.volume.store import Grid, Store, Unit, add_volume, cut_of, finish, new_store, put_array, put_bytes, put_map

_SAMPLES_LOOKED_AT, _TRACES_LOOKED_AT = 4_000_000, 4096
HEADERS_A_CHUNK = 16384
_FIRST_INEXACT = 2**24
"""Below this float32 holds every whole number; the next above becomes this."""
BAD_SAMPLES = "NaN, infinite or beyond ±3.4e38 (what float32 holds)"
_FARTHEST = 1e6
"""Where traces may begin: no record of the earth is a quarter of an hour long, or a thousand kilometres deep."""
_PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
_HEADERS = "headers.part"


@dataclass(frozen=True, eq=False)
class _Work:
    """A file on its way into a store.

    Args:
        headers: descriptor of a file that takes the trace headers in the order of the SEG-Y file.
        live: bool (inlines, crosslines), filled on the way.
        bad: samples that are no number, by the row of their trace; filled on the way.
        large: how many whole numbers are so large that float32 may not hold them, part by part; filled on the way.
    """

    store: Store
    segy: Segy
    geometry: Geometry
    headers: int
    live: NDArray[np.bool_]
    bad: dict[int, int]
    large: list[int]


def ingest(
    source: Path,
    out: Path,
    *,
    asked: Mapping[str, Any] | None = None,
    inline_byte: int | None = None,
    crossline_byte: int | None = None,
    unit: Unit = "ms",
    first_sample: float | None = None,
    zero_bad: bool = False,
) -> str:
    """Write a store of a SEG-Y file, whole or not at all, and say what is in it.

    Memory goes with the number of traces, some 100 bytes each, or 250 where the bytes of their numbers are looked
    for, and not with the size of the file.

    Args:
        asked: what `open_segy` takes besides the path.
        unit: of the samples' interval; SEG-Y files do not say whether they are in time or in depth.
        first_sample: where all traces begin, in that unit; None for what their headers say.
        zero_bad: take samples that are NaN, infinite or beyond float32 as zero.

    Raises:
        InputError: as `open_segy` and `find_geometry`; traces that do not begin together; samples that are no numbers;
            nothing but zeros; `out` is there.
    """
    require_new_folder(out)
    if first_sample is not None and not abs(first_sample) <= _FARTHEST:
        what = f"expected a number from -{_FARTHEST:g} to {_FARTHEST:g}, found {first_sample}"
        raise InputError.of("--first-sample", what)
    segy = open_segy(source, **(asked or {}))
    geometry = find_geometry(segy, inline_byte=inline_byte, crossline_byte=crossline_byte)
    first = _first_sample(segy, geometry) if first_sample is None else first_sample
    grid = Grid(geometry.inlines, geometry.crosslines, segy.num_samples, first, segy.interval_us / 1000, unit)
    # Before the work, which somebody who reads them may not want to wait for.
    for warning in (*segy.warnings, *geometry.warnings):
        print(f"note: {warning}", file=sys.stderr)
    with atomic_folder(out) as folder, ThreadPoolExecutor(1) as beside:
        digest = beside.submit(sha256_of_file, source)
        store = new_store(folder, grid, {"kind": "survey", "finished": False})
        work = _write_traces(store, segy, geometry, zero_bad=zero_bad)
        live, rounded = work.live, tuple(_rounded(segy, num_large=sum(work.large)))
        put_map(store, "live", live)
        put_map(store, "trace_row", geometry.trace_rows)
        for name, values in zip(("x", "y"), coordinates(segy, geometry), strict=True):
            put_map(store, name, values)
        put_array(store, "duplicates", geometry.duplicates)
        put_bytes(store, "file_header", [file_header(segy)], size=segy.layout.first_trace)
        put_bytes(store, "trailer", trailer(segy), size=segy.size - segy.end_of_traces)
        facts = _facts(segy, geometry, grid, live=live, num_bad=sum(work.bad.values()), sha256=digest.result())
        facts["warnings"] += rounded
        finish(store, facts)
        sync(*folder.rglob("*"), folder)
    for warning in rounded:
        print(f"note: {warning}", file=sys.stderr)
    return _summary(out, segy, geometry, live=live)


def _first_sample(segy: Segy, geometry: Geometry) -> float:
    """Where all traces begin.

    Raises:
        InputError: some begin elsewhere, so that samples of different times would lie side by side.
    """
    if not geometry.start.is_common:
        what = f"expected traces that begin together, found others: {geometry.start}; shift them to one beginning"
        raise InputError.of(segy.path, f"{what} where they come from, or give that of all of them with --first-sample")
    return geometry.start.ms


def _rounded(segy: Segy, *, num_large: int) -> Iterator[str]:
    """What a store does not hold of numbers that are finer than its own."""
    name = segy.layout.stored.name
    if name == "ieee64":
        yield "its samples (ieee64) are kept as float32, to some seven digits, also where they have more"
    elif num_large:
        yield (
            f"{num_large} samples ({name}) are {_FIRST_INEXACT} or more; they are kept as float32, to some seven "
            f"digits, and the last ones of an exported file may differ"
        )


def _write_traces(store: Store, segy: Segy, geometry: Geometry, *, zero_bad: bool) -> _Work:
    """Samples and headers of all traces; gives what was found on the way."""
    chunk, shard = cut_of(store.grid.shape)
    add_volume(store, "amplitude", chunk=chunk, shard=shard)
    place = store.path / _HEADERS
    with place.open("wb") as file:
        work = _Work(store, segy, geometry, file.fileno(), np.zeros(geometry.shape, np.bool_), {}, [])
        _write_headers(work, geometry.duplicates[:, 0])
        blocks = blocks_of(geometry.shape, shard)
        console = Console(stderr=True)
        size = math.prod(shard[:2]) * store.grid.num_samples
        # Closed before the file of headers is: a stop may come between two blocks.
        with closing(_in_two_threads(work, blocks, size=size)) as done:
            for _ in track(done, "ingesting", total=len(blocks), console=console, disable=not console.is_terminal):
                pass
    _require_good(segy.path, work.bad, zero_bad=zero_bad)
    require_some(segy.path, work.live)
    _keep_headers(store, segy, place)
    return work


def _in_two_threads(work: _Work, blocks: list[tuple[slice, slice]], *, size: int) -> Generator[None]:
    """Blocks one after another, one being read while another is written; no more than that are in memory.

    Args:
        size: samples of a block, with room for those that are not there.
    """
    # Memory that is taken anew for every block costs more time than what is done with it.
    buffers = np.empty((2, size), np.float32)
    running: deque[Future[list[Path]]] = deque()
    syncing: deque[Future[None]] = deque()

    def end_oldest() -> None:
        # What is written goes on to the disk at once, not in one long wait at the end.
        syncing.append(beside.submit(sync, *running.popleft().result()))
        # A disk that fails is told before all is read.
        while syncing and syncing[0].done():
            syncing.popleft().result()

    with ThreadPoolExecutor(2) as pool, ThreadPoolExecutor(1) as beside:
        try:
            for number, block in enumerate(blocks):
                if number >= 2:
                    end_oldest()
                    yield
                running.append(pool.submit(_write_block, work, block, buffers[number % 2]))
            while running:
                end_oldest()
                yield
            for synced in syncing:
                synced.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            beside.shutdown(cancel_futures=True)


def _write_block(work: _Work, block: tuple[slice, slice], buffer: NDArray[np.float32]) -> list[Path]:
    """Samples and headers of the traces of a block; gives the files that hold its samples."""
    rows = work.geometry.trace_rows[block]
    present = rows != NO_TRACE
    order = np.argsort(rows[present], kind="stable")
    in_file = rows[present][order]
    inlines, crosslines = (places[order] for places in np.nonzero(present))
    whole = buffer[: rows.size * work.segy.num_samples].reshape(*rows.shape, work.segy.num_samples)
    whole[~present] = 0
    live = np.zeros(rows.shape, np.bool_)
    for span, headers, values in traces(work.segy, in_file):
        _put_rows(work.headers, headers, in_file[span])
        _note_odd(work, values, in_file[span])
        here = inlines[span], crosslines[span]
        whole[here] = values
        live[here] = values.any(1)
    work.live[block] = live & ~work.geometry.is_dead[block]
    return put_block(work.store, "amplitude", whole, at=(block[0].start, block[1].start))


def _note_odd(work: _Work, values: NDArray[np.float32], in_file: NDArray[np.int64]) -> None:
    """Count samples that float32 may not hold, and those that are no numbers, which become zero."""
    stored = work.segy.layout.stored
    if stored.is_finer and not stored.is_float:
        work.large.append(int((np.abs(values) >= _FIRST_INEXACT).sum()))
    is_number = np.isfinite(values)
    if not is_number.all():
        values[~is_number] = 0
        counts = (~is_number).sum(1)
        work.bad.update({int(in_file[row]): int(counts[row]) for row in np.flatnonzero(counts)})


def _write_headers(work: _Work, rows: NDArray[np.int64]) -> None:
    """Headers of traces that have no place of their own."""
    for start in range(0, len(rows), HEADERS_A_CHUNK):
        some = np.sort(rows[start : start + HEADERS_A_CHUNK])
        _put_rows(work.headers, raw_headers(work.segy, some), some)


def _put_rows(handle: int, headers: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
    size = headers.shape[1]
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
        if len(run):
            content = memoryview(headers[run[0] : run[-1] + 1].tobytes())
            place = int(rows[run[0]]) * size
            while content:
                written = os.pwrite(handle, content, place)
                content, place = content[written:], place + written


def _keep_headers(store: Store, segy: Segy, place: Path) -> None:
    """From the file of headers, which goes, to an array of the store."""

    def pieces() -> Iterator[NDArray[np.uint8]]:
        with place.open("rb") as file:
            while content := file.read(HEADERS_A_CHUNK * segy.header_bytes):
                yield np.frombuffer(content, np.uint8).reshape(-1, segy.header_bytes)

    put_rows(store, "trace_headers", pieces(), shape=(segy.num_traces, segy.header_bytes))
    place.unlink()


def put_rows(store: Store, name: str, pieces: Iterable[NDArray[np.uint8]], *, shape: tuple[int, int]) -> None:
    """Write rows of bytes that come HEADERS_A_CHUNK at a time: uint8 of that shape."""
    array = store.group.create_array(
        name,
        shape=shape,
        dtype=np.uint8,
        chunks=(min(HEADERS_A_CHUNK, shape[0]), shape[1]),
        compressors=ZstdCodec(level=1, checksum=True),
    )
    start = 0
    for piece in pieces:
        array[start : start + len(piece)] = piece
        start += len(piece)
    assert start == shape[0]


def blocks_of(shape: Sequence[int], shard: Sequence[int]) -> list[tuple[slice, slice]]:
    """Inlines and crosslines under each shard of a volume, or whole column of them."""
    return [
        (slice(first, first + shard[0]), slice(second, second + shard[1]))
        for first, second in product(range(0, shape[0], shard[0]), range(0, shape[1], shard[1]))
    ]


def require_some(path: Path, live: NDArray[np.bool_]) -> None:
    """Refuse a survey without a live trace."""
    if not live.any():
        raise InputError.of(path, "every sample is zero, or every trace is dead: nothing can be found in it")


def _require_good(path: Path, bad: Mapping[int, int], *, zero_bad: bool) -> None:
    if bad and not zero_bad:
        what = f"{sum(bad.values())} samples in {len(bad)} traces are {BAD_SAMPLES}"
        raise InputError.of(
            path, f"{what}, first in trace {min(bad) + 1}; give --zero-bad to take them as zero, or mend the file"
        )


def _facts(
    segy: Segy, geometry: Geometry, grid: Grid, *, live: NDArray[np.bool_], num_bad: int, sha256: str
) -> dict[str, Any]:
    """What a store says of itself; plain JSON values."""
    source = {"name": segy.path.name, "bytes": segy.size, "sha256": sha256}
    layout = segy.layout
    identity: dict[str, Any] = {
        "source": source,
        "segy": {
            "order": layout.order,
            "format": layout.stored.name,
            "revision": list(layout.revision),
            "interval_us": layout.interval_us,
            "num_samples": layout.num_samples,
            "num_traces": layout.num_traces,
        },
        "geometry": {
            "kind": geometry.kind,
            "inlines": str(geometry.inlines),
            "crosslines": str(geometry.crosslines),
            "inline_byte": geometry.inline_byte,
            "crossline_byte": geometry.crossline_byte,
        },
        "num_bad_samples": num_bad,
        "unit": grid.unit,
    }
    # Where it is another than the first trace's, which the file itself tells.
    if grid.first_sample != segy.delay_ms:
        identity["first_sample"] = grid.first_sample
    return {
        **identity,
        "digest": json_digest(identity),
        "reason": geometry.reason,
        "warnings": [*segy.warnings, *geometry.warnings],
        "num_live": int(live.sum()),
        "amplitude": _amplitudes(segy, np.sort(geometry.trace_rows[live])),
        "provenance": provenance(),
    }


def _amplitudes(segy: Segy, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Figures of an even spread of live traces."""
    count = min(len(rows), max(_SAMPLES_LOOKED_AT // segy.num_samples, 1), _TRACES_LOOKED_AT)
    chosen = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    values = np.nan_to_num(samples(segy, chosen), nan=0.0, posinf=0.0, neginf=0.0)
    return amplitude_figures(values)


def amplitude_figures(values: NDArray[np.float32]) -> dict[str, Any]:
    """What a store says of its amplitudes, from those of some live traces (n, samples)."""
    percentiles = np.percentile(values, _PERCENTILES).tolist()
    return {
        "limit": amplitude_limit(values),
        "traces_looked_at": len(values),
        "percentiles": dict(zip(map(str, _PERCENTILES), percentiles, strict=True)),
    }


def _summary(out: Path, segy: Segy, geometry: Geometry, *, live: NDArray[np.bool_]) -> str:
    shape = f"{geometry.shape[0]} inlines x {geometry.shape[1]} crosslines x {segy.num_samples} samples"
    num_others = int((geometry.duplicates[:, 1] != NO_TRACE).sum())
    others = f", {num_others} more have the place of another" if num_others else ""
    told = f"{live.sum()} of {segy.num_traces - num_others} traces are live{others}"
    return f"{out}: {shape}, {geometry.kind}; {told} ({geometry.reason})"
