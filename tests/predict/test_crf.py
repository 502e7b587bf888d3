from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diapir.predict import crf
from diapir.predict.crf import (
    bilateral_crf,
    bilateral_message,
    location_crf,
    location_message,
    mean_field,
)
from fake_masks import blob_masks


def slow_kernel(
    height: int, width: int, *, sigma_px: float, grey: NDArray[np.uint8] | None = None, sigma_grey: float = 1.0
) -> NDArray[np.float64]:
    """The normalised kernel of one tile, pair by pair: (h w, h w)."""
    places = [(y, x) for y in range(height) for x in range(width)]
    kernel = np.empty((len(places), len(places)))
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            energy = ((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) / sigma_px**2
            if grey is not None:
                energy += ((float(grey[one]) - float(grey[other])) / 255 / sigma_grey) ** 2
            kernel[i, j] = np.exp(-energy / 2)
    norm = 1 / np.sqrt(kernel.sum(1))
    scaled: NDArray[np.float64] = norm[:, None] * kernel * norm
    return scaled


def slow_mean_field(
    salt_energy: NDArray[np.float64],
    other_energy: NDArray[np.float64],
    kernel: NDArray[np.float64],
    *,
    compat: float,
    steps: int,
) -> NDArray[np.float64]:
    """Mean field with two labels, each with its own energy and its own message, normalised at the end of a step."""
    energies = np.stack([other_energy.ravel(), salt_energy.ravel()])
    shares = np.exp(-energies) / np.exp(-energies).sum(0)
    for _ in range(steps):
        heard = np.stack([kernel @ share for share in shares])
        belief = np.exp(-energies + compat * heard)
        shares = belief / belief.sum(0)
    salt: NDArray[np.float64] = shares[1].reshape(salt_energy.shape)
    return salt


def smooth_greys(number: int, height: int, width: int) -> NDArray[np.uint8]:
    rows = np.linspace(0, 60, height)[:, None] + np.linspace(0, 20, width)
    noise = np.random.default_rng(0).integers(0, 6, (number, height, width))
    return (100 + rows + noise).astype(np.uint8)


@pytest.mark.parametrize("shape", [(9, 9), (6, 11)])
def test_the_location_form_agrees_with_all_pairs_of_pixels(shape: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (3, *shape)).astype(np.uint8)
    found = location_crf(torch.from_numpy(masks))
    kernel = slow_kernel(*shape, sigma_px=3.0)
    for tile, mask in zip(found.numpy(), masks, strict=True):
        salt, other = (-np.log(np.where(mask == label, 0.7, 0.3)) for label in (1, 0))
        assert np.allclose(tile, slow_mean_field(salt, other, kernel, compat=3.0, steps=10), atol=1e-5)


@pytest.mark.parametrize(("sigma_px", "sigma_grey"), [(10.0, 0.01), (2.0, 0.05)])
def test_the_bilateral_form_agrees_with_all_pairs_of_pixels(sigma_px: float, sigma_grey: float) -> None:
    images = smooth_greys(2, 8, 10)
    probability = np.random.default_rng(1).random(images.shape).astype(np.float32)
    found = bilateral_crf(
        torch.from_numpy(probability), torch.from_numpy(images), sigma_px=sigma_px, sigma_grey=sigma_grey
    )
    for tile, own, image in zip(found.numpy(), probability.astype(np.float64), images, strict=True):
        kernel = slow_kernel(8, 10, sigma_px=sigma_px, grey=image, sigma_grey=sigma_grey)
        expected = slow_mean_field(-np.log(own), -np.log(1 - own), kernel, compat=1.0, steps=10)
        assert np.allclose(tile, expected, atol=1e-5)


def test_the_bilateral_kernel_over_a_whole_side_errs_by_what_floats_do() -> None:
    images = smooth_greys(1, 101, 25)
    values = np.random.default_rng(2).random((1, 101, 25))
    message = bilateral_message(torch.from_numpy(images), sigma_px=10.0, sigma_grey=0.01)
    found = message(torch.from_numpy(values).float()).double().numpy().ravel()
    rows, columns = (axis.ravel() for axis in np.mgrid[:101, :25])
    grey = images.ravel() / 255
    energies = sum(
        (feature[:, None] - feature) ** 2 / sigma**2 for feature, sigma in ((rows, 10.0), (columns, 10.0), (grey, 0.01))
    )
    kernel = np.exp(-energies / 2)
    norm = 1 / np.sqrt(kernel.sum(1))
    assert np.allclose(found, norm * (kernel @ (norm * values.ravel())), atol=1e-5)


def test_location_messages_are_symmetric_and_keep_the_sum_of_the_root_of_the_norm() -> None:
    message = location_message(7, 5, sigma_px=2.0)
    pixels = torch.eye(35).view(35, 7, 5)
    matrix = message(pixels).view(35, 35)
    assert torch.allclose(matrix, matrix.T, atol=1e-6)
    assert torch.linalg.eigvalsh(matrix.double()).max().item() == pytest.approx(1, abs=1e-5)


def test_without_neighbours_to_please_a_pixel_stays_what_it_is() -> None:
    unary = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
    message = location_message(5, 5, sigma_px=1.0)
    assert torch.allclose(mean_field(unary, message=message, compat=0.0, steps=3), unary.sigmoid())
    assert torch.allclose(mean_field(unary, message=message, compat=3.0, steps=0), unary.sigmoid())


def test_salt_and_none_are_treated_alike() -> None:
    masks = torch.from_numpy(blob_masks(10, side=20))
    assert torch.allclose(location_crf(masks), 1 - location_crf(1 - masks), atol=1e-5)


def test_a_mirrored_tile_gives_a_mirrored_answer() -> None:
    masks = torch.from_numpy(blob_masks(6, side=20))
    assert torch.allclose(location_crf(masks.flip(-1)), location_crf(masks).flip(-1), atol=1e-5)


def test_the_location_form_drops_specks_and_keeps_blocks() -> None:
    masks = torch.zeros(1, 40, 40, dtype=torch.uint8)
    masks[0, 5, 5] = 1
    masks[0, 15:35, 10:35] = 1
    smoothed = location_crf(masks) > 0.5
    assert not smoothed[0, :10, :10].any()
    assert smoothed[0, 18:32, 13:32].all()


def test_the_bilateral_form_follows_the_grey_where_the_net_was_unsure() -> None:
    images = torch.full((1, 20, 20), 60, dtype=torch.uint8)
    images[0, :, 10:] = 160
    probability = torch.full((1, 20, 20), 0.4)
    probability[0, :, 10:] = 0.6
    probability[0, 9:12, 8:10] = 0.55
    salt = bilateral_crf(probability, images)
    assert (salt[0, :, 10:] > 0.5).all()
    assert (salt[0, :, :10] < 0.5).all()


def test_the_bilateral_form_takes_its_cut_for_a_half() -> None:
    images = torch.from_numpy(smooth_greys(3, 9, 9))
    probability = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    kept = bilateral_crf(probability, images, cut=0.3, compat=0.0)
    assert torch.equal(kept > 0.5, probability > 0.3)


def test_sure_pixels_have_finite_answers() -> None:
    images = torch.from_numpy(smooth_greys(1, 6, 6))
    probability = torch.zeros(1, 6, 6)
    probability[0, :3] = 1
    salt = bilateral_crf(probability, images)
    assert torch.isfinite(salt).all()
    assert torch.equal(salt > 0.5, probability > 0.5)


@pytest.mark.parametrize(
    "smooth", [lambda tiles: location_crf(tiles > 0.5), lambda tiles: bilateral_crf(tiles, tiles.byte())]
)
def test_no_tiles_are_no_trouble(smooth: Callable[[Tensor], Tensor]) -> None:
    found = smooth(torch.zeros(0, 8, 8))
    assert found.shape == (0, 8, 8)


def test_more_tiles_than_a_chunk_are_each_treated_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.from_numpy(blob_masks(9, side=12))
    images = torch.from_numpy(smooth_greys(9, 12, 12))
    whole = location_crf(masks), bilateral_crf(masks * 0.4 + 0.3, images)
    monkeypatch.setattr(crf, "_CHUNK", 2)
    monkeypatch.setattr(crf, "_CHUNK_BY_GREY", 4)
    parts = location_crf(masks), bilateral_crf(masks * 0.4 + 0.3, images)
    assert torch.allclose(parts[0], whole[0], atol=1e-6)
    assert torch.allclose(parts[1], whole[1], atol=1e-5)
