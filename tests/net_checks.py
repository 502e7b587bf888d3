"""What tests of whole nets share: gradients, and the parameters of an encoder counted by hand."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from diapir.nets.unet import Outputs


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def conv(in_channels: int, out_channels: int, kernel: int = 3, *, groups: int = 1, bias: bool = False) -> int:
    return kernel * kernel * (in_channels // groups) * out_channels + bias * out_channels


def norm(channels: int) -> int:
    return 2 * channels


def senet_stages(stem: int, *, blocks: Sequence[int], groups: int, inner: tuple[int, int], shortcut_kernel: int) -> int:
    """Parameters of the four stages of a senet with bottlenecks, written out from its paper.

    Args:
        stem: channels that the first stage sees.
        inner: channels after the first and after the second convolution, in units of the stage's planes.
        shortcut_kernel: of the projections of stages 2 to 4; the first stage's is 1.
    """
    total, before = 0, stem
    for stage, (planes, depth) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
        first, second, out = inner[0] * planes, inner[1] * planes, 4 * planes
        for index in range(depth):
            total += conv(before, first, 1) + norm(first)
            total += conv(first, second, groups=groups) + norm(second)
            total += conv(second, out, 1) + norm(out)
            total += conv(out, out // 16, 1, bias=True) + conv(out // 16, out, 1, bias=True)
            if index == 0:
                total += conv(before, out, shortcut_kernel if stage else 1) + norm(out)
            before = out
    return total


def senet154(in_channels: int) -> int:
    """SENet154: three 3x3 convolutions in the stem, 64 groups, 3 + 8 + 36 + 3 blocks."""
    stem = conv(in_channels, 64) + norm(64) + conv(64, 64) + norm(64) + conv(64, 128) + norm(128)
    return stem + senet_stages(128, blocks=(3, 8, 36, 3), groups=64, inner=(2, 4), shortcut_kernel=3)


def se_resnext50(in_channels: int) -> int:
    """SE-ResNeXt-50 32x4d: one 7x7 convolution in the stem, 32 groups, 3 + 4 + 6 + 3 blocks."""
    stem = conv(in_channels, 64, 7) + norm(64)
    return stem + senet_stages(64, blocks=(3, 4, 6, 3), groups=32, inner=(2, 2), shortcut_kernel=1)


def assert_every_parameter_learns(net: nn.Module, images: torch.Tensor) -> None:
    """All outputs together reach every parameter with a finite gradient, every convolution with one that shows."""
    outputs: Outputs = net(images)
    assert outputs.has_salt is not None
    parts = [outputs.mask, outputs.has_salt, *outputs.sides]
    loss: Any = sum(part.square().mean() for part in parts)
    loss.backward()
    grads = {name: each.grad for name, each in net.named_parameters()}
    assert [name for name, each in grads.items() if each is None or not each.isfinite().all()] == []
    still = [name for name, each in grads.items() if each is not None and each.ndim == 4 and not each.any()]
    # Over so small a batch the ReLU of a gate may be off everywhere; that of a convolution may not.
    assert [name for name in still if not any(gate in name for gate in ("se_module", "squeeze", "excite"))] == []
