"""Top and base of salt along traces, with what is not sure of them, from calibrated probabilities.

What the depths mean. p(z) is the calibrated probability that sample z of a trace is salt. It is the mean over members
and directions, so p is a mixture: where members put a boundary at different depths, p rises slowly from one of these to
the other, and the spread of the members is in it already. To widen the bands by their disagreement once more would
count it twice; the disagreement is reported beside them.

The salt of a trace is one random thing, of which each sample shows a share: at level u, drawn evenly between 0 and 1,
salt is where p(z) >= u. It is the one rule by which a boundary whose depth has the distribution F, and no more than
one, gives p = F and comes back as F. The top of a level is the first sample on the way down into the salt that the mask
shows: from the mask's first sample a upwards as far as p stays at u or above, or where p(a) < u, downwards to where p
first reaches u. So other, fainter salt further up, which the mask leaves out, is not taken for this top.

P10, P50 and P90 are where the chance that the top lies at or above z, given that the trace has this salt at all,
reaches 0.1, 0.5 and 0.9: u is that share of p's greatest value between the mask's first and last sample. P10 is the
shallower and P90 the deeper, for top and base alike, as percentiles of a depth are counted; the reserves' convention,
by which P90 is what is exceeded with 90 %, would name them the other way round. Where p is near 1 inside the salt, P50
is where it crosses one half. That the salt is there at all has a probability of its own. Depths lie between samples,
where p, taken as linear between them, has the level. The base is the same, seen from below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.faults import InputError

Values = NDArray[np.float32]
Whole = NDArray[np.int64]

CHANCES = (0.1, 0.5, 0.9)
"""P10, P50, P90."""


@dataclass(frozen=True)
class Calibration:
    """What raw probabilities are worth: rising tables, linear in between, constant beyond their ends.

    Args:
        raw: of the model.
        true: share of salt among held-out pixels of that raw probability.
    """

    raw: tuple[float, ...]
    true: tuple[float, ...]


def stored_calibration(facts: Mapping[str, Any], path: Path) -> Calibration | None:
    """The table of a store; None where it has none.

    Args:
        facts: of the store.
        path: for messages.

    Raises:
        InputError: there is one, but no rising table of probabilities.
    """
    table = facts.get("calibration")
    if table is None:
        return None
    try:
        raw, true = (np.array([float(value) for value in table[name]]) for name in ("raw", "true"))
    except (KeyError, TypeError, ValueError):
        raw = true = np.zeros(0)
    is_sound = len(raw) == len(true) > 1 and (np.diff(raw) > 0).all() and (np.diff(true) >= 0).all()
    if not is_sound or min(raw[0], true[0]) < 0 or max(raw[-1], true[-1]) > 1:
        what = "expected a calibration of two tables, raw and true, of equal length, rising between 0 and 1"
        raise InputError.of(path, f"{what}; found {str(table)[:80]}: segment again, or use another copy")
    return Calibration(tuple(raw.tolist()), tuple(true.tolist()))


def calibrate(probability: NDArray[np.floating[Any]], table: Calibration | None) -> Values:
    """Calibrated probabilities of the same shape; the raw ones where there is no table."""
    if table is None:
        return probability.astype(np.float32)
    return np.asarray(np.interp(probability, table.raw, table.true), np.float32)


def top_places(probability: Values, first: Whole, last: Whole) -> Values:
    """P10, P50 and P90 of the top of salt, in samples from 0 on: (3, n).

    NaN where the salt of that level goes on beyond the first sample: its top is not in the survey.

    Args:
        probability: calibrated, (n, samples).
        first, last: first and last sample of salt by the mask, (n,).
    """
    samples = np.arange(probability.shape[1])
    inside = (samples >= first[:, None]) & (samples <= last[:, None])
    most = np.where(inside, probability, 0).max(1, initial=0)
    return np.stack([_first_above(probability, first, most * np.float32(chance)) for chance in CHANCES])


def base_places(probability: Values, first: Whole, last: Whole) -> Values:
    """The same for the base of salt; NaN where the salt goes on beyond the last sample."""
    end = probability.shape[1] - 1
    # The chance that the base lies above z rises downwards, so that seen from below P90 comes first.
    return np.asarray(end - top_places(probability[:, ::-1], end - last, end - first)[::-1], np.float32)


def _first_above(probability: Values, first: Whole, level: Values) -> Values:
    """Where each trace comes to its level, (n,): at or above `first` if it has it there, below otherwise."""
    traces, end = np.arange(len(first)), probability.shape[1] - 1
    samples, is_below = np.arange(end + 1), probability < level[:, None]
    goes_up = ~is_below[traces, first]
    # Upwards the last sample below the level before `first`; downwards the first one at the level after it.
    above = end - np.argmax((is_below & (samples < first[:, None]))[:, ::-1], axis=1)
    reached = np.argmax(~is_below & (samples > first[:, None]), axis=1)
    upper = np.where(goes_up, above, reached - 1)
    is_open = goes_up & (upper >= first)
    upper = np.clip(upper, 0, max(end - 1, 0))
    lower = np.minimum(upper + 1, end)
    step = probability[traces, lower] - probability[traces, upper]
    with np.errstate(invalid="ignore", divide="ignore"):
        places = upper + (level - probability[traces, upper]) / step
    return np.where(is_open, np.nan, places).astype(np.float32)
