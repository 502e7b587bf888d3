"""The net of the 11th place's A. Rozhkov, RECONSTRUCTED: his code was never released.

He names the encoder, a decoder like a U-Net's with scSE, hypercolumn, and deep supervision by empty and non-empty
masks. The rest is the pattern that most teams of the competition shared, with every width filled in by us.
"""

import torch
from torch import Tensor, nn

from diapir.nets.blocks import ConvNormAct, ScSE
from diapir.nets.deep_supervision import ImageHead, beside, resized
from diapir.nets.encoders import TimmEncoder
from diapir.nets.unet import Outputs

_CENTRE = (512, 256)


class Place11Rozhkov(nn.Module):
    """Rozhkov's net, a reconstruction: encoder without its max-pool, five scSE steps, hypercolumn, three heads.

    The mask head sees the hypercolumn's pixel features and the image features side by side. Outputs.sides holds one
    mask, from the pixel features alone.

    Args:
        width: channels of each step, of the pixel features and of the image features.
        dropout: of the hypercolumn's maps.
        gate_reduction: of the channel gates.

    Source: the 11th place of the TGS competition (Rozhkov's slides and write-up) for the parts; the widths are assumed.
    """

    def __init__(
        self,
        encoder_name: str = "legacy_seresnext50_32x4d",
        *,
        in_channels: int = 3,
        width: int = 64,
        dropout: float = 0.5,
        gate_reduction: int = 16,
    ) -> None:
        super().__init__()
        self.encoder = TimmEncoder(encoder_name, in_channels=in_channels, stem="stride")
        # The stem's own map is as large as the first stage's, which stands for both.
        skips = self.encoder.channels[:0:-1]
        self.centre = nn.Sequential(
            ConvNormAct(skips[0], _CENTRE[0]), ConvNormAct(_CENTRE[0], _CENTRE[1]), nn.MaxPool2d(2)
        )
        self.steps = nn.ModuleList()
        before = _CENTRE[1]
        for skip in (*skips, 0):
            self.steps.append(GatedStep(before + skip, width, gate_reduction=gate_reduction))
            before = width
        self.dropout = nn.Dropout2d(dropout)
        self.pixels = _conv_relu(len(self.steps) * width, width)
        self.side = nn.Conv2d(width, 1, 1)
        self.image = ImageHead(skips[0], features=width)
        self.head = nn.Sequential(_conv_relu(2 * width, width), nn.Conv2d(width, 1, 1))

    def forward(self, image: Tensor) -> Outputs:
        size = image.shape[-2:]
        skips: list[Tensor] = self.encoder(image)[:0:-1]
        current, found = self.centre(skips[0]), list[Tensor]()
        for step, skip in zip(self.steps, [*skips, None], strict=True):
            current = step(current, skip, size)
            found.append(current)
        hypercolumn = torch.cat([resized(each, size) for each in found], dim=1)
        pixels = self.pixels(self.dropout(hypercolumn))
        features, has_salt = self.image(skips[0])
        return Outputs(self.head(beside(pixels, features))[:, 0], has_salt, (self.side(pixels)[:, 0],))


class GatedStep(nn.Module):
    """Bilinear to the skip's size, or the image's where there is none; two 3x3 convolutions; scSE."""

    def __init__(self, in_channels: int, out_channels: int, *, gate_reduction: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvNormAct(in_channels, out_channels), ConvNormAct(out_channels, out_channels))
        self.gate = ScSE(out_channels, reduction=gate_reduction)

    def forward(self, maps: Tensor, skip: Tensor | None, size: torch.Size) -> Tensor:
        maps = resized(maps, size) if skip is None else torch.cat([resized(maps, skip.shape[-2:]), skip], dim=1)
        gated: Tensor = self.gate(self.convs(maps))
        return gated


def _conv_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(inplace=True))
