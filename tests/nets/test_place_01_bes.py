from typing import Any, Literal

import pytest
import timm
import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.place_01_bes import BesUNet, ShiftingNorm

SMALL = "resnet26"  # bottleneck blocks as in the published encoder, half as many and without groups
MULTIPLES = [(224, 224), (128, 128), (256, 256), (32, 96)]


@pytest.mark.parametrize("upsample", ["transpose", "bilinear"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_masks_are_as_large_as_the_image(upsample: Literal["transpose", "bilinear"], in_channels: int) -> None:
    with torch.device("meta"):
        net = BesUNet(in_channels=in_channels, upsample=upsample)
        for height, width in MULTIPLES:
            outputs = net(torch.zeros(2, in_channels, height, width))
            assert outputs.mask.shape == (2, height, width)
            assert outputs.has_salt is None
            assert outputs.sides == ()


@pytest.mark.parametrize("size", [(224, 101), (202, 224)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        net = BesUNet(SMALL)
        with pytest.raises(InputError, match=rf"framing\.size: .* multiples of 32, found {size[0]}x{size[1]}"):
            net(torch.zeros(1, 3, *size))


def test_maps_have_the_published_channels_and_sizes() -> None:
    with torch.device("meta"):
        net = BesUNet()
        deepest, skips = net._encode(torch.zeros(1, 3, 224, 224))
        assert deepest.shape[1:] == (2048, 7, 7)
        assert [each.shape[1:] for each in skips] == [(64, 112, 112), (256, 56, 56), (512, 28, 28), (1024, 14, 14)]
        sizes: list[tuple[int, ...]] = []
        for step in net.steps:
            step.register_forward_hook(lambda _, __, found: sizes.append(tuple(found.shape[1:])))
        net(torch.zeros(1, 3, 224, 224))
    assert sizes == [(128, 14, 14), (64, 28, 28), (32, 56, 56), (16, 112, 112), (8, 224, 224)]


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def bottleneck(a: int, inner: int, b: int, *, groups: int, projects: bool) -> int:
        convs = a * inner + 9 * inner * inner // groups + inner * b
        return convs + 2 * inner + 2 * inner + 2 * b + (a * b + 2 * b if projects else 0)

    def stage(a: int, inner: int, b: int, depth: int) -> int:
        first = bottleneck(a, inner, b, groups=32, projects=True)
        return first + (depth - 1) * bottleneck(b, inner, b, groups=32, projects=False)

    def scse(c: int) -> int:
        return (c * c // 2 + c // 2) + (c // 2 * c + c) + (c * c + c)

    def step(a: int, skip: int, b: int, *, double: int) -> int:
        return (double * a * b + 2 * b) + (9 * (b + skip) * b + 2 * b) + scse(b)

    encoder = 49 * 3 * 64 + 2 * 64
    encoder += stage(64, 128, 256, 3) + stage(256, 256, 512, 4) + stage(512, 512, 1024, 6) + stage(1024, 1024, 2048, 3)
    # torchvision's figure for the whole net with its classifier.
    assert encoder + 2048 * 1000 + 1000 == 25_028_904
    steps = ((2048, 1024, 128), (128, 512, 64), (64, 256, 32), (32, 64, 16), (16, 0, 8))
    shift, head = 3, 8 + 1
    with torch.device("meta"):
        transposed, interpolated = BesUNet(), BesUNet(upsample="bilinear")
    for net, double in ((transposed, 16), (interpolated, 9)):
        decoder = sum(step(a, skip, b, double=double) for a, skip, b in steps)
        assert sum(each.numel() for each in net.parameters()) == shift + encoder + decoder + head


def randomise_norms(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]  # it is a tensor where tracked
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["resnet26", "seresnet50"])
def test_the_encoder_runs_as_timm_runs_it_and_skips_are_what_its_blocks_hold(name: str) -> None:
    torch.manual_seed(0)
    theirs: Any = timm.create_model(name, pretrained=False, features_only=True).eval()
    randomise_norms(theirs)
    net = BesUNet(name).eval()
    net.encoder.model.load_state_dict(theirs.state_dict())
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 2e-5
    held: list[Tensor] = []
    for act in (theirs.act1, theirs.layer2[0].act1, theirs.layer3[0].act1, theirs.layer4[0].act1):
        act.register_forward_hook(lambda _, __, found: held.append(found.clone()))
    image = torch.randn(1, 3, 32, 64)
    expected = theirs(image)[-1]
    deepest, skips = net._encode(image)
    torch.testing.assert_close(deepest, expected)
    torch.testing.assert_close(skips, held)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_encoders_without_bottleneck_blocks_are_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=rf"bottleneck blocks, .* found '{name}'"):
        BesUNet(name)


def test_the_image_is_normalised_and_shifted_but_not_scaled() -> None:
    torch.manual_seed(0)
    norm = ShiftingNorm(2)
    assert [tuple(each.shape) for each in norm.parameters()] == [(2, 1, 1)]
    nn.init.constant_(norm.shift, 3.0)
    image = 40 * torch.randn(4, 2, 16, 16) + torch.tensor([100.0, -5.0])[:, None, None]
    found = norm(image)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.full((2,), 3.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.std((0, 2, 3), correction=0), torch.ones(2), rtol=0, atol=1e-4)


def test_every_norm_has_the_published_constants() -> None:
    with torch.device("meta"):
        for momentum in (0.01, 0.1):
            net = BesUNet(SMALL, norm_momentum=momentum)
            norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
            assert {(each.eps, each.momentum) for each in norms} == {(2e-5, momentum)}
        assert {each.momentum for each in BesUNet(SMALL).modules() if isinstance(each, nn.BatchNorm2d)} == {0.01}


@pytest.mark.parametrize("upsample", ["transpose", "bilinear"])
def test_every_parameter_has_a_finite_gradient(upsample: Literal["transpose", "bilinear"]) -> None:
    torch.manual_seed(0)
    net = BesUNet(SMALL, in_channels=1, upsample=upsample)
    net(255 * torch.rand(2, 1, 64, 64)).mask.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_dropout_drops_whole_maps_before_the_head_in_training_alone() -> None:
    torch.manual_seed(0)
    net = BesUNet(SMALL, dropout=0.5)
    maps = torch.ones(8, 8, 3, 3)
    assert set(net.dropout(maps).mean((2, 3)).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(net.eval().dropout(maps), maps)
