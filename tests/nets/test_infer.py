import typing
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from diapir.nets.framing import Frame, InputSpec
from diapir.nets.infer import TileTensors, View, predict_heads, see
from diapir.nets.unet import Outputs

SPEC = InputSpec(channels=("image",), levels=((0.5, 0.125),), depth_low_m=0, depth_high_m=1)
NATIVE = Frame("native")
VIEWS: tuple[View, ...] = typing.get_args(View)


class Sees(nn.Module):
    """Logits are the image itself, plus `tilt` times the column's place: a net that is not blind to flips."""

    def __init__(self, tilt: float = 0.0) -> None:
        super().__init__()
        self.tilt = tilt
        self.frozen, self.free = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> Outputs:
        assert not any(module.training for module in self.modules())
        self.batches.append(len(image))
        return Outputs(image[:, 0] + self.tilt * torch.linspace(-1, 1, image.shape[-1]), None)


def some_tiles(number: int = 7, *, height: int = 6, width: int = 9) -> TileTensors:
    images = torch.randint(256, (number, height, width), generator=torch.Generator().manual_seed(0))
    return TileTensors(images.to(torch.uint8), None, torch.full((number,), torch.nan))


def batches(
    net: nn.Module, tiles: TileTensors, *, views: tuple[View, ...] = VIEWS, batch: int = 3, frame: Frame = NATIVE
) -> Iterator[Tensor]:
    found = predict_heads(net, tiles, spec=SPEC, frame=frame, views=views, batch=batch, autocast=nullcontext)
    return (each.mask for each in found)


def predict(
    net: nn.Module, tiles: TileTensors, *, views: tuple[View, ...] = VIEWS, batch: int = 3, frame: Frame = NATIVE
) -> Tensor:
    return torch.cat(list(batches(net, tiles, views=views, batch=batch, frame=frame)))


def straight(tiles: TileTensors) -> Tensor:
    """Probabilities of a net that gives its input back."""
    return ((tiles.images / 255 - 0.5) / 0.125).sigmoid()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_seen_twice_is_the_tile(view: View) -> None:
    images = some_tiles().images
    assert torch.equal(see(view, see(view, images)), images)


def test_views_differ() -> None:
    images = some_tiles().images
    assert torch.equal(see("plain", images), images)
    assert torch.equal(see("flip", images)[..., 0], images[..., -1])
    assert torch.equal(see("flip", images)[:, 0], images[:, 0].flip(-1))


@pytest.mark.parametrize("views", [("plain",), ("flip",), ("plain", "flip")])
@pytest.mark.parametrize("frame", [Frame("native"), Frame("pad", 15), Frame("pad", 16, "zero")])
def test_what_the_net_sees_comes_back_in_its_place(views: tuple[View, ...], frame: Frame) -> None:
    tiles = some_tiles()
    found = predict(Sees(), tiles, views=views, frame=frame)
    assert found.dtype == torch.float32
    assert torch.equal(found, straight(tiles))


def test_probabilities_and_not_logits_are_averaged() -> None:
    tiles, net = some_tiles(), Sees(tilt=3)
    plain, flip = predict(net, tiles, views=("plain",)), predict(net, tiles, views=("flip",))
    assert not torch.allclose(plain, flip)
    torch.testing.assert_close(predict(net, tiles), (plain + flip) / 2)


class SaysSalt(Sees):
    """Says that a tile holds salt by the logit of its first column."""

    def forward(self, image: Tensor) -> Outputs:
        return super().forward(image)._replace(has_salt=image[:, 0, :, 0].mean(1))


def test_has_salt_probabilities_are_the_mean_over_views_beside_the_same_masks() -> None:
    tiles = some_tiles()
    found = list(predict_heads(SaysSalt(), tiles, spec=SPEC, frame=NATIVE, views=VIEWS, batch=3, autocast=nullcontext))
    assert torch.equal(torch.cat([each.mask for each in found]), predict(Sees(), tiles))
    said = [each.has_salt for each in found if each.has_salt is not None]
    logits = ((tiles.images / 255 - 0.5) / 0.125)[..., [0, -1]].mean(1)
    torch.testing.assert_close(torch.cat(said), logits.sigmoid().mean(1))
    silent = predict_heads(Sees(), tiles, spec=SPEC, frame=NATIVE, views=VIEWS, batch=7, autocast=nullcontext)
    assert [each.has_salt for each in silent] == [None]


def test_a_net_blind_to_a_flip_and_its_tile_flipped_agree_over_both_views() -> None:
    tiles, net = some_tiles(), Sees(tilt=3)
    flipped = TileTensors(tiles.images.flip(-1), None, tiles.depths_m)
    torch.testing.assert_close(predict(net, flipped), predict(net, tiles).flip(-1))


@pytest.mark.parametrize("batch", [1, 3, 7, 64])
def test_batches_do_not_change_what_is_found_and_none_is_larger_than_asked(batch: int) -> None:
    tiles, net = some_tiles(), Sees(tilt=1)
    torch.testing.assert_close(predict(net, tiles, batch=batch), predict(net, tiles, batch=5))
    assert max(net.batches[: -(-7 // batch)]) <= batch


def test_resized_tiles_come_back_in_their_own_size() -> None:
    assert predict(Sees(), some_tiles(), frame=Frame("resize", 32)).shape == (7, 6, 9)


def test_zero_tiles_are_no_trouble() -> None:
    assert list(batches(Sees(), some_tiles(0))) == []


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("leave_early", [True, False])
def test_every_module_is_left_in_the_mode_that_it_came_in(training: bool, leave_early: bool) -> None:
    net = Sees().train(training)
    net.frozen.eval()
    modes = [module.training for module in net.modules()]
    found = batches(net, some_tiles(), batch=2)
    if leave_early:
        next(found)
        found.close()  # type: ignore[attr-defined]  # an iterator made by a generator can be closed
    else:
        assert len(list(found)) == 4
    assert [module.training for module in net.modules()] == modes


def test_no_gradient_is_kept() -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, image: Tensor) -> Outputs:
            return Outputs(self.gain * image[:, 0], None)

    assert not predict(Learns(), some_tiles()).requires_grad
