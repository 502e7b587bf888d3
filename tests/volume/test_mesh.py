from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.volume.mesh import close_body, triangulate, write_ply
from fake_ply import enclosed, is_closed, is_manifold, read_ply

Known = NDArray[np.bool_]
Points = NDArray[np.float64]
SHAPE = (9, 8)


def positions(*, mirrored: bool = False, shape: tuple[int, int] = SHAPE) -> tuple[Points, Points]:
    inline, crossline = np.meshgrid(*map(np.arange, shape), indexing="ij")
    x, y = 600_000 + 10.0 * crossline - 4.0 * inline, 6_000_000 + 3.0 * crossline + 20.0 * inline
    return (y, x) if mirrored else (x, y)


def draw_known(seed: int, *, share: float = 0.75) -> Known:
    return np.asarray(np.random.default_rng(seed).random(SHAPE) < share)


def num_cells(known: Known) -> int:
    return int((known[:-1, :-1] & known[1:, :-1] & known[:-1, 1:] & known[1:, 1:]).sum())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mirrored", [False, True])
def test_sheets_are_manifold_and_look_upwards(seed: int, mirrored: bool) -> None:
    known, (x, y) = draw_known(seed), positions(mirrored=mirrored)
    traces, triangles = triangulate(known, x, y)
    assert known.ravel()[traces].all()
    assert len(triangles) == 2 * num_cells(known) > 0
    assert set(np.unique(triangles)) == set(range(len(traces)))
    assert is_manifold(triangles)
    a, b, c = (np.stack([x.ravel()[traces], y.ravel()[traces]], 1)[triangles[:, corner]] for corner in range(3))
    areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    np.testing.assert_allclose(areas, (10 * 20 + 3 * 4) / 2)


def test_cells_that_meet_in_a_corner_share_no_vertex() -> None:
    known = np.zeros((3, 3), np.bool_)
    known[:2, :2] = known[1:, 1:] = True
    x, y = positions(shape=(3, 3))
    for flipped in (known, known[:, ::-1]):
        traces, triangles = triangulate(flipped, x, y)
        assert len(traces) == 8
        assert len(np.unique(traces)) == 7
        assert is_manifold(triangles)


@pytest.mark.parametrize("seed", range(8))
def test_a_body_is_closed_and_has_the_volume_between_its_sheets(seed: int) -> None:
    known, (x, y) = draw_known(seed), positions()
    rng = np.random.default_rng(seed)
    traces, triangles = triangulate(known, x, y)
    xy = np.stack([x.ravel(), y.ravel()], axis=1)[traces]
    top = np.column_stack([xy, rng.uniform(-100, -50, size=x.size)[traces]])
    base = np.column_stack([xy, rng.uniform(-300, -200, size=x.size)[traces]])
    points, faces = close_body(top, base, triangles)
    assert is_closed(faces)
    assert is_manifold(faces)
    heights = (top - base)[:, 2][triangles].mean(axis=1)
    np.testing.assert_allclose(enclosed(points, faces), heights.sum() * (10 * 20 + 3 * 4) / 2)


@pytest.mark.parametrize("known", [np.zeros((4, 4), np.bool_), np.ones((1, 6), np.bool_), np.ones((6, 1), np.bool_)])
def test_where_there_is_no_cell_there_is_no_triangle(known: Known, tmp_path: Path) -> None:
    traces, triangles = triangulate(known, *positions(shape=known.shape))
    points, faces = close_body(np.zeros((len(traces), 3)), np.zeros((len(traces), 3)), triangles)
    assert (len(traces), len(triangles), len(points), len(faces)) == (0, 0, 0, 0)
    write_ply(tmp_path / "none.ply", points, faces, comments=[])
    assert len(read_ply(tmp_path / "none.ply")[0]) == 0


def test_another_reader_finds_what_was_written(tmp_path: Path) -> None:
    traces, triangles = triangulate(draw_known(1), *positions())
    points = np.random.default_rng(0).normal(6e6, 1e5, size=(len(traces), 3))
    write_ply(tmp_path / "some.ply", points, triangles, comments=["one", "two words"])
    found, faces, comments = read_ply(tmp_path / "some.ply")
    np.testing.assert_array_equal(found, points)
    np.testing.assert_array_equal(faces, triangles)
    assert comments == ["one", "two words"]
