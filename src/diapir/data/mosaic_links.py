"""Which tiles continue each other: edges drawn out by one pixel, and for each the edge most like it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

Side = Literal["left", "right", "top", "bottom"]

MOST_DISTANCE = 10.0
"""Edges at this distance or more never link. Source: the 1st place's; for 101 pixels, a correlation of 0.5."""
LEAST_COMPATIBILITY = 0.25
"""A link's compatibility is greater than this. Source: the 1st place's; the 4th's is 0.20."""
# Edges looked up at once: their likeness to 22,000 others is 11 MB, near a processor's cache.
_BLOCK = 128


@dataclass(frozen=True)
class Links:
    """Pairs of tiles that continue each other.

    Args:
        first: int64 (k,), the left or the upper tile of each pair.
        second: int64 (k,), the tile right of it or below it.
        is_below: bool (k,), whether `second` is below.
        strength: float64 (k,), from 0 to 1: the lesser compatibility of both directions.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_below: NDArray[np.bool_]
    strength: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class _Edges:
    """One side of every tile.

    Args:
        outer, inner: uint8 (n, length), the last line of pixels on that side and the one before it.
        drawn_out: float64 (n, length), the line beyond, standardised to mean 0 and norm 1; zero where it is flat.
    """

    outer: NDArray[np.uint8]
    inner: NDArray[np.uint8]
    drawn_out: NDArray[np.float64]


@dataclass(frozen=True)
class _Nearest:
    """For each of n edges, the edge most like it: whose it is, how far it is, and 1 - d1 / d2."""

    tile: NDArray[np.int64]
    distance: NDArray[np.float64]
    compatibility: NDArray[np.float64]


def find_links(
    images: NDArray[np.uint8],
    *,
    most_distance: float = MOST_DISTANCE,
    least_compatibility: float = LEAST_COMPATIBILITY,
    advance: Callable[[int], None] = lambda edges: None,
) -> Links:
    """Pairs of tiles of which each is the other's nearest, and clearly nearer than the second nearest.

    Each side is drawn out by one pixel, linearly; each position along it is standardised over all tiles, then each edge
    to mean 0 and deviation 1. The compatibility of an edge is 1 - d1 / d2, Euclidean distances to its nearest and to
    its second nearest edge on the other side, a tile's own among them. An edge of one grey never links, so no constant
    tile does; nor do mirror images, whose edges are the same but whose pictures run back.

    Args:
        images: uint8 (n, height, width).
        advance: told how many more edges were looked up, of 4 n.

    Source: the 1st and 4th places' search (systems of 2018); that the nearness must be mutual was added by the team.
    """
    if not len(images):
        none = np.zeros(0, np.int64)
        return Links(none, none, np.zeros(0, np.bool_), np.zeros(0, np.float64))
    limits = {"most_distance": most_distance, "least_compatibility": least_compatibility}
    across = _link_sides(_edges(images, "right"), _edges(images, "left"), is_below=False, advance=advance, **limits)
    down = _link_sides(_edges(images, "bottom"), _edges(images, "top"), is_below=True, advance=advance, **limits)
    return Links(
        first=np.concatenate([across.first, down.first]),
        second=np.concatenate([across.second, down.second]),
        is_below=np.concatenate([across.is_below, down.is_below]),
        strength=np.concatenate([across.strength, down.strength]),
    )


def _edges(images: NDArray[np.uint8], side: Side) -> _Edges:
    match side:
        case "left":
            outer, inner = images[:, :, 0], images[:, :, 1]
        case "right":
            outer, inner = images[:, :, -1], images[:, :, -2]
        case "top":
            outer, inner = images[:, 0], images[:, 1]
        case "bottom":
            outer, inner = images[:, -1], images[:, -2]
        case _:
            assert_never(side)
    return _Edges(outer, inner, _standardised(2 * outer.astype(np.int64) - inner))


def _standardised(edges: NDArray[np.int64]) -> NDArray[np.float64]:
    is_flat = edges.max(1) == edges.min(1)
    centred = edges - edges.mean(0)
    spread = centred.std(0)
    even = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    even -= even.mean(1, keepdims=True)
    norm = np.linalg.norm(even, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(even, norm, out=np.zeros_like(even), where=norm > 0)
    # A flat edge says nothing of what follows; zero is equally far from all edges, so its compatibility is none.
    unit[is_flat] = 0
    return unit


def _link_sides(
    one: _Edges,
    other: _Edges,
    *,
    is_below: bool,
    most_distance: float,
    least_compatibility: float,
    advance: Callable[[int], None],
) -> Links:
    """Links of tiles over their side `one` to tiles over their side `other`."""
    forth = _nearest(one.drawn_out, other.drawn_out, advance=advance)
    back = _nearest(other.drawn_out, one.drawn_out, advance=advance)
    first, second = np.arange(len(forth.tile)), forth.tile
    strength = np.minimum(forth.compatibility, back.compatibility[second])
    is_mirrored = (one.outer == other.outer[second]).all(1) & (one.inner == other.inner[second]).all(1)
    is_link = (back.tile[second] == first) & (first != second) & ~is_mirrored
    is_link &= (forth.distance < most_distance) & (strength > least_compatibility)
    first = first[is_link]
    return Links(first, second[is_link], np.full(len(first), is_below), strength[is_link])


def _nearest(edges: NDArray[np.float64], others: NDArray[np.float64], *, advance: Callable[[int], None]) -> _Nearest:
    """Each edge's nearest of the others; distances are those of edges with deviation 1."""
    count, length = edges.shape
    transposed = np.ascontiguousarray(others.T, np.float32)
    best, second = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for start in range(0, count, _BLOCK):
        rows = np.s_[start : start + _BLOCK]
        # Of edges with equal norms, the most correlated are the nearest.
        likeness = edges[rows].astype(np.float32) @ transposed
        best[rows] = likeness.argmax(1)
        likeness[np.arange(len(likeness)), best[rows]] = -np.inf
        second[rows] = likeness.argmax(1)
        advance(len(likeness))
    # float32 is fine enough to find the two, not to compare them.
    first_d, second_d = (
        np.sqrt(length - 1) * np.linalg.norm(edges - others[found], axis=1) for found in (best, second)
    )
    is_swapped = second_d < first_d
    best = np.where(is_swapped, second, best)
    first_d, second_d = np.minimum(first_d, second_d), np.maximum(first_d, second_d)
    ratio = np.divide(first_d, second_d, out=np.ones_like(first_d), where=second_d > 0)
    return _Nearest(best, first_d, 1 - ratio)
