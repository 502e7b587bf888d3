"""Amplitudes as grey values: how a survey comes to look like the tiles that nets were trained on."""

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from diapir.faults import Fault, InputError, raise_if_any
from diapir.volume.store import Store

SHARE = 0.995
"""Of a survey's live samples, those that lie within its limit; the rest is cut off at black and white."""


def amplitude_limit(values: NDArray[np.float32]) -> float:
    """The size that SHARE of the amplitudes other than zero do not exceed; 1 where all are zero.

    Args:
        values: of any shape, finite.
    """
    sizes = np.abs(values[values != 0])
    limit = float(np.quantile(sizes, SHARE, method="lower")) if sizes.size else 0.0
    return limit or 1.0


def grey_limit(store: Store, *, asked: float | None = None) -> float:
    """The amplitude that becomes white.

    Args:
        asked: goes before the survey's own.

    Raises:
        InputError: it is not known, for the store is no survey; or what is asked for is no amplitude.
    """
    raise_if_any(limit_faults(asked))
    try:
        limit = float(store.facts["amplitude"]["limit"])
    except (KeyError, TypeError, ValueError):
        limit = 0.0
    if "amplitude" not in store.volumes or not 0 < limit < float("inf"):
        raise InputError.of(store.path, "expected a survey that diapir survey ingest wrote, found another store")
    return limit if asked is None else asked


def limit_faults(asked: float | None) -> Iterator[Fault]:
    """What is wrong with an amplitude that somebody wants to be white; None is not."""
    if asked is not None and not 0 < asked < float("inf"):
        yield Fault("--limit", f"expected an amplitude above 0, found {asked:g}")


def to_grey(values: NDArray[np.float32], *, limit: float, flip_polarity: bool = False) -> NDArray[np.uint8]:
    """Grey values of amplitudes: 0 for -limit and below, 255 for limit and above, 128 for 0; of the same shape.

    Args:
        flip_polarity: of amplitudes times -1.
    """
    scale = min(127.5 / limit, sys.float_info.max)
    # Of the smallest limits it is more than the greatest float32.
    kind = np.float32 if scale <= float(np.finfo(np.float32).max) else np.float64
    with np.errstate(over="ignore"):  # what is that far beyond the limit is black or white
        scaled = values * kind(-scale if flip_polarity else scale)
    scaled += kind(128)  # 127.5 in the middle, and half a grey for rounding down
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)
