"""How long the survey's mosaics of the competition's 22,000 tiles take, and how they compare with the published ones.

    python benchmarks/mosaics_speed.py SOURCE [--runs 3]

SOURCE is the competition's download in any form that `diapir data tgs` takes. Timed is what `diapir data mosaics` does
once the tiles are read: finding neighbours, the table, the figures, and the picture of the ten largest.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

from diapir.data.mosaic_files import survey_mosaics
from diapir.data.tgs import open_data
from diapir.predict.mosaic_edits import check_rules, describe_check
from diapir.predict.mosaic_rules import labelled_survey
from diapir.runs import read_json
from rounds import heading, spread


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    data, elapsed_s = open_data(asked.source), list[float]()
    with tempfile.TemporaryDirectory() as name:
        for _ in range(asked.runs):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                mosaics = survey_mosaics(data, Path(name))
            elapsed_s.append(time.perf_counter() - start)
        figures = read_json(Path(name) / "mosaics.json")
    print(heading(threads=1))
    print(f"{len(mosaics):,} tiles, {asked.runs} runs: {spread(elapsed_s).text(1)} seconds (goal: 300)")
    print(f"{figures['mosaics']} mosaics of {figures['tiles']:,} tiles (published: 377 of 5,235)")
    beside = figures["held_out_beside_training"]
    print(f"held-out labelled tiles beside training ones, by folds: {beside}")
    for check in check_rules(labelled_survey(data, mosaics)):
        print(describe_check(check))


if __name__ == "__main__":
    main()
