"""A seeded piece of earth with salt in it, and the picture that migrated seismic data give of it.

Lengths are pixels of a tile; arrays are (depth, distance). Everything is float64: pictures are rounded to grey levels
only at the very end, so that the last bit of a processor's arithmetic does not show.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, irfft2, rfft, rfft2

Field = NDArray[np.float64]
SaltKind = Literal["none", "massif", "diapir", "sheet", "overhang", "walls"]

HEIGHT, WIDTH = 320, 360
"""Size of a section, in pixels: room for ten tiles, and for salt of every shape."""
_PAD = 20
# Lengths without large prime factors, for the Fourier transform; the padding takes up its wrap-around.
_SHAPE = (HEIGHT + 2 * _PAD, WIDTH + 2 * _PAD)
_Z, _X = np.mgrid[: _SHAPE[0], : _SHAPE[1]].astype(np.float64)
_KZ = 2 * np.pi * np.fft.fftfreq(_SHAPE[0])[:, None]
_KX = 2 * np.pi * np.fft.rfftfreq(_SHAPE[1])[None, :]
_K = np.hypot(_KZ, _KX)

# Dominant period against depth, chosen so that tiles show the periods of the competition's labelled ones; the other
# numbers of this file were chosen in the same way, by eye and by benchmarks/synthetic_realism.py.
_PERIOD_DEPTHS_M = (50, 100, 200, 300, 430, 575, 725, 900)
_PERIODS_PX = (8.6, 10.6, 14.2, 18.0, 20.5, 24.0, 25.5, 24.0)


@dataclass(frozen=True)
class Section:
    """A section and its truth.

    Args:
        amplitude: float64 (HEIGHT, WIDTH), signed.
        salt: bool (HEIGHT, WIDTH), true inside the salt of the model.
    """

    amplitude: Field
    salt: NDArray[np.bool_]


def make_section(rng: np.random.Generator, *, depth_m: float, kind: SaltKind) -> Section:
    """A section at some depth, with salt of one kind: geology, reflectivity, wavelet, noise.

    The picture is what migration leaves: reflectivity seen through a wavelet that acts across the layers, so that steep
    ones are as thick as flat ones, and noise of the same band.
    """
    period = float(np.interp(depth_m, _PERIOD_DEPTHS_M, _PERIODS_PX)) * np.exp(rng.normal(0.0, 0.38))
    period = float(np.clip(period, 5.5, 42.0))
    inside = salt_distance(rng, kind=kind, period=period)
    fraction = np.clip(inside + 0.5, 0.0, 1.0)
    strain = min(float(np.exp(rng.normal(-0.3 if kind == "none" else 0.2, 0.6))), 2.5)
    bent = _bend(rng, salt=fraction, period=period, strain=strain)
    layers = _layers(rng, bent, period=period)
    contrast = rng.choice([-1.0, 1.0], p=[0.25, 0.75]) * np.exp(rng.normal(1.1, 0.7))
    # Where walls were drawn by hand, the picture often shows layers on both sides of them.
    opaque = fraction * rng.random() ** 0.5 if kind == "walls" else fraction
    contrast = 0.2 * contrast if kind == "walls" else contrast
    under = _depth_below_sea(rng, inside=inside)
    calm = np.clip(under / period, 0.0, 1.0)
    water = np.clip(0.5 - under, 0.0, 1.0)
    impedance = calm * (layers * (1.0 - opaque) + contrast * opaque) * (1.0 - water) - 6.0 * water
    picture = _image(rng, impedance=impedance, bent=bent, salt=opaque, period=period)
    picture *= np.clip(under + 0.6 * period, 0.0, 1.0)
    cut = np.s_[_PAD:-_PAD, _PAD:-_PAD]
    return Section(amplitude=picture[cut], salt=(inside > 0)[cut])


def salt_distance(rng: np.random.Generator, *, kind: SaltKind, period: float) -> Field:
    """About how far every pixel lies inside the salt (positive) or outside (negative), with the padding."""
    roughness = np.exp(rng.normal(-0.3, 0.7)) * min(1.0, 12.0 / period)
    match kind:
        case "none":
            return np.full(_SHAPE, -1e3)
        case "walls":
            # Interpreters often close a body that they cannot see with straight vertical lines.
            left = rng.uniform(60, 200)
            body = np.minimum(_X - left, left + rng.uniform(25, 190) - _X)
            return np.asarray(np.maximum(body, _X - rng.uniform(300, 420)), np.float64)
        case "massif":
            body = _below(_Z, _top(rng, level=rng.uniform(60, 260)))
            base = rng.uniform(120, 420)
            body = np.minimum(body, -_below(_Z, base + _curve(rng, _SHAPE[1], rms=12.0)))
        case "diapir":
            body = _diapir(rng)
        case "sheet":
            body = _sheet(rng, level=rng.uniform(70, 280))
        case "overhang":
            body = np.maximum(_diapir(rng), _sheet(rng, level=rng.uniform(60, 200)))
        case _:
            assert_never(kind)
    rough = _smooth_field(rng, scale=rng.uniform(5.0, 14.0)) + 0.5 * _smooth_field(rng, scale=4.0)
    return np.asarray(body + roughness * rough, np.float64)


def _top(rng: np.random.Generator, *, level: float) -> Field:
    """A salt top along the section: broad swells, now and then a spire or a basin cut into it."""
    top = level + _curve(rng, _SHAPE[1], rms=np.exp(rng.normal(3.0, 0.6)))
    for _ in range(rng.integers(0, 4)):
        width, height = rng.uniform(15, 60), rng.uniform(-110, 90)
        top = top - height / (1.0 + ((_X[0] - rng.uniform(0, _SHAPE[1])) / width) ** 2)
    return top + _curve(rng, _SHAPE[1], rms=1.0, shortest=12.0)


def _below(depth: Field, surface: Field | float) -> Field:
    """Distance below a surface, nearly true where the surface is steep."""
    slope = np.gradient(surface) if isinstance(surface, np.ndarray) else 0.0
    return np.asarray((depth - surface) / np.sqrt(1.0 + np.square(slope)), np.float64)


def _diapir(rng: np.random.Generator) -> Field:
    """A stock with a rounded head, leaning, waisted or mushroom-shaped."""
    depth = _Z[:, 0]
    top = rng.uniform(-60, 200)
    stem, head = rng.uniform(15, 90), rng.uniform(0.0, 90)
    cap = rng.uniform(20, 90)
    width = stem + rng.uniform(-0.15, 0.35) * (depth - top)
    width = width + head * np.exp(-(((depth - top - cap) / rng.uniform(30, 90)) ** 2))
    width = np.maximum(width, 8.0) * np.sqrt(np.clip((depth - top) / cap, 0.0, 1.0))
    middle = rng.uniform(60, 340) + rng.normal(0, 0.25) * (depth - 180) + _curve(rng, _SHAPE[0], rms=6.0)
    half = width + _curve(rng, _SHAPE[0], rms=3.0, shortest=30.0)
    slope = np.hypot(1.0, np.gradient(half))[:, None]
    return np.asarray(np.minimum((half[:, None] - np.abs(_X - middle[:, None])) / slope, _Z - top), np.float64)


def _sheet(rng: np.random.Generator, *, level: float) -> Field:
    """An allochthonous sheet: a top, a base, and ends that wedge out."""
    middle, reach = rng.uniform(40, 360), rng.uniform(70, 330)
    wedge = np.clip(1.0 - ((_X[0] - middle) / reach) ** 2, -0.5, 1.0)
    thickness = rng.uniform(25, 190) * np.sign(wedge) * np.sqrt(np.abs(wedge))
    top = _top(rng, level=level) + rng.normal(0, 0.3) * (_X[0] - middle)
    base = top + thickness + _curve(rng, _SHAPE[1], rms=8.0, shortest=30.0) * (wedge > 0)
    return np.minimum(_below(_Z, top), -_below(_Z, base))


def _depth_below_sea(rng: np.random.Generator, *, inside: Field) -> Field:
    """Distance below the sea floor, which no salt reaches; most sections lie wholly and far below it."""
    if rng.random() > 0.1:
        return np.full(_SHAPE, 1e3)
    highest = np.where((inside > 0).any(0), (inside > 0).argmax(0), _SHAPE[0])
    floor = rng.uniform(60, 190) + rng.normal(0, 0.15) * (_X[0] - 200) + _curve(rng, _SHAPE[1], rms=rng.uniform(1, 14))
    return np.asarray(_Z - (floor - max(float((floor - highest).max()) + 3.0, 0.0)), np.float64)


def _bend(rng: np.random.Generator, *, salt: Field, period: float, strain: float) -> Field:
    """Stratigraphic position of every pixel: folded, dragged by the salt, cut by unconformities and faults."""
    drag = _low_pass(salt, scale=rng.uniform(12, 30)) * np.clip(strain * rng.normal(15, 25), -25, 60)
    growth = np.exp(_curve(rng, _SHAPE[1], rms=0.15 * strain, shortest=150.0))
    folds = _curve(rng, _SHAPE[1], rms=strain * np.exp(rng.normal(1.9, 0.5)), shortest=90.0)
    bent = _Z * growth + strain * rng.normal(0, 0.3) * _X + folds
    surface = -1e3
    for _ in range(rng.integers(0, 3)):
        surface = surface + (1e3 + rng.uniform(40, 150) if surface < 0 else rng.uniform(60, 150))
        cut = surface + rng.normal(0, 0.12) * (_X - 200) + _curve(rng, _SHAPE[1], rms=6.0)
        older = bent + 400 + rng.normal(0, 0.35) * _X + _curve(rng, _SHAPE[1], rms=10.0)
        bent = np.where(cut < _Z, older, bent)
    bent = bent + drag + rng.uniform(0.02, 0.1) * period * _smooth_field(rng, scale=rng.uniform(4, 12))
    for _ in range(rng.poisson(1.4)):
        bent = bent + _fault(rng)
    return np.asarray(bent - bent.min(), np.float64)


def _layers(rng: np.random.Generator, bent: Field, *, period: float) -> Field:
    """Impedance of the sediments: continuous beds, and others that break off along their length."""
    beds = _look_up(_beds(rng, count=int(bent.max()) + 3, thickness=period * rng.uniform(0.15, 0.5)), bent)
    broken = _weave(rng, bent, length=np.exp(rng.normal(2.8, 0.6)))
    share = rng.uniform(0.1, 0.95)
    return np.asarray(share * beds / beds.std() + (1.0 - share) * 1.5 * broken, np.float64)


def _beds(rng: np.random.Generator, *, count: int, thickness: float) -> Field:
    """Impedance against stratigraphic position: beds of random thickness, a few of them strong."""
    chance = 1.0 / max(thickness, 1.2)
    bed = np.cumsum(rng.random(count) < chance)
    value = rng.normal(size=count) * np.exp(rng.uniform(0, 1) * rng.normal(size=count))
    return np.asarray(value[bed], np.float64)


def _look_up(values: Field, position: Field) -> Field:
    """Linear interpolation at positions that lie within the table."""
    whole = position.astype(np.int64)
    return np.asarray(values[whole] + (position - whole) * (values[whole + 1] - values[whole]), np.float64)


def _fault(rng: np.random.Generator) -> Field:
    """Displacement by one fault: opposite on its two sides, dying out away from it and towards its tips."""
    dip = rng.choice([-1, 1]) * rng.uniform(0.2, 0.8)
    middle = rng.uniform(20, 340)
    side = (_X - rng.uniform(20, 380) - dip * (_Z - middle)) / np.hypot(1.0, dip)
    throw = rng.uniform(2, 14) * np.exp(-(((_Z - middle) / rng.uniform(50, 160)) ** 2))
    return np.asarray(throw * np.clip(side, -1.0, 1.0) * np.exp(-np.abs(side) / rng.uniform(30, 150)), np.float64)


def _image(rng: np.random.Generator, *, impedance: Field, bent: Field, salt: Field, period: float) -> Field:
    """Amplitude of the migrated picture: phase, illumination, noise, wavelet, loss of frequency with depth."""
    phase = rng.normal(0, 0.5)
    seen = (1j * _KZ * np.cos(phase) + _K * np.sin(phase)) * (period / (2 * np.pi))
    squeeze, mixture = rng.uniform(0.15, 0.8), rng.dirichlet((1.0, 2.0, 3.0, 2.0))
    wavelets = _wavelets(period, squeeze=squeeze, mixture=mixture)
    signal = _see(rfft2(impedance) * seen, wavelets)
    rest = salt < 0.5
    level = _rms(signal[rest] if rest.mean() > 0.05 else signal)
    outside = _see(rfft2(_clutter(rng, steep=rng.uniform(0.2, 1.5))), wavelets)
    dull = _wavelets(period * rng.uniform(0.8, 1.8), squeeze=rng.uniform(squeeze, 1.1), mixture=mixture)
    within = _see(rfft2(_salt_clutter(rng, bent)), dull)
    blind = 4.0 if rng.random() < 0.2 else 1.0
    outside *= level * blind * np.exp(rng.normal(-1.2, 0.6)) / _rms(outside)
    within *= level * np.exp(rng.normal(-0.8, 0.6)) / _rms(within)
    gain = np.exp(0.7 * rng.random() ** 2 * _smooth_field(rng, scale=50.0))
    return np.asarray((signal + outside * (1.0 - salt) + within * salt) * gain, np.float64)


def _clutter(rng: np.random.Generator, *, steep: float) -> Field:
    """Noise outside the salt: grain, and the swings that migration draws across the layers, to both sides."""
    grain = rng.normal(size=_SHAPE)
    for side in (-1.0, 1.0):
        across = _Z + side * steep * rng.uniform(0.5, 1.5) * _X + _curve(rng, _SHAPE[1], rms=6.0)
        grain += rng.uniform(0.1, 1.3) * _weave(rng, across, length=rng.uniform(5, 25))
    return grain


def _salt_clutter(rng: np.random.Generator, bent: Field) -> Field:
    """Noise inside the salt: grain, steep fans and smiles, and a ghost of the layers around it."""
    fan = rng.normal(0, 0.4) + rng.normal(0, 0.7) * (_X - rng.uniform(0, 400)) / 200
    smile = _X + fan * (_Z - 180) + _curve(rng, _SHAPE[0], rms=5.0)[:, None]
    streaks = _weave(rng, smile.T, length=rng.uniform(10, 60)).T
    ghost = _weave(rng, bent, length=rng.uniform(10, 40))
    return rng.normal(size=_SHAPE) + 1.8 * rng.random() ** 2 * streaks + rng.random() ** 2 * ghost


def _weave(rng: np.random.Generator, across: Field, *, length: float) -> Field:
    """Noise that is smooth for about `length` pixels where `across` stays the same, and rough where it changes."""
    # The threads repeat after so many rows, out of a tile's sight.
    rows, columns = 256, across.shape[1]
    threads = rfft(rng.normal(size=(rows, columns)), axis=1)
    threads /= 1.0 + np.square(2 * np.pi * np.fft.rfftfreq(columns) * length / 2)
    cloth = irfft(threads, n=columns, axis=1)
    cloth = np.concatenate([cloth, cloth[:1]]).ravel()
    whole = np.floor(across)
    place = (whole.astype(np.int64) & (rows - 1)) * columns + np.arange(columns)
    here = cloth[place]
    woven = here + (across - whole) * (cloth[place + columns] - here)
    return np.asarray(woven / _rms(woven), np.float64)


def _see(spectrum: NDArray[np.complex128], wavelets: tuple[Field, Field]) -> Field:
    """What a picture's spectrum shows through one wavelet at the top of the section, and another at its bottom."""
    above, below = (irfft2(spectrum * wavelet, s=_SHAPE) for wavelet in wavelets)
    return np.asarray(above + (_Z / _SHAPE[0]) * (below - above), np.float64)


def _wavelets(period: float, *, squeeze: float, mixture: Field) -> tuple[Field, Field]:
    """The wavelet at the top and at the bottom of a section; its period grows by a quarter on the way."""
    above, below = (_wavelet(change * period, squeeze=squeeze, mixture=mixture) for change in (0.88, 1.12))
    return above, below


def _wavelet(period: float, *, squeeze: float, mixture: Field) -> Field:
    """Spectrum of a mixture of Ricker wavelets around a dominant period, narrower across than down by `squeeze`."""
    square = (np.square(_KZ) + np.square(squeeze * _KX)) * np.square(period / (2 * np.pi))
    spectrum = np.zeros(_K.shape)
    for scale, height in zip((3.0, 1.7, 1.0, 0.55), mixture, strict=True):
        spectrum += height * (square * scale**2) * np.exp(1.0 - square * scale**2)
    return spectrum


def _rms(values: Field) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _curve(rng: np.random.Generator, length: int, *, rms: float, shortest: float = 60.0) -> Field:
    """A smooth random curve whose waves are longer than `shortest` and taller the longer they are."""
    waves = np.arange(1, int(2 * length / shortest) + 1)
    height = rng.normal(size=len(waves)) / waves
    turn = rng.uniform(0, 2 * np.pi, size=len(waves))
    position = np.arange(length) * np.pi / length
    curve = (height[:, None] * np.cos(waves[:, None] * position + turn[:, None])).sum(0)
    return np.asarray(curve * (rms / np.sqrt(0.5 * np.sum(1.0 / waves**2.0))), np.float64)


def _smooth_field(rng: np.random.Generator, *, scale: float) -> Field:
    """Random field of unit spread whose detail is about `scale` pixels wide."""
    rows, columns = (min(n // 2, int(n / (2 * scale)) + 2) for n in _SHAPE)
    spectrum = np.zeros(_K.shape, np.complex128)
    for at, sign in ((np.s_[:rows, :columns], 1), (np.s_[-rows:, :columns], -1)):
        spectrum[at] = rng.normal(size=(rows, columns)) + sign * 1j * rng.normal(size=(rows, columns))
    spectrum *= np.exp(-0.5 * np.square(_K * scale / 2.0))
    spectrum[0, 0] = 0.0
    field = irfft2(spectrum, s=_SHAPE)
    return np.asarray(field / field.std(), np.float64)


def _low_pass(field: Field, *, scale: float) -> Field:
    return np.asarray(irfft2(rfft2(field) * np.exp(-0.5 * np.square(_K * scale)), s=_SHAPE), np.float64)
