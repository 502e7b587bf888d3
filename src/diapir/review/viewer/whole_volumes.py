"""What needs every chunk of a volume: time slices, and how much members disagree on each section."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.review.sources import SurveySource
from diapir.review.viewer.background import Slow, StillWorking, Tell
from diapir.review.viewer.levels import NO_TRACE, listed
from diapir.review.viewer.strips import Bytes, Kept, Key, converter
from diapir.runs import json_digest, read_json, write_json
from diapir.volume.store import STRIP, Lines, Store, read_lines, read_map

SLICES = 64
"""Time slices that are read together, for all of a volume is read for one as well; fewer where they are large."""
_MOST_SLAB_BYTES = 64 << 20
_PIECE_BYTES = 16 << 20
_LEAST_LIVE_SHARE = 0.25


class TimeSlices:
    """Time slices as bytes; one volume is read at once, by a thread of its own.

    It is a class because what is being read is shared by all requests.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._reading: dict[Key, Slow[Bytes]] = {}
        self._lock = threading.Lock()

    def slice(self, source: SurveySource, volume: str, place: int, *, wait_s: float) -> Bytes:
        """One time slice of a volume as `levels` has it: (inlines, crosslines).

        Raises:
            StillWorking: the volume is being read.
            InputError: a file of the store is absent or damaged; it is named.
        """
        number, row = divmod(place, slices_together(source))
        key = Key(source.name, volume, "sample", number)
        found = self._kept.get(key)
        if found is None:
            found = self._slow(key, source, volume, number).get(wait_s=wait_s)
            self._kept.put(key, found)
            with self._lock:
                self._reading.pop(key, None)
        one: Bytes = found[row]
        return one

    def _slow(self, key: Key, source: SurveySource, volume: str, number: int) -> Slow[Bytes]:
        with self._lock:
            for other in [other for other, slow in self._reading.items() if other != key and slow.is_over]:
                del self._reading[other]  # nobody came back for it
            if self._reading and key not in self._reading:
                raise StillWorking("other time slices are being read; these come next")
            if key not in self._reading:
                self._reading[key] = Slow(
                    lambda tell: read_slab(source, volume, number, tell), begins=f"reading all of {volume}"
                )
            return self._reading[key]


def slices_together(source: SurveySource) -> int:
    """Time slices that are read and kept together."""
    places = source.grid.shape[0] * source.grid.shape[1]
    return max(1, min(SLICES, source.grid.num_samples, _MOST_SLAB_BYTES // places))


def volume_bytes(source: SurveySource, volume: str) -> int:
    """What has to be read for one time slice."""
    return math.prod(source.grid.shape) * (4 if volume == "amplitude" else 1 if volume == "mask" else 2)


def read_slab(source: SurveySource, volume: str, number: int, tell: Tell) -> Bytes:
    """Time slices that are kept together: (slices, inlines, crosslines); memory is theirs and a few pieces of 16 MiB.

    Raises:
        InputError: a file of the store is absent or damaged; it is named.
    """
    store = source.store_of(volume)
    assert store is not None
    together, shape = slices_together(source), source.grid.shape
    own = slice(number * together, min((number + 1) * together, shape[2]))
    live, convert = read_map(store, "live"), converter(store, volume)
    slab = np.empty((own.stop - own.start, *shape[:2]), np.uint8)
    for block in _told_blocks(source, volume, f"reading all of {volume} for time slices", tell):
        found = convert(read_lines(store, volume, inlines=block[0], crosslines=block[1])[:, :, own])
        found[~live[block]] = NO_TRACE[volume]
        slab[:, block[0], block[1]] = found.transpose(2, 0, 1)
    return slab


def disagreement_by_section(source: SurveySource, tell: Tell, *, folder: Path | None) -> dict[str, Any]:
    """Mean disagreement over the live traces of each inline, crossline and time slice; null where few are live.

    Args:
        folder: where it is kept from one time to the next, apart from the store; None keeps nothing.

    Raises:
        InputError: a file of the store is absent or damaged; it is named.
    """
    store = source.salt
    assert store is not None
    path = None if folder is None else folder / f"disagreement-{_identity(store)}.json"
    kept = _kept(path)
    if kept is not None:
        return kept
    sums = [np.zeros(side) for side in source.grid.shape]
    live = read_map(store, "live")
    for block in _told_blocks(source, "disagreement", "reading all disagreement, to rank sections by it", tell):
        values = read_lines(store, "disagreement", inlines=block[0], crosslines=block[1]).astype(np.float32)
        values[~live[block]] = 0
        by_trace = values.sum(2, dtype=np.float64)
        sums[0][block[0]] += by_trace.sum(1)
        sums[1][block[1]] += by_trace.sum(0)
        sums[2] += values.sum((0, 1), dtype=np.float64)
    num_samples = source.grid.num_samples
    found = {
        "inline": listed(_means(sums[0], live.sum(1) * num_samples)),
        "crossline": listed(_means(sums[1], live.sum(0) * num_samples)),
        "sample": listed(_means(sums[2], np.full(num_samples, live.sum()))),
    }
    if path is not None:
        _keep(path, found)
    return found


def _told_blocks(source: SurveySource, volume: str, words: str, tell: Tell) -> Iterator[tuple[Lines, Lines]]:
    """All traces in blocks of whole chunks, some MiB each."""
    inlines, crosslines, samples = source.grid.shape
    width = max(_PIECE_BYTES // (4 * STRIP * samples) // STRIP, 1) * STRIP
    size = volume_bytes(source, volume)
    for first in range(0, inlines, STRIP):
        tell(f"{words}: {first / inlines:.0%} of {size / 1e9:.2g} GB")
        for second in range(0, crosslines, width):
            yield slice(first, min(first + STRIP, inlines)), slice(second, min(second + width, crosslines))


def _means(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    enough = counts >= max(_LEAST_LIVE_SHARE * counts.max(initial=0), 1)
    return np.where(enough, sums / np.maximum(counts, 1), np.nan)


def _identity(store: Store) -> str:
    """Of the salt: what it was made of says which bytes it has; where that is not kept, the file that finished it."""
    key = store.facts.get("key")
    if isinstance(key, dict):
        return json_digest(key)[:32]
    mark = (store.path / "zarr.json").stat()
    return json_digest([str(store.path.resolve()), mark.st_mtime_ns, mark.st_size])[:32]


def _kept(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    try:
        found = read_json(path)
    except InputError:
        return None
    is_whole = isinstance(found, dict) and all(isinstance(found.get(name), list) for name in ("inline", "crossline"))
    return found if is_whole else None


def _keep(path: Path, found: dict[str, Any]) -> None:
    try:
        write_json(path, found)
    except OSError:
        return  # it is made again the next time
