"""The step of `diapir serve`: one address on this machine for the pages and the service."""

import errno
import ipaddress
import socket
import webbrowser
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
from fastapi import APIRouter

from diapir.faults import Fault, InputError, raise_if_any
from diapir.review.app import build_app
from diapir.review.corrections.routes import correction_routes
from diapir.review.service.access import Security, spoken_names
from diapir.review.service.connections import bounded_http
from diapir.review.service.limits import USUAL, Limits
from diapir.review.sources import Sources, open_sources
from diapir.review.viewer.page_routes import page_routes
from diapir.review.viewer.survey_routes import survey_routes
from diapir.review.viewer.tile_routes import tile_routes
from diapir.volume.store import Grid

_SHORTEST_TOKEN = 16
_MOST_MASK_BYTES = 1 << 28  # a mask before and after of 134 million pixels: more than a page can draw
_HOW_TO_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    names: Sequence[str] = (),
    open_browser: bool = False,
    limits: Limits = USUAL,
) -> None:
    """Serve finished runs, bundles and stores until a signal ends it; what was begun is finished first.

    Args:
        host: address or name of the interface; all but the loopback one want a token.
        port: 0 for any that is free.
        token: that every request must bring.
        names: by which other machines may call this one, besides its address and its own name.

    Raises:
        InputError: a path cannot be served, the host or the token cannot be used, or the port is taken.
        Stopped: on a signal, where the command line handles these.
    """
    raise_if_any(_faults_of_token(token))
    listener = _listen(host, port)
    try:
        address, port = str(listener.getsockname()[0]), int(listener.getsockname()[1])
        security = replace(_security(address, host, token=token, names=names), port=port)
        sources = open_sources(paths)
        limits = with_masks(limits, [each.grid for each in sources.surveys.values()])
        app = build_app(sources, security=security, limits=limits, rooms=rooms_of(sources))
        told = f"http://{_spoken(address)}:{port}/"
        print(f"{told} serves {', '.join([*sources.models, *sources.surveys])}; Ctrl-C ends it", flush=True)
        if open_browser:
            webbrowser.open(f"{told}?{urlencode({'token': token})}" if token else told)
        config = uvicorn.Config(
            app,
            http=bounded_http(limits),
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=round(limits.body_s + limits.answer_s),
        )
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def rooms_of(sources: Sources) -> list[APIRouter]:
    """What the page shows, and what it asks for."""
    return [
        page_routes(sources),
        tile_routes(sources.runs),
        survey_routes(sources.surveys),
        correction_routes(sources),
    ]


def with_masks(limits: Limits, grids: Iterable[Grid]) -> Limits:
    """The same limits, with room for what saving a mask of the largest section of some surveys sends."""
    pixels = max((max(grid.shape[:2]) * grid.num_samples for grid in grids), default=0)
    mask_bytes = min(2 * pixels, _MOST_MASK_BYTES)
    return replace(limits, mask_bytes=mask_bytes, bodies_bytes=max(limits.bodies_bytes, mask_bytes))


def _faults_of_token(token: str | None) -> list[Fault]:
    if token is None:
        return []
    faults = []
    if len(token) < _SHORTEST_TOKEN:
        what = f"expected {_SHORTEST_TOKEN} characters or more, found {len(token)}; {_HOW_TO_TOKEN}"
        faults.append(Fault("--token", what))
    if not (token.isascii() and token.isprintable()) or " " in token:
        faults.append(Fault("--token", f"expected letters, digits and signs of ASCII without blanks; {_HOW_TO_TOKEN}"))
    return faults


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, so that the address is known before anything is told.

    Raises:
        InputError: nobody can listen there.
    """
    if not 0 <= port <= 65535:
        raise InputError.of("--port", f"expected 0 to 65535, found {port}")
    where = f"--host {host} --port {port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=512)
        # What it accepts has it too. An answer's head and body are sent one after the other, and the body would wait
        # until the other side confirms the head: 40 ms where it delays that. (asyncio sets it only for sockets that
        # name their protocol.)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except socket.gaierror as error:
        raise InputError.of(f"--host {host}", f"expected an address of this machine ({error.strerror})") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = "another program listens there: end it, name another port, or 0 for any that is free"
        elif error.errno == errno.EADDRNOTAVAIL:
            what = "expected an address of this machine, 127.0.0.1 for itself alone, 0.0.0.0 for all of its interfaces"
        elif error.errno == errno.EACCES:
            what = "this user may not listen there; name a port above 1023"
        else:
            what = f"nobody can listen there ({error.strerror}); name another"
        raise InputError.of(where, what) from None


def _security(address: str, host: str, *, token: str | None, names: Sequence[str]) -> Security:
    """Who may ask at an address.

    Raises:
        InputError: others could reach it, and there is no token.
    """
    is_open = not ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if is_open and token is None:
        what = f"others can reach {address}, so a token is wanted: --token TOKEN, or DIAPIR_TOKEN; {_HOW_TO_TOKEN}"
        raise InputError.of(f"--host {host}", f"{what}; without --host only this machine is served")
    own = (host, socket.gethostname(), socket.getfqdn(), *names) if is_open else names
    return Security(spoken_names(own), is_open, token)


def _spoken(address: str) -> str:
    """An address as browsers want it; of all interfaces the loopback one."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"[{shown}]" if ":" in shown else shown
