"""Who may ask: names, pages, tokens and paths."""

import string
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diapir.review.service.access import (
    Security,
    cookie_value,
    has_token,
    is_own_page,
    is_plain_path,
    knows_host,
    query_token,
    spoken_names,
)

TOKEN = "a-token-of-enough-signs"
CLOSED = Security()
OPEN = Security(spoken_names(["seis.example.org"]), is_open=True, token=TOKEN)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1", "127.0.0.1:80", "[::1]:9"])
def test_a_loopback_service_is_called_by_loopback_names(host: str) -> None:
    assert knows_host(CLOSED, host)
    assert knows_host(OPEN, host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "localhost.evil.example", "evil.example#localhost", "localhost@evil",
        "localhost:80:80", "localhost:port", "", " localhost", "localhost ", "localhost/", "[::1", "127.0.0.1.evil",
        "127.0.0.1\0", "localhost:123456", "0x7f.1.evil", "..", "-",
    ],
)  # fmt: skip
def test_other_names_are_not_served(host: str) -> None:
    assert not knows_host(CLOSED, host)
    assert not knows_host(OPEN, host)


def test_numbers_of_other_machines_are_served_only_where_others_may_ask() -> None:
    assert not knows_host(CLOSED, "192.168.0.7:8000")
    assert knows_host(OPEN, "192.168.0.7:8000")
    assert knows_host(OPEN, "[fe80::1]:8000")
    assert knows_host(OPEN, "seis.example.org")


def test_a_service_that_others_can_reach_has_a_token() -> None:
    with pytest.raises(AssertionError):
        Security(is_open=True)


def ask(host: str = "localhost:8000", **headers: str) -> bool:
    wanted = {"fetch_site": "", "fetch_mode": "", "method": "POST"}
    origin = headers.pop("origin", None)
    return is_own_page(host, origin=origin, **(wanted | headers))


def test_programs_and_own_pages_may_ask() -> None:
    assert ask()
    assert ask(origin="http://localhost:8000", fetch_site="same-origin")
    assert ask(origin="http://LOCALHOST:8000")
    assert ask("localhost", origin="http://localhost:80")
    assert ask("seis.example.org", origin="https://seis.example.org")
    assert ask(fetch_site="none", fetch_mode="navigate", method="GET")


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "http://evil.example", "http://localhost", "http://localhost:8001", "http://localhost:8000.evil.example",
        "http://evil.example/http://localhost:8000", "ftp://localhost:8000", "file://", "localhost:8000", "://",
    ],
)  # fmt: skip
def test_pages_of_other_origins_may_not_ask(origin: str) -> None:
    assert not ask(origin=origin)
    assert not ask(origin=origin, method="GET")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_lead_here_and_no_more(site: str) -> None:
    assert ask(fetch_site=site, fetch_mode="navigate", method="GET")
    assert not ask(fetch_site=site, fetch_mode="navigate", method="POST")
    assert not ask(fetch_site=site, fetch_mode="no-cors", method="GET")


def test_the_token_or_its_cookie_opens() -> None:
    assert has_token(OPEN, authorization=f"Bearer {TOKEN}", cookies="")
    assert has_token(OPEN, authorization=f"bearer  {TOKEN}", cookies="")
    assert has_token(OPEN, authorization="", cookies=f"a=b; {OPEN.cookie}={cookie_value(TOKEN)}")
    assert has_token(CLOSED, authorization="", cookies="")


@pytest.mark.parametrize("value", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä", "\udcff"])
def test_nothing_else_opens(value: str) -> None:
    assert not has_token(OPEN, authorization=f"Bearer {value}", cookies="")
    assert not has_token(OPEN, authorization=value, cookies="")
    assert not has_token(OPEN, authorization="", cookies=f"{OPEN.cookie}={value}")
    assert not has_token(OPEN, authorization=f"Basic {TOKEN}", cookies="")
    assert not has_token(OPEN, authorization="", cookies=f"{OPEN.cookie}={TOKEN}"), "the cookie is not the token"


def test_servers_at_two_ports_have_cookies_of_their_own() -> None:
    one, other = (replace(OPEN, port=port) for port in (8000, 8001))
    cookies = f"{one.cookie}={cookie_value(TOKEN)}"
    assert has_token(one, authorization="", cookies=cookies)
    assert not has_token(other, authorization="", cookies=cookies)


@pytest.mark.parametrize("token", ["with+plus+signs/and=more", "a&b;c#d?e%20f-and-more", "50%-of-it-and-more"])
def test_a_token_of_any_signs_is_brought_by_an_address(token: str) -> None:
    security = replace(OPEN, token=token)
    assert query_token(security, urlencode({"token": token})) is True
    assert query_token(security, f"a=b&token={quote(token)}&c") is True
    assert query_token(replace(OPEN, token="with+plus+signs"), "token=with+plus+signs") is True


def test_an_address_may_bring_the_token() -> None:
    assert query_token(OPEN, f"token={TOKEN}") is True
    assert query_token(OPEN, "token=another") is False
    assert query_token(OPEN, "") is None
    assert query_token(OPEN, "&".join(f"a{number}=1" for number in range(1000)) + f"&token={TOKEN}") is None
    assert query_token(CLOSED, f"token={TOKEN}") is None


@pytest.mark.parametrize(
    "path",
    [
        "/..", "/../etc/passwd", "/static/../../x", "/%2e%2e/x", "/%252e%252e/x", "/a\\b", "/a%5c..", "/\0", "/a%00b",
        "/%2e./x", "/static/%2e%2e%2fx", "/static/..%252fx",
    ],
)  # fmt: skip
def test_paths_that_lead_out_are_not_plain(path: str) -> None:
    assert not is_plain_path(path)


@given(st.text(string.ascii_letters + string.digits + "._- ", min_size=1).filter(lambda name: name != ".."))
def test_names_of_files_are_plain(name: str) -> None:
    assert is_plain_path(f"/api/{name}")
    assert is_plain_path(f"/api/{quote(name)}")
