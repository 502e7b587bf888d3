"""What a known change of the tiles costs a net: the other half of where the limits of `diapir survey check` come from.

    python benchmarks/gate_harm.py DATA RUN [--tiles 240] [--seed 0]

DATA is what the finished run RUN was trained on. Tiles of its first fold, which the net of its first train step never
saw, are changed in the ways of gate_separation.py, masks with them where the change is one of scale, and scored again:
the competition's score, and the IoU of all salt pixels together. Beside them stands what the gate measures: contrast,
mean, and scale and what it leaves, down and across.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diapir.data.statistics import tile_statistics
from diapir.data.tgs import open_data
from diapir.data.tiles import TileSet, is_constant
from diapir.metrics import mask_scores
from diapir.pipeline.plan import FOLDS, require_finished
from diapir.pipeline.predicting import fold_batches
from diapir.pipeline.workplace import folds_of
from diapir.recipe.files import read_recipe
from diapir.recipe.steps import Train
from diapir.train.together import make_fabric
from diapir.volume.gate_measures import spectral_stretch
from gate_separation import Change, changes, grey, scaled

HEAD = ("score", "IoU", "contrast", "mean", "v. scale", "left", "h. scale", "left")
CUT = 0.5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("--tiles", type=int, default=240)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    require_finished(given.run)
    recipe = read_recipe(given.run / "recipe.yaml")
    step = next(step for step in recipe.all_steps if isinstance(step, Train))
    fold, fabric = folds_of(recipe, step)[0], make_fabric(recipe.precision, devices=1)
    labelled = open_data(given.data).labelled
    rng = np.random.default_rng(given.seed)
    tiles = held_out(labelled, given.run / FOLDS, fold=fold, count=given.tiles, rng=rng)
    training = tile_statistics(labelled.images)
    print(f"{'':<26}" + "".join(f"{name:>10}" for name in HEAD))
    for change in (Change("unchanged", lambda images: images * 1.0), *changes(tiles.images, rng)):
        images, masks = changed(tiles, change)
        seen = TileSet(tiles.ids, images, masks, tiles.depths_m)
        batches = fold_batches(recipe, step, seen, fold=fold, out=given.run, fabric=fabric)
        found = (np.concatenate([batch.mask for batch in batches]) > CUT).astype(np.uint8)
        overlap = (found & masks).sum() / max(int((found | masks).sum()), 1)
        own = tile_statistics(images)
        figures = (
            mask_scores(found, masks).mean(),
            overlap,
            own.deviation / training.deviation,
            (own.mean - training.mean) / training.deviation,
            *spectral_stretch(own.vertical_spectrum, training.vertical_spectrum),
            *spectral_stretch(own.horizontal_spectrum, training.horizontal_spectrum),
        )
        print(f"{change.name:<26}" + "".join(f"{figure:>10.3f}" for figure in figures), flush=True)


def held_out(labelled: TileSet, folds: Path, *, fold: int | None, count: int, rng: np.random.Generator) -> TileSet:
    """Some tiles of a fold, but those of one grey."""
    rows = list(csv.reader(folds.read_text(encoding="utf-8").splitlines()[2:]))
    ids = {row[0] for row in rows if fold is None or row[1] == str(fold)}
    own = np.flatnonzero([each in ids for each in labelled.ids] & ~is_constant(labelled.images))
    return labelled.take(np.sort(rng.permutation(own)[:count]))


def changed(tiles: TileSet, change: Change) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images after a change, and their masks."""
    assert tiles.masks is not None
    masks = tiles.masks
    if change.factors != (1.0, 1.0):
        masks = scaled(masks, factors=change.factors, order=0).astype(np.uint8)
    return grey(change.apply(tiles.images)), masks


if __name__ == "__main__":
    main()
