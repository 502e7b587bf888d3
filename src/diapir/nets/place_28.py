"""The net of the 28th place: a gated SE-ResNeXt50, a decoder that doubles, and a hypercolumn of one map a step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import ConvNormAct, ScSE, gated_maps
from diapir.nets.coord import append_coordinates
from diapir.nets.encoders import TimmEncoder
from diapir.nets.unet import Outputs

_NUM_MAPS = 5  # of the stem and of four layers


class Place28Net(nn.Module):
    """U-Net whose encoder is gated after the stem and after every layer; the mask is as large as the image.

    Args:
        in_channels: of the image. The released code has image, relative depth, and image times row ramp; the team's
            figure has image and relative depth, and `coordinates`.
        encoder: timm model of a strided stem, one max-pool and four layers. The stem's stride becomes 1 (its trained
            weights fit as they are), its max-pool 2x2.
        base: filters that all widths of the decoder are multiples of; the team tried 16 as well.
        coordinates: append ramps of x and y to the image, so that the stem is a CoordConv.

    Raises:
        InputError: timm has no such encoder, or not one of these parts.

    Source: 28th place of the TGS competition (Ashrapov, Karchevskiy, Kozinkin), released code and poster. Its biases of
    convolutions before a batch norm, which takes them out again, are left out.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        encoder: str = "legacy_seresnext50_32x4d",
        base: int = 32,
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.encoder = TimmEncoder(encoder, in_channels=in_channels + 2 * coordinates, stem="none")
        if len(getattr(self.encoder.model, "return_layers", ())) != _NUM_MAPS:
            raise InputError.of(
                "net.encoder.name",
                f"expected a stem and four layers one after another, as resnet34 has; {encoder} differs",
            )
        self.gates = nn.ModuleList(_gate(channels) for channels in self.encoder.channels)
        # Rounded up, so that a doubled map is never smaller than the one it goes back to.
        self.gates[0] = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), self.gates[0])
        _, first, second, third, fourth = self.encoder.channels
        self.steps = nn.ModuleList(
            [
                _Doubling(fourth, 16 * base, 8 * base),
                _Doubling(third + 8 * base, 16 * base, 8 * base),
                _Doubling(second + 8 * base, 8 * base, 2 * base),
                _Doubling(first + 2 * base, 4 * base, 4 * base),
            ]
        )
        halving = [nn.Conv2d(width, 1, 4, stride=2, padding=1) for width in (8 * base, 8 * base, 2 * base)]
        self.columns = nn.ModuleList([*halving, nn.Conv2d(4 * base, 1, 1)])
        self.head = nn.Conv2d(len(self.columns), 1, 1)

    def forward(self, image: Tensor) -> Outputs:
        seen = append_coordinates(image) if self.coordinates else image
        # At 1/2, 1/2, 1/4, 1/8 and 1/16 of the image's size.
        _, *skips, current = gated_maps(self.encoder.model, seen, gates=self.gates)
        decoded: list[Tensor] = []
        for step in self.steps:
            # A map of an odd size was halved upwards: its double has one row or column too many.
            height, width = (skips[-1] if skips else image).shape[-2:]
            current = step(current)[..., :height, :width]
            decoded.append(current)
            if skips:
                current = torch.cat([current, skips.pop()], dim=1)
        columns = [
            F.interpolate(column(maps), size=image.shape[-2:], mode="bilinear")
            for column, maps in zip(self.columns, decoded, strict=True)
        ]
        mask: Tensor = self.head(torch.cat(columns, dim=1))
        return Outputs(mask[:, 0], None)


class _Doubling(nn.Sequential):
    """3x3 convolution, 4x4 transposed convolution to twice the size, gate."""

    def __init__(self, in_channels: int, middle_channels: int, out_channels: int) -> None:
        super().__init__(
            ConvNormAct(in_channels, middle_channels),
            nn.ConvTranspose2d(middle_channels, out_channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            _gate(out_channels),
        )


def _gate(channels: int) -> ScSE:
    return ScSE(channels, reduction=16, spatial="bottleneck")
