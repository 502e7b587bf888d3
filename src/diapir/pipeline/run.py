"""A recipe's run, from tiles to submission: each step done once, kept, and gone on with where it was stopped."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.data.folds import make_folds, write_folds
from diapir.data.synthetic import make_synthetic
from diapir.data.tgs import open_data
from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.nets.build import build_net
from diapir.nets.encoders import TimmEncoder
from diapir.nets.weights import fetch_pretrained, load_encoder_weights
from diapir.pipeline.begin_with import bundled_weights
from diapir.pipeline.blending import blend, post_process
from diapir.pipeline.mosaics import mosaics_of
from diapir.pipeline.plan import (
    FOLDS,
    PICTURE,
    RECIPE,
    SUBMISSION,
    SURVEY_TILES,
    Planned,
    figures_of,
    mark_begun,
    mark_done,
    named_files,
    plan_steps,
    plan_text,
    require_no_bundle,
    threshold_of,
)
from diapir.pipeline.predicting import predict
from diapir.pipeline.predictions import read_predictions
from diapir.pipeline.pseudo import pseudo_label
from diapir.pipeline.submitting import interval_text, submit
from diapir.pipeline.training import require_unlabelled, train
from diapir.pipeline.workplace import Workplace, folds_of, folds_to_keep, held_out_folds
from diapir.predict.submission import write_submission
from diapir.processor import is_first_process
from diapir.recipe.files import read_recipe, write_recipe
from diapir.recipe.nets import trained_encoder
from diapir.recipe.smoke import LABELLED, UNLABELLED
from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, PseudoLabel, Submit, Train, round_of
from diapir.recipe.whole import Recipe
from diapir.record import RECORD, provenance, read_record
from diapir.runs import locked_folder, write_json, write_text
from diapir.train.stop import stop_requests
from diapir.train.together import end_helpers, make_fabric
from diapir.train.tracking import TrackerName, require_trackers

DoSteps = Callable[[Workplace, Sequence[Planned]], None]
TRUTH = "truth.csv"
_TOLD = ("score", "interval_95", "score_kind", "threshold", "train_minutes", "epochs", "precision")
"""Keys of the record that `summary` tells."""


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    data_path: Path | None,
    resume: bool = False,
    update: bool = False,
    skip_bad: bool = False,
    devices: int = 1,
    threads: int | None = None,
    tracker_names: Sequence[TrackerName] = (),
    do_steps: DoSteps | None = None,
) -> dict[str, Any]:
    """Do everything that a recipe says, in `out`; gives the record, which is also written there.

    A finished run is not done again. An unfinished one goes on with `resume`. With several devices, this process starts
    the command that it is once more for each of them; those helpers give an empty record.

    Args:
        update: where the folder holds a run of another recipe or other data, keep the steps that are the same, and do
            the others again in place of the old ones.
        threads: of the processor, for this process; the same number gives the same bytes.
        do_steps: does the steps that are planned; None does them in this process, one after another.

    Raises:
        InputError: the folder holds another run and `update` is not set, or an unfinished one and `resume` is not set;
            the data are faulty; the recipe, the devices or the trackers cannot be had; or a train step learns from
            unlabelled tiles, and there are none.
        Stopped: on SIGTERM or Ctrl-C in training, after the state was saved.
        TrainingFailed: as `fit_fold`.
    """
    first = is_first_process()
    require_no_bundle(out)  # before a lock is put there
    if threads is not None:
        torch.set_num_threads(threads)
    with locked_folder(out) if first else nullcontext():
        if first:
            require_same_run(recipe, out, resume=resume, update=update)
            _require_nets(recipe)
            require_trackers(tracker_names)
        data, truth = open_run_data(recipe, data_path, skip_bad=skip_bad)
        require_unlabelled(recipe, data)
        plan = plan_steps(recipe, out, data=data)
        if first and not update and any(one.state == "changed" for one in plan):
            raise InputError.of(
                out,
                "it holds a run of other data, or of this recipe before it, or a file that it names, was changed; name "
                "another folder, or add --update to replace what is not the same",
            )
        if first and (out / RECORD).exists() and all(one.state == "done" for one in plan):
            return _finished_record(out)
        numbers = make_folds(data.labelled, recipe.folds, others=data.unlabelled, survey=lambda: mosaics_of(data, out))
        fabric = make_fabric(recipe.precision, devices=devices, may_leave_weights_unused=_may_leave_unused(recipe))
        if first:
            # All that can be refused was, so the folder becomes this run's.
            write_text(out / RECIPE, write_recipe(recipe))
            write_folds(out / FOLDS, data.labelled.ids, numbers, recipe.folds)
            if truth is not None:
                write_submission(out / TRUTH, data.unlabelled.ids, truth)
        place = Workplace(recipe=recipe, data=data, numbers=numbers, out=out, fabric=fabric, trackers=tracker_names)
        try:
            (do_steps or _one_after_another)(place, plan)
        except BaseException:
            end_helpers(fabric)
            raise
        return _finished_record(out) if fabric.is_global_zero else {}


def require_one_way(*, devices: int, side_by_side: int | None, scheduler: str | None) -> None:
    """Refuse more than one way of using several devices.

    Raises:
        InputError: naming those that were chosen.
    """
    ways = {
        f"--devices {devices}": devices > 1,
        f"--side-by-side {side_by_side}": side_by_side is not None,
        f"--scheduler {scheduler}": scheduler is not None,
    }
    chosen = [way for way, wanted in ways.items() if wanted]
    if len(chosen) > 1:
        raise InputError.of(
            " ".join(chosen),
            "choose one: --devices trains each net on several devices, the others several nets, each on its own",
        )


def show_plan(recipe: Recipe, out: Path, *, data_path: Path | None, skip_bad: bool = False) -> str:
    """What `run_recipe` would do in `out`, a line a step; nothing is written."""
    data, _ = open_run_data(recipe, data_path, skip_bad=skip_bad)
    return plan_text(plan_steps(recipe, out, data=data))


def summary(record: dict[str, Any], out: Path) -> str:
    """What a person wants to know at the end of a run."""
    lines = [
        f"score       {record['score']:.4f}  95 % interval {interval_text(record['interval_95'])}",
        f"            {record['score_kind']}",
        f"threshold   {record['threshold']:.2f}",
        f"training    {record['train_minutes']:.1f} min, {record['epochs']} epochs, {record['precision']}",
        f"picture     {out / PICTURE}",
    ]
    if (out / SUBMISSION).exists():
        lines.append(f"submission  {out / SUBMISSION}")
    if (out / TRUTH).exists():
        lines.append(f"            to score it: diapir score {out / SUBMISSION} {out / TRUTH}")
    lines.append(f"record      {out / RECORD}")
    return "\n".join(lines)


def require_same_run(recipe: Recipe, out: Path, *, resume: bool, update: bool) -> None:
    """Refuse a folder that holds something else than this run.

    Raises:
        InputError: it holds other files or another run and `update` is not set, or an unfinished one and `resume` is
            not set.
    """
    if not (out / RECIPE).exists():
        strangers = [path.name for path in out.iterdir() if not path.name.startswith(".") and path.name != SURVEY_TILES]
        if strangers:
            raise InputError.of(out, f"expected a new or empty folder, found {strangers[0]} there; name another")
        return
    if update:
        return
    if read_recipe(out / RECIPE).digest != recipe.digest:
        raise InputError.of(
            out,
            "it holds a run of another recipe; name another folder, or add --update to keep the steps that are the "
            "same and do the others again (--plan shows which)",
        )
    if not resume and not (out / RECORD).exists():
        raise InputError.of(out, "it holds an unfinished run of this recipe; add --resume to go on with it")


def _require_nets(recipe: Recipe) -> None:
    """Refuse a net that cannot be had before any data are read: that takes seconds, and the answer should not."""
    for own in _trained(recipe):
        if own.begin_with is not None:
            bundled_weights(own, None)
        with torch.device("meta"):  # no weights are made: large nets take seconds for that
            net = build_net(own.net, in_channels=len(own.input.channels))
        name, weights = trained_encoder(own.net) or ("", "")
        if weights == "pretrained":
            fetch_pretrained(name)
        elif weights:
            assert isinstance(net.encoder, TimmEncoder)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says that nothing is kept, which is just what is wanted
                load_encoder_weights(net.encoder, name, weights)


def _trained(recipe: Recipe) -> list[Recipe]:
    """The recipe of each train step."""
    return [recipe.of_step(step) for step in recipe.all_steps if isinstance(step, Train)]


def _may_leave_unused(recipe: Recipe) -> bool:
    """Whether a has-salt head, or side heads, take no part in some stage's loss."""
    return any(
        (own.net.has_salt_head and stage.loss.has_salt == 0) or (own.net.num_sides > 0 and stage.loss.side == 0)
        for own in _trained(recipe)
        for stage in own.stages
    )


def _finished_record(out: Path) -> dict[str, Any]:
    return read_record(out, keys=_TOLD)


def open_run_data(
    recipe: Recipe, data_path: Path | None, *, skip_bad: bool
) -> tuple[DataSet, NDArray[np.uint8] | None]:
    """The data set, and the true masks of its unlabelled tiles where it is synthetic.

    Raises:
        InputError: the data are faulty, or there are none to train on.
    """
    truth = None
    if data_path is not None:
        data = open_data(data_path, skip_bad=skip_bad)
    elif recipe.data.synthetic is not None:
        section = recipe.data.synthetic
        data, truth = make_synthetic(labelled=section.labelled, unlabelled=section.unlabelled, seed=section.seed)
    else:
        raise InputError.of("--data", f"the recipe {recipe.name} makes no data of its own: name a data set")
    if not len(data.labelled):
        raise InputError.of(str(data_path), "it has no labelled tiles to train on")
    return _few_tiles(data) if recipe.data.few_tiles else data, truth


def _few_tiles(data: DataSet) -> DataSet:
    """Some tiles with salt and some of the others, enough for a look at whether everything runs."""
    masks = data.labelled.masks
    assert masks is not None
    has_salt = (masks == 1).any((1, 2))
    salted, others = np.flatnonzero(has_salt), np.flatnonzero(~has_salt)
    others = others[: LABELLED - min(len(salted), LABELLED // 2 + 2)]
    rows = np.sort(np.concatenate([salted[: LABELLED - len(others)], others]))
    unlabelled = data.unlabelled.take(np.arange(min(UNLABELLED, len(data.unlabelled))))
    return replace(data, labelled=data.labelled.take(rows), unlabelled=unlabelled)


def _one_after_another(place: Workplace, plan: Sequence[Planned]) -> None:
    """Do what is not done, in order; the helpers of several devices take part in training alone."""
    launched = False
    for planned in plan:
        if planned.state == "done":
            continue
        trains = isinstance(planned.step, Train)
        if trains or is_first_process():
            if is_first_process():
                begin_step(place, planned)
            if trains and launched:
                place.fabric.barrier()  # nobody looks for a checkpoint before old ones are gone
            elif trains:
                place.fabric.launch()
                launched = True
            with stop_requests() if trains else nullcontext(lambda: None) as stop_asked:
                figures = do_step(place, planned, stop_asked=stop_asked)
            if place.fabric.is_global_zero:
                mark_done(place.out, planned, figures)
        if launched:
            place.fabric.barrier()


def begin_step(place: Workplace, planned: Planned) -> None:
    """Make a step's folder its own, unless it is already: what lay there by other settings goes."""
    if planned.state != "begun":
        (place.out / RECORD).unlink(missing_ok=True)
        shutil.rmtree(place.out / planned.step.name, ignore_errors=True)
        mark_begun(place.out, planned)


def do_step(place: Workplace, planned: Planned, *, stop_asked: Callable[[], int | None]) -> dict[str, Any]:
    """One step; gives its figures."""
    recipe, step = place.recipe, planned.step
    match step:
        case Train():
            return train(place, step, digest=planned.digest, stop_asked=stop_asked)
        case PredictStep():
            return predict(place, step)
        case PseudoLabel():
            number = round_of(recipe.all_steps, step.name)
            return pseudo_label(place, step, folds=held_out_folds(recipe), number=number)
        case BlendStep():
            return blend(place, step, folds=folds_to_keep(recipe, step.name))
        case PostProcessStep():
            return post_process(place, step)
        case Submit():
            wanted = threshold_of(recipe, step)
            figures = submit(place, read_predictions(place.out / step.of, data=place.data), wanted=wanted)
            write_json(place.out / RECORD, _record(place, figures, identity=planned.digest))
            return figures
        case _:
            assert_never(step)


def _listed(value: Any) -> list[Any]:
    """What a step noted, which an earlier version did not."""
    return [each for each in value if isinstance(each, int | str)] if isinstance(value, list) else []


def _record(place: Workplace, figures: dict[str, Any], *, identity: str) -> dict[str, Any]:
    """What a result must carry to be one."""
    recipe, data = place.recipe, place.data
    trained = {step.name: step for step in recipe.all_steps if isinstance(step, Train)}
    found = {name: figures_of(place.out, name, keys=["train_minutes", "epochs"]) for name in trained}
    folds = sorted({fold for step in trained.values() for fold in folds_of(recipe, step) if fold is not None})
    devices, threads, processors = (
        sorted({value for each in found.values() for value in _listed(each.get(key))}, key=str)
        for key in ("devices", "threads", "processors")
    )
    return {
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "identity": identity,
        **figures,
        "folds_held_out": folds,
        "train_minutes": round(sum(each["train_minutes"] for each in found.values()), 2),
        "epochs": sum(each["epochs"] for each in found.values()),
        "precision": place.fabric._precision.precision,
        "device": ", ".join(devices) or str(place.fabric.device),
        "threads": threads,
        "processors": processors or [provenance()["processor"]],
        "files": named_files(_trained(recipe)),
        # What the source counted before skipping and choosing gives way to what was used.
        "data": data.record
        | {"digest": data.digest, "labelled": len(data.labelled), "unlabelled": len(data.unlabelled)},
        "provenance": provenance(),
    }
