"""A whole run in one recipe: every section together, refused where they make no sense, and with a digest."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diapir.faults import InputError
from diapir.recipe.nets import Net, UNet, net_faults, side_fault
from diapir.recipe.sections import Count, Real, Section, Whole
from diapir.recipe.semi import CoTraining, MeanTeacher, Semi
from diapir.recipe.steps import STRAIGHT, BlendStep, Name, PostProcessStep, PredictStep, Step, Train, step_faults
from diapir.recipe.tiles import Data, Folds, Framing, Input
from diapir.recipe.training import Augment, Average, Loss, Stage
from diapir.runs import json_digest

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


class BeginWith(Section):
    """Weights to begin with, in place of random ones; grey values are then scaled as they were for these.

    Args:
        bundle: its folder; of several models the one that was trained last is taken, and where each fold has its own,
            each fold here begins with another.
        digest: that the bundle has.
    """

    bundle: Path
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Model(Section):
    """One model: what it sees, what it is, how it learns and how it predicts.

    Args:
        semi: how unlabelled tiles help it to learn, from its first step to its last; null where they do not.
        begin_with: a bundle to go on from, of the same net and input; null for random weights.
    """

    framing: Framing = Framing()
    input: Input = Input()
    net: Net = UNet()
    augment: Augment = Augment()
    stages: tuple[Stage, ...] = ()
    average: Average = Average()
    semi: Semi | None = None
    predict: Predict = Predict()
    # Left out where there is none, so that recipes from before there was one keep their digest.
    begin_with: BeginWith | None = Field(default=None, exclude_if=lambda bundle: bundle is None)


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
        return json_digest(settings)

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


def model_alone(recipe: Recipe, name: str) -> Recipe:
    """The recipe of one of its models, without steps.

    Raises:
        InputError: it has no such model.
    """
    if name not in recipe.models:
        listed = ", ".join(recipe.models) or "none"
        raise InputError.of(f"recipe {recipe.name}", f"expected one of its models ({listed}), found '{name}'")
    return recipe.of_step(Train(do="train", name=name, model=name))


def _combination_faults(recipe: Recipe) -> Iterator[str]:
    yield from step_faults(recipe.all_steps, models=recipe.models)
    yield from _model_faults(recipe, place="")
    for name, model in recipe.models.items():
        yield from _model_faults(model, place=f"models.{name}.")
    for row, step in enumerate(recipe.all_steps):
        if isinstance(step, Train) and (not step.model or step.model in recipe.models):
            yield from _training_faults(recipe, step, place=f"steps.{row}." if recipe.steps else "")
            yield from _start_faults(recipe, step, place=f"steps.{row}.")
    yield from _gate_faults(recipe)


def _gate_faults(recipe: Recipe) -> Iterator[str]:
    """Has-salt gates over predictions of nets that do not say whether a tile holds salt."""
    lacking: dict[str, list[str]] = {}  # by name of a step: the nets behind it without that head
    for row, step in enumerate(recipe.all_steps):
        match step:
            case Train() if not step.model or step.model in recipe.models:
                net = recipe.of_step(step).net
                place = f"models.{step.model}.net" if step.model else "net"
                told = f"{place}.has_salt_head is false" if isinstance(net, UNet) else f"{place}.kind is '{net.kind}'"
                lacking[step.name] = [] if net.has_salt_head else [told]
            case PredictStep():
                lacking[step.name] = lacking.get(step.of, [])
            case BlendStep():
                lacking[step.name] = list(dict.fromkeys(told for name in step.of for told in lacking.get(name, [])))
            case PostProcessStep() if step.needs_has_salt and lacking.get(step.of):
                nets = ", ".join(lacking[step.of])
                yield f"steps.{row}.edits: 'has_salt_gate' needs a has-salt head in every net behind it, and {nets}"
            case _:
                pass


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
    yield from _size_faults(own, place=place, model=f"models.{step.model}." if step.model else "")
    names = [name for stage in own.stages for name in stage.cycle_names]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{place}stages: '{name}' is what two of them are called"
    for index in range(len(own.stages)):
        yield from (f"{place}stages.{index}.{fault}" for fault in _stage_faults(own, index, place=place))
    if own.net.has_salt_head and not _learns(recipe, step, lambda loss: loss.has_salt):
        weights = ", ".join(f"{place}stages.{index}.loss.has_salt" for index in range(len(own.stages)))
        head = "net.has_salt_head: true" if isinstance(own.net, UNet) else f"net.kind: '{own.net.kind}' has such a head"
        yield f"{head}, but 0 is the weight of {weights}, so the head would never learn"
    if own.net.num_sides and not _learns(recipe, step, lambda loss: loss.side):
        weights = ", ".join(f"{place}stages.{index}.loss.side" for index in range(len(own.stages)))
        yield f"net.kind: '{own.net.kind}' has side heads, but 0 is the weight of {weights}, so they would never learn"
    has_snapshots = own.average.method != "none" or any(stage.snapshot for stage in own.stages)
    if own.predict.weights == "snapshots" and not has_snapshots:
        sources = ", ".join(f"{place}stages.{index}.snapshot" for index in range(len(own.stages)))
        yield f"predict.weights: 'snapshots', but there are none: give one of {sources}, or average.method"


def _start_faults(recipe: Recipe, step: Train, *, place: str) -> Iterator[str]:
    """Whether a train step begins with weights that its net cannot take: of another net, or of two for one."""
    before = next((one for one in recipe.all_steps if isinstance(one, Train) and one.name == step.start_from), None)
    if before is None or (before.model and before.model not in recipe.models):
        return
    told = f"{place}start_from: '{step.start_from}' and '{step.name}'"
    nets = [_weights_of(recipe.of_step(each)) for each in (before, step)]
    if different := sorted(key for key in {**nets[0], **nets[1]} if nets[0].get(key) != nets[1].get(key)):
        yield f"{told}: weights fit the same net alone, and these differ in {', '.join(different)}"
    pairs = [isinstance(recipe.of_step(each).semi, CoTraining) for each in (before, step)]
    if pairs[0] != pairs[1]:
        yield f"{told}: semi.kind 'co-training' needs to be of both"


def _weights_of(own: Recipe) -> dict[str, object]:
    """What decides which tensors a net has, and of which shapes: setting -> value."""
    net = own.net.model_dump(mode="json")
    if isinstance(encoder := net.get("encoder"), dict):
        encoder.pop("weights", None)
    if isinstance(decoder := net.get("decoder"), dict):
        decoder.pop("dropout")
    kept = {f"net.{key}": value for key, value in net.items() if "dropout" not in key}
    return kept | {"the number of input.channels": len(own.input.channels)}


def _learns(recipe: Recipe, step: Train, weight: Callable[[Loss], float]) -> bool:
    """Whether a head takes part in a loss of a train step, or of one before it whose weights that starts from."""
    if any(weight(stage.loss) > 0 for stage in recipe.of_step(step).stages):
        return True
    before = recipe.all_steps[: recipe.all_steps.index(step)]
    trained = (one for one in before if isinstance(one, Train) and (not one.model or one.model in recipe.models))
    return any(_learns(recipe, one, weight) for one in trained if one.name == step.start_from)


def _size_faults(own: Recipe, *, place: str, model: str) -> Iterator[str]:
    """Framings that show a net what it cannot take.

    Args:
        place: of the stages.
        model: of the model's own sections.
    """
    framings = {f"{place}stages.{index}.framing": stage.framing for index, stage in enumerate(own.stages)}
    if any(framing is None for framing in framings.values()):
        framings[f"{model}framing"] = own.framing
    for where, framing in framings.items():
        if framing is not None and (fault := side_fault(own.net, framing.side)):
            native = f".method: 'native' keeps tiles of {framing.side}x{framing.side}, and "
            yield f"{where}{native if framing.method == 'native' else '.size: '}{fault}"


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
