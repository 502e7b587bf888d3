"""Salt stores as segmenting writes them, made of probabilities at hand, or of a made survey's smeared truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from diapir.volume.line_numbers import Axis
from diapir.volume.store import Grid, Store, Unit, add_volume, cut_of, finish, new_store, open_store, put_map
from diapir.volume.synthetic_survey import SyntheticSurvey, trace_positions

FIRST_MS, INTERVAL_MS = 400.0, 4.0
INLINE_M, CROSSLINE_M = 25.0, 12.5


def write_salt(
    path: Path,
    probability: NDArray[np.floating[Any]],
    *,
    mask: NDArray[Any] | None = None,
    disagreement: NDArray[np.floating[Any]] | None = None,
    live: NDArray[np.bool_] | None = None,
    xy: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    unit: Unit = "ms",
    facts: Mapping[str, Any] | None = None,
) -> Store:
    """A salt store of inlines 100, 102.. and crosslines 300, 301..; positions on a straight grid, if none are given."""
    shape = probability.shape
    inlines, crosslines = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    x, y = xy or (500_000.0 + CROSSLINE_M * crosslines, 6_000_000.0 + INLINE_M * inlines)
    grid = Grid(Axis(100, 2, shape[0]), Axis(300, 1, shape[1]), shape[2], FIRST_MS, INTERVAL_MS, unit)
    store = new_store(path, grid, {"kind": "salt", "finished": False, "threshold": 0.5, **(facts or {})})
    chunk, shard = cut_of(shape)
    values = {
        "probability": probability,
        "disagreement": np.zeros(shape) if disagreement is None else disagreement,
        "mask": probability > 0.5 if mask is None else mask,
    }
    for name, volume in values.items():
        add_volume(store, name, chunk=chunk, shard=shard)[...] = volume
    live = np.ones(shape[:2], np.bool_) if live is None else live
    for name, one in (("live", live), ("x", x), ("y", y), ("trace_row", np.arange(live.size).reshape(live.shape))):
        put_map(store, name, one)
    finish(store, {})
    return open_store(path)


def smeared(survey: SyntheticSurvey, *, samples: float = 1.5) -> NDArray[np.float32]:
    """Probabilities of a made survey's salt, its top and base so many samples wide."""
    return np.asarray(gaussian_filter1d(survey.salt.astype(np.float32), samples, axis=2))


def positions_of(survey: SyntheticSurvey) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As the survey's headers say them."""
    return trace_positions(survey.grid, inlines=survey.salt.shape[0], crosslines=survey.salt.shape[1])
