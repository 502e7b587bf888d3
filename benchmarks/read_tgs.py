"""How fast the competition's PNGs are read and checked: seconds, and tiles a second.

    python benchmarks/read_tgs.py SOURCE [--runs 5]

SOURCE is the competition's download in any form that `diapir data tgs` takes. Timed is the whole of `read_tgs`: opening
the zips, every check, decoding, and holding masks against run lengths. The first run also warms the file cache.
"""

import argparse
import statistics
import time
from pathlib import Path

from diapir.data.tgs import read_tgs
from diapir.record import provenance


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("--runs", type=int, default=5)
    given = arguments.parse_args()
    elapsed_s, tiles = [], 0
    for _ in range(given.runs):
        start = time.perf_counter()
        data = read_tgs(given.source)
        elapsed_s.append(time.perf_counter() - start)
        tiles = len(data.labelled) + len(data.unlabelled)
    hardware = provenance()
    print(f"{tiles:,} tiles, {given.runs} runs on {hardware['processor']}, {hardware['cores']} cores")
    middle = statistics.median(elapsed_s)
    print(f"seconds  min {min(elapsed_s):.2f}  median {middle:.2f}  max {max(elapsed_s):.2f}")
    print(f"tiles/s  {tiles / middle:,.0f} (median)")


if __name__ == "__main__":
    main()
