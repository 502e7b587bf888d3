"""The pages on surveys say what works: each command is run as written, but on a smaller survey and with `--smoke`."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from diapir.cli import app
from diapir.runs import read_json

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "surveys").glob("*.md"))
# What a page's command is given besides, so that it takes seconds.
SMALLER = {
    ("survey", "synthetic"): ["--inlines", "40", "--crosslines", "56", "--samples", "104"],
    ("survey", "train"): ["--smoke"],
    ("survey", "segment"): ["--overlap", "0"],
}


def commands_of(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def wait_for_listener(host: str, port: int) -> None:
    """A person waits until a server says that it is there; on a busy machine that takes a while."""
    for _ in range(1200):
        with suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens at {host}:{port}")


@pytest.fixture
def background() -> Iterator[list["subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in reversed(started):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_command_of_a_page_works(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: list["subprocess.Popen[bytes]"]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    commands = commands_of(page)
    assert any(command.startswith("diapir survey") for command in commands)
    for command in commands:
        words = shlex.split(command, comments=True)
        if words[-1] == "&":
            here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            quiet = subprocess.DEVNULL
            background.append(
                subprocess.Popen(words[:-1], env=here, stdout=quiet, stderr=quiet, start_new_session=True)
            )
            if "--port" in words:
                wait_for_listener(words[words.index("--host") + 1], int(words[words.index("--port") + 1]))
        elif words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True)
        else:
            assert words[0] == "diapir", command
            app([*words[1:], *SMALLER.get((words[1], words[2]), [])], standalone_mode=False)
    if page.stem == "cluster":
        one, two = (contents(tmp_path / name) for name in ("salt-1.zarr", "salt-2.zarr"))
        assert one == two, "the same bytes, whoever did the strips"
    if page.stem == "outputs":
        assert read_json(tmp_path / "surfaces-4500" / "surfaces.json")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
