"""How a net learns: augmentation, losses, optimisers, schedules, stages, averages of the weights."""

import math
import typing
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from diapir.recipe.sections import Count, Fraction, Positive, Real, Section, Whole
from diapir.recipe.tiles import Framing


def _pair(about: float | None, value: Any) -> Any:
    """A range from a plain number, which reaches so far to either side of `about`, or is the only value if None."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number or a range [low, high], found {value!r}")
    return (value, value) if about is None else (about - value, about + value)


def _rising_within(low: float, high: float, value: tuple[float, float]) -> tuple[float, float]:
    if not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{value[0]:g} to {value[1]:g} is no range: expected one that rises, from {low:g} to {high:g}")
    return value


Offset = Annotated[
    tuple[Real, Real], BeforeValidator(partial(_pair, 0)), AfterValidator(partial(_rising_within, -1, 1))
]
Degrees = Annotated[
    tuple[Real, Real], BeforeValidator(partial(_pair, 0)), AfterValidator(partial(_rising_within, -180, 180))
]
Factor = Annotated[
    tuple[Real, Real], BeforeValidator(partial(_pair, 1)), AfterValidator(partial(_rising_within, 0.05, 20))
]
Pixels = Annotated[
    tuple[Whole, Whole], BeforeValidator(partial(_pair, None)), AfterValidator(partial(_rising_within, 1, 101))
]

ChangeName = Literal[
    "shift", "scale", "rotation_deg", "shear", "crop", "window", "grid",
    "add", "multiply", "contrast", "gamma", "invert", "blur", "cutout_px",
]  # fmt: skip


class Change(Section):
    """Random changes that share one chance: those that are named here, with their ranges.

    A range is a pair, [low, high]. A number r alone is the range from -r to r, and from 1 - r to 1 + r for a factor.

    Args:
        chance: that a tile is changed.
        pick: `all` makes every change named here, together; `one` makes exactly one of them, each as likely; `each`
            gives each of them the chance for itself.
        shift: range, right and down apart, as a share of the side.
        scale: range of the factor of size.
        rotation_deg: range, clockwise.
        shear: range of how far the top edge goes right and the bottom edge left, as a share of the side.
        crop: most that is cut off each side, the four drawn apart from 0 up, as a share; the rest is brought back to
            full size.
        window: share of the side of a part that is kept, anywhere in the tile, and brought back to full size.
        grid: most by which cells of `grid_px` pixels are stretched or squeezed, rows and columns of cells each for
            themselves; how much of it a tile gets is drawn from 0 up.
        add: range of what is added to grey values of 0 to 1.
        multiply: range of the factor of grey values.
        contrast: range of the factor of their distance from the tile's mean.
        gamma: range of their exponent.
        invert: the negative.
        blur: the mean of 3x3 pixels.
        cutout_px: side of a square hole in the image, or the range of it; the mask stays.
        cutout_grey: what the hole is filled with; 0.449 is the mean of ImageNet.
        cutout_hides: no hole is cut where it would hide more than this share of the mask's salt.
    """

    chance: Fraction = 1.0
    pick: Literal["all", "one", "each"] = "all"
    shift: Offset | None = None
    scale: Factor | None = None
    rotation_deg: Degrees | None = None
    shear: Offset | None = None
    crop: Annotated[Real, Field(gt=0, lt=0.5)] | None = None
    window: Annotated[Real, Field(gt=0, le=1)] | None = None
    grid: Annotated[Real, Field(gt=0, lt=1)] | None = None
    grid_px: Count = 10
    add: Offset | None = None
    multiply: Factor | None = None
    contrast: Factor | None = None
    gamma: Factor | None = None
    invert: bool = False
    blur: bool = False
    cutout_px: Pixels | None = None
    cutout_grey: Fraction = 0.449
    cutout_hides: Fraction = 1.0

    @property
    def names(self) -> list[ChangeName]:
        """The changes that are named here."""
        return [name for name in typing.get_args(ChangeName) if getattr(self, name) not in (None, False)]

    @model_validator(mode="after")
    def _fits(self) -> "Change":
        if not self.names:
            raise ValueError(f"no change is named: give at least one of {', '.join(typing.get_args(ChangeName))}")
        return self


class Augment(Section):
    """Random changes of each training tile, in one of two forms: keys of their own, or groups in `changes`.

    Of `changes`, holes are cut first; then come flip, crop or window, shear, rotation, scale, shift and grid, in one
    resampling with one border after the crop and one after all else; grey values are last. Of the keys, a range of zero
    switches one off, and the hole is cut at the very end.

    Args:
        flip: chance of a left-right flip.
        border: what comes from beyond the tile: `mirror` has the edge pixel twice, `reflect` once, `zero` is black.
        changes: groups of changes, for descriptions such as "with p 0.5 exactly one of" (see `Change`).
        geometry: chance of one affine change, drawn from the ranges of shift, scale, rotation_deg and shear.
        shift: largest shift, as a share of the side.
        scale: largest relative change of size.
        rotation_deg: largest rotation, in degrees.
        shear: largest shift of the top and the bottom edge against each other, as a share of the side.
        crop: chance of a random crop of at most `crop_share` off each side, brought back to full size.
        elastic: chance of a smooth random warp of at most `elastic_px` pixels.
        tone: chance of each of brightness, contrast, gamma and noise.
        brightness, contrast, gamma: largest relative changes of the grey values.
        invert: chance of the negative.
        blur: chance of a 3x3 blur.
        noise: largest standard deviation of added noise, as a share of the grey range.
        cutout: chance of a square hole of `cutout_px` in the image, filled with its mean; the mask stays.
    """

    flip: Fraction = 0.5
    border: Literal["mirror", "reflect", "zero"] = "mirror"
    changes: tuple[Change, ...] = ()
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

    @model_validator(mode="after")
    def _fits(self) -> "Augment":
        chances = ("geometry", "crop", "elastic", "tone", "invert", "blur", "cutout")
        if self.changes and (given := [name for name in chances if getattr(self, name) > 0]):
            raise ValueError(f"changes and {', '.join(given)} are two forms of one thing: give all as changes, or none")
        names = [name for change in self.changes for name in change.names]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"changes: {', '.join(doubled)} stands in two groups: give each change once")
        return self


LossName = Literal["bce", "dice", "focal", "lovasz", "symmetric_lovasz"]


class Mix(Section):
    """Weights of the losses of a mask."""

    bce: Annotated[Real, Field(ge=0)] = 0.0
    dice: Annotated[Real, Field(ge=0)] = 0.0
    focal: Annotated[Real, Field(ge=0)] = 0.0
    lovasz: Annotated[Real, Field(ge=0)] = 0.0
    symmetric_lovasz: Annotated[Real, Field(ge=0)] = 0.0

    @property
    def weights(self) -> dict[LossName, float]:
        """Weight of each loss of the mask that takes part."""
        names: tuple[LossName, ...] = typing.get_args(LossName)
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value > 0}


class Loss(Mix):
    """Weights of the losses, and their options.

    Args:
        hinge: of the Lovasz losses: `elu` is ELU + 1.
        whole_batch: Dice and Lovasz over the pixels of the batch instead of each image's.
        on_tile: compare on the 101x101 tile, with the border that framing added cut off.
        has_salt: weight of the has-salt head's cross-entropy.
        side: weight of each side head's mask, by the same mix, on images with salt unless `side_mean` says not. A head
            smaller than the net's input is compared at its own scale, with the nearest pixels of the mask; they also
            say if there is salt.
        side_mean: `salt` divides a side head's sum by the number of images with salt, and is 0 where there are none;
            `all` divides by the number of all images; `every` takes the plain mean over all of them, empty ones too.
        empty: the mix for images without salt, where it is another one.
        end: the mix that the mask's moves towards, evenly from epoch to epoch, and would be at the one after the
            stage's last; null where it stays.
    """

    hinge: Literal["relu", "elu"] = "elu"
    whole_batch: bool = False
    gamma: Annotated[Real, Field(ge=0)] = 2.0
    on_tile: bool = True
    has_salt: Annotated[Real, Field(ge=0)] = 0.0
    side: Annotated[Real, Field(ge=0)] = 0.0
    side_mean: Literal["salt", "all", "every"] = "salt"
    empty: Mix | None = None
    # Left out where there is none, so that recipes from before there was one keep their digest.
    end: Mix | None = Field(default=None, exclude_if=lambda mix: mix is None)

    @property
    def is_plain_bce(self) -> bool:
        """Whether it is the binary cross-entropy of the mask and nothing else, whose values mean something."""
        others = self.has_salt or self.side or self.empty is not None or self.end is not None
        return set(self.weights) == {"bce"} and self.bce == 1 and not others

    def at(self, epoch: int, epochs: int) -> "Loss":
        """The loss of one of a stage's epochs, counted from 0."""
        if self.end is None:
            return self
        share = epoch / epochs
        names: tuple[LossName, ...] = typing.get_args(LossName)
        mix: dict[str, Any] = {
            name: (1 - share) * getattr(self, name) + share * getattr(self.end, name) for name in names
        }
        return self.model_copy(update=mix | {"end": None})

    @model_validator(mode="after")
    def _fits(self) -> "Loss":
        if not self.weights:
            raise ValueError("every weight is zero: give at least one of bce, dice, focal, lovasz, symmetric_lovasz")
        if self.side > 0 and self.whole_batch:
            raise ValueError(f"side {self.side:g} takes images apart and whole_batch true together: give one of them")
        return self


class Optimiser(Section):
    """The optimiser of one stage; its state starts anew with each cycle unless `keep_state` of the stage says not.

    Args:
        weight_decay: shrinks the weights themselves in `adamw`; in the others it is a term of the gradient (L2), where
            a Keras regulariser of strength x is 2x.
        decay_on: what decays: every weight, or the kernels of convolutions alone.
        momentum: of `sgd` and `rmsprop`.
        rho: how much of its mean square `rmsprop` keeps at each step: 0.99 in torch, 0.9 in Keras.
        eps: keeps the divisor off zero in all but `sgd`: 1e-8 in torch, 1e-7 in Keras.
        clip_norm: largest norm of the gradient; 0 for any.
    """

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[Real, Field(ge=0)] = 1e-2
    decay_on: Literal["all", "convolutions"] = "all"
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    rho: Annotated[Real, Field(gt=0, lt=1)] = 0.99
    eps: Positive = 1e-8
    clip_norm: Annotated[Real, Field(ge=0)] = 0.0


class Schedule(Section):
    """Learning rate over one cycle of a stage; its peak is the optimiser's `lr`.

    Args:
        name: `constant`; `cosine` falls to the end; `one_cycle` rises over `warmup` and then falls as a cosine;
            `flat_cosine` rises over `warmup`, stays, and falls as a cosine over the last `fall`; `triangular` goes
            from the start to the peak and back, again and again, and `triangular2` half as high each time; `noam`
            rises over `warmup` and then falls as one over the root of the count; `plateau` stays, and is multiplied
            by `factor` whenever the held-out score has not risen for `patience` looks, down to the end.
        per: what is counted, and how often the rate changes: `step` or `epoch`. A cosine over steps has its end at
            the last one; over epochs, as published, it would have it at the one after the last.
        warmup, fall: shares of the cycle's steps or epochs.
        half_cycle: steps or epochs of a triangle's rise.
        start, end: shares of `lr`.
        lowest_lr: start and end as a rate, instead of the shares.
    """

    name: Literal["constant", "cosine", "one_cycle", "flat_cosine", "triangular", "triangular2", "noam", "plateau"] = (
        "cosine"
    )
    per: Literal["step", "epoch"] = "step"
    warmup: Fraction = 0.0
    fall: Fraction = 0.5
    half_cycle: Count = 1500
    start: Fraction = 0.05
    end: Fraction = 0.0
    lowest_lr: Positive | None = None
    factor: Annotated[Real, Field(gt=0, lt=1)] = 0.5
    patience: Count = 10

    @model_validator(mode="after")
    def _fits(self) -> "Schedule":
        if self.name == "flat_cosine" and self.warmup + self.fall > 1:
            raise ValueError(f"warmup {self.warmup} and fall {self.fall} are more than the whole stage together")
        if self.name == "noam" and self.warmup == 0:
            raise ValueError("name 'noam' needs a warmup, found 0.0")
        return self


class Snapshot(Section):
    """What each cycle of a stage leaves to predict with.

    Args:
        epoch: whose weights: of the cycle's `best` held-out score, or its `last`. Both are stored, one predicts.
        cycles: how many of the stage's cycles, those with the best scores; null for all.
        weight: in the mean of the fold's probabilities.
    """

    epoch: Literal["best", "last"] = "best"
    cycles: Count | None = None
    weight: Positive = 1.0


class Stage(Section):
    """One stretch of training with its own loss, optimiser, schedule, and if wanted its own framing.

    Args:
        epochs: of each cycle; the most of them where `stop_patience` is given.
        cycles: how often the stage is gone through, each time with its schedule from the start.
        passes: over the tiles, in one epoch.
        replacement: whether each tile of an epoch is drawn from all of them, so that some come twice and some never.
        augment: replaces the recipe's where given.
        framing: replaces the recipe's where given; small tiles first make early epochs cheap.
        keep_state: go on with the optimiser's state of the cycle, or stage, before.
        start_from: the weights that each cycle starts from: the `last` of the cycle, or stage, before, or those of its
            `best` held-out score.
        stop_patience: end a cycle after so many looks at the held-out tiles without a higher score; null for never.
        snapshot: what each cycle leaves to predict with; null for nothing.
        score_every: epochs between two looks at the held-out tiles; a cycle's last epoch is always scored.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    epochs: Count
    cycles: Annotated[Whole, Field(ge=1, le=100)] = 1
    passes: Count = 1
    replacement: bool = False
    batch: Annotated[Whole, Field(ge=2)] = 32
    loss: Loss = Loss(bce=1.0)
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    framing: Framing | None = None
    augment: Augment | None = None
    keep_state: bool = False
    start_from: Literal["last", "best"] = "last"
    stop_patience: Count | None = None
    snapshot: Snapshot | None = None
    score_every: Count = 1

    @property
    def cycle_names(self) -> tuple[str, ...]:
        """What its cycles are called: by the stage's name where there is one, else NAME-1, NAME-2 and so on."""
        if self.cycles == 1:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.cycles + 1))

    @model_validator(mode="after")
    def _fits(self) -> "Stage":
        lowest, wanted = self.schedule.lowest_lr, self.snapshot.cycles if self.snapshot else None
        faults = []
        if lowest is not None and lowest > self.optimiser.lr:
            faults.append(f"schedule.lowest_lr {lowest} is above optimiser.lr {self.optimiser.lr}")
        if wanted is not None and wanted > self.cycles:
            faults.append(f"snapshot.cycles {wanted}: the stage has only {self.cycles} of them")
        if faults:
            raise ValueError("\n".join(faults))
        return self


class Average(Section):
    """Averages of weights.

    Args:
        decay: of the exponential moving average, per step; 0 for none. It is kept beside the weights, scored, and used
            to predict. Smaller early on (see `train.averaging`).
        method: of a snapshot that the fold makes at its end, of weights after epochs of the last stage:
            `three_bests` is the equal mean of lowest held-out loss, highest pixel accuracy and highest score;
            `halving` takes the `count` highest scores, each with half the weight of the next higher.
        norms: of that snapshot: `estimate` finds the statistics of batch norm in one pass over the training tiles,
            `mean` averages them like the weights.
    """

    decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    method: Literal["none", "three_bests", "halving"] = "none"
    count: Count = 10
    norms: Literal["estimate", "mean"] = "estimate"
