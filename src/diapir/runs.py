"""Files that are either whole or absent: atomic writes, folder locks, hashes, and where a result came from."""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diapir import __version__
from diapir.faults import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes otherwise.

    The data reach the disk before the name does, so a crash leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        _name_file(error, path)
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a result has the rights that any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _name_file(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes otherwise.

    Raises:
        InputError: `path` exists and is not an empty folder.
    """
    require_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        _name_file(error, path)
        raise
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            path.rmdir()
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _name_file(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_new_folder(path: Path) -> None:
    """Refuse to write over anything that is there already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError.of(
            path,
            "expected a new or empty folder, found files there; name another, or remove it first",
        )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is never seen half written."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text that is never seen half written."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON with a final newline, never seen half written."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        InputError: the file is absent or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError.of(path, "expected this file, found none") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError.of(path, f"expected JSON: {error}") from None


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold a run folder for one process; the lock goes with the process, however it ends.

    Raises:
        InputError: another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise InputError.of(
                path,
                f"another run (process {holder}) is writing here; wait for it, or name another folder",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        # What a killed process left half written; nobody else can be writing here now.
        for litter in path.rglob(".*.part"):
            if litter.is_file():
                litter.unlink()
        yield


def sha256_of_file(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _name_file(error: OSError, path: Path) -> None:
    """Say where a write failed: a full disk names no file, and the temporary one means nothing to a person."""
    if error.filename is None or ".part" in str(error.filename):
        error.filename = str(path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
