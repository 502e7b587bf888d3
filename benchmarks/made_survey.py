"""Surveys and models for the benchmarks of `diapir survey`: noise of any size, and nets trained for a moment."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diapir.pipeline.run import run_recipe
from diapir.recipe.files import read_recipe
from diapir.volume.line_numbers import Axis
from diapir.volume.segy_format import FORMATS
from diapir.volume.segy_headers import new_file_header, new_trace_headers
from diapir.volume.segy_write import Block, write_segy
from diapir.volume.store import Grid, add_volume, cut_of, finish, new_store, put_map

CHEAP = (
    "net.encoder={kind: residual, widths: [4, 4], blocks: [1, 1]}",
    "net.decoder={widths: [4, 4]}",
    "framing={method: resize, size: 16}",
)
"""A net that costs next to nothing, so that all else is seen."""
_MOMENT = (
    "data={synthetic: {labelled: 40, unlabelled: 1}}",
    "folds={scheme: random, count: 2, held_out: [0]}",
    "steps=[]",
    "predict.weights=last",
)


def noise_store(path: Path, shape: tuple[int, int, int], *, seed: int = 0) -> Path:
    """A survey of noise, smooth along the traces, in float32; memory does not go with its size."""
    grid = Grid(Axis(1, 1, shape[0]), Axis(1, 1, shape[1]), shape[2], 0.0, 4.0, "ms")
    store = new_store(path, grid, {"kind": "survey", "digest": f"noise {seed}", "amplitude": {"limit": 3.0}})
    chunk, shard = cut_of(shape)
    volume = add_volume(store, "amplitude", chunk=chunk, shard=shard)
    rng = np.random.default_rng(seed)
    block = rng.standard_normal((shard[0], shard[1], shape[2]), np.float32)
    for first in range(0, shape[0], shard[0]):
        for second in range(0, shape[1], shard[1]):
            sides = min(shard[0], shape[0] - first), min(shard[1], shape[1] - second)
            volume[first : first + sides[0], second : second + sides[1]] = np.roll(block, first + second, 2)[
                : sides[0], : sides[1]
            ]
    for name, values in (("live", np.ones(shape[:2])), ("x", np.zeros(shape[:2])), ("y", np.zeros(shape[:2]))):
        put_map(store, name, values)
    put_map(store, "trace_row", np.arange(shape[0] * shape[1]).reshape(shape[:2]))
    finish(store, {})
    return path


def noise_segy(path: Path, shape: tuple[int, int, int], *, stored: str = "ibm32", seed: int = 0) -> Path:
    """A regular file of noise, inline after inline."""
    inlines, crosslines, num_samples = shape
    found = FORMATS[stored]  # type: ignore[index]
    rng = np.random.default_rng(seed)
    section = rng.standard_normal((crosslines, num_samples), np.float32)
    places = np.arange(crosslines)

    def blocks() -> Iterator[Block]:
        for inline in range(inlines):
            headers = new_trace_headers(
                inline=np.full(crosslines, 1 + inline),
                crossline=1 + places,
                cdp_x=(25.0 * places).astype(np.float64),
                cdp_y=np.full(crosslines, 25.0 * inline),
                num_samples=num_samples,
                interval_us=4000,
                first_row=inline * crosslines,
            )
            yield headers, np.roll(section, inline, 0)

    header = new_file_header(num_samples=num_samples, interval_us=4000, stored=found)
    write_segy(path, file_header=header, blocks=blocks(), stored=found, order="big")
    return path


def brief_run(out: Path, recipe: Path, *changes: str) -> Path:
    """A finished run of a recipe's net after a moment of training: its weights mean nothing, its cost is the same."""
    settings = read_recipe(recipe, changes=[*_MOMENT, *changes])
    last = settings.stages[-1].model_copy(update={"epochs": 1, "keep_state": False})
    settings = settings.model_copy(update={"stages": (last,)})
    run_recipe(settings, out, data_path=None)
    return out
