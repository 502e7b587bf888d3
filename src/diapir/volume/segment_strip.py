"""One strip of a survey through a model, from the store of the one to the store of the other: what a worker does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.data.tiles import TILE
from diapir.faults import InputError
from diapir.pipeline.bundle import Model, open_model
from diapir.pipeline.members import needed_files
from diapir.pipeline.survey_tiles import Floats, Precision, Predict, mask_threshold, tile_predictor
from diapir.record import provenance
from diapir.runs import json_digest, sha256_of_file, write_text
from diapir.train.together import make_fabric
from diapir.volume.greys import to_grey
from diapir.volume.line_numbers import Direction
from diapir.volume.resampling import Resampling, plan_resampling
from diapir.volume.shards import put_block
from diapir.volume.store import (
    STRIP,
    Store,
    open_store,
    open_unfinished,
    read_lines,
    read_map,
    read_volume,
    strip_cut,
)
from diapir.volume.strips import Piece, by_shards, strip_pieces
from diapir.volume.tiling import Tiling, plan_tiling

MEAN, SPREAD = "work/mean", "work/spread"
"""What the first direction found, until the second one has it; float16."""
LEDGER = "ledger"
_METRES = {"m": 1.0, "ft": 0.3048}


@dataclass(frozen=True)
class Options:
    """How a survey is looked at; with the same ones every worker gets the same bits.

    Args:
        overlap: pixels that neighbouring tiles share at least.
        limit: amplitude that becomes white; its negative, black.
        flip_polarity: amplitudes times -1.
        interval: from sample to sample in what nets see; None for the survey's own.
        batch: tiles that are put together for the nets.
        threads: of the processor for each net; None leaves each worker its own number.
    """

    overlap: int
    limit: float
    flip_polarity: bool
    interval: float | None
    batch: int
    precision: Precision
    threads: int | None


class SeenAs(NamedTuple):
    """How amplitudes became what nets see: of `Options`, what has to do with the survey alone."""

    limit: float
    flip_polarity: bool
    interval: float | None


@dataclass(frozen=True)
class Setting:
    """What all strips of a survey have in common, in plain values that travel.

    Args:
        survey, model, out: full paths, the same for every worker.
        key: digest of all that the result depends on.
        directions: whose sections are looked at, in order.
    """

    survey: Path
    model: Path
    out: Path
    key: str
    options: Options
    directions: tuple[Direction, ...]


@dataclass(frozen=True)
class StripJob:
    """STRIP neighbouring sections, or as many as there are: those from STRIP * number on."""

    setting: Setting
    direction: Direction
    number: int


@dataclass(frozen=True, eq=False)
class _Open:
    """A setting with its files open and its nets in memory."""

    survey: Store
    target: Store
    live: NDArray[np.bool_]
    predict: Predict
    threshold: float
    resampling: Resampling | None
    tilings: dict[Direction, Tiling]


def work_key(survey: Store, model: Model, *, options: Options, directions: Sequence[Direction]) -> dict[str, Any]:
    """All that the result depends on, as plain JSON values; no paths, so that stores and models may be moved."""
    files = needed_files(model.folder, model.recipe, model.members)
    here = provenance()
    return {
        "survey": survey.facts.get("digest"),
        "model": json_digest({name: sha256_of_file(model.folder / name) for name in files}),
        "options": asdict(options),
        "directions": list(directions),
        "diapir": here["diapir"],
        "torch": here["libraries"]["torch"],
        "numpy": here["libraries"]["numpy"],
        "device": make_fabric(options.precision, devices=1).device.type,
    }


def seen_as(salt: Store) -> SeenAs | None:
    """How the survey was looked at when this was found in it; None where the store does not say."""
    key = salt.facts.get("key")
    found = key.get("options") if isinstance(key, dict) else None
    if not isinstance(found, dict):
        return None
    look = SeenAs(found.get("limit", 0.0), found.get("flip_polarity", False), found.get("interval"))
    is_sound = isinstance(look.flip_polarity, bool) and (look.interval is None or _is_positive(look.interval))
    return look if is_sound and _is_positive(look.limit) else None


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < float("inf")


def mark_of(job: StripJob) -> Path:
    """The file that says that a strip is done."""
    return job.setting.out / LEDGER / f"{job.direction}-{job.number:06}"


def do_strip(job: StripJob, *, stop: Callable[[], None] = lambda: None) -> None:
    """Predict a strip, and write what was found and then that it is done; done again it writes the same bytes.

    Args:
        stop: called before each batch; raises where work is to be left.

    Raises:
        InputError: the stores or the model are not what the first process saw.
    """
    setting = job.setting
    if setting.options.threads is not None:
        torch.set_num_threads(setting.options.threads)
    place = _opened(setting)
    lines = slice(job.number * STRIP, (job.number + 1) * STRIP)
    is_last = job.direction == setting.directions[-1]
    _, shard = strip_cut(place.survey.grid.shape, along=job.direction)
    width = shard[1] if job.direction == "inline" else shard[0]

    def predict(greys: NDArray[np.uint8], depths_m: Floats) -> Any:
        stop()
        return place.predict(greys, depths_m)

    for piece in by_shards(_pieces(place, job, lines, predict), width=width):
        block = _block(job.direction, lines, slice(piece.first, piece.last))
        found = piece._replace(mean=_turned(piece.mean, job.direction), spread=_turned(piece.spread, job.direction))
        if is_last:
            _write_found(place, found, block, is_second=len(setting.directions) > 1)
        else:
            _put(place.target, MEAN, found.mean, block)
            _put(place.target, SPREAD, found.spread, block)
    write_text(mark_of(job), setting.key)


@lru_cache(maxsize=1)
def _opened(setting: Setting) -> _Open:
    """Stores and nets, read once by each worker for all of its strips."""
    try:
        survey, target, model = open_store(setting.survey), open_unfinished(setting.out), open_model(setting.model)
    except OSError as error:
        raise InputError.of(
            error.filename, f"{error.strerror}; survey, model and result must lie where all workers see them"
        ) from None
    key = work_key(survey, model, options=setting.options, directions=setting.directions)
    if json_digest(key) != setting.key:
        what = "another survey or model lies here, or versions are others, than where the work was begun"
        raise InputError.of(f"{setting.survey}, {setting.model}", f"{what}; show every worker the same ones")
    wanted = setting.options.interval
    resampling = None if wanted is None else plan_resampling(survey.grid, wanted=wanted)
    samples = survey.grid.num_samples if resampling is None else resampling.num_samples
    side, overlap = (TILE, TILE), (setting.options.overlap, setting.options.overlap)
    traces: dict[Direction, int] = {"inline": survey.grid.shape[1], "crossline": survey.grid.shape[0]}
    return _Open(
        survey,
        target,
        live=read_map(survey, "live"),
        predict=tile_predictor(model, precision=setting.options.precision),
        threshold=mask_threshold(model),
        resampling=resampling,
        tilings={way: plan_tiling((samples, traces[way]), tile=side, overlap=overlap) for way in setting.directions},
    )


def _pieces(place: _Open, job: StripJob, lines: slice, predict: Predict) -> Iterator[Piece]:
    options, grid, resampling = job.setting.options, place.survey.grid, place.resampling
    tiling = place.tilings[job.direction]
    rows = np.array(sorted({row for row, _ in tiling.places}), np.float32)
    metres = _METRES.get(grid.unit, np.nan)

    def read(first: int, last: int) -> NDArray[np.uint8]:
        inlines, crosslines = _block(job.direction, lines, slice(first, last))
        found = _turned(read_volume(place.survey, "amplitude", inlines=inlines, crosslines=crosslines), job.direction)
        if resampling is not None:
            found = resampling.resampled(found)
        return to_grey(found, limit=options.limit, flip_polarity=options.flip_polarity)

    live = place.live[lines] if job.direction == "inline" else place.live[:, lines].T
    interval = grid.interval if resampling is None else resampling.interval
    tops_m = ((grid.first_sample + rows * interval) * metres).astype(np.float32)
    pieces = strip_pieces(read, live, tiling=tiling, predict=predict, batch=options.batch, tops_m=tops_m)
    if resampling is None:
        return pieces
    restored = resampling.restored
    return (piece._replace(mean=restored(piece.mean), spread=restored(piece.spread)) for piece in pieces)


def _write_found(place: _Open, found: Piece, block: tuple[slice, slice], *, is_second: bool) -> None:
    """Both directions together: their mean, and the deviation within and between them."""
    mean, spread = found.mean, found.spread
    if is_second:
        first_mean, first_spread = (_first_found(place.target, name, block) for name in (MEAN, SPREAD))
        between = (mean - first_mean) / 2
        mean = (mean + first_mean) * np.float32(0.5)
        variance = (spread * spread + first_spread * first_spread) / 2 + between * between
        spread = np.sqrt(variance).astype(np.float32)
    dead = ~place.live[block]
    mean[dead], spread[dead] = 0, 0
    probability = mean.astype(np.float16)
    _put(place.target, "probability", probability, block)
    _put(place.target, "disagreement", spread, block)
    # Of what is kept, so that whoever cuts it again gets the same mask.
    _put(place.target, "mask", probability.astype(np.float32) > place.threshold, block)


def _put(target: Store, name: str, values: NDArray[Any], block: tuple[slice, slice]) -> None:
    put_block(target, name, values, at=(block[0].start, block[1].start))


def _first_found(target: Store, name: str, block: tuple[slice, slice]) -> Floats:
    return read_lines(target, name, inlines=block[0], crosslines=block[1]).astype(np.float32)


def _block(direction: Direction, lines: slice, traces: slice) -> tuple[slice, slice]:
    """Inlines and crosslines."""
    return (lines, traces) if direction == "inline" else (traces, lines)


def _turned(values: NDArray[Any], direction: Direction) -> NDArray[Any]:
    """Lines of a direction and their traces from inlines and crosslines, or the other way about."""
    return values if direction == "inline" else values.swapaxes(0, 1)
