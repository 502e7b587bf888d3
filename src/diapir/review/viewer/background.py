"""Work of seconds that a page waits for: done once by a thread of its own, while requests are told how far it is."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import HTTPException

from diapir.faults import InputError

Tell = Callable[[str], None]
"""Takes words on how far the work is."""

_Result = TypeVar("_Result")


class StillWorking(Exception):
    """The result is not there yet; its text says how far the work is."""


class Slow(Generic[_Result]):
    """A result that takes seconds to make.

    It is a class because the thread, what it made and what it says of itself are shared by all requests.

    Args:
        make: gives the result, and tells how far it is as it goes.
        begins: what is said before that.
    """

    def __init__(self, make: Callable[[Tell], _Result], *, begins: str) -> None:
        self._make, self._begins = make, begins
        self._words = begins
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._made: list[_Result] = []
        self._error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether the work has ended, well or not."""
        return self._over.is_set()

    def get(self, *, wait_s: float) -> _Result:
        """The result, waited for at most so long; work that failed is tried again when it is asked for again.

        Raises:
            StillWorking: it is not there yet.
            InputError: what the work raised.
        """
        with self._lock:
            if self._thread is None:
                self._over.clear()
                self._error, self._words = None, self._begins
                self._thread = threading.Thread(target=self._work, name="diapir-slow", daemon=True)
                self._thread.start()
        if not self._over.wait(wait_s):
            raise StillWorking(self._words)
        with self._lock:
            if self._made:
                return self._made[0]
            error, self._thread = self._error, None
        raise error or StillWorking(self._begins)

    def _work(self) -> None:
        try:
            self._made = [self._make(self._tell)]
        except Exception as error:  # noqa: BLE001 - the thread that asked raises it
            self._error = error
        finally:
            self._over.set()

    def _tell(self, words: str) -> None:
        self._words = words


def wait_again(words: object) -> HTTPException:
    """The answer that a page takes as: ask again in a second."""
    return HTTPException(503, detail=str(words), headers={"Retry-After": "1"})


def damage_words(error: InputError, *paths: Path) -> str:
    """What cannot be read on the disk, without saying where on the disk that is.

    Args:
        paths: folders of which the last part alone is told.
    """
    words = "; ".join(map(str, error.faults))
    parents = {str(path.parent) for path in paths} | {str(path.resolve().parent) for path in paths}
    for parent in sorted(parents - {".", "/"}, key=len, reverse=True):
        words = words.replace(f"{parent}/", "")
    return words


def damaged(error: InputError, *paths: Path) -> HTTPException:
    """The answer for a file that cannot be read: what was asked for is right, and what the disk gave is not."""
    return HTTPException(502, detail=damage_words(error, *paths))
