"""Which tiles and sections a person should look at first, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.review.corrections.queue_measures import MEASURES, Measures
from diapir.review.corrections.targets import Target

Floats = NDArray[np.float64]

WEIGHTS = {"disagreement": 0.5, "boundary": 0.25, "novelty": 0.25}
"""Of the shares of others that a target exceeds. Disagreement counts most: it is where a correction teaches most."""

_TOLD_FROM = 0.5
_APART = 1 / 20
_FEWEST_APART = 3


@dataclass(frozen=True)
class Place:
    """A place in the queue.

    Args:
        score: from 0 to 1, the weighted mean of how many others it exceeds in each measure.
        reasons: for a person, the strongest first.
    """

    target: Target
    score: float
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"target": self.target.to_json(), "score": round(self.score, 4), "reasons": list(self.reasons)}


def rank(measures: Measures, *, done: Iterable[Target] = (), count: int = 50) -> list[Place]:
    """The targets to look at next, the most telling first; those that are done are left out.

    Neighbouring sections tell the same story: those of one direction lie apart, from each other and from done ones.
    """
    shares = {name: _shares(getattr(measures, name)) for name in MEASURES}
    scores = sum(WEIGHTS[name] * shares[name] for name in MEASURES)
    assert isinstance(scores, np.ndarray)
    finished = set(done)
    taken = {kind: [target.line for target in finished if target.kind == kind] for kind in ("inline", "crossline")}
    apart = _least_distance(measures.targets)
    places = list[Place]()
    for row in np.argsort(-scores, kind="stable").tolist():
        target = measures.targets[row]
        if len(places) == count:
            break
        if target in finished or scores[row] <= 0:
            continue
        if target.kind != "tile":
            lines = taken[target.kind]
            if any(abs(target.line - line) < apart[target.kind] for line in lines):
                continue
            lines.append(target.line)
        places.append(Place(target, float(scores[row]), _reasons(measures, shares, row)))
    return places


def _shares(values: Floats) -> Floats:
    """Of the known others, how many a value exceeds, from 0 to 1; 0 where it is not known. Equal values share."""
    known = np.isfinite(values)
    shares = np.zeros(len(values))
    ordered = np.sort(values[known])
    if len(ordered) > 1:
        shares[known] = np.searchsorted(ordered, values[known], side="left") / (len(ordered) - 1)
    return shares


def _least_distance(targets: Iterable[Target]) -> dict[str, int]:
    """Line numbers that sections of a direction in the queue lie apart at least."""
    lines: dict[str, list[int]] = {"inline": [], "crossline": []}
    for target in targets:
        if target.kind != "tile":
            lines[target.kind].append(target.line)
    least = {}
    for kind, numbers in lines.items():
        step = min(np.diff(sorted(numbers)), default=1)
        least[kind] = int(max(step * _FEWEST_APART, step * len(numbers) * _APART))
    return least


def _reasons(measures: Measures, shares: dict[str, Floats], row: int) -> tuple[str, ...]:
    what = "tiles" if measures.targets[row].kind == "tile" else "sections"
    words = {
        "disagreement": f"models disagree, by {measures.disagreement[row]:.3g} a pixel",
        "boundary": f"a long boundary of salt, {measures.boundary[row]:.0f} pixel sides",
        "novelty": f"unlike what the model learned from, {measures.novelty[row]:.2g} times what is usual",
    }
    ordered = sorted(MEASURES, key=lambda name: -WEIGHTS[name] * shares[name][row])
    told = [name for name in ordered if shares[name][row] >= _TOLD_FROM] or ordered[:1]
    return tuple(f"{words[name]}: more than {_percent(shares[name][row])} % of the {what}" for name in told)


def _percent(share: float) -> int:
    return int(min(share * 100, 99))
