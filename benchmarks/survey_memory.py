"""Peak memory of `diapir survey segment`, with next to no net: a survey, one of eight times its size, and MONAI's.

    python benchmarks/survey_memory.py [--lines 500 1414] [--peer-lines 707] [--samples 1000]

Each survey is segmented by a process of its own, of which the system tells the greatest resident memory. MONAI's
sliding window goes over inlines alone, has the volume in memory as greys in float32, and leaves its result there; ours
looks both ways, and reads and writes stores. Needs MONAI: pip install --no-deps monai
"""

import argparse
import os
import shutil
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
    parser.add_argument("--peer-lines", type=int, default=707, help="the same of the survey that MONAI does as well")
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    rows = [["survey", "GB", "by", "peak MiB", "million voxels/s"]]
    rows.append(["none", "", "importing torch and timm", f"{peak_of(['-c', 'import torch, timm']):.0f}", ""])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = brief_run(folder / "run", asked.recipe, *CHEAP)
        for lines in [*asked.lines, asked.peer_lines]:
            survey, salt = noise_store(folder / "survey.zarr", (lines, lines, asked.samples)), folder / "salt.zarr"
            commands = {"diapir": ["-m", "diapir", "survey", "segment", survey, "--model", run, "--out", salt]}
            if lines == asked.peer_lines:
                commands["MONAI"] = [Path(__file__).with_name("monai_window.py"), survey, run]
            for side, command in commands.items():
                rows.append(_row(side, [str(word) for word in command], (lines, lines, asked.samples)))
            shutil.rmtree(survey)
            shutil.rmtree(salt)
    print(heading("monai", "zarr", threads=os.cpu_count() or 1))
    print(table(rows))


def _row(side: str, arguments: list[str], shape: tuple[int, int, int]) -> list[str]:
    """What a process took: a line of the table."""
    peak = list[float]()
    took = seconds(lambda: peak.append(peak_of(arguments)))
    voxels = shape[0] * shape[1] * shape[2]
    size = " x ".join(str(length) for length in shape)
    return [size, f"{4 * voxels / 1e9:.1f}", side, f"{peak[0]:.0f}", f"{voxels / took / 1e6:.2f}"]


def peak_of(arguments: list[str]) -> float:
    """MiB of a Python process at most."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
