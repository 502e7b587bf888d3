"""The service: images and sections in, salt out; which models there are, whether all is well, and what was counted."""

import asyncio
import io
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from fastapi import APIRouter, HTTPException, Query, Request, Response
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from diapir.data.rle import encode
from diapir.data.tiles import TILE
from diapir.review.service.counts import Counts, new_counts
from diapir.review.service.decode import TYPES, UNSAID, greys_of
from diapir.review.service.jobs import Job, new_job
from diapir.review.service.limits import Limits, padded_pixels
from diapir.review.service.models import ServedModel, open_models
from diapir.review.service.net_queue import ModelFailed, NetQueue
from diapir.review.service.refusals import later, refusals
from diapir.volume.tiling import Blend

Format = Literal["rle", "png", "probability"]
_TYPE_LIST = ", ".join(TYPES)
# What a route still has to do when the nets are done.
_ENCODING_S = 5.0


class ModelFacts(BaseModel):
    """A model that answers.

    Args:
        digest: what tells it from any other.
        threshold: probability above which a pixel is salt, unless a request has one of its own.
        score_kind: what the score is of.
    """

    name: str
    digest: str
    recipe: str
    kind: Literal["run", "bundle"]
    nets: int
    threshold: float
    score: float
    interval_95: list[float]
    score_kind: str


class Models(BaseModel):
    """The models that answer; the first where a request names none."""

    models: list[ModelFacts]


class Segmented(BaseModel):
    """Where the salt is.

    Args:
        rle: "start length start length ..."; pixels are numbered from 1, down the first column, then down the next.
        shape: rows and columns.
        salt_share: of the pixels.
        seconds: from the whole body to this answer.
    """

    rle: str
    shape: list[int] = Field(min_length=2, max_length=2)
    salt_share: float
    model: str
    model_digest: str
    threshold: float
    seconds: float


class Health(BaseModel):
    """Whether images are taken."""

    status: Literal["ok"]


class Wish(BaseModel):
    """What a request to find salt says besides its body."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str | None = Field(None, description="Its name in /v1/models; else the first.")
    threshold: float | None = Field(None, ge=0, le=1, description="Probability above which is salt; else the model's.")
    format: Format = Field("rle", description="Run lengths in JSON; the mask, or the probability in 16 bits, as PNG.")
    limit: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Amplitude that becomes white; else the image's own."
    )
    flip_polarity: bool = Field(False, description="Look at amplitudes times -1.")
    depth_m: float | None = Field(None, ge=0, le=1e5, description="Of the first row, for models that ask for depth.")
    row_m: float | None = Field(None, gt=0, le=1e4, description="Metres from one row to the next.")


@dataclass(frozen=True, eq=False)
class _Service:
    """What the routes share.

    Args:
        coders: threads for decoding and encoding, so few that they cannot fill the memory.
    """

    models: Mapping[str, ServedModel]
    nets: NetQueue
    coders: ThreadPoolExecutor
    limits: Limits


def service_routes(models: Mapping[str, Path], *, limits: Limits, counts: Counts | None = None) -> APIRouter:
    """`/v1/segment`, `/v1/models`, `/healthz` and `/metrics`; their threads end with the application.

    Args:
        models: finished runs and bundles, by the names that requests call them.

    Raises:
        InputError: any of them cannot be used.
    """
    counts = counts or new_counts()
    found = open_models(models)
    loaders = {name: model.load for name, model in found.items()}
    # Nets side by side, each on few cores, see more images a second than one on all: no core waits for another.
    cores = torch.get_num_threads()
    workers = 1 if torch.cuda.is_available() else min(cores, limits.batches)
    nets = NetQueue(
        loaders,
        limits=limits,
        workers=workers,
        on_start=lambda number: torch.set_num_threads(cores // workers + (number < cores % workers)),
        on_batch=partial(_count_batch, counts),
    )
    service = _Service(found, nets, ThreadPoolExecutor(limits.coders, "coder"), limits)

    @asynccontextmanager
    async def until_done(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.to_thread(nets.close)
            service.coders.shutdown()

    routes = APIRouter(tags=["service"], lifespan=until_done)
    _add_segment(routes, service)
    _add_facts(routes, service, counts)
    return routes


def _add_segment(routes: APIRouter, service: _Service) -> None:
    binary = {"schema": {"type": "string", "format": "binary"}}
    body = {"required": True, "content": dict.fromkeys((*TYPES, UNSAID[0]), binary)}
    answers: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Run-length text and facts as JSON; or the mask, or the probability, as a PNG.",
            "content": {"image/png": binary},
        }
    }

    @routes.post(
        "/v1/segment",
        response_model=Segmented,
        responses=answers | refusals(413, 415, 422, 429, 503),
        openapi_extra={"requestBody": body},
        summary="Find the salt of an image or a section",
    )
    async def segment(request: Request, wish: Annotated[Wish, Query()]) -> Response:
        """The body is an 8-bit grey PNG, a grey TIFF, a .npy array (rows, columns), or a SEG-Y file of one section.

        Whole numbers without sign are greys; all others are amplitudes. What is larger than 101 pixels is cut into
        tiles that overlap, and put together again.
        """
        return await _segmented(request, service, wish)


def _add_facts(routes: APIRouter, service: _Service, counts: Counts) -> None:
    @routes.get("/v1/models", summary="The models that answer")
    async def list_models() -> Models:
        return Models(models=[_facts(model) for model in service.models.values()])

    @routes.get("/healthz", responses=refusals(503), summary="Whether images are taken")
    async def health() -> Health:
        if not service.nets.is_open:
            raise later(503, "no images are taken any more", wait_s=30)
        return Health(status="ok")

    @routes.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, summary="Counters"
    )
    async def metrics() -> Response:
        """In the form that Prometheus reads."""
        counts.images_waiting.set(service.nets.num_waiting)
        return Response(counts.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _segmented(request: Request, service: _Service, wish: Wish) -> Response:
    """The whole way of one image."""
    start_s = time.monotonic()
    model = _chosen(service, wish)
    # Before anything is decoded: what would have to wait too long is told at once.
    _require_room(service)
    body, loop = await request.body(), asyncio.get_running_loop()
    decode = partial(
        greys_of, body, content_type=request.headers.get("content-type", ""), most_pixels=service.limits.pixels,
        limit=wish.limit, flip_polarity=wish.flip_polarity,
    )  # fmt: skip
    greys = await loop.run_in_executor(service.coders, _with_words_for_disks(decode))
    make = partial(
        new_job, model.name, greys, deadline_s=start_s + max(service.limits.answer_s - _ENCODING_S, 1),
        depth_m=float("nan") if wish.depth_m is None else wish.depth_m,
        row_m=float("nan") if wish.row_m is None else wish.row_m,
    )  # fmt: skip
    threshold = model.threshold if wish.threshold is None else wish.threshold
    encode_it = partial(_encoded, model=model, threshold=threshold, form=wish.format, start_s=start_s)
    size = padded_pixels((greys.shape[0], greys.shape[1]))
    with _room(service, size):
        # Its arrays are many times its greys: there is room for them first, and other requests do not wait meanwhile
        # but for a tile, of which they are made faster than a thread is woken.
        job = make() if size <= TILE * TILE else await loop.run_in_executor(service.coders, make)
        answer = _answer_of(job, service, encode_it)
        try:
            return await _done(request, service, job, answer)
        finally:
            service.nets.forget(job)


def _chosen(service: _Service, wish: Wish) -> ServedModel:
    if not service.models:
        raise HTTPException(404, "no model is served: start the server with the folder of a finished run or a bundle")
    name = next(iter(service.models)) if wish.model is None else wish.model
    if name not in service.models:
        known = ", ".join(service.models)
        raise HTTPException(404, f"expected one of the models {known}; found another name")
    return service.models[name]


def _require_room(service: _Service) -> None:
    if not service.nets.has_room():
        raise later(429, "too many images wait already", wait_s=service.nets.wait_s)


@contextmanager
def _room(service: _Service, num_pixels: int) -> Iterator[None]:
    """Room among what waits for an image, for as long as the block lasts."""
    try:
        with service.nets.room(num_pixels):
            yield
    except queue.Full:
        raise later(429, "too many images wait already", wait_s=service.nets.wait_s) from None


def _answer_of(job: Job, service: _Service, encode_it: Callable[[Blend], Response]) -> "Future[Response]":
    """The answer, encoded as soon as the nets are done: the loop, which all requests share, is not asked in between."""
    answer: Future[Response] = Future()

    def encode_now(done: "Future[Blend]") -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(encode_it(done.result()))
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer is told
            answer.set_exception(error)

    def go_on(done: "Future[Blend]") -> None:
        if done.exception() is None:
            service.coders.submit(encode_now, done)
        else:  # told at once, however much the coders have to do
            encode_now(done)

    job.future.add_done_callback(go_on)
    return answer


async def _done(request: Request, service: _Service, job: Job, answer: "Future[Response]") -> Response:
    """The answer, unless its client leaves before."""
    try:
        service.nets.submit(job)
    except ModelFailed as error:
        raise later(503, str(error), wait_s=30) from None
    found = asyncio.wrap_future(answer)
    left = asyncio.ensure_future(_disconnected(request))
    try:
        either: set[asyncio.Future[Any]] = {found, left}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            raise later(503, "the client left")
        return found.result()
    except TimeoutError:
        raise later(503, "the nets had no time for it; send less at once", wait_s=service.nets.wait_s) from None
    except ModelFailed as error:
        raise later(503, str(error), wait_s=30) from None
    finally:
        found.cancel()
        left.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _encoded(blend: Blend, *, model: ServedModel, threshold: float, form: Format, start_s: float) -> Response:
    """The answer."""
    # As submissions keep it, and are cut: a tile gets the mask that `diapir predict` gives it.
    probability = blend.section().astype(np.float16)
    if form == "probability":
        # To the nearest of 65,536 steps.
        pixels: NDArray[Any] = (probability.astype(np.float32) * 65535 + 0.5).astype(np.uint16)
        return _picture(pixels, model=model, threshold=threshold, start_s=start_s)
    mask = probability > threshold
    if form == "png":
        return _picture(mask.astype(np.uint8) * 255, model=model, threshold=threshold, start_s=start_s)
    segmented = Segmented(
        rle=encode(mask[None])[0],
        shape=list(mask.shape),
        salt_share=float(mask.mean()),
        model=model.name,
        model_digest=model.digest,
        threshold=threshold,
        seconds=round(time.monotonic() - start_s, 4),
    )
    return Response(segmented.model_dump_json(), media_type="application/json")


def _picture(pixels: NDArray[Any], *, model: ServedModel, threshold: float, start_s: float) -> Response:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    headers = {
        "X-Model-Digest": model.digest,
        "X-Threshold": str(threshold),
        "X-Seconds": f"{time.monotonic() - start_s:.4f}",
    }
    return Response(file.getvalue(), media_type="image/png", headers=headers)


def _facts(served: ServedModel) -> ModelFacts:
    model = served.model
    return ModelFacts(
        name=served.name,
        digest=served.digest,
        recipe=model.recipe.name,
        kind="run" if model.manifest is None else "bundle",
        nets=sum(len(member.weights) for member in model.members),
        threshold=served.threshold,
        score=model.record["score"],
        interval_95=model.record["interval_95"],
        score_kind=model.record["score_kind"],
    )


def _count_batch(counts: Counts, num_tiles: int, elapsed_s: float) -> None:
    counts.batch_tiles.observe(num_tiles)
    counts.batch_seconds.observe(elapsed_s)


def _with_words_for_disks(decode: Any) -> Any:
    """The same; but a disk that is full, which SEG-Y passes through, is no fault of the client."""

    def decoded() -> Any:
        try:
            return decode()
        except OSError:
            raise later(503, "the server has no room for the body", wait_s=30) from None

    return decoded
