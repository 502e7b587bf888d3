"""What a run has to do: each step's identity, and whether it was done, was begun, or must be done again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.pipeline.bundle_files import MANIFEST
from diapir.pipeline.workplace import folds_to_keep, held_out_folds, step_named
from diapir.predict.comparing import HELD_OUT
from diapir.recipe.nets import trained_encoder
from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, PseudoLabel, Step, Submit, Train, sources
from diapir.recipe.whole import Recipe
from diapir.record import RECORD
from diapir.runs import json_digest, read_json, require_outside_results, sha256_of_file, write_json

RECIPE, FOLDS = "recipe.yaml", "folds.csv"
SUBMISSION, PICTURE = "submission.csv", "tiles.png"
STEP = "step.json"
ROLLED_BACK = "rolled_back"
"""Folder of what was taken out of a run; no step can be called so."""
SURVEY_TILES = "survey_tiles"
"""Folder of the tiles that a run on a survey learns from; no step can be called so."""
State = Literal["done", "begun", "new", "changed"]


@dataclass(frozen=True)
class Planned:
    """A step of a run.

    Args:
        digest: SHA-256 over everything that its result depends on: its settings, the data, the steps before it.
        state: `changed` where the folder holds the step's result, or a part of it, by other settings or other data.
    """

    step: Step
    digest: str
    state: State


def plan_steps(recipe: Recipe, out: Path, *, data: DataSet) -> list[Planned]:
    """Every step of a recipe, in order, with what the run's folder knows of it."""
    digests: dict[str, str] = {}
    planned = list[Planned]()
    for step in recipe.all_steps:
        inputs = {key: digests[name] for key, (name, _) in sources(step).items()}
        facts: dict[str, Any] = {"step": step.do, "settings": _settings(recipe, step), "inputs": inputs}
        if not inputs:
            facts["data"] = data.digest
        if isinstance(step, Train) and (files := named_files([recipe.of_step(step)])):
            facts["files"] = files
        digest = json_digest(facts)
        state = _state(out / step.name, digest)
        if state == "changed" and isinstance(step, PredictStep | BlendStep):
            # More folds' own predictions than are asked for do no harm.
            fuller = json_digest(facts | {"settings": facts["settings"] | {"folds_kept": held_out_folds(recipe)}})
            if _state(out / step.name, fuller) == "done":
                digest, state = fuller, "done"
        if isinstance(step, PseudoLabel) and state == "done" and _is_renamed(out, step):
            state = "changed"
        digests[step.name] = digest
        # The record goes with the first step that is done again, whatever becomes of it.
        is_open = any(one.state != "done" for one in planned) or not _has_products(out, data)
        if isinstance(step, Submit) and state == "done" and is_open:
            state = "begun"
        planned.append(Planned(step, digest, state))
    return planned


def _has_products(out: Path, data: DataSet) -> bool:
    """Whether the last step's files are all there, for they lie outside of its folder."""
    names = (RECORD, PICTURE, HELD_OUT, *([SUBMISSION] if len(data.unlabelled) else []))
    return all((out / name).is_file() for name in names)


def mark_begun(out: Path, planned: Planned) -> None:
    """Note whose folder it is before anything is put there."""
    write_json(out / planned.step.name / STEP, {"digest": planned.digest, "finished": False})


def mark_done(out: Path, planned: Planned, figures: dict[str, Any]) -> None:
    """Note that a step is done, and what it found."""
    write_json(out / planned.step.name / STEP, {"digest": planned.digest, "finished": True, "figures": figures})


def figures_of(out: Path, name: str, *, keys: Sequence[str] = ()) -> dict[str, Any]:
    """What a step that is done found.

    Raises:
        InputError: its note is damaged, or lacks one of `keys`.
    """
    mark = read_json(out / name / STEP)
    figures = mark.get("figures") if isinstance(mark, dict) else None
    kept: dict[str, Any] = figures if isinstance(figures, dict) else {}
    if missing := [key for key in keys if key not in kept]:
        raise InputError.of(
            out / name / STEP,
            f"expected {', '.join(missing)} among its figures: the file is damaged, or of an earlier version; do the "
            f"step again: remove its folder and {RECORD}, and give the run's command with --resume",
        )
    return kept


def own_tiles(run: Path, data_path: Path | None) -> Path | None:
    """The data set that is named, or the tiles that a run on a survey keeps; None where there are neither."""
    return run / SURVEY_TILES if data_path is None and (run / SURVEY_TILES).is_dir() else data_path


def require_finished(run: Path) -> None:
    """Refuse what is not the folder of a finished run.

    Raises:
        InputError: naming the file that it lacks.
    """
    for name in (RECORD, RECIPE):
        if not (run / name).is_file():
            raise InputError.of(run, f"expected the folder of a finished run or a bundle, found no {name} in it")


def require_no_bundle(folder: Path) -> None:
    """Refuse to train in a bundle.

    Raises:
        InputError: it is one, or lies in one.
    """
    if (folder / MANIFEST).exists():
        raise InputError.of(folder, "it is a bundle, which can only predict: name the folder of a run")
    require_outside_results(folder)


def plan_text(planned: Sequence[Planned]) -> str:
    """The plan for a person: a line a step."""
    says = {"done": "done, kept", "begun": "goes on", "new": "to do", "changed": "changed: to do again"}
    rows = [(one.step.name, one.step.do, _takes(one.step), says[one.state]) for one in planned]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]) for row in rows
    )


def named_files(trained: Iterable[Recipe]) -> dict[str, str | None]:
    """What the recipes of train steps name besides the data: path -> SHA-256, None where no file is."""
    named = set[Path]()
    for own in trained:
        _, weights = trained_encoder(own.net) or ("", "pretrained")
        named |= {path for path in (own.folds.groups, None if weights == "pretrained" else Path(weights)) if path}
    return {str(path): sha256_of_file(path) if path.is_file() else None for path in sorted(named)}


def _is_renamed(out: Path, step: PseudoLabel) -> bool:
    """Whether the step that says so has another name now: the audit trail names it, though the labels stay the same."""
    return bool(figures_of(out, step.name).get("of", step.of) != step.of)


def _takes(step: Step) -> str:
    names = [name for name, _ in sources(step).values()]
    return f"from {', '.join(names)}" if names else ""


def _state(folder: Path, digest: str) -> State:
    if not (folder / STEP).exists():
        return "new"
    mark = read_json(folder / STEP)
    if not isinstance(mark, dict) or mark.get("digest") != digest:
        return "changed"
    return "done" if mark.get("finished") else "begun"


def _settings(recipe: Recipe, step: Step) -> dict[str, Any]:
    """What a step's result depends on besides its inputs; names and what only later steps look at do not count."""
    match step:
        case Train():
            own = recipe.of_step(step).model_dump(mode="json", exclude={"name", "about", "predict", "models", "steps"})
            begins = {"begins_with": "best"} if begins_with_best(recipe, step) else {}
            return own | {"tiles": step.tiles, "one_model": step.one_model} | begins
        case PredictStep():
            own = trained_recipe(recipe, step.of).predict.model_dump(mode="json", exclude={"threshold"})
            return own | {"folds_kept": folds_to_keep(recipe, step.name)}
        case PseudoLabel():
            return step.model_dump(mode="json", exclude={"name", "of"})
        case BlendStep():
            own = step.model_dump(mode="json", exclude={"name", "of"})
            return own | {"folds_kept": folds_to_keep(recipe, step.name)}
        case PostProcessStep():
            return step.model_dump(mode="json", exclude={"name", "of"})
        case Submit():
            return {"threshold": threshold_of(recipe, step)}
        case _:
            assert_never(step)


def threshold_of(recipe: Recipe, step: Submit) -> float | Literal["tuned"]:
    """Where a submit step cuts: post-processed predictions are masks already."""
    edited = any(isinstance(each, PostProcessStep) and each.name == step.of for each in recipe.all_steps)
    return 0.5 if edited else recipe.predict.threshold


def begins_with_best(recipe: Recipe, step: Train) -> bool:
    """Whether a train step begins with the best weights of another, and not its last: unasked, as that one predicts."""
    if step.start_weights is not None:
        return bool(step.start_from) and step.start_weights == "best"
    return bool(step.start_from) and trained_recipe(recipe, step.start_from).predict.weights == "best"


def trained_recipe(recipe: Recipe, name: str) -> Recipe:
    """The recipe of the train step of that name alone."""
    step = step_named(recipe, name)
    assert isinstance(step, Train)
    return recipe.of_step(step)
