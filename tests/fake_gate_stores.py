"""Survey stores and salt stores made by code, small enough for a test."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from diapir.data.statistics import tile_statistics
from diapir.volume.gate_sampling import SurveyStatistics
from diapir.volume.greys import amplitude_limit
from diapir.volume.line_numbers import Axis
from diapir.volume.store import Grid, Store, Unit, add_volume, cut_of, new_store, put_map

Volume = NDArray[np.float32]


def amplitude_store(
    path: Path,
    amplitude: Volume,
    *,
    live: NDArray[np.bool_] | None = None,
    limit: float | None = None,
    interval: float = 4.0,
    unit: Unit = "ms",
    spacing: tuple[float, float] | None = (25.0, 12.5),
) -> Store:
    """A survey of amplitudes (inlines, crosslines, samples).

    Args:
        spacing: from inline to inline, and from crossline to crossline; None for positions that are not known.
    """
    facts = {"kind": "survey", "finished": True, "amplitude": {"limit": limit or amplitude_limit(amplitude)}}
    return _store(
        path, facts, {"amplitude": amplitude}, live=live, interval=interval, unit=unit, spacing=spacing or (np.nan,) * 2
    )


def salt_store(path: Path, disagreement: Volume, *, live: NDArray[np.bool_] | None = None) -> Store:
    """What might have been found in such a survey."""
    return _store(path, {"kind": "salt", "finished": True}, {"disagreement": disagreement}, live=live)


def _store(
    path: Path,
    facts: dict[str, Any],
    volumes: dict[str, Volume],
    *,
    live: NDArray[np.bool_] | None,
    interval: float = 4.0,
    unit: Unit = "ms",
    spacing: tuple[float, float] = (25.0, 12.5),
) -> Store:
    shape = next(iter(volumes.values())).shape
    grid = Grid(Axis(100, 2, shape[0]), Axis(300, 1, shape[1]), shape[2], 0.0, interval, unit)
    store = new_store(path, grid, facts)
    for name, values in volumes.items():
        chunk, shard = cut_of(values.shape)
        add_volume(store, name, chunk=chunk, shard=shard)[...] = values
    inline, crossline = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    put_map(store, "live", np.ones(shape[:2], np.bool_) if live is None else live)
    put_map(store, "x", spacing[1] * crossline)
    put_map(store, "y", spacing[0] * inline)
    put_map(store, "trace_row", inline * shape[1] + crossline)
    return store


def smooth_tiles(count: int, *, seed: int, waves: tuple[float, float] = (2.0, 3.0)) -> NDArray[np.uint8]:
    """Noise smoothed by so many pixels down and across: uint8 (n, 101, 101), of mean 128 and deviation 38."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(count, 101, 101)), (0, *waves))
    tiles: NDArray[np.uint8] = np.clip(128 + 38 * field / field.std(), 0, 255).astype(np.uint8)
    return tiles


def survey_of(tiles: NDArray[np.uint8], **changes: Any) -> SurveyStatistics:
    """What the gate would know of a survey of such tiles."""
    every = tile_statistics(tiles)
    known: dict[str, Any] = {
        "every": every,
        "by_direction": {"inline": every},
        "lines": (),
        "asymmetry_error": 0.01,
        "skewness_error": 0.05,
        "interval": 4.0,
        "unit": "ms",
        "spacing": {"inline": 12.5, "crossline": None},
        "limit": 1000.0,
        "live_share": 1.0,
        "is_mirrored": False,
    }
    return SurveyStatistics(**known | changes)
