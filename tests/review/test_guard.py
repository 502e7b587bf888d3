"""The guard in front of a small application: sizes, times, numbers and headers."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from diapir.review.service.access import Security, cookie_value
from diapir.review.service.counts import Counts, new_counts
from diapir.review.service.guard import Guard
from diapir.review.service.limits import Limits
from fake_service import raw_exchange, read_all, running, status_of

TOKEN = "a-token-of-enough-signs"
SMALL = Limits(body_bytes=1000, bodies_bytes=1500, body_s=0.5, answer_s=0.5, requests=2)


async def size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params.get("s", "5")))
    return PlainTextResponse("late")


async def begun(_: Request) -> Response:
    async def parts() -> Any:
        yield b"first"
        await asyncio.sleep(5)
        yield b"last"

    return StreamingResponse(parts())


async def page(_: Request) -> Response:
    return PlainTextResponse("page", headers={"Cache-Control": "max-age=60"})


def guarded(*, limits: Limits = SMALL, security: Security | None = None, counts: Counts | None = None) -> Guard:
    both = ["GET", "POST"]
    routes = [Route(f"/{found.__name__}", found, methods=both) for found in (size, slow, begun)]
    app = Starlette(routes=[*routes, Route("/", page), Route("/healthz", page), Route("/{rest:path}", page)])
    return Guard(app, security=security or Security(), limits=limits, counts=counts or new_counts())


@contextmanager
def client(**settings: Any) -> Iterator[TestClient]:
    with TestClient(guarded(**settings), base_url="http://localhost") as found:
        yield found


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(guarded()) as found:
        yield found


def test_a_body_within_the_cap_arrives_whole() -> None:
    with client() as asked:
        assert asked.post("/size", content=b"x" * 1000).text == "1000"
        assert asked.post("/size", content=iter([b"x" * 400, b"y" * 600])).text == "1000"
        assert asked.get("/size").text == "0"


@pytest.mark.parametrize("is_told", [True, False])
def test_a_larger_body_is_refused(is_told: bool) -> None:
    with client() as asked:
        content: Any = b"x" * 1001 if is_told else iter([b"x" * 400] * 3)
        answer = asked.post("/size", content=content)
    assert answer.status_code == 413
    assert "at most 1000 bytes" in answer.json()["detail"]


@pytest.mark.parametrize("is_told", [True, False])
def test_the_masks_of_a_section_may_be_longer_than_other_bodies(is_told: bool) -> None:
    section, limits = "/api/corrections/salt/look/inline/7/mask", replace(SMALL, mask_bytes=3000, bodies_bytes=3000)

    def status(path: str, size: int) -> int:
        content: Any = b"x" * size if is_told else iter([b"x" * (size - 400), b"x" * 400])
        return asked.post(path, content=content).status_code

    with client(limits=limits) as asked:
        assert status(section, 3000) == 405, "the guard lets it through to an application that has no such route"
        assert status(section, 3001) == 413
        assert status(section.replace("mask", "other"), 1001) == 413
        assert status("/size", 1001) == 413
    with client() as asked:
        assert status(section, 1000) == 405
        assert status(section, 1001) == 413


def test_a_packed_body_is_refused_whatever_it_is_for() -> None:
    with client() as asked:
        for path in ("/size", "/api/corrections/salt/look/inline/7/mask"):
            answer = asked.post(path, content=b"x", headers={"Content-Encoding": "gzip"})
            assert answer.status_code == 415
            assert "found Content-Encoding 'gzip'" in answer.json()["detail"]
        assert asked.post("/size", content=b"x", headers={"Content-Encoding": "Identity"}).text == "1"


def test_a_body_that_is_told_to_be_huge_is_refused_before_it_comes(port: int) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    start_s = time.monotonic()
    assert status_of(raw_exchange(port, head)) == 413
    assert time.monotonic() - start_s < 5


def test_chunks_without_end_are_refused(port: int) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw_exchange(port, head + (b"190\r\n" + b"x" * 400 + b"\r\n") * 30)
    assert status_of(answer) == 413


@pytest.mark.parametrize("head", [b"Content-Length: 900", b"Transfer-Encoding: chunked"])
def test_a_slow_body_is_refused_in_time(port: int, head: bytes) -> None:
    import socket

    start_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /size HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
        answer = read_all(connection)
    assert status_of(answer) == 408
    assert b"connection: close" in answer.lower()
    assert 0.4 < time.monotonic() - start_s < 6


def test_a_client_that_leaves_in_its_body_is_forgotten(port: int) -> None:
    import socket

    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n" + b"x" * 800)
    time.sleep(0.2)
    answer = httpx.post(f"http://127.0.0.1:{port}/size", content=b"x" * 1000)
    assert (answer.status_code, answer.text) == (200, "1000"), "their bodies are not held"


def test_bodies_together_are_bounded() -> None:
    limits = Limits(body_bytes=1000, bodies_bytes=1500, body_s=5, answer_s=5)

    async def many() -> list[httpx.Response]:
        transport = httpx.ASGITransport(guarded(limits=limits))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asked:
            return await asyncio.gather(*(asked.post("/slow?s=0.2", content=b"x" * 1000) for _ in range(3)))

    answers = asyncio.run(many())
    assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 503)


def test_requests_at_once_are_bounded_but_for_the_question_of_health() -> None:
    async def many() -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(guarded())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asked:
            waiting = [asyncio.create_task(asked.get("/slow?s=0.2")) for _ in range(5)]
            await asyncio.sleep(0.05)
            health = await asked.get("/healthz")
            return await asyncio.gather(*waiting), health, await asked.get("/slow?s=0")

    answers, health, later = asyncio.run(many())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    assert (health.status_code, later.status_code) == (200, 200)


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with client() as asked:
        answer = asked.get("/slow")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert asked.get("/slow?s=0").text == "late"


def test_an_answer_that_was_begun_and_does_not_end_is_cut_off(port: int) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port}/begun")


def test_every_answer_has_the_headers() -> None:
    with client() as asked:
        for path in ("/", "/size", "/slow", "/x/../y", "/%2e%2e/"):
            headers = asked.get(path).headers
            assert headers["content-security-policy"].startswith(
                "default-src 'self'; img-src 'self' data: blob:; style"
            )
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert "cache-control" in headers
        assert asked.get("/").headers["cache-control"] == "max-age=60", "what a route says of itself counts"


def test_other_names_and_pages_are_refused_before_the_application() -> None:
    with client() as asked:
        assert asked.get("/", headers={"Host": "evil.example"}).status_code == 421
        assert asked.post("/size", headers={"Origin": "http://evil.example"}).status_code == 403
        assert asked.post("/size", headers={"Origin": "http://localhost"}).status_code == 200


def test_head_is_answered_as_get_is_without_its_body(port: int) -> None:
    whole, head = (
        raw_exchange(port, method + b" /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for method in (b"GET", b"HEAD")
    )
    assert status_of(whole) == status_of(head) == 200
    assert whole.endswith(b"\r\n\r\npage")
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length: 4" in head.lower()


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
def test_a_request_has_one_name(port: int, hosts: bytes) -> None:
    assert status_of(raw_exchange(port, b"GET / HTTP/1.0\r\n" + hosts + b"\r\n")) in (400, 421)


def test_a_token_is_wanted_and_becomes_a_cookie() -> None:
    with client(security=Security(token=TOKEN, port=8000)) as asked:
        refused = asked.get("/", headers={"Accept": "text/html"})
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "<h1>401" in refused.text
        assert asked.get("/size").status_code == 401
        assert asked.get(f"/size?token={TOKEN}").status_code == 401, "for the page alone"
        assert asked.get("/?token=wrong").status_code == 401
        assert asked.get("/healthz").status_code == 200
        assert asked.get("/size", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        welcome = asked.get(f"/?token={TOKEN}")
        assert welcome.headers["set-cookie"] == f"diapir-8000={cookie_value(TOKEN)}; HttpOnly; Path=/; SameSite=strict"
        assert TOKEN not in welcome.text + str(welcome.headers)
        assert asked.get("/size").status_code == 200
        assert asked.get("/").text == "page"


def test_there_are_no_web_sockets() -> None:
    from starlette.websockets import WebSocketDisconnect

    with client() as asked, pytest.raises(WebSocketDisconnect), asked.websocket_connect("/"):
        pass


def test_names_that_strangers_make_up_are_not_counted_one_by_one() -> None:
    counts = new_counts()
    with client(counts=counts) as asked:
        before = len(counts.text())
        asked.get("/")
        for number in range(50):
            asked.request(f"ODD{number}", "/%2e%2e/")
            asked.get("/", headers={"Host": f"evil-{number}.example"})
    assert len(counts.text()) - before < 3000
    assert 'status="421"} 50.0' in counts.text().decode()
