"""Which tiles there are, how they are divided, and how a net sees them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diapir.recipe.sections import Count, Real, Section, Whole

_TILE = 101  # pixels of a side; a mirror reaches one pixel less than that beyond each border


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
        fourfold_shift: train on each tile four times: as it is, flipped, shifted by up to this share of its side, drawn
            once for the whole run, and flipped and shifted; 0 for once alone.
        few_tiles: a dozen of the tiles alone, to see that everything runs: what `--smoke` sets.
    """

    synthetic: Synthetic | None = None
    drop_constant: bool = False
    fourfold_shift: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    few_tiles: bool = False


class Folds(Section):
    """How labelled tiles are divided.

    Args:
        scheme: `depth` deals tiles sorted by depth in turn; `coverage` deals within each coverage class; `random`
            shuffles; `groups` keeps tiles of one group (a CSV of id,group) together; `mosaic` keeps tiles together that
            were neighbours in the survey, as far as their edges tell, and deals the others by depth; `sections` keeps
            neighbouring labelled sections of a survey together, and needs a `gap`.
        ranked: of `depth`, which tiles are sorted and dealt: the `labelled`, so that folds are of one size, or `all`,
            as the 1st place did, of which the labelled are then taken.
        gap: lines of the grid between what a fold holds out and what its model is trained on.
        held_out: the folds to train a model for, each holding that fold out; empty for all of them.
    """

    scheme: Literal["depth", "coverage", "random", "groups", "mosaic", "sections"] = "depth"
    count: Annotated[Whole, Field(ge=2, le=1000)] = 5
    seed: Annotated[Whole, Field(ge=0)] = 0
    groups: Path | None = None
    # Both left out where it says nothing, so that recipes from before there were any keep their digest.
    ranked: Literal["labelled", "all"] = Field(default="labelled", exclude_if=lambda which: which == "labelled")
    gap: Annotated[Whole, Field(ge=0, le=10_000)] | None = Field(default=None, exclude_if=lambda gap: gap is None)
    held_out: tuple[Annotated[Whole, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "Folds":
        if (self.scheme == "groups") != (self.groups is not None):
            raise ValueError("scheme 'groups' and a file in 'groups' go together: give both or neither")
        if (self.scheme == "sections") != (self.gap is not None):
            raise ValueError("scheme 'sections' and a gap go together: give both or neither")
        if self.ranked == "all" and self.scheme != "depth":
            raise ValueError(f"ranked 'all' belongs to scheme 'depth', found '{self.scheme}'")
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
        resize: size that a tile is brought to before `pad`; null for its own.
    """

    method: Literal["native", "pad", "resize"] = "pad"
    size: Annotated[Whole, Field(ge=16, le=1024)] | None = 128
    border: Literal["reflect", "edge", "zero"] = "reflect"
    resize: Annotated[Whole, Field(ge=16, le=1024)] | None = None

    @property
    def side(self) -> int:
        """Pixels of a side of what the net sees."""
        return _TILE if self.method == "native" or self.size is None else self.size

    @model_validator(mode="after")
    def _fits(self) -> "Framing":
        if self.method == "native" and self.size not in (None, 128):
            raise ValueError(f"method 'native' takes no size, found {self.size}: set size to null")
        if self.method != "native" and self.size is None:
            raise ValueError(f"method '{self.method}' needs a size")
        if self.method != "pad" and self.resize is not None:
            raise ValueError(f"resize {self.resize} goes with method 'pad' alone, found '{self.method}'")
        inner = self.resize or _TILE
        largest = 3 * inner - 2 if self.border == "reflect" else 1024
        if self.method == "pad" and not inner <= (self.size or 0) <= largest:
            raise ValueError(f"size {self.size}: padding with border '{self.border}' needs {inner} to {largest}")
        return self


Channel = Literal["image", "row_ramp", "column_ramp", "image_times_ramp", "depth"]


class Input(Section):
    """Channels of the net's input and their scaling.

    Args:
        channels: `image`; ramps from 0 to 1 down the rows or along the columns; the image from 0 to 1 times the row
            ramp; the tile's depth relative to the data set's range as a constant plane.
        scaling: of `image` alone: `unit` divides by 255; `standard` also takes the training tiles' mean and standard
            deviation out; `imagenet` takes ImageNet's out: of red, green and blue where there are three `image`
            channels, otherwise of grey.
        ramps: whether they run over the `tile`, and are framed with it, or over the whole `frame`.
    """

    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = ("image",)
    scaling: Literal["unit", "standard", "imagenet"] = "standard"
    ramps: Literal["tile", "frame"] = "tile"
