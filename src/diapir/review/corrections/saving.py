"""Corrections of masks: what a person saved last of a tile or section counts, and everything before is kept.

They lie in a folder beside the data, never in it. Records of one folder are written by one process at a time, and are
read by any at any moment.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diapir.faults import InputError
from diapir.review.corrections.merging import Change, Mask, Merged, merge_masks, replay
from diapir.review.corrections.records import (
    Correction,
    CorrectionStore,
    Deed,
    Which,
    after_digest,
    history,
    mask_digest,
    mask_of,
    write_record,
    writing,
)
from diapir.review.corrections.targets import Target

SUFFIX = ".corrections"
LONGEST_NAME = 80
"""Characters of what a person calls herself."""

_BOTH: tuple[Which, Which] = ("before", "after")


class Saved(NamedTuple):
    """What came of saving.

    Args:
        correction: None where nothing was changed, and nothing written.
        mask: of the target, from now on.
        words: for the person who saved.
    """

    correction: Correction | None
    mask: Mask
    words: str


def corrections_beside(path: Path, *, identity: str) -> CorrectionStore:
    """The corrections of a run's folder or of a store; nothing is made."""
    # The folder that one is in, or the one above it, has a name only where it is written out.
    named = path.resolve() if path.name in ("", "..") else path
    return CorrectionStore(named.with_name(named.name + SUFFIX), identity)


def newest(records: Iterable[Correction], target: Target) -> Correction | None:
    """The last record that says how a target's mask is."""
    own = [record for record in records if record.target == target and record.changed]
    return own[-1] if own else None


def corrected_targets(records: Iterable[Correction]) -> dict[Target, Correction]:
    """The last record of each target with a mask; of one that is as it was without corrections, none."""
    last: dict[Target, Correction] = {}
    undone = undone_numbers(records)
    for record in records:
        if record.changed:
            last[record.target] = record
    open_ones = {
        record.target for record in records if record.number not in undone and record.deed in ("drawn", "accepted")
    }
    return {target: record for target, record in last.items() if target in open_ones and not record.is_original}


def undone_numbers(records: Iterable[Correction]) -> set[int]:
    """Records that are taken back: by one that is not taken back itself."""
    undone: set[int] = set()
    for record in reversed(list(records)):
        if record.undoes is not None and record.number not in undone:
            undone.add(record.undoes)
    return undone


def current_mask(store: CorrectionStore, target: Target, *, original: Callable[[], Mask]) -> tuple[Mask, int]:
    """How a target's mask is now, and the record that says so; 0 where it was never corrected.

    Raises:
        InputError: as `history` and `mask_of`.
    """
    first = original()
    last = newest(history(store), target)
    if last is None:
        return first, 0
    return mask_of(store, last.number, "after", shape=_shape(first)), last.number


def save_mask(
    store: CorrectionStore,
    target: Target,
    *,
    before: Mask | None,
    after: Mask,
    who: str,
    original: Callable[[], Mask],
    suggestion: str | None = None,
) -> Saved:
    """Keep what a person drew: her pixels over what others have saved meanwhile, and theirs everywhere else.

    Args:
        before: what she began with; where no record ever said so, she is taken to have begun with the original.
        original: the mask without corrections.
        suggestion: that she accepted.

    Raises:
        InputError: as `history`; or other processes kept the folder too long.
    """
    with writing(store):
        records, first = history(store), original()
        current, number = current_mask(store, target, original=lambda: first)
        base, based_on = _base(store, records, target, before=before, original=first)
        merged = merge_masks(base=base, current=current, mine=after)
        if not merged.changed:
            if suggestion is None:
                return Saved(None, current, "nothing was changed, so nothing was written")
            facts = _next(records, "accepted", target, who=who, merged=None)
            noted = write_record(store, facts | {"suggestion": suggestion}, change=None)
            return Saved(noted, current, "it is so already; the suggestion is answered")
        drawn = None if np.array_equal(after, merged.mask) else after
        correction = write_record(
            store,
            _next(records, "accepted" if suggestion else "drawn", target, who=who, merged=merged)
            | {"based_on": based_on, "suggestion": suggestion, "is_original": np.array_equal(merged.mask, first)},
            change=Change(current, merged.mask, drawn),
        )
    return Saved(correction, merged.mask, _save_words(correction, number=number))


def undo(store: CorrectionStore, number: int, *, who: str, shape: Callable[[Target], tuple[int, int]]) -> Saved:
    """Take a record back, by another record: the mask is what comes of all others that stand.

    Args:
        shape: of a target.

    Raises:
        InputError: there is no such record, or it was taken back already; or as `history`.
    """
    with writing(store):
        records = history(store)
        found = next((record for record in records if record.number == number), None)
        if found is None:
            raise InputError.of("", f"there is no correction {number}")
        if number in undone_numbers(records):
            by = max(record.number for record in records if record.undoes == number)
            raise InputError.of("", f"correction {number} was undone by correction {by}; undo that one to have it back")
        if not _root(records, found).changed:
            facts = _next(records, "undone", found.target, who=who, merged=None)
            correction = write_record(store, facts | {"undoes": number}, change=None)
            return Saved(correction, np.zeros((0, 0), np.uint8), f"correction {number} is taken back")
        size, last = shape(found.target), newest(records, found.target)
        assert last is not None
        original, mask = _without(store, records, found, shape=size)
        current = mask_of(store, last.number, "after", shape=size)
        contested = np.zeros(size, np.bool_)
        if found.changed:
            before, after, _ = _change(store, number, shape=size)
            contested = (before != after) & (mask == current) & (current != before)
        merged = Merged(mask, int((mask != current).sum()), int(contested.sum()))
        facts = _next(records, "undone", found.target, who=who, merged=merged)
        facts |= {"undoes": number, "based_on": last.number, "is_original": np.array_equal(mask, original)}
        correction = write_record(store, facts, change=Change(current, mask))
    kept = f"; {_pixels(merged.contested)} changed again since stay as they are" if merged.contested else ""
    return Saved(correction, merged.mask, f"correction {number} is undone, {_pixels(merged.changed)}{kept}")


def refuse(store: CorrectionStore, target: Target, *, who: str, suggestion: str) -> Correction:
    """Note that a suggestion is not wanted.

    Raises:
        InputError: as `history`.
    """
    with writing(store):
        facts = _next(history(store), "refused", target, who=who, merged=None)
        return write_record(store, facts | {"suggestion": suggestion}, change=None)


def _root(records: Iterable[Correction], record: Correction) -> Correction:
    """What is done or not once a record is taken back: itself, or of one that takes another back, that one's."""
    by_number = {each.number: each for each in records}
    while record.undoes is not None and record.undoes in by_number:
        record = by_number[record.undoes]
    return record


def _without(
    store: CorrectionStore, records: tuple[Correction, ...], found: Correction, *, shape: tuple[int, int]
) -> tuple[Mask, Mask]:
    """The mask of a target before all corrections; and what comes of those that stand when one more is taken back."""
    own = [record for record in records if record.target == found.target and record.changed]
    # Not the mask that the data give now: with another run beside a survey that may be another.
    original = mask_of(store, own[0].number, "before", shape=shape)
    taking = replace(found, number=records[-1].number + 1, deed="undone", undoes=found.number)
    undone = undone_numbers([*records, taking])
    standing = (each.number for each in own if each.undoes is None and each.number not in undone)
    return original, replay(original, (_change(store, number, shape=shape) for number in standing))


def _change(store: CorrectionStore, number: int, *, shape: tuple[int, int]) -> Change:
    return Change(*(mask_of(store, number, which, shape=shape) for which in _BOTH))


def _base(
    store: CorrectionStore, records: Iterable[Correction], target: Target, *, before: Mask | None, original: Mask
) -> tuple[Mask, int]:
    """What a person began with: the latest state of the target that looks so, or else the original."""
    known = original if before is None else before
    digest = mask_digest(known)
    own = [record.number for record in records if record.target == target and record.changed]
    number = next((number for number in reversed(own) if after_digest(store, number) == digest), None)
    return (original, 0) if number is None else (known, number)


def _next(
    records: tuple[Correction, ...], deed: Deed, target: Target, *, who: str, merged: Merged | None
) -> dict[str, Any]:
    return {
        "number": records[-1].number + 1 if records else 1,
        "deed": deed,
        "target": target.to_json(),
        "who": _plain_name(who),
        "when": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "based_on": 0,
        "changed": merged.changed if merged else 0,
        "contested": merged.contested if merged else 0,
        "undoes": None,
        "suggestion": None,
    }


def _shape(mask: Mask) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]


def _plain_name(who: str) -> str:
    """What a person calls herself, on one line."""
    plain = " ".join("".join(char for char in who if char.isprintable()).split())
    return plain[:LONGEST_NAME] or "somebody"


def _pixels(count: int) -> str:
    return f"{count} pixel{'s' * (count != 1)}"


def _save_words(correction: Correction, *, number: int) -> str:
    words = f"saved as correction {correction.number}, {_pixels(correction.changed)}"
    if number != correction.based_on:
        words += f"; brought together with correction {number}, which was saved since you began"
    if correction.contested:
        was = "was" if correction.contested == 1 else "were"
        words += f": {_pixels(correction.contested)} that both of you changed {was} taken from you, and the history "
        words += f"keeps the other in correction {number}"
    return words
