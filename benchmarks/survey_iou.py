"""How well salt is found in a whole survey from five labelled inlines of 200: intersection over union of all voxels.

    python benchmarks/survey_iou.py [--seeds 0 1 2] [--recipe recipes/survey.yaml]

For each seed a survey is made, its five labelled inlines are learned from, and the whole is segmented, by the commands
that a user gives. The truth of the made survey is exact. The interval is over inlines that nobody labelled, drawn again
and again in blocks of ten, for neighbours are alike.
"""

from diapir.processor import tune_process

tune_process()

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from diapir.runs import read_json
from diapir.volume.segy import open_segy, samples
from diapir.volume.store import open_store, read_volume
from rounds import heading, seconds, table

BLOCK, DRAWS = 10, 2000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", type=Path, default=Path("recipes/survey.yaml"))
    parser.add_argument("--keep", type=Path, help="folder to work in, and to leave everything in")
    asked = parser.parse_args()
    rows = [["seed", "training min", "segmenting s", "IoU of the whole (95 %)", "salt"]]
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = asked.keep / str(seed) if asked.keep else Path(name)
            rows.append([str(seed), *measure(folder, seed, asked.recipe)])
            print("done:", *rows[-1], file=sys.stderr, flush=True)
    print(heading("zarr", threads=2))
    print(table(rows))


def measure(folder: Path, seed: int, recipe: Path) -> list[str]:
    """What training and segmenting took, and what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    survey, store, run, salt = (folder / name for name in ("survey.sgy", "survey.zarr", "run", "salt.zarr"))
    truth_path, labels = folder / "truth.sgy", folder / "labels"
    diapir("synthetic", survey, "--seed", seed, "--labels", labels, "--truth", truth_path)
    diapir("ingest", survey, store)
    diapir("train", store, "--labels", labels, "--recipe", recipe, "--out", run)
    took = seconds(lambda: diapir("segment", store, "--model", run, "--out", salt))
    found = open_store(salt)
    mask = read_volume(found, "mask") > 0
    truth = samples(open_segy(truth_path), slice(None)).reshape(mask.shape) > 0.5
    low, high = interval(mask, truth)
    minutes = read_json(run / "record.json")["train_minutes"]
    return [f"{minutes:.1f}", f"{took:.0f}", f"{iou(mask, truth):.4f} ({low:.4f} to {high:.4f})", f"{truth.mean():.1%}"]


def diapir(*words: object) -> None:
    """A command, as a user gives it."""
    subprocess.run([sys.executable, "-m", "diapir", "survey", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union."""
    return float((mask & truth).sum() / (mask | truth).sum())


def interval(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Of the whole's, over blocks of inlines drawn with replacement."""
    both, either = ((mask & truth).sum((1, 2)), (mask | truth).sum((1, 2)))
    blocks = len(both) // BLOCK
    both, either = (each[: blocks * BLOCK].reshape(blocks, BLOCK).sum(1) for each in (both, either))
    drawn = np.random.default_rng(0).integers(0, blocks, (DRAWS, blocks))
    low, high = np.percentile(both[drawn].sum(1) / either[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
