"""Surfaces as triangles: sheets over a map, the body between two of them, and PLY files that common viewers open."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diapir.runs import atomic_path

Points = NDArray[np.float64]
Triangles = NDArray[np.int64]

_AFTER = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
"""Corners of a cell of the map, around it: steps of the inline, and of the crossline."""


def triangulate(is_known: NDArray[np.bool_], x: Points, y: Points) -> tuple[NDArray[np.int64], Triangles]:
    """Two triangles for each cell of the map all of whose corners are known, seen counter-clockwise from above.

    Every edge belongs to one triangle or two, and the triangles around a vertex are one fan: where two cells meet in
    no more than a corner, each has a vertex of its own there.

    Args:
        is_known: bool (inlines, crosslines).
        x, y: of the same shape.

    Returns:
        the trace of every vertex, as its place in the flattened map, (n,); and the triangles, int64 (m, 3).
    """
    known = is_known.astype(np.bool_)
    cell = known[:-1, :-1] & known[1:, :-1] & known[:-1, 1:] & known[1:, 1:]
    around = np.pad(cell, 1)
    north_west, north_east = around[:-1, :-1], around[:-1, 1:]
    south_west, south_east = around[1:, :-1], around[1:, 1:]
    is_pinched = (north_west == south_east) & (north_east == south_west) & (north_west != north_east)
    inline, crossline = (places[:, None] + step for places, step in zip(np.nonzero(cell), _AFTER, strict=True))
    # The second of two vertices in one place is that of the cell after it.
    second = is_pinched[inline, crossline] & (_AFTER[0] == 0)
    keys = 2 * (inline * is_known.shape[1] + crossline) + second
    vertices, places = np.unique(keys, return_inverse=True)
    corners = places.reshape(-1, 4)
    traces = vertices // 2
    across_x, across_y = (values.ravel()[traces][corners] for values in (x, y))
    area = _signed_area(across_x, across_y)
    if area < 0:
        corners = corners[:, ::-1]
    return traces, np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


def _signed_area(x: Points, y: Points) -> float:
    """Of polygons (n, corners) in all."""
    # Relative to a corner, for coordinates are large.
    x, y = x - x[:, :1], y - y[:, :1]
    return float((x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum()) / 2


def close_body(top: Points, base: Points, triangles: Triangles) -> tuple[Points, Triangles]:
    """The closed surface of what lies between two sheets over the same map, its normals outwards.

    Args:
        top, base: float64 (n, 3), vertex by vertex above one another.
        triangles: of either sheet, counter-clockwise from above.

    Returns:
        vertices (2 n, 3), those of the top first, and triangles.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    count = len(top)
    keys, reverse = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    start, end = edges[~np.isin(keys, reverse)].T
    walls = [np.stack([end, start, start + count], axis=1), np.stack([end, start + count, end + count], axis=1)]
    return np.concatenate([top, base]), np.concatenate([triangles, triangles[:, ::-1] + count, *walls])


def write_ply(path: Path, points: Points, triangles: Triangles, *, comments: Sequence[str]) -> None:
    """A PLY file, binary and little-endian: coordinates as doubles, for those of maps have seven digits before the dot.

    Args:
        path: the file.
        points: (n, 3).
        triangles: (m, 3).
        comments: lines of its header, ASCII.

    Source: Turk 1994, The PLY Polygon File Format.
    """
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {line}" for line in comments),
        f"element vertex {len(points)}",
        *(f"property double {axis}" for axis in "xyz"),
        f"element face {len(triangles)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    faces = np.empty(len(triangles), np.dtype([("count", "u1"), ("vertices", "<i4", 3)]))
    faces["count"], faces["vertices"] = 3, triangles
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(np.ascontiguousarray(points, "<f8").data)
        file.write(faces.data)
