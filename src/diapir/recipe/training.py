"""How a net learns: augmentation, losses, optimisers, schedules, stages, averages of the weights."""

import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diapir.recipe.sections import Count, Fraction, Positive, Real, Section, Whole
from diapir.recipe.tiles import Framing


class Augment(Section):
    """Random changes of each training tile; a range of zero switches one off.

    Args:
        flip: chance of a left-right flip.
        geometry: chance of one affine change, drawn from the ranges of shift, scale, rotation_deg and shear; the
            border is reflected.
        shift: largest shift, as a share of the side.
        scale: largest relative change of size.
        rotation_deg: largest rotation, in degrees.
        shear: largest shift of the top and the bottom edge against each other, as a share of the side.
        crop: chance of a random crop of at most `crop_share` off each side, brought back to full size.
        elastic: chance of a smooth random warp of at most `elastic_px` pixels.
        brightness, contrast, gamma: largest relative changes of the grey values, each drawn with chance `tone`.
        invert: chance of the negative.
        blur: chance of a 3x3 blur.
        noise: largest standard deviation of added noise, as a share of the grey range, drawn with chance `tone`.
        cutout: chance of a square hole of `cutout_px` in the image; the mask stays.
    """

    flip: Fraction = 0.5
    geometry: Fraction = 0.0
    shift: Fraction = 0.0
    scale: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    rotation_deg: Annotated[Real, Field(ge=0, le=180)] = 0.0
    shear: Fraction = 0.0
    crop: Fraction = 0.0
    crop_share: Annotated[Real, Field(ge=0, lt=0.5)] = 0.2
    elastic: Fraction = 0.0
    elastic_px: Annotated[Real, Field(ge=0, le=20)] = 4.0
    tone: Fraction = 0.0
    brightness: Fraction = 0.0
    contrast: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    gamma: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    invert: Fraction = 0.0
    blur: Fraction = 0.0
    noise: Fraction = 0.0
    cutout: Fraction = 0.0
    cutout_px: Annotated[Whole, Field(ge=1, le=101)] = 30


LossName = Literal["bce", "dice", "focal", "lovasz", "symmetric_lovasz"]


class Loss(Section):
    """Weights of the losses, and their options.

    Args:
        hinge: of the Lovasz losses: `elu` is ELU + 1.
        whole_batch: Dice and Lovasz over the pixels of the batch instead of each image's.
        on_tile: compare on the 101x101 tile, with the border that framing added cut off.
        has_salt: weight of the has-salt head's cross-entropy.
    """

    bce: Annotated[Real, Field(ge=0)] = 0.0
    dice: Annotated[Real, Field(ge=0)] = 0.0
    focal: Annotated[Real, Field(ge=0)] = 0.0
    lovasz: Annotated[Real, Field(ge=0)] = 0.0
    symmetric_lovasz: Annotated[Real, Field(ge=0)] = 0.0
    hinge: Literal["relu", "elu"] = "elu"
    whole_batch: bool = False
    gamma: Annotated[Real, Field(ge=0)] = 2.0
    on_tile: bool = True
    has_salt: Annotated[Real, Field(ge=0)] = 0.0

    @property
    def weights(self) -> dict[LossName, float]:
        """Weight of each loss of the mask that takes part."""
        names: tuple[LossName, ...] = typing.get_args(LossName)
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value > 0}

    @model_validator(mode="after")
    def _fits(self) -> "Loss":
        if not self.weights:
            raise ValueError("every weight is zero: give at least one of bce, dice, focal, lovasz, symmetric_lovasz")
        return self


class Optimiser(Section):
    """The optimiser of one stage; its state starts anew with the stage unless `keep_state` of the stage says not."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[Real, Field(ge=0)] = 1e-2
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    clip_norm: Annotated[Real, Field(ge=0)] = 0.0


class Schedule(Section):
    """Learning rate over the steps of one stage, as a share of the optimiser's `lr`.

    Args:
        name: `constant`; `cosine` falls to `end`; `one_cycle` rises over `warmup` and then falls as a cosine;
            `flat_cosine` rises over `warmup`, stays, and falls as a cosine over the last `fall` of the stage.
        warmup, fall: shares of the stage's steps.
        start, end: shares of `lr`.
    """

    name: Literal["constant", "cosine", "one_cycle", "flat_cosine"] = "cosine"
    warmup: Fraction = 0.0
    fall: Fraction = 0.5
    start: Fraction = 0.05
    end: Fraction = 0.0

    @model_validator(mode="after")
    def _fits(self) -> "Schedule":
        if self.name == "flat_cosine" and self.warmup + self.fall > 1:
            raise ValueError(f"warmup {self.warmup} and fall {self.fall} are more than the whole stage together")
        return self


class Stage(Section):
    """One stretch of training with its own loss, optimiser, schedule, and if wanted its own framing.

    Args:
        augment: replaces the recipe's where given.
        framing: replaces the recipe's where given; small tiles first make early epochs cheap.
        keep_state: go on with the optimiser's state of the stage before.
        score_every: epochs between two looks at the held-out tiles; the stage's last epoch is always scored.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    epochs: Count
    batch: Annotated[Whole, Field(ge=2)] = 32
    loss: Loss = Loss(bce=1.0)
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    framing: Framing | None = None
    augment: Augment | None = None
    keep_state: bool = False
    score_every: Count = 1


class Average(Section):
    """An average of the weights, kept beside them, scored, and used to predict.

    Args:
        decay: of the exponential moving average, per step; 0 for none. Smaller early on (see `train.averaging`).
    """

    decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
