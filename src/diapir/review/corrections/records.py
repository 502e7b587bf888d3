"""Records of corrections: numbered files of which each is whole, none is ever changed, and none is ever taken away."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diapir.data import rle
from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.review.corrections.merging import Change, Mask
from diapir.review.corrections.targets import Target
from diapir.runs import json_digest, locked_folder, read_json, write_json

RECORDS, ABOUT = "records", "about.json"

Deed = Literal["drawn", "accepted", "refused", "undone"]
Which = Literal["before", "after", "drawn"]

_FORMAT, _VERSION = "diapir correction", 1
_NAME = re.compile(r"([0-9]{6,})\.json")
_WAIT_S = 20.0
_MOST_BYTES = 1 << 28  # of a record: far more than the runs of any section
_KEPT_HEADS = 20_000
_DEEDS = ("drawn", "accepted", "refused", "undone")
_COPY = "take the folder from a copy of it, or move that file away"


@dataclass(frozen=True)
class CorrectionStore:
    """Where the corrections of a run or of a salt store are kept.

    Args:
        folder: beside what is corrected.
        identity: of that: corrections of other data are refused.
    """

    folder: Path
    identity: str


@dataclass(frozen=True)
class Correction:
    """What a record says besides its masks.

    Args:
        number: from 1 on.
        when: UTC, ISO 8601.
        based_on: the record of this target that the person had before her; 0 for the mask without corrections.
        changed: pixels that it changed.
        contested: pixels of these that somebody else had changed since, and to something else.
        undoes: the record that it takes back.
        suggestion: that it answers.
        is_original: whether its mask is the one without corrections; older records do not say so.
    """

    number: int
    deed: Deed
    target: Target
    who: str
    when: str
    based_on: int
    changed: int
    contested: int
    undoes: int | None
    suggestion: str | None
    is_original: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def history(store: CorrectionStore) -> tuple[Correction, ...]:
    """All records, oldest first.

    Raises:
        InputError: one is damaged, or they are of other data.
    """
    _require_own(store)
    return tuple(_head(path) for path in _files(store))


def mask_of(store: CorrectionStore, number: int, which: Which, *, shape: tuple[int, int]) -> Mask:
    """A mask of a record; of one whose drawing went in as it was, `drawn` is `after`.

    Args:
        shape: what the target has.

    Raises:
        InputError: there is no such record or mask, it is damaged, or of another size.
    """
    path = store.folder / RECORDS / _name(number)
    raw = _content(path)
    if raw.get("shape") != list(shape):
        found = f"found {raw.get('shape')}"
        raise InputError.of(path, f"expected a mask of {shape[0]} rows and {shape[1]} columns, {found}: {_COPY}")
    masks = raw.get("masks")
    stored = masks.get(which) or (masks.get("after") if which == "drawn" else None) if isinstance(masks, dict) else None
    if not isinstance(stored, dict):
        raise InputError.of(path, f"correction {number} has no mask")
    try:
        salt, unknown = rle.decode([str(stored["salt"]), str(stored["unknown"])], height=shape[0], width=shape[1])
    except (KeyError, InputError):
        raise InputError.of(path, f"its mask is damaged: {_COPY}") from None
    return np.where(unknown == 1, np.uint8(UNKNOWN), salt)


def after_digest(store: CorrectionStore, number: int) -> str:
    """Of the mask that a record left: `mask_digest` of it."""
    return str(_content(store.folder / RECORDS / _name(number)).get("after_digest"))


def mask_digest(mask: Mask) -> str:
    """SHA-256 over shape and pixels."""
    return hashlib.sha256(f"{mask.shape}".encode() + np.ascontiguousarray(mask).tobytes()).hexdigest()


@contextmanager
def writing(store: CorrectionStore) -> Iterator[None]:
    """Hold the records of a folder for one writer; others wait.

    Raises:
        InputError: another process held it for too long; or they are of other data.
    """
    _require_own(store)
    with locked_folder(store.folder / RECORDS, wait_s=_WAIT_S):
        about = store.folder / ABOUT
        if not about.exists():
            write_json(about, {"format": _FORMAT, "version": _VERSION, "of": store.identity})
        _require_own(store)
        yield


def write_record(store: CorrectionStore, facts: Mapping[str, Any], *, change: Change | None) -> Correction:
    """Write a record, whole; the folder is this process's."""
    content: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, **facts}
    if change is not None:
        content |= {"shape": list(change.after.shape), "after_digest": mask_digest(change.after)}
        content["masks"] = {which: None if mask is None else _runs(mask) for which, mask in change._asdict().items()}
    content["digest"] = json_digest(content)
    path = store.folder / RECORDS / _name(int(facts["number"]))
    assert not path.exists(), "records are never written over"
    write_json(path, content)
    return _head(path)


def _require_own(store: CorrectionStore) -> None:
    for folder in (store.folder, store.folder / RECORDS):
        if folder.exists() and not folder.is_dir():
            raise InputError.of(folder, "expected a folder of corrections, found something else: move it away")
    about = store.folder / ABOUT
    if not about.exists():
        return
    content = read_json(about)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError.of(about, f"expected what corrections are of, found something else: {_COPY}")
    if content.get("version") != _VERSION:
        raise InputError.of(about, f"it is of version {content.get('version')}, and this diapir reads {_VERSION}")
    if content.get("of") != store.identity:
        what = "these are corrections of other data than those beside them: move the folder away, and begin anew"
        raise InputError.of(store.folder, what)


def _files(store: CorrectionStore) -> list[Path]:
    """Files of records in the order of their numbers."""
    folder = store.folder / RECORDS
    if not folder.is_dir():
        return []
    found = {int(match[1]): path for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def _head(path: Path) -> Correction:
    stat = path.stat()
    return _read_head(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=_KEPT_HEADS)
def _read_head(path: Path, *_: int) -> Correction:
    """A record without its masks, read once for each time that it was written."""
    raw = _content(path)
    try:
        fields = {key: raw[key] for key in Correction.__dataclass_fields__ if key not in ("target", "is_original")}
        fields["is_original"] = raw.get("is_original") is True
        target = Target.of(raw["target"]["kind"], raw["target"]["name"])
        numbers = [fields[key] for key in ("number", "based_on", "changed", "contested")]
        is_sound = all(type(number) is int and number >= 0 for number in numbers) and fields["deed"] in _DEEDS
        is_sound = is_sound and path.name == _name(fields["number"]) and _is_told(fields)
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise InputError.of(path, f"expected a correction, found something else: {_COPY}")
    return Correction(**fields, target=target)


def _is_told(fields: Mapping[str, Any]) -> bool:
    """Whether who, when and of what are said as they are written."""
    undoes, suggestion = fields["undoes"], fields["suggestion"]
    return (
        isinstance(fields["who"], str)
        and isinstance(fields["when"], str)
        and (suggestion is None or isinstance(suggestion, str))
        and (undoes is None or (type(undoes) is int and 0 < undoes < fields["number"]))
    )


@lru_cache(maxsize=8)
def _parsed(path: Path, *_: int) -> dict[str, Any]:
    try:
        raw = read_json(path)
    except InputError as error:
        raise InputError.of(path, f"{error.faults[0].what}: {_COPY}") from None
    if not isinstance(raw, dict) or raw.get("format") != _FORMAT or raw.get("version") != _VERSION:
        raise InputError.of(path, f"expected a correction of version {_VERSION}, found something else: {_COPY}")
    if raw.get("digest") != json_digest({key: value for key, value in raw.items() if key != "digest"}):
        raise InputError.of(path, f"its content differs from its own digest, so it was damaged: {_COPY}")
    return raw


def _content(path: Path) -> dict[str, Any]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise InputError.of(path, "expected this file, found none") from None
    if stat.st_size > _MOST_BYTES:
        raise InputError.of(path, f"expected a correction, found a file of over {_MOST_BYTES} bytes: {_COPY}")
    return _parsed(path, stat.st_mtime_ns, stat.st_size)


def _runs(mask: Mask) -> dict[str, str]:
    salt, unknown = rle.encode(np.stack([mask == 1, mask == UNKNOWN]))
    return {"salt": salt, "unknown": unknown}


def _name(number: int) -> str:
    return f"{number:06}.json"
