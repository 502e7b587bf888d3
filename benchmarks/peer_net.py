"""A U-Net of segmentation-models-pytorch and ours with the same weights."""

from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diapir.losses import bce, lovasz
from diapir.nets.build import build_net
from diapir.nets.unet import UNet
from diapir.recipe import nets as recipe

GATES = ("none", "scse")
LOSSES = ("bce", "lovasz")
_NAMES = (
    ("decoder.blocks.", "steps."),
    (".conv1.", ".convs.0."),
    (".conv2.", ".convs.1."),
    (".attention2.attention.cSE.1.", ".gate.channel.squeeze."),
    (".attention2.attention.cSE.3.", ".gate.channel.excite."),
    (".attention2.attention.sSE.0.", ".gate.spatial."),
    ("segmentation_head.0.", "head."),
)


def machine_type() -> torch.dtype:
    """bfloat16 where the processor multiplies it, float32 elsewhere; both sides use it."""
    fast = "AVX512" in torch.backends.cpu.get_cpu_capability() and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def peer_net(gate: str) -> nn.Module:
    """The peer's ResNet34 U-Net for one grey channel, with random weights.

    Without gates it is the peer's own default. With scSE the peer gates each step's input too; that first gate is
    taken out, since our net has none there: both nets are then the same function, and the peer's is the faster for it.
    """
    attention = None if gate == "none" else gate
    net: nn.Module = smp.Unet("resnet34", encoder_weights=None, in_channels=1, decoder_attention_type=attention)
    decoder: Any = net.decoder
    for block in decoder.blocks:
        block.attention1 = nn.Identity()
    return net


def our_net(gate: str) -> UNet:
    """The net that a recipe with the same encoder, widths and gates builds."""
    decoder = recipe.Decoder.model_validate({"gate": gate})
    net = build_net(recipe.UNet(encoder=recipe.TimmEncoder(name="resnet34"), decoder=decoder), in_channels=1)
    assert isinstance(net, UNet)
    return net


def copy_weights(peer: nn.Module, ours: UNet) -> None:
    """Give our net the peer's weights; every tensor of either has its partner in the other."""
    ours.load_state_dict({_our_name(name): value for name, value in peer.state_dict().items()})


def peer_loss(name: str) -> nn.Module:
    """The peer's loss of logits and masks (n, 1, h, w)."""
    if name == "bce":
        return nn.BCEWithLogitsLoss()
    loss: nn.Module = smp.losses.LovaszLoss("binary", per_image=True)
    return loss


def our_loss(name: str, logits: Tensor, masks: Tensor) -> Tensor:
    """Our loss of logits and masks (n, h, w), the same function as the peer's."""
    return bce(logits, masks).mean() if name == "bce" else lovasz(logits, masks, hinge="relu").mean()


def largest_differences(gate: str, loss: str, *, batch: int = 4) -> dict[str, float]:
    """How far logits, loss and gradients of one training step are apart, relative to the peer's largest value.

    The nets work in float64, so that what is left is no rounding of long sums; the losses in float32.
    """
    torch.manual_seed(0)
    peer, ours = peer_net(gate).double(), our_net(gate).double()
    copy_weights(peer, ours)
    images = torch.randn(batch, 1, 128, 128, dtype=torch.float64)
    masks = (F.avg_pool2d(torch.randn(batch, 1, 128, 128), 31, stride=1, padding=15) > 0).double()
    their_logits, our_logits = peer(images), ours(images).mask
    their_value = peer_loss(loss)(their_logits.float(), masks.float() if loss == "bce" else masks.long())
    our_value = our_loss(loss, our_logits, masks[:, 0])
    their_value.backward()
    our_value.backward()  # type: ignore[no-untyped-call]
    their_logits, our_logits = their_logits.detach(), our_logits.detach()
    our_grads = {name: one.grad for name, one in ours.named_parameters()}
    pairs = [(our_grads[_our_name(name)], one.grad) for name, one in peer.named_parameters()]
    largest = max(float(theirs.abs().max()) for _, theirs in pairs if theirs is not None)
    return {
        "logits": float((our_logits - their_logits[:, 0]).abs().max() / their_logits.abs().max()),
        "loss": abs(our_value.item() - their_value.item()) / abs(their_value.item()),
        "gradients": max(_distance(mine, theirs) for mine, theirs in pairs) / largest,
    }


def _our_name(name: str) -> str:
    if name.startswith("encoder."):
        return name.replace("encoder.", "encoder.model.", 1)
    for theirs, ours in _NAMES:
        name = name.replace(theirs, ours)
    return name


def _distance(ours: Tensor | None, theirs: Tensor | None) -> float:
    assert ours is not None
    assert theirs is not None
    return float((ours - theirs).abs().max())
