"""How near synthetic tiles come to real ones: statistics of both, and whether a classifier tells them apart.

    python benchmarks/synthetic_realism.py DATA [--tiles 1000] [--seed 0]

DATA is the competition's download in any form that `diapir data tgs` takes, or a folder that it wrote. Every line
gives the 10, 50 and 90 % quantiles of one statistic over the tiles that are not constant, and the Kolmogorov-Smirnov
distance between real and synthetic (0 is alike, 1 is apart). The last lines give the area under the curve of two
classifiers on all statistics: 0.5 cannot tell, 1 always can.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, uniform_filter
from scipy.stats import kurtosis, rankdata, skew

from diapir.data.synthetic import make_synthetic
from diapir.data.tgs import read_tgs
from diapir.data.tiles import TileSet, is_prepared, read_data

Values = NDArray[np.float64]
DEPTHS_M = ((0, 200), (200, 350), (350, 500), (500, 650), (650, 800), (800, 1000))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--tiles", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    data = read_data(given.data) if is_prepared(given.data) else read_tgs(given.data)
    chosen = np.random.default_rng(given.seed).permutation(len(data.labelled))[: given.tiles]
    made, _ = make_synthetic(labelled=len(chosen), unlabelled=0, seed=given.seed)
    print_comparison(data.labelled.take(np.sort(chosen)), made.labelled)


def print_comparison(real: TileSet, synthetic: TileSet) -> None:
    """Print shares, then statistics, then what classifiers make of them."""
    print(f"{'share or mean':<34}{'real':>12}{'synthetic':>12}")
    shares = [shares_of(real), shares_of(synthetic)]
    for name in shares[0]:
        print(f"{name:<34}{shares[0][name]:>12.3f}{shares[1][name]:>12.3f}")
    statistics = [statistics_of(real), statistics_of(synthetic)]
    print(f"\n{'10, 50, 90 % of':<34}{'real':>26}{'synthetic':>26}{'KS':>7}")
    for name in statistics[0]:
        first, second = (found[name][np.isfinite(found[name])] for found in statistics)
        quantiles = ["".join(f"{q:8.2f}" for q in np.quantile(v, (0.1, 0.5, 0.9))) for v in (first, second)]
        print(f"{name:<34}{quantiles[0]:>26}{quantiles[1]:>26}{_ks(first, second):>7.2f}")
    names = [name for name in statistics[0] if all(np.isfinite(found[name]).all() for found in statistics)]
    tables = [np.stack([found[name] for name in names], 1) for found in statistics]
    print(f"\n{'median vertical period, px':<34}{'real':>12}{'synthetic':>12}")
    periods = [found["vertical period, px"] for found in statistics]
    depths_m = [tiles.depths_m[is_moving(tiles)] for tiles in (real, synthetic)]
    for low, high in DEPTHS_M:
        usual = [np.median(p[(z >= low) & (z < high)]) for p, z in zip(periods, depths_m, strict=True)]
        print(f"{f'at {low} to {high} m':<34}{usual[0]:>12.1f}{usual[1]:>12.1f}")
    print(f"\nreal or synthetic, {len(names)} statistics, 5 folds")
    print(f"area under the curve, linear      {separability(*tables, squares=False):.3f}")
    print(f"area under the curve, quadratic   {separability(*tables, squares=True):.3f}")


def shares_of(tiles: TileSet) -> dict[str, float]:
    """Shares of special tiles, coverage classes, and how coverage goes with depth."""
    assert tiles.masks is not None
    area = tiles.masks.sum((1, 2), dtype=np.int64)
    size = tiles.masks[0].size
    salt = area > 0
    vertical = salt & (tiles.masks == tiles.masks[:, :1]).all((1, 2))
    found = {
        "constant": float((~is_moving(tiles)).mean()),
        "empty": float(1 - salt.mean()),
        "1 to 100 salt pixels": float((salt & (area <= 100)).mean()),
        "vertical mask": float(vertical.mean()),
        "last row all salt": float(tiles.masks[:, -1].all(1).mean()),
    }
    classes = np.ceil(10 * area / size)
    found |= {f"coverage class {k}": float((classes == k).mean()) for k in range(1, 11)}
    for low, high in DEPTHS_M:
        here = (tiles.depths_m >= low) & (tiles.depths_m < high)
        found[f"empty at {low} to {high} m"] = float((~salt)[here].mean()) if here.any() else float("nan")
    return found


def statistics_of(tiles: TileSet) -> dict[str, Values]:
    """Statistics of every tile that is not constant, each (tiles,); not a number where a tile has no salt boundary."""
    assert tiles.masks is not None
    moving = is_moving(tiles)
    grey = tiles.images[moving].astype(np.float64)
    spread = grey.std((1, 2))
    level = (grey - grey.mean((1, 2), keepdims=True)) / spread[:, None, None]
    flat = level.reshape(len(level), -1)
    found = {
        "grey mean": grey.mean((1, 2)),
        "grey sd": spread,
        "grey skewness": skew(flat, axis=1),
        "grey kurtosis (log of 3 +)": np.log(np.maximum(kurtosis(flat, axis=1) + 3, 1.0)),
        "% of pixels at 0": 100 * (grey == 0).mean((1, 2)),
        "% of pixels at 255": 100 * (grey == 255).mean((1, 2)),
        "flat pixels % (water)": 100 * _flat_share(grey),
    }
    found |= _wave_statistics(level)
    found |= _texture_statistics(level)
    return found | _salt_statistics(level, tiles.masks[moving] > 0)


def is_moving(tiles: TileSet) -> NDArray[np.bool_]:
    """Which tiles are not of one grey."""
    return np.asarray(tiles.images.max((1, 2)) > tiles.images.min((1, 2)))


def _flat_share(grey: Values) -> Values:
    same = (grey[:, 1:, 1:] == grey[:, :-1, 1:]) & (grey[:, 1:, 1:] == grey[:, 1:, :-1])
    return np.asarray(same.mean((1, 2)), np.float64)


def _wave_statistics(level: Values) -> dict[str, Values]:
    """Periods and bandwidths down and across, and correlation lengths."""
    found = {}
    for name, axis in (("vertical", 1), ("lateral", 2)):
        window = np.hanning(level.shape[axis]).reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
        power = np.square(np.abs(np.fft.rfft(level * window, axis=axis))).mean(3 - axis)
        frequency = np.fft.rfftfreq(level.shape[axis])
        power[:, :2] = 0
        middle = (power * frequency).sum(1) / power.sum(1)
        width = np.sqrt((power * np.square(frequency - middle[:, None])).sum(1) / power.sum(1))
        found[f"{name} period, px"] = 1 / middle
        found[f"{name} bandwidth / frequency"] = width / middle
        found[f"{name} power above 0.25 (log10)"] = np.log10(power[:, frequency > 0.25].sum(1) / power.sum(1))
        found[f"{name} correlation length, px"] = _correlation_length(level, axis=axis)
    return found


def _correlation_length(level: Values, *, axis: int) -> Values:
    """Lag at which the autocorrelation falls below a half, to a fraction of a pixel."""
    size = level.shape[axis]
    power = np.square(np.abs(np.fft.rfft(level, n=2 * size, axis=axis))).mean(3 - axis)
    curve = np.fft.irfft(power, axis=1)[:, :size] / np.arange(size, 0, -1)
    curve /= curve[:, :1]
    below = np.maximum((curve < 0.5).argmax(1), 1)
    rows = np.arange(len(level))
    before, after = curve[rows, below - 1], curve[rows, below]
    return np.asarray(below - 1 + (before - 0.5) / np.maximum(before - after, 1e-9), np.float64)


def _texture_statistics(level: Values) -> dict[str, Values]:
    """Dip, how much the layers agree on it, speckle, and how evenly the amplitude lies over the tile."""
    down, across = np.gradient(level, axis=(1, 2))
    smooth = (0, 4, 4)
    aa, bb, ab = (gaussian_filter(field, smooth) for field in (down * down, across * across, down * across))
    agreement = np.sqrt(np.square(aa - bb) + 4 * np.square(ab)) / np.maximum(aa + bb, 1e-12)
    dip = np.degrees(np.abs(0.5 * np.arctan2(2 * ab, aa - bb)))
    local = np.sqrt(uniform_filter(np.square(level), (0, 21, 21))[:, 10:-10:10, 10:-10:10]).reshape(len(level), -1)
    return {
        "coherence": agreement.mean((1, 2)),
        "coherence, sd within the tile": agreement.std((1, 2)),
        "dip, degrees": dip.mean((1, 2)),
        "dip, sd within the tile": dip.std((1, 2)),
        "speckle (log10)": np.log10((level - gaussian_filter(level, (0, 1, 1))).std((1, 2))),
        "amplitude, 90 / 10 % of places": np.log10(
            np.quantile(local, 0.9, axis=1) / np.maximum(np.quantile(local, 0.1, axis=1), 1e-3)
        ),
        "strongest amplitude / sd": np.abs(level).max((1, 2)),
    }


def _salt_statistics(level: Values, salt: NDArray[np.bool_]) -> dict[str, Values]:
    """Salt against the rest, and the brightness of its boundary, of tiles that hold enough of both."""
    ratio, edge, step, rough = (np.full(len(level), np.nan) for _ in range(4))
    for row, (picture, mask) in enumerate(zip(level, salt, strict=True)):
        if not 0.1 < mask.mean() < 0.9:
            continue
        inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
        near = np.where(mask, inside, outside) <= 4
        far_in, far_out = picture[(inside > 8)], picture[(outside > 8)]
        if min(far_in.size, far_out.size) < 300:
            continue
        ratio[row] = np.log10(far_in.std() / max(float(far_out.std()), 1e-3))
        edge[row] = np.log10(np.sqrt(np.mean(np.square(picture[near]))) / max(float(far_out.std()), 1e-3))
        step[row] = abs(far_in.mean() - far_out.mean())
        rough[row] = ((inside > 0) & (inside <= 1)).sum() / np.sqrt(mask.size)
    return {
        "log10 sd of salt / rest": ratio,
        "log10 boundary / rest": edge,
        "mean of salt - mean of rest": step,
        "boundary length / side": rough,
    }


def separability(real: Values, synthetic: Values, *, squares: bool) -> float:
    """Cross-validated area under the curve of a ridge classifier (with products of statistics, if asked)."""
    table = np.concatenate([real, synthetic])
    truth = np.repeat([1.0, -1.0], [len(real), len(synthetic)])
    table = rankdata(table, axis=0) / len(table) - 0.5
    if squares:
        upper = np.triu_indices(table.shape[1])
        table = np.concatenate([table, 4 * (table[:, :, None] * table[:, None, :])[:, upper[0], upper[1]]], 1)
    table = np.concatenate([table, np.ones((len(table), 1))], 1)
    fold = np.random.default_rng(0).permutation(len(table)) % 5
    score = np.zeros(len(table))
    for held in range(5):
        seen = table[fold != held]
        weights = np.linalg.solve(seen.T @ seen + 3.0 * np.eye(table.shape[1]), seen.T @ truth[fold != held])
        score[fold == held] = table[fold == held] @ weights
    ranks = rankdata(score)
    positive = truth > 0
    above = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / (positive.sum() * (~positive).sum()))


def _ks(first: Values, second: Values) -> float:
    places = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


if __name__ == "__main__":
    main()
