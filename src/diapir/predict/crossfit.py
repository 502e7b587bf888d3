"""Parts of the held-out tiles, each left out once: what the others decide is tried on it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def crossed_parts(count: int, *, parts: int = 5, seed: int = 0) -> Iterator[tuple[Rows, Rows]]:
    """Rows of each part, and of all others; a tile that is alone decides for itself.

    Args:
        parts: that the tiles are cut into at random; no more than there are tiles.

    Source: Stone (1974), Cross-validatory choice and assessment of statistical predictions, section 2.
    """
    part = np.random.default_rng(seed).permutation(count) % min(parts, max(count, 1))
    for one in range(int(part.max(initial=-1)) + 1):
        own, others = np.flatnonzero(part == one), np.flatnonzero(part != one)
        yield own, others if len(others) else own
