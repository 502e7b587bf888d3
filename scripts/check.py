"""Runs the project's checks one after the other, all of them, and says how long each took; `make test` runs it."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    # The slowest are named so that the suite stays quick.
    "tests": ["pytest", "--durations=10", "--durations-min=2"],
}


def main() -> int:
    """Run the named checks; the exit status is 1 where any failed."""
    parser = argparse.ArgumentParser(description="Run checks, all of them, and time each.")
    parser.add_argument("checks", nargs="+", choices=[*CHECKS, "benchmarks"])
    results = []
    for name in parser.parse_args().checks:
        for title, command in _commands(name):
            print(f"== {title}: {' '.join(command)}", flush=True)
            started_s = time.monotonic()
            code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
            results.append((title, code, time.monotonic() - started_s))
    print("== summary")
    for title, code, elapsed_s in results:
        print(f"{title:24} {elapsed_s:6.1f} s  {'ok' if code == 0 else f'FAILED (exit status {code})'}")
    return int(any(code for _, code, _ in results))


def _commands(name: str) -> list[tuple[str, list[str]]]:
    """(title, arguments of Python) of a check; of every script in benchmarks/ for `benchmarks`."""
    if name == "benchmarks":
        scripts = sorted((ROOT / "benchmarks").glob("[!_]*.py"))
        return [(script.stem, [str(script.relative_to(ROOT))]) for script in scripts]
    return [(name, ["-m", *CHECKS[name]])]


if __name__ == "__main__":
    sys.exit(main())
