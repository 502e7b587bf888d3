"""The net of the 9th place: SENet154 with leaky activations, an object-context decoder, and heads at every depth."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import activate
from diapir.nets.deep_supervision import ImageHead, beside, resized
from diapir.nets.encoders import TimmEncoder
from diapir.nets.object_context import ObjectContext
from diapir.nets.unet import Outputs

_PIXEL_FEATURES, _IMAGE_FEATURES = 64, 32


class Place09(nn.Module):
    """The 9th place's net: image doubled on entry, five decoder steps with object context, seven heads.

    Outputs.sides holds the logits of the five steps, finest first, each at the mask's size.

    Args:
        encoder_name: timm model of its senet family (legacy_se...) with bottlenecks.
        width: channels of the finest step; all other widths of decoder and heads are multiples of it.
        dropout: of what each head sees.
        context_dropout: of the maps that each step's object context gives.
        slope: of the leaky ReLU that follows the encoder's norms.

    Raises:
        InputError: the encoder has no bottlenecks of timm's senet family.

    Source: the 9th place of the TGS competition (tugstugi and xuyuan).
    """

    def __init__(
        self,
        encoder_name: str = "legacy_senet154",
        *,
        in_channels: int = 3,
        width: int = 16,
        dropout: float = 0.5,
        context_dropout: float = 0.2,
        slope: float = 0.01,
    ) -> None:
        super().__init__()
        self.encoder = TimmEncoder(encoder_name, in_channels=in_channels, stem="max_pool")
        make_leaky(self.encoder, slope=slope)
        e1, e2, e3, e4, e5 = self.encoder.channels
        deepest = 32 * width
        self.deepest = nn.Sequential(
            nn.Conv2d(e5, deepest, 3, padding=1),
            nn.BatchNorm2d(deepest),
            ObjectContext(deepest, keys=deepest // 2, dropout=0.05),
        )

        def step(in_channels: int, middle: int, out_channels: int) -> nn.Module:
            return ContextStep(in_channels, middle * width, out_channels * width, dropout=context_dropout)

        self.centre = step(deepest, 16, 8)
        self.step5 = step(deepest + 8 * width, 16, 8)
        self.step4 = step(e4 + 8 * width, 16, 4)
        self.step3 = step(e3 + 4 * width, 8, 2)
        self.step2 = nn.Sequential(_conv_norm_leaky(e2 + 2 * width, 4 * width), _conv_norm_leaky(4 * width, width))
        self.step1 = step(e1 + width, 2, 1)
        self.sides = nn.ModuleList(_mask_head(each * width, width, dropout) for each in (1, 1, 2, 4, 8))
        self.pixels = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(16 * width, _PIXEL_FEATURES, 1))
        self.image = ImageHead(deepest, features=_IMAGE_FEATURES, dropout=dropout)
        self.head = _mask_head(_PIXEL_FEATURES + _IMAGE_FEATURES, width, dropout)

    def forward(self, image: Tensor) -> Outputs:
        size = image.shape[-2:]
        e1, e2, e3, e4, e5 = self._encode(F.interpolate(image, scale_factor=2, mode="bilinear"))
        deepest = self.deepest(e5)
        features, has_salt = self.image(deepest)
        d5 = self.step5(_joined(self.centre(F.max_pool2d(deepest, 2)), deepest))
        d4 = self.step4(_joined(d5, e4))
        d3 = self.step3(_joined(d4, e3))
        d2 = self.step2(_joined(d3, e2))
        d1 = self.step1(_joined(d2, e1))
        columns = [resized(each, size) for each in (d1, d2, d3, d4, d5)]
        pixels = self.pixels(torch.cat(columns, dim=1))
        mask = self.head(beside(pixels, features))[:, 0]
        sides = tuple(head(column)[:, 0] for head, column in zip(self.sides, columns, strict=True))
        return Outputs(mask, has_salt, sides)

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Maps at a quarter, a quarter, an eighth, ... of the image: the first after the max-pool, as the team's."""
        stages: Any = self.encoder.model
        maps, found = image, list[Tensor]()
        for name, stage in stages.items():
            maps = stage(maps)
            if name != "layer0":
                found.append(maps)
        return found


class ContextStep(nn.Module):
    """3x3 convolution, object context, and a transposed convolution, without a norm, that doubles the size."""

    def __init__(self, in_channels: int, middle: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.convs = _conv_norm_leaky(in_channels, middle)
        self.context = ObjectContext(middle, keys=middle // 2, dropout=dropout)
        self.doubling = nn.ConvTranspose2d(middle, out_channels, 4, stride=2, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        doubled: Tensor = self.doubling(self.context(self.convs(maps)))
        return doubled


def make_leaky(encoder: TimmEncoder, *, slope: float) -> None:
    """Turn every ReLU that follows a norm in a senet of timm's into a leaky one, in place.

    Those of the gates and those after a block's sum stay as they are, and so does every tensor's name, so trained
    weights fit.

    Raises:
        InputError: there are no bottlenecks of that family.
    """
    model = encoder.model
    blocks = [(path, module) for path, module in model.named_modules() if _is_bottleneck(module)]
    if not blocks:
        raise InputError.of(
            "net.encoder.name",
            "the 9th place's net needs an encoder of timm's senet family with bottlenecks, such as legacy_senet154 or "
            "legacy_seresnext50_32x4d; this one has none",
        )
    for path, block in blocks:
        model.set_submodule(path, LeakyBottleneck(block, slope=slope))
    stem = model.get_submodule("layer0")
    for name, module in stem.named_children():
        if isinstance(module, nn.ReLU):
            setattr(stem, name, nn.LeakyReLU(slope, inplace=True))


class LeakyBottleneck(nn.Module):
    """A bottleneck of timm's senet family, its parts under their own names, with leaky ReLUs inside.

    timm's has one ReLU for three places, and only two of them follow a norm.
    """

    def __init__(self, block: Any, *, slope: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = block.conv1, block.bn1
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.conv3, self.bn3 = block.conv3, block.bn3
        self.se_module, self.downsample = block.se_module, block.downsample
        self.slope = slope

    def forward(self, maps: Tensor) -> Tensor:
        change = F.leaky_relu(self.bn1(self.conv1(maps)), self.slope, inplace=True)
        change = F.leaky_relu(self.bn2(self.conv2(change)), self.slope, inplace=True)
        change = self.se_module(self.bn3(self.conv3(change)))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return F.relu(change + shortcut)


def _is_bottleneck(module: nn.Module) -> bool:
    return all(hasattr(module, part) for part in ("conv3", "bn3", "se_module", "downsample"))


def _joined(coarse: Tensor, skip: Tensor) -> Tensor:
    """Both side by side at the skip's size, from which the coarse one differs only where sizes are odd."""
    return torch.cat([resized(coarse, skip.shape[-2:]), skip], dim=1)


def _conv_norm_leaky(in_channels: int, out_channels: int) -> nn.Sequential:
    # With the bias that the team left before its norms.
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), activate("leaky_relu"))


def _mask_head(in_channels: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout2d(dropout), _conv_norm_leaky(in_channels, width), nn.Conv2d(width, 1, 1))
