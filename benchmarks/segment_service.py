"""Tiles a second of `POST /v1/segment` with many clients over those of the bare net on full batches: 1 is the net.

    python benchmarks/segment_service.py [--recipe recipes/tgs-cpu.yaml] [--clients 16] [--tiles 640] [--rounds 5]

The service runs in a process of its own, as `diapir serve` starts it, with a net trained for a moment. Clients, threads
of this process, each send a tile as PNG, wait for the mask, and send the next. The bare net sees the same views on
batches that are ready. Rounds are interleaved; while the one side is measured, the other waits. First the masks of some
tiles are held against those of the bare net.
"""

from diapir.processor import tune_process

tune_process()

import argparse
import http.client
import io
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from diapir.data.rle import decode
from diapir.data.synthetic import make_synthetic
from diapir.nets.framing import net_input
from diapir.pipeline.bundle import Model, open_model
from diapir.pipeline.predicting import load_model
from diapir.pipeline.survey_tiles import mask_threshold, tile_predictor
from diapir.train.together import make_fabric
from diapir.volume.segment import precision_of
from made_survey import brief_run
from rounds import heading, spread, table
from served import serving

GOAL = 0.8


def ask(connection: http.client.HTTPConnection, body: bytes) -> dict[str, object]:
    """The answer of the service to a tile."""
    connection.request("POST", "/v1/segment", body, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {content!r}")
    found: dict[str, object] = json.loads(content)
    return found


def from_clients(port: int, bodies: list[bytes], count: int) -> tuple[float, list[float]]:
    """Tiles a second, and the seconds of every request."""
    waits: list[list[float]] = [[] for _ in range(count)]
    ready = threading.Barrier(count + 1)

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
        ready.wait()
        for body in bodies[number::count]:
            start = time.perf_counter()
            ask(connection, body)
            waits[number].append(time.perf_counter() - start)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    answered = [wait for one in waits for wait in one]
    if len(answered) != len(bodies):
        raise RuntimeError(f"{len(bodies) - len(answered)} requests were not answered")
    return len(bodies) / elapsed, answered


@torch.inference_mode()
def net_alone(model: Model, tiles: NDArray[np.uint8], *, batch: int) -> float:
    """Tiles a second of the net itself, each view of a tile on a full batch that is ready."""
    (member,) = model.members
    net, spec = load_model(member.recipe, model.folder / member.weights[0].file)
    fabric = make_fabric(precision_of(model), devices=1)
    net = net.to(fabric.device).eval()
    images = torch.from_numpy(tiles[:batch]).to(fabric.device).float() / 255
    ready = net_input(images, torch.full((batch,), float("nan")), spec=spec, frame=member.frame)
    passes = len(tiles) // batch * len(member.recipe.predict.views)
    with fabric.autocast():
        net(ready)
        start = time.perf_counter()
        for _ in range(passes):
            # The answer is waited for, wherever the net is.
            net(ready).mask[0, 0, 0].item()
    return len(tiles) // batch * batch / (time.perf_counter() - start)


def share_alike(port: int, model: Model, bodies: list[bytes], tiles: NDArray[np.uint8]) -> float:
    """Of the pixels, those on which the service and the predictor agree."""
    predict = tile_predictor(model, precision=precision_of(model))
    own = predict(tiles, np.full(len(tiles), np.nan, np.float32)).mean.astype(np.float16) > mask_threshold(model)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = decode([str(ask(connection, body)["rle"]) for body in bodies], height=101, width=101)
    connection.close()
    return float((found == own).mean())


def png_of(tile: NDArray[np.uint8]) -> bytes:
    """A tile as a client sends it."""
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tiles", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16, help="tiles of a full batch of the bare net")
    asked = parser.parse_args()
    tiles = make_synthetic(labelled=1, unlabelled=asked.tiles, seed=1)[0].unlabelled.images
    bodies = [png_of(tile) for tile in tiles]
    with tempfile.TemporaryDirectory() as folder:
        run = brief_run(Path(folder) / "run", asked.recipe)
        model = open_model(run)
        with serving(run, cache=Path(folder)) as (port, _):
            alike = share_alike(port, model, bodies[:16], tiles[:16])
            rates, waits = [], []
            for _ in range(asked.rounds):
                rate, answered = from_clients(port, bodies, asked.clients)
                waits += answered
                rates.append((rate, net_alone(model, tiles, batch=asked.batch)))
    print(heading("fastapi", "uvicorn", threads=int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()))))
    print(f"tiles      {asked.tiles} of 101 x 101 as PNG, {asked.clients} clients; pixels alike: {alike:.5f}")
    service, net = (np.array(rates)[:, column] for column in (0, 1))
    rows = [
        ["", "tiles/s"],
        ["service", spread(service.tolist()).text(1)],
        [f"net alone, batches of {asked.batch}", spread(net.tolist()).text(1)],
    ]
    print(table(rows))
    print(f"service / net alone  {spread((service / net).tolist()).text()}, goal {GOAL}")
    print(
        f"latency              p50 {np.quantile(waits, 0.5) * 1e3:.0f} ms, p95 {np.quantile(waits, 0.95) * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()
