"""What takes long to find and can be found again: looked for once, kept beside the corrections, then read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diapir.faults import InputError
from diapir.review.corrections.records import CorrectionStore
from diapir.runs import locked_folder, read_json, write_json

_FOLDER = "found"
_WAIT_S = 3600.0

Found = TypeVar("Found")


def found_once(
    store: CorrectionStore,
    name: str,
    *,
    key: str,
    find: Callable[[], Found],
    read: Callable[[Any], Found],
    to_json: Callable[[Found], Mapping[str, Any]],
) -> Found:
    """What was found before, or is found now; one process looks for it at a time, and others wait.

    Args:
        name: of its file.
        key: digest of what it depends on; what was kept under another one is found anew.
        read: from plain JSON values; raises KeyError, TypeError or ValueError where these make no sense.

    Raises:
        InputError: as `find`.
    """
    path = store.folder / _FOLDER / name
    if (known := _kept(path, key, read)) is not None:
        return known
    with locked_folder(path.parent, wait_s=_WAIT_S):
        known = _kept(path, key, read)
        if known is None:
            known = find()
            write_json(path, {"key": key, **to_json(known)})
    return known


def _kept(path: Path, key: str, read: Callable[[Any], Found]) -> Found | None:
    """None where it is not there, is of something else, or makes no sense."""
    if not path.exists():
        return None
    try:
        raw = read_json(path)
        return read(raw) if raw["key"] == key else None
    except (InputError, KeyError, TypeError, ValueError):
        return None
