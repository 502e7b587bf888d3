"""The step of `diapir serve`: where it listens, what it refuses, and how it ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from diapir.faults import InputError
from diapir.review import serve as serving
from diapir.review.serve import serve
from diapir.review.service.access import Security, query_token
from diapir.review.service.limits import USUAL
from fake_service import npy, served_run, smooth_greys

TOKEN = "a-token-of-enough-signs"
# As the command line starts it.
START = """
import sys
from pathlib import Path
from diapir.processor import tune_process
tune_process()
from diapir.train.stop import Stopped, stop_at_once
stop_at_once()
from diapir.review.service.limits import Limits
from diapir.review.serve import serve
try:
    serve([Path(sys.argv[1])], port=0, host=sys.argv[2], token=sys.argv[3] or None)
except Stopped as stop:
    print(stop, file=sys.stderr)
    sys.exit(128 + stop.signal_number)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_run(tmp_path_factory)


@contextmanager
def started(run: Path, *, host: str = "127.0.0.1", token: str = "") -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-c", START, str(run), host, token]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            found = re.match(r"http://\S+/", told)
            assert found, told + (process.stderr.read() if process.stderr else "")
            yield process, found[0]
        finally:
            process.kill()


def test_an_answer_does_not_wait_for_its_first_half_to_be_confirmed() -> None:
    with serving._listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_others_are_served_with_a_token_alone(host: str) -> None:
    with pytest.raises(InputError, match=r"others can reach .* so a token is wanted"):
        serve([], host=host, port=0)


@pytest.mark.parametrize("token", ["", "short", "with blanks in the token", "töken-of-enough-signs", "a" * 15])
def test_a_token_is_long_and_plain(token: str) -> None:
    with pytest.raises(InputError, match="--token: expected"):
        serve([], token=token, port=0)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: another program listens there"):
            serve([], port=port)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("203.0.113.7", 0, "expected an address of this machine"),
        ("no such name.invalid", 0, "expected an address of this machine"),
        ("127.0.0.1", 70000, "expected 0 to 65535"),
        ("127.0.0.1", -1, "expected 0 to 65535"),
    ],
)
def test_an_address_of_nobody_is_told(host: str, port: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        serve([], host=host, port=port)


def test_the_browser_is_opened_with_the_token_as_addresses_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, token = list[str](), "a+b/c=d&e%20f#and-more"
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    serve([], port=0, token=token, open_browser=True)
    (address,) = opened
    found = urlsplit(address)
    assert query_token(Security(token=token), found.query) is True
    assert (found.path, found.fragment) == ("/", "")


@pytest.mark.parametrize(
    ("shapes", "mask_bytes"),
    [
        ([], 0),
        ([(40, 32, 120)], 2 * 40 * 120),
        ([(9, 9, 9), (500, 6000, 3000)], 2 * 6000 * 3000),
        ([(9, 10**5, 10**5)], 1 << 28),
    ],
)
def test_there_is_room_to_save_the_largest_section(shapes: list[tuple[int, int, int]], mask_bytes: int) -> None:
    grids: list[Any] = [SimpleNamespace(shape=shape, num_samples=shape[2]) for shape in shapes]
    limits = serving.with_masks(USUAL, grids)
    assert limits.mask_bytes == mask_bytes <= limits.bodies_bytes
    assert limits.memory_bytes >= USUAL.memory_bytes + max(mask_bytes - USUAL.bodies_bytes, 0)


def test_a_folder_that_is_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        serve([tmp_path], port=0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_what_was_begun(run: Path, number: signal.Signals, status: int) -> None:
    body = npy(smooth_greys(900, 900))
    with started(run) as (process, address):
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{address}v1/segment", content=body, timeout=300))
        )
        asking.start()
        while "diapir_images_waiting 1.0" not in httpx.get(f"{address}metrics", timeout=60).text:
            assert asking.is_alive()
            time.sleep(0.01)
        process.send_signal(number)
        asking.join(300)
        assert answers[0].status_code == 200
        assert answers[0].json()["shape"] == [900, 900]
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status, errors
        assert "Traceback" not in errors
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_the_commands_of_the_page_work_and_others_bring_the_token(run: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    asked = [line for line in lines if line.startswith(("curl", "python"))]
    assert [line for line in lines if line not in asked] == [
        "diapir serve runs/demo",
        "export DIAPIR_TOKEN=$(python -c 'import secrets; print(secrets.token_urlsafe())')",
        "diapir serve runs/demo --host 0.0.0.0 --port 8001",
    ]
    here = {**os.environ, "DIAPIR_TOKEN": TOKEN, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with started(run, host="0.0.0.0", token=TOKEN) as (_, closed), started(run) as (_, address):
        assert httpx.get(f"{closed}v1/models", timeout=60).status_code == 401
        for line in asked:
            command = line.replace("http://127.0.0.1:8000/", address).replace("http://127.0.0.1:8001/", closed)
            failing = command.replace("curl ", "curl --silent --show-error --fail ", 1)
            done = subprocess.run(["bash", "-c", failing], cwd=tmp_path, env=here, capture_output=True, check=False)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout or line.startswith("python") or "--output" in line
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")
