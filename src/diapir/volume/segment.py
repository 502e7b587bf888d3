"""A survey through a model: strips of sections both ways, each done once, into a store of what was found."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diapir.data.tiles import TILE
from diapir.faults import Fault, InputError, raise_if_any
from diapir.nets.weights import load_tensors
from diapir.pipeline.bundle import Model, open_model
from diapir.pipeline.survey_tiles import Precision, mask_threshold
from diapir.record import provenance
from diapir.runs import (
    LOCK,
    json_digest,
    locked_folder,
    naming_what_fails,
    read_json,
    require_outside,
    require_outside_results,
    require_writable,
    write_json,
    write_text,
)
from diapir.train.stop import Stopped, stop_requests
from diapir.train.together import make_fabric
from diapir.volume.check_fit import require_fit
from diapir.volume.export import copy_source_arrays, source_faults
from diapir.volume.greys import grey_limit, limit_faults
from diapir.volume.line_numbers import Direction
from diapir.volume.resampling import resampling_faults
from diapir.volume.sections import axis_of
from diapir.volume.segment_strip import (
    LEDGER,
    MEAN,
    SPREAD,
    Options,
    Setting,
    StripJob,
    do_strip,
    mark_of,
    work_key,
)
from diapir.volume.store import (
    STRIP,
    Grid,
    Store,
    add_volume,
    finish,
    new_store,
    open_store,
    open_unfinished,
    strip_cut,
)

DoStrips = Callable[[Sequence[StripJob]], Iterator[StripJob]]
"""Does jobs in any order, and gives each as soon as it is done."""

_KEY, _READY = "key.json", "ready"
_FEWEST_TRACES = TILE // 2
"""Of shorter sections more than half of each tile would be a mirror image."""
_GO_ON = "what is done is saved: the same command goes on"
_KEPT = ("source", "segy", "geometry", "digest")
_BATCH = 64


def one_after_another(jobs: Sequence[StripJob]) -> Iterator[StripJob]:
    """Do strips in this process.

    Raises:
        Stopped: on a signal; the strip under way will be done again.
    """
    with stop_requests() as stop_asked:

        def stop() -> None:
            if (number := stop_asked()) is not None:
                raise Stopped(number, _GO_ON)

        for job in jobs:
            do_strip(job, stop=stop)
            yield job


def segment(
    survey: Path,
    model: Path,
    out: Path,
    *,
    overlap: int = TILE // 4,
    flip_polarity: bool = False,
    limit: float | None = None,
    resample: float | None = None,
    threads: int | None = None,
    anyway: bool = False,
    do_strips: DoStrips = one_after_another,
) -> str:
    """Find the salt of a survey, and say what was found; what an earlier try has done is kept.

    Sections are looked at along inlines and along crosslines, where these are long enough; probabilities are averaged,
    and how far models and directions are from each other is kept beside. Memory goes with the length of a trace (ten
    times as much where it is looked at with a tenth of its interval), not with the size of the survey. The same survey,
    model and options give the same bytes, whoever does the strips.

    Args:
        survey: a store of `ingest`.
        model: a finished run, or a bundle.
        overlap: pixels that neighbouring tiles share at least.
        flip_polarity: look at amplitudes times -1.
        limit: amplitude that becomes white; None for the survey's own.
        resample: look at traces at this interval, in the survey's unit; what is found is at its own all the same.
        threads: of the processor for each net.
        anyway: also with a model that is unfit for the survey.

    Raises:
        InputError: an option makes no sense; survey or model are not sound, or do not fit each other; `out` holds
            something else, or lies in what is read.
        Stopped: on a signal.
    """
    require_outside(out, survey)
    require_outside_results(out)
    # Before the gate, which takes a while.
    require_writable(out.resolve() if out.is_dir() else out.resolve().parent)
    source, found = open_store(survey), open_model(model)
    raise_if_any([*source_faults(source), *_damaged_weights(found)])
    _require_options(source.grid, overlap=overlap, limit=limit, resample=resample)
    white = grey_limit(source, asked=limit)
    options = Options(overlap, white, flip_polarity, resample, _BATCH, precision_of(found), threads)
    directions = _directions(source.grid)
    key = work_key(source, found, options=options, directions=directions)
    setting = Setting(survey.resolve(), model.resolve(), out.resolve(), json_digest(key), options, directions)
    if not (out / LEDGER / _READY).exists() and not _is_finished(out):
        _warn(source, found, options, anyway=anyway)
    _require_own(out, key)
    with locked_folder(out):
        # Another process may have begun something since.
        _require_own(out, key)
        if _is_finished(out):
            _clear(out)
            return f"{out}: done before; nothing was changed"
        (out / LEDGER).mkdir(exist_ok=True)
        write_json(out / LEDGER / _KEY, key)
        with naming_what_fails(out):
            _prepare(setting, source)
        began, voxels = time.monotonic(), _do(setting, source.grid, do_strips)
        seconds = time.monotonic() - began
        target = open_unfinished(out)
        facts = {
            **{name: source.facts[name] for name in _KEPT if name in source.facts},
            "kind": "salt",
            "key": key,
            "threshold": mask_threshold(found),
            "calibration": found.record.get("calibration"),
            "model": {"name": found.recipe.name, "score": found.record["score"], "files": _num_files(found)},
            "provenance": provenance(),
        }
        finish(target, facts)
        _clear(out)
    rate = f"; {voxels / seconds / 1e6:.2f} million voxels/s" if voxels else ""
    return f"{out}: probability, disagreement and mask of {source.grid.shape[0]} inlines{rate}"


def _warn(source: Store, model: Model, options: Options, *, anyway: bool) -> None:
    """Say what speaks against the model."""
    told = require_fit(
        source, model, anyway=anyway, limit=options.limit, flip_polarity=options.flip_polarity,
        resample=options.interval,
    )  # fmt: skip
    for line in told:
        print(f"note: {line}", file=sys.stderr)


def _damaged_weights(model: Model) -> Iterator[Fault]:
    """Of a run's files, for a bundle's were held against their hashes when it was opened."""
    if model.manifest is None:
        for name in sorted({weights.file for member in model.members for weights in member.weights}):
            try:
                load_tensors(model.folder / name)
            except InputError as error:
                yield from error.faults


def _require_options(grid: Grid, *, overlap: int, limit: float | None, resample: float | None) -> None:
    faults = [*limit_faults(limit), *resampling_faults(resample, grid)]
    if not 0 <= overlap < TILE:
        faults.insert(0, Fault("--overlap", f"expected 0 to {TILE - 1} pixels, found {overlap}"))
    raise_if_any(faults)


def precision_of(model: Model) -> Precision:
    """What its nets run in on this machine; workers of other kinds would each decide for themselves."""
    fabric = make_fabric(model.recipe.precision, devices=1)
    return "bfloat16" if fabric._precision.precision == "bf16-mixed" else "float32"


def _directions(grid: Grid) -> tuple[Direction, ...]:
    """Those whose sections are long enough, or else the one with the longer ones."""
    long_enough: list[Direction] = []
    if grid.shape[1] >= _FEWEST_TRACES:
        long_enough.append("inline")
    if grid.shape[0] >= _FEWEST_TRACES:
        long_enough.append("crossline")
    return tuple(long_enough) or (("inline",) if grid.shape[1] >= grid.shape[0] else ("crossline",))


def _require_own(out: Path, key: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but this very work, begun or done."""
    ledger = out / LEDGER / _KEY
    if not ledger.exists() and _is_untouched(out):
        return
    if not ledger.exists() and not (out / "zarr.json").exists():
        raise InputError.of(
            out, "expected a new folder, or one with this very work, found something else; name another"
        )
    before = read_json(ledger) if ledger.exists() else open_store(out).facts.get("key")
    if not isinstance(before, dict):
        before = {}
    if differing := sorted(name for name in {*key, *before} if key.get(name) != before.get(name)):
        what = f"expected a new folder, or one with this very work, found one with another {', '.join(differing)}"
        raise InputError.of(out, f"{what}; name another, or remove it first")


def _is_untouched(out: Path) -> bool:
    """Whether nothing is there, or no more than a process leaves that is killed before it has said what it does."""
    if not out.is_dir():
        return not out.exists()
    return all(path.name in (LEDGER, LOCK) or path.name.startswith(f".{_KEY}") for path in out.rglob("*"))


def _is_finished(out: Path) -> bool:
    return (out / "zarr.json").exists() and open_unfinished(out).facts.get("finished") is True


def _clear(out: Path) -> None:
    """Take away what only the work needed, its ledger last."""
    for name in ("work", LEDGER):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / LOCK).unlink(missing_ok=True)


def _prepare(setting: Setting, source: Store) -> None:
    """Make the arrays that are to be filled, unless an earlier try has."""
    ready = setting.out / LEDGER / _READY
    # What a killed process was writing.
    for litter in setting.out.rglob("*.partial"):
        litter.unlink(missing_ok=True)
    if ready.exists():
        return
    for folder in setting.out.iterdir():
        if folder.is_dir() and folder.name != LEDGER:
            shutil.rmtree(folder)
    target = new_store(setting.out, source.grid, {"kind": "salt", "finished": False})
    copy_source_arrays(source, target)
    chunk, shard = strip_cut(source.grid.shape, along=setting.directions[-1])
    for name in ("probability", "disagreement", "mask"):
        add_volume(target, name, chunk=chunk, shard=shard)
    if len(setting.directions) > 1:
        chunk, shard = strip_cut(source.grid.shape, along=setting.directions[0])
        for name in (MEAN, SPREAD):
            add_volume(target, name, chunk=chunk, shard=shard, kind="float16")
    write_text(ready, "")


def _do(setting: Setting, grid: Grid, do_strips: DoStrips) -> int:
    """Do all strips that are not done; gives how many voxels that were, each counted once a direction."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("sections  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    total = sum(axis_of(grid, direction).count for direction in setting.directions)
    voxels, began = 0, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("segmenting", total=total, rate="")
        for direction in setting.directions:
            num_lines = axis_of(grid, direction).count
            jobs = [StripJob(setting, direction, number) for number in range(-(-num_lines // STRIP))]
            left = [job for job in jobs if not mark_of(job).exists()]
            progress.advance(
                bar, sum(_lines_of(job, num_lines) for job in jobs) - sum(_lines_of(job, num_lines) for job in left)
            )
            for job in do_strips(left):
                lines = _lines_of(job, num_lines)
                voxels += lines * (grid.shape[0] * grid.shape[1] * grid.shape[2] // num_lines)
                rate = voxels / (time.monotonic() - began)
                progress.update(bar, advance=lines, rate=f"{rate / 1e6:.2f} million voxels/s")
    return voxels


def _lines_of(job: StripJob, num_lines: int) -> int:
    return min(STRIP, num_lines - job.number * STRIP)


def _num_files(model: Model) -> int:
    return sum(len(member.weights) for member in model.members)
