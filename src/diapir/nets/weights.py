"""Weights in and out: safetensors only, checked by a hash; pretrained encoders by timm name or from a file."""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import safetensors.torch
import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.encoders import TimmEncoder
from diapir.runs import atomic_path

_PATIENCE_S = 1.5
_OFFLINE = (
    "its pretrained weights could not be fetched ({error}). To go on without a network: download the model's "
    ".safetensors file elsewhere and name it in net.encoder.weights, or set net.encoder.weights: none"
)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write named tensors and JSON facts as one safetensors file, whole or not at all, with a hash of the content."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"facts": json.dumps(facts), "sha256": _digest(content)}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(content, temporary, metadata=metadata)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        InputError: there is no such file, it is cut off or no safetensors, or its content does not match its hash.
    """
    tensors, metadata = _read_safetensors(path)
    if metadata.get("sha256") != _digest(tensors):
        raise InputError.of(path, "its content does not match its own hash: the file is damaged, use another copy")
    try:
        return tensors, dict(json.loads(metadata["facts"]))
    except (KeyError, ValueError):
        raise InputError.of(path, "it holds no readable facts: it was not written by diapir") from None


def load_encoder_weights(encoder: TimmEncoder, name: str, source: str) -> None:
    """Fill an encoder with trained weights, adapting the first convolution to its number of channels.

    Args:
        source: `pretrained` for timm's own, or the path of a .safetensors file with timm's names.

    Raises:
        InputError: they cannot be had (within 2 s where there is no network), or do not fit.
    """
    if source == "pretrained":
        with _without_waiting():
            try:
                full = timm.create_model(name, pretrained=True).state_dict()
            except (OSError, RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
                raise InputError.of(f"net.encoder.name {name}", _OFFLINE.format(error=reason)) from None
    else:
        full, _ = _read_safetensors(Path(source))
    _fill(encoder.model, full, source=f"{name} ({source})")


def _fill(model: nn.Module, full: Mapping[str, Tensor], *, source: str) -> None:
    own = model.state_dict()
    # features_only renames a.b to a_b in flattened stems; both spellings are tried.
    found = {name: full.get(name, full.get(name.replace("_", "."))) for name in own}
    missing = [name for name, value in found.items() if value is None and not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError.of(source, f"{len(missing)} of {len(own)} tensors are missing, e.g. {', '.join(missing[:3])}")
    fitted = {}
    for name, value in found.items():
        if value is None:
            continue
        if value.ndim == 4 and value.shape[1] != own[name].shape[1] and value.shape[0] == own[name].shape[0]:
            fitted[name] = _adapt_channels(value, own[name].shape[1])
        elif value.shape == own[name].shape:
            fitted[name] = value
        else:
            raise InputError.of(source, f"{name}: expected shape {tuple(own[name].shape)}, found {tuple(value.shape)}")
    model.load_state_dict(fitted, strict=False)


def _adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """The mean filter for every channel, scaled so that equal channels give the same response as before."""
    return weight.mean(1, keepdim=True).expand(-1, channels, -1, -1) * (weight.shape[1] / channels)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError.of(path, "expected a .safetensors file, found none") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError.of(path, f"expected a whole .safetensors file: {error}") from None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


@contextmanager
def _without_waiting() -> Iterator[None]:
    """Ask the hub only if it answers a connection at once: its own client retries for most of a minute."""
    timeout = socket.getdefaulttimeout()
    was_offline = hub.HF_HUB_OFFLINE
    try:
        if not os.environ.get("HTTPS_PROXY"):
            with socket.create_connection(("huggingface.co", 443), timeout=_PATIENCE_S):
                pass
    except OSError:
        hub.HF_HUB_OFFLINE = True
    socket.setdefaulttimeout(_PATIENCE_S)
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = was_offline
        socket.setdefaulttimeout(timeout)
