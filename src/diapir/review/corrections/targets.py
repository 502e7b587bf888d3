"""What a correction is of: a tile by its id, or a section by its direction and line."""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from diapir.volume.line_numbers import Direction

Kind = Literal["tile", "inline", "crossline"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_LINE = re.compile(r"-?(0|[1-9][0-9]{0,9})")
_LONGEST_NAME = 200


@dataclass(frozen=True, order=True)
class Target:
    """A tile or a section.

    Args:
        name: a tile's id, or a line's number in digits.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def direction(self) -> Direction:
        """Of a section."""
        assert self.kind != "tile"
        return self.kind

    @property
    def line(self) -> int:
        """Number of a section."""
        assert self.kind != "tile"
        return int(self.name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": self.kind, "name": self.name}

    @classmethod
    def of(cls, kind: Any, name: Any) -> "Target":
        """The target of that kind and name.

        Raises:
            ValueError: there can be none of such a kind or name.
        """
        if kind not in KINDS or not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise ValueError("expected a tile and its id, or inline or crossline and its number")
        if kind != "tile" and not _LINE.fullmatch(name):
            raise ValueError(f"expected the number of the {kind}, found another word")
        return cls(kind, name)


def section_target(direction: Direction, line: int) -> Target:
    """The target of a line of a survey."""
    return Target(direction, str(line))
