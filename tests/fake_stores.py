"""Stores of surveys, and of salt in them, made of arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.volume.greys import amplitude_limit
from diapir.volume.line_numbers import Axis
from diapir.volume.store import Grid, Store, add_volume, array_of, cut_of, finish, new_store, open_store, put_map


def grid_of(shape: tuple[int, ...]) -> Grid:
    """Inlines from 100 on, every second crossline from 300 on, a sample each 4 ms."""
    return Grid(Axis(100, 1, shape[0]), Axis(300, 2, shape[1]), shape[2], 0.0, 4.0, "ms")


def fake_store(
    path: Path, volumes: dict[str, NDArray[Any]], *, live: NDArray[np.bool_] | None = None, **facts: Any
) -> Store:
    """A finished store of volumes by name: a survey's where `amplitude` is among them."""
    shape = next(iter(volumes.values())).shape
    is_survey = "amplitude" in volumes
    limit = amplitude_limit(volumes["amplitude"]) if is_survey else 1.0
    own = {"kind": "survey" if is_survey else "salt", "digest": "0" * 64, "amplitude": {"limit": limit}}
    store = new_store(path, grid_of(shape), own | facts)
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
