from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import ScSE, gated_maps
from diapir.nets.coord import append_coordinates
from diapir.nets.place_28 import Place28Net
from diapir.nets.weights import load_encoder_weights

SMALL = "resnet10t"


@cache
def published() -> Place28Net:
    with torch.device("meta"):
        return Place28Net()


def small(in_channels: int = 3, *, coordinates: bool = False) -> Place28Net:
    torch.manual_seed(0)
    return Place28Net(in_channels, encoder=SMALL, base=2, coordinates=coordinates)


@pytest.mark.parametrize("side", [101, 128])
def test_the_published_net_gives_a_mask_as_large_as_the_tile(side: int) -> None:
    with torch.device("meta"):
        outputs = published()(torch.zeros(2, 3, side, side))
    assert outputs.mask.shape == (2, side, side)
    assert outputs.has_salt is None
    assert outputs.sides == ()


def test_any_size_and_any_base_and_encoder_give_a_mask_as_large_as_the_image() -> None:
    finest = list[Tensor]()
    with torch.device("meta"):
        for net in (Place28Net(1, encoder="resnet18", base=4), Place28Net(1, encoder=SMALL, base=16)):
            net.columns[-1].register_forward_hook(lambda module, inputs, output: finest.append(output))
            for height, width in [(64, 101), (101, 64), (33, 47), (127, 102), (128, 128)]:
                assert net(torch.zeros(2, 1, height, width)).mask.shape == (2, height, width)
                # The last step comes out at the image's size: interpolation need not make up for it.
                assert finest.pop().shape == (2, 1, height, width)


def test_the_maps_of_a_tile_of_128_have_the_widths_and_sizes_of_the_table() -> None:
    net, found = published(), list[tuple[int, ...]]()

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.extend([tuple(each.shape[1:]) for each in (*inputs, output)])

    handles = [module.register_forward_hook(note) for module in (*net.gates, *net.steps)]
    with torch.device("meta"):
        net(torch.zeros(1, 3, 128, 128))
    for handle in handles:
        handle.remove()
    stem = [(64, 128, 128), (64, 64, 64)]
    layers = [
        each for side, width in ((64, 256), (32, 512), (16, 1024), (8, 2048)) for each in [(width, side, side)] * 2
    ]
    decoder = [
        *((2048, 8, 8), (256, 16, 16)),
        *((1024 + 256, 16, 16), (256, 32, 32)),
        *((512 + 256, 32, 32), (64, 64, 64)),
        *((256 + 64, 64, 64), (128, 128, 128)),
    ]
    assert found == stem + layers + decoder


def test_the_parameters_are_as_many_as_a_count_by_hand() -> None:
    def squeeze(c: int) -> int:
        return c * (c // 16) + c // 16 + (c // 16) * c + c

    def gate(c: int) -> int:
        return squeeze(c) + (c * 16 + 16) + (16 + 1)

    def bottleneck(a: int, planes: int, *, first: bool) -> int:
        wide, out = 2 * planes, 4 * planes  # 32 groups of 4 channels at 64 planes
        convs = a * wide + 9 * wide * (wide // 32) + wide * out
        shortcut = a * out + 2 * out if first else 0
        return convs + 2 * wide + 2 * wide + 2 * out + squeeze(out) + shortcut

    def layer(a: int, planes: int, depth: int) -> int:
        return bottleneck(a, planes, first=True) + (depth - 1) * bottleneck(4 * planes, planes, first=False)

    def step(a: int, middle: int, out: int) -> int:
        return 9 * a * middle + 2 * middle + 16 * middle * out + 2 * out + gate(out)

    stem = 49 * 3 * 64 + 2 * 64
    encoder = stem + layer(64, 64, 3) + layer(256, 128, 4) + layer(512, 256, 6) + layer(1024, 512, 3)
    gates = gate(64) + gate(256) + gate(512) + gate(1024) + gate(2048)
    decoder = step(2048, 512, 256) + step(1024 + 256, 512, 256) + step(512 + 256, 256, 64) + step(256 + 64, 128, 128)
    columns = (16 * 256 + 1) + (16 * 256 + 1) + (16 * 64 + 1) + (128 + 1)
    head = 4 + 1
    assert sum(each.numel() for each in published().parameters()) == encoder + gates + decoder + columns + head


def test_the_gates_are_those_of_the_team() -> None:
    gates = [module for module in published().modules() if isinstance(module, ScSE)]
    assert len(gates) == 5 + 4
    for gate in gates:
        channels = gate.channel.squeeze.in_channels
        assert gate.channel.squeeze.out_channels == channels // 16
        assert gate.channel.pool == "avg"
        assert isinstance(gate.spatial, nn.Sequential)
        assert [tuple(each.weight.shape[:2]) for each in gate.spatial if isinstance(each, nn.Conv2d)] == [
            (16, channels),
            (1, 16),
        ]


def test_without_its_gates_the_encoder_is_timms_with_a_stem_of_stride_1_and_a_pool_of_2() -> None:
    net = small().eval()
    theirs: Any = timm.create_model(SMALL, features_only=True).eval()
    theirs.load_state_dict(net.encoder.model.state_dict())
    theirs.conv1[0].stride = (1, 1)
    theirs.maxpool = nn.MaxPool2d(2)
    image = torch.randn(2, 3, 64, 64)
    first: Any = net.gates[0]
    gates = [first[0], *[nn.Identity()] * 4]
    stem, *layers = gated_maps(net.encoder.model, image, gates=gates)
    full, *wanted = theirs(image)
    torch.testing.assert_close(stem, theirs.maxpool(full))
    torch.testing.assert_close(layers, wanted)


def test_the_mask_is_a_sum_of_the_four_upsampled_columns() -> None:
    net, decoded = small().eval(), list[Tensor]()
    for step in net.steps:
        step.register_forward_hook(lambda module, inputs, output: decoded.append(output))
    mask = net(torch.randn(2, 3, 128, 128)).mask
    assert net.head.bias is not None
    expected = net.head.bias.expand_as(mask).clone()
    for index, (column, maps, scale) in enumerate(zip(net.columns, decoded, (16, 8, 4, 1), strict=True)):
        single = column(maps)
        large = F.interpolate(single, scale_factor=scale, mode="bilinear") if scale > 1 else single
        expected += net.head.weight[0, index] * large[:, 0]
    torch.testing.assert_close(mask, expected)


def test_every_parameter_learns_and_no_gradient_is_broken() -> None:
    net = small()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(
                module.weight
            )  # timm's residual blocks start shut: their insides learn from the second step on
    net(torch.randn(2, 3, 47, 33)).mask.square().mean().backward()
    assert [name for name, each in net.named_parameters() if each.grad is None or not each.grad.isfinite().all()] == []
    # Over so small a batch the ReLU of a gate may be off everywhere; that of a convolution may not.
    convs = {name: each for name, each in net.named_parameters() if each.ndim == 4 and "gates" not in name}
    still = [name for name, each in convs.items() if each.grad is not None and not each.grad.any()]
    assert [name for name in still if "squeeze" not in name and "excite" not in name and "spatial" not in name] == []


def test_trained_weights_of_timm_fill_the_encoder(tmp_path: Path) -> None:
    trained = timm.create_model(SMALL)
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "trained.safetensors")
    net = small()
    load_encoder_weights(net.encoder, SMALL, str(tmp_path / "trained.safetensors"))
    full = trained.state_dict()
    own = net.encoder.model.state_dict()
    assert own.keys() == {name for name in full if not name.startswith("fc.")}
    assert all(torch.equal(own[name], full[name]) for name in own)


def test_coordinates_are_seen_by_the_stem() -> None:
    net, plain = small(2, coordinates=True).eval(), small(4).eval()
    plain.load_state_dict(net.state_dict())
    image = torch.randn(1, 2, 33, 33)
    torch.testing.assert_close(net(image).mask, plain(append_coordinates(image)).mask)


@pytest.mark.parametrize("encoder", ["convnext_atto", "no_such_net"])
def test_an_encoder_without_the_parts_is_refused(encoder: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=r"^net\.encoder\."):
        Place28Net(encoder=encoder)
