"""A run done once more: which bytes came out the same, or what went in that was not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diapir.faults import InputError
from diapir.pipeline.plan import RECIPE, own_tiles, require_finished
from diapir.pipeline.run import run_recipe
from diapir.predict.comparing import ABSENT, settings_that_differ, what_went_in
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.record import RECORD, read_record
from diapir.runs import require_outside, sha256_of_file

_COMPARED = ("*.safetensors", "*.npy", "*.csv", "tiles.png")


@dataclass(frozen=True)
class Replay:
    """How a second run compares with the first.

    Args:
        same, different: files by their names below the run's folder.
        absent: files that the second run did not make: of a step that was rolled back or done otherwise.
        changed: what went into the second run that was another: data, commit, libraries, hardware.
    """

    same: tuple[str, ...]
    different: tuple[str, ...]
    absent: tuple[str, ...]
    changed: tuple[str, ...]


def replay_run(run: Path, out: Path, *, data_path: Path | None) -> Replay:
    """Do a finished run again in `out`, and hold its files against the first ones'.

    Raises:
        InputError: the run is not finished, `out` is its own folder, lies in that or holds another run, or the data set
            is not named; and as `run_recipe`.
    """
    require_finished(run)
    recipe, before = read_recipe(run / RECIPE), read_record(run, keys=("data", "provenance"))
    _require_new(out, run, recipe)
    tiles = own_tiles(run, data_path)
    if tiles is None and recipe.data.synthetic is not None and before["data"].get("source") != "synthetic":
        raise InputError.of(run, f"it was made of the data set {before['data'].get('source')}: name that with --data")
    own = before.get("threads", [])
    after = run_recipe(
        recipe,
        out,
        data_path=tiles,
        resume=True,
        skip_bad=bool(before["data"].get("skipped")),
        threads=own[0] if len(own) == 1 else None,
    )
    names = _compared(run, recipe)
    made = [name for name in names if (out / name).is_file()]
    same = [name for name in made if sha256_of_file(out / name) == sha256_of_file(run / name)]
    return Replay(
        same=tuple(same),
        different=tuple(name for name in made if name not in same),
        absent=tuple(name for name in names if name not in made),
        changed=tuple(_changed(before, after)),
    )


def _require_new(out: Path, run: Path, recipe: Recipe) -> None:
    """Refuse a folder in which the run would not be done again, or not by itself; a stopped replay is gone on with."""
    require_outside(out, run)
    is_another = (out / RECIPE).exists() and read_recipe(out / RECIPE).digest != recipe.digest
    if is_another or (out / RECORD).exists():
        raise InputError.of(
            out, "expected a new folder to do the run again in, found another run there; name a new one"
        )


def _compared(run: Path, recipe: Recipe) -> list[str]:
    """Names of the files that a run's steps left, and of those beside them."""
    folders = [run / step.name for step in recipe.all_steps]
    found = {path for pattern in _COMPARED for path in run.glob(pattern)}
    found |= {path for folder in folders for pattern in _COMPARED for path in folder.rglob(pattern)}
    # A checkpoint holds how long it took.
    return sorted(str(path.relative_to(run)) for path in found if not path.name.startswith((".", "checkpoint")))


def _changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """What went in and was another, as far as the first record says; of data by what they hold, not by their name."""
    first, second = what_went_in(before), what_went_in(after)
    for title in first:
        for key, old, new in settings_that_differ(first[title], second[title]):
            if (title != "data" or key == "digest") and old != ABSENT:
                yield f"{title} {key}: {old} -> {new}"


def replay_text(replay: Replay) -> str:
    """The outcome for a person."""
    lines = [f"{len(replay.same)} of {len(replay.same) + len(replay.different)} files are the same, byte for byte"]
    lines += [f"different: {name}" for name in replay.different]
    lines += [f"not made again: {name}" for name in replay.absent]
    lines += [f"changed since: {what}" for what in replay.changed] or ["what went in is the same"]
    return "\n".join(lines)
