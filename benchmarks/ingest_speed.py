"""Speed of `diapir survey ingest` of a regular SEG-Y file over that of copying the file.

    python benchmarks/ingest_speed.py [--gigabytes 2] [--rounds 3] [--format ibm32]

The file is read once before anything is timed, so both sides find it in memory as far as that goes; both force what
they wrote to the disk. Rounds are interleaved; figures are medians, with the least and the greatest.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from diapir.runs import sha256_of_file
from diapir.volume.ingest import ingest
from made_survey import noise_segy
from rounds import heading, seconds, spread, table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format", default="ibm32")
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    lines = round((asked.gigabytes * 1e9 / (4 * asked.samples + 240)) ** 0.5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = noise_segy(folder / "survey.sgy", (lines, lines, asked.samples), stored=asked.format)
        sha256_of_file(source)

        def ours() -> None:
            shutil.rmtree(folder / "survey.zarr", ignore_errors=True)
            ingest(source, folder / "survey.zarr")
            os.sync()

        def copy() -> None:
            (folder / "copy.sgy").unlink(missing_ok=True)
            shutil.copyfile(source, folder / "copy.sgy")
            os.sync()

        times = [(seconds(ours), seconds(copy)) for _ in range(asked.rounds)]
        own, other = (np.array(column) for column in zip(*times, strict=True))
        size = source.stat().st_size
        print(heading("zarr", threads=2))
        print(f"file       {size / 1e9:.2f} GB, {lines} x {lines} traces of {asked.samples} samples, {asked.format}")
        rows = [["", "MB/s", "ingest / it"]]
        for title, values in (("diapir survey ingest", own), ("copying the file", other)):
            rate, ratio = (size / values / 1e6).tolist(), (values / own).tolist()
            rows.append([title, spread(rate).text(0), spread(ratio).text()])
        print(table(rows))


if __name__ == "__main__":
    main()
