"""What a probability is worth: of the held-out pixels that were given it, the share that is salt."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from diapir.data.tiles import UNKNOWN

_BINS = 32
_CHUNK = 256  # tiles at once


def calibration_table(probability: NDArray[np.floating], truth: NDArray[np.uint8]) -> dict[str, list[float]] | None:
    """Rising tables `raw` and `true` of equal length; None where all probabilities are alike.

    Pixels are sorted into 32 equal parts of 0 to 1 by their probability; each part that has any gives their mean and
    the share of them that is salt, and where shares fall, neighbours are put together (isotonic regression).

    Args:
        probability: (n, h, w), of tiles that the models were not trained on.
        truth: (n, h, w) of 0, 1 and UNKNOWN, which does not count.

    Source: Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates (2002).
    """
    count, raw, salt = np.zeros((3, _BINS))
    for start in range(0, len(truth), _CHUNK):
        mask = truth[start : start + _CHUNK]
        values = probability[start : start + _CHUNK].astype(np.float64)[mask != UNKNOWN]
        part = np.clip((values * _BINS).astype(np.int64), 0, _BINS - 1)
        count += np.bincount(part, minlength=_BINS)
        raw += np.bincount(part, weights=values, minlength=_BINS)
        salt += np.bincount(part, weights=mask[mask != UNKNOWN] == 1, minlength=_BINS)
    held = count > 0
    if held.sum() < 2:
        return None
    shares = isotonic_regression(salt[held] / count[held], weights=count[held]).x
    return {
        "raw": np.round(raw[held] / count[held], 5).tolist(),
        "true": np.round(np.clip(shares, 0, 1), 5).tolist(),
    }
