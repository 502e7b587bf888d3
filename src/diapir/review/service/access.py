"""Who may ask: under which names the service answers, from which pages, and with which token."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?)(?::([0-9]{1,5}))?")
_SAFE_FETCHES = ("same-origin", "none", "")
_MOST_FIELDS = 100
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Security:
    """What a request has to bring.

    Args:
        names: besides numbers, those by which the service may be called; lower case.
        is_open: whether it is bound to more than the loopback address: then any number of an interface will do.
        token: that is wanted; None where the loopback address alone is served.
        port: that it listens at.
    """

    names: frozenset[str] = frozenset({"localhost"})
    is_open: bool = False
    token: str | None = None
    port: int = 0

    @property
    def cookie(self) -> str:
        """Name of the cookie: browsers send those of one port of a machine to all others, and keep one of each name."""
        return f"diapir-{self.port}"

    def __post_init__(self) -> None:
        assert self.token or not self.is_open, "what others can reach wants a token"


def knows_host(security: Security, host: str) -> bool:
    """Whether a Host header names this service.

    A page of another site that has its name point to this machine (DNS rebinding) still sends that name. A number is
    no name: nobody else can have it point here.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in security.names
    return security.is_open or address.is_loopback


def is_own_page(host: str, *, origin: str | None, fetch_site: str, fetch_mode: str, method: str) -> bool:
    """Whether a request comes from the service's own pages, from a person, or from a program.

    Args:
        origin, fetch_site, fetch_mode: headers of that name (Origin, Sec-Fetch-Site, Sec-Fetch-Mode), which browsers
            send and no page can change.
    """
    if origin is not None:
        scheme, _, place = origin.partition("://")
        return scheme in _DEFAULT_PORTS and _with_port(place, scheme) == _with_port(host, scheme)
    # A link on another page may lead here; nothing else there may.
    return fetch_site in _SAFE_FETCHES or (method == "GET" and fetch_mode == "navigate")


def has_token(security: Security, *, authorization: str, cookies: str) -> bool:
    """Whether a request brings the token, or the cookie that was given for it, where that is wanted."""
    if security.token is None:
        return True
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _same(value.strip(), security.token)
    return _same(_cookie(cookies, security.cookie), cookie_value(security.token))


def query_token(security: Security, query: str) -> bool | None:
    """Whether an address brings the right token; None where it brings none."""
    if security.token is None or query.count("&") >= _MOST_FIELDS:
        return None
    fields = (field.partition("=") for field in query.split("&"))
    # Not as a form has it, where + stands for a blank: in a token it is a sign as any other, and blanks are none.
    found = next((unquote(value) for name, _, value in fields if name == "token" and value), None)
    return None if found is None else _same(found, security.token)


def cookie_value(token: str) -> str:
    """What a browser is given for the token; the token cannot be had from it."""
    return hmac.new(token.encode(), b"diapir cookie", hashlib.sha256).hexdigest()


def is_plain_path(path: str) -> bool:
    """Whether a path, decoded once, has nothing that could lead out of a folder, even if it is decoded again."""
    for _ in range(3):
        if any(char in path for char in "\\\0") or ".." in path.split("/"):
            return False
        path = unquote(path)
    return True


def spoken_names(names: Iterable[str]) -> frozenset[str]:
    """Names as Host headers are held against them."""
    return frozenset({"localhost", *(name.lower().rstrip(".") for name in names)})


def _with_port(place: str, scheme: str) -> str:
    found = _HOST.fullmatch(place)
    return f"{found[1].lower()}:{found[2] or _DEFAULT_PORTS[scheme]}" if found else ""


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(given: str, wanted: str) -> bool:
    """Compared in a time that says nothing, neither of the text nor of its length."""
    digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in (given, wanted)]
    return hmac.compare_digest(*digests)
