"""The steps of a run: what is done, in which order, and from which earlier step each takes what it needs."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, assert_never

from pydantic import Field, model_validator

from diapir.recipe.mosaics import MosaicRule
from diapir.recipe.predicting import Ensemble, PostProcess
from diapir.recipe.sections import Count, Fraction, Section, Whole
from diapir.recipe.training import Stage

LABELLED = "labelled"
"""What `tiles` of a train step calls the tiles with masks that came with the data."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Train(Section):
    """Train a model: one for each fold, or a single one.

    Args:
        model: one of the recipe's `models`; empty for the recipe's own sections.
        stages: in place of the model's.
        tiles: what to train on: `labelled`, and names of pseudo-label steps.
        start_from: the train step whose weights each fold begins with; its single model for all of them, if it has one.
        start_weights: which of them, `best` or `last`; null for the best where that step predicts with these, else the
            last.
        one_model: train a single model, on pseudo-labels alone, instead of one for each fold; it is scored on all the
            labelled tiles.
    """

    do: Literal["train"]
    name: Name
    model: str = ""
    stages: tuple[Stage, ...] = ()
    tiles: Annotated[tuple[Name, ...], Field(min_length=1)] = (LABELLED,)
    start_from: str = ""
    # Left out where it says nothing, so that recipes from before there was one keep their digest.
    start_weights: Literal["best", "last"] | None = Field(default=None, exclude_if=lambda which: which is None)
    one_model: bool = False


class PredictStep(Section):
    """Probabilities of the held-out tiles by the model that never saw them, and of the unlabelled tiles by all.

    Args:
        of: a train step.
    """

    do: Literal["predict"]
    name: Name
    of: Name


class SizeClass(Section):
    """Pseudo-labels with so much salt.

    Args:
        least_px, most_px: pixels of salt.
        confidence: least confidence of a tile, in place of the step's.
        every: of those that are sure enough, each so many-th is taken, in the order of the tiles.
    """

    least_px: Annotated[Whole, Field(ge=0)]
    most_px: Annotated[Whole, Field(ge=0)]
    confidence: Fraction | None = None
    every: Count = 1

    @model_validator(mode="after")
    def _fits(self) -> "SizeClass":
        if self.least_px > self.most_px:
            raise ValueError(f"least_px {self.least_px} is above most_px {self.most_px}")
        return self


class PseudoLabel(Section):
    """Masks for the unlabelled tiles whose prediction is sure; confidence is the share of sure pixels.

    Args:
        of: a predict or blend step.
        low, high: a pixel is sure where its probability lies below `low` or above `high`.
        confidence: least confidence of a tile; 0 takes them all.
        leak_free: label for each fold with that fold's models alone, which never saw its held-out tiles; `false` takes
            the mean of all folds, as published: held-out scores of what is trained on them are then too high.
        soft: keep probabilities for masks.
        drop_constant: leave out tiles of one grey value.
        sizes: what is taken of masks of each size; a tile of a size that none of them covers is left out. None for all.
        share_out: cut the tiles that are taken into as many parts as there are folds, and give each fold one of them.
    """

    do: Literal["pseudo-label"]
    name: Name
    of: Name
    low: Fraction = 0.2
    high: Fraction = 0.8
    confidence: Fraction = 0.9
    leak_free: bool = True
    soft: bool = False
    drop_constant: bool = True
    sizes: tuple[SizeClass, ...] = ()
    share_out: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "PseudoLabel":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}, so every pixel would be sure")
        ranges = sorted((each.least_px, each.most_px) for each in self.sizes)
        for (_, most), (least, _) in itertools.pairwise(ranges):
            if least <= most:
                raise ValueError(f"sizes: {least} pixels of salt are in two of them")
        return self


class BlendStep(Section):
    """Predictions of several steps made one.

    Args:
        of: predict, blend or post-process steps, the members in their order.
        ensemble: how.
    """

    do: Literal["blend"]
    name: Name
    of: Annotated[tuple[Name, ...], Field(min_length=2)]
    ensemble: Ensemble = Ensemble()


class PostProcessStep(PostProcess):
    """Masks of a predict or blend step, edited; nothing has a threshold after it.

    Args:
        of: a predict or blend step.
        mosaic_rules: what neighbours in the survey say, after the other edits; tiles are found to be neighbours by
            their borders. A held-out tile is judged as an unlabelled one: by masks of other folds alone.
    """

    do: Literal["post-process"]
    name: Name
    of: Name
    mosaic_rules: tuple[MosaicRule, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """Those of mosaics."""
        return self.mosaic_rules

    @property
    def rules_on(self) -> tuple[MosaicRule, ...]:
        """Rules of mosaics that are not switched off."""
        return tuple(rule for rule in self.mosaic_rules if rule not in self.off)

    @property
    def needs_has_salt(self) -> bool:
        """Whether an edit asks for has-salt probabilities beside the masks'."""
        return any(edit.name == "has_salt_gate" and edit.name not in self.off for edit in self.edits)


class Submit(Section):
    """Threshold, score, picture, submission and record: what a run is made for, and its last step.

    Args:
        of: a predict, blend or post-process step.
    """

    do: Literal["submit"]
    name: Name = "submit"
    of: Name


Step = Train | PredictStep | PseudoLabel | BlendStep | PostProcessStep | Submit

STRAIGHT: tuple[Step, ...] = (
    Train(do="train", name="train"),
    PredictStep(do="predict", name="predict", of="train"),
    Submit(do="submit", of="predict"),
)
"""The steps of a recipe that names none: train, predict, submit."""


def sources(step: Step) -> dict[str, tuple[str, set[str]]]:
    """Steps that a step takes something from: key -> (name, kinds of step that may stand there)."""
    match step:
        case Train():
            pseudo = {
                f"tiles.{row}": (name, {"pseudo-label"}) for row, name in enumerate(step.tiles) if name != LABELLED
            }
            return pseudo | ({"start_from": (step.start_from, {"train"})} if step.start_from else {})
        case PredictStep():
            return {"of": (step.of, {"train"})}
        case PseudoLabel():
            return {"of": (step.of, {"predict", "blend"})}
        case BlendStep():
            kinds = {"predict", "blend", "post-process"}
            return {f"of.{row}": (name, kinds) for row, name in enumerate(step.of)}
        case PostProcessStep():
            return {"of": (step.of, {"predict", "blend"})}
        case Submit():
            return {"of": (step.of, {"predict", "blend", "post-process"})}
        case _:
            assert_never(step)


def round_of(steps: tuple[Step, ...], name: str) -> int:
    """Pseudo-label steps that follow from each other on the longest way to a step, itself among them."""
    step = next(each for each in steps if each.name == name)
    before = max((round_of(steps, source) for source, _ in sources(step).values()), default=0)
    return before + isinstance(step, PseudoLabel)


def dependents(steps: tuple[Step, ...], name: str) -> set[str]:
    """A step and all that take something from it, or from one that does."""
    found = {name}
    for step in steps:
        if any(source in found for source, _ in sources(step).values()):
            found.add(step.name)
    return found


def step_faults(steps: tuple[Step, ...], *, models: Mapping[str, object]) -> Iterator[str]:
    """What does not fit together in a list of steps, each with its path."""
    earlier: dict[str, str] = {}
    for row, step in enumerate(steps):
        place = f"steps.{row}"
        if step.name in earlier or step.name == LABELLED:
            yield f"{place}.name: '{step.name}' is taken"
        for key, (name, kinds) in sources(step).items():
            if earlier.get(name) not in kinds:
                known = ", ".join(one for one, kind in earlier.items() if kind in kinds) or "none"
                wanted = " or ".join(sorted(kinds))
                yield f"{place}.{key}: '{name}' is no {wanted} step before this one; there is {known}"
        if isinstance(step, Train):
            yield from (f"{place}.{fault}" for fault in _train_faults(step, steps[:row], models=models))
        elif isinstance(step, BlendStep):
            yield from (f"{place}.ensemble.{fault}" for fault in step.ensemble.member_faults(len(step.of)))
        elif isinstance(step, PseudoLabel) and step.leak_free:
            yield from (f"{place}.leak_free: true needs {fault}" for fault in _not_by_fold(steps[:row], step.of))
        earlier[step.name] = step.do
    if not steps or steps[-1].do != "submit" or [step.do for step in steps].count("submit") > 1:
        yield "steps: the last one, and no other, must be a submit step"


def _not_by_fold(before: Sequence[Step], name: str) -> Iterator[str]:
    """What keeps the predictions of a step from being known for each fold's own models."""
    row = next((row for row, one in enumerate(before) if one.name == name), None)
    step = None if row is None else before[row]
    match step:
        case Train(one_model=True):
            yield f"a model for each fold, and '{name}' trains one for them all"
        case PostProcessStep():
            yield f"each fold's own predictions, and '{name}' edits the mean of all folds"
        case PredictStep() | BlendStep():
            for source, _ in sources(step).values():
                yield from _not_by_fold(before[:row], source)
        case _:
            pass


def _train_faults(step: Train, before: Sequence[Step], *, models: Mapping[str, object]) -> Iterator[str]:
    if step.model and step.model not in models:
        yield f"model: '{step.model}' is none of models: {', '.join(models) or 'none'}"
    if not step.one_model:
        return
    if LABELLED in step.tiles:
        yield f"one_model: true, but with '{LABELLED}' among tiles no tile is left to score it on"
    for one in before:
        if isinstance(one, PseudoLabel) and one.name in step.tiles and (one.leak_free or one.share_out):
            yield (
                f"one_model: true, but '{one.name}' labels for each fold apart: "
                "it needs leak_free: false and share_out: false"
            )
