"""Two dask workers against one for `diapir survey segment`, a thread each: how many times faster.

    python benchmarks/survey_workers.py [--recipe recipes/tgs-cpu.yaml] [--lines 64] [--rounds 3]

The clusters are up before anything is timed, and each has done a small survey, so that its workers hold the nets; what
is compared is the work alone. Both give the same bytes.
"""

from diapir.processor import tune_process

tune_process()

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from diapir.pipeline.side_by_side import Crew, local_workers
from diapir.volume.segment import segment
from diapir.volume.segment_on_dask import strips_by
from diapir.volume.store import open_store, read_volume
from made_survey import brief_run, noise_store
from rounds import heading, seconds, spread, table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--lines", type=int, default=128, help="inlines, and as many crosslines")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, local_workers(1, threads=1) as one, local_workers(2, threads=1) as two:
        folder = Path(name)
        run = brief_run(folder / "run", asked.recipe)
        survey = noise_store(folder / "survey.zarr", (asked.lines, asked.lines, 202))

        def work(crew: Crew, out: Path) -> float:
            shutil.rmtree(out, ignore_errors=True)
            return seconds(lambda: segment(survey, run, out, threads=1, do_strips=strips_by(crew)))

        outs = folder / "one.zarr", folder / "two.zarr"
        work(one, outs[0])
        work(two, outs[1])
        found = [read_volume(open_store(out), "probability") for out in outs]
        same = bool((found[0] == found[1]).all())
        times = np.array([(work(one, outs[0]), work(two, outs[1])) for _ in range(asked.rounds)])
        print(heading("distributed", "zarr", threads=1))
        print(f"survey     {asked.lines} x {asked.lines} x 202; same numbers: {same}")
        rows = [["", "seconds", "one / it"]]
        for number, title in enumerate(("one worker", "two workers")):
            ratio = (times[:, 0] / times[:, number]).tolist()
            rows.append([title, spread(times[:, number].tolist()).text(1), spread(ratio).text()])
        print(table(rows))


if __name__ == "__main__":
    main()
