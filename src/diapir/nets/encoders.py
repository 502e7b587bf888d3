"""Image -> feature maps.

The contract: an encoder has `channels`, one number per map, and gives its maps finest first. Each map is at most as
large as the one before; the finest is 1/`stride` of the image's size, rounded up. Decoders go by the sizes that come,
so any image size works that the encoder takes.
"""

import difflib
from collections.abc import Sequence
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.blocks import ConvNormAct, ResidualBlock

# A multiple of every stride, and smaller than what models of a single size take.
_PROBE_SIDE = 64
_INSTEAD = "name an encoder of convolutions, such as resnet34 or convnext_tiny"


class ResidualEncoder(nn.Module):
    """Residual stages; `widths[i]` channels at 1/2^i of the stem's size.

    Args:
        in_channels: of the image.
        stem: `stride` halves the image first, `none` keeps its size.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        stem: Literal["stride", "none"],
        squeeze: int,
    ) -> None:
        super().__init__()
        self.channels = tuple(widths)
        self.stride = 1 if stem == "none" else 2
        self.stem = ConvNormAct(in_channels, widths[0], stride=self.stride)
        self.stages = nn.ModuleList()
        before = widths[0]
        for index, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            first = ResidualBlock(before, width, stride=1 if index == 0 else 2, squeeze=squeeze)
            rest = [ResidualBlock(width, width, squeeze=squeeze) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            before = width

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = self.stem(image)
        found = []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps)
        return found


class TimmEncoder(nn.Module):
    """Feature maps of a timm model with random weights; `nets.weights` fills in trained ones.

    Args:
        stem: `max_pool` as published; `stride` without the max-pool; `none` without the first stride either.

    Raises:
        InputError: timm has no such model, it gives no feature maps or not those of the contract above, it takes images
            of a single size, or its stem cannot be changed in this way.
    """

    def __init__(self, name: str, *, in_channels: int, stem: Literal["max_pool", "stride", "none"]) -> None:
        super().__init__()
        # timm would take hf-hub: and local-dir: names too, and go to the network for them.
        if not timm.is_model(name):
            raise InputError.of("net.encoder.name", f"timm has no model '{name}'; near names: {_near_names(name)}")
        try:
            self.model: nn.Module = timm.create_model(name, pretrained=False, features_only=True, in_chans=in_channels)
        except (RuntimeError, ValueError, AttributeError, TypeError) as error:
            raise InputError.of("net.encoder.name", f"timm cannot give feature maps of '{name}' ({error})") from None
        self.channels, self.stride = _channels_and_stride(self.model)
        if stem != "max_pool":
            self._change_stem(name, stem)
        self._require_contract(name, in_channels=in_channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model(image)
        return maps

    def _change_stem(self, name: str, stem: str) -> None:
        pools = [(path, module) for path, module in self.model.named_modules() if isinstance(module, nn.MaxPool2d)]
        first_conv = next(module for module in self.model.modules() if isinstance(module, nn.Conv2d))
        if len(pools) != 1 or first_conv.stride != (2, 2):
            raise InputError.of(
                "net.encoder.stem", f"'{stem}' needs an encoder with one strided stem and one max-pool; {name} differs"
            )
        parent, _, leaf = pools[0][0].rpartition(".")
        setattr(self.model.get_submodule(parent), leaf, nn.Identity())
        if stem == "none":
            first_conv.stride = (1, 1)
            self.stride //= 2

    @torch.no_grad()
    def _require_contract(self, name: str, *, in_channels: int) -> None:
        """Refuse what a U-Net cannot use by what it gives: timm does not say which of its models these are."""
        self.model.eval()  # one image has no batch statistics
        side = _PROBE_SIDE
        try:
            found = [tuple(maps.shape[1:]) for maps in self(torch.zeros(1, in_channels, side, side))]
        except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            what = f"'{name}' does not take images of any size ({side} x {side}: {reason}); {_INSTEAD}"
            raise InputError.of("net.encoder.name", what) from None
        self.model.train()
        finest = -(-side // self.stride)
        sizes = [shape[1:] for shape in found]
        fits = [shape[:1] for shape in found] == [(count,) for count in self.channels] and sizes[0] == (finest, finest)
        if not fits or sizes != sorted(sizes, reverse=True):
            wanted = f"{self.channels[0]} x {finest} x {finest} (channels first) and smaller ones"
            shown = ", ".join(" x ".join(map(str, shape)) for shape in found)
            what = f"of an image of {side} x {side}, expected maps of {wanted}, and '{name}' gives {shown}; {_INSTEAD}"
            raise InputError.of("net.encoder.name", what)


def _channels_and_stride(model: Any) -> tuple[tuple[int, ...], int]:
    return tuple(model.feature_info.channels()), int(model.feature_info.reduction()[0])


def _near_names(name: str) -> str:
    return ", ".join(difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5)) or "none"


Encoder = ResidualEncoder | TimmEncoder
