"""A seeded piece of earth with salt in it, in three dimensions, and the post-stack migrated picture of any part of it.

Lengths are traces and samples; axes are (inline, crossline, sample). Every part of an earth is made on its own, from
smooth fields and from noise that is seeded inline by inline, so that a survey of any size takes the memory of a part.

The same seed gives the same bytes whatever the machine, and however the earth is cut. This relies on NumPy's streams of
random numbers, which stay what they are, and on rounding: all arithmetic is float64, whose last bits differ between
processors and libraries, and the amplitude is rounded to whole numbers of a thousandth of its usual height only at the
very end. Nothing on the way magnifies those bits: they would have to differ by a millionth part to change a sample in
a million.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from diapir.volume.smooth_fields import Field, SmoothField, draw_field, field_on
from diapir.volume.synthetic_salt import BodyKind, SaltModel, draw_salt, salt_distance

USUAL_AMPLITUDE = 1000.0
"""About the root mean square of the amplitude. Samples are whole numbers, so every format of two bytes or more fits."""
_AROUND = 4  # traces around a part that lateral smoothing looks at
_BEYOND = 14  # samples above and below a survey whose reflections reach into it
_LATERAL = np.exp(-0.5 * np.square(np.arange(-_AROUND, _AROUND + 1) / 1.0))
_NOISE_STREAM = 1


@dataclass(frozen=True)
class _Fault:
    """A surface along which layers are displaced.

    Args:
        middle: where it stands on the map at depth 0.
        strike: angle of its trace on the map from the inlines.
        lean: traces that it moves with every sample at depth 0; negative the other way.
        listric: share by which the lean grows down to the bottom of the survey.
        throw: samples, in the middle of the fault.
        depth: of the greatest throw.
        length, height: where the throw has fallen to a third, along the strike and down.
        reach: how far from it layers are displaced, in traces.
    """

    middle: tuple[float, float]
    strike: float
    lean: float
    listric: float
    throw: float
    depth: float
    length: float
    height: float
    reach: float


@dataclass(frozen=True)
class Earth:
    """Layers, faults and salt of one survey.

    Args:
        shape: inlines, crosslines, samples.
        seed: of the noise.
        salt: its bodies.
        beds: float64 (positions,): impedance against stratigraphic position; it repeats beyond its end.
        facies, broken: how beds change along their length, and beds that break off; rough along stratigraphic position.
        folds, growth, older: samples of folding, share of thickening, and folding below the unconformity, on the map.
        dip: samples that layers above and below the unconformity sink with every trace, along both axes.
        unconformity: its depth.
        faults: in the order in which they were active.
        drag, drag_reach: samples that layers are bent up beside salt, and how far from it.
        period: samples of the dominant period at the top and at the bottom.
        contrast: impedance of salt against the usual spread of layers; brightness: how it changes on the map.
        gain: how amplitude changes in the survey.
        haze: noise among the layers; chaos: noise inside salt, both against the usual spread of layers.
        streaks: smooth part of the noise inside salt; dimness: how that noise changes.
    """

    shape: tuple[int, int, int]
    seed: int
    salt: SaltModel
    beds: Field
    facies: SmoothField
    broken: SmoothField
    folds: SmoothField
    growth: SmoothField
    older: SmoothField
    dip: tuple[tuple[float, float], tuple[float, float]]
    unconformity: float
    faults: tuple[_Fault, ...]
    drag: float
    drag_reach: float
    period: tuple[float, float]
    contrast: float
    brightness: SmoothField
    gain: SmoothField
    haze: float
    chaos: float
    streaks: SmoothField
    dimness: SmoothField


@dataclass(frozen=True)
class Part:
    """Neighbouring inlines of an earth.

    Args:
        amplitude: float32 (inlines, crosslines, samples), whole numbers.
        salt: bool of the same shape.
        top_of_salt, base_of_salt: float32 (inlines, crosslines): samples, not a number where there is none.
    """

    amplitude: NDArray[np.float32]
    salt: NDArray[np.bool_]
    top_of_salt: NDArray[np.float32]
    base_of_salt: NDArray[np.float32]


def draw_earth(shape: tuple[int, int, int], *, seed: int, kinds: tuple[BodyKind, ...] = ()) -> Earth:
    """An earth whose salt bodies are of the given kinds, or drawn."""
    rng = np.random.default_rng([seed, 0])
    salt = draw_salt(rng, shape, kinds=kinds)
    inlines, crosslines, samples = shape
    plan = (inlines, crosslines)
    positions = samples + 160
    broad = (45.0, 45.0)
    return Earth(
        shape=shape,
        seed=seed,
        salt=salt,
        beds=_draw_beds(rng, count=positions),
        facies=draw_field(rng, plan, spacings=(18.0, 18.0), trailing=positions),
        broken=draw_field(rng, plan, spacings=(5.0, 5.0), trailing=positions),
        folds=draw_field(rng, plan, spacings=broad),
        growth=draw_field(rng, plan, spacings=(70.0, 70.0)),
        older=draw_field(rng, plan, spacings=(30.0, 30.0)),
        dip=(
            (float(rng.normal(0, 0.09)), float(rng.normal(0, 0.09))),
            (float(rng.normal(0, 0.2)), float(rng.normal(0, 0.2))),
        ),
        unconformity=float(rng.uniform(0.35, 0.75)) * samples,
        faults=tuple(_draw_fault(rng, shape) for _ in range(int(rng.integers(3, 7)))),
        drag=float(rng.uniform(12.0, 22.0)),
        drag_reach=float(rng.uniform(24.0, 36.0)),
        period=(float(rng.uniform(8.0, 9.5)), float(rng.uniform(14.0, 19.0))),
        contrast=float(rng.uniform(2.6, 3.6)),
        brightness=draw_field(rng, plan, spacings=(25.0, 25.0)),
        gain=draw_field(rng, shape, spacings=(30.0, 30.0, 30.0)),
        haze=float(rng.uniform(0.22, 0.36)),
        chaos=float(rng.uniform(0.26, 0.4)),
        streaks=draw_field(rng, shape, spacings=(2.2, 2.2, 2.0)),
        dimness=draw_field(rng, shape, spacings=(18.0, 18.0, 18.0)),
    )


def _draw_beds(rng: np.random.Generator, *, count: int) -> Field:
    """Impedance against stratigraphic position: beds of random thickness, in units that are loud or quiet."""
    bed = np.cumsum(rng.random(count) < 1 / 3.5)
    unit = np.cumsum(rng.random(count) < 1 / 22.0)
    value = rng.normal(size=count) * np.exp(0.4 * rng.normal(size=count))
    loudness = rng.choice([0.4, 0.7, 1.0, 1.3], size=count)
    beds = value[bed] * loudness[unit]
    return np.asarray(beds / np.sqrt(np.mean(np.square(beds))), np.float64)


def _draw_fault(rng: np.random.Generator, shape: tuple[int, int, int]) -> _Fault:
    inlines, crosslines, samples = shape
    wide = min(inlines, crosslines)
    return _Fault(
        middle=(float(rng.uniform(0.1, 0.9)) * inlines, float(rng.uniform(0.1, 0.9)) * crosslines),
        strike=float(rng.uniform(0, np.pi)),
        lean=float(rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 0.6)),
        listric=float(rng.choice([0.0, rng.uniform(0.5, 2.0)])),
        throw=float(rng.uniform(8.0, 22.0)) * min(1.0, samples / 120),
        depth=float(rng.uniform(0.25, 0.8)) * samples,
        length=float(rng.uniform(0.25, 0.7)) * wide,
        height=float(rng.uniform(0.25, 0.6)) * samples,
        reach=float(rng.uniform(0.3, 0.9)) * wide,
    )


def make_part(earth: Earth, first: int, last: int) -> Part:
    """Inlines `first` to `last`, the last not included: geology, then impedance, then what a migrated picture shows."""
    inlines, crosslines, samples = earth.shape
    assert 0 <= first < last <= inlines, "a part lies within its survey"
    inline = np.arange(first - _AROUND, last + _AROUND, dtype=np.float64)
    crossline = np.arange(-_AROUND, crosslines + _AROUND, dtype=np.float64)
    sample = np.arange(-_BEYOND, samples + _BEYOND, dtype=np.float64)
    inside, smooth = salt_distance(earth.salt, inline, crossline, sample)
    position = _stratigraphy(earth, inline, crossline, sample, distance=smooth)
    del smooth
    fraction = np.clip(inside + 0.5, 0.0, 1.0)
    impedance = _look_up(_layer_cake(earth, inline, crossline), position)
    del position
    above = np.cumsum(fraction, axis=2)
    bright = np.exp(0.25 * field_on(earth.brightness, inline, crossline))[..., None]
    salty = earth.contrast * bright * (0.45 + 0.55 * np.exp(-above / 12.0))
    impedance += fraction * (salty - impedance)
    del salty
    impedance += _noise(earth, inline, crossline, sample, salt=fraction)
    for axis in (0, 1):
        impedance = convolve1d(impedance, _LATERAL / _LATERAL.sum(), axis=axis, mode="nearest")
    cut = np.s_[_AROUND:-_AROUND, _AROUND:-_AROUND]
    picture = impedance[cut] @ _wavelets(samples, period=earth.period)
    shown = np.s_[_BEYOND:-_BEYOND]
    # Less comes back from below salt.
    buried = np.clip(above[cut][..., shown] * (1.0 - fraction[cut][..., shown]) / 40.0, 0.0, 1.0)
    picture *= np.exp(0.25 * field_on(earth.gain, inline[cut[0]], crossline[cut[1]], sample[shown]) - 0.4 * buried)
    inside = inside[cut][..., shown]
    return Part(
        amplitude=np.rint(USUAL_AMPLITUDE * picture).astype(np.float32),
        salt=inside > 0,
        top_of_salt=_first_crossing(inside),
        base_of_salt=_last_crossing(inside),
    )


def _stratigraphy(earth: Earth, inline: Field, crossline: Field, sample: Field, *, distance: Field) -> Field:
    """Stratigraphic position of every point: folded, dragged by the salt, cut by an unconformity and by faults."""
    samples = earth.shape[2]
    i, x = inline[:, None], crossline
    depth = sample + earth.drag * np.exp(np.minimum(distance, 0.0) / earth.drag_reach)
    for fault in earth.faults:
        depth += _displacement(fault, i[..., None], x[:, None], sample, samples=samples)
    folds = (5.0 * field_on(earth.folds, inline, crossline))[..., None]
    thicker = (0.1 * field_on(earth.growth, inline, crossline))[..., None]
    (young_i, young_x), (old_i, old_x) = earth.dip
    older = depth + (old_i * i + old_x * x + 6.0 * field_on(earth.older, inline, crossline))[..., None] + samples / 2
    younger = depth + folds + (young_i * i + young_x * x)[..., None]
    younger += thicker * (depth - samples / 2)
    return np.where(depth + 0.6 * folds > earth.unconformity, older + folds, younger)


def _displacement(fault: _Fault, i: Field, x: Field, z: Field, *, samples: int) -> Field:
    """Samples by which one fault displaces layers: opposite on its two sides, dying out away from it and its middle."""
    cos, sin = np.cos(fault.strike), np.sin(fault.strike)
    along = cos * (i - fault.middle[0]) + sin * (x - fault.middle[1])
    across = cos * (x - fault.middle[1]) - sin * (i - fault.middle[0])
    heave = fault.lean * z * (1.0 + 0.5 * fault.listric * z / samples)
    # Its trace is bowed, as faults are on maps.
    side = across + 0.3 * np.square(along) / (3.0 * fault.length) - heave
    height = fault.throw * np.exp(-np.square((z - fault.depth) / fault.height))
    height = height * np.exp(-np.square(along / fault.length))
    return np.asarray(0.5 * height * np.clip(side, -1.0, 1.0) * np.exp(-np.abs(side) / fault.reach), np.float64)


def _layer_cake(earth: Earth, inline: Field, crossline: Field) -> Field:
    """Impedance of the layers by stratigraphic position: float64 (inlines, crosslines, positions)."""
    cake = 0.75 + 0.35 * field_on(earth.facies, inline, crossline)
    cake *= earth.beds
    cake += 0.3 * field_on(earth.broken, inline, crossline)
    return cake


def _look_up(cake: Field, position: Field) -> Field:
    """Linear interpolation along the last axis of a cake that repeats beyond its end."""
    count = cake.shape[2]
    whole = np.floor(position)
    part = position - whole
    at = whole.astype(np.int64) % count
    here = np.take_along_axis(cake, at, axis=2)
    at += 1
    at[at == count] = 0
    return here + part * (np.take_along_axis(cake, at, axis=2) - here)


def _noise(earth: Earth, inline: Field, crossline: Field, sample: Field, *, salt: Field) -> Field:
    """Noise among the layers and, of another texture, inside the salt."""
    size = (len(crossline), len(sample))
    streams = ([earth.seed, _NOISE_STREAM, int(number) + _AROUND] for number in inline)
    grain = np.stack([np.random.default_rng(stream).standard_normal(size) for stream in streams])
    chaos = earth.chaos * np.exp(0.35 * field_on(earth.dimness, inline, crossline, sample))
    noise = grain + 0.7 * field_on(earth.streaks, inline, crossline, sample)
    noise *= chaos
    grain *= earth.haze
    return grain + salt * (noise - grain)


def _wavelets(samples: int, *, period: tuple[float, float]) -> Field:
    """What one sample of impedance adds to a trace: float64 (samples + 2 * _BEYOND, samples).

    Reflectivity is the step of impedance from a sample to the next; it is seen through a mixture of Ricker wavelets
    whose dominant period grows with depth, of equal energy at all depths.

    Source: Ricker 1953, The form and laws of propagation of seismic wavelets, Geophysics 18(1); Margrave 1998, Theory
    of nonstationary linear filtering in the Fourier domain, Geophysics 63(1): nonstationary convolution, whose wavelet
    changes with the time of the impulse.
    """
    depth = np.arange(-_BEYOND, samples + _BEYOND - 1) + 0.5
    length = np.interp(depth, [0, samples], period)[:, None]
    away = np.arange(samples) - depth[:, None]
    seen = 0.6 * _ricker(away / length) + 0.4 * _ricker(away / (1.7 * length))
    seen /= np.sqrt(np.maximum(length, 1.0)) / 3.0
    wavelets = np.zeros((samples + 2 * _BEYOND, samples))
    wavelets[1:] += seen
    wavelets[:-1] -= seen
    return wavelets


def _ricker(periods: Field) -> Field:
    square = np.square(np.pi * periods)
    return np.asarray((1.0 - 2.0 * square) * np.exp(-square), np.float64)


def _first_crossing(inside: Field) -> NDArray[np.float32]:
    """Where a trace first goes into the salt, in samples: on or above its first sample of salt, less than one above."""
    found = inside > 0
    first = found.argmax(2)
    at = np.take_along_axis(inside, first[..., None], 2)[..., 0]
    before = np.take_along_axis(inside, np.maximum(first - 1, 0)[..., None], 2)[..., 0]
    crossing = np.where(first > 0, first - at / np.where(found.any(2) & (first > 0), at - before, 1.0), 0.0)
    return np.where(found.any(2), np.floor(256.0 * crossing) / 256.0, np.nan).astype(np.float32)


def _last_crossing(inside: Field) -> NDArray[np.float32]:
    """Where a trace leaves the salt for good; not a number where salt goes through the bottom."""
    bottom = inside.shape[2] - 1
    above = _first_crossing(inside[..., ::-1])
    return np.where(inside[..., -1] > 0, np.float32(np.nan), np.float32(bottom) - above)
