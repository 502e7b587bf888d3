"""Seeded fields that are smooth along a survey's axes; any part of one can be had on its own.

A field is a sum of cubic B-splines whose coefficients are drawn once; a part of it takes one small product of matrices
an axis, so that no survey is ever held as a whole to make a field for it. Of many coefficients only the random
generator's states are kept, from which those that a part needs are drawn again.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

MARGIN = 16
"""Fields reach this far beyond both ends of an axis, so that filters see what lies outside."""
# Spread of a sum of cubic B-splines with coefficients of unit spread, along one axis: the root of the integral of the
# spline's square.
_SPREAD = (151 / 315) ** 0.5
_MOST_HELD = 1 << 22  # coefficients, 32 MiB of them


@dataclass(frozen=True)
class DrawnAgain:
    """Numbers of unit spread that are drawn when they are needed, plane by plane of their first axis.

    Args:
        shape: of all of them.
        states: of the random generator, before each plane.
    """

    shape: tuple[int, ...]
    states: tuple[Any, ...]

    def plane(self, number: int) -> Field:
        """One plane: float64, without the first axis."""
        generator = np.random.PCG64()
        generator.state = self.states[number]
        return np.random.Generator(generator).normal(size=self.shape[1:])


@dataclass(frozen=True)
class SmoothField:
    """A field of about unit spread on a survey or a map of it.

    Args:
        coefficients: one axis a dimension, of unit spread.
        scale: what they are to be divided by.
        spacings: distance of the splines along each axis, in samples or traces.
    """

    coefficients: Field | DrawnAgain
    scale: float
    spacings: tuple[float, ...]


def draw_field(
    rng: np.random.Generator, lengths: tuple[int, ...], *, spacings: tuple[float, ...], trailing: int = 0
) -> SmoothField:
    """A field whose detail is about twice `spacings` wide.

    Args:
        rng: where it comes from.
        lengths: of the axes along which it is smooth; it reaches MARGIN beyond both ends.
        spacings: one a length.
        trailing: length of one more axis along which it is rough, if not 0.
    """
    assert len(lengths) == len(spacings)
    counts = tuple(int((n + 2 * MARGIN) / spacing) + 5 for n, spacing in zip(lengths, spacings, strict=True))
    shape = counts + ((trailing,) if trailing else ())
    drawn = rng.normal(size=shape) if math.prod(shape) <= _MOST_HELD else _draw_and_forget(rng, shape)
    return SmoothField(drawn, _SPREAD ** len(counts), spacings)


def _draw_and_forget(rng: np.random.Generator, shape: tuple[int, ...]) -> DrawnAgain:
    """What `rng.normal(size=shape)` gives, and what it does to the generator, with the memory of one plane."""
    states = []
    for _ in range(shape[0]):
        states.append(rng.bit_generator.state)
        rng.normal(size=shape[1:])
    return DrawnAgain(shape, tuple(states))


def field_on(field: SmoothField, *axes: Field) -> Field:
    """Values on a grid: one axis for each given one, then the rough axis if the field has one.

    Args:
        field: the field.
        axes: float64 (n,) each: positions in samples or traces, from -MARGIN to the axis' length + MARGIN.
    """
    values = _along_first(field, axes[0])
    for number, (positions, spacing) in enumerate(zip(axes[1:], field.spacings[1:], strict=True), 1):
        before, count, after = values.shape[:number], values.shape[number], values.shape[number + 1 :]
        matrix = _spline_matrix(positions, spacing=spacing, count=count)
        if after:
            values = (matrix @ values.reshape(*before, count, -1)).reshape(*before, len(matrix), *after)
        else:
            values = values @ matrix.T
    return values


def _along_first(field: SmoothField, positions: Field) -> Field:
    """Sums along the first axis: float64 (positions, ...) with the other axes of the coefficients."""
    drawn = field.coefficients
    count, *others = drawn.shape
    matrix = _spline_matrix(positions, spacing=field.spacings[0], count=count) / field.scale
    # Splines far from a part add nothing to it.
    used = np.flatnonzero(matrix.any(axis=0))
    if isinstance(drawn, DrawnAgain):
        values = np.zeros((len(matrix), *others))
        for number in used.tolist():
            rows = np.flatnonzero(matrix[:, number])
            values[rows] += np.multiply.outer(matrix[rows, number], drawn.plane(number))
        return values
    near = slice(int(used[0]), int(used[-1]) + 1)
    return np.asarray((matrix[:, near] @ drawn[near].reshape(near.stop - near.start, -1)).reshape(-1, *others))


def _spline_matrix(positions: Field, *, spacing: float, count: int) -> Field:
    """Weights of cubic B-splines: float64 (positions, count)."""
    place = (np.ravel(positions) + MARGIN) / spacing + 1.0
    assert place.min() >= 0.999, "a field reaches MARGIN beyond its axis"
    assert place.max() <= count - 2, "a field reaches MARGIN beyond its axis"
    far = np.abs(place[:, None] - np.arange(count))
    near = 2.0 / 3.0 - far**2 + 0.5 * far**3
    return np.where(far < 1.0, near, np.clip(2.0 - far, 0.0, None) ** 3 / 6.0)
