"""Which members of an ensemble are worth the seconds that they cost: greedy selection on out-of-fold tiles."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.metrics import tile_scores
from diapir.predict.ensemble import Probability

_CHUNK = 256


@dataclass(frozen=True)
class Selection:
    """The members chosen, one a step.

    Args:
        order: number of the member taken at each step; one may be taken several times, and then weighs more.
        scores: of the plain mean of what was taken up to each step.
        seconds: of inference that it costs up to each step; a member taken again costs nothing more.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]
    seconds: tuple[float, ...]

    def weights(self, num_members: int) -> list[float]:
        """How often each member was taken."""
        return [float(self.order.count(member)) for member in range(num_members)]


def select_members(
    members: Sequence[Probability],
    truth: NDArray[np.uint8],
    *,
    seconds: Sequence[float],
    least_gain: float = 0.0,
    most_s: float | None = None,
    most_steps: int = 50,
) -> Selection:
    """Members one by one, each time the one that adds most to the score per second of inference that it adds.

    The first is the best by itself. Then a member that improves the mean at no further cost, because it is in it
    already, goes before all others; else the largest gain per second. It ends when no member improves the score by more
    than `least_gain`. Of equals the first is taken. The score is that of the tiles on which was chosen, so it flatters.

    Args:
        members: (n, h, w) each, out-of-fold.
        truth: uint8 (n, h, w).
        seconds: that each member's inference takes, above 0.
        most_s: seconds that all of it may take, if limited; at least one member must fit.
        most_steps: members taken at most, counted with repetition.

    Source: Caruana et al. 2004, Ensemble Selection from Libraries of Models, sections 2 and 2.1, with cost.
    """
    assert len(seconds) == len(members) and min(seconds) > 0, f"seconds for every member, above 0: got {seconds}"
    assert most_s is None or min(seconds) <= most_s, f"no member takes {most_s} s or less"
    total = np.zeros(truth.shape, np.float32)
    order: list[int] = []
    scores: list[float] = []
    spent: list[float] = []
    while len(order) < most_steps:
        costs = [0.0 if member in order else seconds[member] for member in range(len(members))]
        used = spent[-1] if spent else 0.0
        affordable = [member for member, cost in enumerate(costs) if most_s is None or used + cost <= most_s]
        found = {member: _score_with(total, members[member], truth, number=len(order) + 1) for member in affordable}
        chosen = _best(found, costs, before=scores[-1] if scores else None, least_gain=least_gain)
        if chosen is None:
            break
        for rows in _chunks(len(truth)):
            total[rows] += members[chosen][rows]
        order.append(chosen)
        scores.append(found[chosen])
        spent.append(used + costs[chosen])
    return Selection(tuple(order), tuple(scores), tuple(spent))


def mean_score(member: Probability, truth: NDArray[np.uint8]) -> float:
    """Mean score of a member (n, h, w) by itself, cut at 0.5."""
    return sum(_summed_scores(member[rows] > 0.5, truth[rows]) for rows in _chunks(len(truth))) / len(truth)


def _best(found: dict[int, float], costs: Sequence[float], *, before: float | None, least_gain: float) -> int | None:
    """The member to take next, or None if none improves the score enough."""
    if before is None:
        return max(found, key=lambda member: (found[member], -costs[member]))
    # Scores are tenths summed over tiles: what rounding leaves is no gain.
    gains = {member: score - before for member, score in found.items() if score - before > least_gain + 1e-12}
    if free := [member for member in gains if costs[member] == 0]:
        return max(free, key=lambda member: gains[member])
    return max(gains, key=lambda member: gains[member] / costs[member], default=None)


def _score_with(total: NDArray[np.float32], member: Probability, truth: NDArray[np.uint8], *, number: int) -> float:
    """Mean score of `total` and one more member, the mean of `number` cut at 0.5."""
    parts = (_summed_scores(total[rows] + member[rows] > 0.5 * number, truth[rows]) for rows in _chunks(len(truth)))
    return sum(parts) / len(truth)


def _summed_scores(salt: NDArray[np.bool_], truth: NDArray[np.uint8]) -> float:
    return float(tile_scores(torch.from_numpy(salt), torch.from_numpy(truth)).double().sum())


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))
