from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from diapir.faults import InputError
from diapir.nets.place_01_phalanx import (
    FusedHead,
    PhalanxUNet,
    PixelHead,
    TwoBranchStep,
    phalanx_resize,
    phalanx_v3,
    phalanx_v4,
    phalanx_v5,
)
from diapir.nets.weights import load_encoder_weights

SMALL = "resnet18"
Build = Callable[..., PhalanxUNet]
EVERY = pytest.mark.parametrize("build", [phalanx_v4, phalanx_v3, phalanx_v5, phalanx_resize])
SIDES = [128, 224, 256]


@EVERY
def test_masks_are_as_large_as_the_image(build: Build) -> None:
    with torch.device("meta"):
        net = build()
        for size in [(side, side) for side in SIDES] + [(64, 96)]:
            outputs = net(torch.zeros(2, 3, *size))
            assert outputs.mask.shape == (2, *size)
            if build in (phalanx_v3, phalanx_resize):
                assert outputs.has_salt is not None
                assert outputs.has_salt.shape == (2,)
                assert [each.shape for each in outputs.sides] == [(2, *size)]
            else:
                assert outputs.has_salt is None
                assert outputs.sides == ()


@pytest.mark.parametrize(("build", "divisor"), [(phalanx_v4, 32), (phalanx_v5, 16), (phalanx_resize, 32)])
def test_sizes_that_cannot_be_halved_so_often_are_refused(build: Build, divisor: int) -> None:
    with torch.device("meta"):
        net = build(SMALL)
        assert net(torch.zeros(1, 3, 3 * divisor, 3 * divisor)).mask.shape == (1, 3 * divisor, 3 * divisor)
        with pytest.raises(InputError, match=rf"framing\.size: .* multiples of {divisor}, found 101x101"):
            net(torch.zeros(1, 3, 101, 101))
        with pytest.raises(InputError, match=rf"multiples of {divisor}"):
            net(torch.zeros(1, 3, 3 * divisor, 3 * divisor + divisor // 2))


@pytest.mark.parametrize(
    ("build", "side", "stages", "steps"),
    [
        (phalanx_v4, 256, (128, 64, 32, 16), (8, 16, 32, 64, 128, 256)),
        (phalanx_v3, 256, (128, 64, 32, 16), (8, 16, 32, 64, 128, 256)),
        (phalanx_v5, 128, (128, 64, 32, 16), (8, 16, 32, 64, 128)),
        (phalanx_resize, 128, (64, 32, 16, 8), (4, 8, 16, 32, 64, 128)),
    ],
)
def test_maps_have_the_published_channels_and_sizes(
    build: Build, side: int, stages: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    seen: list[tuple[int, ...]] = []

    def note(_: object, __: object, found: torch.Tensor) -> None:
        seen.append((found.shape[1], *found.shape[2:]))

    with torch.device("meta"):
        net = build()
        later = [net.centre, *net.steps] + ([] if net.last is None else [net.last])
        for module in [*net.gates[1:], *later]:
            module.register_forward_hook(note)
        net(torch.zeros(1, 3, side, side))
    assert seen[:4] == [(width, at, at) for width, at in zip((64, 128, 256, 512), stages, strict=True)]
    assert seen[4] == (256, steps[0], steps[0])
    assert seen[5:] == [(64, at, at) for at in steps[1:]]


def scse(c: int, reduction: int) -> int:
    return (c * (c // reduction) + c // reduction) + (c // reduction * c + c) + c


def conv_norm(a: int, b: int, kernel: int = 3) -> int:
    return kernel * kernel * a * b + 2 * b


def resnet34(stem: int) -> int:
    """Published stages, 3, 4, 6 and 3 blocks of two 3x3 convolutions, each stage but the first with a projection."""

    def stage(a: int, b: int, depth: int) -> int:
        projection = conv_norm(a, b, 1) if a != b else 0
        return conv_norm(a, b) + conv_norm(b, b) + projection + (depth - 1) * 2 * conv_norm(b, b)

    return stem * 3 * 64 + 2 * 64 + stage(64, 64, 3) + stage(64, 128, 4) + stage(128, 256, 6) + stage(256, 512, 3)


def two_branch(a: int, skip: int) -> int:
    return (4 * a * 32 + 32) + skip * 32 + 2 * 64 + scse(64, 16)


def gcn(a: int, b: int) -> int:
    return 2 * ((7 * a * b + b) + (7 * b * b + b))


def attention_upsample(a: int, skip: int) -> int:
    channel = (64 * 4 + 4) + (4 * 64 + 64)
    return gcn(skip, 64) + (a * 64 + 64 if a != 64 else 0) + channel + (64 + 1)


GATES = scse(64, 4) + scse(128, 4) + scse(256, 4) + scse(512, 4)
PYRAMID = (
    (conv_norm(512, 512, 5) + conv_norm(512, 512, 3))
    + (conv_norm(512, 256, 5) + conv_norm(512, 256, 3))
    + (conv_norm(512, 256, 1) + 512 * 256)
)
TWO_BRANCHES = two_branch(256, 512) + two_branch(64, 256) + two_branch(64, 128) + two_branch(64, 64)
LAST = conv_norm(64, 32) + conv_norm(32, 64) + scse(64, 16)
FUSED = ((512 * 64 + 64) + (64 + 1)) + (conv_norm(320, 64) + (64 + 1)) + ((9 * 128 * 64 + 64) + (64 + 1))
JOINTS = attention_upsample(256, 512) + sum(attention_upsample(64, skip) for skip in (256, 128, 64))
COUNTS = {
    phalanx_v4: resnet34(49) + GATES + PYRAMID + TWO_BRANCHES + LAST + (9 * 320 * 64 + 64) + (64 + 1),
    phalanx_v3: resnet34(49) + GATES + PYRAMID + TWO_BRANCHES + LAST + FUSED,
    phalanx_v5: resnet34(9) + GATES + PYRAMID + TWO_BRANCHES + (9 * 256 * 32 + 32) + (32 + 1),
    phalanx_resize: resnet34(49) + GATES + conv_norm(512, 256) + gcn(256, 256) + JOINTS + LAST + FUSED,
}


@EVERY
def test_the_parameters_are_as_many_as_a_count_by_hand(build: Build) -> None:
    # torchvision's figure for the whole net with its classifier.
    assert resnet34(49) + 512 * 1000 + 1000 == 21_797_672
    with torch.device("meta"):
        assert sum(each.numel() for each in build().parameters()) == COUNTS[build]


@EVERY
def test_every_parameter_has_a_finite_gradient(build: Build) -> None:
    torch.manual_seed(0)
    net = build(SMALL, in_channels=2)
    outputs = net(torch.randn(2, 2, 64, 64))
    loss = outputs.mask.square().mean()
    if outputs.has_salt is not None:
        loss = loss + outputs.has_salt.square().mean() + sum(each.square().mean() for each in outputs.sides)
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("build", [phalanx_v4, phalanx_v5])
def test_trained_weights_fill_the_encoder(build: Build, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = timm.create_model(SMALL, pretrained=False).state_dict()
    for value in trained.values():
        if value.is_floating_point():
            nn.init.uniform_(value)
    safetensors.torch.save_file(trained, tmp_path / "trained.safetensors")
    net = build(SMALL)
    load_encoder_weights(net.encoder, SMALL, str(tmp_path / "trained.safetensors"))
    filled = net.encoder.model.state_dict()
    absent = {"fc.weight", "fc.bias"} | ({"conv1.weight"} if build is phalanx_v5 else set())
    assert filled.keys() == trained.keys() - absent
    assert all(torch.equal(value, trained[name]) for name, value in filled.items())


@EVERY
def test_encoders_of_another_family_are_refused(build: Build) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=r"net\.encoder\.\w+: .*vgg11"):
        build("vgg11")


def test_a_step_agrees_with_its_two_branches_written_out() -> None:
    torch.manual_seed(0)
    step = TwoBranchStep(3, 5, 64).eval()
    maps, skip = torch.randn(1, 3, 4, 4), torch.randn(1, 5, 8, 8)
    joined = torch.empty(1, 64, 8, 8)
    assert step.enlarge.bias is not None
    for i in range(8):
        for j in range(8):
            corner = step.enlarge.weight[:, :, i % 2, j % 2]
            joined[0, :32, i, j] = maps[0, :, i // 2, j // 2] @ corner + step.enlarge.bias
            joined[0, 32:, i, j] = step.skip.weight[:, :, 0, 0] @ skip[0, :, i, j]
    torch.testing.assert_close(step(maps, skip), step.gate((joined / (1 + 1e-5) ** 0.5).relu()), rtol=1e-4, atol=1e-5)


def test_the_hypercolumn_holds_every_step_at_the_images_size() -> None:
    torch.manual_seed(0)
    net: Any = phalanx_v4(SMALL).eval()
    columns: list[torch.Tensor] = []
    steps: list[torch.Tensor] = []
    net.head.register_forward_pre_hook(lambda _, given: columns.append(given[0]))
    for step in [*net.steps, net.last]:
        step.register_forward_hook(lambda _, __, found: steps.append(found))
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 64))
    parts = columns[0].chunk(5, dim=1)
    assert [each.shape for each in parts] == [(1, 64, 64, 64)] * 5
    for part, step in zip(parts, steps, strict=True):
        last = step.shape[-1] - 1
        # Corners stay where they are, and so does every pixel that falls on one of the fine map's.
        torch.testing.assert_close(
            part[..., [0, 0, -1, -1], [0, -1, 0, -1]], step[..., [0, 0, last, last], [0, last, 0, last]]
        )
    torch.testing.assert_close(parts[-1], steps[-1])


def test_the_has_salt_logit_is_the_empty_logit_turned_round() -> None:
    head = FusedHead(6, 4, dropout=0.4).eval()
    nn.init.zeros_(head.empty.weight)
    nn.init.constant_(head.empty.bias, 3.0)
    has_salt = head(torch.randn(2, 6, 8, 8), torch.randn(2, 4, 2, 2)).has_salt
    assert torch.equal(has_salt, torch.tensor([-3.0, -3.0]))


def test_the_fused_mask_sees_pixels_and_image_and_each_other_output_one_of_them() -> None:
    torch.manual_seed(0)
    head = FusedHead(6, 4, dropout=0.4).eval()
    column, deepest = torch.randn(1, 6, 8, 8), torch.randn(1, 4, 2, 2)
    before, other_image, other_pixels = head(column, deepest), head(column, deepest + 1), head(column + 1, deepest)
    assert not torch.allclose(before.mask, other_image.mask)
    assert torch.equal(before.sides[0], other_image.sides[0])
    assert not torch.allclose(before.has_salt, other_image.has_salt)
    assert not torch.allclose(before.mask, other_pixels.mask)
    assert not torch.allclose(before.sides[0], other_pixels.sides[0])
    assert torch.equal(before.has_salt, other_pixels.has_salt)


@pytest.mark.parametrize(("dropout", "acts"), [(0.0, False), (0.4, True)])
def test_dropout_of_model_c_acts_only_where_a_recipe_asks_for_it(dropout: float, acts: bool) -> None:
    torch.manual_seed(0)
    head = PixelHead(16, 8, dropout=dropout)
    column, deepest = torch.randn(1, 16, 8, 8), torch.empty(0)
    in_training = head(column, deepest).mask
    assert torch.allclose(in_training, head.eval()(column, deepest).mask) != acts
    with torch.device("meta"):
        dropouts = [each.p for each in phalanx_v5(SMALL).modules() if isinstance(each, nn.Dropout2d)]
    assert dropouts == [0.0]
