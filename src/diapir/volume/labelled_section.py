"""A section of a survey with what a person said of it, and which lines of a volume of labels are sections."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN
from diapir.volume.line_numbers import Direction

_MOST_PIXELS = 2**27  # of the masks of one file: some 90 sections of 1500 samples and 1000 traces
_MOST_VALUES_SHOWN = 5


@dataclass(frozen=True, eq=False)
class LabelledSection:
    """What is known of one section.

    Args:
        line: its number.
        place: its place among the lines of its direction, from 0 on.
        mask: uint8 (samples, traces), 1 where there is salt, 0 where there is none, UNKNOWN elsewhere.
        source: the file that says so.
    """

    direction: Direction
    line: int
    place: int
    mask: NDArray[np.uint8]
    source: Path

    @property
    def name(self) -> str:
        """Such as inline 120."""
        return f"{self.direction} {self.line}"


def hide_dead(section: LabelledSection, live: NDArray[np.bool_]) -> LabelledSection:
    """The same with nothing known of traces that are dead or missing: `live` (inlines, crosslines)."""
    own = live[section.place] if section.direction == "inline" else live[:, section.place]
    return replace(section, mask=np.where(own, section.mask, np.uint8(UNKNOWN)))


def lines_with_labels(is_known: NDArray[np.bool_], *, num_samples: int) -> tuple[list[tuple[Direction, int]], int]:
    """Places of the lines that labelled traces (inlines, crosslines) make up, and how many there are in all.

    A trace belongs to that of its two lines with more of them: five whole inlines are five sections, though every
    crossline has five traces. Of more lines than should be in memory an even spread is given.
    """
    along, across = is_known.sum(1)[:, None], is_known.sum(0)
    inlines = np.flatnonzero((is_known & (along >= across)).any(1))
    crosslines = np.flatnonzero((is_known & (along < across)).any(0))
    lines: list[tuple[Direction, int]] = [("inline", int(place)) for place in inlines]
    lines += [("crossline", int(place)) for place in crosslines]
    most = max(_MOST_PIXELS // (max(is_known.shape) * num_samples), 2)
    if len(lines) <= most:
        return lines, len(lines)
    return [lines[round(number * (len(lines) - 1) / (most - 1))] for number in range(most)], len(lines)


def told_values(values: Counter[float]) -> str:
    """Values and how often they occur, for a message, the most frequent first."""
    shown = ", ".join(f"{value:g}" for value, _ in values.most_common(_MOST_VALUES_SHOWN))
    return f"{values.total()} of {len(values)} other values ({shown}{', ...' * (len(values) > _MOST_VALUES_SHOWN)})"
