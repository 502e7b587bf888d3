"""Weights in and out: safetensors only, checked by a hash; pretrained encoders by timm name or from a file."""

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import safetensors.torch
import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from diapir.faults import Fault, InputError, raise_if_any
from diapir.nets.encoders import TimmEncoder
from diapir.runs import atomic_path

_ENTRY = "diapir"
_HUB_FILE = "model.safetensors"
_PATIENCE_S = 1.5
_GO_ON = (
    "To go on, name a .safetensors file with timm's tensors here instead (where there is a network: "
    "hf download {repository} {file} --local-dir .), or set net.encoder.weights: none"
)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write named tensors and JSON facts as one safetensors file, whole or not at all, with a hash of both.

    The same tensors and facts give the same bytes.

    Raises:
        OSError: the disk is full, or cannot be written to.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts)
    # One entry alone: the library writes several in an order that chance decides.
    metadata = {_ENTRY: f"{_digest(content, text)} {text}"}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(content, temporary, metadata=metadata)
        except SafetensorError as error:
            # The tensors are sound, so it was the disk; its number is in the text alone.
            raise OSError(errno.EIO, str(error), str(path)) from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        InputError: there is no such file, it is cut off or no safetensors, it was not written by `save_tensors`, or its
            content does not match its hash.
    """
    tensors, metadata = _read_safetensors(path)
    facts = _facts(path, metadata)
    digest, _, text = metadata[_ENTRY].partition(" ")
    if digest != _digest(tensors, text):
        raise InputError.of(path, "its content does not match its own hash: the file is damaged, use another copy")
    return tensors, facts


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the tensors, and the facts, of what `save_tensors` wrote; its hash is not looked at.

    Raises:
        InputError: as `load_tensors`, but for the hash.
    """
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    return shapes, _facts(path, metadata)


def require_fit(path: Path, net: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors that are not a net's; the net may be on the meta device.

    Raises:
        InputError: some are missing, too many or of another shape.
    """
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = {name: tuple(shape) for name, shape in shapes.items()}
    if different := sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name)):
        name = different[0]
        told = f"{name}, expected {own.get(name, 'no such tensor')}, found {found.get(name, 'none')}"
        raise InputError.of(
            path, f"{len(different)} of its tensors do not fit the recipe's net, e.g. {told}; use another copy"
        )


def load_encoder_weights(encoder: TimmEncoder, name: str, source: str) -> None:
    """Fill an encoder with trained weights, adapting the first convolution to its number of channels.

    Args:
        source: `pretrained` for timm's own, or the path of a .safetensors file with timm's names.

    Raises:
        InputError: they cannot be had (within 2 s where there is no network), or do not fit.
    """
    if source == "pretrained":
        # timm brings what it publishes into its own names and shapes; it need not look for the file any more.
        chosen = {"file": str(fetch_pretrained(name)), "custom_load": False}
        full = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=chosen).state_dict()
    else:
        full, _ = _read_safetensors(Path(source))
    _fill(encoder.model, full, source=f"{name} ({source})")


def fetch_pretrained(name: str) -> Path:
    """The .safetensors file of a timm model's trained weights: from this machine if it is there, else from the hub.

    Raises:
        InputError: there is none, or the hub does not answer within 1.5 s (HF_HUB_ETAG_TIMEOUT sets other seconds).
    """
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.hf_hub_id:
        raise InputError.of(
            "net.encoder.weights",
            f"timm publishes no safetensors for '{name}', and nothing else is loaded: name a .safetensors file with "
            "timm's tensors here instead, or set net.encoder.weights: none",
        )
    repository: str = published.hf_hub_id
    cached = hub.try_to_load_from_cache(repository, _HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    error = _ask_hub(hub.hf_hub_url(repository, _HUB_FILE))
    if error is None:
        try:
            return Path(hub.hf_hub_download(repository, _HUB_FILE))
        except Exception as late:  # noqa: BLE001 - releases of the hub's client differ in theirs, with no root in common
            error = _first_line(late)
    raise InputError.of(
        "net.encoder.weights",
        f"the weights of '{name}' could not be fetched ({error}). "
        + _GO_ON.format(repository=repository, file=_HUB_FILE),
    )


def _ask_hub(url: str) -> str | None:
    """Why the hub cannot give a file, or None if it can."""
    patience_s = hub.constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else _PATIENCE_S
    answers: list[str | None] = []

    def ask() -> None:
        try:
            hub.get_hf_file_metadata(url, timeout=2 * patience_s)  # by then nobody waits, so it is not told twice
            answers.append(None)
        except Exception as error:  # noqa: BLE001 - as above, and a thread must not print a traceback
            answers.append(_first_line(error))

    # In a thread, for the look-up of a host's name takes no time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience_s)
    return answers[0] if answers else f"no answer from {url} within {patience_s:g} s"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _fill(model: nn.Module, full: Mapping[str, Tensor], *, source: str) -> None:
    """Load the tensors of a whole timm model into the part of it that gives feature maps."""
    own = model.state_dict()
    # A model of feature maps flattens some levels (a.0.b becomes a_0.b) or sits one level deeper (model.a.0.b).
    by_flat_name = {name.replace(".", "_"): value for name, value in full.items()}
    flat_names = {name: name.replace(".", "_") for name in own}
    found = {
        name: by_flat_name.get(flat, by_flat_name.get(flat.removeprefix("model_"))) for name, flat in flat_names.items()
    }
    missing = [name for name, value in found.items() if value is None and not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError.of(source, f"{len(missing)} of {len(own)} tensors are missing, e.g. {', '.join(missing[:3])}")
    first_convolution = next((name for name, value in own.items() if value.ndim == 4), None)
    fitted, faults = {}, []
    for name, value in found.items():
        if value is None:
            continue
        wanted = own[name].shape
        adapt = name == first_convolution and value.ndim == 4 and value.shape != wanted
        fitted[name] = _adapt_channels(value, wanted[1]) if adapt else value
        if fitted[name].shape != wanted:
            faults.append(Fault(source, f"{name}: expected shape {tuple(wanted)}, found {tuple(value.shape)}"))
    raise_if_any(faults)
    model.load_state_dict(fitted, strict=False)


def _adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Filters for another number of channels.

    More channels than were trained: theirs stay, and each further one begins with their mean. Fewer: the mean filter
    for every channel, scaled so that equal channels give the same response as before.
    """
    if channels > weight.shape[1]:
        further = weight.mean(1, keepdim=True).expand(-1, channels - weight.shape[1], -1, -1)
        return torch.cat([weight, further], dim=1)
    return weight.mean(1, keepdim=True).expand(-1, channels, -1, -1) * (weight.shape[1] / channels)


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if _ENTRY not in metadata:
        raise InputError.of(path, "expected a file that diapir wrote, found a .safetensors file without its facts")
    try:
        facts = json.loads(metadata[_ENTRY].partition(" ")[2])
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise InputError.of(path, "its facts are not JSON: the file is damaged, use another copy")
    return facts


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise InputError.of(path, "expected a .safetensors file, found nothing there") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError.of(path, f"expected a whole .safetensors file: {error}") from None


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
