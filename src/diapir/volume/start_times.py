"""When the traces of a file begin, by the delays in their headers, and whether they begin together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A few headers may be wrong; traces that were shifted in parts of a survey are more.
_LEAST_SHARE = 0.99
_SCALARS = (1, 10, 100, 1000, 10000)


@dataclass(frozen=True)
class Start:
    """The delays of a file's live traces.

    Args:
        ms: of most of them.
        least, greatest: of all of them.
        share: those that have `ms`.
    """

    ms: float
    least: float
    greatest: float
    share: float

    @property
    def is_common(self) -> bool:
        """Whether nearly all of them begin together."""
        return self.share >= _LEAST_SHARE

    def __str__(self) -> str:
        span = f"the delays of live traces (byte 109) go from {self.least:g} to {self.greatest:g} ms"
        return f"{span}; {self.share:.1%} of them are {self.ms:g} ms"


def find_start(
    delay: NDArray[np.int64], scalar: NDArray[np.int64], *, is_dead: NDArray[np.bool_], has_scalar: bool
) -> Start:
    """What the delays of traces say.

    Args:
        delay, scalar: int64 (n,), bytes 109 and 215 of their headers.
        is_dead: bool (n,); dead traces count only where all are dead.
        has_scalar: whether the file's revision knows of scalars; others than powers of ten are none.

    Source: SEG-Y revision 1, table 3.
    """
    if not is_dead.all():
        delay, scalar = delay[~is_dead], scalar[~is_dead]
    scalar = np.where(np.isin(np.abs(scalar), _SCALARS) & has_scalar, scalar, 1)
    times, divided_by = np.where(scalar > 0, scalar, 1), np.where(scalar < 0, -scalar, 1)
    values, counts = np.unique(delay * times / divided_by, return_counts=True)
    most = int(counts.argmax())
    share = float(counts[most] / counts.sum())
    return Start(float(values[most]), float(values[0]), float(values[-1]), share)
