"""The record of a finished run: what every result carries, and where it was made."""

import math
import os
import platform
import reprlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diapir import __version__
from diapir.faults import Fault, raise_if_any
from diapir.runs import read_json

RECORD = "record.json"
_COPY = "use another copy of the run"


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number, and a finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are(sound: Callable[[Any], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(sound, value))


_SOUND: dict[str, Callable[[Any], bool]] = {
    "recipe": _is_text,
    "recipe_digest": _is_text,
    "identity": _is_text,
    "score": _is_share,
    "interval_95": lambda value: _are(_is_share)(value) and len(value) == 2,
    "score_kind": _is_text,
    "threshold": _is_share,
    "folds_held_out": _are(_is_count),
    "train_minutes": lambda value: is_number(value) and value >= 0,
    "epochs": _is_count,
    "precision": _is_text,
    "device": _is_text,
    "threads": _are(_is_count),
    "processors": _are(_is_text),
    "files": lambda value: isinstance(value, dict),
    "data": lambda value: isinstance(value, dict) and _is_text(value.get("digest")),
    "provenance": lambda value: isinstance(value, dict) and {"cores", "processor"} <= set(value),
}
"""Keys of a record, and whether a value is one that a run writes there."""


def read_record(run: Path, *, keys: Sequence[str]) -> dict[str, Any]:
    """The record of a finished run.

    Raises:
        InputError: it is absent or is not JSON; one of `keys` is missing; or a value is none that a run writes.
    """
    path = run / RECORD
    record = read_json(path)
    raise_if_any(_faults(record, path, keys=keys))
    found: dict[str, Any] = record
    return found


def _faults(record: object, path: Path, *, keys: Sequence[str]) -> Iterator[Fault]:
    """What a record lacks, and what in it no run writes there.

    Args:
        keys: that it must have.
    """
    if not isinstance(record, dict):
        yield Fault(str(path), f"expected the record of a finished run, found {reprlib.repr(record)}; {_COPY}")
        return
    if missing := [key for key in keys if key not in record]:
        what = f"expected the record of a finished run, found no {', '.join(missing)} in it; {_COPY}"
        yield Fault(str(path), what)
    for key, is_sound in _SOUND.items():
        if key in record and not is_sound(record[key]):
            what = f"expected under '{key}' what a run writes there, found {reprlib.repr(record[key])}; {_COPY}"
            yield Fault(str(path), what)


def provenance() -> dict[str, Any]:
    """Where a result was made: code, libraries and hardware, as plain JSON values."""
    return {
        "diapir": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in ("torch", "numpy", "timm", "lightning-fabric")},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _commit() -> str | None:
    """The commit of the source tree, with `+changes` where it was edited; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git("rev-parse", "HEAD", folder=here)
        changes = _git("status", "--porcelain", "--", ".", folder=here)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def _git(*arguments: str, folder: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
