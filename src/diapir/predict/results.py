"""The table of results: what the teams of 2018 reported, and what our runs reached, from their records alone."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from diapir.faults import Fault, InputError, raise_if_any
from diapir.record import RECORD, is_number, read_record

_KEYS = (
    "recipe", "score", "interval_95", "score_kind", "train_minutes", "folds_held_out", "device", "provenance"
)  # fmt: skip

_HEAD = """\
# Results on the competition's tiles

Written by `diapir results`: our figures come from the records under `results/`; the teams' are typed in
`results/published.yaml`, and what was tried in `results/notes.md`. Our scores are of tiles that were held out, with a
bootstrap 95 % interval over tiles; the teams' are local, public and private. A recipe NAME-cpu is the system NAME made
narrow and short for two processor cores, and stands beside the same published figures.

The tiles at hand were 3,217 of the competition's 4,000 labelled ones; the other 783 counted as unlabelled. Scores here
are therefore of other tiles than the teams', and the kept submissions have more rows than Kaggle takes.

| recipe | published: local / public / private | ours (95 % interval) | gap to local | folds | minutes | hardware |
|---|---|---|---|---|---|---|"""


def results_page(folder: Path) -> str:
    """The page, as Markdown, of a folder with one folder a recipe (`record.json` in it) and `published.yaml` above it.

    What `notes.md` beside `published.yaml` says, if there is one, follows the table.

    Args:
        folder: such as `results/tgs`.

    Raises:
        InputError: there is no record, one of them lacks something, or the published figures cannot be read.
    """
    records = _read_records(folder)
    if not records:
        raise InputError.of(folder, "expected folders with a record.json in each, found none; name such as results/tgs")
    published = _read_published(folder.parent / "published.yaml")
    system_of = {name: _system(name, published) for name in [*published, *records]}
    # Each system is followed by its smaller variants; what nobody published comes last.
    order = {name: place for place, name in enumerate(published)}
    names = sorted(system_of, key=lambda name: (order.get(system_of[name], len(order)), name != system_of[name], name))
    rows = [_row(name, published.get(system_of[name]), records.get(name)) for name in names]
    notes = [f"- {name}: published figures are of {facts['of']}." for name, facts in published.items()]
    notes += [f"- {name}: ours is the {record['score_kind']}." for name, record in records.items()]
    more = folder.parent / "notes.md"
    told = ["", more.read_text(encoding="utf-8", errors="replace").rstrip()] if more.exists() else []
    return "\n".join([_HEAD, *rows, "", *notes, *told]) + "\n"


def _read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The record of each recipe.

    Raises:
        InputError: every fault of every record.
    """
    records, faults = dict[str, dict[str, Any]](), list[Fault]()
    for path in sorted(folder.glob(f"*/{RECORD}")):
        try:
            records[path.parent.name] = read_record(path.parent, keys=_KEYS)
        except InputError as error:
            faults += error.faults
    raise_if_any(faults)
    return records


def _system(name: str, published: Mapping[str, object]) -> str:
    """The published system that a recipe is, or is a smaller variant of; else the recipe itself."""
    return next((system for system in published if name.startswith(f"{system}-")), name)


def _row(name: str, facts: dict[str, Any] | None, record: dict[str, Any] | None) -> str:
    told = (
        "not published" if facts is None else " / ".join(_figure(facts[key]) for key in ("local", "public", "private"))
    )
    if record is None:
        return f"| {name} | {told} | not run at full scale | | | | |"
    low, high = record["interval_95"]
    gap = f"{record['score'] - facts['local']:+.3f}" if facts and facts["local"] is not None else ""
    where = record["provenance"]
    hardware = f"{where['cores']} cores, {where['processor']}" if record["device"] == "cpu" else record["device"]
    folds = ", ".join(map(str, record["folds_held_out"]))
    ours = f"{record['score']:.3f} ({low:.3f} to {high:.3f})"
    return f"| {name} | {told} | {ours} | {gap} | {folds} | {record['train_minutes']:.0f} | {hardware} |"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _read_published(path: Path) -> dict[str, dict[str, Any]]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError.of(path, f"not YAML: {' '.join(str(error).split())}") from None
    keys = {"local", "public", "private", "of"}
    if not isinstance(raw, dict) or any(not isinstance(each, dict) or set(each) != keys for each in raw.values()):
        raise InputError.of(path, f"expected a mapping of recipe to {', '.join(sorted(keys))}")
    raise_if_any(
        Fault(f"{path}: {name}.{key}", f"expected a number or null, found {reprlib.repr(facts[key])}")
        for name, facts in raw.items()
        for key in ("local", "public", "private")
        if facts[key] is not None and not is_number(facts[key])
    )
    return {str(name): facts for name, facts in raw.items()}
