"""A whole run in one recipe: every section together, refused where they make no sense, and with a digest."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diapir.recipe.nets import Net, net_faults
from diapir.recipe.sections import Count, Real, Section, Whole
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


class Recipe(Section):
    """A whole run in one file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    about: str = ""
    seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    data: Data = Data()
    folds: Folds = Folds()
    framing: Framing = Framing()
    input: Input = Input()
    net: Net = Net()
    augment: Augment = Augment()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    average: Average = Average()
    predict: Predict = Predict()

    @property
    def digest(self) -> str:
        """SHA-256 over every setting, defaults included; `name` and `about` do not count."""
        settings = self.model_dump(mode="json", exclude={"name", "about"})
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        if problems := list(_combination_faults(self)):
            raise ValueError("\n".join(problems))
        return self


def _combination_faults(recipe: Recipe) -> Iterator[str]:
    names = [name for stage in recipe.stages for name in stage.cycle_names]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"stages: '{name}' is what two of them are called"
    for index, stage in enumerate(recipe.stages):
        if stage.loss.has_salt > 0 and not recipe.net.has_salt_head:
            yield f"stages.{index}.loss.has_salt: {stage.loss.has_salt} needs net.has_salt_head: true, found false"
        if index == 0 and stage.cycles == 1 and stage.keep_state:
            yield "stages.0.keep_state: true, but the first stage has no state before it"
        if index == 0 and stage.cycles == 1 and stage.start_from == "best":
            yield "stages.0.start_from: 'best', but the first stage has no weights before it"
        before, own = recipe.stages[index - 1].optimiser.name, stage.optimiser.name
        if stage.keep_state and index > 0 and own != before:
            clash = f"stages.{index}.optimiser.name '{own}' follows stages.{index - 1}.optimiser.name '{before}'"
            yield f"stages.{index}.keep_state: true, but {clash}"
    if recipe.net.has_salt_head and all(stage.loss.has_salt == 0 for stage in recipe.stages):
        weights = ", ".join(f"stages.{index}.loss.has_salt" for index in range(len(recipe.stages)))
        yield f"net.has_salt_head: true, but 0 is the weight of {weights}, so the head would never learn"
    has_snapshots = recipe.average.method != "none" or any(stage.snapshot for stage in recipe.stages)
    if recipe.predict.weights == "snapshots" and not has_snapshots:
        sources = ", ".join(f"stages.{index}.snapshot" for index in range(len(recipe.stages)))
        yield f"predict.weights: 'snapshots', but there are none: give one of {sources}, or average.method"
    yield from net_faults(recipe.net)
    if len(set(recipe.predict.views)) != len(recipe.predict.views):
        yield f"predict.views: {list(recipe.predict.views)} names a view twice"
