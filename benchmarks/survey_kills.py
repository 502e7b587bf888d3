"""SIGKILL at random moments of `diapir survey segment`, and of one of its workers: the bytes, and the work lost.

    python benchmarks/survey_kills.py [--kills 20] [--seed 0]

First a survey is segmented undisturbed. Then it is done again, killed so many times at moments drawn from the seed, and
gone on with each time by the same command; each strip that is begun is counted. Then by two workers, of which one is
killed.
"""

from diapir.processor import tune_process

tune_process()

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from diapir.volume.segment import one_after_another, segment
from diapir.volume.segment_strip import StripJob
from made_survey import CHEAP, brief_run, noise_store
from rounds import heading, table

SHAPE = (160, 160, 200)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=4, metavar=("SURVEY", "RUN", "OUT", "LOG"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(*map(Path, asked.child))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = brief_run(folder / "run", asked.recipe, *CHEAP)
        survey = noise_store(folder / "survey.zarr", SHAPE)
        began = time.monotonic()
        start(survey, run, folder / "whole.zarr", folder / "whole.log").wait()
        whole_s = time.monotonic() - began
        strips = len((folder / "whole.log").read_text().splitlines())
        out, log, rng = folder / "killed.zarr", folder / "killed.log", random.Random(asked.seed)
        for _ in range(asked.kills):
            # From the start of Python to the end of the work.
            kill_after(start(survey, run, out, log), rng.uniform(0, whole_s))
        start(survey, run, out, log).wait()
        begun = len(log.read_text().splitlines())
        workers = folder / "workers.zarr"
        killed = kill_a_worker(survey, run, workers)
        print(heading("zarr", "distributed", threads=os.cpu_count() or 1))
        print(f"survey     {' x '.join(map(str, SHAPE))}, {strips} strips, {whole_s:.1f} s undisturbed")
        rows = [["", "strips begun", "more than strips", "same bytes"]]
        same = digest(out) == digest(folder / "whole.zarr")
        rows.append([f"killed {asked.kills} times", str(begun), str(begun - strips), str(same)])
        rows.append(
            [f"one of 2 workers killed ({killed})", "", "", str(digest(workers) == digest(folder / "one.zarr"))]
        )
        print(table(rows))


def child(survey: Path, run: Path, out: Path, log: Path) -> None:
    """Segment, and note each strip that is begun."""

    def noted(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
        for job in jobs:
            with log.open("a") as file:
                file.write(f"{job.direction} {job.number}\n")
            yield from one_after_another([job])

    segment(survey, run, out, threads=1, do_strips=noted)


def start(survey: Path, run: Path, out: Path, log: Path) -> "subprocess.Popen[bytes]":
    """This script as a child, in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "--child", *map(str, (survey, run, out, log))])


def kill_after(process: "subprocess.Popen[bytes]", delay_s: float) -> None:
    """SIGKILL, unless the process ends before."""
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def kill_a_worker(survey: Path, run: Path, out: Path) -> str:
    """Segment by two workers, of which one is killed when the first strips are done; gives what became of it."""
    command = [sys.executable, "-m", "diapir", "survey", "segment", str(survey), "--model", str(run), "--threads", "1"]
    subprocess.run([*command, "--out", str(out.with_name("one.zarr"))], check=True)
    process = subprocess.Popen([*command, "--out", str(out), "--workers", "2"])
    ledger = out / "ledger"
    while process.poll() is None and len(list(ledger.glob("inline-*"))) < 2:
        time.sleep(0.02)
    workers = [pid for pid in descendants(process.pid) if "from multiprocessing" in command_of(pid)]
    found = "no worker was found"
    if process.poll() is None and workers:
        # The last to come is a worker; the first may be a tracker of resources.
        os.kill(workers[-1], signal.SIGKILL)
        found = "while it worked"
    assert process.wait() == 0
    return found


def descendants(pid: int) -> list[int]:
    """Processes below one, parents first."""
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [each for one in found for each in descendants(one)]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def digest(folder: Path) -> str:
    """Of the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


if __name__ == "__main__":
    main()
