"""Stores of surveys, and of salt in them, made of arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.volume.export import copy_source_arrays
from diapir.volume.greys import amplitude_limit
from diapir.volume.ingest import ingest
from diapir.volume.line_numbers import Axis
from diapir.volume.store import Grid, Store, add_volume, array_of, cut_of, finish, new_store, open_store, put_map
from fake_segy import Trace, fake_segy, write

SHUFFLED = (20, 18, 9)
"""Shape of the survey whose traces are in no order."""


def grid_of(shape: tuple[int, ...]) -> Grid:
    """Inlines from 100 on, every second crossline from 300 on, a sample each 4 ms."""
    return Grid(Axis(100, 1, shape[0]), Axis(300, 2, shape[1]), shape[2], 0.0, 4.0, "ms")


def fake_store(
    path: Path,
    volumes: dict[str, NDArray[Any]],
    *,
    live: NDArray[np.bool_] | None = None,
    grid: Grid | None = None,
    **facts: Any,
) -> Store:
    """A finished store of volumes by name: a survey's where `amplitude` is among them."""
    shape = next(iter(volumes.values())).shape
    is_survey = "amplitude" in volumes
    limit = amplitude_limit(volumes["amplitude"]) if is_survey else 1.0
    own = {"kind": "survey" if is_survey else "salt", "digest": "0" * 64, "amplitude": {"limit": limit}}
    store = new_store(path, grid or grid_of(shape), own | facts)
    chunk, shard = cut_of(shape)
    for name, values in volumes.items():
        add_volume(store, name, chunk=chunk, shard=shard)[...] = values
    places = np.indices(shape[:2]).astype(np.float64)
    put_map(store, "live", np.ones(shape[:2], np.bool_) if live is None else live)
    put_map(store, "x", 25 * places[0])
    put_map(store, "y", 12.5 * places[1])
    put_map(store, "trace_row", np.arange(shape[0] * shape[1]).reshape(shape[:2]))
    finish(store, {})
    return open_store(path)


def volume_of(store: Store, name: str) -> NDArray[Any]:
    """A whole volume, past all that checks it."""
    return np.asarray(array_of(store, name)[...])


def shuffled_segy(folder: Path, *, code: int = 5) -> Path:
    """A shuffled file; trace 5 is dead, and the last one has the place of the first."""
    rng = np.random.default_rng(3)
    places = [(10 + inline, 500 + crossline) for inline in range(SHUFFLED[0]) for crossline in range(SHUFFLED[1])]
    places = [places[row] for row in rng.permutation(len(places))]
    traces = [Trace(rng.integers(1, 90, SHUFFLED[2]).tolist(), *place) for place in places]
    traces[5] = Trace(traces[5].samples, *places[5], {(29, 2): 2})
    traces.append(Trace([7] * SHUFFLED[2], *places[0]))
    fields = {(3529, 4): 1}
    return write(folder, fake_segy(traces, code=code, revision=(2, 0), fields=fields, trailer=b"behind--" * 400))


def salt_of_segy(folder: Path, *, code: int = 5) -> tuple[Store, dict[str, NDArray[Any]]]:
    """`salt.zarr` of random volumes, found in that file, and these volumes."""
    ingest(shuffled_segy(folder, code=code), folder / "survey.zarr")
    survey = open_store(folder / "survey.zarr")
    store = new_store(
        folder / "salt.zarr", survey.grid, {"kind": "salt", "threshold": 0.5, "segy": survey.facts["segy"]}
    )
    copy_source_arrays(survey, store)
    rng = np.random.default_rng(4)
    volumes: dict[str, NDArray[Any]] = {
        "probability": rng.random(SHUFFLED).astype(np.float16),
        "disagreement": rng.random(SHUFFLED).astype(np.float16),
        "mask": rng.integers(0, 2, SHUFFLED).astype(np.uint8),
    }
    chunk, shard = cut_of(SHUFFLED)
    for name, values in volumes.items():
        add_volume(store, name, chunk=chunk, shard=shard)[...] = values
    finish(store, {})
    return open_store(store.path), volumes
