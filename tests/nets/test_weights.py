import socket
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import huggingface_hub as hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from diapir.faults import InputError
from diapir.nets.encoders import TimmEncoder
from diapir.nets.weights import (
    fetch_pretrained,
    load_encoder_weights,
    load_tensors,
    read_header,
    require_fit,
    save_tensors,
)

TENSORS = {
    "floats": torch.arange(6.0).reshape(2, 3),
    "brain": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "none": torch.empty(0, 4),
    "last": torch.randn(1, 2, 3, 4).to(memory_format=torch.channels_last),
}
FACTS = {"score": 0.8125, "spec": {"channels": ["image"], "mean": 0.47}, "note": "µ"}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    save_tensors(path, TENSORS, FACTS)
    tensors, facts = load_tensors(path)
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert [each.name for each in path.parent.iterdir()] == ["weights.safetensors"]


def test_a_header_tells_shapes_and_facts_of_what_was_saved(tmp_path: Path) -> None:
    save_tensors(tmp_path / "weights", TENSORS, FACTS)
    shapes, facts = read_header(tmp_path / "weights")
    assert facts == FACTS
    assert shapes == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    (tmp_path / "cut").write_bytes((tmp_path / "weights").read_bytes()[:-1])
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "foreign")
    for name in ("cut", "foreign", "absent"):
        with pytest.raises(InputError, match=f"{name}: expected"):
            read_header(tmp_path / name)


def test_facts_that_are_no_mapping_are_refused(tmp_path: Path) -> None:
    for text in ("x 3", "x", "x {", "x " + "[" * 100_000):
        safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "weights", metadata={"diapir": text})
        for read in (read_header, load_tensors):
            with pytest.raises(InputError, match="weights: its facts are not JSON"):
                read(tmp_path / "weights")


def test_tensors_that_are_not_the_nets_are_counted_and_one_is_named() -> None:
    with torch.device("meta"):
        net = nn.Linear(3, 2)
    require_fit(Path("here"), net, {"weight": (2, 3), "bias": (2,)})
    for shapes, told in (
        ({"weight": (2, 3), "bias": (3,)}, "here: 1 of .*bias, expected .2,., found .3,."),
        ({"weight": (2, 3)}, "here: 1 of .*bias, expected .2,., found none"),
        ({"bias": (2,), "weights": (2, 3)}, "here: 2 of .*weight, expected .2, 3., found none"),
        ({"weight": (2, 3), "bias": (2,), "a": ()}, "here: 1 of .*a, expected no such tensor, found"),
    ):
        with pytest.raises(InputError, match=told):
            require_fit(Path("here"), net, shapes)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    save_tensors(tmp_path / "one", TENSORS, FACTS)
    save_tensors(tmp_path / "two", dict(reversed(TENSORS.items())), FACTS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, TENSORS, FACTS)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place, mask in enumerate(rng.integers(1, 256, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= int(mask)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"weights\.safetensors: "):
            load_tensors(path)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, TENSORS, FACTS)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"expected a whole \.safetensors file"):
            load_tensors(path)


def test_files_of_others_are_refused_with_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    with pytest.raises(InputError, match=r"expected a \.safetensors file, found nothing there"):
        load_tensors(path)
    safetensors.torch.save_file({"a": torch.ones(2)}, path)
    with pytest.raises(InputError, match="expected a file that diapir wrote"):
        load_tensors(path)
    path.write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(InputError, match=r"expected a whole \.safetensors file"):
        load_tensors(path)
    with pytest.raises(InputError, match=r"expected a whole \.safetensors file"):
        load_tensors(tmp_path)


@cache
def trained(name: str = "resnet34") -> nn.Module:
    """A whole timm model whose every tensor is random, statistics of norms included."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, pretrained=False).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]  # it is a tensor where it is tracked
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "resnet34.safetensors"
    safetensors.torch.save_file(trained().state_dict(), path)
    return path


def encoder(in_channels: int = 3, name: str = "resnet34") -> TimmEncoder:
    return TimmEncoder(name, in_channels=in_channels, stem="max_pool").eval()


def deepest(model: nn.Module, image: Tensor) -> Tensor:
    maps: Tensor = model.forward_features(image)  # type: ignore[operator]  # timm's models have it
    return maps


def test_a_local_file_fills_every_tensor_of_resnet34(file: Path) -> None:
    ours = encoder()
    load_encoder_weights(ours, "resnet34", str(file))
    full = trained().state_dict()
    own = ours.model.state_dict()
    assert own.keys() == {name for name in full if not name.startswith("fc.")}
    assert all(torch.equal(own[name], full[name]) for name in own)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(image)[-1], deepest(trained(), image))


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050", "densenet121", "vgg11_bn"])
def test_names_that_timm_changes_for_feature_maps_are_found(name: str, tmp_path: Path) -> None:
    model = trained(name)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "all.safetensors")
    ours = encoder(name=name)
    load_encoder_weights(ours, name, str(tmp_path / "all.safetensors"))
    full = {key.replace(".", "_"): value for key, value in model.state_dict().items()}
    for key, value in ours.model.state_dict().items():
        assert torch.equal(value, full[key.replace(".", "_").removeprefix("model_")])


@pytest.mark.parametrize("in_channels", [1, 2])
def test_equal_channels_give_the_response_of_the_first_convolution_as_it_was(in_channels: int, file: Path) -> None:
    ours = encoder(in_channels)
    load_encoder_weights(ours, "resnet34", str(file))
    grey = torch.randn(2, 1, 32, 32)
    theirs: Tensor = trained().conv1(grey.expand(-1, 3, -1, -1))  # type: ignore[operator]
    first: Tensor = ours.model.conv1(grey.expand(-1, in_channels, -1, -1))  # type: ignore[operator]
    torch.testing.assert_close(first, theirs, rtol=1e-4, atol=1e-5)


def test_further_channels_begin_with_the_mean_filter_and_the_trained_ones_stay(file: Path) -> None:
    ours = encoder(5)
    load_encoder_weights(ours, "resnet34", str(file))
    theirs: Tensor = trained().conv1.weight  # type: ignore[union-attr, assignment]
    own: Tensor = ours.model.conv1.weight  # type: ignore[union-attr, assignment]
    assert torch.equal(own[:, :3], theirs)
    for channel in (3, 4):
        torch.testing.assert_close(own[:, channel], theirs.mean(1))


def test_only_the_first_convolution_is_adapted_and_every_misfit_is_told(file: Path, tmp_path: Path) -> None:
    tensors = dict(trained().state_dict())
    tensors["layer1.0.conv1.weight"] = torch.zeros(64, 32, 3, 3)
    tensors["bn1.weight"] = torch.zeros(65)
    safetensors.torch.save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(InputError) as caught:
        load_encoder_weights(encoder(1), "resnet34", str(tmp_path / "odd.safetensors"))
    assert sorted(fault.what for fault in caught.value.faults) == [
        "bn1.weight: expected shape (64,), found (65,)",
        "layer1.0.conv1.weight: expected shape (64, 64, 3, 3), found (64, 32, 3, 3)",
    ]


def test_a_file_of_another_model_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\d+ of \d+ tensors are missing, e\.g\. stem_0\.weight"):
        load_encoder_weights(encoder(name="convnext_atto"), "convnext_atto", str(file))
    with pytest.raises(InputError, match="found nothing there"):
        load_encoder_weights(encoder(), "resnet34", str(tmp_path / "absent.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"expected a whole \.safetensors file"):
        load_encoder_weights(encoder(), "resnet34", str(tmp_path / "cut.safetensors"))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def refusal(name: str = "resnet34") -> str:
    """What `pretrained` answers, which must take less than 2 s."""
    ours = encoder(1, name)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^net\.encoder\.weights: ") as caught:
        load_encoder_weights(ours, name, "pretrained")
    assert time.monotonic() - start < 2
    return str(caught.value)


def assert_says_how_to_go_on(said: str) -> None:
    assert "the weights of 'resnet34' could not be fetched (" in said
    assert "hf download timm/resnet34.a1_in1k model.safetensors " in said
    assert said.endswith("or set net.encoder.weights: none")


def test_with_the_hub_switched_off_the_answer_is_quick(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    said = refusal()
    assert_says_how_to_go_on(said)
    assert "offline mode is enabled" in said


def test_where_nobody_listens_the_answer_is_quick(
    empty_cache: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hf_hub_url", lambda repository, name: f"{nobody}/{repository}/{name}")
    assert_says_how_to_go_on(refusal())


def test_where_the_server_is_silent_the_answer_is_quick(
    empty_cache: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hf_hub_url", lambda repository, name: f"{silent_server}/{repository}/{name}")
    said = refusal()
    assert_says_how_to_go_on(said)
    assert f"no answer from {silent_server}" in said


def test_where_the_name_of_the_hub_cannot_be_looked_up_the_answer_is_quick(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: over.wait(10))
    assert_says_how_to_go_on(refusal())
    over.set()


def test_the_hubs_own_setting_sets_the_patience(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: over.wait(10))
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "set")
    monkeypatch.setattr(hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.125)
    assert "within 0.125 s)" in refusal()
    over.set()


def test_a_download_that_breaks_off_says_how_to_go_on(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks_off(*arguments: str) -> str:
        raise RuntimeError("connection lost\nsomewhere")

    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(hub, "hf_hub_download", breaks_off)
    said = refusal()
    assert_says_how_to_go_on(said)
    assert "(connection lost)" in said


# The first is published as a pickle, by its address; the second not at all.
@pytest.mark.parametrize("name", ["legacy_senet154", "botnet50ts_256"])
def test_weights_that_are_no_safetensors_are_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: pytest.fail("the hub was asked"))
    with pytest.raises(InputError, match=rf"timm publishes no safetensors for '{name}'.*net\.encoder\.weights: none"):
        fetch_pretrained(name)


def test_what_the_hubs_cache_holds_is_used_without_asking(
    empty_cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url, timeout: pytest.fail("the hub was asked"))
    model = empty_cache / "models--timm--resnet34.a1_in1k"
    (model / "snapshots" / "c0ffee").mkdir(parents=True)
    (model / "snapshots" / "c0ffee" / "model.safetensors").symlink_to(file)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("c0ffee")
    ours, local = encoder(1), encoder(1)
    load_encoder_weights(ours, "resnet34", "pretrained")
    load_encoder_weights(local, "resnet34", str(file))
    assert all(torch.equal(one, two) for one, two in zip(ours.parameters(), local.parameters(), strict=True))
