"""What the timings of two sides share: summaries, the head of a table, and a second process that waits its turn."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from diapir.processor import ENVIRONMENT
from diapir.record import provenance


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some figures."""

    median: float
    least: float
    greatest: float

    def text(self, digits: int = 2) -> str:
        """For a table: `1.52 (1.44 to 1.61)`."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} to {self.greatest:.{digits}f})"


@dataclass(frozen=True)
class Worker:
    """The same script in another process, with its own settings, working only when asked."""

    process: "subprocess.Popen[str]"

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request, wait, and give its answer.

        Raises:
            RuntimeError: the other process ended; its own words are on stderr.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(_MARK):
                answer: dict[str, Any] = json.loads(line[len(_MARK) :])
                return answer
        raise RuntimeError(f"the process of {' '.join(self.process.args)} ended")  # type: ignore[arg-type]

    def close(self) -> None:
        """Let the process end, and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


_MARK = "answer: "


def start_worker(script: str, *arguments: str) -> Worker:
    """This script again, in a process of its own, as it would be started without this one."""
    command = [sys.executable, script, *arguments]
    plain = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return Worker(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain))


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The worker's side: answer requests until the other side closes."""
    for line in sys.stdin:
        print(_MARK + json.dumps(answer(json.loads(line))), flush=True)


def spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def heading(*peers: str, threads: int) -> str:
    """Hardware, versions and threads of a measurement."""
    where = provenance()
    libraries = {"diapir": where["diapir"], **where["libraries"], **{name: version(name) for name in peers}}
    return "\n".join(
        [
            f"processor  {where['processor']}, {where['cores']} cores, {where['system']}",
            f"libraries  python {where['python']}, " + ", ".join(f"{name} {one}" for name, one in libraries.items()),
            f"commit     {where['commit']}",
            f"threads    {threads}, and {threading.active_count() - 1} of Python's own",
        ]
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
