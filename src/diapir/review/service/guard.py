"""What every request passes first: who asks, how much, how long, and how many at once; and headers of every answer."""

import asyncio
import re
import time
from collections.abc import Awaitable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diapir.review.service.access import (
    Security,
    cookie_value,
    has_token,
    is_own_page,
    is_plain_path,
    knows_host,
    query_token,
)
from diapir.review.service.counts import Counts
from diapir.review.service.limits import Limits
from diapir.review.service.refusals import page_text, refusal_answer, wants_page

HEALTH = "/healthz"
_MASKS = re.compile(r"/api/corrections/[^/]+/look/(inline|crossline)/[^/]+/mask")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_POLICY = (
    b"default-src 'self'; img-src 'self' data: blob:; style-src 'self'; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Nothing is kept by browsers but files that they can ask after.
_NO_STORE, _ASK_AGAIN = (b"cache-control", b"no-store"), (b"cache-control", b"no-cache")
# Of a body that is refused, so much is read and dropped that most clients come to read why.
_DROPPED_BODIES, _DROPPED_S = 4, 2.0


class Guard:
    """An application behind its bounds.

    A class, for it counts what is there at once.

    Args:
        app: sees requests whose bodies are there as a whole.
    """

    def __init__(self, app: ASGIApp, *, security: Security, limits: Limits, counts: Counts) -> None:
        self._app, self._security, self._limits, self._counts = app, security, limits, counts
        self._num_open = 0
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        start_s, status = time.perf_counter(), 0
        if scope["method"] == "HEAD":  # as GET is; the server leaves the body out
            scope = {**scope, "method": "GET"}

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_own_headers(message.get("headers", ()))
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await _send(refusal, scope, receive, noting)
            else:
                await self._within_bounds(scope, receive, noting)
        finally:
            self._note(scope, status or 499, time.perf_counter() - start_s)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to who may not ask."""
        headers, security = Headers(scope=scope), self._security
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not knows_host(security, hosts[0]):
            return self._refuse(scope, 421, "this is not served under that name: use the address that the server told")
        if not is_plain_path(scope["path"]):
            return self._refuse(scope, 404, "there is nothing of that name")
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            what = f"expected a body that is not packed, found Content-Encoding {encoding[:50]!a}"
            return self._refuse(scope, 415, what)
        is_own = is_own_page(
            hosts[0],
            origin=headers.get("origin"),
            fetch_site=headers.get("sec-fetch-site", ""),
            fetch_mode=headers.get("sec-fetch-mode", ""),
            method=scope["method"],
        )
        if not is_own:
            return self._refuse(scope, 403, "pages of other sites may not ask here")
        if scope["path"] == HEALTH:
            return None
        if scope["path"] == "/" and scope["method"] == "GET":
            is_right = query_token(security, scope["query_string"].decode("latin-1"))
            if is_right:
                return _welcome(security)
        if has_token(security, authorization=headers.get("authorization", ""), cookies=headers.get("cookie", "")):
            return None
        what = "this wants its token: open http://ADDRESS/?token=TOKEN, or send it as Authorization: Bearer TOKEN"
        return self._refuse(scope, 401, what, headers={"WWW-Authenticate": "Bearer"})

    async def _within_bounds(self, scope: Scope, receive: Receive, send: Send) -> None:
        held, size = bytearray(), 0
        try:
            refusal = await self._read(scope, receive, held)
            size = len(held)
            if refusal is not None:
                await _send(refusal, scope, receive, send)
            elif self._num_open >= self._limits.requests and scope["path"] != HEALTH:
                await _send(self._later(scope, "too many requests are worked on"), scope, receive, send)
            else:
                self._num_open += 1
                self._counts.open_requests.set(self._num_open)
                try:
                    await self._in_time(scope, _replay(held, receive), send)
                finally:
                    self._num_open -= 1
                    self._counts.open_requests.set(self._num_open)
        except _Left:
            return
        finally:
            self._hold(-(size or len(held)))

    async def _read(self, scope: Scope, receive: Receive, held: bytearray) -> Response | None:
        """Read a body into `held`; or the answer to one that is too large, too slow, or too much.

        Raises:
            _Left: the client is gone.
        """
        headers, limits = Headers(scope=scope), self._limits
        closing = {"Connection": "close"}
        most_bytes = max(limits.body_bytes, limits.mask_bytes if _saves_masks(scope) else 0)
        most = f"expected a body of at most {most_bytes} bytes"
        told = headers.get("content-length", "0")
        if not (told.isascii() and told.isdigit()) or len(told) > 18 or int(told) > most_bytes:
            if "expect" not in headers:
                await _drop(receive, limits.body_bytes * _DROPPED_BODIES)
            return self._refuse(scope, 413, f"{most}, found {told[:18]}", headers=closing)
        wait_s = limits.body_s * most_bytes / limits.body_bytes
        try:
            async with asyncio.timeout(wait_s):
                status, is_more = await self._collect(receive, held, most_bytes=most_bytes)
        except TimeoutError:
            what = f"expected the whole body within {wait_s:g} seconds"
            return self._refuse(scope, 408, what, headers=closing)
        if status is None:
            return None
        if is_more:
            await _drop(receive, limits.body_bytes * _DROPPED_BODIES)
        if status == 413:
            return self._refuse(scope, 413, f"{most}, found more", headers=closing)
        return self._later(scope, "too much is being sent", headers=closing)

    async def _collect(self, receive: Receive, held: bytearray, *, most_bytes: int) -> tuple[int | None, bool]:
        """Read a body into `held`; the status where it is too large, or too much with others, and whether more comes.

        Raises:
            _Left: the client is gone.
        """
        is_more = True
        while is_more:
            if (message := await _next(receive)) is None:
                raise _Left
            chunk, is_more = message.get("body", b""), message.get("more_body", False)
            if len(held) + len(chunk) > most_bytes:
                return 413, is_more
            if self._body_bytes + len(chunk) > self._limits.bodies_bytes:
                return 503, is_more
            held += chunk
            self._hold(len(chunk))
        return None, False

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._limits.answer_s) as clock:
                await self._app(scope, receive, noting)
        except TimeoutError:
            if not clock.expired():
                raise
            # An answer that has begun is left as it is: the server closes the connection.
            if not has_begun:
                await _send(self._later(scope, "no answer was found in time", wait_s=5), scope, receive, send)

    def _hold(self, count: int) -> None:
        self._body_bytes += count
        self._counts.body_bytes.set(self._body_bytes)

    def _refuse(self, scope: Scope, status: int, detail: str, *, headers: dict[str, str] | None = None) -> Response:
        as_page = wants_page(scope["path"], Headers(scope=scope).get("accept", ""))
        return refusal_answer(status, detail, as_page=as_page, headers=headers)

    def _later(self, scope: Scope, detail: str, *, wait_s: int = 1, headers: dict[str, str] | None = None) -> Response:
        return self._refuse(scope, 503, detail, headers={"Retry-After": str(wait_s), **(headers or {})})

    def _note(self, scope: Scope, status: int, elapsed_s: float) -> None:
        # What nobody serves has no name here: names that strangers make up would fill the memory.
        route = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._counts.requests.labels(method, route, str(status)).inc()
        self._counts.request_seconds.labels(route).observe(elapsed_s)


class _Left(Exception):
    """The client closed its connection."""


def _saves_masks(scope: Scope) -> bool:
    """Whether a body is a mask before and after, which may be longer than any image that is taken."""
    return scope["method"] == "POST" and _MASKS.fullmatch(scope["path"]) is not None


async def _next(receive: Receive) -> MutableMapping[str, Any] | None:
    """The next part of a body; None where the client left."""
    message = await receive()
    return message if message["type"] == "http.request" else None


async def _drop(receive: Receive, most_bytes: int) -> None:
    """Read some of a body for nothing: a client that is still sending does not read the answer."""
    try:
        async with asyncio.timeout(_DROPPED_S):
            while most_bytes > 0 and (message := await _next(receive)) is not None:
                most_bytes -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _replay(held: bytearray, receive: Receive) -> Receive:
    """The body at once, and then whatever comes behind it: that the client left."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        body = bytes(held)
        # From here on it is the application's: no body is held twice for longer than this.
        held.clear()
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _welcome(security: Security) -> Response:
    """The cookie for the token, and the way on to the address without it, which no list of visited pages then keeps."""
    text = page_text("diapir", '<p><a href="/">Go on</a></p>', head='<meta http-equiv="refresh" content="0;url=/">\n')
    answer = HTMLResponse(text)
    assert security.token is not None
    answer.set_cookie(security.cookie, cookie_value(security.token), httponly=True, samesite="strict", path="/")
    return answer


def _with_own_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    given = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    names = {name for name, _ in given}
    keeping = _ASK_AGAIN if b"etag" in names else _NO_STORE
    own = [pair for pair in (*_HEADERS, keeping) if pair[0] not in names]
    return [*given, *own]


def _send(answer: Response, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    return answer(scope, receive, send)
