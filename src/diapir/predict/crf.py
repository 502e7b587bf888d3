"""Dense conditional random fields with two labels, salt and none: mean field as matrix products, without a lattice.

Two forms that the public kernels of the TGS competition took from pydensecrf: neighbours by location alone, on a mask,
and neighbours by location and grey value, on probabilities. pydensecrf filters on a lattice, which is approximate; here
the kernels are the Gaussians themselves.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Message = Callable[[Tensor], Tensor]
"""Maps of any values (n, h, w) -> what each pixel hears from all of them, by a symmetric normalised kernel."""

_GREYS = 256
_SURE = 1e-5  # probabilities are cut off this far from 0 and 1, as in pydensecrf's unary_from_softmax
# Waves along a line weaker than this share of the strongest are left out; float32 sums err about as far.
_FAINT = 1e-7
_CHUNK, _CHUNK_BY_GREY = 256, 8  # tiles in hand at once: some 10 MB an array, in either form


def location_crf(
    masks: Tensor, *, certainty: float = 0.7, sigma_px: float = 3.0, compat: float = 3.0, steps: int = 10
) -> Tensor:
    """Probability of salt once neighbours by location alone have smoothed a mask: float32 (n, h, w).

    Args:
        masks: bool or integer (n, h, w); anything but 0 is salt.
        certainty: probability that a pixel of the mask is right (pydensecrf's gt_prob).
        sigma_px: deviation of the Gaussian of the distance.
        compat: Potts penalty of neighbours that differ.

    Source: Krähenbühl and Koltun 2011 (arXiv:1210.5644), with the numbers of the public kernels.
    """
    assert 0.5 < certainty < 1, f"certainty must be in (0.5, 1): got {certainty}"
    sure = float(np.log(certainty / (1 - certainty)))
    message = location_message(*masks.shape[-2:], sigma_px=sigma_px, device=masks.device)
    parts = [
        mean_field(torch.where(part != 0, sure, -sure), message=message, compat=compat, steps=steps)
        for part in torch.split(masks, _CHUNK)
    ]
    return torch.cat(parts)


def bilateral_crf(
    probability: Tensor,
    images: Tensor,
    *,
    cut: float = 0.5,
    sigma_px: float = 10.0,
    sigma_grey: float = 0.01,
    compat: float = 1.0,
    steps: int = 10,
) -> Tensor:
    """Probability of salt once neighbours by location and grey value have smoothed it: float32 (n, h, w).

    Args:
        probability: (n, h, w); `cut` is where salt begins, and becomes 0.5.
        images: uint8 (n, h, w), on the same device.
        sigma_px: deviation of the Gaussian of the distance.
        sigma_grey: of the Gaussian of the difference in grey, in units of the whole range (255).
        compat: Potts penalty of neighbours that differ.

    Source: Krähenbühl and Koltun 2011, equation 3, first kernel (arXiv:1210.5644); the numbers are BloodAxe's. That
    they count in a range of 0 to 1, and 10 steps, is assumed.
    """
    assert probability.shape == images.shape, f"no image each: {tuple(probability.shape)} and {tuple(images.shape)}"
    shift = float(np.log(cut / (1 - cut)))
    parts = []
    for own, image in zip(torch.split(probability, _CHUNK_BY_GREY), torch.split(images, _CHUNK_BY_GREY), strict=True):
        unary = own.float().clamp(_SURE, 1 - _SURE).logit() - shift
        message = bilateral_message(image, sigma_px=sigma_px, sigma_grey=sigma_grey)
        parts.append(mean_field(unary, message=message, compat=compat, steps=steps))
    return torch.cat(parts)


def mean_field(unary: Tensor, *, message: Message, compat: float, steps: int) -> Tensor:
    """Probability of salt after rounds of mean field, all pixels at once: (n, h, w).

    A round is q <- sigmoid(unary + compat (M q - M (1 - q))), the first q sigmoid(unary). A pixel is one of its own
    neighbours, as in the authors' code; their paper leaves it out.

    Args:
        unary: logits of salt, (n, h, w).
        message: M, linear.

    Source: Krähenbühl and Koltun 2011, algorithm 1 (arXiv:1210.5644).
    """
    heard_by_all = message(torch.ones_like(unary))
    salt = unary.sigmoid()
    for _ in range(steps):
        salt = (unary + compat * (2 * message(salt) - heard_by_all)).sigmoid()
    return salt


def location_message(height: int, width: int, *, sigma_px: float, device: torch.device | None = None) -> Message:
    """The Gaussian of the distance between pixels, exactly: both it and its norm are a product of rows and columns."""
    rows, columns = (
        torch.from_numpy(_normalised(_gaussian(length, sigma_px))).float().to(device) for length in (height, width)
    )
    return lambda values: rows @ (values @ columns)


def bilateral_message(images: Tensor, *, sigma_px: float, sigma_grey: float) -> Message:
    """The Gaussian of distance times that of the difference in grey, but for what float32 and `_FAINT` leave out.

    8-bit images have 256 grey values. Pixels of one value are summed wave by wave, along their line and then over the
    lines; the sums are mixed between values; and each pixel reads those of its own value. That is 5e7 products for a
    tile of 101 x 101 where all pairs of pixels are 1e8 exponentials, and no array of all pairs.

    Args:
        images: uint8 (n, h, w).
        sigma_grey: in units of the whole range (255).
    """
    count, height, width = images.shape
    down, across = (_waves(length, sigma_px).to(images.device) for length in (height, width))
    alike = torch.from_numpy(_gaussian(_GREYS, sigma_grey * (_GREYS - 1))).float().to(images.device)
    lines = torch.arange(count * height, device=images.device).view(count, height, 1)
    line_and_grey = (lines * _GREYS + images).flatten()
    over, along = down.shape[1], across.shape[1]

    def smoothed(values: Tensor) -> Tensor:
        in_waves = (values[..., None] * across).reshape(count * height * width, along)
        sums = down.new_zeros(count * height * _GREYS, along).index_add_(0, line_and_grey, in_waves)
        over_lines = (down.T @ sums.reshape(count, height, _GREYS * along)).reshape(count, over, _GREYS, along)
        mixed = (alike @ over_lines).reshape(count, over, _GREYS * along)
        heard = (down @ mixed).reshape(count * height * _GREYS, along)[line_and_grey]
        return (heard.reshape(count, height, width, along) * across).sum(-1)

    # A pixel hears itself with weight 1, so the least sum is 1, but for rounding.
    norm = smoothed(down.new_ones(images.shape)).clamp(min=1).rsqrt()
    return lambda values: norm * smoothed(norm * values)


def _waves(length: int, sigma: float) -> Tensor:
    """W with W Wᵀ the Gaussian of the distance along a line, without its faint waves: float32 (length, waves)."""
    power, shapes = np.linalg.eigh(_gaussian(length, sigma))
    kept = power > _FAINT * power.max()
    return torch.from_numpy(np.ascontiguousarray(shapes[:, kept] * np.sqrt(power[kept]))).float()


def _gaussian(length: int, sigma: float) -> NDArray[np.float64]:
    """Exp(-d² / 2 sigma²) of the distance between all positions of a line: (length, length)."""
    place = np.arange(length) / sigma
    kernel: NDArray[np.float64] = np.exp(-((place[:, None] - place[None, :]) ** 2) / 2)
    return kernel


def _normalised(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """D K D, D the inverse root of the sum of each row."""
    norm = 1 / np.sqrt(kernel.sum(1))
    scaled: NDArray[np.float64] = norm[:, None] * kernel * norm[None, :]
    return scaled
