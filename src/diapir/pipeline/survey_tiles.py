"""Tiles of a survey through a finished run's models, a few at a time: what they say, and how far they agree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors, predict_heads
from diapir.pipeline.bundle import Model
from diapir.pipeline.members import Member, built_blend
from diapir.pipeline.plan import figures_of
from diapir.pipeline.predicting import load_model
from diapir.pipeline.workplace import step_named
from diapir.predict.build import BuiltBlend
from diapir.predict.ensemble import Range
from diapir.predict.postprocess import START
from diapir.recipe.steps import BlendStep, PostProcessStep, PredictStep, sources
from diapir.train.together import make_fabric

Floats = NDArray[np.float32]
Precision = Literal["float32", "bfloat16"]


class Moments(NamedTuple):
    """What models say of tiles.

    Args:
        mean: probability of salt, float32 (b, h, w).
        square: mean of the squares over models, about that: the models' variance plus the mean's square.
    """

    mean: Floats
    square: Floats


Predict = Callable[[NDArray[np.uint8], Floats], Moments]
"""Grey tiles (b, h, w), and the depth of each one's top in metres (b,), NaN where unknown -> what models say."""


@dataclass(frozen=True)
class _Net:
    net: nn.Module
    spec: InputSpec
    share: float


@dataclass(frozen=True)
class _Loaded:
    """A member with its nets on the device."""

    member: Member
    frame: Frame
    nets: tuple[_Net, ...]


def tile_predictor(model: Model, *, precision: Precision, stop: Callable[[], None] = lambda: None) -> Predict:
    """What predicts tiles as the model's submission was made, but for its post-processing, which is for single tiles.

    Args:
        stop: called before each batch; raises where work is to be left.

    Raises:
        InputError: a file of weights is damaged.
    """
    fabric = make_fabric(precision, devices=1)
    loaded = {member.step: _load(model, member, fabric) for member in model.members}
    source = mask_source(model)
    blends = {
        step.name: built_blend(model.folder, step) for step in model.recipe.all_steps if isinstance(step, BlendStep)
    }

    def predict(greys: NDArray[np.uint8], depths_m: Floats) -> Moments:
        tiles = TileTensors(
            torch.from_numpy(greys).to(fabric.device), None, torch.from_numpy(depths_m).to(fabric.device)
        )
        found = {name: _member_moments(one, tiles, fabric, stop) for name, one in loaded.items()}
        mean = _combined(model, source, {name: each.mean for name, each in found.items()}, blends)
        # Each model counts by its share of its member; members count alike.
        own_mean = sum(each.mean for each in found.values()) / len(found)
        own_square = sum(each.square for each in found.values()) / len(found)
        return Moments(mean, mean * mean + np.maximum(own_square - own_mean * own_mean, 0))

    return predict


def mask_source(model: Model) -> str:
    """The predict or blend step whose probabilities a survey has: the last before post-processing."""
    name = sources(model.recipe.all_steps[-1])["of"][0]
    while isinstance(step := step_named(model.recipe, name), PostProcessStep):
        name = step.of
    return name


def mask_threshold(model: Model) -> float:
    """The probability above which a sample of a survey is salt."""
    step = step_named(model.recipe, sources(model.recipe.all_steps[-1])["of"][0])
    if not isinstance(step, PostProcessStep):
        return model.threshold
    cuts = [edit.cut for edit in step.edits if edit.name == "threshold" and edit.name not in step.off]
    if "tuned" in cuts:
        return float(figures_of(model.folder, step.name, keys=["tuned_cut"])["tuned_cut"])
    return float(cuts[-1]) if cuts else START


def _load(model: Model, member: Member, fabric: Fabric) -> _Loaded:
    nets = []
    for weights in member.weights:
        net, spec = load_model(member.recipe, model.folder / weights.file)
        nets.append(_Net(net.to(fabric.device).eval(), spec, weights.share))
    return _Loaded(member, member.frame, tuple(nets))


def _member_moments(loaded: _Loaded, tiles: TileTensors, fabric: Fabric, stop: Callable[[], None]) -> Moments:
    settings = loaded.member.recipe.predict
    mean, square = np.zeros((2, *tiles.images.shape), np.float32)
    for one in loaded.nets:
        start = 0
        for found in predict_heads(
            one.net,
            tiles,
            spec=one.spec,
            frame=loaded.frame,
            views=settings.views,
            batch=settings.batch,
            autocast=fabric.autocast,
        ):
            stop()
            probability = found.mask.cpu().numpy()
            rows = slice(start, start + len(probability))
            mean[rows] += one.share * probability
            square[rows] += one.share * probability * probability
            start = rows.stop
    return Moments(mean, square)


def _combined(
    model: Model, name: str, found: dict[str, Floats], blends: dict[str, tuple[BuiltBlend, list[Range]]]
) -> Floats:
    """What a predict or blend step makes of its members' means."""
    step = step_named(model.recipe, name)
    if isinstance(step, PredictStep):
        return found[name]
    assert isinstance(step, BlendStep)
    built, ranges = blends[name]
    parts = [_combined(model, step.of[member], found, blends) for member in built.needed]
    return built.blend(parts, ranges=ranges).astype(np.float32)
