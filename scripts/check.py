"""Runs the project's checks one after the other, all of them, and says how long each took; `make test` runs it.

`make bench` runs it too: what a benchmark prints is kept under runs/bench/, where it ended well, or with `--keep` under
results/benchmarks/, for whoever wants to commit it.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES, KEPT_FIGURES = ROOT / "runs" / "bench", ROOT / "results" / "benchmarks"
CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    # In three processes, for some tests wait, a file in one of them, for its fixtures are costly; the slowest are named
    # so that the suite stays quick.
    "tests": ["pytest", "-n", "3", "--dist", "loadfile", "--durations=20", "--durations-min=4"],
}
REAL_TILES = "$DIAPIR_TGS"
# Those that cannot do without the real tiles name them first, the others take them where they are at hand.
BENCHMARKS = {
    "rle_speed": ["--data", REAL_TILES],
    "metric_speed": ["--data", REAL_TILES],
    "lovasz_speed": [],
    "step_overhead": [],
    "train_speed": ["--rounds", "5", "--steps", "4"],
    "predict_speed": [],
    "read_tgs": [REAL_TILES],
    "synthetic_realism": [REAL_TILES],
    "mosaics_speed": [REAL_TILES],
    "folds_inflation": [REAL_TILES],
    "smoke_speed": [REAL_TILES],
    "gate_separation": [REAL_TILES],
    "ingest_speed": [],
    "survey_speed": ["--tiles", "4", "--lines", "48"],
    "survey_memory": [],
    "survey_kills": [],
    "survey_workers": [],
    "survey_iou": [],
    "segment_service": [],
    "viewer_speed": [],
}


def main() -> int:
    """Run the named checks; the exit status is 1 where any failed."""
    parser = argparse.ArgumentParser(description="Run checks, all of them, and time each.")
    parser.add_argument("checks", nargs="+", choices=[*CHECKS, "benchmarks", *BENCHMARKS])
    parser.add_argument("--keep", action="store_true", help="write what benchmarks print under results/benchmarks/")
    asked = parser.parse_args()
    figures = KEPT_FIGURES if asked.keep else FIGURES
    results = []
    for name in asked.checks:
        for one in BENCHMARKS if name == "benchmarks" else [name]:
            started_s = time.monotonic()
            code = _benchmark(one, figures) if one in BENCHMARKS else _check(one)
            results.append((one, code, time.monotonic() - started_s))
    print("== summary")
    for title, code, elapsed_s in results:
        verdict = {0: "ok", None: f"not run: it needs the real tiles, {REAL_TILES} names none"}
        print(f"{title:24} {elapsed_s:6.1f} s  {verdict.get(code, f'FAILED (exit status {code})')}")
    return int(any(code for _, code, _ in results))


def _check(name: str) -> int:
    command = ["-m", *CHECKS[name]]
    print(f"== {name}: {' '.join(command)}", flush=True)
    # A thread for each of the test processes, which are more than the cores already.
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if name == "tests" else {})
    return subprocess.run([sys.executable, *command], cwd=ROOT, check=False, env=environment).returncode


def _benchmark(name: str, figures: Path) -> "int | None":
    """Exit status, or None where it cannot be run; what it printed is shown as it comes, and kept."""
    tiles, arguments = os.environ.get("DIAPIR_TGS"), BENCHMARKS[name]
    if not tiles:
        if arguments[:1] == [REAL_TILES]:
            return None
        arguments = [] if REAL_TILES in arguments else arguments
    title = " ".join(["python", f"benchmarks/{name}.py", *arguments])
    print(f"== {title}", flush=True)
    command = [
        sys.executable,
        f"benchmarks/{name}.py",
        *(tiles or "" if one == REAL_TILES else one for one in arguments),
    ]
    lines = [f"{title}\n\n"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode == 0:
        figures.mkdir(parents=True, exist_ok=True)
        (figures / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
