from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from diapir.nets.deep_supervision import resized
from diapir.nets.place_11_rozhkov import Place11Rozhkov
from net_checks import assert_every_parameter_learns, conv, count, norm, se_resnext50

SMALL = "legacy_seresnet18"


@cache
def on_meta(name: str, width: int) -> Place11Rozhkov:
    with torch.device("meta"):
        return Place11Rozhkov(name, in_channels=2, width=width)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 96), (101, 101)])
@pytest.mark.parametrize("name", [SMALL, "legacy_seresnext50_32x4d"])
def test_the_masks_are_as_large_as_the_image(name: str, height: int, width: int) -> None:
    with torch.device("meta"):
        outputs = on_meta(name, 8)(torch.zeros(2, 2, height, width))
    assert outputs.mask.shape == (2, height, width)
    assert outputs.has_salt is not None
    assert outputs.has_salt.shape == (2,)
    assert [side.shape for side in outputs.sides] == [(2, height, width)]


def test_the_steps_double_from_a_thirty_second_of_the_image_to_all_of_it() -> None:
    net, sizes = on_meta("legacy_seresnext50_32x4d", 64), []
    parts = [net.centre, *net.steps, net.pixels]
    handles = [
        part.register_forward_hook(lambda _, given, maps: sizes.append(tuple(maps.shape[1:3]))) for part in parts
    ]
    with torch.device("meta"):
        net(torch.zeros(1, 2, 128, 128))
    for handle in handles:
        handle.remove()
    assert sizes == [(256, 4), (64, 8), (64, 16), (64, 32), (64, 64), (64, 128), (64, 128)]
    assert net.pixels[0].in_channels == 5 * 64


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def step(a: int) -> int:
        gates = conv(64, 4, 1, bias=True) + conv(4, 64, 1, bias=True) + conv(64, 1, 1, bias=True)
        return conv(a, 64) + norm(64) + conv(64, 64) + norm(64) + gates

    centre = conv(2048, 512) + norm(512) + conv(512, 256) + norm(256)
    steps = step(256 + 2048) + step(64 + 1024) + step(64 + 512) + step(64 + 256) + step(64)
    pixels = conv(5 * 64, 64, bias=True) + conv(64, 1, 1, bias=True)
    image = (2048 * 64 + 64) + (64 + 1)
    head = conv(64 + 64, 64, bias=True) + conv(64, 1, 1, bias=True)
    with torch.device("meta"):
        net = Place11Rozhkov()
    assert count(net) == se_resnext50(3) + centre + steps + pixels + image + head


def test_every_parameter_learns_and_no_gradient_is_broken() -> None:
    torch.manual_seed(0)
    assert_every_parameter_learns(Place11Rozhkov(SMALL, in_channels=1, width=8), torch.randn(2, 1, 64, 64))


def test_a_step_joins_its_maps_at_the_skips_size() -> None:
    torch.manual_seed(0)
    step: Any = Place11Rozhkov(SMALL, in_channels=1, width=8).eval().steps[1]
    maps, skip = torch.randn(1, 8, 4, 4), torch.randn(1, 256, 8, 8)
    both = torch.cat([nn.functional.interpolate(maps, scale_factor=2, mode="bilinear"), skip], dim=1)
    torch.testing.assert_close(step(maps, skip, (16, 16)), step.gate(step.convs(both)))
    last: Any = Place11Rozhkov(SMALL, in_channels=1, width=8).eval().steps[-1]
    torch.testing.assert_close(last(maps, None, (16, 16)), last.gate(last.convs(resized(maps, (16, 16)))))


def test_the_side_sees_pixels_alone_and_the_mask_the_image_too() -> None:
    torch.manual_seed(0)
    net = Place11Rozhkov(SMALL, in_channels=1, width=8).eval()
    image = torch.randn(1, 1, 64, 64)
    before = net(image)
    nn.init.constant_(net.image.features.bias, 10.0)
    after = net(image)
    assert not torch.equal(before.mask, after.mask)
    assert not torch.equal(before.has_salt, after.has_salt)
    assert torch.equal(before.sides[0], after.sides[0])
