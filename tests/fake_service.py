"""What tests of the service ask for: a tiny run, files to send, and a server of their own on the loopback address."""

import io
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from starlette.types import ASGIApp

from diapir.data.synthetic import make_synthetic
from diapir.pipeline.bundle import open_model
from diapir.pipeline.run import run_recipe
from diapir.pipeline.survey_tiles import tile_predictor
from diapir.review.service.connections import bounded_http
from diapir.review.service.limits import USUAL, Limits
from diapir.runs import locked_folder, read_json, write_json
from fake_training import TINY, tiny_run_recipe

STAGE = {**TINY["stages"][0], "epochs": 1, "framing": {"method": "resize", "size": 32}}


@dataclass(frozen=True)
class Folders:
    """Models by their names."""

    models: Mapping[str, Path]


def served_run(factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny finished run, made once for all processes of a test run; not to be changed."""
    own = factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "served"
    with locked_folder(shared, wait_s=300):
        if not (shared / "tiny").exists():
            run_recipe(tiny_run_recipe({"stages": [STAGE], "average": {}}), shared / "making", data_path=None)
            _cut_in_the_middle(shared / "making")
            (shared / "making").rename(shared / "tiny")
    return shared / "tiny"


def _cut_in_the_middle(run: Path) -> None:
    """Have a run that learned next to nothing find salt in half of the pixels."""
    tiles = make_synthetic(labelled=1, unlabelled=3, seed=9)[0].unlabelled
    found = tile_predictor(open_model(run), precision="float32")(tiles.images, tiles.depths_m).mean
    write_json(run / "record.json", read_json(run / "record.json") | {"threshold": float(np.median(found))})


def npy(values: NDArray[Any]) -> bytes:
    """The bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def smooth_greys(rows: int, columns: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Layers with some noise."""
    rng = np.random.default_rng(seed)
    layers = 128 + 60 * np.sin(np.arange(rows)[:, None] / 5 + np.arange(columns) / 17)
    return (layers + rng.normal(0, 12, (rows, columns))).clip(0, 255).astype(np.uint8)


@contextmanager
def running(app: ASGIApp, *, limits: Limits = USUAL) -> Iterator[int]:
    """The application behind a real server in a thread; gives its port.

    Args:
        limits: of connections.
    """
    config = uvicorn.Config(
        app,
        http=bounded_http(limits),
        log_config=None,
        log_level="critical",
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join(60)


def raw_exchange(port: int, sent: bytes, *, timeout_s: float = 30.0) -> bytes:
    """What comes back for bytes that are sent as they are, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(sent)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    """The status of a raw answer; 0 where there is none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 2 else 0
