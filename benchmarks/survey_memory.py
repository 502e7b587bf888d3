"""Peak memory of `diapir survey segment`: a survey against one of eight times its size, with next to no net.

    python benchmarks/survey_memory.py [--lines 500 1414] [--samples 1000]

Each survey is segmented by a process of its own, of which the system tells the greatest resident memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from made_survey import CHEAP, brief_run, noise_store
from rounds import heading, seconds, table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--lines", type=int, nargs="+", default=[500, 1414], help="inlines, and as many crosslines")
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    rows = [["survey", "GB", "peak MiB", "million voxels/s"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = brief_run(folder / "run", asked.recipe, *CHEAP)
        for lines in asked.lines:
            shape = (lines, lines, asked.samples)
            survey = noise_store(folder / f"{lines}.zarr", shape)
            peak = list[float]()
            took = seconds(lambda: peak.append(peak_of(survey, run, folder / f"{lines}-salt.zarr")))  # noqa: B023
            voxels = 2 * shape[0] * shape[1] * shape[2]
            size = f"{lines} x {lines} x {asked.samples}"
            rows.append([size, f"{2 * voxels / 1e9:.1f}", f"{peak[0]:.0f}", f"{voxels / took / 1e6:.2f}"])
    print(heading("zarr", threads=os.cpu_count() or 1))
    print(table(rows))


def peak_of(survey: Path, run: Path, out: Path) -> float:
    """MiB of a process that segments a survey."""
    command = [sys.executable, "-m", "diapir", "survey", "segment", str(survey), "--model", str(run), "--out", str(out)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
