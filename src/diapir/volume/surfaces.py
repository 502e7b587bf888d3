"""What a salt store says of top and base of salt and of its bodies, in files for other programs and for the eye."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from diapir.faults import Fault, InputError, raise_if_any
from diapir.record import provenance
from diapir.runs import atomic_folder, require_new_folder, require_outside, write_json
from diapir.volume.bodies import (
    Strip,
    find_runs,
    join_runs,
    label_bodies,
    labelled_strips,
    paint_runs,
    strip_spans,
)
from diapir.volume.body_files import Row, write_bodies
from diapir.volume.salt_checks import CHECKS, Change, Edit, edge_traces, edited_mask, find_small, runs_in, write_edits
from diapir.volume.salt_maps import (
    BodyTable,
    SaltMaps,
    empty_maps,
    empty_table,
    fill_maps,
    fill_table,
    sample_height_m,
    trace_area_m2,
)
from diapir.volume.store import STRIP, Store, open_store, read_map, read_volume
from diapir.volume.surface_files import EDITS, FACTS, Survey, source_of, write_surfaces
from diapir.volume.surface_pictures import draw_pictures, section_line
from diapir.volume.top_and_base import CHANCES, Calibration, calibrate, stored_calibration
from diapir.volume.xy_units import Length, XyUnit, stored_xy_unit

SMALLEST_BODY, SMALLEST_HOLE = 1000, 1000
"""Voxels: 10 x 10 traces of 10 samples."""

_BLOCK_SAMPLES, _MOST_CHUNKS = 2_000_000, 8
_PERCENTILES = (
    "P10, P50 and P90 are percentiles of depth: P10 is the shallower, with 10 % of the chance above it, P90 the "
    "deeper; given that the trace has the salt, whose own probability is has_salt. Empty: beyond the survey"
)
_P50 = CHANCES.index(0.5)
_NEEDED = ("probability", "disagreement", "mask")
_VELOCITIES = (100.0, 20_000.0)
"""Of waves in rock, m/s, with room on both sides: a typing error is none."""


@dataclass(frozen=True, eq=False)
class _Work:
    """A salt store on its way into surfaces.

    Args:
        edge: traces at the border of the survey.
        advance: told how many more strips were walked.
    """

    store: Store
    survey: Survey
    edge: NDArray[np.bool_]
    calibration: Calibration | None
    advance: Callable[[int], None]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.store.grid.shape

    @property
    def num_strips(self) -> int:
        return len(strip_spans(self.shape[0], STRIP))

    @property
    def block_width(self) -> int:
        """Crosslines that are read at once, in whole chunks: some two million samples."""
        chunks = _BLOCK_SAMPLES // (STRIP * STRIP * self.shape[2])
        return STRIP * min(max(chunks, 1), _MOST_CHUNKS)


def extract_surfaces(
    salt_path: Path,
    out: Path,
    *,
    velocity_m_s: float | None = None,
    smallest_body: int = SMALLEST_BODY,
    smallest_hole: int = SMALLEST_HOLE,
    off: Collection[str] = (),
    xy_unit: Length | None = None,
) -> str:
    """Write top and base of salt, geobodies, checks and pictures of a salt store, whole or not at all, and sum them up.

    The store is read alone. What the checks change stands in `edits/`, run by run, and `edited_mask` applies it; bodies
    are those of the mask after the checks, and so are the traces that have a top and a base: a removed body is neither,
    its probabilities count as zero, and a filled hole never is, for salt lies above and below. Memory goes with the map
    of the survey and the number of bodies, not with its samples.

    Args:
        salt_path: a store that `diapir survey segment` wrote.
        out: a new folder.
        velocity_m_s: makes volumes of two-way times.
        smallest_body: bodies of fewer voxels are floating bits, unless they touch the survey's border or bottom.
        smallest_hole: enclosed pieces without salt of fewer voxels are filled.
        off: names of CHECKS to leave out.
        xy_unit: of the positions; None for that of the survey's headers, or m where these do not say.

    Raises:
        InputError: an option makes no sense, the store is no sound salt store, or `out` is there.
    """
    sizes: dict[Change, int] = {"floating-bits": smallest_body, "holes": smallest_hole}
    _require_options(sizes, off=off, velocity_m_s=velocity_m_s)
    require_new_folder(out)
    require_outside(out, salt_path)
    store = _open_salt(salt_path, velocity_m_s=velocity_m_s)
    calibration = stored_calibration(store.facts, store.path)
    survey = _survey(store, velocity_m_s=velocity_m_s, unit=_unit(store, asked=xy_unit))
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with atomic_folder(out) as folder, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Finding surfaces", total=None)
        work = _Work(store, survey, edge_traces(survey.live), calibration, lambda strips: bar.advance(task, strips))
        # The mask is walked twice for each check, and twice for the bodies.
        bar.update(task, total=2 * len({*sizes, "bodies"} - {*off}) * work.num_strips)
        edits = _find_edits(work, sizes, off=off)
        maps, table = _measure(work, edits)
        if "overhangs" in off:
            maps.is_overhung[:], table.overhung[:] = False, 0
        (folder / EDITS).mkdir()
        write_edits(folder / EDITS, edits, store.grid)
        write_surfaces(folder, survey, maps)
        rows = write_bodies(folder, survey, table)
        _draw(folder, work, maps, edits)
        options = {"velocity_m_s": velocity_m_s, "xy_unit": survey.xy_unit, "off": sorted(off)}
        checks = _checks(edits, sizes, maps, table, off=off)
        facts = _facts(work, maps, rows, checks) | {"options": options}
        write_json(folder / FACTS, facts)
    return _summary(out, facts)


def _require_options(sizes: Mapping[Change, int], *, off: Collection[str], velocity_m_s: float | None) -> None:
    faults = [
        Fault(name, f"expected the name of a check ({', '.join(CHECKS)}) to switch off")
        for name in sorted(off)
        if name not in CHECKS
    ]
    for (name, smaller_than), option in zip(sizes.items(), ("--smallest-body", "--smallest-hole"), strict=True):
        if smaller_than < 1:
            what = f"expected a number of voxels from 1 on, found {smaller_than}; switch the check {name} off instead"
            faults.append(Fault(option, what))
    if velocity_m_s is not None and not _VELOCITIES[0] <= velocity_m_s <= _VELOCITIES[1]:
        what = f"expected {_VELOCITIES[0]:g} to {_VELOCITIES[1]:g} metres in a second (salt has some 4500)"
        faults.append(Fault("--velocity", f"{what}, found {velocity_m_s:g}"))
    raise_if_any(faults)


def _open_salt(path: Path, *, velocity_m_s: float | None) -> Store:
    store = open_store(path)
    missing = [name for name in _NEEDED if name not in store.volumes]
    if missing or store.facts.get("kind") != "salt":
        found = ", ".join(store.volumes) or "no volumes"
        what = f"expected a store that diapir survey segment wrote, with {', '.join(_NEEDED)}; found {found}"
        raise InputError.of(path, what)
    if velocity_m_s is not None and store.grid.unit != "ms":
        what = f"expected no velocity for a survey in depth ({store.grid.unit}); leave it out"
        raise InputError.of("--velocity", what)
    return store


def _unit(store: Store, *, asked: Length | None) -> XyUnit:
    """Of its positions; a person's word goes before that of headers, which is told where it is another."""
    found = stored_xy_unit(store)
    if asked is None:
        return found if found.name else XyUnit("m", is_length=True)
    if found.name and found.name != asked:
        told = f"X and Y are taken in {asked}, as --xy-unit says; the survey's headers (bytes 3255 and 89) say"
        print(f"note: {store.path}: {told} {found.name}", file=sys.stderr)
    return XyUnit(asked, is_length=True)


def _survey(store: Store, *, velocity_m_s: float | None, unit: XyUnit) -> Survey:
    """Where its traces lie; those that are not live have no position, and those in angles no area."""
    grid, live = store.grid, read_map(store, "live")
    x, y = (np.where(live, read_map(store, name), np.nan) for name in ("x", "y"))
    has_positions = bool((np.isfinite(x) & np.isfinite(y)).any())
    area_m2 = trace_area_m2(x, y, xy_unit="ft" if unit.name == "ft" else "m") if unit.is_length else None
    if not has_positions:
        inline, crossline = np.meshgrid(grid.inlines.numbers, grid.crosslines.numbers, indexing="ij")
        x, y = inline.astype(np.float64), crossline.astype(np.float64)
    height_m = sample_height_m(grid, velocity_m_s=velocity_m_s)
    return Survey(grid, live, x, y, has_positions, unit.name, area_m2, height_m)


def _find_edits(work: _Work, sizes: Mapping[Change, int], *, off: Collection[str]) -> list[Edit]:
    edits: list[Edit] = []
    for name, smaller_than in sizes.items():
        if name not in off:
            strips = partial(_strips, work, tuple(edits), of_salt=name == "floating-bits")
            edits.append(find_small(name, strips, work.shape, edge=work.edge, smaller_than=smaller_than))
            if not edits[-1].num_pieces:
                work.advance(work.num_strips)  # it did not walk a second time
    return edits


def _strips(work: _Work, edits: Sequence[Edit], *, of_salt: bool = True) -> Iterator[Strip]:
    """Runs of the live traces' salt after the edits, or of all that is none."""
    for start, stop in strip_spans(work.shape[0], STRIP):
        parts = []
        for left, right in strip_spans(work.shape[1], work.block_width):
            mask = edited_mask(work.store, edits, inlines=slice(start, stop), crosslines=slice(left, right))
            is_salt = mask.astype(np.bool_) & work.survey.live[start:stop, left:right, None]
            parts.append(find_runs(is_salt if of_salt else ~is_salt, inline=start, crossline=left))
        work.advance(1)
        yield Strip(start, stop, join_runs(parts))


def _measure(work: _Work, edits: Sequence[Edit]) -> tuple[SaltMaps, BodyTable]:
    """Maps and bodies of the mask after the edits."""
    bodies = label_bodies(partial(_strips, work, edits), work.shape, edge=work.edge)
    maps, table = empty_maps(*work.shape[:2]), empty_table(bodies)
    for strip, body in labelled_strips(_strips(work, edits), work.shape, bodies):
        for left, right in strip_spans(work.shape[1], work.block_width):
            window = slice(strip.start, strip.stop), slice(left, right)
            at = {"inline": strip.start, "crossline": left}
            probability = _probability(work, window)
            rows = runs_in(strip.runs, probability.shape, **at)
            runs, own = strip.runs.take(rows), body[rows]
            fill_table(table, runs, own, probability=probability, x=work.survey.x, y=work.survey.y, **at)
            for edit in edits:
                if edit.name == "floating-bits":
                    removed = edit.runs.take(runs_in(edit.runs, probability.shape, **at))
                    probability[paint_runs(removed, probability.shape, **at)] = 0
            disagreement = read_volume(work.store, "disagreement", inlines=window[0], crosslines=window[1])
            fill_maps(maps, runs, own, probability=probability, disagreement=disagreement, **at)
    return maps, table


def _probability(work: _Work, window: tuple[slice, slice]) -> NDArray[np.float32]:
    """Calibrated: (inlines, crosslines, samples).

    Raises:
        InputError: the store's are no probabilities.
    """
    raw = read_volume(work.store, "probability", inlines=window[0], crosslines=window[1])
    if not (raw.min(initial=0) >= 0 and raw.max(initial=0) <= 1):
        what = f"expected numbers from 0 to 1, found {raw.min()} to {raw.max()}: segment again"
        raise InputError.of(work.store.path / "probability", what)
    return calibrate(raw, work.calibration)


def _draw(folder: Path, work: _Work, maps: SaltMaps, edits: Sequence[Edit]) -> None:
    line = section_line(maps)
    window = slice(line, line + 1), slice(0, work.shape[1])
    probability = _probability(work, window)[0]
    mask = edited_mask(work.store, edits, inlines=window[0], crosslines=window[1])[0]
    draw_pictures(folder, work.survey, maps, line=line, probability=probability, mask=mask)


def _checks(
    edits: Sequence[Edit], sizes: Mapping[Change, int], maps: SaltMaps, table: BodyTable, *, off: Collection[str]
) -> dict[str, Any]:
    """What each check found, by its name."""
    made = {edit.name: edit for edit in edits}
    found: dict[str, Any] = {}
    for name, smaller_than in sizes.items():
        found[name] = {"is_on": name not in off, "smaller_than": smaller_than}
        if name in made:
            edit = made[name]
            found[name] |= {"pieces": edit.num_pieces, "voxels": edit.num_voxels, "kept_in": f"{EDITS}/{name}.csv"}
    found["overhangs"] = {"is_on": "overhangs" not in off}
    if "overhangs" not in off:
        found["overhangs"] |= {"traces": int(maps.is_overhung.sum()), "geobodies": int((table.overhung > 0).sum())}
    return found


def _facts(work: _Work, maps: SaltMaps, rows: Sequence[Row], checks: Mapping[str, Any]) -> dict[str, Any]:
    """What `surfaces.json` says; plain JSON values."""
    survey, is_salty = work.survey, maps.is_salty
    volumes_m3 = [row["volume_m3"] for row in rows]
    return {
        "source": {"name": work.store.path.name, **source_of(work.store)},
        "calibration": "not calibrated" if work.calibration is None else "calibrated on held-out pixels",
        "percentiles": _PERCENTILES,
        "coordinates": f"{survey.note}; CSV and XYZ grow downwards, z of the PLY meshes is negative",
        "unit": survey.unit,
        "trace_area_m2": survey.area_m2,
        "sample_height_m": survey.height_m,
        "traces": {
            "live": int(survey.live.sum()),
            "with_salt": int(is_salty.sum()),
            "without_position": int((survey.live & ~survey.is_placed).sum()) if survey.has_positions else "all",
            "top_beyond_survey": int((is_salty & np.isnan(maps.top[_P50])).sum()),
            "base_beyond_survey": int((is_salty & np.isnan(maps.base[_P50])).sum()),
            "with_several_entries": int((maps.entries > 1).sum()),
        },
        "geobodies": {
            "count": len(rows),
            "connected_by": "faces (6 neighbours)",
            "voxels": sum(row["voxels"] for row in rows),
            "volume_m3": None if None in volumes_m3 else sum(volumes_m3),
            "volume": "unit unknown" if None in volumes_m3 else "m3",
        },
        "checks": checks,
        "provenance": provenance(),
    }


def _summary(out: Path, facts: Mapping[str, Any]) -> str:
    traces, bodies, checks = facts["traces"], facts["geobodies"], facts["checks"]
    volume = "" if bodies["volume_m3"] is None else f" of {bodies['volume_m3'] / 1e9:,.4g} km3"
    done = [f"salt in {traces['with_salt']:,} of {traces['live']:,} live traces, {_counted(bodies['count'])}{volume}"]
    for name, verb in (("floating-bits", "removed"), ("holes", "filled")):
        if checks[name]["is_on"]:
            done.append(
                f"{verb} {checks[name]['pieces']:,} {name.replace('-', ' ')} ({checks[name]['voxels']:,} voxels)"
            )
    if checks["overhangs"]["is_on"]:
        done.append(f"overhangs in {checks['overhangs']['traces']:,} traces")
    return f"{out}: {'; '.join(done)}; {facts['calibration']}"


def _counted(geobodies: int) -> str:
    return f"{geobodies:,} geobod{'y' if geobodies == 1 else 'ies'}"
