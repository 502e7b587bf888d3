import math
import typing
from typing import Literal

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from diapir.faults import InputError
from diapir.nets.framing import Border, Frame, InputSpec, net_input
from diapir.recipe.tiles import Channel

NATIVE = Frame("native")


def tiles(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def waves(length_px: float) -> Tensor:
    """Waves in several directions: (4, 1, 101, 101) in 0..1."""
    rows, columns = torch.meshgrid(torch.arange(101), torch.arange(101), indexing="ij")
    angles = torch.tensor([0.0, 0.4, 1.1, math.pi / 2])[:, None, None]
    phase = (rows * angles.cos() + columns * angles.sin()) * 2 * math.pi / length_px
    return (phase.sin() / 2 + 0.5)[:, None]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 11), st.sampled_from(typing.get_args(Border)))
def test_padding_is_undone_to_the_bit(height: int, width: int, extra: int, border: Border) -> None:
    size = max(height, width) + extra
    # A reflection does not reach beyond the far side.
    assume(border != "reflect" or size - min(height, width) + 1 < 2 * min(height, width))
    images, frame = tiles(2, 3, height, width), Frame("pad", size, border)
    framed = frame.enclose(images)
    assert framed.shape == (2, 3, size, size)
    assert torch.equal(frame.release(framed, height=height, width=width), images)


@pytest.mark.parametrize("border", typing.get_args(Border))
@pytest.mark.parametrize("size", [101, 102, 104, 127, 128, 202, 256])
def test_tiles_come_back_from_every_size_to_the_bit(border: Border, size: int) -> None:
    images = tiles(2, 1, 101, 101)
    frame = Frame("pad", size, border)
    assert torch.equal(frame.release(frame.enclose(images), height=101, width=101), images)


def test_native_tiles_are_left_alone() -> None:
    images = tiles(1, 2, 5, 7)
    assert Frame("native").enclose(images) is images
    assert Frame("native").release(images, height=5, width=7) is images


def filled(place: int, side: int, border: Border) -> int | None:
    """Where the pixel at `place` of an axis of `side` comes from, slowly: None for nowhere."""
    if border == "zero":
        return place if 0 <= place < side else None
    while not 0 <= place < side:
        step = -place if place < 0 else 2 * (side - 1) - place
        place = step if border == "reflect" else min(max(place, 0), side - 1)
    return place


@pytest.mark.parametrize("border", typing.get_args(Border))
@pytest.mark.parametrize(("side", "size"), [(5, 8), (5, 9), (4, 7), (4, 4), (5, 13)])
def test_a_border_is_filled_pixel_by_pixel_as_it_says(border: Border, side: int, size: int) -> None:
    image = tiles(1, 1, side, side)
    framed = Frame("pad", size, border).enclose(image)[0, 0]
    first = (size - side) // 2  # the odd pixel goes below and to the right
    for row in range(size):
        for column in range(size):
            i, j = filled(row - first, side, border), filled(column - first, side, border)
            expected = 0.0 if i is None or j is None else image[0, 0, i, j].item()
            assert framed[row, column].item() == expected


@pytest.mark.parametrize("size", [101, 104, 128, 202, 224])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.25, 0.3])
def test_resizing_leaves_a_constant_as_it_is(size: int, value: float) -> None:
    images = torch.full((1, 1, 101, 101), value)
    frame = Frame("resize", size)
    framed = frame.enclose(images)
    assert framed.shape == (1, 1, size, size)
    torch.testing.assert_close(framed, torch.full_like(framed, value), rtol=2e-7, atol=0)
    torch.testing.assert_close(frame.release(framed, height=101, width=101), images, rtol=4e-7, atol=0)


@pytest.mark.parametrize("size", [102, 128, 202, 256])
@pytest.mark.parametrize(("length_px", "tolerance"), [(12, 0.08), (40, 0.025)])
def test_smooth_tiles_come_back_from_a_larger_size(size: int, length_px: float, tolerance: float) -> None:
    images, frame = waves(length_px), Frame("resize", size)
    released = frame.release(frame.enclose(images), height=101, width=101)
    assert (released - images).abs().max() < tolerance  # reached at the border, where there is nothing beyond
    assert (released - images)[..., 2:-2, 2:-2].abs().max() < tolerance / 2


@pytest.mark.parametrize("size", [64, 80, 128, 224])
def test_resizing_moves_nothing_sideways(size: int) -> None:
    images, frame = waves(12), Frame("resize", size)
    framed = frame.enclose(images)
    for axis in (-1, -2):
        torch.testing.assert_close(frame.enclose(images.flip(axis)), framed.flip(axis))
        released = frame.release(framed, height=101, width=101)
        mirrored = frame.release(framed.flip(axis), height=101, width=101)
        torch.testing.assert_close(mirrored, released.flip(axis))


@pytest.mark.parametrize("width", [99, 20])
def test_shrinking_averages_thin_layers_and_does_not_drop_them(width: int) -> None:
    layers = (torch.arange(99) % 2)[:, None].expand(99, width).float()[None, None]
    # At a third of the height plain interpolation would take every third row as it is: 0 or 1.
    assert (Frame("resize", 33).enclose(layers) - 0.5).abs().max() < 0.1
    assert (Frame("resize", 99).release(layers, height=33, width=33) - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("border", typing.get_args(Border))
def test_a_tile_larger_than_its_frame_is_refused(border: Border) -> None:
    says = r"framing\.size: tiles of 101x90 cannot be padded to 100: expected 101 or more"
    with pytest.raises(InputError, match=says):
        Frame("pad", 100, border).enclose(tiles(1, 1, 101, 90))


def test_a_tile_too_small_to_be_reflected_that_far_is_refused() -> None:
    images = tiles(1, 1, 101, 101)
    assert Frame("pad", 301, "reflect").enclose(images).shape[-1] == 301
    with pytest.raises(InputError, match=r"framing\.border: tiles of 101x101 .* reflected out to 302x302"):
        Frame("pad", 302, "reflect").enclose(images)
    assert Frame("pad", 302, "edge").enclose(images).shape[-1] == 302


def channel(name: Channel, images: Tensor, depths_m: Tensor | None = None, *, frame: Frame = NATIVE) -> Tensor:
    spec = InputSpec(channels=(name,), levels=((0.4, 0.2),), depth_low_m=100, depth_high_m=900)
    found = net_input(images, torch.zeros(len(images)) if depths_m is None else depths_m, spec=spec, frame=frame)
    assert found.shape[1] == 1
    return found[:, 0]


def test_the_image_channel_is_scaled() -> None:
    images = tiles(2, 5, 7)
    torch.testing.assert_close(channel("image", images), (images - 0.4) / 0.2)


def test_ramps_run_from_0_to_1_over_the_tile() -> None:
    images = tiles(2, 5, 11)
    down, along = channel("row_ramp", images), channel("column_ramp", images)
    torch.testing.assert_close(down, torch.tensor([0, 0.25, 0.5, 0.75, 1])[None, :, None].expand(2, 5, 11))
    torch.testing.assert_close(along, torch.arange(11).div(10).expand(2, 5, 11))
    torch.testing.assert_close(channel("image_times_ramp", images), images * down)


def test_ramps_are_framed_with_the_tile() -> None:
    images = tiles(1, 5, 5)
    ramp = channel("row_ramp", images, frame=Frame("pad", 9))[0, :, 0]
    torch.testing.assert_close(ramp, torch.tensor([2, 1, 0, 1, 2, 3, 4, 3, 2]) / 4)


def test_depth_is_relative_to_the_range_and_half_where_unknown() -> None:
    depths_m = torch.tensor([100, 900, 300, math.nan])
    found = channel("depth", tiles(4, 3, 3), depths_m)
    torch.testing.assert_close(found, torch.tensor([0, 1, 0.25, 0.5])[:, None, None].expand(4, 3, 3))


def test_depth_without_a_range_is_no_number_to_fear() -> None:
    spec = InputSpec(channels=("depth",), levels=((0, 1),), depth_low_m=500, depth_high_m=500)
    found = net_input(tiles(2, 3, 3), torch.tensor([500, math.nan]), spec=spec, frame=Frame("native"))
    assert found[:, 0, 0, 0].tolist() == [0, 0.5]


@pytest.mark.parametrize(("method", "size"), [("native", 101), ("pad", 128), ("resize", 64)])
def test_channels_stand_in_the_order_of_the_spec(method: Literal["native", "pad", "resize"], size: int) -> None:
    names: tuple[Channel, ...] = ("depth", "image", "column_ramp", "row_ramp", "image_times_ramp")
    spec = InputSpec(channels=names, levels=((0.4, 0.2),), depth_low_m=100, depth_high_m=900)
    images, depths_m, frame = tiles(3, 101, 101), torch.tensor([150.0, 400, math.nan]), Frame(method, size)
    found = net_input(images, depths_m, spec=spec, frame=frame)
    assert found.shape == (3, 5, size, size)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    for place, name in enumerate(names):
        torch.testing.assert_close(found[:, place], channel(name, images, depths_m, frame=frame))
