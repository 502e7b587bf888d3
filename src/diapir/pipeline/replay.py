"""A run done once more: which bytes came out the same, or what went in that was not."""

from dataclasses import dataclass
from pathlib import Path

from diapir.faults import InputError
from diapir.pipeline.plan import RECIPE, ROLLED_BACK, SURVEY_TILES, own_tiles, require_finished
from diapir.pipeline.run import run_recipe
from diapir.recipe.files import read_recipe
from diapir.runs import provenance, read_record, sha256_of_file

_COMPARED = ("*.safetensors", "*.npy", "*.csv", "tiles.png")


@dataclass(frozen=True)
class Replay:
    """How a second run compares with the first.

    Args:
        same, different: files by their names below the run's folder.
        changed: what went into the second run that was another: data, commit, libraries, hardware.
    """

    same: tuple[str, ...]
    different: tuple[str, ...]
    changed: tuple[str, ...]


def replay_run(run: Path, out: Path, *, data_path: Path | None) -> Replay:
    """Do a finished run again in `out`, and hold its files against the first ones'.

    Raises:
        InputError: the run is not finished, or `out` is its own folder; and as `run_recipe`.
    """
    require_finished(run)
    if out.exists() and out.samefile(run):
        raise InputError.of(out, "expected another folder than the run's own, to do it again in; name a new one")
    before = read_record(run, keys=("data", "provenance"))
    skipped = bool(before["data"].get("skipped"))
    tiles = own_tiles(run, data_path)
    after = run_recipe(read_recipe(run / RECIPE), out, data_path=tiles, resume=True, skip_bad=skipped)
    names = sorted({str(path.relative_to(run)) for pattern in _COMPARED for path in run.rglob(pattern)})
    # A checkpoint holds how long it took, and what was rolled back is no part of the run any more.
    names = [name for name in names if not Path(name).name.startswith((".", "checkpoint"))]
    names = [name for name in names if Path(name).parts[0] not in (ROLLED_BACK, SURVEY_TILES)]
    same = [
        name for name in names if (out / name).exists() and sha256_of_file(out / name) == sha256_of_file(run / name)
    ]
    changed = []
    if before["data"]["digest"] != after["data"]["digest"]:
        changed.append(f"data: {before['data']['digest'][:12]} -> {after['data']['digest'][:12]}")
    now = provenance()
    changed += [f"{key}: {old} -> {now.get(key)}" for key, old in before["provenance"].items() if now.get(key) != old]
    return Replay(tuple(same), tuple(name for name in names if name not in same), tuple(changed))


def replay_text(replay: Replay) -> str:
    """The outcome for a person."""
    lines = [f"{len(replay.same)} of {len(replay.same) + len(replay.different)} files are the same, byte for byte"]
    lines += [f"different: {name}" for name in replay.different]
    lines += [f"changed since: {what}" for what in replay.changed] or ["what went in is the same"]
    return "\n".join(lines)
