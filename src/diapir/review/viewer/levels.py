"""Numbers as bytes: what a page needs of probabilities and their spread, and the headers that explain it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

LEVELS = 200
"""Thresholds that a page can choose from: 0, 1/200 ... 199/200, among them all that a run may be cut at."""
SPREAD_STEP = 0.002
"""Of a standard deviation of probabilities, which is 0.5 at most."""
NO_TRACE = {"amplitude": 0, "probability": 255, "disagreement": 255, "mask": 255}
"""The byte of each volume that no value has, for places without a live trace."""

_THRESHOLDS = (np.arange(LEVELS) / LEVELS).astype(np.float32)
STEPS = {"amplitude": 1.0, "probability": 1 / LEVELS, "disagreement": SPREAD_STEP, "mask": 1.0}
"""What one more in a byte is worth."""


def thresholds() -> list[float]:
    """The thresholds themselves, ascending."""
    return [level / LEVELS for level in range(LEVELS)]


def _tables() -> dict[str, NDArray[np.uint8]]:
    """For every bit pattern of a float16, its byte: a lookup is many times quicker than a search."""
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    above = np.searchsorted(_THRESHOLDS, values, side="left").astype(np.uint8)
    spread = np.clip(np.rint(values / SPREAD_STEP), 0, 254).astype(np.uint8)
    return {"probability": above, "disagreement": spread}


_TABLES = _tables()


def probability_bytes(values: NDArray[np.float16]) -> NDArray[np.uint8]:
    """How many thresholds each probability is above: `byte > k` says just what `probability > k / LEVELS` does."""
    return _TABLES["probability"][np.ascontiguousarray(values).view(np.uint16)]


def spread_bytes(values: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Standard deviations in SPREAD_STEPs, rounded."""
    return _TABLES["disagreement"][np.ascontiguousarray(values).view(np.uint16)]


def planes_response(planes: Mapping[str, NDArray[np.uint8]], **headers: Any) -> Response:
    """Pictures of one shape (rows, columns), one after another, row by row; X-Planes names them."""
    rows, columns = next(iter(planes.values())).shape
    body = b"".join(np.ascontiguousarray(plane).data.cast("B") for plane in planes.values())
    told = {"X-Rows": str(rows), "X-Columns": str(columns), "X-Planes": ",".join(planes)}
    told |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Response(body, media_type="application/octet-stream", headers=told)


def listed(values: Sequence[float] | NDArray[np.floating[Any]], *, digits: int = 6) -> list[float | None]:
    """As JSON has it: null for what is not a number."""
    return [None if np.isnan(value) else round(float(value), digits) for value in values]
