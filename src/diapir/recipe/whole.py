"""A whole run in one recipe: every section together, refused where they make no sense, and with a digest."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diapir.recipe.nets import Net, UNet, net_faults
from diapir.recipe.sections import Count, Real, Section, Whole
from diapir.recipe.semi import CoTraining, MeanTeacher, Semi
from diapir.recipe.steps import STRAIGHT, Name, Step, Train, step_faults
from diapir.recipe.tiles import Data, Folds, Framing, Input
from diapir.recipe.training import Augment, Average, Stage

PredictWeights = Literal["best", "last", "snapshots"]


class Predict(Section):
    """From nets to masks.

    Args:
        views: how each tile is seen; probabilities are averaged.
        weights: which weights of each fold predict: the `best` by held-out score, the `last`, or the `snapshots` of its
            stages' cycles and of `average.method`, each with its own weight.
        threshold: probability above which a pixel is salt; `tuned` takes the best on held-out tiles.
    """

    views: Annotated[tuple[Literal["plain", "flip"], ...], Field(min_length=1)] = ("plain", "flip")
    weights: PredictWeights = "last"
    batch: Count = 64
    threshold: Literal["tuned"] | Annotated[Real, Field(gt=0, lt=1)] = "tuned"


class Model(Section):
    """One model: what it sees, what it is, how it learns and how it predicts.

    Args:
        semi: how unlabelled tiles help it to learn, from its first step to its last; null where they do not.
    """

    framing: Framing = Framing()
    input: Input = Input()
    net: Net = UNet()
    augment: Augment = Augment()
    stages: tuple[Stage, ...] = ()
    average: Average = Average()
    semi: Semi | None = None
    predict: Predict = Predict()


class Recipe(Model):
    """A whole run in one file: its own model's sections, or several models by name, and the steps that use them.

    Args:
        models: for train steps to name; a recipe of one model needs none.
        steps: in order; none for train, predict, submit.
    """

    name: Name
    about: str = ""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    data: Data = Data()
    folds: Folds = Folds()
    models: Annotated[dict[Name, Model], Field(default_factory=dict)]
    steps: tuple[Annotated[Step, Field(discriminator="do")], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over every setting, defaults included; `name` and `about` do not count."""
        settings = self.model_dump(mode="json", exclude={"name", "about"})
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @property
    def all_steps(self) -> tuple[Step, ...]:
        """The steps, also of a recipe that names none."""
        return self.steps or STRAIGHT

    def of_step(self, step: Train) -> "Recipe":
        """The recipe of one train step alone: its model's sections and stages, without further models or steps."""
        model = self.models[step.model] if step.model else self
        parts = {key: getattr(model, key) for key in Model.model_fields}
        return self.model_copy(update=parts | {"stages": step.stages or model.stages, "models": {}, "steps": ()})

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if problems := list(_combination_faults(self)):
            raise ValueError("\n".join(problems))
        return self


def _combination_faults(recipe: Recipe) -> Iterator[str]:
    yield from step_faults(recipe.all_steps, models=recipe.models)
    yield from _model_faults(recipe, place="")
    for name, model in recipe.models.items():
        yield from _model_faults(model, place=f"models.{name}.")
    for row, step in enumerate(recipe.all_steps):
        if isinstance(step, Train) and (not step.model or step.model in recipe.models):
            yield from _training_faults(recipe, step, place=f"steps.{row}." if recipe.steps else "")
            yield from _start_faults(recipe, step, place=f"steps.{row}.")


def _model_faults(model: Model, *, place: str) -> Iterator[str]:
    yield from (f"{place}{fault}" for fault in net_faults(model.net))
    if len(set(model.predict.views)) != len(model.predict.views):
        yield f"{place}predict.views: {list(model.predict.views)} names a view twice"
    if isinstance(model.semi, MeanTeacher) and model.average.decay > 0:
        yield (
            f"{place}average.decay: {model.average.decay} would be a second moving average beside that of {place}semi, "
            f"the teacher: set it to 0, and {place}semi.decay as you want it"
        )


def _training_faults(recipe: Recipe, step: Train, *, place: str) -> Iterator[str]:
    """What does not fit together in a train step: its stages, against each other and against its net."""
    if not step.stages:
        place = f"models.{step.model}." if step.model else ""
    own = recipe.of_step(step)
    if not own.stages:
        yield f"{place}stages: at least one is needed, found none"
        return
    names = [name for stage in own.stages for name in stage.cycle_names]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{place}stages: '{name}' is what two of them are called"
    for index in range(len(own.stages)):
        yield from (f"{place}stages.{index}.{fault}" for fault in _stage_faults(own, index, place=place))
    if own.net.has_salt_head and all(stage.loss.has_salt == 0 for stage in own.stages):
        weights = ", ".join(f"{place}stages.{index}.loss.has_salt" for index in range(len(own.stages)))
        yield f"net.has_salt_head: true, but 0 is the weight of {weights}, so the head would never learn"
    has_snapshots = own.average.method != "none" or any(stage.snapshot for stage in own.stages)
    if own.predict.weights == "snapshots" and not has_snapshots:
        sources = ", ".join(f"{place}stages.{index}.snapshot" for index in range(len(own.stages)))
        yield f"predict.weights: 'snapshots', but there are none: give one of {sources}, or average.method"


def _start_faults(recipe: Recipe, step: Train, *, place: str) -> Iterator[str]:
    """Whether a train step begins with weights of one net that are to be those of two, or the other way round."""
    before = next((one for one in recipe.all_steps if isinstance(one, Train) and one.name == step.start_from), None)
    if before is None or (before.model and before.model not in recipe.models):
        return
    pairs = [isinstance(recipe.of_step(each).semi, CoTraining) for each in (before, step)]
    if pairs[0] != pairs[1]:
        yield f"{place}start_from: '{step.start_from}' and '{step.name}': semi.kind 'co-training' needs to be of both"


def _stage_faults(own: Recipe, index: int, *, place: str) -> Iterator[str]:
    """What is impossible of one stage after those before it, each with its path below the stage."""
    stage = own.stages[index]
    if stage.loss.has_salt > 0 and not own.net.has_salt_head:
        yield f"loss.has_salt: {stage.loss.has_salt} needs net.has_salt_head: true, found false"
    if stage.loss.side > 0 and not own.net.num_sides:
        yield f"loss.side: {stage.loss.side} needs a net with side heads, and net.kind '{own.net.kind}' has none"
    if index == 0 and stage.cycles == 1 and stage.keep_state:
        yield "keep_state: true, but the first stage has no state before it"
    if index == 0 and stage.cycles == 1 and stage.start_from == "best":
        yield "start_from: 'best', but the first stage has no weights before it"
    before, name = own.stages[index - 1].optimiser.name, stage.optimiser.name
    if stage.keep_state and index > 0 and name != before:
        clash = f"{place}stages.{index}.optimiser.name '{name}' follows {place}stages.{index - 1}.optimiser.name"
        yield f"keep_state: true, but {clash} '{before}'"
