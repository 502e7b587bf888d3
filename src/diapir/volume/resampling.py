"""Traces at the sample interval that a model knows, and what it says of them at the survey's own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from diapir.faults import Fault
from diapir.volume.store import Grid

Floats = NDArray[np.float32]

SHORTEST, LONGEST = 0.1, 100.0
"""Of an interval, in those of the survey; shorter ones would take memory without showing more."""
_LOBES = 8  # of the sinc on each side: waves of 0.25 cycles a sample are then right within 0.1 %, of 0.4 within 2.5 %


@dataclass(frozen=True, eq=False)
class Resampling:
    """Samples of a trace at another interval, and the way back; both begin at the same time or depth.

    Args:
        interval: from sample to sample, in the survey's unit.
        num_samples: of a trace; as many as its last sample allows, none beyond it.
        there: weights of the survey's samples in each of these, (num_samples, survey's samples); rows sum to 1.
        back: the other way, (survey's samples, num_samples); at most two weights a row, so that values stay within
            those that they come from.
    """

    interval: float
    num_samples: int
    there: csr_array
    back: csr_array

    def resampled(self, traces: Floats) -> Floats:
        """Amplitudes (..., survey's samples) as (..., num_samples)."""
        return _applied(self.there, traces)

    def restored(self, traces: Floats) -> Floats:
        """What was found, (..., num_samples), as (..., survey's samples)."""
        return _applied(self.back, traces)


def resampling_faults(wanted: float | None, grid: Grid) -> Iterator[Fault]:
    """What is wrong with an interval that somebody wants; None is not."""
    if wanted is not None and not grid.interval * SHORTEST <= wanted <= grid.interval * LONGEST:
        least, most = (f"{grid.interval * factor:g}" for factor in (SHORTEST, LONGEST))
        what = f"expected an interval of {least} to {most} {grid.unit}, for the survey's is {grid.interval:g}"
        yield Fault("--resample", f"{what}; found {wanted:g}")


def plan_resampling(grid: Grid, *, wanted: float) -> Resampling:
    """How traces of a survey come to another interval, and back.

    There by a sinc under a Lanczos window (Duchon 1979, J. Appl. Meteor. 18, 1016-1022, equation 10 with its sigma
    factor), stretched where samples become fewer so that nothing above their Nyquist frequency is folded down; at the
    ends what it reaches of the trace makes up its whole weight. Back by straight lines.
    """
    assert wanted > 0, f"an interval is more than 0: got {wanted}"
    ratio = wanted / grid.interval
    # The last one counts where it is but a hair beyond: intervals in microseconds are whole, those of others rounded.
    count = math.floor((grid.num_samples - 1) / ratio * (1 + 1e-6) + 1e-6) + 1
    return Resampling(
        wanted,
        count,
        there=_sinc(count, grid.num_samples, ratio=ratio),
        back=_straight(grid.num_samples, count, ratio=1 / ratio),
    )


def _sinc(count: int, num_samples: int, *, ratio: float) -> csr_array:
    """Weights of `num_samples` samples in `count` others, each `ratio` of theirs apart."""
    stretch = max(ratio, 1.0)
    reach = math.ceil(_LOBES * stretch)
    centres = np.arange(count) * ratio
    columns = np.floor(centres).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    offsets = (columns - centres[:, None]) / stretch
    weights = np.where(np.abs(offsets) < _LOBES, np.sinc(offsets) * np.sinc(offsets / _LOBES), 0)
    weights[(columns < 0) | (columns >= num_samples)] = 0
    weights /= weights.sum(1, keepdims=True)
    return _matrix(weights, np.clip(columns, 0, num_samples - 1), num_samples)


def _straight(count: int, num_samples: int, *, ratio: float) -> csr_array:
    """The same by straight lines; beyond the last sample its value holds."""
    centres = np.minimum(np.arange(count) * ratio, num_samples - 1)
    left = np.floor(centres).astype(np.int64)
    share = centres - left
    columns = np.minimum(np.stack([left, left + 1], axis=1), num_samples - 1)
    return _matrix(np.stack([1 - share, share], axis=1), columns, num_samples)


def _matrix(weights: NDArray[np.float64], columns: NDArray[np.int64], width: int) -> csr_array:
    rows = np.repeat(np.arange(len(weights)), weights.shape[1])
    # Weights for the same column, as at the ends, are added.
    made = csr_array((weights.astype(np.float32).ravel(), (rows, columns.ravel())), shape=(len(weights), width))
    made.eliminate_zeros()
    return made


def _applied(matrix: csr_array, traces: Floats) -> Floats:
    flat = matrix @ traces.reshape(-1, traces.shape[-1]).T
    return np.ascontiguousarray(flat.T).reshape(*traces.shape[:-1], matrix.shape[0])
