"""Strips of neighbouring sections through the models, tile column after tile column: no more of them is in memory."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.pipeline.survey_tiles import Floats, Predict
from diapir.volume.tiling import Tiling

Greys = NDArray[np.uint8]


class Piece(NamedTuple):
    """What models say of some traces of a strip.

    Args:
        first, last: of the traces, the last one not included.
        mean: probability of salt, float32 (lines, traces, samples).
        spread: standard deviation of that over models and overlapping tiles, of the same shape.
    """

    first: int
    last: int
    mean: Floats
    spread: Floats


def strip_pieces(
    read: Callable[[int, int], Greys],
    live: NDArray[np.bool_],
    *,
    tiling: Tiling,
    predict: Predict,
    batch: int,
    tops_m: Floats,
) -> Iterator[Piece]:
    """Predictions of sections side by side, piece after piece along them.

    Tiles overlap and are blended by the weights of the tiling. Those without a single live trace are not asked for:
    there the probability is zero. Batches depend on the strip alone, so whoever does it gets the same bits.

    Args:
        read: grey values of the traces from one number to another: uint8 (lines, traces, samples).
        live: bool (lines, traces).
        tiling: of one section (samples, traces).
        tops_m: depth of each row of tiles, (rows,), NaN where unknown.
    """
    num_samples, num_traces = tiling.shape
    width = tiling.tile[1]
    starts = sorted({column for _, column in tiling.places})
    window = np.empty((len(live), 0, num_samples), np.uint8)
    sums = np.zeros((2, len(live), tiling.padded[0], width))
    known = 0
    for number, start in enumerate(starts):
        stop = min(start + width, num_traces)
        window = np.concatenate([window[:, window.shape[1] - (known - start) :], read(known, stop)], axis=1)
        known = stop
        lines = np.flatnonzero(live[:, start:stop].any(1))
        _add_column(sums, window, lines, tiling=tiling, predict=predict, batch=batch, tops_m=tops_m)
        end = starts[number + 1] if number + 1 < len(starts) else tiling.padded[1]
        yield _piece(sums, tiling, start, end)
        done = end - start
        sums = np.concatenate([sums[..., done:], np.zeros((*sums.shape[:3], done))], axis=3)


def by_shards(pieces: Iterator[Piece], *, width: int) -> Iterator[Piece]:
    """The same traces in pieces that end at multiples of a width."""
    held: list[Piece] = []
    for piece in pieces:
        held.append(piece)
        whole = piece.last // width * width
        if whole > held[0].first:
            joined = _joined(held)
            count = whole - joined.first
            for start in range(0, count, width):
                yield _part(joined, start, start + width)
            held = [_part(joined, count, joined.last - joined.first)] if joined.last > whole else []
    if held:
        yield _joined(held)


def _add_column(
    sums: NDArray[np.float64],
    window: Greys,
    lines: NDArray[np.int64],
    *,
    tiling: Tiling,
    predict: Predict,
    batch: int,
    tops_m: Floats,
) -> None:
    """Add what the models say of one column of tiles of some lines."""
    height, width = tiling.tile
    rows = sorted({row for row, _ in tiling.places})
    sections = window[lines].transpose(0, 2, 1)
    missing = [(0, 0), (0, tiling.padded[0] - sections.shape[1]), (0, width - sections.shape[2])]
    sections = np.pad(sections, missing, mode="symmetric")
    # Line by line, and each from the top down.
    jobs = [(place, row) for place in range(len(lines)) for row in range(len(rows))]
    for first in range(0, len(jobs), batch):
        some = jobs[first : first + batch]
        tiles = np.stack([sections[place, rows[row] : rows[row] + height] for place, row in some])
        found = predict(tiles, tops_m[[row for _, row in some]])
        for number, (place, row) in enumerate(some):
            span = np.s_[lines[place], rows[row] : rows[row] + height]
            sums[0][span] += found.mean[number] * tiling.weights
            sums[1][span] += found.square[number] * tiling.weights


def _piece(sums: NDArray[np.float64], tiling: Tiling, start: int, end: int) -> Piece:
    """The traces that no later tile reaches."""
    samples, traces = tiling.shape
    last = min(end, traces)
    found = sums[:, :, :samples, : last - start] / tiling.total[:samples, start:last]
    # Rounding may leave a little less than nothing.
    spread = np.sqrt(np.maximum(found[1] - found[0] * found[0], 0))
    return Piece(start, last, *(part.transpose(0, 2, 1).astype(np.float32) for part in (found[0], spread)))


def _joined(pieces: list[Piece]) -> Piece:
    mean = np.concatenate([piece.mean for piece in pieces], axis=1)
    spread = np.concatenate([piece.spread for piece in pieces], axis=1)
    return Piece(pieces[0].first, pieces[-1].last, mean, spread)


def _part(piece: Piece, start: int, stop: int) -> Piece:
    return Piece(piece.first + start, piece.first + stop, piece.mean[:, start:stop], piece.spread[:, start:stop])
