"""Net and tiles -> probabilities: the one forward pass that training's scores, submissions and surveys share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn

from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.nets.unet import Outputs

View = Literal["plain", "flip"]


@dataclass(frozen=True)
class TileTensors:
    """Tiles on the device that works on them.

    Args:
        images: uint8 (n, h, w).
        masks: uint8 (n, h, w) of 0, 1 and, where `is_partial`, UNKNOWN; or, where `is_soft`, probabilities besides, of
            a floating type; or None.
        depths_m: float32 (n,), NaN where unknown.
    """

    images: Tensor
    masks: Tensor | None
    depths_m: Tensor
    is_partial: bool = False
    is_soft: bool = False

    def __len__(self) -> int:
        return len(self.images)


class Probabilities(NamedTuple):
    """What a net says of tiles.

    Args:
        mask: that a pixel is salt, float32 (b, h, w).
        has_salt: that a tile holds any salt, float32 (b,); None without a head that says so.
    """

    mask: Tensor
    has_salt: Tensor | None


def see(view: View, images: Tensor) -> Tensor:
    """A view of tiles (..., w); every view is its own inverse."""
    match view:
        case "plain":
            return images
        case "flip":
            return images.flip(-1)
        case _:
            assert_never(view)


@torch.inference_mode()
def predict_heads(
    net: nn.Module,
    tiles: TileTensors,
    *,
    spec: InputSpec,
    frame: Frame,
    views: Sequence[View],
    batch: int,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Iterator[Probabilities]:
    """What a net's mask and has-salt head say, batch after batch, in the order of the tiles.

    Views are averaged in probability space; every module of the net is left in the mode (training or evaluation)
    that it came in.
    """
    in_training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        for start in range(0, len(tiles), batch):
            images = tiles.images[start : start + batch].float() / 255
            depths_m = tiles.depths_m[start : start + batch]
            height, width = images.shape[-2:]
            total, has_salt = torch.zeros_like(images), list[Tensor]()
            for view in views:
                with autocast():
                    outputs: Outputs = net(net_input(see(view, images), depths_m, spec=spec, frame=frame))
                released = frame.release(outputs.mask.float().sigmoid()[:, None], height=height, width=width)[:, 0]
                total += see(view, released)
                if outputs.has_salt is not None:
                    has_salt.append(outputs.has_salt.float().sigmoid())
            yield Probabilities(total / len(views), torch.stack(has_salt).mean(0) if has_salt else None)
    finally:
        for module in in_training:
            module.training = True
