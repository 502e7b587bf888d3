"""Seeded 3-D surveys with salt whose truth is known exactly: the numbers, positions and live traces of a real one."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from diapir.faults import Fault, raise_if_any
from diapir.volume.smooth_fields import Field, draw_field, field_on
from diapir.volume.synthetic_cube import Earth, Part, draw_earth, make_part
from diapir.volume.synthetic_salt import BodyKind

MaskKind = Literal["regular", "ragged", "dead"]

INLINES, CROSSLINES, SAMPLES = 200, 160, 200
"""Size of the survey of every example."""
FEWEST_LINES, _FEWEST_SAMPLES = 8, 32
_MOST = 2**31  # 8 GiB of samples; more is a slip of the finger
_PART_SAMPLES = 800_000  # made at once: large enough for speed, small beside the survey
_MASK_STREAM = 2


@dataclass(frozen=True)
class SurveyGrid:
    """What the headers of a survey say about its traces.

    Args:
        inline_first, inline_step, crossline_first, crossline_step: numbers of the lines.
        interval_ms: time from a sample to the next.
        inline_spacing_m: from an inline to the next, measured across them.
        crossline_spacing_m: from a crossline to the next, that is from trace to trace along an inline.
        origin_x_m, origin_y_m: where the first trace of the first inline lies.
        turn_deg: of the inlines, from the X axis towards the Y axis.
    """

    inline_first: int = 100
    inline_step: int = 1
    crossline_first: int = 300
    crossline_step: int = 1
    interval_ms: float = 4.0
    inline_spacing_m: float = 25.0
    crossline_spacing_m: float = 12.5
    origin_x_m: float = 606_000.0
    origin_y_m: float = 6_078_000.0
    turn_deg: float = 33.0


_USUAL_GRID = SurveyGrid()


@dataclass(frozen=True)
class SyntheticSurvey:
    """A survey and its truth.

    Args:
        amplitude: float32 (inlines, crosslines, samples): whole numbers, which every sample format but one byte holds.
        salt: bool of the same shape: true inside the salt of the model.
        top_of_salt: float32 (inlines, crosslines): where a trace first goes into salt, in samples from 0; not a number
            where it has none. The first sample of salt lies less than one sample below, or on it.
        base_of_salt: the same for the last time that it leaves salt; not a number where salt goes through the bottom.
        kinds: of the salt bodies.
        grid: numbers and positions.
        seed: that the survey came from.
    """

    amplitude: NDArray[np.float32]
    salt: NDArray[np.bool_]
    top_of_salt: NDArray[np.float32]
    base_of_salt: NDArray[np.float32]
    kinds: tuple[BodyKind, ...]
    grid: SurveyGrid
    seed: int

    @property
    def inlines(self) -> NDArray[np.int32]:
        """Their numbers: int32 (inlines,)."""
        return _numbers(self.grid.inline_first, self.grid.inline_step, count=self.salt.shape[0])

    @property
    def crosslines(self) -> NDArray[np.int32]:
        """Their numbers: int32 (crosslines,)."""
        return _numbers(self.grid.crossline_first, self.grid.crossline_step, count=self.salt.shape[1])

    @property
    def cdp_m(self) -> tuple[Field, Field]:
        """X and Y of all traces, in whole centimetres: float64 (inlines, crosslines) in metres, both."""
        return trace_positions(self.grid, inlines=self.salt.shape[0], crosslines=self.salt.shape[1])


def make_survey(
    *,
    inlines: int = INLINES,
    crosslines: int = CROSSLINES,
    samples: int = SAMPLES,
    seed: int,
    kinds: tuple[BodyKind, ...] = (),
    grid: SurveyGrid = _USUAL_GRID,
    advance: Callable[[int], None] = lambda inlines: None,
) -> SyntheticSurvey:
    """A survey of layers, faults and salt, as migrated after stack: zero phase, its top of salt bright and positive.

    The same seed gives the same bytes, whatever the machine. Beside its arrays, making it takes the memory of about
    20 million samples, or of 16 inlines times 20 where these hold more.

    Args:
        inlines, crosslines, samples: numbers of them.
        seed: not negative.
        kinds: one a salt body; without any, one to three are drawn.
        grid: what its headers are to say.
        advance: told how many more inlines are made.

    Raises:
        InputError: a number is too small or too large.
    """
    shape = (inlines, crosslines, samples)
    raise_if_any(faults_of_sizes(shape, seed=seed, most=_MOST))
    return _fill(shape=shape, seed=seed, kinds=kinds, grid=grid, advance=advance)


def faults_of_sizes(shape: tuple[int, int, int], *, seed: int, most: int) -> list[Fault]:
    """What is wrong with numbers of inlines, crosslines and samples, of which there may be `most` in all."""
    limits = {
        "inlines": (FEWEST_LINES, 100_000),
        "crosslines": (FEWEST_LINES, 100_000),
        "samples": (_FEWEST_SAMPLES, 32_767),
        "seed": (0, 2**63 - 1),
    }
    faults = [
        Fault(f"--{name}", f"expected a whole number from {low} to {high}, found {number}")
        for (name, (low, high)), number in zip(limits.items(), (*shape, seed), strict=True)
        if not low <= number <= high
    ]
    if not faults and math.prod(shape) > most:
        what = f"expected at most {most} samples in all, found {math.prod(shape)}; make a smaller survey"
        faults = [Fault("--inlines, --crosslines, --samples", what)]
    return faults


def _fill(
    *,
    shape: tuple[int, int, int],
    seed: int,
    kinds: tuple[BodyKind, ...],
    grid: SurveyGrid,
    advance: Callable[[int], None],
) -> SyntheticSurvey:
    """The survey, part by part."""
    earth = draw_earth(shape, seed=seed, kinds=kinds)
    amplitude, salt = np.empty(shape, np.float32), np.empty(shape, np.bool_)
    top, base = np.empty(shape[:2], np.float32), np.empty(shape[:2], np.float32)
    for first, last, part in survey_parts(earth):
        amplitude[first:last], salt[first:last] = part.amplitude, part.salt
        top[first:last], base[first:last] = part.top_of_salt, part.base_of_salt
        advance(last - first)
    return SyntheticSurvey(amplitude, salt, top, base, kinds=earth.salt.kinds, grid=grid, seed=seed)


def survey_parts(earth: Earth) -> Iterator[tuple[int, int, Part]]:
    """First and last inline, the last not included, and all that lies between them, until the survey is whole.

    Memory does not go with the number of inlines: it takes about 20 million samples, or 16 inlines times 20.
    """
    inlines, crosslines, samples = earth.shape
    step = max(8, _PART_SAMPLES // (crosslines * samples))
    for first in range(0, inlines, step):
        last = min(first + step, inlines)
        yield first, last, make_part(earth, first, last)


def _numbers(first: int, step: int, *, count: int) -> NDArray[np.int32]:
    return (first + step * np.arange(count)).astype(np.int32)


def decimate(survey: SyntheticSurvey, *, inlines: int = 1, crosslines: int = 1) -> SyntheticSurvey:
    """Every so many-th inline and crossline from the first on; numbers and positions of the others stay theirs."""
    assert inlines >= 1, "at least every line"
    assert crosslines >= 1, "at least every line"
    kept = np.s_[::inlines, ::crosslines]
    return replace(
        survey,
        amplitude=survey.amplitude[kept].copy(),
        salt=survey.salt[kept].copy(),
        top_of_salt=survey.top_of_salt[kept].copy(),
        base_of_salt=survey.base_of_salt[kept].copy(),
        grid=decimated_grid(survey.grid, inlines=inlines, crosslines=crosslines),
    )


def decimated_grid(grid: SurveyGrid, *, inlines: int, crosslines: int) -> SurveyGrid:
    """Numbers and positions of every so many-th inline and crossline."""
    return replace(
        grid,
        inline_step=grid.inline_step * inlines,
        crossline_step=grid.crossline_step * crosslines,
        inline_spacing_m=grid.inline_spacing_m * inlines,
        crossline_spacing_m=grid.crossline_spacing_m * crosslines,
    )


def trace_positions(grid: SurveyGrid, *, inlines: int, crosslines: int, first_inline: int = 0) -> tuple[Field, Field]:
    """X and Y of traces, in whole centimetres: float64 (inlines, crosslines) in metres, both.

    Args:
        first_inline: its place in the grid, from 0 on.
    """
    turn = np.deg2rad(grid.turn_deg)
    along = grid.crossline_spacing_m * np.arange(crosslines)
    across = grid.inline_spacing_m * (first_inline + np.arange(inlines))[:, None]
    x = grid.origin_x_m + np.cos(turn) * along - np.sin(turn) * across
    y = grid.origin_y_m + np.sin(turn) * along + np.cos(turn) * across
    return np.round(x, 2), np.round(y, 2)


def live_mask(*, inlines: int, crosslines: int, kind: MaskKind, seed: int) -> NDArray[np.bool_]:
    """Which traces of a survey exist, or are live: bool (inlines, crosslines).

    Args:
        inlines, crosslines: numbers of them.
        kind: "regular": all. "ragged": those inside an irregular outline, which reaches the first and the last inline
            and crossline, but for holes where platforms stand; the others do not exist. "dead": all exist, and in
            clusters (spots, pieces of inlines, single traces) they are dead.
        seed: the same gives the same mask.
    """
    rng = np.random.default_rng([seed, _MASK_STREAM])
    match kind:
        case "regular":
            return np.ones((inlines, crosslines), np.bool_)
        case "ragged":
            return _outline(rng, inlines, crosslines) & ~_spots(
                rng, inlines, crosslines, count=int(rng.integers(1, 4)), inner=0.35, radii=(0.03, 0.07)
            )
        case "dead":
            spots = _spots(rng, inlines, crosslines, count=int(rng.integers(2, 5)), inner=0.0, radii=(0.02, 0.05))
            return ~(spots | _runs(rng, inlines, crosslines) | (rng.random((inlines, crosslines)) < 0.004))
        case _:
            assert_never(kind)


def _outline(rng: np.random.Generator, inlines: int, crosslines: int) -> NDArray[np.bool_]:
    """An irregular outline that touches all four sides."""
    i, x = np.arange(inlines)[:, None], np.arange(crosslines)
    before, behind = (_inset(rng, crosslines, depth=inlines) for _ in range(2))
    left, right = (_inset(rng, inlines, depth=crosslines)[:, None] for _ in range(2))
    inside = (i >= before) & (i < inlines - behind) & (x >= left) & (x < crosslines - right)
    return np.asarray(inside, np.bool_)


def _inset(rng: np.random.Generator, length: int, *, depth: int) -> NDArray[np.int64]:
    """Traces missing at one side, line by line; at one place in the middle half there are none."""
    place = np.arange(length, dtype=np.float64)
    touch = int(rng.uniform(0.3, 0.7) * length)
    wave = field_on(draw_field(rng, (length,), spacings=(length / 12 + 2,)), place)
    curve = rng.uniform(0.1, 0.35) * np.abs(place - touch) / length + 0.03 * np.abs(wave - wave[touch])
    # At most a quarter, so that no side cuts off the place where another touches.
    return np.asarray(np.floor(depth * np.minimum(curve, 0.25)), np.int64)


def _spots(
    rng: np.random.Generator, inlines: int, crosslines: int, *, count: int, inner: float, radii: tuple[float, float]
) -> NDArray[np.bool_]:
    """Discs whose middles lie no nearer to a side than the share `inner`."""
    i, x = np.arange(inlines)[:, None], np.arange(crosslines)
    found = np.zeros((inlines, crosslines), np.bool_)
    for _ in range(count):
        middle = np.floor(rng.uniform(inner, 1.0 - inner, size=2) * (inlines, crosslines))
        radius = rng.uniform(*radii) * min(inlines, crosslines)
        found |= np.square(i - middle[0]) + np.square(x - middle[1]) <= radius**2
    return found


def _runs(rng: np.random.Generator, inlines: int, crosslines: int) -> NDArray[np.bool_]:
    """Pieces of inlines."""
    found = np.zeros((inlines, crosslines), np.bool_)
    for _ in range(2 + inlines // 20):
        line, start = int(rng.integers(inlines)), int(rng.integers(crosslines))
        found[line, start : start + 1 + int(rng.uniform(0.02, 0.2) * crosslines)] = True
    return found
