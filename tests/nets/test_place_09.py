from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.encoders import TimmEncoder
from diapir.nets.object_context import ContextAttention
from diapir.nets.place_09 import ContextStep, LeakyBottleneck, Place09, make_leaky
from net_checks import assert_every_parameter_learns, conv, count, norm, senet154

SMALL = "legacy_seresnext26_32x4d"


@cache
def small_on_meta() -> Place09:
    with torch.device("meta"):
        return Place09(SMALL, in_channels=1, width=4)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 96), (101, 101)])
def test_every_head_is_as_large_as_the_image(height: int, width: int) -> None:
    with torch.device("meta"):
        outputs = small_on_meta()(torch.zeros(2, 1, height, width))
    assert outputs.mask.shape == (2, height, width)
    assert outputs.has_salt is not None
    assert outputs.has_salt.shape == (2,)
    assert [side.shape for side in outputs.sides] == [(2, height, width)] * 5


@cache
def published_on_meta() -> Place09:
    with torch.device("meta"):
        return Place09()


def test_the_maps_have_the_sizes_that_the_team_gives() -> None:
    net, sizes = published_on_meta(), {}
    parts = {"e5": net.deepest, "centre": net.centre, "d5": net.step5, "d4": net.step4, "d3": net.step3}
    parts |= {"d2": net.step2, "d1": net.step1, "pixels": net.pixels}
    handles = [
        part.register_forward_hook(lambda _, given, maps, name=name: sizes.update({name: (given[0].shape, maps.shape)}))
        for name, part in parts.items()
    ]
    with torch.device("meta"):
        net(torch.zeros(1, 3, 128, 128))
    for handle in handles:
        handle.remove()
    assert {name: (tuple(given), tuple(maps)) for name, (given, maps) in sizes.items()} == {
        "e5": ((1, 2048, 8, 8), (1, 512, 8, 8)),
        "centre": ((1, 512, 4, 4), (1, 128, 8, 8)),
        "d5": ((1, 512 + 128, 8, 8), (1, 128, 16, 16)),
        "d4": ((1, 1024 + 128, 16, 16), (1, 64, 32, 32)),
        "d3": ((1, 512 + 64, 32, 32), (1, 32, 64, 64)),
        "d2": ((1, 256 + 32, 64, 64), (1, 16, 64, 64)),
        "d1": ((1, 128 + 16, 64, 64), (1, 16, 128, 128)),
        "pixels": ((1, 256, 128, 128), (1, 64, 128, 128)),
    }


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def biased(a: int, b: int, kernel: int = 3) -> int:
        return conv(a, b, kernel, bias=True)

    def context(c: int, k: int) -> int:
        attention = biased(c, k, 1) + norm(k) + biased(c, k, 1) + biased(k, c, 1)
        return attention + biased(2 * c, c, 1) + norm(c)

    def step(a: int, middle: int, b: int) -> int:
        return biased(a, middle) + norm(middle) + context(middle, middle // 2) + biased(middle, b, 4)

    def head(a: int) -> int:
        return biased(a, 16) + norm(16) + biased(16, 1, 1)

    deepest = biased(2048, 512) + norm(512) + context(512, 256)
    steps = step(512, 256, 128) + step(512 + 128, 256, 128) + step(1024 + 128, 256, 64) + step(512 + 64, 128, 32)
    steps += biased(256 + 32, 64) + norm(64) + biased(64, 16) + norm(16) + step(128 + 16, 32, 16)
    sides = head(16) + head(16) + head(32) + head(64) + head(128)
    pixels = biased(16 + 16 + 32 + 64 + 128, 64, 1)
    image = (512 * 32 + 32) + (32 + 1)
    total = senet154(3) + deepest + steps + sides + pixels + image + head(64 + 32)
    assert count(published_on_meta()) == total


def test_every_parameter_learns_and_no_gradient_is_broken() -> None:
    torch.manual_seed(0)
    net = Place09(SMALL, in_channels=1, width=4)
    for module in net.modules():
        if isinstance(module, ContextAttention):
            nn.init.normal_(module.give.weight)  # what lies before it learns from the second step on
    assert_every_parameter_learns(net, torch.randn(2, 1, 64, 64))


def test_a_fresh_net_has_finite_gradients() -> None:
    torch.manual_seed(0)
    net = Place09(SMALL, in_channels=1, width=2)
    outputs = net(torch.randn(2, 1, 64, 64))
    (outputs.mask.mean() + outputs.has_salt.mean() + sum(side.mean() for side in outputs.sides)).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in net.parameters())


@cache
def plain_and_leaky(slope: float) -> tuple[TimmEncoder, TimmEncoder]:
    torch.manual_seed(0)
    plain, leaky = (TimmEncoder(SMALL, in_channels=1, stem="max_pool").eval() for _ in range(2))
    leaky.load_state_dict(plain.state_dict())
    make_leaky(leaky, slope=slope)
    return plain, leaky


def test_an_encoder_that_leaks_nothing_is_timms_own() -> None:
    plain, leaky = plain_and_leaky(0.0)
    image = torch.randn(1, 1, 64, 64)
    for one, other in zip(plain(image), leaky(image), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", [SMALL, "legacy_senet154"])
def test_a_leaky_encoder_keeps_every_tensors_name_and_shape(name: str) -> None:
    with torch.device("meta"):
        leaky = TimmEncoder(name, in_channels=3, stem="max_pool")
        make_leaky(leaky, slope=0.01)
        theirs = timm.create_model(name, features_only=True).state_dict()
    assert {key: each.shape for key, each in leaky.model.state_dict().items()} == {
        key: each.shape for key, each in theirs.items()
    }


def test_every_activation_after_a_norm_leaks_and_no_other_does() -> None:
    with torch.device("meta"):
        senet = Place09().encoder.model
    blocks = [module for module in senet.modules() if isinstance(module, LeakyBottleneck)]
    assert len(blocks) == 3 + 8 + 36 + 3
    strict = [path for path, module in senet.named_modules() if isinstance(module, nn.ReLU)]
    assert len(strict) == len(blocks)
    assert all(path.endswith("se_module.relu") for path in strict)
    leaks = [
        (path, module.negative_slope) for path, module in senet.named_modules() if isinstance(module, nn.LeakyReLU)
    ]
    assert leaks == [("layer0.relu1", 0.01), ("layer0.relu2", 0.01), ("layer0.relu3", 0.01)]


def test_convolutions_after_a_norm_see_what_leaked_and_blocks_give_none() -> None:
    _, leaky = plain_and_leaky(0.01)
    lowest: dict[str, float] = {}
    for path, module in leaky.model.named_modules():
        if path.endswith((".conv2", ".conv3")):
            module.register_forward_pre_hook(lambda _, given, path=path: lowest.update({path: given[0].min().item()}))
    finest, *stages = leaky(torch.randn(1, 1, 64, 64))
    assert len(lowest) == 2 * 8
    assert max(lowest.values()) < 0
    assert finest.min() < 0
    assert all(maps.min() >= 0 for maps in stages)


def test_encoders_without_bottlenecks_are_refused() -> None:
    with torch.device("meta"), pytest.raises(InputError, match=r"net\.encoder\.name: .* legacy_senet154"):
        Place09("legacy_seresnet18")


def test_a_step_is_its_parts_one_after_another() -> None:
    torch.manual_seed(0)
    step = ContextStep(6, 4, 3, dropout=0.2).eval()
    maps = torch.randn(2, 6, 5, 7)
    doubled: Tensor = step.doubling(step.context(step.convs(maps)))
    assert doubled.shape == (2, 3, 10, 14)
    assert torch.equal(step(maps), doubled)
    assert (doubled < 0).any()


def test_the_mask_looks_at_the_image_and_the_sides_do_not() -> None:
    torch.manual_seed(0)
    net = Place09(SMALL, in_channels=1, width=2).eval()
    image = torch.randn(1, 1, 64, 64)
    before = net(image)
    nn.init.constant_(net.image.features.bias, 10.0)
    after = net(image)
    assert not torch.equal(before.mask, after.mask)
    assert not torch.equal(before.has_salt, after.has_salt)
    assert all(torch.equal(one, other) for one, other in zip(before.sides, after.sides, strict=True))
