"""Seeded salt bodies in three dimensions: stocks, pillows, sheets and overhangs, as one implicit function.

Lengths are traces and samples, taken as equal; axes are (inline, crossline, sample). The function is about the distance
to the nearest surface: positive inside the salt, negative outside.
"""

from dataclasses import dataclass, replace
from typing import Literal, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

from diapir.volume.smooth_fields import Field, SmoothField, draw_field, field_on

BodyKind = Literal["dome", "pillow", "sheet", "overhang"]
KINDS: tuple[BodyKind, ...] = get_args(BodyKind)

LEAST_SHARE, MOST_SHARE = 0.09, 0.19
"""Salt of a survey, between these shares of its samples before the surfaces are roughened."""
_COARSE = 24


@dataclass(frozen=True)
class _Outline:
    """An ellipse on the map: middle, mean radius, long over short radius, and turn of the long axis."""

    middle: tuple[float, float]
    reach: float
    aspect: float
    turn: float


@dataclass(frozen=True)
class _Dome:
    """A stock with a rounded head, leaning, waisted or flaring.

    Args:
        outline: of the stem.
        top: depth of the head.
        cap: how deep the rounding of the head goes.
        bulge: how much wider the head is than the stem, as a share.
        flare: traces that it widens with every sample downwards.
        lean: traces that its middle moves with every sample downwards, along both axes.
        root: depth where it ends.
    """

    outline: _Outline
    top: float
    cap: float
    bulge: float
    flare: float
    lean: tuple[float, float]
    root: float


@dataclass(frozen=True)
class _Lens:
    """A body between two surfaces that meet on an outline.

    Args:
        outline: where it ends.
        middle: depth where its surfaces meet.
        above, below: how far its top rises and its base sinks in the middle.
        blunt: it ends as an ellipse does; else as a parabola.
        tilt: samples that it sinks with every trace, along both axes.
    """

    outline: _Outline
    middle: float
    above: float
    below: float
    blunt: bool
    tilt: tuple[float, float]


@dataclass(frozen=True)
class SaltModel:
    """Every salt body of a survey.

    Args:
        kinds: what was drawn.
        bodies: their shapes; an overhang has two.
        size: all outlines are this many times as large.
        ceiling: no salt lies above this depth.
        warp: bends outlines along both axes.
        buckle: raises and lowers all surfaces on the map.
        bend: height of warp and buckle, in traces and samples.
        rough, fine: detail of the surfaces.
        roughness: its height, in samples.
    """

    kinds: tuple[BodyKind, ...]
    bodies: tuple[_Dome | _Lens, ...]
    size: float
    ceiling: float
    warp: tuple[SmoothField, SmoothField]
    buckle: SmoothField
    bend: float
    rough: SmoothField
    fine: SmoothField
    roughness: float


def draw_salt(rng: np.random.Generator, shape: tuple[int, int, int], *, kinds: tuple[BodyKind, ...] = ()) -> SaltModel:
    """Salt bodies of the given kinds, or of one to three drawn ones, apart from each other, sized to a survey.

    Args:
        rng: where they come from.
        shape: of the survey: inlines, crosslines, samples.
        kinds: one a body.
    """
    if not kinds:
        count = int(rng.choice([1, 2, 3], p=[0.2, 0.45, 0.35]))
        kinds = tuple(KINDS[int(number)] for number in rng.permutation(len(KINDS))[:count])
    ceiling = float(rng.uniform(0.14, 0.26)) * shape[2]
    middles = _draw_middles(rng, shape, count=len(kinds))
    parts = [_draw_body(rng, shape, kind=kind, at=at, ceiling=ceiling) for kind, at in zip(kinds, middles, strict=True)]
    wide = float(rng.uniform(0.1, 0.2)) * min(shape[:2]) + 4.0
    model = SaltModel(
        kinds=kinds,
        bodies=tuple(body for bodies in parts for body in bodies),
        size=1.0,
        ceiling=ceiling,
        warp=(
            draw_field(rng, shape, spacings=(wide, wide, wide)),
            draw_field(rng, shape, spacings=(wide, wide, wide)),
        ),
        buckle=draw_field(rng, shape[:2], spacings=(wide, wide)),
        bend=float(rng.uniform(0.12, 0.3)) * wide,
        rough=draw_field(rng, shape, spacings=(7.0, 7.0, 7.0)),
        fine=draw_field(rng, shape, spacings=(3.5, 3.5, 3.5)),
        roughness=float(rng.uniform(0.5, 1.1)) * min(1.0, min(shape) / 60),
    )
    return replace(model, size=_find_size(model, shape, share=float(rng.uniform(LEAST_SHARE, MOST_SHARE))))


def salt_distance(model: SaltModel, inline: Field, crossline: Field, sample: Field) -> tuple[Field, Field]:
    """About how far every point lies inside the salt (positive) or outside (negative): exactly, and without roughness.

    Args:
        model: the salt.
        inline, crossline, sample: float64 (i,), (x,), (s,): positions from 0, in traces and samples.

    Returns:
        Two float64 arrays (i, x, s). Salt is where the first is positive.
    """
    axes = (inline, crossline, sample)
    i = inline[:, None, None] + model.bend * field_on(model.warp[0], *axes)
    x = crossline[:, None] + model.bend * field_on(model.warp[1], *axes)
    z = sample + 0.4 * model.bend * field_on(model.buckle, inline, crossline)[..., None]
    smooth = np.full(i.shape, -np.inf)
    for body in model.bodies:
        match body:
            case _Dome():
                distance = _dome_distance(body, i, x, z, size=model.size)
            case _Lens():
                distance = _lens_distance(body, i, x, z, size=model.size)
            case _:
                assert_never(body)
        np.maximum(smooth, distance, out=smooth)
    rough = field_on(model.rough, *axes) + 0.45 * field_on(model.fine, *axes)
    return np.minimum(smooth + model.roughness * rough, sample - model.ceiling), smooth


def _dome_distance(dome: _Dome, i: Field, x: Field, z: Field, *, size: float) -> Field:
    depth = np.arange(0.0, max(dome.root, float(z.max())) + 1.0, 0.25)
    under = np.clip(depth - dome.top, 0.0, None)
    radius = dome.outline.reach * (1.0 + dome.bulge * np.exp(-np.square((under - dome.cap) / (1.5 * dome.cap))))
    radius = np.maximum(radius + dome.flare * under, 0.4 * dome.outline.reach)
    radius = size * radius * np.sqrt(np.clip(under / dome.cap, 0.0, 1.0))
    steep = np.hypot(1.0, np.gradient(radius, depth))
    below = z - dome.top
    across = _radius(dome.outline, i - dome.lean[0] * below, x - dome.lean[1] * below)
    side = (np.interp(z, depth, radius) - across) / np.interp(z, depth, steep)
    return np.minimum(np.minimum(side, below), dome.root - z)


def _lens_distance(lens: _Lens, i: Field, x: Field, z: Field, *, size: float) -> Field:
    reach = size * lens.outline.reach
    share = _radius(lens.outline, i, x) / reach
    left = 1.0 - np.square(share)
    # Outside of the outline the surfaces have crossed, so that no point lies between them.
    if lens.blunt:
        swell = np.sqrt(np.abs(left))
        slope = np.minimum(share, 1.0) / np.maximum(swell, 0.25)
        swell = np.copysign(swell, left)
    else:
        swell, slope = left, 2.0 * np.minimum(share, 1.0)
    sunk = z - lens.middle - lens.tilt[0] * (i - lens.outline.middle[0]) - lens.tilt[1] * (x - lens.outline.middle[1])
    slope = np.square(slope / reach)
    under_top = (lens.above * swell + sunk) / np.sqrt(1.0 + lens.above**2 * slope)
    over_base = (lens.below * swell - sunk) / np.sqrt(1.0 + lens.below**2 * slope)
    return np.asarray(np.minimum(under_top, over_base), np.float64)


def _radius(outline: _Outline, i: Field, x: Field) -> Field:
    """Distance from the middle, stretched so that the outline is a circle as large as the ellipse."""
    along, aside = i - outline.middle[0], x - outline.middle[1]
    cos, sin = np.cos(outline.turn), np.sin(outline.turn)
    stretch = np.sqrt(outline.aspect)
    first = np.square((cos / stretch) * along + (sin / stretch) * aside)
    return np.asarray(np.sqrt(first + np.square((cos * stretch) * aside - (sin * stretch) * along)), np.float64)


def _draw_middles(rng: np.random.Generator, shape: tuple[int, int, int], *, count: int) -> list[tuple[float, float]]:
    """Places on the map, each the farthest from those before it among a few."""
    middles: list[tuple[float, float]] = []
    for _ in range(count):
        tries: NDArray[np.float64] = rng.uniform(0.17, 0.83, size=(12, 2))
        gaps = [min((float(np.hypot(u - a, v - b)) for a, b in middles), default=0.0) for u, v in tries]
        best = tries[int(np.argmax(gaps))]
        middles.append((float(best[0]), float(best[1])))
    return [(u * shape[0], v * shape[1]) for u, v in middles]


def _draw_body(
    rng: np.random.Generator, shape: tuple[int, int, int], *, kind: BodyKind, at: tuple[float, float], ceiling: float
) -> tuple[_Dome | _Lens, ...]:
    """One body; tops leave room below the ceiling for what bends and roughens them."""
    width, depth = float(min(shape[:2])), float(shape[2])
    top = ceiling + float(rng.uniform(0.06, 0.22)) * depth
    turn, aspect = float(rng.uniform(0.0, np.pi)), float(rng.uniform(1.0, 1.7))
    tilt = (float(rng.normal(0.0, 0.12)), float(rng.normal(0.0, 0.12)))
    match kind:
        case "dome":
            return (_draw_dome(rng, _Outline(at, 0.16 * width, aspect, turn), top=top, depth=depth),)
        case "pillow":
            height = float(rng.uniform(0.28, 0.45)) * depth
            middle = min(top + height, 0.92 * depth)
            outline = _Outline(at, float(rng.uniform(0.35, 0.5)) * width, aspect, turn)
            return (_Lens(outline, middle, height, 0.2 * height, False, tilt),)
        case "sheet":
            thick = float(rng.uniform(0.1, 0.16)) * depth
            outline = _Outline(at, float(rng.uniform(0.3, 0.42)) * width, aspect, turn)
            return (_Lens(outline, top + thick, thick, thick, True, tilt),)
        case "overhang":
            stem = _draw_dome(rng, _Outline(at, 0.1 * width, aspect, turn), top=top, depth=depth)
            thick = float(rng.uniform(0.08, 0.13)) * depth
            reach = float(rng.uniform(0.22, 0.32)) * width
            aside = 0.5 * reach
            lobe = (at[0] + aside * float(np.cos(turn)), at[1] + aside * float(np.sin(turn)))
            return stem, _Lens(_Outline(lobe, reach, aspect, turn), top + 1.1 * thick, thick, thick, True, tilt)
        case _:
            assert_never(kind)


def _draw_dome(rng: np.random.Generator, outline: _Outline, *, top: float, depth: float) -> _Dome:
    rooted = rng.random() < 0.75
    return _Dome(
        outline=outline,
        top=top,
        cap=float(rng.uniform(0.08, 0.2)) * depth,
        bulge=float(rng.uniform(0.0, 0.6)),
        flare=float(rng.uniform(-0.03, 0.12)),
        lean=(float(rng.normal(0.0, 0.12)), float(rng.normal(0.0, 0.12))),
        root=2.0 * depth if rooted else float(rng.uniform(0.85, 0.97)) * depth,
    )


def _find_size(model: SaltModel, shape: tuple[int, int, int], *, share: float) -> float:
    """How many times as large the outlines must be for such a share of salt, by halving on a coarse grid."""
    axes = tuple(np.arange(0.0, n, max(1, n // _COARSE)) for n in shape)
    low, high = 0.1, 10.0
    for _ in range(12):
        size = float(np.sqrt(low * high))
        exact, _ = salt_distance(replace(model, size=size), *axes)
        low, high = (size, high) if np.mean(exact > 0) < share else (low, size)
    return float(np.sqrt(low * high))
