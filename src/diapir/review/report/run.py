"""What a report needs of a finished run: read once, held against each other, and what is absent told in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import DataSet, TileSet
from diapir.faults import InputError
from diapir.pipeline.plan import RECIPE, STEP, own_tiles, require_finished
from diapir.pipeline.predictions import HELD_OUT as PROBABILITIES
from diapir.pipeline.predictions import ROWS, read_array
from diapir.pipeline.run import open_run_data
from diapir.pipeline.workplace import step_named
from diapir.predict.comparing import HELD_OUT, read_held_out
from diapir.recipe.files import read_recipe
from diapir.recipe.steps import PostProcessStep, sources
from diapir.recipe.whole import Recipe
from diapir.record import read_record
from diapir.review.report.markup import shortened
from diapir.runs import read_json

OpenData = Callable[[Recipe, Path | None], DataSet]
"""The data set of a recipe, from a folder or made by itself, without tiles that are faulty."""

_KEYS = ("recipe", "score", "interval_95", "score_kind", "threshold", "data", "provenance")
_CHUNK, _MOST_ROWS, _GREATEST = 256, 200, 1e300
_GIVE_DATA = "give the data set that it was trained on with --data"


@dataclass(frozen=True, eq=False)
class Found:
    """Held-out predictions of a run, in the order of its table of held-out tiles.

    Args:
        rows: of the labelled tiles, (n,).
        probability: of the last step before masks were edited, float16 (n, h, w).
        final: of what was submitted, float16 (n, h, w): the same, or edited masks.
        editor: the first step that edited masks; empty where none did.
    """

    rows: NDArray[np.int64]
    probability: NDArray[np.float16]
    final: NDArray[np.float16]
    editor: str

    @property
    def is_edited(self) -> bool:
        """Whether what was submitted are masks, and no probabilities."""
        return bool(self.editor)


@dataclass(frozen=True, eq=False)
class RunView:
    """A finished run as a report shows it.

    Args:
        name: of its folder, made different from those of other runs in the report.
        facts: of each held-out tile, as `read_held_out` has them; empty where the run keeps none.
        found: held-out predictions; a text says why there are none.
        data: the data set; a text says why it is not there.
        tiles: the held-out tiles, in the order of `facts`; None without data or predictions.
    """

    name: str
    folder: Path
    recipe: Recipe
    record: dict[str, Any]
    facts: list[dict[str, str]]
    found: Found | str
    data: DataSet | str
    tiles: TileSet | None

    @property
    def scores(self) -> NDArray[np.float64]:
        """Of each held-out tile: (n,)."""
        return np.array([float(fact["score"]) for fact in self.facts])

    @property
    def threshold(self) -> float:
        """Probability above which a pixel was salt in what was submitted."""
        return float(self.record["threshold"])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the score's 95 % interval."""
        low, high = self.record["interval_95"]
        return float(low), float(high)

    @property
    def why_no_tiles(self) -> str:
        """What is missing where `tiles` is None."""
        return next((each for each in (self.found, self.data) if isinstance(each, str)), "")


def is_run(path: Path) -> bool:
    """Whether a folder claims to be a run's."""
    return (path / RECIPE).is_file()


def read_run(folder: Path, *, name: str, data_path: Path | None, open_data: OpenData) -> RunView:
    """A finished run, with its data where they are at hand.

    Args:
        data_path: a data set that may be the run's; its own tiles, and data that its recipe makes, need none.

    Raises:
        InputError: it is not finished, or what it keeps is damaged.
    """
    require_finished(folder)
    recipe, record = read_recipe(folder / RECIPE), read_record(folder, keys=_KEYS)
    facts = list(read_held_out(folder).values()) if (folder / HELD_OUT).is_file() else []
    found = _read_found(folder, recipe, count=len(facts))
    data = _find_data(folder, recipe, record, data_path=data_path, open_data=open_data)
    tiles = None
    if isinstance(found, Found) and isinstance(data, DataSet):
        tiles = _held_out_tiles(folder, data, found, facts)
    return RunView(name, folder, recipe, record, facts, found, data, tiles)


def has_salt(found: Found, threshold: float) -> NDArray[np.bool_]:
    """Whether what was submitted says that a tile holds any salt: (n,)."""
    cut = found.final.dtype.type(threshold)
    parts = [(found.final[start : start + _CHUNK] > cut).any((1, 2)) for start in range(0, len(found.final), _CHUNK)]
    return np.concatenate([np.zeros(0, np.bool_), *parts])


def tile_uncertainty(found: Found) -> NDArray[np.float64]:
    """Mean over a tile's pixels of 4 p (1 - p): 1 where all probabilities are a half, 0 where all are sure: (n,)."""
    parts = []
    for start in range(0, len(found.probability), _CHUNK):
        p = found.probability[start : start + _CHUNK].astype(np.float32)
        parts.append((4 * p * (1 - p)).mean((1, 2), dtype=np.float64))
    return np.concatenate([np.zeros(0), *parts])


def plain(value: Any) -> str:
    """A plain JSON value for a person."""
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def step_figures(run: RunView, name: str) -> dict[str, Any]:
    """What a step noted at its end; nothing where it left no note."""
    path = run.folder / name / STEP
    return mapping(mapping(read_json(path)).get("figures")) if path.is_file() else {}


def fact_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """Name and value of each fact, those of facts within facts behind the name of these."""
    rows = []
    for key, value in list(facts.items())[:_MOST_ROWS]:
        if isinstance(value, dict) and value:
            rows += [[f"{shortened(str(key), 60)}, {name}", shown] for name, shown in fact_rows(value)]
        else:
            rows.append([shortened(str(key), 60), shortened(plain(value), 600)])
    return rows[:_MOST_ROWS]


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Of whole numbers JSON holds some that no float does.
    return float(value) if abs(value) < _GREATEST else None


def mapping(value: Any) -> dict[str, Any]:
    """A mapping as it is, and an empty one for anything else: of facts that an older run may have in another form."""
    return value if isinstance(value, dict) else {}


def _read_found(folder: Path, recipe: Recipe, *, count: int) -> Found | str:
    """Held-out predictions, or why there are none.

    Raises:
        InputError: a file is damaged, or they do not belong together.
    """
    if not count:
        return f"this folder keeps no {HELD_OUT}, which says what each held-out tile scored"
    final = sources(recipe.all_steps[-1])["of"][0]
    source, editor = final, ""
    while isinstance(step := step_named(recipe, source), PostProcessStep):
        source, editor = step.of, step.name
    files = [folder / final / ROWS, folder / final / PROBABILITIES, folder / source / PROBABILITIES]
    if absent := [path for path in files if not path.is_file()]:
        return f"this folder keeps no held-out probabilities ({absent[0].relative_to(folder)})"
    rows, masks, probability = (read_array(path) for path in files)
    is_sound = (
        rows.shape == (count,)
        and rows.dtype.kind == "i"
        and all(each.ndim == 3 and len(each) == count and each.dtype.kind == "f" for each in (masks, probability))
        and masks.shape == probability.shape
    )
    if not is_sound:
        what = f"expected predictions of {count} held-out tiles, found {masks.dtype} {masks.shape}; use another copy"
        raise InputError.of(folder / final, what)
    return Found(np.asarray(rows), probability, masks, editor=editor)


def _find_data(
    folder: Path, recipe: Recipe, record: dict[str, Any], *, data_path: Path | None, open_data: OpenData
) -> DataSet | str:
    """The data that the run had, of its own tiles, of those that are named, or as its recipe makes them."""
    wanted = record["data"].get("digest")
    candidates: list[Path | None] = [own_tiles(folder, None), data_path]
    places = [place for place in candidates if place is not None]
    for place in [*places, *([None] if recipe.data.synthetic is not None else [])]:
        data = open_data(recipe, place)
        if data.digest == wanted:
            return data
    if data_path is not None:
        return f"the data in {data_path.name} are not those that it was trained on"
    return f"its tiles are not in its folder: {_GIVE_DATA}"


def _held_out_tiles(folder: Path, data: DataSet, found: Found, facts: list[dict[str, str]]) -> TileSet:
    is_inside = found.rows.min(initial=0) >= 0 and found.rows.max(initial=-1) < len(data.labelled)
    tiles = data.labelled.take(found.rows) if is_inside else None
    if tiles is None or tiles.images.shape != found.final.shape or [fact["id"] for fact in facts] != [*tiles.ids]:
        what = f"expected the tiles of {HELD_OUT} in the order of {ROWS}, found others; use another copy of the run"
        raise InputError.of(folder, what)
    return tiles


def data_opener() -> OpenData:
    """Opens data sets, each once, however many runs ask for it."""
    opened: dict[tuple[Path | None, str], DataSet] = {}

    def open_data(recipe: Recipe, path: Path | None) -> DataSet:
        key = path, str(recipe.data)
        if key not in opened:
            # Their digest says whether they are the run's, which may have left some out.
            opened[key] = open_run_data(recipe, path, skip_bad=True)[0]
        return opened[key]

    return open_data
