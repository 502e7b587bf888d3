"""What the routes of review answer when something is not as it should be, and work that a page waits for."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException

from diapir.faults import Fault, InputError
from diapir.review.corrections.subjects import NoSuchTarget

Made = TypeVar("Made")

REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "there is no such source, target, record, suggestion or picture"},
    409: {"description": "not in the state that things are in"},
    413: {"description": "the body is longer than the masks of this target"},
    422: {"description": "a parameter or the body cannot be used"},
    502: {"description": "a file on the disk is damaged or cannot be written"},
    503: {"description": "still being worked out; ask again", "headers": {"Retry-After": {"schema": {}}}},
}

# Folders of a path, which are nobody's business beyond this machine.
_FOLDERS = re.compile(r"(?<![\w.])/(?:[^/\s:;,'\"]+/)+")
_WAIT_S = 3.0


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What `responses=` wants to know of some refusals."""
    return {status: REFUSALS[status] for status in statuses}


@contextmanager
def in_words(*, faulty: int = 502) -> Iterator[None]:
    """Turn what the block raises into an answer in words, without places on this machine.

    Args:
        faulty: status of an InputError.
    """
    try:
        yield
    except NoSuchTarget as error:
        raise HTTPException(404, detail=words_of(error)) from None
    except InputError as error:
        raise HTTPException(faulty, detail=words_of(error)) from None
    except OSError as error:
        raise HTTPException(502, detail=damage_of(error)) from None


def damage_of(error: OSError) -> str:
    """What the disk would not do, and with which file, without where that is."""
    name = f"{Path(os.fsdecode(error.filename)).name}: " if isinstance(error.filename, str | bytes) else ""
    return f"{name}cannot be read or written: {error.strerror or 'unknown'}"


def words_of(error: InputError) -> str:
    """The faults, those of files with their own names, without where on the disk they are."""
    return without_places("; ".join(map(_with_name, error.faults)))


def _with_name(fault: Fault) -> str:
    return f"{Path(fault.where).name}: {fault.what}" if Path(fault.where).is_absolute() else fault.what


def without_places(words: str) -> str:
    """The same, with the last part alone of each place on this machine."""
    return _FOLDERS.sub("", words)


class Findings:
    """Work of seconds or minutes, done once by a thread while requests are told to come back; one piece at a time.

    It is a class because what was begun is shared by all requests.
    """

    def __init__(self) -> None:
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._begun: dict[object, Future[Any]] = {}

    def get(self, key: object, make: Callable[[], Made], *, words: str) -> Made:
        """What `make` gives, which is called once; work that failed is begun again when it is asked for again.

        Raises:
            HTTPException: 503 while it is not there yet, with `words`; or as `in_words`.
        """
        with self._lock:
            future = self._begun.get(key)
            if future is None:
                future = self._begun[key] = Future()
                # Not of a pool: who ends the server would have to wait for its threads, which wait for other processes.
                threading.Thread(target=self._work, args=(future, make), name="diapir-review", daemon=True).start()
        # Waited for by itself: an exception that says that time ran out is an OSError as well.
        if not wait([future], timeout=_WAIT_S).done:
            raise HTTPException(503, detail=words, headers={"Retry-After": "1"})
        try:
            with in_words():
                found: Made = future.result()
                return found
        except HTTPException:
            with self._lock:
                self._begun.pop(key, None)
            raise

    def _work(self, future: Future[Any], make: Callable[[], Any]) -> None:
        with self._turn:
            try:
                future.set_result(make())
            except Exception as error:  # noqa: BLE001 - who asked raises it
                future.set_exception(error)
