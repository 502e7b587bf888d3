"""What stands behind a run's submission: the steps that lead to it, their models, and the files that these need."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diapir.faults import Fault, InputError, raise_if_any
from diapir.nets.build import build_model
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.weights import read_header, require_fit
from diapir.pipeline.blending import mean_has_salt
from diapir.pipeline.plan import FOLDS, RECIPE, STEP, figures_of
from diapir.pipeline.predicting import stored_spec
from diapir.pipeline.workplace import fold_folder, folds_of, trained_step
from diapir.predict.build import BuiltBlend, stored_blend
from diapir.predict.ensemble import Range
from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, Step, sources
from diapir.recipe.whole import Recipe
from diapir.record import RECORD
from diapir.train.sitting import stage_frame
from diapir.train.snapshots import SNAPSHOTS, predicting_weights


@dataclass(frozen=True)
class Weights:
    """A file of weights that predicts.

    Args:
        file: its name below the run's folder.
        share: of its member's probability; the shares of a member sum to one.
        spec: channels and scaling of the net's input.
    """

    file: str
    share: float
    spec: InputSpec


@dataclass(frozen=True)
class Member:
    """What one predict step brings to the submission.

    Args:
        step: its name.
        recipe: of its train step alone.
        weights: of all folds, and of all snapshots of each.
    """

    step: str
    recipe: Recipe
    weights: tuple[Weights, ...]

    @property
    def frame(self) -> Frame:
        """How a tile meets the nets."""
        return stage_frame(self.recipe, self.recipe.stages[-1])

    def to_json(self) -> dict[str, Any]:
        """What a person, or another program, wants to know, as plain JSON values."""
        return {
            "step": self.step,
            "net": self.recipe.net.model_dump(mode="json"),
            "has_salt_head": self.recipe.net.has_salt_head,
            "frame": asdict(self.frame),
            "views": list(self.recipe.predict.views),
            "weights": [
                {"file": each.file, "share": each.share, "input": _listed(asdict(each.spec))} for each in self.weights
            ],
        }


def steps_behind(run: Path, recipe: Recipe) -> list[Step]:
    """The predict, blend and post-process steps that the submission comes from, in order.

    Members that a blend does not use are left out.

    Raises:
        InputError: the note of a blend is absent or damaged.
    """
    *steps, last = recipe.all_steps
    wanted, found = {source for source, _ in sources(last).values()}, list[Step]()
    for step in reversed(steps):
        if step.name in wanted:
            found.append(step)
            if isinstance(step, BlendStep):
                wanted |= {step.of[member] for member in blend_figures(run, step)["members"]}
            elif isinstance(step, PostProcessStep):
                wanted.add(step.of)
    return found[::-1]


def blend_figures(run: Path, step: BlendStep) -> dict[str, Any]:
    """What a blend found, its `members` among it: those that it uses, counted from 0.

    Raises:
        InputError: its note is absent or damaged.
    """
    figures = figures_of(run, step.name, keys=["members", *(["ranges"] if step.ensemble.rescale else [])])
    members = figures["members"]
    is_sound = isinstance(members, list) and members and all(type(one) is int for one in members)
    if not is_sound or not all(0 <= one < len(step.of) for one in members):
        raise InputError.of(
            run / step.name / STEP, f"expected members from 0 to {len(step.of) - 1}; use another copy of the run"
        )
    return figures


def built_blend(run: Path, step: BlendStep) -> tuple[BuiltBlend, list[Range]]:
    """A blend as the run decided it, tried on a pixel before its members are asked for their tiles.

    Raises:
        InputError: its note is absent or damaged.
    """
    kept = blend_figures(run, step)
    try:
        built = stored_blend(step.ensemble, kept)
        ranges = [(float(low), float(high)) for low, high in kept.get("ranges", ())]
        built.blend([np.full((1, 1, 1), 0.5, np.float16) for _ in built.needed], ranges=ranges)
        mean_has_salt(built, [np.ones(1, np.float32) for _ in built.needed])
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, AssertionError):
        raise InputError.of(
            run / step.name / STEP, "expected what the blend decided; use another copy of the run"
        ) from None
    return built, ranges


def members_of(run: Path, recipe: Recipe) -> tuple[Member, ...]:
    """The models behind the submission; of the files of weights only the headers are read.

    Raises:
        InputError: a file is absent or damaged, or does not belong to the recipe.
    """
    steps = [step for step in steps_behind(run, recipe) if isinstance(step, PredictStep)]
    faults, members = list[Fault](), list[Member]()
    for step in steps:
        try:
            members.append(_member(run, recipe, step))
        except InputError as error:
            faults += error.faults
    raise_if_any(faults)
    return tuple(members)


def needed_files(run: Path, recipe: Recipe, members: Iterable[Member]) -> list[str]:
    """Names, below a run's folder, of all that predicting other tiles reads of it, sorted."""
    names = {RECIPE, RECORD}
    for step in steps_behind(run, recipe):
        match step:
            case BlendStep() | PostProcessStep():
                names.add(f"{step.name}/{STEP}")
                if isinstance(step, PostProcessStep) and step.rules_on:
                    names.add(FOLDS)
            case PredictStep():
                trained = trained_step(recipe, step)
                if recipe.of_step(trained).predict.weights == "snapshots":
                    folders = (fold_folder(Path(), trained, fold) for fold in folds_of(recipe, trained))
                    names |= {(folder / SNAPSHOTS).as_posix() for folder in folders}
            case _:
                raise AssertionError(f"a {step.do} step gives no predictions")
    return sorted(names | {weights.file for member in members for weights in member.weights})


def _member(run: Path, recipe: Recipe, step: PredictStep) -> Member:
    trained = trained_step(recipe, step)
    own, folds, weights = recipe.of_step(trained), folds_of(recipe, trained), list[Weights]()
    for fold in folds:
        for path, share in predicting_weights(fold_folder(run, trained, fold), own.predict.weights):
            shapes, facts = read_header(path)
            spec = stored_spec(own, path, facts)
            with torch.device("meta"):  # what a header promises is not made before the file has shown it
                require_fit(path, build_model(own, in_channels=len(spec.channels)), shapes)
            weights.append(Weights(path.relative_to(run).as_posix(), share / len(folds), spec))
    return Member(step.name, own, tuple(weights))


def _listed(value: Any) -> Any:
    """The same with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list | tuple) else value
