"""The net of the 11th place's I. Sosin: dilated steps without norms, maps of several depths at each, ASP-OC."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.nets.deep_supervision import resized
from diapir.nets.encoders import TimmEncoder
from diapir.nets.object_context import AtrousObjectContext, ContextAttention
from diapir.nets.unet import Outputs

_IMAGE_FEATURES = 64


class Place11Sosin(nn.Module):
    """Sosin's net: encoder without its max-pool, five dilated steps, three of them in a hypercolumn under ASP-OC.

    Outputs.sides holds the logits of the four coarser steps, coarsest first: 1/16, 1/8, 1/4 and 1/2 of the image's
    size, which are 8, 16, 32 and 64 pixels of 128.

    Args:
        width: the second finest step's channels; those of all other steps and of the centre are multiples of it.
        context: channels of each branch of ASP-OC, and of what the mask head sees.
        dropout: of the maps that side heads and hypercolumn see.
        image_dropout: of the features that the has-salt head sees.

    Source: the 11th place of the TGS competition (Sosin).
    """

    def __init__(
        self,
        encoder_name: str = "legacy_seresnext50_32x4d",
        *,
        in_channels: int = 3,
        width: int = 64,
        context: int = 48,
        dropout: float = 0.2,
        image_dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.encoder = TimmEncoder(encoder_name, in_channels=in_channels, stem="stride")
        _, e0, e1, e2, e3 = self.encoder.channels
        deepest, w3, w2, w1, w0 = 8 * width, 4 * width, 2 * width, width, width // 2
        self.centre = nn.Sequential(nn.Conv2d(e3, deepest, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.image = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(deepest, _IMAGE_FEATURES, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(image_dropout),
            nn.Conv2d(_IMAGE_FEATURES, 1, 1),
        )
        self.step3 = DilatedStep(deepest, w3, dilation=1)
        self.step2 = DilatedStep(w3 + e3, w2, dilation=3)
        self.step1 = DilatedStep(w2 + e2, w1, dilation=3)
        self.step0 = DilatedStep(w1 + w2 + w3 + e1, w0, dilation=5)
        self.last_step = DilatedStep(w0 + w1 + w2 + e0, w0, dilation=5)
        self.dropout = nn.Dropout2d(dropout)
        self.sides = nn.ModuleList(nn.Conv2d(each, 1, 3, padding=1) for each in (w3, w2, w1, w0))
        self.context = AtrousObjectContext(w0 + w0 + w1, context)
        self.head = nn.Conv2d(context, 1, 5, padding=2)
        self._reset()

    def forward(self, image: Tensor) -> Outputs:
        _, e0, e1, e2, e3 = self.encoder(image)
        deepest = self.centre(e3)
        has_salt = self.image(deepest)[:, 0, 0, 0]
        d3 = self.step3(deepest)
        d2 = self.step2(_joined([d3, e3], e3))
        d1 = self.step1(_joined([d2, e2], e2))
        d0 = self.step0(_joined([d1, d2, d3, e1], e1))
        finest = self.last_step(_joined([d0, d1, d2, e0], e0))
        hypercolumn = _joined([self.dropout(each) for each in (finest, d0, d1)], image)
        mask = self.head(self.context(hypercolumn))[:, 0]
        sides = (head(self.dropout(each))[:, 0] for head, each in zip(self.sides, (d3, d2, d1, d0), strict=True))
        return Outputs(mask, has_salt, tuple(sides))

    def _reset(self) -> None:
        """Kaiming's fan-out for the convolutions outside the encoder; transposed ones keep torch's, as in his code."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("encoder."):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, ContextAttention):
                module.reset_give()


class DilatedStep(nn.Module):
    """Transposed convolution that doubles the size, then two dilated 3x3 convolutions; ReLUs, no norms."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int) -> None:
        super().__init__()
        self.doubling = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        self.first = nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation)

    def forward(self, maps: Tensor) -> Tensor:
        doubled = F.relu(self.doubling(maps), inplace=True)
        return F.relu(self.second(F.relu(self.first(doubled), inplace=True)), inplace=True)


def _joined(maps: list[Tensor], like: Tensor) -> Tensor:
    """Side by side at the size of `like`, by nearest neighbour."""
    return torch.cat([resized(each, like.shape[-2:], mode="nearest") for each in maps], dim=1)
