import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from diapir.volume.bodies import Bodies, Strip, Whole, find_runs, label_bodies, labelled_strips
from diapir.volume.line_numbers import Axis
from diapir.volume.salt_checks import runs_in
from diapir.volume.salt_maps import (
    BodyTable,
    SaltMaps,
    empty_maps,
    empty_table,
    fill_maps,
    fill_table,
    sample_height_m,
    trace_area_m2,
)
from diapir.volume.store import Grid, Unit
from diapir.volume.top_and_base import base_places, top_places

SHAPE = (7, 9, 10)


def draw_salt(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    probability = rng.random(SHAPE).astype(np.float32)
    probability[:, 4] *= 0.4
    return probability > 0.65, probability, rng.random(SHAPE).astype(np.float32)


def xy() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inline, crossline = np.meshgrid(np.arange(float(SHAPE[0])), np.arange(float(SHAPE[1])), indexing="ij")
    return 100.0 + 12.5 * crossline + 3.0 * inline, 200.0 + 25.0 * inline


def fill(seed: int, *, width: int) -> tuple[SaltMaps, BodyTable, Bodies, NDArray[np.int64]]:
    """Maps and figures, filled in blocks, and the body of each voxel from 1 on."""
    mask, probability, disagreement = draw_salt(seed)
    strip = Strip(0, SHAPE[0], find_runs(mask))
    bodies = label_bodies(lambda: [strip], SHAPE, edge=np.zeros(SHAPE[:2], np.bool_))
    ((_, body),) = labelled_strips([strip], SHAPE, bodies)
    maps, table, (x, y) = empty_maps(*SHAPE[:2]), empty_table(bodies), xy()
    for left in range(0, SHAPE[1], width):
        part = np.s_[:, left : left + width]
        rows: Whole = runs_in(strip.runs, probability[part].shape, inline=0, crossline=left)
        runs, own = strip.runs.take(rows), body[rows]
        fill_maps(
            maps, runs, own, probability=probability[part], disagreement=disagreement[part], inline=0, crossline=left
        )
        fill_table(table, runs, own, probability=probability[part], x=x, y=y, inline=0, crossline=left)
    labels = np.zeros(SHAPE, np.int64)
    for inline, crossline, first, end, number in zip(*strip.runs, body, strict=True):
        labels[inline, crossline, first:end] = number + 1
    return maps, table, bodies, labels


@pytest.mark.parametrize("width", [2, 5, 9])
def test_maps_are_what_each_trace_says_by_itself(width: int) -> None:
    mask, probability, disagreement = draw_salt(1)
    maps, _, _, labels = fill(1, width=width)
    for at in np.ndindex(SHAPE[:2]):
        trace, own = probability[at], labels[at]
        np.testing.assert_array_equal(maps.has_salt[at], trace.max())
        starts = np.flatnonzero(np.diff(np.append(0, mask[at])) == 1)
        assert maps.entries[at] == len(starts)
        assert maps.salt_samples[at] == mask[at].sum()
        if not len(starts):
            assert np.isnan(maps.top[:, *at]).all()
            assert maps.body[at] == 0
            continue
        salt = np.flatnonzero(mask[at])
        assert (maps.first[at], maps.last[at]) == (salt[0], salt[-1])
        assert maps.body[at] == own[salt[0]]
        assert maps.is_overhung[at] == (len(set(own[starts].tolist())) < len(starts))
        for find, places, spread in (
            (top_places, maps.top, maps.top_disagreement),
            (base_places, maps.base, maps.base_disagreement),
        ):
            expected = find(trace[None], salt[:1], salt[-1:])[:, 0]
            np.testing.assert_array_equal(places[:, *at], expected)
            if np.isfinite(expected[1]):
                assert spread[at] == disagreement[at][round(float(expected[1]))]
            else:
                assert np.isnan(spread[at])
    assert maps.is_overhung.any()
    assert not maps.is_salty.all()
    np.testing.assert_array_equal(maps.thickness, maps.base[1] - maps.top[1])


@pytest.mark.parametrize("width", [2, 9])
def test_figures_of_bodies_are_those_of_their_voxels(width: int) -> None:
    _, probability, _ = draw_salt(2)
    _, table, bodies, labels = fill(2, width=width)
    x, y = xy()
    assert len(table) == len(bodies) == ndimage.label(labels > 0)[1] > 5
    for number in range(len(bodies)):
        own = labels == number + 1
        inline, crossline, sample = np.nonzero(own)
        assert table.voxels[number] == own.sum()
        assert table.traces[number] == own.any(2).sum()
        visits = (np.diff(own.astype(int), axis=2, prepend=0) == 1).sum(2)
        assert table.overhung[number] == (visits > 1).sum()
        np.testing.assert_allclose(table.probability[number], probability[own].sum(), rtol=1e-5)
        for found, places in (
            (table.inline, inline),
            (table.crossline, crossline),
            (table.sample, sample),
            (table.x, x[inline, crossline]),
            (table.y, y[inline, crossline]),
        ):
            np.testing.assert_array_equal(found[:, number], [places.min(), places.max()])


@pytest.mark.parametrize("turn", [0.0, 33.0, 120.0])
def test_the_area_of_a_trace_is_that_of_its_cell(turn: float) -> None:
    x, y = xy()
    angle = np.deg2rad(turn)
    turned = np.cos(angle) * x - np.sin(angle) * y + 6e5, np.sin(angle) * x + np.cos(angle) * y + 6e6
    turned[0][2:4, 3] = np.nan
    found = trace_area_m2(*turned)
    assert found == pytest.approx(12.5 * 25.0, rel=1e-6)
    assert trace_area_m2(*turned, xy_unit="ft") == pytest.approx(12.5 * 25.0 * 0.3048**2, rel=1e-6)


def test_positions_that_show_no_grid_give_no_area() -> None:
    x, y = xy()
    rng = np.random.default_rng(0)
    assert trace_area_m2(np.full_like(x, np.nan), y) is None
    assert trace_area_m2(x[:1], y[:1]) is None
    assert trace_area_m2(x, 2 * x) is None
    assert trace_area_m2(np.zeros_like(x), np.zeros_like(y)) is None
    assert trace_area_m2(rng.permuted(x, axis=None), rng.permuted(y, axis=None)) is None


@pytest.mark.parametrize(("unit", "expected"), [("m", 4.0), ("ft", 4 * 0.3048), ("ms", 8.0)])
def test_a_velocity_makes_depth_of_two_way_time(unit: Unit, expected: float) -> None:
    grid = Grid(Axis(1, 1, 2), Axis(1, 1, 2), 3, 0.0, 4.0, unit)
    assert sample_height_m(grid, velocity_m_s=4000.0 if unit == "ms" else None) == pytest.approx(expected)


def test_times_without_a_velocity_have_no_height() -> None:
    assert sample_height_m(Grid(Axis(1, 1, 2), Axis(1, 1, 2), 3, 0.0, 4.0, "ms"), velocity_m_s=None) is None
