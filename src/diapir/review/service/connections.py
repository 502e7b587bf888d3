"""Connections under bounds: how many there are, and how long each may take until it has asked for something."""

import asyncio
import json
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from diapir.review.service.limits import USUAL, Limits

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
_NO_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


class BoundedHttp(H11Protocol):
    """A connection that speaks HTTP as uvicorn does, with a clock that runs whenever no request of it is worked on.

    A class, for uvicorn wants one. By itself uvicorn waits without end for the first byte of a connection, and for the
    end of a request's headers once these have begun.
    """

    limits: ClassVar[Limits] = USUAL
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, or end it at once where there are too many."""
        super().connection_made(transport)
        self._start_clock()
        if len(self.connections) > self.limits.connections:
            transport.write(_FULL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once all headers are there; what comes then has bounds of its own."""
        super().data_received(data)
        if self._is_asked():
            self._stop_clock()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP as every refusal is worded: uvicorn's own is plain text."""
        body = json.dumps({"detail": msg}).encode()
        self.transport.write(_NO_HTTP % len(body) + body)
        self.transport.close()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, unless it was sent behind the last one."""
        super().on_response_complete()
        if not self._is_asked():
            self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_clock()
        super().connection_lost(exc)

    def _is_asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_clock(self) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(self.limits.header_s, self._end)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _end(self) -> None:
        """Close it once all that was answered is sent; for who does not read that, not for ever."""
        self._clock = self.loop.call_later(self.limits.answer_s, self.transport.abort)
        self.transport.close()


def bounded_http(limits: Limits) -> type[BoundedHttp]:
    """What uvicorn makes of each connection, within these bounds."""
    return type("BoundedHttp", (BoundedHttp,), {"limits": limits})
