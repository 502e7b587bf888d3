"""Many predictions of the same tiles -> one: functions of arrays, worked through a few tiles at a time.

A member is an array (n, height, width), in memory or on disk (np.memmap); 18,000 tiles in halves are 370 MB. What
comes back has the members' own type, so halves stay halves; sums are taken in float64, in which halves add up exactly.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError

Probability = NDArray[np.floating[Any]]
"""(n, height, width), 0 to 1."""
Range = tuple[float, float]

_Member = TypeVar("_Member", bound=np.generic)
_Value = TypeVar("_Value", bound=np.generic)

_CHUNK = 128  # tiles in hand at once: 10 MB of float64 for each member


def mean(members: Sequence[Probability]) -> Probability:
    """Plain mean; for halves the same to the last bit in whatever order the members come."""
    return weighted_mean(members, [1.0] * len(members))


def weighted_mean(members: Sequence[Probability], weights: Sequence[float]) -> Probability:
    """Mean with a weight for each member, such as 1, 1, 1, 3; only their ratios matter."""
    total = _total(weights, of=members)

    def blend(parts: list[Probability]) -> Probability:
        summed: Probability = _weighted_sum(parts, weights) / total
        return summed

    return _by_chunks(members, blend, kind=np.result_type(*members))


def weights_by_score(scores: Sequence[float]) -> list[float]:
    """Each member's share of the scores' sum, as Odoh weighted his members with those of the leaderboard."""
    total = sum(scores)
    assert total > 0 and min(scores) >= 0, f"scores are not negative, and not all 0: got {scores}"
    return [score / total for score in scores]


def weights_by_rank(scores: Sequence[float], *, decay: float) -> list[float]:
    """Weights that fall by the factor `decay` with each rank from the best score on; their sum is 1.

    Members of equal score share the weights of their ranks evenly, so that the order of the members does not matter.

    Source: the 28th place of the TGS competition, decay 1/2, for averages of weights.
    """
    assert 0 < decay <= 1, f"decay must be in (0, 1]: got {decay}"
    values = np.asarray(scores, np.float64)
    by_rank = decay ** np.arange(len(values), dtype=np.float64)
    better = (values[None, :] > values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    weights = [by_rank[first : first + number].mean() for first, number in zip(better, equal, strict=True)]
    return [float(weight / by_rank.sum()) for weight in weights]


def vote_share(
    members: Sequence[NDArray[Any]],
    *,
    above: float = 0.0,
    weights: Sequence[float] | None = None,
    empty_above: float | None = None,
) -> NDArray[np.float32]:
    """Weighted share of the members that have salt at a pixel: float32 (n, h, w).

    Args:
        members: (n, h, w) each, masks or probabilities.
        above: salt is what is above this: 0 for masks.
        empty_above: where members with a larger share of the weights have no salt at all, the tile becomes 0. With 0.5,
            and shares cut at 0.5, it changes nothing, for no pixel can then have half of the weights; it does with
            less, or with a lower cut.

    Source: Odoh's blend of run-length masks weighted by score (TGS competition); `empty_above` is assumed.
    """
    weights = [1.0] * len(members) if weights is None else weights
    total = _total(weights, of=members)

    def share(parts: list[NDArray[Any]]) -> NDArray[np.float64]:
        salt = [part > above for part in parts]
        shares = _weighted_sum(salt, weights) / total
        if empty_above is not None:
            empty = _weighted_sum([each.max(axis=(1, 2)) == 0 for each in salt], weights)
            shares[empty > empty_above * total] = 0
        return shares

    return _by_chunks(members, share, kind=np.dtype(np.float32))


def majority(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """1 where more than half of the masks have salt: uint8 (n, h, w).

    Source: the 4th place of the TGS competition, over the cycles of a net.
    """
    return (vote_share(masks) > 0.5).astype(np.uint8)


def aligned(member: Probability, *, threshold: float) -> Probability:
    """A member with its own threshold moved to 0.5, and 0 and 1 kept: (n, h, w).

    Two straight lines meet at the threshold. The 11th place says "subtract threshold / rescale"; that it is done so is
    assumed.
    """
    assert 0 < threshold < 1, f"threshold must be in (0, 1): got {threshold}"

    def align(parts: list[Probability]) -> Probability:
        values = parts[0].astype(np.float64)
        above = 0.5 + (values - threshold) / (2 * (1 - threshold))
        lines: Probability = np.where(values > threshold, above, values / (2 * threshold))
        return lines

    return _by_chunks([member], align, kind=member.dtype)


def aligned_mean(members: Sequence[Probability], thresholds: Sequence[float]) -> Probability:
    """Mean of members whose own thresholds were all moved to 0.5.

    Source: the 11th place of the TGS competition (Rozhkov's write-up).
    """
    assert len(thresholds) == len(members), f"{len(members)} members and {len(thresholds)} thresholds"

    def blend(parts: list[Probability]) -> Probability:
        moved = [
            aligned(part.astype(np.float64), threshold=threshold)
            for part, threshold in zip(parts, thresholds, strict=True)
        ]
        return mean(moved)

    return _by_chunks(members, blend, kind=np.result_type(*members))


def value_range(member: Probability) -> Range:
    """The least and the largest value of a member of at least one tile.

    Raises:
        InputError: all of its values are the same.
    """
    low = min(float(member[rows].min()) for rows in _chunks(len(member)))
    high = max(float(member[rows].max()) for rows in _chunks(len(member)))
    if low == high:
        raise InputError.of("ensemble", f"a member is {low:g} everywhere, so it cannot be rescaled; leave it out")
    return low, high


def rescaled(member: Probability, within: Range | None = None) -> Probability:
    """A member stretched over 0 to 1: its least value in the whole set becomes 0, its largest 1.

    Args:
        within: what becomes 0 and 1 instead, as another set decided; values beyond are cut off.

    Raises:
        InputError: as `value_range`.

    Source: the 1st place of the TGS competition, model B before it was averaged with A.
    """
    low, high = value_range(member) if within is None else within

    def stretch(parts: list[Probability]) -> Probability:
        stretched: Probability = ((parts[0].astype(np.float64) - low) / (high - low)).clip(0, 1)
        return stretched

    return _by_chunks([member], stretch, kind=member.dtype)


def _by_chunks(
    members: Sequence[NDArray[_Member]],
    blend: Callable[[list[NDArray[_Member]]], Probability],
    *,
    kind: np.dtype[_Value],
) -> NDArray[_Value]:
    """What `blend` makes of a few tiles of every member, put together: (n, h, w) of type `kind`."""
    shapes = {member.shape for member in members}
    assert len(shapes) == 1, f"members are of the same tiles: got shapes {sorted(shapes)}"
    result = np.empty(members[0].shape, kind)
    for rows in _chunks(len(result)):
        result[rows] = blend([member[rows] for member in members])
    return result


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _weighted_sum(parts: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[np.float64]:
    total = np.zeros(parts[0].shape)
    for part, weight in zip(parts, weights, strict=True):
        total += np.multiply(part, weight, dtype=np.float64)
    return total


def _total(weights: Sequence[float], *, of: Sequence[object]) -> float:
    assert len(weights) == len(of), f"{len(of)} members and {len(weights)} weights"
    assert min(weights) >= 0 and sum(weights) > 0, f"weights are not negative, and not all 0: got {weights}"
    return float(sum(weights))
