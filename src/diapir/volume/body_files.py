"""The bodies of salt as tables, the largest first."""

import csv
import math
from pathlib import Path
from typing import Any

from diapir.runs import atomic_path, write_json
from diapir.volume.salt_maps import BodyTable
from diapir.volume.store import Grid
from diapir.volume.surface_files import Survey

Row = dict[str, Any]


def write_bodies(folder: Path, survey: Survey, table: BodyTable) -> list[Row]:
    """`geobodies.csv` and `geobodies.json`: the rows, which are given back; what is not known is empty there."""
    rows = [_row(survey, table, number) for number in range(len(table))]
    with atomic_path(folder / "geobodies.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _columns(survey.grid), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_json(folder / "geobodies.json", rows)
    return rows


def _columns(grid: Grid) -> list[str]:
    sizes = ["voxels", "volume_m3", "volume_km3", *(["area_times_time_m2_ms"] if grid.unit == "ms" else [])]
    lines = ["inline_first", "inline_last", "crossline_first", "crossline_last"]
    depths = [f"shallowest_{grid.unit}", f"deepest_{grid.unit}"]
    places = ["x_least", "x_greatest", "y_least", "y_greatest"]
    rest = ["mean_probability", "at_border", "overhang_traces"]
    return ["geobody", *sizes, "traces", "area_m2", *lines, *depths, *places, *rest]


def _row(survey: Survey, table: BodyTable, number: int) -> Row:
    grid, area = survey.grid, survey.area_m2
    voxels, traces = int(table.voxels[number]), int(table.traces[number])
    volume_m3 = _product(voxels, area, survey.height_m)
    sizes = [voxels, volume_m3, _product(volume_m3, 1e-9)]
    if grid.unit == "ms":
        sizes.append(_product(voxels, area, grid.interval))
    lines = [
        axis.first + axis.step * int(place)
        for axis, places in ((grid.inlines, table.inline), (grid.crosslines, table.crossline))
        for place in places[:, number]
    ]
    depths = survey.depth(table.sample[:, number]).tolist()
    places = [*table.x[:, number].tolist(), *table.y[:, number].tolist()]
    known = [value if survey.has_positions and math.isfinite(value) else None for value in places]
    probability = round(float(table.probability[number]) / voxels, 4)
    rest = [probability, bool(table.at_border[number]), int(table.overhung[number])]
    values = [number + 1, *sizes, traces, _product(traces, area), *lines, *depths, *known, *rest]
    return dict(zip(_columns(grid), values, strict=True))


def _product(*factors: float | None) -> float | None:
    """None where a factor is not known."""
    known = [factor for factor in factors if factor is not None]
    # Eight digits: positions in whole centimetres know no more.
    return float(f"{math.prod(known):.8g}") if len(known) == len(factors) else None
