"""How much higher random folds score than folds that keep the survey's neighbours together, on the same tiles.

    python benchmarks/folds_inflation.py DATA [--recipe recipes/tgs-cpu.yaml] [--epochs 8 2] [--out FOLDER]

The recipe, each of its stages shortened as asked, is trained on every fold of five twice: once with random folds, once
with those that hold a mosaic's tiles out together. All labelled tiles are held out once by each, so that their scores
are paired; neighbours are looked for among them alone. They are told apart by whether a direct neighbour was in the
training set of the random folds. A net that trains for longer remembers more of its tiles: what a short training shows
is the least that is to be expected.
"""

from diapir.processor import tune_process

tune_process()

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.data.folds import make_folds
from diapir.data.mosaic import are_beside_training, find_mosaics
from diapir.data.tgs import open_data
from diapir.data.tiles import write_data
from diapir.pipeline.run import run_recipe
from diapir.predict.comparing import read_held_out
from diapir.predict.gain import paired_gain
from diapir.recipe.files import read_recipe
from diapir.runs import read_json
from rounds import heading, table


def scores_of(run: Path, ids: tuple[str, ...]) -> NDArray[np.float64]:
    """The held-out score of each tile, (n,)."""
    rows = read_held_out(run)
    return np.array([float(rows[name]["score"]) for name in ids])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--epochs", type=int, nargs="+", default=[8, 2], help="of each stage")
    parser.add_argument("--out", type=Path, help="folder to work in; what is there goes on")
    asked = parser.parse_args()
    changes = ["folds.count=5", "folds.held_out=[0, 1, 2, 3, 4]"]
    for number, epochs in enumerate(asked.epochs):
        changes += [f"stages.{number}.epochs={epochs}", f"stages.{number}.score_every={epochs}"]
    recipes = {
        scheme: read_recipe(asked.recipe, changes=[*changes, f"folds.scheme={scheme}"])
        for scheme in ("random", "mosaic")
    }
    stages = recipes["random"].stages
    if len(stages) != len(asked.epochs):
        parser.error(f"--epochs: expected one for each of {len(stages)} stages, found {len(asked.epochs)}")
    data = open_data(asked.data)
    ids = data.labelled.ids
    with tempfile.TemporaryDirectory() as name:
        out = asked.out or Path(name)
        # All but one of the unlabelled tiles would be predicted for nothing.
        few = replace(data, unlabelled=data.unlabelled.take(np.arange(1)))
        if not (out / "data").exists():
            write_data(few, out / "data")
        for scheme, recipe in recipes.items():
            run_recipe(recipe, out / scheme, data_path=out / "data", resume=True)
        minutes = sum(read_json(out / scheme / "record.json")["train_minutes"] for scheme in recipes)
        random, mosaic = (scores_of(out / scheme, ids) for scheme in recipes)
    folds = make_folds(data.labelled, recipes["random"].folds)
    is_beside = are_beside_training(folds, find_mosaics(data.labelled.images))
    print(heading(threads=torch.get_num_threads()))
    print(f"{asked.recipe.name}, epochs of its stages {asked.epochs}, five folds by each scheme, {minutes:.0f} minutes")
    rows = [["tiles", "number", "mosaic folds", "random folds", "inflation (95 %)"]]
    for title, chosen in (
        ("all", np.ones(len(ids), bool)),
        ("beside a training tile of the random folds", is_beside),
        ("others", ~is_beside),
    ):
        gain = paired_gain(mosaic[chosen], random[chosen])
        interval = f"{gain.difference:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        rows.append([title, str(chosen.sum()), f"{gain.before:.4f}", f"{gain.after:.4f}", interval])
    print(table(rows))


if __name__ == "__main__":
    main()
