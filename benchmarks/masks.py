"""The masks that benchmarks measure on: made by code, or those of a data set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from diapir.data.tgs import open_data

SIDE = 101


def take_masks(number: int, *, folder: Path | None) -> NDArray[np.uint8]:
    """The labelled masks of a data set, repeated up to the number, or else masks made by code."""
    if folder is None:
        return _blobs(number)
    masks = open_data(folder).labelled.masks
    assert masks is not None
    return masks[np.arange(number) % len(masks)]


def _blobs(number: int) -> NDArray[np.uint8]:
    """Blobs of salt, four in ten tiles without; some 30 runs a tile, like the competition's."""
    rng = np.random.default_rng(0)
    field = np.empty((number, SIDE, SIDE), np.float32)
    for tile in field:
        smooth = gaussian_filter(rng.standard_normal((SIDE, SIDE), np.float32), 20)
        rim = gaussian_filter(rng.standard_normal((SIDE, SIDE), np.float32), 1.5)
        tile[...] = smooth / smooth.std() + 0.02 * rim
    threshold = np.where(rng.random(number) < 0.4, np.inf, rng.uniform(-1.5, 2.5, number))
    masks: NDArray[np.uint8] = (field > threshold[:, None, None]).astype(np.uint8)
    return masks
