"""Run-length text of 4,000 masks, both ways: time of pycocotools / time of diapir.

    python benchmarks/rle_speed.py [--data DIR] [--pairs 15]

Equal masks first, or the script ends with status 1. The peer packs the same masks into its own text (COCO's, in the
order of memory that it wants) and unpacks that. The ratio is the median over pairs of runs, one after the other;
above 1 diapir is faster.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools import mask as peer

from diapir.data.rle import decode, encode
from masks import SIDE, take_masks
from rounds import heading, seconds, spread, table

NUM_MASKS = 4000


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], *, pairs: int) -> list[str]:
    """A row of the table: times in milliseconds and the ratio of each pair, the first pair left out."""
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(pairs + 1)])[1:] * 1e3
    ratios = (times[:, 1] / times[:, 0]).tolist()
    return [name, *(spread(side.tolist()).text(1) for side in times.T), spread(ratios).text()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="real masks from here; else masks made by code")
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    masks = take_masks(NUM_MASKS, folder=arguments.data)
    texts, packed = encode(masks), peer.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    if not np.array_equal(decode(texts, height=SIDE, width=SIDE), masks):
        raise SystemExit("diapir gives other masks than it was given")
    if not np.array_equal(peer.decode(packed).transpose(2, 0, 1), masks):
        raise SystemExit("pycocotools gives other masks than it was given")
    rows = [
        ["", "diapir, ms", "pycocotools, ms", "ratio"],
        compare(
            "encode",
            lambda: encode(masks),
            lambda: peer.encode(np.asfortranarray(masks.transpose(1, 2, 0))),
            pairs=arguments.pairs,
        ),
        compare(
            "decode",
            lambda: decode(texts, height=SIDE, width=SIDE),
            lambda: peer.decode(packed),
            pairs=arguments.pairs,
        ),
    ]
    num_runs = sum(len(text.split()) // 2 for text in texts)
    print(heading("pycocotools", threads=1))
    print(f"masks      {NUM_MASKS} with {num_runs} runs, {'real' if arguments.data else 'made by code'}; equal masks\n")
    print(table(rows))


if __name__ == "__main__":
    main()
