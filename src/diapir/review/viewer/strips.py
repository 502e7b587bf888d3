"""Sections of a survey as bytes: kept within a bound in strips of sixteen lines, which cost little more than one."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray

from diapir.review.sources import SurveySource
from diapir.review.viewer.levels import NO_TRACE, probability_bytes, spread_bytes
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.line_numbers import Direction
from diapir.volume.sections import axis_of
from diapir.volume.store import STRIP, Lines, Store, array_of, read_lines, read_map

Bytes = NDArray[np.uint8]
_PIECE_BYTES = 16 << 20
_MOST_STRIP_BYTES = 64 << 20
_MOST_AT_ONCE = 2
_MOST_AHEAD, _MOST_BESIDE = 8, 2
"""Strips on their way where somebody looks, and where somebody may look next."""
_AFTER_JUMP_S = 0.15
"""Until the other volumes of the line, for which somebody waits, are read and drawn as well."""


class Key(NamedTuple):
    """What is kept as a whole: some lines of a direction, or some time slices, of a volume."""

    source: str
    volume: str
    direction: str
    number: int


class Kept:
    """Pictures within a bound of bytes, the longest unused of them dropped first.

    It is a class because what is kept is shared by all requests.

    Args:
        most_bytes: of all that is kept; the newest stays whatever its size.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Key, Bytes] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Key) -> Bytes | None:
        """What is kept under a key."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Key, value: Bytes) -> None:
        """Keep something, and drop what there is no room for."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self.num_bytes > self.most_bytes:
                self._kept.popitem(last=False)

    @property
    def num_bytes(self) -> int:
        """Of all that is kept."""
        with self._lock:
            return sum(each.nbytes for each in self._kept.values())


class Strips:
    """Sections of surveys as bytes; the strip beside the one that was asked for is read ahead.

    It is a class because of the thread that reads ahead.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._ahead = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diapir-ahead")
        self._readers = ThreadPoolExecutor(thread_name_prefix="diapir-section")
        self._coming: dict[Key, Future[Bytes]] = {}
        self._lock = threading.Lock()
        # What many ask for at once waits its turn, so that memory stays within a bound.
        self._reading = threading.Semaphore(_MOST_AT_ONCE)

    def sections(
        self, source: SurveySource, volumes: Sequence[str], direction: Direction, place: int
    ) -> dict[str, Bytes]:
        """One line of several volumes, each as `section` has it, read side by side."""
        found = self._readers.map(lambda volume: self.section(source, volume, direction, place), volumes)
        return dict(zip(volumes, found, strict=True))

    def section(self, source: SurveySource, volume: str, direction: Direction, place: int) -> Bytes:
        """One line of a volume as `levels` has it: (samples, traces).

        Raises:
            InputError: a file of the store is absent or damaged; it is named.
        """
        lines = strip_lines(source, direction)
        number, row = divmod(place, lines)
        strip = self._strip(Key(source.name, volume, direction, number))
        if strip is None:
            # Whoever jumps waits for one line alone; its neighbours are made ready behind it.
            with self._reading:
                strip, row = read_sections(source, volume, direction, slice(place, place + 1)), 0
            self._read_ahead(source, volume, direction, number, most=_MOST_AHEAD, after_s=_AFTER_JUMP_S)
        else:
            # Beyond the middle, the next is likely to be asked for.
            beside = number + (1 if 2 * row >= lines else -1)
            if 0 <= beside * lines < axis_of(source.grid, direction).count:
                self._read_ahead(source, volume, direction, beside, most=_MOST_BESIDE)
        section: Bytes = strip[row]
        return section

    def _strip(self, key: Key) -> Bytes | None:
        """What is kept, or is being read at this moment."""
        with self._lock:
            coming = self._coming.get(key)
        # One that waits behind others takes longer than a line.
        return coming.result() if coming is not None and coming.running() else self._kept.get(key)

    def _read_ahead(
        self,
        source: SurveySource,
        volume: str,
        direction: Direction,
        number: int,
        *,
        most: int,
        after_s: float = 0.0,
    ) -> None:
        """Without haste: of what nobody waits for, no more than so much is begun."""
        key = Key(source.name, volume, direction, number)
        with self._lock:
            if key not in self._coming and self._kept.get(key) is None and len(self._coming) < most:
                coming: Future[Bytes] = Future()
                self._ahead.submit(self._make, coming, source, key, direction, time.monotonic() + after_s)
                self._coming[key] = coming

    def _make(
        self, coming: Future[Bytes], source: SurveySource, key: Key, direction: Direction, begin_s: float
    ) -> None:
        """Read a strip, which is kept from then on; a fault is told to whoever asks for one of its lines."""
        time.sleep(max(begin_s - time.monotonic(), 0))
        coming.set_running_or_notify_cancel()
        try:
            lines = strip_lines(source, direction)
            with self._reading:
                own = slice(key.number * lines, (key.number + 1) * lines)
                strip = read_sections(source, key.volume, direction, own)
            self._kept.put(key, strip)
            coming.set_result(strip)
        except BaseException as error:  # noqa: BLE001 - whoever asks is told
            coming.set_exception(error)
        finally:
            with self._lock:
                del self._coming[key]


def strip_lines(source: SurveySource, direction: Direction) -> int:
    """Lines that are read and kept together: STRIP, or fewer where sections are very large."""
    shape, lines = source.grid.shape, STRIP
    section = shape[2] * shape[1 if direction == "inline" else 0]
    while lines > 1 and lines * section > _MOST_STRIP_BYTES:
        lines //= 2
    return lines


class _Opened(NamedTuple):
    """A volume that sections are read from."""

    store: Store
    array: zarr.Array[Any]
    live: NDArray[np.bool_]
    convert: Callable[[NDArray[np.generic]], Bytes]


@lru_cache(maxsize=64)
def _opened(source: SurveySource, volume: str) -> _Opened:
    """Once: it takes as long as a line."""
    store = source.store_of(volume)
    assert store is not None
    return _Opened(store, array_of(store, volume), read_map(store, "live"), converter(store, volume))


def read_sections(source: SurveySource, volume: str, direction: Direction, lines: Lines) -> Bytes:
    """Some lines of a volume, as far as the grid goes: (lines, samples, traces).

    Memory beyond these is a few pieces of 16 MiB.

    Raises:
        InputError: a file of the store is absent or damaged; it is named.
    """
    store, array, live, convert = _opened(source, volume)
    own = slice(lines.start, min(lines.stop, axis_of(source.grid, direction).count))
    num_traces, num_samples = source.grid.shape[1 if direction == "inline" else 0], source.grid.num_samples
    strip = np.empty((own.stop - own.start, num_samples, num_traces), np.uint8)
    width = max(_PIECE_BYTES // (4 * STRIP * num_samples) // STRIP, 1) * STRIP
    for first in range(0, num_traces, width):
        traces = slice(first, min(first + width, num_traces))
        block = (own, traces) if direction == "inline" else (traces, own)
        found = convert(read_lines(store, volume, inlines=block[0], crosslines=block[1], array=array))
        found[~live[block]] = NO_TRACE[volume]
        strip[:, :, traces] = found.transpose((0, 2, 1) if direction == "inline" else (1, 2, 0))
    return strip


def converter(store: Store, volume: str) -> Callable[[NDArray[np.generic]], Bytes]:
    """What makes bytes of a volume's numbers, in new memory; NO_TRACE's byte of amplitudes is left free.

    Raises:
        InputError: a survey's store does not say which amplitude is white.
    """
    if volume == "amplitude":
        limit = grey_limit(store)
        return lambda values: np.maximum(to_grey(values.astype(np.float32, copy=False), limit=limit), 1)
    if volume == "probability":
        return lambda values: probability_bytes(values.astype(np.float16, copy=False))
    if volume == "disagreement":
        return lambda values: spread_bytes(values.astype(np.float16, copy=False))
    assert volume == "mask", volume
    return lambda values: (values != 0).astype(np.uint8)
