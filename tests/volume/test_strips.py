"""Strips that are looked at piece by piece give what whole sections give, without a seam."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.pipeline.survey_tiles import Moments
from diapir.volume.strips import Piece, by_shards, strip_pieces
from diapir.volume.tiling import Blend, cut_tiles, plan_tiling

LINES = 3
Greys = NDArray[np.uint8]


def identity(greys: Greys, _: NDArray[np.float32]) -> Moments:
    """A net that finds what it sees."""
    mean = (greys.astype(np.float32) / 256).astype(np.float32)
    return Moments(mean, mean * mean)


def restless(greys: Greys, _: NDArray[np.float32]) -> Moments:
    """One whose word on a pixel changes with the tile."""
    mean = ((greys.astype(np.float32) + greys[:, :1, :1]) / 512).astype(np.float32)
    return Moments(mean, mean * mean + np.float32(0.01))


def whole(pieces: list[Piece]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    assert pieces[0].first == 0
    assert all(before.last == after.first for before, after in pairwise(pieces))
    return np.concatenate([one.mean for one in pieces], 1), np.concatenate([one.spread for one in pieces], 1)


def pieces_of(
    greys: Greys,
    *,
    predict: Callable[[Greys, NDArray[np.float32]], Moments],
    tile: tuple[int, int] = (16, 20),
    overlap: tuple[int, int] = (5, 6),
    batch: int = 4,
    live: NDArray[np.bool_] | None = None,
) -> list[Piece]:
    tiling = plan_tiling((greys.shape[2], greys.shape[1]), tile=tile, overlap=overlap)
    rows = len({row for row, _ in tiling.places})
    live = np.ones(greys.shape[:2], np.bool_) if live is None else live
    return list(
        strip_pieces(
            lambda first, last: greys[:, first:last],
            live,
            tiling=tiling,
            predict=predict,
            batch=batch,
            tops_m=np.zeros(rows, np.float32),
        )
    )


def greys_of(traces: int, samples: int, *, seed: int = 0) -> Greys:
    return np.random.default_rng(seed).integers(0, 256, (LINES, traces, samples), dtype=np.uint8)


@pytest.mark.parametrize(("traces", "samples"), [(70, 50), (20, 16), (7, 50), (70, 9), (3, 2), (21, 17)])
def test_pieces_put_together_are_the_blend_of_each_section(traces: int, samples: int) -> None:
    greys = greys_of(traces, samples)
    mean, spread = whole(pieces_of(greys, predict=restless))
    tiling = plan_tiling((samples, traces), tile=(16, 20), overlap=(5, 6))
    for line in range(LINES):
        first, second = Blend.empty(tiling), Blend.empty(tiling)
        for number, tile in enumerate(cut_tiles(greys[line].T, tiling)):
            found = restless(np.asarray(tile, np.uint8)[None], np.zeros(1, np.float32))
            first.add(number, found.mean[0])
            second.add(number, found.square[0])
        np.testing.assert_allclose(mean[line].T, first.section(), rtol=2**-23)
        variance = second.section().astype(np.float64) - first.section().astype(np.float64) ** 2
        np.testing.assert_allclose(spread[line].T, np.sqrt(variance), atol=1e-5)


@pytest.mark.parametrize("overlap", [(0, 0), (5, 6), (15, 19)])
def test_what_all_tiles_agree_on_is_given_back_to_the_last_bit(overlap: tuple[int, int]) -> None:
    greys = greys_of(75, 50)
    mean, spread = whole(pieces_of(greys, predict=identity, overlap=overlap))
    np.testing.assert_array_equal(mean, greys.astype(np.float32) / 256)
    assert spread.max() < 1e-7


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 0.9999999])
def test_a_constant_field_stays_constant(value: float) -> None:
    constant = np.float32(value)

    def predict(greys: Greys, _: NDArray[np.float32]) -> Moments:
        mean = np.full(greys.shape, constant, np.float32)
        return Moments(mean, mean * mean)

    mean, _ = whole(pieces_of(greys_of(75, 50), predict=predict))
    np.testing.assert_array_equal(mean, np.broadcast_to(constant, mean.shape))


def test_the_size_of_batches_changes_nothing() -> None:
    greys = greys_of(75, 50)
    one, many = (whole(pieces_of(greys, predict=restless, batch=batch))[0] for batch in (1, 100))
    np.testing.assert_array_equal(one, many)


def test_tiles_without_a_live_trace_are_not_asked_for() -> None:
    greys, live = greys_of(75, 50), np.zeros((LINES, 75), np.bool_)
    live[1, 40] = True
    asked = list[int]()

    def predict(tiles: Greys, tops_m: NDArray[np.float32]) -> Moments:
        asked.append(len(tiles))
        return restless(tiles, tops_m)

    mean, _ = whole(pieces_of(greys, predict=predict, live=live))
    all_mean, _ = whole(pieces_of(greys, predict=restless))
    tiling = plan_tiling((50, 75), tile=(16, 20), overlap=(5, 6))
    assert sum(asked) == sum(column <= 40 < column + 20 for _, column in tiling.places)
    np.testing.assert_array_equal(mean[1, 40], all_mean[1, 40])
    assert not mean[[0, 2]].any()


def test_each_row_of_tiles_has_its_own_depth() -> None:
    tiling = plan_tiling((50, 40), tile=(16, 20), overlap=(5, 6))
    tops = np.array(sorted({row for row, _ in tiling.places}), np.float32) * 4
    greys = np.broadcast_to(np.arange(50, dtype=np.uint8), (LINES, 40, 50))
    seen = dict[int, float]()

    def predict(tiles: Greys, tops_m: NDArray[np.float32]) -> Moments:
        seen.update({int(tile[0, 0]): float(top) for tile, top in zip(tiles, tops_m, strict=True)})
        return identity(tiles, tops_m)

    live = np.ones((LINES, 40), np.bool_)
    list(strip_pieces(lambda a, b: greys[:, a:b], live, tiling=tiling, predict=predict, batch=3, tops_m=tops))
    assert seen == {int(top) // 4: top for top in tops.tolist()}


@pytest.mark.parametrize("width", [1, 16, 64, 1000])
def test_pieces_are_cut_where_files_end(width: int) -> None:
    pieces = pieces_of(greys_of(150, 20), predict=restless)
    found = list(by_shards(iter(pieces), width=width))
    np.testing.assert_array_equal(whole(found)[0], whole(pieces)[0])
    assert all(one.first % width == 0 for one in found)
    assert all(one.last - one.first <= width for one in found)
    assert found[-1].last == 150
