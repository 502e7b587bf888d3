"""Leaving in good order when asked to: SIGTERM and Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """Work was left on a signal; the command ends with status 128 + `signal_number`.

    Not an Exception, so that nothing that goes on after errors goes on after this.

    Args:
        advice: how to go on, for the person who stopped it.
    """

    def __init__(self, signal_number: int, advice: str = "") -> None:
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}" + (f"; {advice}" if advice else ""))


def stop_at_once() -> None:
    """From here on SIGTERM and Ctrl-C raise `Stopped`, wherever the program is: files are whole or absent anyway."""
    for number in _SIGNALS:
        signal.signal(number, _raise_stopped)


@contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Give a function that says which signal asked for a stop, if any; a second Ctrl-C leaves at once.

    In any but the main thread, where Python takes no signals, nothing ever asks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise Stopped(number)
        asked.append(number)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: asked[0] if asked else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_stopped(number: int, _: FrameType | None) -> None:
    raise Stopped(number)
