"""What `diapir survey check` says of surveys that are alike, and of ones that were changed in a known way.

    python benchmarks/gate_separation.py DATA [--segy FOLDER] [--surveys 6] [--seed 0]

DATA is the competition's download in any form that `diapir data tgs` takes, or a folder that it wrote. Its labelled
tiles stand for what a model was trained on; parts of them and its unlabelled tiles, plain and changed, stand for
surveys. Then made surveys are held against each other, and with --segy the first traces of real SEG-Y files against
the tiles. A line a case: the verdict, the measures, and the log-odds that the polarity is the same.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, zoom

from diapir.data.mosaic import Mosaics, find_mosaics
from diapir.data.statistics import TileStatistics, tile_statistics
from diapir.data.tgs import read_tgs
from diapir.data.tiles import TileSet, is_constant, is_prepared, read_data
from diapir.volume.gate import judge
from diapir.volume.gate_measures import polarity, shape_distance, spectral_stretch
from diapir.volume.gate_sampling import SurveyStatistics, sample_tiles, survey_statistics
from diapir.volume.greys import amplitude_limit
from diapir.volume.line_numbers import Axis
from diapir.volume.segy import header_values, open_segy, samples
from diapir.volume.segy_headers import TRACE_FIELDS
from diapir.volume.store import Grid, Store, add_volume, cut_of, new_store, put_map
from diapir.volume.synthetic_survey import make_survey

Tiles = NDArray[np.uint8]
Volume = NDArray[np.float32]

THIRDS_M = ((0, 400), (400, 600), (600, 1000))
SHALLOWEST_M = (0, 200)
A_GROUP, NUM_GROUPS = 5, 6
NUM_CHANGED = 640
SHAPE = (120, 120, 400)
HEAD = ("level", "contrast", "mean", "shape", "v. scale", "left", "h. scale", "left", "same polarity")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--segy", type=Path)
    arguments.add_argument("--surveys", type=int, default=6)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    data = read_data(given.data) if is_prepared(given.data) else read_tgs(given.data)
    rng = np.random.default_rng(given.seed)
    training = tile_statistics(data.labelled.images)
    print(f"{'':<34}{HEAD[0]:>9}" + "".join(f"{name:>10}" for name in HEAD[1:]))
    for name, tiles in (*natural_tiles(data.labelled, data.unlabelled, rng), *changed_tiles(data.unlabelled, rng)):
        print_case(name, of_tiles(tiles), training)
    with tempfile.TemporaryDirectory() as folder:
        print_made(Path(folder), count=given.surveys, seed=given.seed, rng=rng)
        for path in sorted(given.segy.glob("*.sgy")) if given.segy else ():
            print_case(path.name[:33], survey_statistics(store_of_segy(Path(folder) / path.name, path)), training)


def natural_tiles(labelled: TileSet, unlabelled: TileSet, rng: np.random.Generator) -> Iterator[tuple[str, Tiles]]:
    """Parts of one survey: a model is fit for each, but that no net saw the shallowest alone."""
    yield "TGS, unlabelled", unlabelled.images[rng.permutation(len(unlabelled))[:NUM_CHANGED]]
    for low, high in (*THIRDS_M, SHALLOWEST_M):
        inside = (labelled.depths_m >= low) & (labelled.depths_m < high)
        yield f"TGS, {low} to {high} m", labelled.images[inside]
    images = np.concatenate([labelled.images, unlabelled.images])
    mosaics: Mosaics = find_mosaics(images)
    for group in range(NUM_GROUPS):
        numbers = range(group * A_GROUP, (group + 1) * A_GROUP)
        yield f"TGS, mosaics {numbers[0]} to {numbers[-1]}", images[np.isin(mosaics.mosaic, numbers)]


class Change(NamedTuple):
    """One way to change tiles.

    Args:
        factors: that it resamples by, down and across; masks go the same way.
    """

    name: str
    apply: Callable[[Tiles], NDArray[np.floating]]
    factors: tuple[float, float] = (1.0, 1.0)


def changes(images: Tiles, rng: np.random.Generator) -> Iterator[Change]:
    """Known changes of tiles whose mean is that of `images`."""
    middle, spread = float(images.mean()), float(images.std())
    yield Change("inverted", lambda tiles: 255.0 - tiles)
    for factors in ((2.0, 1.0), (1.5, 1.0), (1.25, 1.0), (0.8, 1.0), (0.67, 1.0), (0.5, 1.0)):
        yield Change(f"{factors[0]:g} x as many samples", partial(scaled, factors=factors), factors)
    for factors in ((1.0, 2.0), (1.0, 1.5), (1.0, 0.67), (1.0, 0.5)):
        yield Change(f"{factors[1]:g} x as many traces", partial(scaled, factors=factors), factors)
    for gain in (0.25, 0.5, 0.7, 1.4, 2.0, 4.0):
        yield Change(f"gain {gain:g}", partial(amplified, gain=gain, middle=middle))
    for shift in (15.0, 40.0, 80.0):
        yield Change(f"{shift:g} greys brighter", partial(np.add, shift))
    for sigma in (1, 2, 3):
        smooth = partial(gaussian_filter1d, sigma=sigma, axis=1, output=np.float32)
        yield Change(f"low-pass of {sigma} pixels", smooth)
    for noise in (5, 10, 20):
        yield Change(f"noise of {noise} greys", partial(noisy, deviation=noise, rng=rng))
    yield Change("noise alone", lambda tiles: rng.normal(middle, spread, tiles.shape))


def changed_tiles(unlabelled: TileSet, rng: np.random.Generator) -> Iterator[tuple[str, Tiles]]:
    """Unlabelled tiles, each changed in one way."""
    images = unlabelled.images[rng.permutation(len(unlabelled))[:NUM_CHANGED]]
    images = images[~is_constant(images)]
    for change in changes(images, rng):
        yield f"TGS, {change.name}", grey(change.apply(images))


def amplified(tiles: Tiles, *, gain: float, middle: float) -> NDArray[np.floating]:
    """Greys by a gain, which leaves one as it is."""
    return middle + gain * (tiles - middle)


def noisy(tiles: Tiles, *, deviation: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """Greys with white noise."""
    return tiles + rng.normal(0, deviation, tiles.shape)


def grey(values: NDArray[np.floating]) -> Tiles:
    """Rounded, and cut off at black and white."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def scaled(images: Tiles, *, factors: tuple[float, float], order: int = 1) -> NDArray[np.float32]:
    """Tiles resampled down and across, their upper left kept, mirrored at their far sides where they shrink."""
    side = images.shape[1]
    found = []
    for image in images:
        wide = np.pad(image, ((0, side), (0, side)), mode="symmetric").astype(np.float32)
        found.append(zoom(wide, factors, order=order)[:side, :side])
    return np.stack(found)


def of_tiles(tiles: Tiles) -> SurveyStatistics:
    """What the gate would know of a survey of such tiles, ten of which are as good as one stranger."""
    every = tile_statistics(tiles)
    assert every.asymmetry is not None
    strangers = max(len(tiles) / 10, 1.0) ** 0.5
    return SurveyStatistics(
        every,
        {"inline": every},
        (),
        asymmetry_error=every.asymmetry[1] / strangers,
        skewness_error=1.8 / strangers,
        interval=4.0,
        unit="ms",
        spacing={"inline": None, "crossline": None},
        limit=1.0,
        live_share=1.0,
        is_mirrored=False,
    )


def print_made(folder: Path, *, count: int, seed: int, rng: np.random.Generator) -> None:
    """Made surveys against all others, and against five inlines of their own; as they are, and changed."""
    volumes = [
        make_survey(inlines=SHAPE[0], crosslines=SHAPE[1], samples=SHAPE[2], seed=seed + number).amplitude
        for number in range(count)
    ]
    stores = [store_of(folder / f"made-{number}", volume) for number, volume in enumerate(volumes)]
    tiles = [sample_tiles(store).images for store in stores]
    for number, store in enumerate(stores):
        others = tile_statistics(np.concatenate([each for other, each in enumerate(tiles) if other != number]))
        plain, flipped = (
            survey_statistics(store),
            survey_statistics(store_of(folder / f"flipped-{number}", -volumes[number])),
        )
        print_case(f"made {number} against the others", plain, others)
        print_case(f"made {number}, flipped", flipped, others)
        sampled = sample_tiles(store)
        lines = np.unique(sampled.lines[~sampled.crosses])[2::4]
        own = tile_statistics(sampled.images[~sampled.crosses & np.isin(sampled.lines, lines)])
        print_case(f"made {number} against 5 inlines of it", plain, own)
        print_case(f"made {number} so, flipped", flipped, own)
    ways: dict[str, Callable[[Volume], Volume]] = {
        "every other sample": lambda volume: volume[:, :, ::2],
        "twice the samples": lambda volume: zoom(volume, (1, 1, 2), order=1),
        "every other line": lambda volume: volume[::2, ::2],
        "as much noise": lambda volume: volume + rng.normal(0, volume.std(), volume.shape).astype(np.float32),
    }
    others = tile_statistics(np.concatenate(tiles[1:]))
    for name, change in ways.items():
        store = store_of(folder / name.replace(" ", "-"), change(volumes[0]))
        print_case(f"made 0, {name}", survey_statistics(store), others)
    limit = amplitude_limit(volumes[0])
    for gain in (4.0, 0.25):
        store = store_of(folder / f"gain-{gain}", volumes[0], limit=limit / gain)
        print_case(f"made 0, gain {gain:g}", survey_statistics(store), others)


def store_of(path: Path, amplitude: Volume, *, limit: float | None = None) -> Store:
    """A survey store of amplitudes (inlines, crosslines, samples)."""
    shape = amplitude.shape
    grid = Grid(Axis(1, 1, shape[0]), Axis(1, 1, shape[1]), shape[2], 0.0, 4.0, "ms")
    store = new_store(path, grid, {"finished": True, "amplitude": {"limit": limit or amplitude_limit(amplitude)}})
    chunk, shard = cut_of((shape[0], shape[1], shape[2]))
    add_volume(store, "amplitude", chunk=chunk, shard=shard)[...] = amplitude
    put_map(store, "live", (amplitude != 0).any(2))
    for name in ("x", "y"):
        put_map(store, name, np.full(shape[:2], np.nan))
    return store


def store_of_segy(path: Path, source: Path) -> Store:
    """The same of a small SEG-Y file, whose inlines and crosslines stand where the standard wants them."""
    segy = open_segy(source)
    lines = header_values(segy, [TRACE_FIELDS["inline"], TRACE_FIELDS["crossline"]])
    places = [np.unique(values, return_inverse=True)[1] for values in lines]
    if len(set(zip(*(place.tolist() for place in places), strict=True))) < segy.num_traces:
        places = [np.zeros(segy.num_traces, np.int64), np.arange(segy.num_traces)]
    amplitude = np.zeros((int(places[0].max()) + 1, int(places[1].max()) + 1, segy.num_samples), np.float32)
    amplitude[places[0], places[1]] = samples(segy, slice(None))
    return store_of(path, amplitude)


def print_case(name: str, survey: SurveyStatistics, training: TileStatistics) -> None:
    own = survey.every
    vertical = spectral_stretch(own.vertical_spectrum, training.vertical_spectrum)
    horizontal = spectral_stretch(own.horizontal_spectrum, training.horizontal_spectrum)
    odds = polarity(
        own, training, asymmetry_error=survey.asymmetry_error, skewness_error=survey.skewness_error
    ).log_odds
    verdict = judge(survey, training)
    told = next(finding.level for finding in verdict.findings if finding.about == "polarity")
    figures = (
        own.deviation / training.deviation,
        (own.mean - training.mean) / training.deviation,
        shape_distance(own, training),
        *vertical,
        *horizontal,
    )
    row = "".join(f"{figure:>10.2f}" for figure in figures)
    print(f"{name:<34}{verdict.level:>9}{row}{odds:>+8.1f} {told}", flush=True)


if __name__ == "__main__":
    main()
