"""Run-length text of 4,000 masks, both ways: time of pycocotools / time of diapir, equal masks first.

    python benchmarks/rle_speed.py [--data DIR] [--pairs 15]

The peer packs the same masks into its own text (COCO's, in the order it wants them) and unpacks that. The ratio is
the median over pairs of runs, one after the other; above 1 diapir is faster.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from diapir.data.tgs import open_data
from numpy.typing import NDArray
from pycocotools import mask as peer
from scipy.ndimage import gaussian_filter

from diapir.data.rle import decode, encode
from diapir.runs import provenance

NUM_MASKS = 4000


def synthetic_masks(number: int) -> NDArray[np.uint8]:
    """Smooth blobs with ragged rims, four in ten tiles without salt, as in the competition."""
    rng = np.random.default_rng(0)
    field = np.empty((number, 101, 101), np.float32)
    for tile in field:
        smooth = gaussian_filter(rng.standard_normal((101, 101), np.float32), 14)
        tile[...] = smooth / smooth.std() + 0.6 * gaussian_filter(rng.standard_normal((101, 101), np.float32), 1.5)
    threshold = np.where(rng.random(number) < 0.4, np.inf, rng.uniform(-1.5, 1.5, number))
    masks: NDArray[np.uint8] = (field > threshold[:, None, None]).astype(np.uint8)
    return masks


def real_masks(folder: Path, number: int) -> NDArray[np.uint8]:
    """The labelled masks of a data set, repeated up to the number."""
    masks = open_data(folder).labelled.masks
    assert masks is not None
    return masks[np.arange(number) % len(masks)]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Callable[[], object], theirs: Callable[[], object], *, pairs: int) -> dict[str, Any]:
    """Times of both, one after the other, and the ratio of each pair."""
    seconds(ours), seconds(theirs)
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(pairs)])
    ratios = times[:, 1] / times[:, 0]
    return {
        "diapir_ms": round(1e3 * float(np.median(times[:, 0])), 2),
        "pycocotools_ms": round(1e3 * float(np.median(times[:, 1])), 2),
        "ratio": round(float(np.median(ratios)), 2),
        "ratio_min": round(float(ratios.min()), 2),
        "ratio_max": round(float(ratios.max()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="real masks from here; else masks made by code")
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    masks = real_masks(arguments.data, NUM_MASKS) if arguments.data else synthetic_masks(NUM_MASKS)
    texts, packed = encode(masks), peer.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    assert np.array_equal(decode(texts, height=101, width=101), masks)
    assert np.array_equal(peer.decode(packed).transpose(2, 0, 1), masks)
    result = {
        "what": f"run-length text of {NUM_MASKS} masks of 101 x 101, {arguments.data or 'made by code'}",
        "runs": sum(len(text.split()) // 2 for text in texts),
        "pairs": arguments.pairs,
        "encode": compare(
            lambda: encode(masks),
            lambda: peer.encode(np.asfortranarray(masks.transpose(1, 2, 0))),
            pairs=arguments.pairs,
        ),
        "decode": compare(
            lambda: decode(texts, height=101, width=101), lambda: peer.decode(packed), pairs=arguments.pairs
        ),
        "pycocotools": version("pycocotools"),
        **provenance(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
