"""What `diapir serve` serves, from a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

COMMAND = [sys.executable, "-c", "from diapir.cli import main; main()", "serve", "--port", "0"]


class Served(NamedTuple):
    """Where a server listens, and its process."""

    port: int
    process: int


@contextmanager
def serving(*paths: Path, cache: Path) -> Iterator[Served]:
    """A server of runs or stores until the block ends.

    Args:
        cache: folder for what it keeps from one time to the next.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen([*COMMAND, *map(str, paths)], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield Served(int(process.stdout.readline().split("/")[2].rpartition(":")[2]), process.pid)
        finally:
            process.terminate()
