import math
from typing import Literal

import pytest
import timm
import torch

from diapir.faults import InputError
from diapir.nets.encoders import ResidualEncoder, TimmEncoder

SIDES = [64, 101, 104, 128, 256]


@pytest.mark.parametrize(
    ("stem", "strides"),
    [("max_pool", (2, 4, 8, 16, 32)), ("stride", (2, 2, 4, 8, 16)), ("none", (1, 1, 2, 4, 8))],
)
def test_maps_of_resnet34_have_the_sizes_that_the_stem_says(
    stem: Literal["max_pool", "stride", "none"], strides: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder("resnet34", in_channels=2, stem=stem)
        assert encoder.stride == strides[0]
        assert encoder.channels == (64, 64, 128, 256, 512)
        for side in SIDES:
            sizes = [tuple(maps.shape) for maps in encoder(torch.zeros(1, 2, side, side))]
            wanted = [math.ceil(side / stride) for stride in strides]
            assert sizes == [(1, c, size, size) for c, size in zip(encoder.channels, wanted, strict=True)]


@pytest.mark.parametrize(("stem", "first"), [("stride", 2), ("none", 1)])
def test_maps_of_residual_stages_halve_from_stage_to_stage(stem: Literal["stride", "none"], first: int) -> None:
    with torch.device("meta"):
        encoder = ResidualEncoder(3, widths=(4, 6, 8, 10), blocks=(1, 2, 1, 3), stem=stem, squeeze=2).eval()
        assert (encoder.stride, encoder.channels) == (first, (4, 6, 8, 10))
        assert [len(stage) for stage in encoder.stages] == [1, 2, 1, 3]  # type: ignore[arg-type]  # nn.Sequential has a length
        for side in [*SIDES, 1]:
            sizes = [tuple(maps.shape) for maps in encoder(torch.zeros(1, 3, side, side))]
            wanted = [math.ceil(side / (first * 2**stage)) for stage in range(4)]
            assert sizes == [(1, c, size, size) for c, size in zip(encoder.channels, wanted, strict=True)]


def test_a_published_stem_is_timms_own() -> None:
    torch.manual_seed(0)
    ours = TimmEncoder("resnet10t", in_channels=1, stem="max_pool").eval()
    theirs = timm.create_model("resnet10t", features_only=True, in_chans=1).eval()
    theirs.load_state_dict(ours.model.state_dict())
    image = torch.randn(1, 1, 33, 33)
    assert all(torch.equal(one, two) for one, two in zip(ours(image), theirs(image), strict=True))


def test_an_unknown_timm_model_is_refused_with_near_names() -> None:
    with pytest.raises(InputError, match=r"net.encoder.name: timm has no model 'resnt34'; near names: .*resnet34"):
        TimmEncoder("resnt34", in_channels=1, stem="max_pool")
    with pytest.raises(InputError, match=r"net.encoder.name: timm cannot give .*'resnet34.no_such_tag'"):
        TimmEncoder("resnet34.no_such_tag", in_channels=1, stem="max_pool")


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet34.a1_in1k", "hf_hub:a/b", "local-dir:/tmp", "", "../x", "a:b:c"])
def test_names_that_are_places_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"net\.encoder\.name: timm has no model"):
        TimmEncoder(name, in_channels=1, stem="max_pool")


def test_a_stem_that_cannot_be_changed_is_refused() -> None:
    with torch.device("meta"), pytest.raises(InputError, match=r"net\.encoder\.stem: 'stride' needs .*convnext_atto"):
        TimmEncoder("convnext_atto", in_channels=1, stem="stride")


def test_an_encoder_of_a_single_size_is_refused() -> None:
    told = r"net\.encoder\.name: 'swin_tiny_patch4_window7_224' does not take images of any size \(64 x 64: .*224"
    with torch.device("meta"), pytest.raises(InputError, match=told):
        TimmEncoder("swin_tiny_patch4_window7_224", in_channels=1, stem="max_pool")


def test_an_encoder_whose_maps_have_their_channels_last_is_refused() -> None:
    told = r"net\.encoder\.name: .* expected maps of 48 x 16 x 16 .*'mambaout_femto' gives 16 x 16 x 48, 8 x 8 x 96"
    with torch.device("meta"), pytest.raises(InputError, match=told):
        TimmEncoder("mambaout_femto", in_channels=1, stem="max_pool")


def test_an_encoder_comes_ready_to_train_with_the_weights_that_timm_draws() -> None:
    torch.manual_seed(0)
    ours = TimmEncoder("resnet10t", in_channels=1, stem="max_pool")
    state = torch.get_rng_state()
    torch.manual_seed(0)
    theirs = timm.create_model("resnet10t", features_only=True, in_chans=1)
    assert all(module.training for module in ours.modules())
    assert torch.equal(state, torch.get_rng_state())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name
