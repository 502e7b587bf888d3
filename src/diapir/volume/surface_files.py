"""Surfaces and bodies of salt in files that interpreters' and other programs load."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.runs import atomic_path, json_digest
from diapir.volume.mesh import close_body, triangulate, write_ply
from diapir.volume.salt_maps import SaltMaps
from diapir.volume.store import Grid, Store
from diapir.volume.top_and_base import CHANCES

FACTS, EDITS = "surfaces.json", "edits"
"""In a folder of surfaces: what was found in numbers, and what the checks changed."""

_P50 = CHANCES.index(0.5)


def source_of(store: Store) -> dict[str, Any]:
    """What tells a salt store from every other: another model's has another key."""
    facts = store.facts
    return {"digest": facts.get("digest"), "threshold": facts.get("threshold"), "key": json_digest(facts.get("key"))}


@dataclass(frozen=True, eq=False)
class Survey:
    """Where the traces of a salt store lie.

    Args:
        live: bool (inlines, crosslines).
        x, y: float64 (inlines, crosslines), NaN where not known; line numbers where none is.
        has_positions: whether they are positions.
        xy_unit: theirs.
        area_m2: of a trace's cell; None where it is not known.
        height_m: from a sample to the next; None for times without a velocity.
    """

    grid: Grid
    live: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    has_positions: bool
    xy_unit: str
    area_m2: float | None
    height_m: float | None

    @property
    def unit(self) -> str:
        """Of depths."""
        return self.grid.unit

    @property
    def is_placed(self) -> NDArray[np.bool_]:
        """Traces with a place in a map."""
        return np.asarray(np.isfinite(self.x) & np.isfinite(self.y))

    def depth(self, places: NDArray[Any]) -> NDArray[np.float64]:
        """Times or depths of places in samples."""
        return self.grid.first_sample + self.grid.interval * places.astype(np.float64)

    @property
    def note(self) -> str:
        """What x, y and z of the files mean."""
        kind = "two-way time" if self.unit == "ms" else "depth"
        xy = f"x y in {self.xy_unit}" if self.has_positions else "positions unknown: x = inline, y = crossline number"
        return f"{xy}, z = {kind} in {self.unit}"


def write_surfaces(folder: Path, survey: Survey, maps: SaltMaps) -> None:
    """`top.csv`, `base.csv`, `traces.csv`, `top.xyz`, `base.xyz`, `top.ply`, `base.ply`, `salt.ply`.

    Depths of CSV and XYZ grow downwards, as in the store; z of the meshes is their negative, so that viewers, whose z
    points up, show the salt the right way up.
    """
    for name, places, spread in (
        ("top", maps.top, maps.top_disagreement),
        ("base", maps.base, maps.base_disagreement),
    ):
        depths = survey.depth(places)
        _write_surface(folder / f"{name}.csv", survey, depths, spread, which=maps.is_salty)
        _write_xyz(folder / f"{name}.xyz", survey, depths[_P50])
        _write_sheet(folder / f"{name}.ply", survey, depths[_P50], name=f"P50 {name} of salt")
    _write_traces(folder / "traces.csv", survey, maps)
    _write_body(folder / "salt.ply", survey, maps)


def _write_surface(
    path: Path,
    survey: Survey,
    depths: NDArray[np.float64],
    disagreement: NDArray[Any],
    *,
    which: NDArray[np.bool_],
) -> None:
    percentiles = [f"p{round(100 * chance)}_{survey.unit}" for chance in CHANCES]
    columns = [*((depth, 3) for depth in depths), (disagreement, 4)]
    _write_map_rows(path, survey, [*percentiles, "disagreement"], columns, which=which)


def _write_traces(path: Path, survey: Survey, maps: SaltMaps) -> None:
    """All live traces."""
    names = [
        "has_salt",
        "entries",
        f"thickness_{survey.unit}",
        f"salt_{survey.unit}",
        "overhang",
        "geobody",
    ]
    interval = survey.grid.interval
    columns = [
        (maps.has_salt, 4),
        (maps.entries, 0),
        (maps.thickness * interval, 3),
        (maps.salt_samples * interval, 3),
        (maps.is_overhung, 0),
        (maps.body, 0),
    ]
    _write_map_rows(path, survey, names, columns, which=survey.live)


def _write_map_rows(
    path: Path,
    survey: Survey,
    names: Sequence[str],
    columns: Sequence[tuple[NDArray[Any], int]],
    *,
    which: NDArray[np.bool_],
) -> None:
    """Traces of a map, line by line; each column with the digits after its dot, empty where it has no number."""
    numbers = survey.grid.crosslines.numbers
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["inline", "crossline", "x", "y", *names])
        for line, inline in enumerate(survey.grid.inlines.numbers.tolist()):
            at = line, np.flatnonzero(which[line])
            places = [_shown(values[at], None) for values in (survey.x, survey.y)]
            if not survey.has_positions:
                places = [[""] * len(at[1])] * 2
            cells = [_shown(values[at], digits) for values, digits in columns]
            table.writerows(zip([inline] * len(at[1]), numbers[at[1]].tolist(), *places, *cells, strict=True))


def _shown(values: NDArray[Any], digits: int | None) -> list[str]:
    """Numbers as text: so many digits after the dot, or ten in all where that is None."""
    form = "{:.10g}" if digits is None else f"{{:.{digits}f}}"
    return [form.format(value) if math.isfinite(value) else "" for value in values.tolist()]


def _write_xyz(path: Path, survey: Survey, depth: NDArray[np.float64]) -> None:
    at = np.nonzero(np.isfinite(depth) & survey.is_placed)
    points = np.stack([survey.x[at], survey.y[at], depth[at]], axis=1)
    with atomic_path(path) as temporary:
        np.savetxt(temporary, points, fmt=["%.10g", "%.10g", "%.3f"], header=f"{survey.note}, growing downwards")


def _write_sheet(path: Path, survey: Survey, depth: NDArray[np.float64], *, name: str) -> None:
    traces, triangles = triangulate(np.isfinite(depth) & survey.is_placed, survey.x, survey.y)
    write_ply(path, _points(survey, depth, traces), triangles, comments=_comments(survey, name))


def _write_body(path: Path, survey: Survey, maps: SaltMaps) -> None:
    """The closed body between the P50 top and base, or where one lies beyond the survey, its first or last sample."""
    last = survey.grid.num_samples - 1
    is_salty = maps.is_salty
    top, base = (
        survey.depth(np.where(is_salty & np.isnan(places[_P50]), end, places[_P50]))
        for places, end in ((maps.top, 0), (maps.base, last))
    )
    traces, triangles = triangulate(is_salty & survey.is_placed, survey.x, survey.y)
    points, faces = close_body(_points(survey, top, traces), _points(survey, base, traces), triangles)
    write_ply(path, points, faces, comments=_comments(survey, "salt between its P50 top and base, without its gaps"))


def _points(survey: Survey, depth: NDArray[np.float64], traces: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([survey.x.ravel()[traces], survey.y.ravel()[traces], -depth.ravel()[traces]], axis=1)


def _comments(survey: Survey, name: str) -> list[str]:
    return [f"diapir: {name}", f"{survey.note}, as its negative: z points up"]
