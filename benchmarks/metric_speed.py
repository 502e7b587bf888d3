"""The competition's metric for 4,000 tiles at ten probability thresholds: time of NumPy loops / time of diapir.

    python benchmarks/metric_speed.py [--data DIR] [--pairs 5] [--loop-tiles 400]

Two loops that public kernels of the competition have, written anew: "histogram" takes the overlap of each image from
np.histogram2d and goes through the ten overlap thresholds one by one; "logical" is the leaner one, with
np.logical_and and np.logical_or. They run on the first `--loop-tiles` tiles and their time is scaled up to all of
them, as they go image by image. Equal scores first, or the script ends with status 1. The ratio is the median over
pairs of runs, one after the other; above 1 diapir is faster.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from diapir.processor import tune_process

if __name__ == "__main__":
    tune_process()

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from diapir.metrics import scores_by_threshold
from masks import take_masks
from rounds import heading, seconds, spread, table

NUM_TILES = 4000
THRESHOLDS = np.linspace(0.05, 0.95, 10, dtype=np.float32)


def probabilities(masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a fair net might say: the mask, blurred and disturbed."""
    rng = np.random.default_rng(1)
    result = np.empty(masks.shape, np.float32)
    for mask, probability in zip(masks, result, strict=True):
        noise = gaussian_filter(rng.standard_normal(mask.shape, np.float32), 6)
        logits = 6 * gaussian_filter(mask.astype(np.float32), 2) - 3.5 + 2 * noise / noise.std()
        probability[...] = 1 / (1 + np.exp(-logits))
    return result


def histogram_score(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """One image, the way of the histogram kernels."""
    if not truth.any() and not predicted.any():
        return 1.0
    edges = [-0.5, 0.5, 1.5]
    overlap = np.histogram2d(truth.ravel(), predicted.ravel(), bins=(edges, edges))[0]
    area_truth = np.histogram(truth.astype(np.uint8), bins=edges)[0][:, None]
    area_predicted = np.histogram(predicted.astype(np.uint8), bins=edges)[0][None, :]
    union = area_truth + area_predicted - overlap
    ious = overlap[1:, 1:] / union[1:, 1:]
    precisions = []
    for threshold in range(10, 20):
        matches = 20 * overlap[1:, 1:] > threshold * union[1:, 1:]
        true_positives = np.sum(np.sum(matches, axis=1) == 1)
        false_positives = np.sum(np.sum(matches, axis=0) == 0)
        false_negatives = np.sum(np.sum(matches, axis=1) == 0)
        found = true_positives + false_positives + false_negatives
        precisions.append(true_positives / found if ious.size else 0.0)
    return float(np.mean(precisions))


def logical_score(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """One image, the way of the leaner kernels."""
    if not truth.any() or not predicted.any():
        return float(not truth.any() and not predicted.any())
    intersection = np.sum(np.logical_and(truth, predicted))
    union = np.sum(np.logical_or(truth, predicted))
    return float(np.mean([20 * intersection > threshold * union for threshold in range(10, 20)]))


Score = Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]


def loop(probability: NDArray[np.float32], truth: NDArray[np.bool_], *, score: Score) -> NDArray[np.float64]:
    """The scores at every threshold, image by image."""
    return np.array(
        [
            [score(tile, predicted > threshold) for tile, predicted in zip(truth, probability, strict=True)]
            for threshold in THRESHOLDS
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="real masks from here; else masks made by code")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--loop-tiles", type=int, default=400, help=f"tiles that the loops take; {NUM_TILES} for all")
    arguments = parser.parse_args()
    masks = take_masks(NUM_TILES, folder=arguments.data)
    probability, truth = probabilities(masks), masks > 0
    part = slice(min(NUM_TILES, arguments.loop_tiles))
    inputs = torch.from_numpy(probability), torch.from_numpy(truth), torch.from_numpy(THRESHOLDS)
    scores = scores_by_threshold(*inputs)
    rows = [["loop", "diapir, s", "loop, s", "ratio"]]
    for score in (histogram_score, logical_score):
        if not np.allclose(loop(probability[part], truth[part], score=score), scores[:, part].numpy(), atol=1e-6):
            raise SystemExit(f"{score.__name__} gives other scores than diapir")
        times = []
        for _ in range(arguments.pairs):
            ours_s = seconds(lambda: scores_by_threshold(*inputs))
            loop_s = seconds(lambda score=score: loop(probability[part], truth[part], score=score))  # type: ignore[misc]
            times.append((ours_s, loop_s * NUM_TILES / part.stop))
        ratios = [loop_s / ours_s for ours_s, loop_s in times]
        name = score.__name__.removesuffix("_score")
        columns = [spread(side).text() for side in zip(*times, strict=True)]
        rows.append([name, *columns, spread(ratios).text(1)])
    means = ", ".join(f"{mean:.3f}" for mean in scores.double().mean(1))
    print(heading("scipy", threads=torch.get_num_threads()))
    kind = "real" if arguments.data else "made by code"
    print(f"tiles      {NUM_TILES} at {len(THRESHOLDS)} thresholds, {kind}; equal scores")
    print(f"scores     {means}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
