import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from diapir.faults import InputError
from diapir.runs import (
    BUNDLE,
    atomic_folder,
    atomic_path,
    clear_killed,
    locked_folder,
    read_json,
    require_file_place,
    require_new_folder,
    require_outside_results,
    sha256_of_file,
    write_bytes,
    write_json,
    write_text,
)

# Each is run by a fresh Python, with a folder as its argument.
DIES_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from diapir.runs import atomic_path
with atomic_path(Path(sys.argv[1]) / "file") as path:
    path.write_text("half of the new")
    os.kill(os.getpid(), signal.SIGKILL)
"""
HOLDS_THE_FOLDER = """
import sys, time
from pathlib import Path
from diapir.runs import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
HAS_NO_ROOM = """
import resource, sys
from pathlib import Path
from diapir.runs import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]) / "file", bytes(5000))
except OSError as error:
    print(error.errno)
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "text", "Größe\n")
    write_json(tmp_path / "json", {"score": 0.1, "name": "Größe", "none": None})
    assert (tmp_path / "deep" / "text").read_text(encoding="utf-8") == "Größe\n"
    assert read_json(tmp_path / "json") == {"score": 0.1, "name": "Größe", "none": None}
    assert names(tmp_path) == ["deep", "json"]


def test_json_holds_any_name_of_a_file(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x8c\x8a")
    write_json(tmp_path / "json", {"source": name})
    assert read_json(tmp_path / "json") == {"source": name}


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as path:  # noqa: PT012
        path.write_text("half of the new")
        raise RuntimeError
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_kill_leaves_the_old_file_and_the_next_holder_clears_up(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    assert python(DIES_WHILE_WRITING, tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"
    assert len(names(tmp_path)) == 2
    with locked_folder(tmp_path):
        assert names(tmp_path) == [".lock", "file"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_cleared_and_what_another_writes_is_not(tmp_path: Path, kind: str) -> None:
    left, other, path = (tmp_path / name for name in (".out.a1b2_c3d.diapir.part", ".outer.a1b2.diapir.part", "out"))
    for litter in (left, other):
        if kind == "file":
            litter.write_text("half")
        else:
            (litter / "c" / "0").mkdir(parents=True)
    making = atomic_path if kind == "file" else atomic_folder
    with making(path) as first:
        clear_killed(path)
        assert first.exists()
        assert not left.exists()
        with making(path) as second:
            assert first.exists()
            assert second.exists()
    assert names(tmp_path) == sorted((path.name, other.name))


def test_a_folder_that_is_made_again_clears_what_a_killed_process_left_of_it(tmp_path: Path) -> None:
    (tmp_path / ".out.a1b2c3d4.diapir.part").mkdir()
    with atomic_folder(tmp_path / "out") as folder:
        assert names(tmp_path) == [folder.name]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    assert python(HAS_NO_ROOM, tmp_path).stdout == f"{errno.EFBIG}\n"
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_name_comes_after_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def note_sync(handle: int) -> None:
        steps.append("sync")
        sync(handle)

    def note_rename(self: Path, target: Path) -> Path:
        steps.append("name")
        return rename(self, target)

    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    write_bytes(tmp_path / "file", b"new")
    assert steps == ["sync", "name", "sync"]


def test_a_folder_comes_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "file").write_text("new")
        assert not (tmp_path / "data").exists()
    assert names(tmp_path / "data") == ["file"]
    assert names(tmp_path) == ["data"]


def test_a_folder_that_fails_does_not_come(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "data") as folder:  # noqa: PT012
        (folder / "file").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_an_empty_folder_may_be_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "file").write_text("new")
    assert names(tmp_path / "data") == ["file"]


def test_of_two_that_make_a_folder_at_once_the_later_is_told_what_is_there(tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(InputError, match="data: expected a new or empty folder, found files there"),
        atomic_folder(tmp_path / "data") as later,
    ):
        (later / "file").write_text("later")
        with atomic_folder(tmp_path / "data") as first:
            (first / "file").write_text("first")
    assert names(tmp_path) == ["data"]
    assert (tmp_path / "data" / "file").read_text() == "first"


@pytest.mark.parametrize("kind", ["file", "folder with files"])
def test_nothing_that_is_there_is_written_over(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "data").write_text("mine")
    else:
        write_text(tmp_path / "data" / "mine", "mine")
    with pytest.raises(InputError, match="expected a new or empty folder"), atomic_folder(tmp_path / "data"):
        pass
    assert names(tmp_path) == ["data"]


def test_no_other_programs_files_are_cleared_away(tmp_path: Path) -> None:
    for name in (".thesis.tex.part", "film.mkv.part", ".film.mkv.1a2b3c4d.part"):
        (tmp_path / name).write_text("half of a download")
    with locked_folder(tmp_path):
        pass
    assert names(tmp_path) == [".film.mkv.1a2b3c4d.part", ".lock", ".thesis.tex.part", "film.mkv.part"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "elsewhere" / "file", "old")
    for name in ("file", "new"):
        (tmp_path / name).symlink_to(Path("elsewhere") / name)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "elsewhere" / name).read_text() == "new"
    assert names(tmp_path / "elsewhere") == ["file", "new"]


def test_a_link_to_an_empty_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").symlink_to("elsewhere")
    with atomic_folder(tmp_path / "data") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "data").is_symlink()
    assert names(tmp_path / "elsewhere") == ["file"]


def test_a_pipe_takes_the_content_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reader:
        write_bytes(tmp_path / "pipe", b"salt" * 1000)
        assert reader.communicate()[0] == b"salt" * 1000
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_device_that_is_full_is_named() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(Path("/dev/full"), b"salt")
    assert caught.value.filename == "/dev/full"


def test_a_file_is_not_put_in_place_of_a_folder(tmp_path: Path) -> None:
    begun = []
    with pytest.raises(InputError, match="expected the name of a file"), atomic_path(tmp_path):
        begun.append(True)
    assert begun == []


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="found the folder you are in"), atomic_folder(Path()):
        pass
    monkeypatch.setattr(Path, "is_mount", lambda self: True)
    with pytest.raises(InputError, match="found a mounted disk"), atomic_folder(Path()):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", [atomic_path, atomic_folder])
def test_a_place_that_may_not_be_written_to_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    begun = []
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError) as error, place(tmp_path / "absent" / "new"):
        begun.append(True)
    assert begun == []
    assert error.value.filename == str(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "expected this file, found none"), ("{", "JSON"), ("\xff", "JSON"), ("[" * 200_000, "nested too deeply")],
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, fault: str) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=fault) as error:
        read_json(tmp_path / "file")
    assert error.value.faults[0].where == str(tmp_path / "file")


@pytest.mark.parametrize("depth", ["out", "some/folder/out"])
@pytest.mark.parametrize("place", [require_new_folder, require_file_place, require_outside_results])
def test_nothing_is_written_into_a_bundle(tmp_path: Path, depth: str, place: Callable[[Path], None]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / BUNDLE[0]).write_text("{}")
    place(tmp_path / "model" / depth)  # others have files of that name too
    (tmp_path / "model" / BUNDLE[1]).write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for folder in ("model", "link"):
        with pytest.raises(InputError, match="expected a place outside of the bundle"):
            place(tmp_path / folder / depth)
    place(tmp_path / depth)


@pytest.mark.parametrize("place", [require_new_folder, require_file_place, require_outside_results])
def test_nothing_is_written_into_a_store(tmp_path: Path, place: Callable[[Path], None]) -> None:
    write_text(tmp_path / "survey.zarr" / "zarr.json", "{}")
    (tmp_path / "link").symlink_to(tmp_path / "survey.zarr")
    for folder in ("survey.zarr", "link"):
        for name in ("out", "some/folder/out"):
            with pytest.raises(InputError, match=r"expected a place outside of the store .*survey\.zarr"):
                place(tmp_path / folder / name)
    place(tmp_path / "out")


@contextmanager
def holding(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_FOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder


def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    with holding(tmp_path) as holder:
        with pytest.raises(InputError, match=f"another run \\(process {holder.pid}\\)"), locked_folder(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked_folder(tmp_path):
            assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_folder_that_is_held_may_be_waited_for(tmp_path: Path) -> None:
    with holding(tmp_path) as holder:
        threading.Timer(0.3, holder.kill).start()
        with locked_folder(tmp_path, wait_s=30):
            assert holder.wait(timeout=10) == -signal.SIGKILL
            assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_folder_may_be_held_again(tmp_path: Path) -> None:
    for _ in range(2):
        with locked_folder(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()


def test_a_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"salt" * 100_000)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(b"salt" * 100_000).hexdigest()
