"""The commands of `diapir survey`: whole surveys, from SEG-Y to SEG-Y."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diapir.faults import InputError

if TYPE_CHECKING:
    from diapir.volume.segment import DoStrips

survey_app = typer.Typer(help="Whole surveys: survey.sgy in, salt.sgy out.", no_args_is_help=True)


class ByteOrder(StrEnum):
    """Which end of a number comes first."""

    BIG = "big"
    LITTLE = "little"


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


@survey_app.command("ingest")
def ingest(
    source: Annotated[Path, typer.Argument(help="A SEG-Y file, post-stack, 3-D or 2-D.")],
    out: Annotated[Path, typer.Argument(help="The store to write, such as survey.zarr.")],
    order: Order = None,
    stored: Format = None,
    num_samples: NumSamples = None,
    interval_us: Interval = None,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    unit: Annotated[Unit, typer.Option(help="Of the interval: time, or depth.")] = Unit.MS,
    zero_bad: Annotated[
        bool, typer.Option("--zero-bad", help="Take samples that are NaN or infinite as zero.")
    ] = False,
) -> None:
    """Bring a SEG-Y file into a store that is read by sections both ways and by blocks."""
    from diapir.volume.ingest import ingest as bring_in

    asked = _asked(order, stored, num_samples, interval_us)
    bytes_of_lines = {"inline_byte": inline_byte, "crossline_byte": crossline_byte}
    print(bring_in(source, out, asked=asked, **bytes_of_lines, unit=unit.value, zero_bad=zero_bad))


@survey_app.command("segment")
def segment(
    survey: Annotated[Path, typer.Argument(help="A store that diapir survey ingest wrote.")],
    model: Annotated[Path, typer.Option(help="The folder of a finished run, or a bundle.")],
    out: Annotated[Path, typer.Option(help="The store to write, such as salt.zarr; begun before, it is gone on with.")],
    overlap: Annotated[int, typer.Option(help="Pixels that neighbouring tiles of 101 share at least.")] = 25,
    flip_polarity: Annotated[bool, typer.Option("--flip-polarity", help="Look at amplitudes times -1.")] = False,
    limit: Annotated[float | None, typer.Option(help="Amplitude that becomes white; else the survey's own.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes here that do strips side by side.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The same on a dask cluster, such as tcp://host:8786.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads for each net: the same number, the same bytes.")
    ] = None,
) -> None:
    """Find the salt of a survey: probability, disagreement of models and directions, and mask."""
    from diapir.volume.segment import segment as find_salt

    with _strips(workers, scheduler, threads=threads) as do_strips:
        told = find_salt(
            survey, model, out, overlap=overlap, flip_polarity=flip_polarity, limit=limit, threads=threads,
            do_strips=do_strips,
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
        where = workers_at(address, threads=threads)
    else:
        assert workers is not None
        where = local_workers(workers, threads=threads)
    with where as crew:
        yield strips_by(crew)


@survey_app.command("export")
def export(
    store: Annotated[Path, typer.Argument(help="A store that diapir survey segment or ingest wrote.")],
    out: Annotated[Path, typer.Argument(help="The SEG-Y file to write.")],
    what: Annotated[
        Volume | None, typer.Option(help="Which volume; else the mask, or of a survey the amplitude.")
    ] = None,
) -> None:
    """Write a volume as SEG-Y, with every byte of the source's headers as it was."""
    from diapir.volume.export import export_segy

    print(export_segy(store, out, what=what.value if what else None))


def _asked(
    order: ByteOrder | None, stored: str | None, num_samples: int | None, interval_us: float | None
) -> dict[str, Any]:
    """What goes before what a file's headers say."""
    from diapir.volume.segy_format import FORMAT_NAMES

    if stored is not None and stored not in FORMAT_NAMES:
        raise InputError.of("--format", f"expected one of {', '.join(FORMAT_NAMES)}, found {stored}")
    return {
        "order": order.value if order else None,
        "stored": stored,
        "num_samples": num_samples,
        "interval_us": interval_us,
    }
