"""What a person did or gave that cannot be used: every fault of an input, told together."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# Words that differ between faults of one kind: quotes, numbers, paths.
_OWN_WORD = re.compile(r"""\S*["'/.\d]\S*""")


@dataclass(frozen=True, order=True)
class Fault:
    """One fault of an input.

    Args:
        where: file and line, archive member, tile id or recipe path: enough to find the place.
        what: what was expected, what came, and what to do, in one sentence.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class InputError(ValueError):
    """An input that cannot be used, with all of its faults; the command line prints them and exits with 2."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        assert self.faults, "an InputError needs at least one fault"
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @classmethod
    def of(cls, where: object, what: str) -> "InputError":
        """The error for a single fault."""
        return cls([Fault(str(where), what)])


def raise_if_any(faults: Iterable[Fault]) -> None:
    """Raise one InputError that holds every fault, if there is one."""
    found = tuple(faults)
    if found:
        raise InputError(found)


def report(faults: Iterable[Fault], *, most_alike: int | None = None) -> list[str]:
    """The faults, a line each: all of them, or of one kind the first `most_alike`, and then how many more there are.

    Characters that would break a line or steer a terminal, which names of files may hold, are written as escapes.
    """
    counts: Counter[str] = Counter()
    lines: list[str] = []
    first: dict[str, Fault] = {}
    for fault in faults:
        kind = _OWN_WORD.sub("", fault.what)
        counts[kind] += 1
        first.setdefault(kind, fault)
        if most_alike is None or counts[kind] <= most_alike:
            lines.append(str(fault))
    more = {kind: count - most_alike for kind, count in counts.items() if most_alike and count > most_alike}
    lines += [f"and {count} more like this one (2> FILE keeps them all): {first[kind]}" for kind, count in more.items()]
    return [_on_one_line(line) for line in lines]


def _on_one_line(text: str) -> str:
    # Cc: line ends and other controls; Cs: bytes of a file's name that are no UTF-8.
    return "".join(ascii(char)[1:-1] if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)
