"""Pieces of a volume that hang together, found strip by strip: memory goes with a strip, not with a survey.

Volumes are taken as runs, the unbroken pieces of their traces. Strips are groups of neighbouring inlines, from the
first on; the last line of each is kept to see what goes on in the next.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Whole = NDArray[np.int64]
Connectivity = Literal[6, 26]
"""Voxels hang together by their faces alone, or by edges and corners too."""

_NEIGHBOURS = {6: ((0, 1), (1, 0)), 26: ((0, 1), (1, -1), (1, 0), (1, 1))}


class Runs(NamedTuple):
    """Unbroken pieces of traces, in the order of inline, crossline, sample: int64 (n,) each, places from 0 on.

    Args:
        first, end: its first sample, and the one after its last.
    """

    inline: Whole
    crossline: Whole
    first: Whole
    end: Whole

    @property
    def voxels(self) -> Whole:
        """Of each run."""
        return self.end - self.first

    def take(self, which: "Whole | NDArray[np.bool_]") -> "Runs":
        """Some of the runs."""
        return Runs(*(column[which] for column in self))


class Strip(NamedTuple):
    """Runs of the inlines from `start` up to, not with, `stop`."""

    start: int
    stop: int
    runs: Runs


@dataclass(frozen=True, eq=False)
class Bodies:
    """Pieces that hang together, the largest first.

    Args:
        voxels: int64 (n,).
        at_border: bool (n,): it may go on beyond the survey.
        connectivity: by which they hang together.
        number_of_part: body, from 0 on, of every part that a strip shows by itself, int64.
    """

    voxels: Whole
    at_border: NDArray[np.bool_]
    connectivity: Connectivity
    number_of_part: Whole

    def __len__(self) -> int:
        return len(self.voxels)


def no_runs() -> Runs:
    """None at all."""
    return Runs(*(np.zeros(0, np.int64) for _ in Runs._fields))


def join_runs(parts: Iterable[Runs]) -> Runs:
    """Runs of several blocks in one order."""
    joined = Runs(*(np.concatenate(columns) for columns in zip(no_runs(), *parts, strict=True)))
    return joined.take(np.lexsort((joined.first, joined.crossline, joined.inline)))


def find_runs(inside: NDArray[np.bool_], *, inline: int = 0, crossline: int = 0) -> Runs:
    """The runs of a block: bool (inlines, crosslines, samples).

    Args:
        inline, crossline: place of its first trace.
    """
    num_inlines, num_crosslines, num_samples = inside.shape
    width = num_samples + 1  # a sample outside before each trace, and one after all of them
    padded = np.zeros(num_inlines * num_crosslines * width + 1, np.bool_)
    padded[:-1].reshape(num_inlines, num_crosslines, width)[:, :, 1:] = inside
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    first, end = changes[::2], changes[1::2]
    trace = first // width
    return Runs(
        trace // num_crosslines + inline, trace % num_crosslines + crossline, first % width, end - trace * width
    )


def paint_runs(runs: Runs, shape: tuple[int, int, int], *, inline: int = 0, crossline: int = 0) -> NDArray[np.bool_]:
    """A block that is true on the runs: the inverse of `find_runs`."""
    width = shape[2] + 1
    start = ((runs.inline - inline) * shape[1] + runs.crossline - crossline) * width
    change = np.zeros(shape[0] * shape[1] * width, np.int8)
    change[start + runs.first], change[start + runs.end] = 1, -1
    painted = np.cumsum(change, dtype=np.int8).reshape(*shape[:2], width)[:, :, :-1]
    return painted.astype(np.bool_)


def label_bodies(
    strips: Callable[[], Iterable[Strip]],
    shape: tuple[int, int, int],
    *,
    connectivity: Connectivity = 6,
    edge: NDArray[np.bool_],
) -> Bodies:
    """The bodies of a survey: the same as a labelling of the whole, from one walk over its strips.

    Args:
        strips: gives them all in their order, the same each time.
        shape: of the survey.
        connectivity: 6: voxels of a body share faces.
        edge: bool (inlines, crosslines): traces beyond which nothing is known. A body that has one of them, or the
            first or last sample of any, is at the border.
    """
    voxels: list[NDArray[Any]] = [np.zeros(0)]
    at_border: list[NDArray[Any]] = [np.zeros(0)]
    links, total = [np.zeros((2, 0), np.int64)], 0
    for strip, parts, num_parts, link in _parts(strips(), shape, connectivity=connectivity):
        runs = strip.runs
        is_last = edge[runs.inline, runs.crossline] | (runs.first == 0) | (runs.end == shape[2])
        voxels.append(np.bincount(parts - total, weights=runs.voxels, minlength=num_parts))
        at_border.append(np.bincount(parts - total, weights=is_last, minlength=num_parts))
        links.append(link)
        total += num_parts
    count, body = _connected(np.concatenate(links, axis=1), total)
    sizes = np.bincount(body, weights=np.concatenate(voxels), minlength=count).astype(np.int64)
    is_at_border = np.bincount(body, weights=np.concatenate(at_border), minlength=count) > 0
    # By size; of equal ones the first that is met comes first.
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return Bodies(sizes[order], is_at_border[order], connectivity, rank[body])


def labelled_strips(
    strips: Iterable[Strip], shape: tuple[int, int, int], bodies: Bodies
) -> Iterator[tuple[Strip, Whole]]:
    """Each strip with the body, from 0 on, of each of its runs: int64 (n,).

    The strips are labelled once more, which gives the same parts, so that no volume of numbers is ever kept.

    Args:
        strips: those that `label_bodies` had.
    """
    for strip, parts, _, _ in _parts(strips, shape, connectivity=bodies.connectivity):
        yield strip, bodies.number_of_part[parts]


def _parts(
    strips: Iterable[Strip], shape: tuple[int, int, int], *, connectivity: Connectivity
) -> Iterator[tuple[Strip, Whole, int, Whole]]:
    """Each strip; the part of each of its runs; how many parts came new; and (2, n) pairs of parts that are one."""
    kept, kept_parts, total = no_runs(), np.zeros(0, np.int64), 0
    for strip in strips:
        both = Runs(*(np.concatenate(pair) for pair in zip(kept, strip.runs, strict=True)))
        count, part = _connected(_touching(both, shape, connectivity=connectivity), len(both.first))
        part += total
        links = np.unique(np.stack([kept_parts, part[: len(kept_parts)]]), axis=1)
        own = part[len(kept_parts) :]
        yield strip, own, count, links
        total += count
        is_last = strip.runs.inline == strip.stop - 1
        kept, kept_parts = strip.runs.take(is_last), own[is_last]


def _touching(runs: Runs, shape: tuple[int, int, int], *, connectivity: Connectivity) -> Whole:
    """Pairs of runs that touch: int64 (2, n)."""
    reach = int(connectivity == 26)
    # Gaps of a trace and of two samples, so that nothing touches around the end of a line or a trace.
    trace, line = shape[2] + 2, (shape[1] + 2) * (shape[2] + 2)
    start = (runs.inline - runs.inline.min(initial=0)) * line + runs.crossline * trace
    first, end = start + runs.first, start + runs.end
    pairs = []
    for inlines, crosslines in _NEIGHBOURS[connectivity]:
        shift = inlines * line + crosslines * trace
        low = np.searchsorted(end, first + shift - reach, side="right")
        high = np.searchsorted(first, end + shift + reach, side="left")
        counts = np.maximum(high - low, 0)
        before = np.cumsum(counts) - counts
        others = np.arange(counts.sum()) + np.repeat(low - before, counts)
        pairs.append(np.stack([np.repeat(np.arange(len(first)), counts), others]))
    return np.concatenate(pairs, axis=1)


def _connected(pairs: Whole, count: int) -> tuple[int, Whole]:
    """How many groups the pairs make of `count` things, and the group of each."""
    if not count:
        return 0, np.zeros(0, np.int64)
    graph = coo_array((np.ones(pairs.shape[1], np.bool_), (pairs[0], pairs[1])), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    return int(groups), np.asarray(group, np.int64)


def strip_spans(count: int, size: int) -> list[tuple[int, int]]:
    """Spans of `size` that cover `count`; the last may be shorter."""
    return list(pairwise([*range(0, count, size), count]))
