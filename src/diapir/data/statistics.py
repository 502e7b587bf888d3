"""What tiles look like to a net: grey values, spectra, correlations; for other tiles to be held against."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import is_constant
from diapir.faults import InputError

BINS = 32
"""Equal parts of grey values from 0 to 1, and of frequencies from 0 to the Nyquist, half a cycle a pixel."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

SIDE = 8
"""Pixels above and below one that the asymmetry asks. Of 4 to 20 tried on the TGS tiles, 8 told their polarity best:
the mean is 4.4 times its deviation over six ranges of depth; that of skewness is 0.6 times its own."""

_GREYS = 256
_CHUNK = 64  # tiles of 101 x 101, with their waves: 20 MB


@dataclass(frozen=True)
class TileStatistics:
    """Figures of a set of tiles. All but the first four, and the depths, are of the tiles that are not of one grey.

    Args:
        constant_share: of all tiles, those of one grey value.
        mean, deviation, skewness: of grey values in 0..1. Skewness turns its sign with the polarity.
        percentiles: the smallest grey values that so many percent of the pixels do not exceed; one for each of
            PERCENTILES.
        histogram: shares of the pixels, BINS of them.
        vertical_spectrum, horizontal_spectrum: mean amplitude down the columns and along the rows, BINS of them, as
            `band_power` scales it: white noise of deviation s has s everywhere.
        vertical_correlation, horizontal_correlation: of each pixel with the next one below and beside it, once the
            tile's mean is taken out.
        depth_m: least and greatest depth of a tile's top; None where none is known.
        asymmetry: mean over the tiles, and their deviation, of the `asymmetry` of each, which turns its sign with the
            polarity; None for tiles lower than 3 SIDE, and in bundles that were written before it was asked for.
    """

    num_tiles: int
    height_px: int
    width_px: int
    constant_share: float
    mean: float
    deviation: float
    skewness: float
    percentiles: tuple[float, ...]
    histogram: tuple[float, ...]
    vertical_spectrum: tuple[float, ...]
    horizontal_spectrum: tuple[float, ...]
    vertical_correlation: float
    horizontal_correlation: float
    depth_m: tuple[float, float] | None = None
    asymmetry: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; an asymmetry that is not known is left out, as bundles did that never asked for it."""
        raw = asdict(self)
        if raw["asymmetry"] is None:
            del raw["asymmetry"]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in raw.items()}

    @classmethod
    def stored(cls, raw: Mapping[str, Any]) -> "TileStatistics":
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it was not given by it.
        """
        sizes = {"num_tiles", "height_px", "width_px"}
        lists = {"percentiles": len(PERCENTILES)} | dict.fromkeys(
            ("histogram", "vertical_spectrum", "horizontal_spectrum"), BINS
        )
        fields: dict[str, Any] = {}
        for key in cls.__dataclass_fields__:
            value = raw.get(key) if key == "asymmetry" else raw[key]
            if key in ("depth_m", "asymmetry"):
                fields[key] = None if value is None else tuple(_numbers(key, value, count=2))
            elif key in lists:
                fields[key] = tuple(_numbers(key, value, count=lists[key]))
            elif key in sizes:
                fields[key] = _size(key, value)
            else:
                (fields[key],) = _numbers(key, [value], count=1)
        if unknown := sorted(set(raw) - set(fields)):
            raise ValueError(f"{unknown[0]}: no such figure")
        return cls(**fields)


def tile_statistics(images: NDArray[np.uint8], *, depths_m: NDArray[np.float32] | None = None) -> TileStatistics:
    """Figures of tiles, uint8 (n, height, width), each side of 2 pixels or more.

    Args:
        depths_m: (n,), NaN where unknown.

    Raises:
        InputError: no tile holds more than one grey value.
    """
    count, height, width = images.shape
    assert min(height, width) >= 2
    varied = np.flatnonzero(~is_constant(images))
    if not len(varied):
        raise InputError.of("tiles", f"expected some of more than one grey value, found none among {count}")
    greys = np.zeros(_GREYS, np.int64)
    spectra, sums = np.zeros((2, BINS)), np.zeros((2, 3))
    asymmetries: list[NDArray[np.float64]] = []
    for start in range(0, len(varied), _CHUNK):
        chunk = images[varied[start : start + _CHUNK]]
        greys += np.bincount(chunk.reshape(-1), minlength=_GREYS)
        asymmetries += [asymmetry(chunk)] if height >= 3 * SIDE else []
        for axis, tiles in enumerate((chunk.swapaxes(1, 2), chunk)):
            grey = tiles / 255
            spectra[axis] += np.sqrt(band_power(grey).mean(1)).sum(0)
            sums[axis] += _neighbour_sums(grey)
    correlations = [products / math.sqrt(own * next_) if own * next_ else 0.0 for products, own, next_ in sums]
    known = np.empty(0) if depths_m is None else depths_m[~np.isnan(depths_m)]
    turns = np.concatenate(asymmetries) if asymmetries else None
    return TileStatistics(
        num_tiles=count,
        height_px=height,
        width_px=width,
        constant_share=_figure(1 - len(varied) / count),
        **_grey_figures(greys),
        vertical_spectrum=tuple(map(_figure, spectra[0] / len(varied))),
        horizontal_spectrum=tuple(map(_figure, spectra[1] / len(varied))),
        vertical_correlation=_figure(correlations[0]),
        horizontal_correlation=_figure(correlations[1]),
        depth_m=(_figure(known.min()), _figure(known.max())) if len(known) else None,
        asymmetry=None if turns is None else (_figure(turns.mean()), _figure(turns.std())),
    )


def asymmetry(tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How grey values go with where the energy lies, of each tile (n, height, width): (n,), from -1 to 1.

    The correlation of a pixel, its tile's mean taken out, with the energy of the SIDE pixels above it less that of the
    SIDE below. Strong events are followed by weaker ones, and wavelets are seldom quite symmetric: over many tiles the
    sign stays, while that of skewness wanders; turned polarity turns it exactly. Constant tiles have 0.

    Args:
        tiles: at least 2 SIDE + 1 pixels high.

    Source: a third-order correlation over lags, which unlike the skewness knows time's direction; Nikias and
    Raghuveer 1987, Bispectrum estimation: a digital signal processing framework.
    """
    height = tiles.shape[1]
    assert height > 2 * SIDE
    grey = tiles / 255
    grey -= grey.mean((1, 2), keepdims=True)
    energy = np.pad(np.cumsum(grey**2, axis=1), ((0, 0), (1, 0), (0, 0)))
    sums = energy[:, SIDE:] - energy[:, :-SIDE]
    inner = height - 2 * SIDE
    more_above = sums[:, :inner] - sums[:, SIDE + 1 :]
    middle = grey[:, SIDE : SIDE + inner]
    size = np.sqrt((middle**2).sum((1, 2)) * (more_above**2).sum((1, 2)))
    turns: NDArray[np.float64] = (middle * more_above).sum((1, 2)) / np.where(size > 1e-12, size, np.inf)
    return turns


def band_power(lines: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Power of lines (..., length) in BINS equal bands of frequency up to the Nyquist: (..., BINS).

    The line's mean is taken out, and its ends are tapered (Hann). White noise of variance v has the power v in every
    band, however long the lines are.

    Source: the modified periodogram; Welch 1967, The use of fast Fourier transform for the estimation of power spectra.
    """
    length = lines.shape[-1]
    places = np.arange(length)[:, None]
    taper = np.sin(np.pi * (places + 0.5) / length) ** 2
    # Twice as many frequencies as pixels, or more, and as many in each band; none is 0.
    number = BINS * -(-length // BINS)
    angles = np.pi * places * np.arange(1, number + 1) / number
    # Of lines this short a product of matrices is several times faster than a fast transform.
    waves = np.concatenate([taper * np.cos(angles), taper * np.sin(angles)], axis=1) / np.sqrt((taper**2).sum())
    parts = (lines - lines.mean(-1, keepdims=True)).astype(np.float32) @ waves.astype(np.float32)
    power: NDArray[np.float64] = (parts**2).reshape(*lines.shape[:-1], 2, BINS, -1).sum(-3).mean(-1, dtype=np.float64)
    return power


def _neighbour_sums(tiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over all pairs along the last axis: of their products, of the first's squares, of the second's."""
    deviations = tiles - tiles.mean((1, 2), keepdims=True)
    own, following = deviations[..., :-1], deviations[..., 1:]
    return np.array([(own * following).sum(), (own**2).sum(), (following**2).sum()])


def _grey_figures(greys: NDArray[np.int64]) -> dict[str, Any]:
    """What follows from how many pixels have each grey value."""
    shares, values = greys / greys.sum(), np.arange(_GREYS) / (_GREYS - 1)
    mean = float((shares * values).sum())
    deviation = math.sqrt((shares * (values - mean) ** 2).sum())
    # In whole numbers, for a share may fall short of its percentile by a rounding.
    reached = [int(np.searchsorted(100 * greys.cumsum(), percent * greys.sum())) for percent in PERCENTILES]
    return {
        "mean": _figure(mean),
        "deviation": _figure(deviation),
        "skewness": _figure((shares * (values - mean) ** 3).sum() / deviation**3),
        "percentiles": tuple(_figure(values[grey]) for grey in reached),
        "histogram": tuple(map(_figure, shares.reshape(BINS, -1).sum(1))),
    }


def _figure(value: float) -> float:
    """Six digits: what is beyond differs between machines, and tells nothing."""
    return float(f"{float(value):.6g}")


def _numbers(key: str, values: Any, *, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{key}: expected {count} numbers")
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise ValueError(f"{key}: expected finite numbers")
    return [float(value) for value in values]


def _size(key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{key}: expected a whole number above 0")
    return value
