"""SIGKILL at random moments of `diapir survey segment`, and of one of its workers: the bytes, and the work lost.

    python benchmarks/survey_kills.py [--kills 20] [--seed 0]

First a survey is segmented undisturbed. Then it is done again, killed so many times, and gone on with each time by the
same command; each strip that is begun is counted. One kill in five comes before the first strip of its try, from the
start of Python on; the others within the time of the two strips that follow. Then it is done by two workers, of which
one is killed.
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

SHAPE = (320, 320, 101)


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
        whole, log = folder / "whole.zarr", folder / "whole.log"
        began = time.monotonic()
        process = start(survey, run, whole, log)
        wait_for(process, log, lines=1)
        ready_s = time.monotonic() - began
        process.wait()
        whole_s = time.monotonic() - began
        strips = num_lines(log)
        out, log, rng = folder / "killed.zarr", folder / "killed.log", random.Random(asked.seed)
        num_killed = 0
        for number in range(asked.kills):
            before, process = num_lines(log), start(survey, run, out, log)
            if is_early := number % 5 == 4:
                time.sleep(rng.uniform(0, ready_s))
            else:
                wait_for(process, log, lines=before + 1)
                time.sleep(rng.uniform(0, 2 * (whole_s - ready_s) / strips))
            num_killed += is_killed(process)
            done = len(list((out / "ledger").glob("*line-*")))
            print(f"kill {number + 1}: {'before' if is_early else 'at'} work, {done} of {strips} strips done")
        start(survey, run, out, log).wait()
        begun = num_lines(log)
        workers = folder / "workers.zarr"
        killed = kill_a_worker(survey, run, workers)
        print(heading("zarr", "distributed", threads=os.cpu_count() or 1))
        print(f"survey     {' x '.join(map(str, SHAPE))}, {strips} strips, {whole_s:.1f} s undisturbed")
        rows = [["", "strips begun", "more than strips", "same bytes"]]
        same = digest(out) == digest(folder / "whole.zarr")
        rows.append([f"killed {num_killed} times", str(begun), str(begun - strips), str(same)])
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


def num_lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def wait_for(process: "subprocess.Popen[bytes]", log: Path, *, lines: int) -> None:
    """Until so many strips have been begun, or the process has ended."""
    while process.poll() is None and num_lines(log) < lines:
        time.sleep(0.005)


def is_killed(process: "subprocess.Popen[bytes]") -> bool:
    """SIGKILL, unless the process has ended before."""
    process.kill()
    return process.wait() == -signal.SIGKILL


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
    # Any of its threads may have started one.
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(word) for thread in threads for word in thread.read_text().split()]
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
