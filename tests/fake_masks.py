"""Masks made by code: blobs like salt, and the edges of what a mask can be."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def blob_masks(number: int, *, seed: int = 0, side: int = 101) -> NDArray[np.uint8]:
    """Smooth blobs of every size, among them empty and full masks: uint8 (number, side, side)."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(number, side, side)), sigma=(0, side / 12, side / 12))
    field /= field.std()
    masks: NDArray[np.uint8] = (field > rng.uniform(-1.5, 4, (number, 1, 1))).astype(np.uint8)
    masks[: number // 8] = 0
    masks[-1:] = 1
    return masks
