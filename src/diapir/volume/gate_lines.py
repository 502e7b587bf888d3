"""Which sections of a survey a person should label next."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.statistics import TileStatistics
from diapir.faults import InputError
from diapir.volume.gate_measures import grey_distance, spectral_stretch
from diapir.volume.gate_sampling import LineStatistics
from diapir.volume.line_numbers import DIRECTIONS, Direction
from diapir.volume.sections import axis_of
from diapir.volume.store import STRIP, Grid, Store, read_map, read_volume

NUM_LINES = 3

_BLOCK = 64
_LEAST_LIVE_SHARE = 0.25
_APART = 1 / 6
# What ranges of depth and mosaics of the TGS tiles differ by, measure by measure: greys in deviations, logarithms of
# vertical and horizontal stretch, and what both leave in nepers. See benchmarks/gate_separation.py.
_SPREADS = (0.13, 0.25, 0.3, 0.13, 0.08)


@dataclass(frozen=True)
class LineToLabel:
    """A section that a model would learn most from.

    Args:
        along: whether it is an inline or a crossline.
        number: its own.
        gain: what it was chosen by, in `unit`.
    """

    along: Direction
    number: int
    gain: float
    unit: str

    def __str__(self) -> str:
        return f"{self.along} {self.number} ({self.unit} {self.gain:.3g})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def novelty(own: TileStatistics, other: TileStatistics) -> float:
    """How new tiles are to who knows others: root mean square of the measures, in parts of what is natural."""
    vertical = spectral_stretch(own.vertical_spectrum, other.vertical_spectrum)
    horizontal = spectral_stretch(own.horizontal_spectrum, other.horizontal_spectrum)
    away = (
        grey_distance(own, other),
        np.log(vertical.factor),
        np.log(horizontal.factor),
        vertical.left,
        horizontal.left,
    )
    return float(np.sqrt(np.mean(np.square(np.array(away) / _SPREADS))))


def novel_lines(
    lines: Sequence[LineStatistics], training: TileStatistics, *, grid: Grid, count: int = NUM_LINES
) -> tuple[LineToLabel, ...]:
    """The lines that are newest to training, and to each other; lines of one direction lie apart.

    Args:
        lines: as `survey_statistics` gives them.
    """
    gains = np.array([novelty(line.tiles, training) for line in lines])
    chosen: list[LineToLabel] = []
    while len(chosen) < count:
        free = [row for row, line in enumerate(lines) if _is_apart(line.along, line.number, chosen, grid=grid)]
        if not free:
            break
        best = max(free, key=lambda row: gains[row])
        line = lines[best]
        chosen.append(LineToLabel(line.along, line.number, float(gains[best]), "novelty"))
        gains = np.minimum(gains, [novelty(each.tiles, line.tiles) for each in lines])
    return tuple(chosen)


def disputed_lines(salt: Store, *, count: int = NUM_LINES) -> tuple[LineToLabel, ...]:
    """The lines whose live traces members and directions disagree on most; lines of one direction lie apart.

    Memory does not grow with the salt store but by its maps.

    Raises:
        InputError: it has no disagreement, or is damaged.
    """
    if "disagreement" not in salt.volumes:
        what = "expected what diapir survey segment wrote, with disagreement, found none; leave --salt out"
        raise InputError.of(salt.path, what)
    live = read_map(salt, "live")
    by_trace = np.zeros(live.shape)
    for first in range(0, live.shape[0], STRIP):
        for start in range(0, live.shape[1], _BLOCK):
            block = np.s_[first : first + STRIP, start : start + _BLOCK]
            if live[block].any():
                found = read_volume(salt, "disagreement", inlines=block[0], crosslines=block[1])
                by_trace[block] = found.mean(2, dtype=np.float64)
    means = {"inline": _means(by_trace, live, axis=1), "crossline": _means(by_trace, live, axis=0)}
    ranked = sorted(
        (-float(mean), along, number)
        for along in DIRECTIONS
        for number, mean in zip(axis_of(salt.grid, along).numbers.tolist(), means[along], strict=True)
        if np.isfinite(mean)
    )
    chosen: list[LineToLabel] = []
    for gain, along, number in ranked:
        if len(chosen) < count and _is_apart(along, number, chosen, grid=salt.grid):
            chosen.append(LineToLabel(along, number, -gain, "mean disagreement"))
    return tuple(chosen)


def _means(by_trace: NDArray[np.float64], live: NDArray[np.bool_], *, axis: int) -> NDArray[np.float64]:
    """Of live traces, line by line; not a number where a line has few of them, or is a single trace wide."""
    counts = live.sum(axis)
    enough = (counts >= max(_LEAST_LIVE_SHARE * counts.max(initial=0), 1)) & (live.shape[axis] > 1)
    sums = np.where(live, by_trace, 0).sum(axis)
    means: NDArray[np.float64] = np.where(enough, sums / np.maximum(counts, 1), np.nan)
    return means


def _is_apart(along: Direction, number: int, chosen: Sequence[LineToLabel], *, grid: Grid) -> bool:
    """Whether a line lies a good part of the survey away from those of its direction that were chosen."""
    axis = axis_of(grid, along)
    least = max(_APART * (axis.last - axis.first), axis.step)
    return all(each.along != along or abs(each.number - number) >= least for each in chosen)
