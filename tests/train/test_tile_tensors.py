"""How a net's input is scaled."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from diapir.data.tiles import DataSet, TileSet
from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.recipe.tiles import Input
from diapir.train.tile_tensors import input_spec

IMAGES = np.random.default_rng(0).integers(30, 200, (6, 5, 5), np.uint8)


def spec_of(depths_m: tuple[float, float, float, float] = (50, 300, 700, 900), **section: object) -> InputSpec:
    """Of four labelled tiles, the last of which is not trained on, and two unlabelled ones."""
    ids = tuple(f"tile{number}" for number in range(6))
    depths = np.array([*depths_m, 20, 959], np.float32)
    labelled = TileSet(ids[:4], IMAGES[:4], np.zeros_like(IMAGES[:4]), depths[:4])
    data = DataSet(labelled, TileSet(ids[4:], IMAGES[4:], None, depths[4:]), {})
    return input_spec(Input.model_validate(section), labelled.take(np.arange(3)), data)


def seen(spec: InputSpec) -> torch.Tensor:
    images = torch.from_numpy(IMAGES[4:]).double() / 255
    return net_input(images, torch.tensor([100.0, 200.0]), spec=spec, frame=Frame("native")).double()


def test_standard_scaling_is_of_the_training_tiles_alone() -> None:
    found = spec_of(channels=("image",), scaling="standard")
    ((mean, deviation),) = found.levels
    known = IMAGES[:3] / 255
    assert (mean, deviation) == pytest.approx((known.mean(), known.std()))
    torch.testing.assert_close(
        seen(found)[:, 0], (torch.from_numpy(IMAGES[4:]) / 255 - mean).double() / deviation, atol=1e-6, rtol=1e-6
    )


def test_unit_scaling_divides_by_255() -> None:
    found = seen(spec_of(channels=("image", "image"), scaling="unit"))
    for channel in range(2):
        torch.testing.assert_close(found[:, channel], torch.from_numpy(IMAGES[4:]).double() / 255, atol=1e-6, rtol=0)


def test_three_images_are_scaled_as_imagenets_red_green_and_blue() -> None:
    found = seen(spec_of(channels=("image", "row_ramp", "image", "image"), scaling="imagenet"))
    grey = torch.from_numpy(IMAGES[4:]).double() / 255
    for channel, mean, deviation in ((0, 0.485, 0.229), (2, 0.456, 0.224), (3, 0.406, 0.225)):
        torch.testing.assert_close(found[:, channel], (grey - mean) / deviation, atol=1e-5, rtol=0)
    alone = seen(spec_of(channels=("image", "depth"), scaling="imagenet"))
    torch.testing.assert_close(alone[:, 0], (grey - 0.449) / 0.226, atol=1e-5, rtol=0)


def test_depth_is_relative_to_the_range_of_all_tiles() -> None:
    found = spec_of(channels=("depth",))
    assert (found.depth_low_m, found.depth_high_m) == (20, 959)


def test_what_was_saved_comes_back() -> None:
    found = spec_of(channels=("image", "image", "image"), scaling="imagenet")
    raw = json.loads(json.dumps(asdict(found)))
    assert InputSpec.stored(raw) == found
    with pytest.raises(KeyError):
        InputSpec.stored({key: value for key, value in raw.items() if key != "levels"})
