"""Sections of a survey each way: which lines there are, how large their sections are, and what these hold."""

import numpy as np
from numpy.typing import NDArray

from diapir.volume.line_numbers import Axis, Direction
from diapir.volume.store import Grid, Lines, Store, read_volume


def axis_of(grid: Grid, direction: Direction) -> Axis:
    """Numbers of the lines of a direction."""
    return grid.inlines if direction == "inline" else grid.crosslines


def section_shape(grid: Grid, direction: Direction) -> tuple[int, int]:
    """Samples and traces of a section: of an inline, a trace a crossline."""
    return grid.num_samples, (grid.crosslines if direction == "inline" else grid.inlines).count


def place_of(axis: Axis, number: int) -> int | None:
    """Where a line of that number stands, from 0 on; None where there is none."""
    place, rest = divmod(number - axis.first, axis.step)
    return place if rest == 0 and 0 <= place < axis.count else None


def read_section(store: Store, direction: Direction, place: int, *, traces: Lines = slice(None)) -> NDArray[np.float32]:
    """Amplitudes of one line, or of some of its traces: (samples, traces)."""
    own = slice(place, place + 1)
    if direction == "inline":
        return np.asarray(read_volume(store, "amplitude", inlines=own, crosslines=traces)[0].T)
    return np.asarray(read_volume(store, "amplitude", inlines=traces, crosslines=own)[:, 0].T)
