"""Every setting that exists: typed, frozen, refused where it makes no sense, and with a digest."""

import hashlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

# Strict, for YAML reads `no` and `off` as false, and false would count as 0.
Real = Annotated[float, Strict()]
Whole = Annotated[int, Strict()]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Positive = Annotated[Real, Field(gt=0)]
Count = Annotated[Whole, Field(ge=1)]
_TILE = 101  # pixels of a side; a mirror reaches one pixel less than that beyond each border


class Section(BaseModel):
    """A part of a recipe: fixed once read, and closed to keys that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Synthetic(Section):
    """Make a synthetic data set instead of reading one."""

    labelled: Count = 1000
    unlabelled: Count = 500
    seed: Annotated[Whole, Field(ge=0)] = 0


class Data(Section):
    """Which tiles take part.

    Args:
        synthetic: made on the fly when no `--data` is given.
        drop_constant: leave tiles of one grey value out of training (they stay in every score).
    """

    synthetic: Synthetic | None = None
    drop_constant: bool = False


class Folds(Section):
    """How labelled tiles are divided.

    Args:
        scheme: `depth` deals tiles sorted by depth in turn; `coverage` deals within each coverage class; `random`
            shuffles; `groups` keeps tiles of one group (a CSV of id,group) together.
        held_out: the folds to train a model for, each holding that fold out; empty for all of them.
    """

    scheme: Literal["depth", "coverage", "random", "groups"] = "depth"
    count: Annotated[Whole, Field(ge=2)] = 5
    seed: Annotated[Whole, Field(ge=0)] = 0
    groups: Path | None = None
    held_out: tuple[Annotated[Whole, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "Folds":
        if (self.scheme == "groups") != (self.groups is not None):
            raise ValueError("scheme 'groups' and a file in 'groups' go together: give both or neither")
        if wrong := [fold for fold in self.held_out if fold >= self.count]:
            raise ValueError(f"held_out {wrong}: there are folds 0 to {self.count - 1}")
        if len(set(self.held_out)) != len(self.held_out):
            raise ValueError(f"held_out {list(self.held_out)}: a fold is named twice")
        return self


class Framing(Section):
    """How a 101x101 tile meets the net; predictions are brought back by the exact inverse.

    Args:
        method: `native` changes nothing; `pad` adds a border up to `size`; `resize` interpolates to `size`.
        border: what `pad` fills in.
    """

    method: Literal["native", "pad", "resize"] = "pad"
    size: Annotated[Whole, Field(ge=16, le=1024)] | None = 128
    border: Literal["reflect", "edge", "zero"] = "reflect"

    @model_validator(mode="after")
    def _fits(self) -> "Framing":
        if self.method == "native" and self.size not in (None, 128):
            raise ValueError("method 'native' takes no size")
        if self.method != "native" and self.size is None:
            raise ValueError(f"method '{self.method}' needs a size")
        largest = 3 * _TILE - 2 if self.border == "reflect" else 1024
        if self.method == "pad" and not _TILE <= (self.size or 0) <= largest:
            raise ValueError(f"size {self.size}: padding with border '{self.border}' needs {_TILE} to {largest}")
        return self


LossName = Literal["bce", "dice", "focal", "lovasz", "symmetric_lovasz"]
Channel = Literal["image", "row_ramp", "column_ramp", "image_times_ramp", "depth"]


class Input(Section):
    """Channels of the net's input and their scaling.

    Args:
        channels: `image`; ramps from 0 to 1 down the rows or along the columns; image times the row ramp; the tile's
            depth relative to the data set's range as a constant plane.
        scaling: of the grey image: `unit` divides by 255; `standard` also takes the training tiles' mean and standard
            deviation out; `imagenet` takes the mean and deviation of ImageNet's grey out.
    """

    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = ("image",)
    scaling: Literal["unit", "standard", "imagenet"] = "standard"


class TimmEncoder(Section):
    """An encoder of the timm library.

    Args:
        name: timm model that gives feature maps, e.g. resnet34.
        weights: `none` for random ones, `pretrained` for timm's, or a local .safetensors file.
        stem: `max_pool` as published (first map at half size, second at a quarter); `stride` drops the max-pool;
            `none` drops the stride of the first convolution as well.
    """

    kind: Literal["timm"] = "timm"
    name: str = "resnet34"
    weights: str = "none"
    stem: Literal["max_pool", "stride", "none"] = "max_pool"


class ResidualEncoder(Section):
    """Residual stages from random weights, each after the first at half the size of the one before.

    Args:
        widths: channels of each stage.
        blocks: residual blocks of each stage.
        stem: `stride` halves the size before the first stage, `none` does not.
        squeeze: reduction of the squeeze-and-excitation gate in each block; 0 for none.
    """

    kind: Literal["residual"]
    widths: Annotated[tuple[Count, ...], Field(min_length=2)] = (32, 64, 128, 256)
    blocks: Annotated[tuple[Count, ...], Field(min_length=2)] = (2, 2, 2, 2)
    stem: Literal["stride", "none"] = "stride"
    squeeze: Annotated[Whole, Field(ge=0)] = 8

    @model_validator(mode="after")
    def _fits(self) -> "ResidualEncoder":
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"{len(self.widths)} widths and {len(self.blocks)} blocks: give one of each per stage")
        return self


class Decoder(Section):
    """The way back to full size.

    Args:
        widths: channels of each step, deepest first; one per step from the deepest map to the finest, and one more
            where the finest map is smaller than the tile.
        gate: attention after each step: `scse` (reduction `gate_reduction`) or none.
        hypercolumn: width to which every step's map is brought and concatenated at full size; 0 for none.
        subpixel: predict 2x2 pixels at each place of a half-size map, without a last step at full size.
        dropout: share of the head's input channels dropped in training.
    """

    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (256, 128, 64, 32, 16)
    gate: Literal["none", "scse"] = "scse"
    gate_reduction: Count = 16
    hypercolumn: Annotated[Whole, Field(ge=0)] = 0
    subpixel: bool = False
    dropout: Annotated[Real, Field(ge=0, lt=1)] = 0.0


class Net(Section):
    """A U-Net: encoder, decoder, and the has-salt head if wanted."""

    encoder: Annotated[TimmEncoder | ResidualEncoder, Field(discriminator="kind")] = TimmEncoder()
    decoder: Decoder = Decoder()
    has_salt_head: bool = False


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


class Predict(Section):
    """From nets to masks.

    Args:
        views: how each tile is seen; probabilities are averaged.
        weights: which checkpoint of each fold predicts: `best` by held-out score, or `last`.
        threshold: probability above which a pixel is salt; `tuned` takes the best on held-out tiles.
    """

    views: Annotated[tuple[Literal["plain", "flip"], ...], Field(min_length=1)] = ("plain", "flip")
    weights: Literal["best", "last"] = "last"
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
    names = [stage.name for stage in recipe.stages]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"stages: '{name}' is what two of them are called"
    for index, stage in enumerate(recipe.stages):
        if stage.loss.has_salt > 0 and not recipe.net.has_salt_head:
            yield f"stages.{index}.loss.has_salt: {stage.loss.has_salt} needs net.has_salt_head: true, found false"
        if stage.keep_state and index == 0:
            yield "stages.0.keep_state: true, but the first stage has no state before it"
        before, own = recipe.stages[index - 1].optimiser.name, stage.optimiser.name
        if stage.keep_state and index > 0 and own != before:
            clash = f"stages.{index}.optimiser.name '{own}' follows stages.{index - 1}.optimiser.name '{before}'"
            yield f"stages.{index}.keep_state: true, but {clash}"
    if recipe.net.has_salt_head and all(stage.loss.has_salt == 0 for stage in recipe.stages):
        weights = ", ".join(f"stages.{index}.loss.has_salt" for index in range(len(recipe.stages)))
        yield f"net.has_salt_head: true, but 0 is the weight of {weights}, so the head would never learn"
    yield from _net_faults(recipe.net)
    if len(set(recipe.predict.views)) != len(recipe.predict.views):
        yield f"predict.views: {list(recipe.predict.views)} names a view twice"


def _net_faults(net: Net) -> Iterator[str]:
    encoder, decoder = net.encoder, net.decoder
    if decoder.subpixel and encoder.stem == "none":
        yield "net.decoder.subpixel: true needs a first map of half size, and net.encoder.stem 'none' keeps it full"
    elif isinstance(encoder, ResidualEncoder):
        steps = len(encoder.widths) - 1 + (encoder.stem == "stride" and not decoder.subpixel)
        if len(decoder.widths) != steps:
            subpixel = str(decoder.subpixel).lower()
            yield (
                f"net.decoder.widths: {len(decoder.widths)} given, and {len(encoder.widths)} net.encoder.widths with "
                f"net.encoder.stem '{encoder.stem}' and net.decoder.subpixel {subpixel} need {steps}"
            )
