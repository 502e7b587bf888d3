"""A reader of binary PLY files, by the format's description alone, and what is wrong with triangles."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Triangles = NDArray[np.int64]


def read_ply(path: Path) -> tuple[Points, Triangles, list[str]]:
    """Vertices, triangles, and the comments of the header."""
    head, _, rest = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element")}
    points = np.frombuffer(rest, "<f8", 3 * counts["vertex"]).reshape(-1, 3)
    faces = np.frombuffer(rest[points.nbytes :], [("count", "u1"), ("vertices", "<i4", 3)])
    assert len(faces) == counts["face"]
    assert (faces["count"] == 3).all()
    return points, faces["vertices"].astype(np.int64), [line[8:] for line in lines if line.startswith("comment ")]


def directed_edges(triangles: Triangles) -> Counter[tuple[int, int]]:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return Counter(map(tuple, edges.tolist()))


def is_manifold(triangles: Triangles) -> bool:
    """Each edge once in a direction, and the triangles around every vertex one fan."""
    return max(directed_edges(triangles).values(), default=1) == 1 and all(
        _is_one_fan(triangles[(triangles == vertex).any(1)], vertex) for vertex in np.unique(triangles).tolist()
    )


def _is_one_fan(triangles: Triangles, vertex: int) -> bool:
    left = [set(triangle) - {vertex} for triangle in triangles.tolist()]
    reached = left.pop()
    while True:
        near = [pair for pair in left if pair & reached]
        if not near:
            return not left
        reached = reached.union(*near)
        left = [pair for pair in left if pair not in near]


def is_closed(triangles: Triangles) -> bool:
    edges = directed_edges(triangles)
    return all((end, start) in edges for start, end in edges)


def enclosed(points: Points, triangles: Triangles) -> float:
    """Signed volume: positive where normals point outwards."""
    a, b, c = (points[triangles[:, corner]] - points.mean(axis=0) for corner in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6
