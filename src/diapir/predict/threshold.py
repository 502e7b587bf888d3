"""The probability above which a pixel is salt."""

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.metrics import scores_by_threshold
from diapir.predict.crossfit import crossed_parts

CANDIDATES = tuple(round(0.2 + 0.02 * step, 2) for step in range(31))
"""Thresholds that are tried: 0.20, 0.22 ... 0.80."""


def best_threshold(scores: NDArray[np.float64]) -> float:
    """The candidate with the highest mean score, smoothed over its two neighbours, for single peaks are noise.

    Args:
        scores: (num_candidates, n), in the order of CANDIDATES.
    """
    means = scores.mean(1)
    padded = np.pad(means, 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return CANDIDATES[int(smooth.argmax())]


def candidate_scores(probability: NDArray[np.floating], masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Score of each tile (n, h, w) at each candidate: (num_candidates, n)."""
    chunks = [
        scores_by_threshold(
            torch.from_numpy(probability[start : start + 512].astype(np.float32)),
            torch.from_numpy(masks[start : start + 512]),
            CANDIDATES,
        )
        for start in range(0, len(probability), 512)
    ]
    return torch.cat(chunks, dim=1).double().numpy()


def kept_curve(scores: NDArray[np.float64]) -> dict[str, list[float]]:
    """What a run keeps of the scores (num_candidates, n): each `threshold` and the mean `score` there."""
    return {"threshold": list(CANDIDATES), "score": scores.mean(1).round(5).tolist()}


def crossed_cuts(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each tile the threshold that other tiles choose: (n,), for an honest figure of a tuned threshold.

    Args:
        scores: (num_candidates, n).
    """
    cuts = np.empty(scores.shape[1])
    for own, others in crossed_parts(len(cuts)):
        cuts[own] = best_threshold(scores[:, others])
    return cuts
