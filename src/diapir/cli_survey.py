"""The commands of `diapir survey`: whole surveys, from SEG-Y to SEG-Y."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diapir.faults import InputError

if TYPE_CHECKING:
    from diapir.volume.segment import DoStrips
    from diapir.volume.segy_format import FormatName

survey_app = typer.Typer(help="Whole surveys: survey.sgy in, salt.sgy out.", no_args_is_help=True)


class ByteOrder(StrEnum):
    """Which end of a number comes first."""

    BIG = "big"
    LITTLE = "little"


class MaskKind(StrEnum):
    """Which traces a made survey has."""

    REGULAR = "regular"
    RAGGED = "ragged"
    DEAD = "dead"


class Check(StrEnum):
    """What is looked for in salt that was found."""

    FLOATING_BITS = "floating-bits"
    HOLES = "holes"
    OVERHANGS = "overhangs"


class XyUnit(StrEnum):
    """What X and Y are in."""

    METRES = "m"
    FEET = "ft"


class Unit(StrEnum):
    """What samples are counted in."""

    MS = "ms"
    METRES = "m"
    FEET = "ft"


class Volume(StrEnum):
    """What a store may hold."""

    MASK = "mask"
    PROBABILITY = "probability"
    DISAGREEMENT = "disagreement"
    AMPLITUDE = "amplitude"


Order = Annotated[ByteOrder | None, typer.Option("--order", help="Byte order; else as the file shows.")]
Format = Annotated[str | None, typer.Option("--format", help="Of samples, such as ibm32; else as the file says.")]
NumSamples = Annotated[int | None, typer.Option("--samples", help="Samples a trace; else as the file shows.")]
Interval = Annotated[float | None, typer.Option("--interval-us", help="Between samples; else as the file says.")]
InlineByte = Annotated[int | None, typer.Option("--inline-byte", help="Of trace headers, such as 189; else guessed.")]
CrosslineByte = Annotated[int | None, typer.Option("--crossline-byte", help="Such as 193; else guessed.")]
Resample = Annotated[
    float | None,
    typer.Option("--resample", metavar="INTERVAL", help="Look at traces at this interval, in the survey's unit."),
]


@survey_app.command("info")
def info(
    source: Annotated[Path, typer.Argument(help="A SEG-Y file.")],
    out: Annotated[Path | None, typer.Option(help="Folder for info.png and info.json; else ./NAME-info.")] = None,
    order: Order = None,
    stored: Format = None,
    num_samples: NumSamples = None,
    interval_us: Interval = None,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
) -> None:
    """Say and draw what a SEG-Y file is: format, grid and what led to it, amplitudes, a section each way."""
    from diapir.volume.info import survey_info

    asked = _asked(order, stored, num_samples, interval_us)
    folder = out or Path(f"{source.stem}-info")
    print(survey_info(source, folder, **asked, inline_byte=inline_byte, crossline_byte=crossline_byte))
    print(f"written: {folder / 'info.png'}, {folder / 'info.json'}")


@survey_app.command("ingest")
def ingest(
    source: Annotated[Path, typer.Argument(help="A SEG-Y file, post-stack, 3-D or 2-D; or an MDIO store.")],
    out: Annotated[Path, typer.Argument(help="The store to write, such as survey.zarr.")],
    order: Order = None,
    stored: Format = None,
    num_samples: NumSamples = None,
    interval_us: Interval = None,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    unit: Annotated[Unit | None, typer.Option(help="Of the interval: time, or depth; else ms.")] = None,
    first_sample: Annotated[
        float | None, typer.Option("--first-sample", help="Its time or depth; else as the trace headers say.")
    ] = None,
    zero_bad: Annotated[
        bool, typer.Option("--zero-bad", help="Take samples that are NaN, infinite or beyond float32 as zero.")
    ] = False,
) -> None:
    """Bring a SEG-Y file into a store that is read by sections both ways and by blocks."""
    from diapir.volume.ingest import ingest as bring_in
    from diapir.volume.mdio import ingest_mdio, is_mdio

    asked = _asked(order, stored, num_samples, interval_us)
    bytes_of_lines = {"inline_byte": inline_byte, "crossline_byte": crossline_byte}
    if not (source.is_dir() and is_mdio(source)):
        known = unit or Unit.MS
        told = bring_in(
            source, out, asked=asked, **bytes_of_lines, unit=known.value, first_sample=first_sample, zero_bad=zero_bad
        )  # fmt: skip
        print(told)
        return
    if any(value is not None for value in (*asked.values(), *bytes_of_lines.values(), unit, first_sample)):
        what = "expected no option but --zero-bad: an MDIO store says by itself what is in it"
        raise InputError.of(source, what)
    print(ingest_mdio(source, out, zero_bad=zero_bad))


@survey_app.command("train")
def train(
    survey: Annotated[Path, typer.Argument(help="A store that diapir survey ingest wrote.")],
    labels: Annotated[Path, typer.Option(help="Labelled sections: a folder of PNGs or SEG-Y files, or a Zarr array.")],
    recipe: Annotated[Path, typer.Option(help="A recipe file, e.g. recipes/survey.yaml.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    start_from: Annotated[
        Path | None, typer.Option("--start-from", help="A bundle: go on with its net, in place of the recipe's.")
    ] = None,
    order: Annotated[ByteOrder | None, typer.Option("--order", help="Of SEG-Y labels; else as they show.")] = None,
    stored: Annotated[str | None, typer.Option("--format", help="Of SEG-Y labels, such as ibm32.")] = None,
    inline_byte: Annotated[
        int | None, typer.Option("--inline-byte", help="Of SEG-Y labels; else the survey's, or guessed.")
    ] = None,
    crossline_byte: Annotated[
        int | None, typer.Option("--crossline-byte", help="The same; else the survey's, or guessed.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Keep the steps that changed labels or a changed recipe leave as they are.")
    ] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Only see that every step runs, on a few tiles.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: stages.0.epochs=3. May be given again.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processor threads for each net: the same number, the same bytes."),
    ] = None,
) -> None:
    """Learn from a few labelled sections of a survey; what nobody labelled is left out of every loss and score."""
    from diapir.recipe.files import read_recipe

    settings = read_recipe(recipe, changes=change or ())
    asked = _asked(order, stored, None, None)
    of_segy = {"asked": asked, "inline_byte": inline_byte, "crossline_byte": crossline_byte}

    from diapir.train.stop import Stopped
    from diapir.volume.survey_train import survey_summary, survey_train

    try:
        record = survey_train(
            survey, labels, settings, out, start_from=start_from, resume=resume, update=update, smoke=smoke,
            threads=threads, of_segy=of_segy,
        )  # fmt: skip
    except Stopped as stop:
        raise Stopped(stop.signal_number, "what is done is saved: the same command with --resume goes on") from None
    if record:
        print(survey_summary(record, out))


@survey_app.command("check")
def check(
    survey: Annotated[Path, typer.Argument(help="A store that diapir survey ingest wrote.")],
    model: Annotated[Path, typer.Option(help="A bundle.")],
    out: Annotated[Path | None, typer.Option(help="A new folder for the same as text, JSON and a picture.")] = None,
    salt: Annotated[
        Path | None, typer.Option(help="What was found in this survey: label next where that is least sure.")
    ] = None,
    limit: Annotated[float | None, typer.Option(help="Amplitude that becomes white; else the survey's own.")] = None,
    flip_polarity: Annotated[bool, typer.Option("--flip-polarity", help="Look at amplitudes times -1.")] = False,
    resample: Resample = None,
) -> None:
    """Say whether a model is made for a survey: fit, doubtful or unfit, why, what to do, and three lines to label."""
    from diapir.volume.check_fit import check_fit

    fit = check_fit(survey, model, out, salt_path=salt, limit=limit, flip_polarity=flip_polarity, resample=resample)
    print(fit.text)


@survey_app.command("segment")
def segment(
    survey: Annotated[Path, typer.Argument(help="A store that diapir survey ingest wrote.")],
    model: Annotated[Path, typer.Option(help="The folder of a finished run, or a bundle.")],
    out: Annotated[Path, typer.Option(help="The store to write, such as salt.zarr; begun before, it is gone on with.")],
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring tiles of 101 share at least.")] = 25,
    flip_polarity: Annotated[bool, typer.Option("--flip-polarity", help="Look at amplitudes times -1.")] = False,
    limit: Annotated[float | None, typer.Option(help="Amplitude that becomes white; else the survey's own.")] = None,
    resample: Resample = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also with a model that is unfit for the survey.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes here that do strips side by side.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The same on a dask cluster, such as tcp://host:8786.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processor threads for each net: the same number, the same bytes."),
    ] = None,
) -> None:
    """Find the salt of a survey: probability, disagreement of models and directions, and mask."""
    from diapir.volume.segment import segment as find_salt

    with _strips(workers, scheduler, threads=threads) as do_strips:
        told = find_salt(
            survey, model, out, overlap=overlap, flip_polarity=flip_polarity, limit=limit, resample=resample,
            threads=threads, anyway=anyway, do_strips=do_strips,
        )  # fmt: skip
    print(told)


@contextmanager
def _strips(workers: int | None, address: str | None, *, threads: int | None) -> Iterator["DoStrips"]:
    """What does the strips: this process, others here, or a cluster."""
    from diapir.volume.segment import one_after_another

    if workers is None and address is None:
        yield one_after_another
        return
    # Here, for most do without dask, which takes a second or two.
    from diapir.pipeline.side_by_side import local_workers, workers_at
    from diapir.volume.segment_on_dask import strips_by

    if workers is not None and address is not None:
        raise InputError.of("--workers, --scheduler", "expected one of them: a cluster has its own workers")
    if address is not None:
        with workers_at(address, threads=threads) as crew:
            yield strips_by(crew)
        return
    with ExitStack() as begun:

        @cache
        def own_workers() -> "DoStrips":
            assert workers is not None
            return strips_by(begun.enter_context(local_workers(workers, threads=threads, option="--workers")))

        # They start with the first strip: what is wrong with other options, survey or model is told before.
        yield lambda jobs: own_workers()(jobs)


@survey_app.command("export")
def export(
    store: Annotated[Path, typer.Argument(help="A store that diapir survey segment or ingest wrote.")],
    out: Annotated[Path, typer.Argument(help="The SEG-Y file to write.")],
    what: Annotated[
        Volume | None, typer.Option(help="Which volume; else the mask, or of a survey the amplitude.")
    ] = None,
    surfaces: Annotated[
        Path | None,
        typer.Option(help="A folder that diapir survey surfaces wrote of the store: the mask after its checks."),
    ] = None,
) -> None:
    """Write a volume as SEG-Y, with every byte of the source's headers as it was."""
    from diapir.volume.export import export_segy

    print(export_segy(store, out, what=what.value if what else None, surfaces=surfaces))


@survey_app.command("surfaces")
def surfaces(
    salt: Annotated[Path, typer.Argument(help="A store that diapir survey segment wrote.")],
    out: Annotated[Path, typer.Option(help="A new folder for tables, points, meshes and pictures.")],
    velocity: Annotated[
        float | None, typer.Option(help="In m/s: turns two-way times into volumes; without it they stay area x time.")
    ] = None,
    smallest_body: Annotated[
        int, typer.Option(help="Bodies of fewer voxels that touch no border are removed: see edits/.")
    ] = 1000,
    smallest_hole: Annotated[
        int, typer.Option(help="Enclosed gaps of fewer voxels are filled; kept in edits/.")
    ] = 1000,
    off: Annotated[list[Check] | None, typer.Option(help="Leave out a check. May be given again.")] = None,
    xy_unit: Annotated[
        XyUnit | None, typer.Option("--xy-unit", help="Of the survey's X and Y; else as its headers say, or m.")
    ] = None,
) -> None:
    """Take top and base of salt with P10, P50 and P90, and geobodies, from what was found."""
    from diapir.volume.surfaces import extract_surfaces

    told = extract_surfaces(
        salt, out, velocity_m_s=velocity, smallest_body=smallest_body, smallest_hole=smallest_hole,
        off=[check.value for check in off or ()], xy_unit=xy_unit.value if xy_unit else None,
    )  # fmt: skip
    print(told)


@survey_app.command("synthetic")
def synthetic(
    out: Annotated[Path, typer.Argument(help="The SEG-Y file to write.")],
    inlines: Annotated[int, typer.Option(help="Before any are left out.")] = 200,
    crosslines: Annotated[int, typer.Option(help="Before any are left out.")] = 160,
    samples: Annotated[int, typer.Option(help="Of each trace.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    kind: Annotated[MaskKind, typer.Option(help="Ragged: an outline; dead: dead traces.")] = MaskKind.REGULAR,
    shuffled: Annotated[bool, typer.Option("--shuffled", help="Traces in no order.")] = False,
    every: Annotated[int, typer.Option(help="Write every so many-th line of each kind alone.")] = 1,
    stored: Annotated[str, typer.Option("--format", help="Of samples, such as ibm32.")] = "ieee32",
    order: Annotated[ByteOrder, typer.Option("--order", help="Byte order.")] = ByteOrder.BIG,
    labels: Annotated[Path | None, typer.Option(help="A new folder for labelled inlines as PNGs.")] = None,
    label_lines: Annotated[int, typer.Option(help="How many of them, evenly spread.")] = 5,
    truth: Annotated[Path | None, typer.Option(help="A SEG-Y file to write with 1 in salt and 0 elsewhere.")] = None,
) -> None:
    """Make a survey of layers, faults and salt whose truth is known, as SEG-Y."""
    from diapir.volume.synthetic_files import write_synthetic_survey

    sizes = {"inlines": inlines, "crosslines": crosslines, "samples": samples, "seed": seed, "every": every}
    told = write_synthetic_survey(
        out, **sizes, kind=kind.value, shuffled=shuffled, stored=_format(stored), order=order.value, labels=labels,
        label_lines=label_lines, truth=truth,
    )  # fmt: skip
    print(told)


def _asked(
    order: ByteOrder | None, stored: str | None, num_samples: int | None, interval_us: float | None
) -> dict[str, Any]:
    """What goes before what a file's headers say."""
    return {
        "order": order.value if order else None,
        "stored": None if stored is None else _format(stored),
        "num_samples": num_samples,
        "interval_us": interval_us,
    }


def _format(name: str) -> "FormatName":
    from diapir.volume.segy_format import FORMATS

    found = next((known for known in FORMATS if known == name), None)
    if found is None:
        raise InputError.of("--format", f"expected one of {', '.join(FORMATS)}, found {name}")
    return found
