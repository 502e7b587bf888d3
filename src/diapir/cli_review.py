"""The commands for what a person looks at: `diapir report`, `diapir serve` and `diapir review`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from diapir.review.sources import Sources

review_app = typer.Typer(help="Look through what was found, correct it, and train on that.", no_args_is_help=True)

Shown = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN|STORE...",
        help="Finished runs, bundles, stores of surveys and of salt; the prepared tiles of a run beside it.",
    ),
]
Name = Annotated[str | None, typer.Option(help="The run or survey to work on, where several were named.")]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Finished runs; stores and folders of surfaces may stand among them."),
    ],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
    data: Annotated[
        Path | None, typer.Option(help="The data set that the runs were made of, for pictures of its tiles.")
    ] = None,
    parent: Annotated[
        Path | None, typer.Option(help="A recipe, run or bundle: say in what the runs' recipes differ from it.")
    ] = None,
) -> None:
    """Write a page on finished runs, side by side where there are several: scores, curves, tiles, surveys."""
    from diapir.review.report.page import write_report

    print(write_report(runs, out, data_path=data, parent=parent))


def serve(
    shown: Shown,
    host: Annotated[str, typer.Option(help="Address to listen at; any but this machine's own wants a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="DIAPIR_TOKEN", help="What every request must bring; better in the variable.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A host name by which others call this machine. May be repeated.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Open the viewer and the service on a local page, until Ctrl-C."""
    from diapir.review.serve import serve as serve_pages

    serve_pages(shown, host=host, port=port, token=token, names=name or (), open_browser=open_browser)


@review_app.command("queue")
def queue(
    shown: Shown,
    name: Name = None,
    count: Annotated[int, typer.Option(min=1, help="List at most this many.")] = 20,
) -> None:
    """List what to look at next, and why: disagreement, long borders, unlike what was learned from."""
    from diapir.review.review_commands import review_queue

    print(review_queue(_opened(shown), name=name, count=count))


@review_app.command("export")
def export(
    shown: Shown,
    out: Annotated[Path, typer.Option(help="A new folder; or NAME.sgy for a survey's whole mask as SEG-Y.")],
    name: Name = None,
) -> None:
    """Write what was corrected: sections as PNGs that can be learned from, tiles as a data set, or a mask as SEG-Y."""
    from diapir.review.review_commands import export_corrections

    print(export_corrections(_opened(shown), out, name=name))


@review_app.command("train")
def train(
    shown: Shown,
    name: Name = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Else as many as the model's last stage had.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Processor threads for the net.")] = None,
) -> None:
    """Go on training with what was corrected, and compare before and after on the same pixels."""
    from diapir.review.review_commands import train_on_corrections

    opened = _opened(shown)
    print(train_on_corrections(opened, name=name, models=opened.models, epochs=epochs, threads=threads))


def _opened(shown: list[Path]) -> "Sources":
    from diapir.review.sources import open_sources

    return open_sources(shown)
