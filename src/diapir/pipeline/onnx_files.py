"""Nets as ONNX, by the extra `onnx`: each exported, run by ONNX Runtime, and held against torch."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diapir.faults import Fault, InputError, raise_if_any
from diapir.nets.framing import Frame, InputSpec, net_input
from diapir.nets.unet import Outputs
from diapir.pipeline.members import Member
from diapir.pipeline.predicting import load_model
from diapir.runs import atomic_path

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
LARGEST_DIFFERENCE = 1e-4
"""In probability; beyond it no file is left."""

_TILES, _TILE = 3, 101  # not the two tiles of the export, so that a batch of a fixed size is found out


class Probability(nn.Module):
    """A net whose outputs are probabilities: of the mask (n, h, w) and, where it has that head, of has-salt (n,)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, framed: Tensor) -> tuple[Tensor, ...]:
        """Framed tiles (n, channels, height, width) -> mask and, maybe, has-salt."""
        outputs: Outputs = self.net(framed)
        heads = (outputs.mask,) if outputs.has_salt is None else (outputs.mask, outputs.has_salt)
        return tuple(head.sigmoid() for head in heads)


def require_onnx() -> None:
    """Refuse to go on where a package of the extra is not installed.

    Raises:
        InputError: with every one that is missing.
    """
    raise_if_any(
        Fault("--onnx", f"{name} is not installed; install it with: python3 scripts/setup.py --extra onnx")
        for name in PACKAGES
        if importlib.util.find_spec(name) is None
    )


def onnx_name(weights: str) -> str:
    """The name of the ONNX file of a file of weights, beside it."""
    return PurePosixPath(weights).with_suffix(".onnx").as_posix()


def export_onnx(members: Sequence[Member], folder: Path) -> list[dict[str, Any]]:
    """Write an ONNX file beside each file of weights in `folder`; gives their names and how far each is from torch.

    A file takes framed tiles (n, channels, height, width) as `net_input` makes them, any n, and gives probabilities.

    Raises:
        InputError: one differs from torch by more than LARGEST_DIFFERENCE.
    """
    return [
        {"file": onnx_name(each.file), "largest_difference": _export(member, folder, weights=each.file)}
        for member in members
        for each in member.weights
    ]


def random_input(frame: Frame, spec: InputSpec, *, count: int, seed: int) -> Tensor:
    """Tiles of noise as a net sees them."""
    rng = torch.Generator().manual_seed(seed)
    return net_input(
        torch.rand(count, _TILE, _TILE, generator=rng), torch.linspace(100, 900, count), spec=spec, frame=frame
    )


def _export(member: Member, folder: Path, *, weights: str) -> float:
    """Write one file; gives its largest difference in probability."""
    loaded, spec = load_model(member.recipe, folder / weights)
    net, path = Probability(loaded).eval(), folder / onnx_name(weights)
    example, tiles = (random_input(member.frame, spec, count=count, seed=count) for count in (2, _TILES))
    with atomic_path(path) as temporary, torch.no_grad():
        torch.onnx.export(
            net, (example,), temporary, dynamo=True, external_data=False, input_names=["tiles"],
            output_names=["mask", "has_salt"][: len(net(example))], dynamic_shapes=({0: torch.export.Dim("tiles")},),
        )  # fmt: skip
        session = importlib.import_module("onnxruntime").InferenceSession(
            str(temporary), providers=["CPUExecutionProvider"]
        )
        found, wanted = session.run(None, {"tiles": tiles.numpy()}), net(tiles)
        difference = max(float(np.abs(one - other.numpy()).max()) for one, other in zip(found, wanted, strict=True))
        # Not a number is no small difference either.
        if not difference <= LARGEST_DIFFERENCE:
            raise InputError.of(
                f"--onnx: {path.name}",
                f"expected probabilities within {LARGEST_DIFFERENCE:g} of torch's, found {difference:g}: bundle "
                "without --onnx, or with other versions of onnxscript and onnxruntime",
            )
    return float(f"{difference:.3g}")
