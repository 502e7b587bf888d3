from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from diapir.volume.bodies import (
    Bodies,
    Connectivity,
    Strip,
    find_runs,
    join_runs,
    label_bodies,
    labelled_strips,
    paint_runs,
    strip_spans,
)

Block = NDArray[np.bool_]
SHAPE = (11, 7, 9)


def draw_block(seed: int, *, share: float, shape: tuple[int, int, int] = SHAPE) -> Block:
    return np.asarray(np.random.default_rng(seed).random(shape) < share)


def strips_of(inside: Block, *, size: int) -> Iterator[Strip]:
    for start, stop in strip_spans(len(inside), size):
        yield Strip(start, stop, find_runs(inside[start:stop], inline=start))


def label(inside: Block, *, size: int, connectivity: Connectivity, edge: Block | None = None) -> Bodies:
    edge = np.zeros(inside.shape[:2], np.bool_) if edge is None else edge
    return label_bodies(lambda: strips_of(inside, size=size), inside.shape, connectivity=connectivity, edge=edge)


def numbers_of(inside: Block, bodies: Bodies, *, size: int) -> NDArray[np.int64]:
    """Body of every voxel from 1 on; 0 outside."""
    numbers = np.zeros(inside.shape, np.int64)
    for strip, body in labelled_strips(strips_of(inside, size=size), inside.shape, bodies):
        for inline, crossline, first, end, number in zip(*strip.runs, body, strict=True):
            numbers[inline, crossline, first:end] = number + 1
    return numbers


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("share", [0.0, 0.08, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [1, 3, 4, 16])
def test_strips_give_the_bodies_of_a_labelling_of_the_whole(
    connectivity: Connectivity, share: float, size: int
) -> None:
    for seed in range(3):
        inside = draw_block(seed, share=share)
        expected, count = ndimage.label(inside, structure=np.ones((3, 3, 3)) if connectivity == 26 else None)
        bodies = label(inside, size=size, connectivity=connectivity)
        found = numbers_of(inside, bodies, size=size)
        assert len(bodies) == count
        # One to one: as many pairs of numbers as bodies.
        assert len(np.unique(np.stack([expected[inside], found[inside]]), axis=1).T) == count
        np.testing.assert_array_equal(bodies.voxels, np.bincount(found[inside], minlength=count + 1)[1:])
        assert (np.diff(bodies.voxels) <= 0).all()


def test_a_body_that_strips_join_only_at_their_last_line_is_one() -> None:
    inside = np.zeros(SHAPE, np.bool_)
    inside[:, 1, 4], inside[:, 5, 4], inside[-1, :, 4] = True, True, True
    assert len(label(inside, size=2, connectivity=6)) == 1
    inside[-1, 3, 4] = False
    assert len(label(inside, size=2, connectivity=6)) == 2


def test_bodies_at_the_border_are_told_from_those_inside() -> None:
    for seed in range(5):
        inside = draw_block(seed, share=0.15)
        edge = np.zeros(SHAPE[:2], np.bool_)
        edge[[0, -1]], edge[:, [0, -1]], edge[5, 3] = True, True, True
        expected, count = ndimage.label(inside)
        outer = np.broadcast_to(edge[:, :, None], SHAPE).copy()
        outer[:, :, [0, -1]] = True
        touching = set(np.unique(expected[outer & inside]).tolist())
        bodies = label(inside, size=4, connectivity=6, edge=edge)
        numbers = numbers_of(inside, bodies, size=4)
        pairs = set(zip(expected[inside].tolist(), numbers[inside].tolist(), strict=True))
        assert {(old in touching) == bodies.at_border[new - 1] for old, new in pairs} == {True}
        assert 0 < len(touching) < count


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_painting_runs_undoes_finding_them(share: float) -> None:
    inside = draw_block(4, share=share)
    runs = find_runs(inside, inline=20, crossline=30)
    np.testing.assert_array_equal(paint_runs(runs, SHAPE, inline=20, crossline=30), inside)
    assert runs.voxels.sum() == inside.sum()


def test_runs_of_blocks_join_to_those_of_the_whole() -> None:
    inside = draw_block(5, share=0.4)
    blocks = [find_runs(inside[:, a:b], crossline=a) for a, b in strip_spans(SHAPE[1], 3)]
    for found, expected in zip(join_runs(reversed(blocks)), find_runs(inside), strict=True):
        np.testing.assert_array_equal(found, expected)
