import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from diapir.nets.object_context import ContextAttention
from diapir.nets.place_11_sosin import DilatedStep, Place11Sosin
from net_checks import assert_every_parameter_learns, conv, count, norm, se_resnext50

SMALL = "legacy_seresnet18"


@cache
def published_on_meta() -> Place11Sosin:
    with torch.device("meta"):
        return Place11Sosin()


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 96), (101, 101)])
def test_the_mask_is_as_large_as_the_image_and_the_sides_halve(height: int, width: int) -> None:
    with torch.device("meta"):
        outputs = published_on_meta()(torch.zeros(2, 3, height, width))
    assert outputs.mask.shape == (2, height, width)
    assert outputs.has_salt is not None
    assert outputs.has_salt.shape == (2,)
    if (height, width) != (101, 101):  # an odd size rounds up on the way down and doubles on the way up
        assert [side.shape for side in outputs.sides] == [(2, height // k, width // k) for k in (16, 8, 4, 2)]


def test_the_wiring_is_the_authors() -> None:
    net, given = published_on_meta(), {}
    parts = {"centre": net.centre, "d3": net.step3, "d2": net.step2, "d1": net.step1, "d0": net.step0}
    parts |= {"last": net.last_step, "context": net.context, "head": net.head}
    handles = [
        part.register_forward_hook(lambda _, came, maps, name=name: given.update({name: (came[0].shape, maps.shape)}))
        for name, part in parts.items()
    ]
    with torch.device("meta"):
        net(torch.zeros(1, 3, 128, 128))
    for handle in handles:
        handle.remove()
    assert {name: (tuple(came[1:3]), tuple(maps[1:3])) for name, (came, maps) in given.items()} == {
        "centre": ((2048, 8), (512, 4)),
        "d3": ((512, 4), (256, 8)),
        "d2": ((256 + 2048, 8), (128, 16)),
        "d1": ((128 + 1024, 16), (64, 32)),
        "d0": ((64 + 128 + 256 + 512, 32), (32, 64)),
        "last": ((32 + 64 + 128 + 256, 64), (32, 128)),
        "context": ((32 + 32 + 64, 128), (48, 128)),
        "head": ((48, 128), (1, 128)),
    }
    dilations = [step.first.dilation[0] for step in (net.step3, net.step2, net.step1, net.step0, net.last_step)]
    assert dilations == [1, 3, 3, 5, 5]


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def biased(a: int, b: int, kernel: int = 3) -> int:
        return conv(a, b, kernel, bias=True)

    def step(a: int, b: int) -> int:
        return biased(a, b) + biased(b, b) + biased(b, b)

    centre = biased(2048, 512) + biased(512, 64, 1) + biased(64, 1, 1)
    steps = step(512, 256) + step(256 + 2048, 128) + step(128 + 1024, 64) + step(64 + 128 + 256 + 512, 32)
    steps += step(32 + 64 + 128 + 256, 32)
    sides = biased(256, 1) + biased(128, 1) + biased(64, 1) + biased(32, 1)
    attention = biased(48, 24, 1) + norm(24) + biased(48, 48, 1) + biased(48, 48, 1)
    context = biased(128, 48) + norm(48) + attention + biased(48, 48, 1) + norm(48)
    context += conv(128, 48, 1) + norm(48) + 3 * (conv(128, 48) + norm(48)) + conv(5 * 48, 48, 1) + norm(48)
    head = biased(48, 1, 5)
    assert count(published_on_meta()) == se_resnext50(3) + centre + steps + sides + context + head


def test_every_parameter_learns_and_no_gradient_is_broken() -> None:
    torch.manual_seed(0)
    net = Place11Sosin(SMALL, in_channels=1, width=8, context=8)
    for module in net.modules():
        if isinstance(module, ContextAttention):
            nn.init.normal_(module.give.weight)  # what lies before it learns from the second step on
    assert_every_parameter_learns(net, torch.randn(2, 1, 64, 64))


def test_a_fresh_net_has_finite_gradients() -> None:
    torch.manual_seed(0)
    net = Place11Sosin(SMALL, in_channels=1, width=8, context=8)
    outputs = net(torch.randn(2, 1, 64, 64))
    (outputs.mask.mean() + outputs.has_salt.mean() + sum(side.mean() for side in outputs.sides)).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


def test_convolutions_start_with_the_spread_of_their_fan_out_but_the_context_at_zero() -> None:
    torch.manual_seed(0)
    net = Place11Sosin(SMALL, in_channels=1)
    attention: Any = net.context.context[2]
    assert not attention.give.weight.any()
    checked = 0
    for name, module in net.named_modules():
        large = isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000
        if large and not name.startswith("encoder."):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name
            checked += 1
    assert checked >= 10


def test_the_init_leaves_the_encoder_alone() -> None:
    torch.manual_seed(0)
    net = Place11Sosin(SMALL, in_channels=1, width=4, context=4)
    before = {name: each.clone() for name, each in net.encoder.named_parameters()}
    net._reset()
    assert all(torch.equal(before[name], each) for name, each in net.encoder.named_parameters())


def test_a_step_sees_as_far_as_its_dilation() -> None:
    torch.manual_seed(0)
    step = DilatedStep(1, 4, dilation=3)
    maps = torch.ones(1, 1, 16, 16, requires_grad=True)
    for conv_ in (step.doubling, step.first, step.second):
        nn.init.ones_(conv_.weight)
        assert conv_.bias is not None
        nn.init.zeros_(conv_.bias)
    out = step(maps)
    assert out.shape == (1, 4, 32, 32)
    out[0, :, 16, 16].sum().backward()
    assert maps.grad is not None
    rows = maps.grad[0, 0].sum(1).nonzero()[:, 0].tolist()
    # Two rings of 3 reach rows 10, 13, 16, 19 and 22 of the doubled map: 2k alone or k and k + 1 of the map's own.
    assert rows == [5, 6, 7, 8, 9, 10, 11]
