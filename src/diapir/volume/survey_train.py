"""The step that learns from a few labelled sections of a survey: labels in, a run like any other out."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diapir.data.section_folds import make_section_folds, salted_sections
from diapir.data.tiles import DataSet, TileSet, is_prepared, read_data, write_data
from diapir.faults import InputError
from diapir.pipeline.fine_tuning import start_from_bundle
from diapir.pipeline.plan import RECIPE, SURVEY_TILES, require_no_bundle
from diapir.pipeline.run import DoSteps, require_same_run, run_recipe, summary
from diapir.processor import is_first_process
from diapir.recipe.smoke import smoke_recipe
from diapir.recipe.whole import Recipe
from diapir.runs import locked_folder, require_outside
from diapir.train.tracking import TrackerName
from diapir.volume.labels import read_labels
from diapir.volume.learning import survey_tiles
from diapir.volume.store import open_store


def survey_train(
    store_path: Path,
    labels_path: Path,
    recipe: Recipe,
    out: Path,
    *,
    start_from: Path | None = None,
    of_segy: Mapping[str, Any] | None = None,
    resume: bool = False,
    update: bool = False,
    smoke: bool = False,
    devices: int = 1,
    threads: int | None = None,
    tracker_names: Sequence[TrackerName] = (),
    do_steps: DoSteps | None = None,
) -> dict[str, Any]:
    """Train a recipe on the labelled sections of a survey, as `run_recipe` does on tiles; gives the run's record.

    The tiles lie in the run's folder, in SURVEY_TILES.

    Args:
        start_from: a bundle whose net and weights are gone on with, in place of the recipe's net.
        of_segy: how labels in SEG-Y are to be read: what `read_segy_labels` takes besides.
        smoke: only see that every step runs, on a few tiles.

    Raises:
        InputError: the store, the labels or the bundle are faulty; the labels are too few for folds; or as
            `run_recipe`, whose other errors come too.
    """
    recipe = recipe if start_from is None else start_from_bundle(recipe, start_from)
    if is_first_process():
        require_no_bundle(out)
        require_outside(out, store_path)
        store = open_store(store_path)
        data = survey_tiles(store, read_labels(labels_path, store, of_segy=of_segy))
    else:
        data = read_data(out / SURVEY_TILES)
    recipe = smoke_recipe(recipe) if smoke else fit_folds(recipe, data.labelled)
    if is_first_process():
        _keep_tiles(data, recipe, out, resume=resume, update=update)
    return run_recipe(
        recipe,
        out,
        data_path=out / SURVEY_TILES,
        resume=resume,
        update=update,
        devices=devices,
        threads=threads,
        tracker_names=tracker_names,
        do_steps=do_steps,
    )


def fit_folds(recipe: Recipe, tiles: TileSet) -> Recipe:
    """The recipe with no more folds by section than there are sections with salt.

    Raises:
        InputError: as `make_section_folds`: of less than two sections none can be held out.
    """
    if recipe.folds.scheme != "sections":
        return recipe
    _, has_salt = salted_sections(tiles)
    count = min(recipe.folds.count, max(int(has_salt.sum()), 2))
    held_out = tuple(fold for fold in recipe.folds.held_out if fold < count)
    if recipe.folds.held_out and not held_out:
        held_out = (0,)
    folds = recipe.folds.model_copy(update={"count": count, "held_out": held_out})
    make_section_folds(tiles, folds)
    return recipe.model_copy(update={"folds": folds})


def survey_summary(record: dict[str, Any], out: Path) -> str:
    """What a person wants to know at the end: what was learned from, and how well."""
    data = record["data"]
    sections = [f"{each['direction']} {each['line']}" for each in data["labelled_sections"]]
    shown = ", ".join(sections[:12]) + (", ..." if len(sections) > 12 else "")
    salted = sum(each["salt"] > 0 for each in data["labelled_sections"])
    lines = [
        f"labels      {len(sections)} sections, {salted} with salt: {shown}",
        f"tiles       {data['labelled']} of them, {data['unlabelled']} of other sections",
        f"folds       {len(record['folds_held_out'])} held out by section, a model each",
        *(f"note        {note}" for note in data["notes"]),
    ]
    return "\n".join([*lines, summary(record, out)])


def _keep_tiles(data: DataSet, recipe: Recipe, out: Path, *, resume: bool, update: bool) -> None:
    """Put the tiles where the run expects them, unless they are there.

    Raises:
        InputError: as `require_same_run`; or there are others, of a run that was begun, and `update` is not set.
    """
    tiles = out / SURVEY_TILES
    with locked_folder(out):
        require_same_run(recipe, out, resume=resume, update=update)
        if is_prepared(tiles) and read_data(tiles).digest == data.digest:
            return
        if (out / RECIPE).exists() and not update:
            what = "it holds a run on other labels, or on another survey; name another folder, or add --update"
            raise InputError.of(out, f"{what} to replace what is not the same")
        shutil.rmtree(tiles, ignore_errors=True)
        write_data(data, tiles)
