"""Runs side by side: how their scores differ on the same held-out tiles, and what differs in how they were made."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from diapir.data.tiles import TileSet, coverage_classes
from diapir.faults import InputError
from diapir.predict.gain import Gain, paired_gain
from diapir.recipe.files import read_recipe
from diapir.record import read_record
from diapir.runs import write_text

HELD_OUT = "held-out.csv"
ABSENT = "absent"
"""Said of a value that one of two mappings lacks."""
_COLUMNS = ("id", "depth_m", "coverage_class", "boundary_px", "score")
_ENVIRONMENT = ("device", "precision", "processors", "threads")
_DEPTH_BAND_M = 200
_BOUNDARY_PX = (1, 50, 100, 150)
# Both tails of 5 %, and a chance of 80 % to see a difference that is there (Cohen 1988, section 2.4).
_POWER = 1.960 + 0.842


@dataclass(frozen=True)
class Difference:
    """The second run's scores less the first's, on some of their common tiles.

    Args:
        name: which tiles.
        least_visible: the smallest difference that so many tiles would have shown, four times in five.
    """

    name: str
    num_tiles: int
    gain: Gain
    least_visible: float


def write_held_out(path: Path, tiles: TileSet, scores: NDArray[np.float64]) -> None:
    """Write what comparisons need of each held-out tile: depth, coverage class, length of the boundary, score."""
    assert tiles.masks is not None
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    classes, lengths = coverage_classes(tiles.masks), boundary_px(tiles.masks)
    for row, name in enumerate(tiles.ids):
        depth = "" if np.isnan(tiles.depths_m[row]) else f"{tiles.depths_m[row]:.9g}"
        rows.writerow([name, depth, int(classes[row]), int(lengths[row]), f"{scores[row]:.6g}"])
    write_text(path, text.getvalue())


def boundary_px(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixel sides between salt and what is known to be none inside each tile (n, h, w): (n,)."""
    salt, none = masks == 1, masks == 0
    below = (salt[:, 1:] & none[:, :-1]) | (none[:, 1:] & salt[:, :-1])
    beside = (salt[:, :, 1:] & none[:, :, :-1]) | (none[:, :, 1:] & salt[:, :, :-1])
    return np.asarray(below.sum((1, 2)) + beside.sum((1, 2)), dtype=np.int64)


def compare_runs(first: Path, second: Path) -> list[Difference]:
    """Differences on the held-out tiles that both runs scored: in all, by depth, coverage class and boundary.

    Raises:
        InputError: a run is not finished, its table is damaged, or they have no tile in common.
    """
    tables = [read_held_out(run) for run in (first, second)]
    names = [name for name in tables[0] if name in tables[1]]
    if not names:
        raise InputError.of(second, f"expected held-out tiles that {first} held out too, found none in common")
    before, after = (np.array([float(table[name]["score"]) for name in names]) for table in tables)
    facts = [tables[0][name] for name in names]
    return [_difference(name, before[chosen], after[chosen]) for name, chosen in tile_groups(facts) if chosen.any()]


def print_comparison(first: Path, second: Path, console: Console) -> None:
    """Print how two runs differ, as a person reads it: scores, then recipe, data and environment."""
    differences, others = compare_runs(first, second), what_differs(first, second)
    console.print(f"{second} less {first}", markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("tiles", "number", "first", "second", "difference", "95 % interval", "least visible"):
        table.add_column(heading, justify="left" if heading == "tiles" else "right")
    for each in differences:
        gain = each.gain
        table.add_row(
            each.name, str(each.num_tiles), f"{gain.before:.4f}", f"{gain.after:.4f}", f"{gain.difference:+.4f}",
            f"{gain.low:+.4f} .. {gain.high:+.4f}", f"{each.least_visible:.4f}",
        )  # fmt: skip
    console.print(table)
    for line in others:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def what_differs(first: Path, second: Path) -> list[str]:
    """Settings, data and environment in which two finished runs differ, a line each."""
    one, other = (
        {"recipe": read_recipe(run / "recipe.yaml").model_dump(mode="json")}
        | what_went_in(read_record(run, keys=("data", "provenance")))
        for run in (first, second)
    )
    lines = []
    for title in one:
        different = settings_that_differ(one[title], other[title])
        lines += [f"{title} {key}: {before} -> {after}" for key, before, after in different]
        if not different and one[title]:
            lines.append(f"{title}: the same")
    return lines


def what_went_in(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a finished run was made of besides its recipe: data, other files that the recipe names, and environment."""
    around = {key: record[key] for key in _ENVIRONMENT if key in record}
    return {"data": record["data"], "files": record.get("files", {}), "environment": record["provenance"] | around}


def settings_that_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Paths of the plain values in which two mappings differ, each with the first's and the second's."""
    flat = [dict(_flat(dict(each))) for each in (first, second)]
    keys = sorted({*flat[0], *flat[1]})
    return [(key, _shown(flat[0], key), _shown(flat[1], key)) for key in keys if flat[0].get(key) != flat[1].get(key)]


def read_held_out(run: Path) -> dict[str, dict[str, str]]:
    """What a finished run wrote of each held-out tile, by its id: texts of id, depth, class, boundary and score.

    Raises:
        InputError: there is no such table, or it is damaged.
    """
    path = run / HELD_OUT
    if not path.is_file():
        raise InputError.of(run, f"expected the folder of a finished run, found no {HELD_OUT} in it")
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for row in rows:
            if not _is_sound(row):
                raise ValueError(f"the row of {row['id']!r} has numbers that no tile has")
        return {row["id"]: row for row in rows}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError.of(path, f"cannot be read ({error}); run the recipe again") from None


def _is_sound(row: Mapping[str, str]) -> bool:
    return (
        0 <= float(row["score"]) <= 1
        and 0 <= int(row["coverage_class"]) <= 10
        and 0 <= int(row["boundary_px"]) < 2**31
        and not math.isinf(float(row["depth_m"] or "nan"))
    )


def tile_groups(facts: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Groups of held-out tiles and which tiles are in them: all, by depth, coverage class and boundary; some are empty.

    Args:
        facts: of tiles, as `read_held_out` has them.
    """
    yield "all", np.ones(len(facts), bool)
    depths = np.array([float(fact["depth_m"] or "nan") for fact in facts])
    bands = np.floor(np.nan_to_num(depths, nan=-1.0) / _DEPTH_BAND_M)
    for band in np.unique(bands[~np.isnan(depths)]):
        yield f"depth {band * _DEPTH_BAND_M:g} to {(band + 1) * _DEPTH_BAND_M:g} m", bands == band
    classes = np.array([int(fact["coverage_class"]) for fact in facts])
    for number in np.unique(classes):
        yield f"coverage class {number}", classes == number
    lengths = np.array([int(fact["boundary_px"]) for fact in facts])
    for low, high in zip(_BOUNDARY_PX, [*_BOUNDARY_PX[1:], None], strict=True):
        name = f"boundary {low} to {high - 1} px" if high else f"boundary of {low} px or more"
        yield name, (lengths >= low) & (lengths < (high or np.inf))


def _difference(name: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> Difference:
    spread = float((after - before).std(ddof=1)) if len(before) > 1 else math.nan
    visible = _POWER * spread / math.sqrt(len(before))
    return Difference(name=name, num_tiles=len(before), gain=paired_gain(before, after), least_visible=visible)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{number}")
    else:
        yield path, value


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else ABSENT
