"""What a person did or gave that cannot be used: every fault of an input, told together."""

import re
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


def report(faults: Iterable[Fault], *, most_alike: int = 50) -> list[str]:
    """The faults as lines for a person: of one kind, the first `most_alike`, and then how many more there are."""
    counts: Counter[str] = Counter()
    lines: list[str] = []
    first: dict[str, Fault] = {}
    for fault in faults:
        kind = _OWN_WORD.sub("", fault.what)
        counts[kind] += 1
        first.setdefault(kind, fault)
        if counts[kind] <= most_alike:
            lines.append(str(fault))
    more = ((first[kind], count - most_alike) for kind, count in counts.items() if count > most_alike)
    return [*lines, *(f"and {count} more like this one: {fault}" for fault, count in more)]
