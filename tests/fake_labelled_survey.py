"""A small survey in a store, and labels of it in every form that they come in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from diapir.volume.greys import amplitude_limit
from diapir.volume.line_numbers import Axis
from diapir.volume.store import Grid, Store, add_volume, cut_of, finish, new_store, open_store, put_map
from diapir.volume.synthetic_survey import SyntheticSurvey, make_survey
from fake_png import png
from fake_segy import Trace, fake_segy

INLINES, CROSSLINES = Axis(100, 2, 40), Axis(300, 1, 32)
SAMPLES = 120


def small_survey(seed: int = 3) -> SyntheticSurvey:
    """With salt in many sections."""
    return make_survey(
        inlines=INLINES.count, crosslines=CROSSLINES.count, samples=SAMPLES, seed=seed, kinds=("dome", "sheet")
    )


def write_store(
    path: Path, amplitude: NDArray[np.float32], *, live: NDArray[np.bool_] | None = None, unit: str = "ms"
) -> Store:
    """A survey store of that content, with the lines' usual first numbers."""
    count, crosslines, samples = amplitude.shape
    inlines, others = Axis(INLINES.first, INLINES.step, count), Axis(CROSSLINES.first, CROSSLINES.step, crosslines)
    grid = Grid(inlines, others, samples, 0.0, 4.0, unit)  # type: ignore[arg-type]
    store = new_store(path, grid, {"kind": "survey", "finished": False})
    chunk, shard = cut_of(grid.shape)
    add_volume(store, "amplitude", chunk=chunk, shard=shard)[...] = amplitude
    live = np.ones(grid.shape[:2], np.bool_) if live is None else live
    for name, values in (
        ("live", live),
        ("x", np.full(live.shape, np.nan)),
        ("y", np.full(live.shape, np.nan)),
        ("trace_row", np.arange(live.size).reshape(live.shape)),
    ):
        put_map(store, name, values)
    finish(store, {"amplitude": {"limit": amplitude_limit(amplitude)}})
    return open_store(path)


def write_picture(path: Path, mask: NDArray[Any]) -> Path:
    """A section's mask (samples, traces) as greys: 0, 255, and 128 where it is 255, unknown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    greys = np.select([mask == 1, mask == 0], [255, 0], 128).astype(np.uint8)
    path.write_bytes(png(greys))
    return path


def write_segy_labels(path: Path, traces: Mapping[tuple[int, int], NDArray[Any]], **changes: Any) -> Path:
    """A SEG-Y file of samples by inline and crossline number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [Trace(values.tolist(), inline=il, crossline=xl) for (il, xl), values in traces.items()]
    path.write_bytes(fake_segy(rows, **changes))
    return path


def write_zarr_labels(path: Path, values: NDArray[Any], *, name: str | None = None) -> Path:
    """An array, by itself or in a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = tuple(min(side, 16) for side in values.shape)
    if name is None:
        array = zarr.create_array(path, shape=values.shape, dtype=values.dtype, chunks=chunks, fill_value=0)
    else:
        array = zarr.open_group(path, mode="w", zarr_format=3).create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=chunks
        )
    array[...] = values
    return path
