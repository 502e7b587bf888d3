"""Seeded fields that are smooth along a survey's axes; any part of one can be had on its own.

A field is a sum of cubic B-splines whose coefficients are drawn once; a part of it takes one small product of matrices
an axis, so that no survey is ever held as a whole to make a field for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

MARGIN = 16
"""Fields reach this far beyond both ends of an axis, so that filters see what lies outside."""
# Spread of a sum of cubic B-splines with coefficients of unit spread, along one axis: the root of the integral of the
# spline's square.
_SPREAD = (151 / 315) ** 0.5


@dataclass(frozen=True)
class SmoothField:
    """A field of about unit spread on a survey or a map of it.

    Args:
        coefficients: float64, one axis a dimension.
        spacings: distance of the splines along each axis, in samples or traces.
    """

    coefficients: Field
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
    coefficients = rng.normal(size=counts + ((trailing,) if trailing else ()))
    return SmoothField(coefficients / _SPREAD ** len(counts), spacings)


def field_on(field: SmoothField, *axes: Field) -> Field:
    """Values on a grid: one axis for each given one, then the rough axis if the field has one.

    Args:
        field: the field.
        axes: float64 (n,) each: positions in samples or traces, from -MARGIN to the axis' length + MARGIN.
    """
    values = field.coefficients
    for number, (positions, spacing) in enumerate(zip(axes, field.spacings, strict=True)):
        before, count, after = values.shape[:number], values.shape[number], values.shape[number + 1 :]
        matrix = _spline_matrix(positions, spacing=spacing, count=count)
        if after:
            values = (matrix @ values.reshape(*before, count, -1)).reshape(*before, len(matrix), *after)
        else:
            values = values @ matrix.T
    return values


def _spline_matrix(positions: Field, *, spacing: float, count: int) -> Field:
    """Weights of cubic B-splines: float64 (positions, count)."""
    place = (np.ravel(positions) + MARGIN) / spacing + 1.0
    assert place.min() >= 0.999, "a field reaches MARGIN beyond its axis"
    assert place.max() <= count - 2, "a field reaches MARGIN beyond its axis"
    far = np.abs(place[:, None] - np.arange(count))
    near = 2.0 / 3.0 - far**2 + 0.5 * far**3
    return np.where(far < 1.0, near, np.clip(2.0 - far, 0.0, None) ** 3 / 6.0)
