"""The commands of `diapir data`: tiles read, made and looked at."""

import os
from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="Read, make and look at tiles.", no_args_is_help=True)


@data_app.command("tgs")
def data_tgs(
    source: Annotated[Path, typer.Argument(help="The competition's zip, or the folder of its files, zipped or not.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave faulty tiles out; record.json names them.")
    ] = False,
) -> None:
    """Read the competition's download, find every fault in it, and write it as arrays."""
    from diapir.data.tgs import prepare_tgs

    data = prepare_tgs(source, out, skip_bad=skip_bad)
    skipped = len({(fault["tile"], fault["tile"] or fault["where"]) for fault in data.record["skipped"]})
    left_out = f"; {skipped} left out, named in {out / 'record.json'}" if skipped else ""
    print(f"{out}: {len(data.labelled)} labelled and {len(data.unlabelled)} unlabelled tiles{left_out}")


@data_app.command("check")
def data_check(
    data: Annotated[Path, typer.Argument(help="A prepared folder, or the competition's download in any form.")],
    out: Annotated[Path | None, typer.Option(help="Folder for check.png and check.json; else ./NAME-check.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave faulty tiles out.")] = False,
) -> None:
    """Print and draw what is in a data set: coverage, depths, constant, duplicate and vertical tiles, tiny masks."""
    from diapir.data.check import check_data
    from diapir.data.tgs import open_data

    folder = out or Path(f"{Path(os.path.realpath(data)).stem}-check")
    check_data(open_data(data, skip_bad=skip_bad), folder)
    print(f"written: {folder / 'check.png'}, {folder / 'check.json'}")


@data_app.command("mosaics")
def data_mosaics(
    data: Annotated[Path, typer.Argument(help="A prepared folder, or the competition's download in any form.")],
    out: Annotated[Path, typer.Option(help="Folder for mosaics.csv, mosaics.json and mosaics.png.")],
    compatibility: Annotated[
        float,
        typer.Option(min=0, max=1, help="By how much the nearest border is to be nearer than the next; the 4th: 0.2."),
    ] = 0.25,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave faulty tiles out.")] = False,
) -> None:
    """Put neighbours of the survey together again, and hold what they say of each other against known masks."""
    from diapir.data.mosaic_files import survey_mosaics
    from diapir.data.tgs import open_data
    from diapir.predict.mosaic_edits import check_rules, describe_check
    from diapir.predict.mosaic_rules import labelled_survey

    tiles = open_data(data, skip_bad=skip_bad)
    mosaics = survey_mosaics(tiles, out, least_compatibility=compatibility)
    for check in check_rules(labelled_survey(tiles, mosaics)):
        print(describe_check(check))
    print(f"written: {out / 'mosaics.csv'}, {out / 'mosaics.json'}, {out / 'mosaics.png'}")


@data_app.command("synthetic")
def data_synthetic(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    labelled: Annotated[int, typer.Option(help="Training tiles, with masks.")] = 1000,
    unlabelled: Annotated[int, typer.Option(help="Test tiles; their masks go into truth.csv.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Make seismic tiles with salt whose truth is known, in the layout of the competition."""
    from diapir.data.synthetic import write_synthetic

    write_synthetic(out, labelled=labelled, unlabelled=unlabelled, seed=seed)
    print(f"{out}: {labelled} labelled and {unlabelled} unlabelled tiles, seed {seed}")
