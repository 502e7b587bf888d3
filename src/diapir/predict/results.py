"""The table of results: what the teams of 2018 reported, and what our runs reached, from their records alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from diapir.faults import Fault, InputError, raise_if_any
from diapir.runs import read_json

_NEEDED = ("recipe", "score", "interval_95", "score_kind", "train_minutes", "folds_held_out", "device", "provenance")

_HEAD = """\
# Results on the competition's tiles

Written by `diapir results` from the records under `results/`; nothing here is typed in. Our scores are of tiles that
were held out, with a bootstrap 95 % interval over tiles; the teams' are local, public and private. A recipe NAME-cpu is
the system NAME made narrow and short for two processor cores, and stands beside the same published figures.

| recipe | published: local / public / private | ours (95 % interval) | gap to local | folds | minutes | hardware |
|---|---|---|---|---|---|---|"""


def results_page(folder: Path) -> str:
    """The page, as Markdown, of a folder with one folder a recipe (`record.json` in it) and `published.yaml` above it.

    What `notes.md` beside `published.yaml` says, if there is one, follows the table.

    Args:
        folder: such as `results/tgs`.

    Raises:
        InputError: a record lacks something, or the published figures cannot be read.
    """
    records = {path.parent.name: read_json(path) for path in sorted(folder.glob("*/record.json"))}
    faults = [
        Fault(str(folder / name / "record.json"), f"expected the key '{key}', found none")
        for name, record in records.items()
        for key in _NEEDED
        if not isinstance(record, dict) or key not in record
    ]
    raise_if_any(faults)
    published = _read_published(folder.parent / "published.yaml")
    system_of = {name: _system(name, published) for name in [*published, *records]}
    # Each system is followed by its smaller variants; what nobody published comes last.
    order = {name: place for place, name in enumerate(published)}
    names = sorted(system_of, key=lambda name: (order.get(system_of[name], len(order)), name != system_of[name], name))
    rows = [_row(name, published.get(system_of[name]), records.get(name)) for name in names]
    notes = [f"- {name}: published figures are of {facts['of']}." for name, facts in published.items()]
    notes += [f"- {name}: ours is the {record['score_kind']}." for name, record in records.items()]
    more = folder.parent / "notes.md"
    told = ["", more.read_text(encoding="utf-8").rstrip()] if more.exists() else []
    return "\n".join([_HEAD, *rows, "", *notes, *told]) + "\n"


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
        raise InputError.of(path, f"not YAML: {error}") from None
    keys = {"local", "public", "private", "of"}
    if not isinstance(raw, dict) or any(not isinstance(each, dict) or set(each) != keys for each in raw.values()):
        raise InputError.of(path, f"expected a mapping of recipe to {', '.join(sorted(keys))}")
    return raw
