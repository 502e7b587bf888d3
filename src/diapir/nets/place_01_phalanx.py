"""First place, models B ("v4"), B2 ("v3"), C ("v5") and D: ResNet34 U-Nets with gated stages, alike but for few parts.

They see the image, a ramp down its rows, and the product of both. Every upsampling is bilinear with the corners of both
maps on each other.

Source: b.e.s. & phalanx. Model D was never released: `phalanx_resize` is a reconstruction.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.attention import FeaturePyramidAttention, GlobalAttentionUpsample, GlobalConvolution, upsample_to
from diapir.nets.blocks import ConvNormAct, ScSE, gated_maps, require_multiple
from diapir.nets.encoders import TimmEncoder
from diapir.nets.unet import Outputs

_WIDTH = 64
"""Channels of every decoder step."""


def phalanx_v4(encoder_name: str = "resnet34", *, in_channels: int = 3) -> "PhalanxUNet":
    """Model B, of the first place's stage 1: for 202 pixels padded to 256.

    Raises:
        InputError: timm has no such encoder, or it is no ResNet.
    """
    encoder = _encoder(encoder_name, in_channels=in_channels, stem="stride")
    last = DoublingStep(_WIDTH)
    head = PixelHead(5 * _WIDTH, 64)
    return PhalanxUNet(encoder, centre=_pyramid_centre(encoder), steps=_two_branch_steps(encoder), last=last, head=head)


def phalanx_v3(encoder_name: str = "resnet34", *, in_channels: int = 3, dropout: float = 0.4) -> "PhalanxUNet":
    """Model B2, of stage 2: B with a has-salt head, whose features the mask's head sees.

    Args:
        dropout: of both heads' inputs.

    Raises:
        InputError: timm has no such encoder, or it is no ResNet.
    """
    encoder = _encoder(encoder_name, in_channels=in_channels, stem="stride")
    last = DoublingStep(_WIDTH)
    head = FusedHead(5 * _WIDTH, encoder.channels[-1], dropout=dropout)
    return PhalanxUNet(encoder, centre=_pyramid_centre(encoder), steps=_two_branch_steps(encoder), last=last, head=head)


def phalanx_v5(encoder_name: str = "resnet34", *, in_channels: int = 3, dropout: float = 0.0) -> "PhalanxUNet":
    """Model C, of stage 3 and the final blend: for 101 pixels padded to 128, at full size from its first layer on.

    Args:
        dropout: of the head's input. The team's code names 0.4, but called it so that it never acted.

    Raises:
        InputError: timm has no such encoder, or it is no ResNet.
    """
    encoder = _encoder(encoder_name, in_channels=in_channels, stem="none")
    # A new convolution in place of the 7x7, outside the encoder, where trained weights would not find it.
    stages: Any = encoder.model
    stages.conv1 = nn.Identity()
    return PhalanxUNet(
        encoder,
        stem=nn.Conv2d(in_channels, encoder.channels[0], 3, padding=1, bias=False),
        centre=_pyramid_centre(encoder),
        steps=_two_branch_steps(encoder),
        head=PixelHead(4 * _WIDTH, 32, dropout=dropout),
    )


def phalanx_resize(encoder_name: str = "resnet34", *, in_channels: int = 3, dropout: float = 0.4) -> "PhalanxUNet":
    """Model D, for 101 pixels resized to 128: a reconstruction, for the team never released it.

    Its summary names a global convolution in the centre, attention upsampling and deep supervision. Assumed are the
    widths, the kernel of 7, B's last step to full size, and B2's heads for the deep supervision.

    Args:
        dropout: of both heads' inputs.

    Raises:
        InputError: timm has no such encoder, or it is no ResNet.
    """
    encoder = _encoder(encoder_name, in_channels=in_channels, stem="stride")
    deepest = encoder.channels[-1]
    narrow = deepest // 2
    centre = nn.Sequential(ConvNormAct(deepest, narrow), GlobalConvolution(narrow, narrow, kernel=7), nn.MaxPool2d(2))
    befores = (narrow, *[_WIDTH] * (len(encoder.channels) - 2))
    steps = [
        GlobalAttentionUpsample(before, skip, _WIDTH, reduction=16, kernel=7)
        for before, skip in zip(befores, encoder.channels[:0:-1], strict=True)
    ]
    last = DoublingStep(_WIDTH)
    head = FusedHead(5 * _WIDTH, deepest, dropout=dropout)
    return PhalanxUNet(encoder, centre=centre, steps=steps, last=last, head=head)


class PhalanxUNet(nn.Module):
    """ResNet with a gate after each stage, centre, decoder steps, and a head that sees all of their maps.

    Args:
        stem: before the encoder.
        centre: from the deepest map to one of half its size.
        steps: (coarse, skip) -> `_WIDTH` channels at the skip's size; deepest first, one for each gated stage.
        last: from the last step's map to one of twice its size, where that is not the image's size yet.
        head: (hypercolumn, deepest map) -> outputs.
    """

    def __init__(
        self,
        encoder: TimmEncoder,
        *,
        centre: nn.Module,
        steps: Sequence[nn.Module],
        head: nn.Module,
        stem: nn.Module | None = None,
        last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stem = nn.Identity() if stem is None else stem
        self.encoder = encoder
        gates = [ScSE(channels, reduction=4, spatial_bias=False) for channels in encoder.channels[1:]]
        self.gates = nn.ModuleList([nn.Identity(), *gates])
        self.centre = centre
        self.steps = nn.ModuleList(steps)
        self.last = last
        self.head = head
        # Every stage but the first halves, and so does the centre.
        self.divisor = encoder.stride * 2 ** (len(encoder.channels) - 1)

    def forward(self, image: Tensor) -> Outputs:
        """Mask logits as large as `image`, (n, c, h, w) with h and w multiples of `divisor`."""
        require_multiple(image, self.divisor)
        maps = gated_maps(self.encoder.model, self.stem(image), gates=self.gates)
        current, found = self.centre(maps[-1]), []
        for step, skip in zip(self.steps, maps[:0:-1], strict=True):
            current = step(current, skip)
            found.append(current)
        if self.last is not None:
            current = self.last(current)
            found.append(current)
        column = torch.cat([upsample_to(each, current) for each in found], dim=1)
        outputs: Outputs = self.head(column, maps[-1])
        return outputs


class TwoBranchStep(nn.Module):
    """The coarse map, doubled by a 2x2 transposed convolution, beside a 1x1 one of the skip; norm, ReLU, gate."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.enlarge = nn.ConvTranspose2d(in_channels, half, 2, stride=2)
        self.skip = nn.Conv2d(skip_channels, half, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.gate = ScSE(out_channels, reduction=16, spatial_bias=False)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        joined = torch.cat([self.enlarge(maps), self.skip(skip)], dim=1)
        gated: Tensor = self.gate(F.relu(self.norm(joined)))
        return gated


class DoublingStep(nn.Module):
    """To twice the size without a skip: upsample, two 3x3 convolutions with half the channels between them, gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.narrow = ConvNormAct(channels, channels // 2, activation="elu")
        self.widen = ConvNormAct(channels // 2, channels, activation="elu")
        self.gate = ScSE(channels, reduction=16, spatial_bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        gated: Tensor = self.gate(self.widen(self.narrow(self.enlarge(maps))))
        return gated


class PixelHead(nn.Module):
    """Hypercolumn -> mask: dropout of maps, 3x3 convolution to `width`, ELU, 1x1 convolution."""

    def __init__(self, channels: int, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.features = nn.Conv2d(channels, width, 3, padding=1)
        self.mask = nn.Conv2d(width, 1, 1)

    def forward(self, column: Tensor, _deepest: Tensor) -> Outputs:
        mask: Tensor = self.mask(F.elu(self.features(self.dropout(column))))
        return Outputs(mask[:, 0], None)


class FusedHead(nn.Module):
    """Has-salt head, pixel head, and a mask from the features of both; the pixel head's logits are a side output.

    The team's head gave the logit of an empty tile; here it is turned round, so that all nets mean the same.

    Args:
        column_channels: of the hypercolumn.
        deepest_channels: of the encoder's last map.
        dropout: of the pixel head's maps and the has-salt head's features.
    """

    def __init__(self, column_channels: int, deepest_channels: int, *, dropout: float, width: int = 64) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Dropout(dropout), nn.Linear(deepest_channels, width), nn.ELU())
        self.empty = nn.Linear(width, 1)
        self.pixel = nn.Sequential(nn.Dropout2d(dropout), ConvNormAct(column_channels, width, activation="elu"))
        self.side = nn.Conv2d(width, 1, 1)
        self.fuse = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.ELU(), nn.Conv2d(width, 1, 1))

    def forward(self, column: Tensor, deepest: Tensor) -> Outputs:
        image = self.image(deepest.mean((2, 3)))
        pixel = self.pixel(column)
        everywhere = image[:, :, None, None].expand(-1, -1, *pixel.shape[-2:])
        mask = self.fuse(torch.cat([pixel, everywhere], dim=1))
        return Outputs(mask[:, 0], -self.empty(image)[:, 0], (self.side(pixel)[:, 0],))


def _encoder(name: str, *, in_channels: int, stem: Literal["stride", "none"]) -> TimmEncoder:
    encoder = TimmEncoder(name, in_channels=in_channels, stem=stem)
    if not all(hasattr(encoder.model, stage) for stage in ("conv1", "layer1", "layer2", "layer3", "layer4")):
        raise InputError.of("net.encoder.name", f"expected a ResNet, such as resnet34, found '{name}'")
    return encoder


def _pyramid_centre(encoder: TimmEncoder) -> nn.Module:
    deepest = encoder.channels[-1]
    return nn.Sequential(FeaturePyramidAttention(deepest, deepest // 2), nn.MaxPool2d(2))


def _two_branch_steps(encoder: TimmEncoder) -> list[nn.Module]:
    before, steps = encoder.channels[-1] // 2, list[nn.Module]()
    for skip in encoder.channels[:0:-1]:
        steps.append(TwoBranchStep(before, skip, _WIDTH))
        before = _WIDTH
    return steps
