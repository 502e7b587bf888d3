"""A survey in a report: what was found in it from above and in sections, and its surfaces with their spread."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diapir.faults import Fault, InputError, raise_if_any
from diapir.review.report.charts import side_by_side
from diapir.review.report.images import file_png
from diapir.review.report.markup import Html, join, missing, shortened, table, tag
from diapir.review.report.run import fact_rows, mapping, plain
from diapir.review.report.sections import (
    SaltLook,
    Surfaces,
    live_map,
    look_at_salt,
    salt_maps,
    section_pictures,
    telling_lines,
)
from diapir.runs import read_json
from diapir.volume.segment_strip import seen_as
from diapir.volume.store import Store, open_store
from diapir.volume.surface_files import FACTS

_PICTURES = {
    "top.png": "Maps of the P50 top of salt, and of its spread, P90 less P10",
    "thickness.png": "Maps of the thickness from P50 top to P50 base, and of the probability of any salt",
    "geobodies.png": "Map of geobodies, numbered by size",
    "section.png": "The inline with the most salt: probability, mask, top and base with P10 to P90",
}
_MOST_ROWS, _MOST_BODIES = 3_000_000, 10
_ORIGIN = ("source", "model", "threshold", "provenance")
_NEEDED = ("probability", "disagreement", "mask")


@dataclass(frozen=True, eq=False)
class SurveyView:
    """What was given of one survey.

    Args:
        look: the salt store from above; None without one.
        surfaces: the folder that `diapir survey surfaces` wrote; None without one.
        facts: of that folder.
    """

    name: str
    survey: Store | None
    salt: Store | None
    look: SaltLook | None
    surfaces: Path | None
    facts: dict[str, Any]


def is_store(path: Path) -> bool:
    """Whether a folder claims to be a store."""
    return (path / "zarr.json").is_file()


def is_surfaces(path: Path) -> bool:
    """Whether a folder claims to be one of surfaces."""
    return (path / FACTS).is_file()


def open_surveys(paths: Sequence[Path]) -> list[SurveyView]:
    """Stores and surfaces, those of one survey together: by the digest of the survey that each of them names.

    Raises:
        InputError: with every fault of them all.
    """
    stores, folders, faults = list[Store](), list[tuple[Path, dict[str, Any]]](), list[Fault]()
    for path in paths:
        try:
            if is_store(path):
                stores.append(_open_store(path))
            else:
                folders.append((path, mapping(read_json(path / FACTS))))
        except InputError as error:
            faults += error.faults
    raise_if_any(faults)
    salts = [store for store in stores if store.facts.get("kind") == "salt"]
    surveys = [store for store in stores if store.facts.get("kind") != "salt"]
    views = []
    for salt in salts:
        digest = salt.facts.get("digest")
        survey = next((each for each in surveys if digest and each.facts.get("digest") == digest), None)
        own = [(path, facts) for path, facts in folders if _is_of(facts, salt)]
        place: tuple[Path | None, dict[str, Any]] = own[0] if own else (None, {})
        views.append(SurveyView(salt.path.name, survey, salt, look_at_salt(salt), *place))
    used: list[Any] = [part for view in views for part in (view.survey, view.surfaces)]
    alone = [SurveyView(each.path.name, each, None, None, None, {}) for each in surveys if each not in used]
    sheets = [SurveyView(path.name, None, None, None, path, facts) for path, facts in folders if path not in used]
    return [*views, *alone, *sheets]


def survey_verdict(view: SurveyView) -> str:
    """One line: how much salt there is, and where it is least sure."""
    if view.look is None or view.salt is None:
        what = "surfaces alone" if view.survey is None else "a survey without salt that was found in it"
        return f"{view.name}: {what}"
    known = np.isfinite(view.look.salt_samples)
    salty = int((view.look.salt_samples[known] > 0).sum())
    least_sure = [reason for reason in telling_lines(view.look, view.salt.grid) if "disagree" in reason]
    told = f"; look first at {least_sure[0]}" if least_sure else ""
    count = int(known.sum())
    return f"{view.name}: salt in {salty:,} of {count:,} live traces ({salty / max(count, 1):.0%}){told}"


def survey_parts(view: SurveyView) -> Iterator[tuple[str, Html]]:
    """Titles and contents of a survey's sections."""
    surfaces = None if view.surfaces is None else _read_surfaces(view.surfaces)
    yield "map", _map_part(view)
    if view.salt is not None or view.survey is not None:
        yield "sections", _sections_part(view, surfaces)
    yield "surfaces and their spread", _surfaces_part(view, surfaces)
    yield "where it came from", _origin_part(view)


def _open_store(path: Path) -> Store:
    store = open_store(path)
    missing_volumes = [name for name in _NEEDED if name not in store.volumes]
    if store.facts.get("kind") == "salt" and missing_volumes:
        raise InputError.of(path, f"expected a store that diapir survey segment wrote, found no {missing_volumes[0]}")
    if store.facts.get("kind") != "salt" and "amplitude" not in store.volumes:
        raise InputError.of(path, "expected a survey, or salt that was found in one; found neither")
    return store


def _is_of(facts: dict[str, Any], salt: Store) -> bool:
    source = mapping(facts.get("source"))
    return (source.get("name"), source.get("digest")) == (salt.path.name, salt.facts.get("digest"))


def _map_part(view: SurveyView) -> Html:
    if view.look is not None and view.salt is not None:
        note = f"Grey: no live trace. {view.look.share_text}"
        return join([side_by_side(salt_maps(view.look, view.salt.grid)), tag("p", note, class_="soft")])
    if view.survey is not None:
        lack = "What was found in it is missing: give the salt store that diapir survey segment wrote too."
        return join([side_by_side([live_map(view.survey)]), missing(lack)])
    return missing("There is no store to draw a map of: give the salt store, and the survey's, too.")


def _sections_part(view: SurveyView, surfaces: Surfaces | None) -> Html:
    parts: list[Html] = []
    if view.survey is None:
        parts.append(missing("Amplitudes are missing: give the survey's store too, and they stand beside."))
    store = view.salt or view.survey
    assert store is not None
    grid = store.grid
    lines = telling_lines(view.look, grid) if view.look else {}
    if not lines:
        place = grid.inlines.count // 2
        lines = {f"inline {grid.inlines.numbers[place]}, in the middle": ("inline", place)}
    for reason, (direction, place) in lines.items():
        pictures = section_pictures(direction, place, survey=view.survey, salt=view.salt, surfaces=surfaces)
        parts.append(join([tag("h3", f"{reason[0].upper()}{reason[1:]}"), side_by_side(pictures)]))
    return join(parts)


def _surfaces_part(view: SurveyView, surfaces: Surfaces | None) -> Html:
    if view.surfaces is None or surfaces is None:
        return missing("Surfaces are missing: give the folder that diapir survey surfaces wrote of this salt too.")
    facts = view.facts
    unit = shortened(plain(facts.get("unit")), 10)
    rows = [[name, *_spread_cells(values)] for name, values in surfaces.items()]
    heads = ["surface", "traces", "known", f"median P50, {unit}", f"median P90 - P10, {unit}", "nine in ten are below"]
    traces, bodies = (mapping(facts.get(key)) for key in ("traces", "geobodies"))
    counts = [
        [shortened(f"{kind}: {key}", 80), shortened(plain(value), 120)]
        for kind, own in (("traces", traces), ("geobodies", bodies))
        for key, value in own.items()
    ]
    notes = [
        tag("p", shortened(str(facts[key])), class_="soft")
        for key in ("percentiles", "calibration", "coordinates")
        if isinstance(facts.get(key), str)
    ]
    pictures = []
    for file, told in _PICTURES.items():
        picture = file_png(view.surfaces / file)
        shown = missing(f"{file} is not there.") if picture is None else tag("img", src=picture, alt=told)
        pictures.append(tag("figure", tag("figcaption", told), shown))
    return join(
        [
            table("Spread of the surfaces", heads, rows),
            *notes,
            table("What the surfaces say", ["what", "value"], counts, kind="text"),
            _bodies(view.surfaces),
            tag("div", *pictures, class_="pair"),
        ]
    )


def _spread_cells(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    known = values[np.isfinite(values[:, 2:]).all(1)]
    if not len(known):
        return [f"{len(values):,}", "0", "", "", ""]
    spread = known[:, 4] - known[:, 2]
    middle, most = np.median(spread), np.quantile(spread, 0.9)
    return [f"{len(values):,}", f"{len(known):,}", f"{np.median(known[:, 3]):.1f}", f"{middle:.1f}", f"{most:.1f}"]


def _bodies(folder: Path) -> Html | None:
    path = folder / "geobodies.json"
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list) or not found:
        return None
    keys = ("geobody", "voxels", "volume_km3", "traces", "mean_probability", "overhang_traces")
    rows = [[shortened(plain(mapping(body).get(key)), 40) for key in keys] for body in found[:_MOST_BODIES]]
    heads = ["geobody", "voxels", "volume, km3", "traces", "mean probability", "traces with overhangs"]
    return table(f"The largest of {len(found):,} geobodies", heads, rows)


def _read_surfaces(folder: Path) -> Surfaces:
    """Top and base of a folder's tables.

    Raises:
        InputError: a table is absent or damaged.
    """
    return {name: _read_surface(folder / f"{name}.csv") for name in ("top", "base")}


def _read_surface(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows: list[list[float]] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            head = next(lines, [])
            columns = [head.index(name) for name in ("inline", "crossline")]
            columns += [
                next(place for place, name in enumerate(head) if name.startswith(start))
                for start in ("p10_", "p50_", "p90_")
            ]
            for line in lines:
                rows.append([float(line[column] or "nan") for column in columns])
                if len(rows) > _MOST_ROWS:
                    raise InputError.of(path, f"expected {_MOST_ROWS:,} traces at most, found more; leave it out")
    except FileNotFoundError:
        raise InputError.of(path, "expected this file, found none; use another copy of the folder") from None
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        what = f"expected inline, crossline, p10, p50 and p90 in each line ({error}); use another copy of the folder"
        raise InputError.of(path, what) from None
    return np.array(rows, np.float64).reshape(-1, 5)


def _origin_part(view: SurveyView) -> Html:
    """What the stores say of themselves."""
    parts = []
    for store in (view.survey, view.salt):
        if store is None:
            continue
        grid = store.grid
        facts = {
            "inlines": str(grid.inlines),
            "crosslines": str(grid.crosslines),
            "samples": f"{grid.num_samples:,}, from {grid.first_sample:g} on each {grid.interval:g} {grid.unit}",
            **{key: store.facts[key] for key in _ORIGIN if key in store.facts},
        }
        if store.facts.get("kind") == "salt":
            look = seen_as(store)
            facts["looked at with"] = look._asdict() if look else "not kept"
            is_calibrated = isinstance(store.facts.get("calibration"), dict)
            facts["calibration"] = "by held-out pixels of the model" if is_calibrated else "the model brought none"
        parts.append(table(store.path.name, ["what", "value"], fact_rows(facts), kind="text"))
    return join(parts) if parts else missing("No store was given.")
