"""First place, model A: a ResNeXt50 U-Net whose skips are taken inside the encoder's stages."""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

import torch
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import ConvNormAct, ScSE, require_multiple
from diapir.nets.encoders import TimmEncoder
from diapir.nets.unet import Outputs

Upsample = Literal["transpose", "bilinear"]

_INSIDE = ("layer2", "layer3", "layer4")
_DIVISOR = 32


class BesUNet(nn.Module):
    """Model A: transposed convolutions, a gate of every channel at every pixel, no centre, no hypercolumn.

    It normalises the image itself: give it grey values without mean and deviation taken out.

    Args:
        encoder_name: a timm ResNet of bottleneck blocks.
        widths: of the five decoder steps, deepest first.
        upsample: `transpose` as in the team's code; `bilinear` as in its slides: a reconstruction, see `TransposeStep`.
        dropout: share of the head's input maps dropped in training.
        norm_momentum: share of a batch in the running statistics of every batch norm; the published one needs some
            500 steps before the statistics are worth using.

    Raises:
        InputError: timm has no such encoder, or it has no bottleneck blocks.

    Source: b.e.s. & phalanx, model A (ResNeXt50, 192 padded to 224).
    """

    def __init__(
        self,
        encoder_name: str = "resnext50_32x4d",
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (128, 64, 32, 16, 8),
        upsample: Upsample = "transpose",
        dropout: float = 0.2,
        norm_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        self.input_norm = ShiftingNorm(in_channels)
        self.encoder = TimmEncoder(encoder_name, in_channels=in_channels, stem="max_pool")
        # Deepest first, as the decoder meets them; the last step has none.
        skips = [*reversed(_inner_widths(self.encoder, encoder_name)), self.encoder.channels[0], 0]
        self.steps = nn.ModuleList()
        before = self.encoder.channels[-1]
        for skip, width in zip(skips, widths, strict=True):
            self.steps.append(TransposeStep(before, skip, width, upsample=upsample))
            before = width
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(before, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 2e-5, norm_momentum

    def forward(self, image: Tensor) -> Outputs:
        """Mask logits as large as `image`, (n, c, h, w) with h and w multiples of 32."""
        require_multiple(image, _DIVISOR)
        maps, skips = self._encode(self.input_norm(image))
        for step, skip in zip(self.steps, [*reversed(skips), None], strict=True):
            maps = step(maps, skip)
        return Outputs(self.head(self.dropout(maps))[:, 0], None)

    def _encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The deepest map, and the skips from the finest to the deepest."""
        stages: Any = self.encoder.model
        maps, skips = image, list[Tensor]()
        for name, stage in stages.items():
            if name in _INSIDE:
                first, *rest = stage
                inner, maps = run_bottleneck(first, maps)
                skips.append(inner)
                for block in rest:
                    maps = block(maps)
            else:
                maps = stage(maps)
                if name == "act1":
                    skips.append(maps)
        return maps, skips


class ShiftingNorm(nn.Module):
    """Batch norm with a shift and no scale, in place of a fixed mean and deviation of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        shifted: Tensor = self.norm(image) + self.shift
        return shifted


class TransposeStep(nn.Module):
    """Double the size, concatenate the skip, 3x3 convolution, gate.

    Doubling is a 4x4 transposed convolution. With `bilinear`, which only the team's slides name ("conv3x3 + BN,
    upsampling"), it is a 3x3 convolution and interpolation: a reconstruction.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, upsample: Upsample) -> None:
        super().__init__()
        match upsample:
            case "transpose":
                self.enlarge = nn.Sequential(
                    nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(inplace=True),
                )
            case "bilinear":
                self.enlarge = nn.Sequential(
                    ConvNormAct(in_channels, out_channels), nn.Upsample(scale_factor=2, mode="bilinear")
                )
            case _:
                assert_never(upsample)
        self.join = ConvNormAct(out_channels + skip_channels, out_channels)
        self.gate = ScSE(out_channels, reduction=2, spatial="each")

    def forward(self, maps: Tensor, skip: Tensor | None) -> Tensor:
        doubled = self.enlarge(maps)
        gated: Tensor = self.gate(self.join(doubled if skip is None else torch.cat([doubled, skip], dim=1)))
        return gated


def run_bottleneck(block: Any, maps: Tensor) -> tuple[Tensor, Tensor]:
    """What timm's bottleneck block holds after its first convolution, norm and activation, and what it gives."""
    inner = block.act1(block.bn1(block.conv1(maps)))
    change = block.aa(block.act2(block.drop_block(block.bn2(block.conv2(inner)))))
    change = block.bn3(block.conv3(change))
    if block.se is not None:
        change = block.se(change)
    shortcut = maps if block.downsample is None else block.downsample(maps)
    return inner, block.act3(change + shortcut)


def _inner_widths(encoder: TimmEncoder, name: str) -> list[int]:
    stages: Any = encoder.model
    firsts = [stages[stage][0] for stage in _INSIDE if hasattr(stages, stage)]
    if len(firsts) != len(_INSIDE) or not all(isinstance(first, Bottleneck) for first in firsts):
        raise InputError.of(
            "net.encoder.name", f"expected a ResNet of bottleneck blocks, such as resnext50_32x4d, found '{name}'"
        )
    return [first.conv1.out_channels for first in firsts]
