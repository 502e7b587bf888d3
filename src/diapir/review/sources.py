"""What the pages show: runs, bundles, surveys and what was found in them, told apart by what lies in a folder."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diapir.data.tiles import is_prepared
from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.bundle_files import MANIFEST
from diapir.pipeline.plan import RECIPE, own_tiles, require_finished
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.record import RECORD, read_record
from diapir.runs import read_json
from diapir.volume.store import VOLUMES, Grid, Store, open_store

_KEYS = ("recipe_digest", "threshold", "score", "interval_95", "score_kind", "data")
_EXPECTED = (
    "expected the folder of a finished run, a bundle, a store of a survey or of salt, or prepared tiles "
    "(diapir data tgs writes them)"
)


@dataclass(frozen=True, eq=False)
class RunSource:
    """A finished run.

    Args:
        name: its own among all runs; stands in addresses.
        data_path: the prepared tiles that it was made of; None where its recipe makes them, or nobody named them.
    """

    name: str
    folder: Path
    recipe: Recipe
    record: Mapping[str, Any]
    data_path: Path | None

    @property
    def threshold(self) -> float:
        """Probability above which its submission has salt."""
        return float(self.record["threshold"])

    @property
    def has_tiles(self) -> bool:
        """Whether the images and the truth of its tiles can be had."""
        return self.data_path is not None or self.recipe.data.synthetic is not None


@dataclass(frozen=True, eq=False)
class SurveySource:
    """A survey, the salt found in it, or both.

    Args:
        name: its own among all surveys; stands in addresses.
        survey: with amplitudes.
        salt: with what was found.
        volumes: of both, by name, when they were opened: one that is gone since was not "never there".
    """

    name: str
    survey: Store | None
    salt: Store | None
    volumes: Mapping[str, Store] = field(init=False)

    def __post_init__(self) -> None:
        stores = [store for store in (self.salt, self.survey) if store is not None]
        found = {name: store for name in VOLUMES for store in stores if name in store.volumes}
        object.__setattr__(self, "volumes", MappingProxyType(found))

    @property
    def grid(self) -> Grid:
        """Of both."""
        store = self.survey or self.salt
        assert store is not None
        return store.grid

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of its stores."""
        return tuple(store.path for store in (self.survey, self.salt) if store is not None)

    def store_of(self, volume: str) -> Store | None:
        """Where a volume lies; None where there is none of that name."""
        return self.volumes.get(volume)


@dataclass(frozen=True, eq=False)
class Sources:
    """Everything that was named, by names that stand in addresses.

    Args:
        models: folders of what predicts: runs and bundles.
    """

    runs: Mapping[str, RunSource]
    surveys: Mapping[str, SurveySource]
    models: Mapping[str, Path]


def open_sources(paths: Sequence[Path]) -> Sources:
    """Open what a person named, in any order; prepared tiles go to the runs that were made of them.

    Tiles and bundles are looked into when they are asked for.

    Raises:
        InputError: a path leads to nothing that can be shown, is damaged, or was named twice; salt does not lie on its
            survey's grid; with all faults.
    """
    faults = list[Fault]()
    found: dict[str, list[Path]] = defaultdict(list)
    stores = list[Store]()
    for path in _unique(paths, faults):
        try:
            kind = _kind_of(path)
            if kind == "store":
                stores.append(open_store(path))
            found[kind].append(path)
        except InputError as error:
            faults += error.faults
    data = _data_by_digest(found["data"], faults)
    runs = _open_runs(found["run"], data, faults)
    surveys = _paired(stores, faults)
    raise_if_any(faults)
    models = dict(_named([*found["run"], *found["bundle"]]))
    return Sources(MappingProxyType(runs), MappingProxyType(surveys), MappingProxyType(models))


def _unique(paths: Sequence[Path], faults: list[Fault]) -> list[Path]:
    seen = dict[Path, Path]()
    for path in paths:
        real = path.resolve()
        if real in seen:
            faults.append(Fault(str(path), f"expected each folder once, found it as {seen[real]} too; leave one out"))
        else:
            seen[real] = path
    return list(seen)


def _kind_of(path: Path) -> str:
    """What lies there, by the file that only such a folder has.

    Raises:
        InputError: nothing that can be shown.
    """
    if not path.exists():
        raise InputError.of(path, f"{_EXPECTED}; found nothing there")
    if (path / "zarr.json").is_file():
        return "store"
    if (path / MANIFEST).is_file():
        return "bundle"
    if is_prepared(path):
        return "data"
    if (path / RECIPE).is_file():
        return "run"
    if not path.is_dir():
        raise InputError.of(path, f"{_EXPECTED}; found a file")
    inner = sorted(each.name for each in path.iterdir() if (each / RECORD).is_file() or (each / "zarr.json").is_file())
    hint = f"; there are some in it, name {path / inner[0]}" if inner else ""
    raise InputError.of(path, f"{_EXPECTED}; found another folder{hint}")


def _data_by_digest(paths: Iterable[Path], faults: list[Fault]) -> dict[str, Path]:
    found = dict[str, Path]()
    for path in paths:
        try:
            record = read_json(path / "record.json")
            found[str(record["digest"])] = path
        except InputError as error:
            faults += error.faults
        except (KeyError, TypeError):
            faults.append(Fault(str(path / "record.json"), "expected a digest, found none; prepare the data again"))
    return found


def _open_runs(paths: Sequence[Path], data: Mapping[str, Path], faults: list[Fault]) -> dict[str, RunSource]:
    runs = dict[str, RunSource]()
    for name, path in _named(paths):
        try:
            runs[name] = _open_run(name, path, data)
        except InputError as error:
            faults += error.faults
    return runs


def _open_run(name: str, path: Path, data: Mapping[str, Path]) -> RunSource:
    require_finished(path)
    recipe, record = read_recipe(path / RECIPE), read_record(path, keys=_KEYS)
    if record["recipe_digest"] != recipe.digest:
        raise InputError.of(path, f"its {RECORD} and {RECIPE} do not belong together; use another copy of the run")
    named = data.get(record["data"]["digest"])
    return RunSource(name, path, recipe, MappingProxyType(record), own_tiles(path, named))


def _paired(stores: Sequence[Store], faults: list[Fault]) -> dict[str, SurveySource]:
    """Each survey with each salt that was found in it, and what has no other half alone."""
    amplitudes = [store for store in stores if "amplitude" in store.volumes]
    salts = [store for store in stores if "amplitude" not in store.volumes]
    pairs = list[tuple[Path, Store | None, Store | None]]()
    for survey in amplitudes:
        own = [salt for salt in salts if _digest(salt) is not None and _digest(salt) == _digest(survey)]
        for salt in own:
            if salt.grid != survey.grid:
                what = f"expected the grid of {survey.path} ({survey.grid}), found another ({salt.grid})"
                faults.append(Fault(str(salt.path), f"{what}; give what was found in that survey"))
        # What tells two finds in one survey apart is their own names.
        pairs += [(salt.path if len(own) > 1 else survey.path, survey, salt) for salt in own]
        pairs += [(survey.path, survey, None)] if not own else []
    known = {_digest(survey) for survey in amplitudes} - {None}
    pairs += [(salt.path, None, salt) for salt in salts if _digest(salt) not in known]
    names = [name for name, _ in _named([path for path, _, _ in pairs])]
    return {name: SurveySource(name, *halves) for name, (_, *halves) in zip(names, pairs, strict=True)}


def _digest(store: Store) -> str | None:
    digest = store.facts.get("digest")
    return digest if isinstance(digest, str) and digest else None


def _named(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each path with the name of its folder, a number behind it where another has the same."""
    taken, named = set[str](), list[tuple[str, Path]]()
    for path in paths:
        own = path.resolve().name or "source"
        number = 1
        while (name := own if number == 1 else f"{own}-{number}") in taken:
            number += 1
        taken.add(name)
        named.append((name, path))
    return named
