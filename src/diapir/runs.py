"""Files that are either whole or absent: atomic writes, folder locks, hashes."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from diapir.faults import InputError

LOCK = ".lock"
"""In a folder that a process holds, with its number."""
BUNDLE = ("bundle.json", "card.md")
"""In a folder that holds what the first of them lists, and nothing else."""

# No other program's, for what a killed process left is cleared away by it.
_SUFFIX = ".diapir.part"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes otherwise.

    The data reach the disk before the name does, so a crash leaves the old file or the new one. A link stays, and the
    file that it leads to is replaced. A pipe or a device, such as /dev/stdout, takes the content once that is whole.

    Raises:
        InputError: there is a folder of that name.
    """
    _require_file_place(path)
    if path.exists() and not path.is_file():
        with _into_pipe(path) as temporary:
            yield temporary
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming_what_fails(path):
        temporary, handle = _held_file(path)
    try:
        with naming_what_fails(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            # mkstemp makes private files; a result has the rights that any new file would have.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def naming_what_fails(path: Path) -> Iterator[None]:
    """Say where a write fails: a full disk names no file, and a temporary one means nothing to a person."""
    try:
        yield
    except OSError as error:
        # Of a copy it names first what was read.
        if error.filename2 is not None:
            error.filename, error.filename2 = error.filename2, None
        if error.filename is None or ".part" in str(error.filename):
            error.filename = str(path)
        raise


@contextmanager
def _into_pipe(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="diapir-") as folder:
        temporary = Path(folder) / "content"
        with naming_what_fails(temporary):
            temporary.touch()
            yield temporary
        with naming_what_fails(path), temporary.open("rb") as content, path.open("wb") as pipe:
            shutil.copyfileobj(content, pipe)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes otherwise.

    Raises:
        InputError: as `require_new_folder`.
    """
    require_new_folder(path)
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_killed(path)
    with naming_what_fails(path):
        temporary, handle = _held_folder(path)
    try:
        with naming_what_fails(path):
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
            require_new_folder(path)  # another process may have put files there meanwhile
            if path.exists():
                path.rmdir()
            temporary.replace(path)
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def sync(*paths: Path) -> None:
    """Wait until files are on the disk as they are, and folders with the names in them."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def clear_killed(path: Path) -> None:
    """Remove what killed processes left of a file or folder of that name; what is still being written is locked."""
    path = Path(os.path.realpath(path))
    own = re.compile(rf"\.{re.escape(path.name)}\.\w+{re.escape(_SUFFIX)}")
    with suppress(OSError):
        for litter in [each for each in path.parent.iterdir() if own.fullmatch(each.name)]:
            is_folder = litter.is_dir()
            handle = os.open(litter, os.O_RDONLY if is_folder else os.O_RDWR)
            try:
                if _lock(handle):
                    shutil.rmtree(litter) if is_folder else litter.unlink()
            finally:
                os.close(handle)


def _held_file(path: Path) -> tuple[Path, int]:
    """A temporary file beside `path`, and a descriptor that is locked as long as this process lives."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)
        if _is_held(Path(name), handle):
            return Path(name), handle
        os.close(handle)


def _held_folder(path: Path) -> tuple[Path, int]:
    """The same of a folder."""
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent))
        with suppress(FileNotFoundError):
            handle = os.open(temporary, os.O_RDONLY)
            if _is_held(temporary, handle):
                return temporary, handle
            os.close(handle)


def _is_held(temporary: Path, handle: int) -> bool:
    """Whether what was just made is ours, and nobody took it for litter before it was locked."""
    try:
        return _lock(handle) and temporary.exists()
    except OSError:
        # A disk without locks: nobody else can lock it there, and so nobody clears it away.
        return True


def require_new_folder(path: Path) -> None:
    """Refuse to write over anything that is there already, or where a folder cannot be put, before any work is done.

    Raises:
        InputError: `path` exists and is not an empty folder; or it is the folder one is in, or a mounted disk; or it
            lies in a bundle or a store.
        OSError: the place may not be written to.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError.of(path, "expected a new or empty folder, found files there; name another, or remove it first")
    require_outside_results(path)
    real = Path(os.path.realpath(path))
    if path.exists() and (real == Path.cwd() or real.is_mount()):
        kind = "a mounted disk" if real.is_mount() else "the folder you are in"
        raise InputError.of(
            path, f"expected a folder that can be put in place as a whole, found {kind}; name one in it"
        )
    require_writable(real.parent)


def require_file_place(path: Path) -> None:
    """Refuse to write a file where none can be, before any work is done.

    Raises:
        InputError: there is a folder of that name; or it lies in a bundle or a store.
        OSError: the place may not be written to.
    """
    require_outside_results(path)
    _require_file_place(path)


def _require_file_place(path: Path) -> None:
    if path.is_dir():
        raise InputError.of(path, "expected the name of a file to write, found a folder; name a file in it")
    if not path.exists() or path.is_file():
        require_writable(Path(os.path.realpath(path)).parent)


def require_outside(out: Path, used: Path) -> None:
    """Refuse to write into a folder that is read.

    Raises:
        InputError: `out` lies in the folder `used`, or is that.
    """
    inner, outer = Path(os.path.realpath(out)), Path(os.path.realpath(used))
    if outer.is_dir() and inner.is_relative_to(outer):
        raise InputError.of(out, f"expected a place outside of {used}, which is read; name another")


def require_outside_results(out: Path) -> None:
    """Refuse to write into a bundle, which holds what its manifest lists and nothing else, or among a store's arrays.

    Raises:
        InputError: `out` lies in one, or is that bundle.
    """
    real = Path(os.path.realpath(out))
    for folder in (real, *real.parents):
        if all((folder / name).is_file() for name in BUNDLE):
            raise InputError.of(out, f"expected a place outside of the bundle {folder}; name another")
        if folder != real and (folder / "zarr.json").is_file():
            raise InputError.of(out, f"expected a place outside of the store {folder}; name another")


def require_writable(folder: Path) -> None:
    """Refuse, by an OSError, a folder that may not be written to, or where it is to be made, the one around it."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), str(there))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is never seen half written."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text that is never seen half written."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON with a final newline, never seen half written."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """What `write_json` writes."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    # Names of files may hold bytes that are no UTF-8; as escapes, JSON holds them too.
    return text.encode(errors="backslashreplace")


def json_digest(content: Any) -> str:
    """SHA-256 over JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        InputError: the file is absent or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError.of(path, "expected this file, found none") from None
    except RecursionError:
        raise InputError.of(path, "expected JSON, found some that is nested too deeply") from None
    except ValueError as error:
        raise InputError.of(path, f"expected JSON: {error}") from None


@contextmanager
def locked_folder(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a run folder for one process; the lock goes with the process, however it ends.

    Args:
        wait_s: how long to wait for a process that holds it.

    Raises:
        InputError: another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("a+") as file:
        deadline = time.monotonic() + wait_s
        while not _lock(file):
            if time.monotonic() < deadline:
                time.sleep(min(0.2, wait_s))
                continue
            file.seek(0)
            holder = file.read().strip() or "unknown"
            what = f"another run (process {holder}) is writing here; wait for it, or name another folder"
            raise InputError.of(path, what)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        # What a killed process left half written; nobody else can be writing here now.
        for litter in path.rglob(f".*{_SUFFIX}"):
            if litter.is_file():
                litter.unlink()
        yield


def _lock(file: IO[str] | int) -> bool:
    """Whether the file or folder could be locked for this process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sha256_of_file(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
