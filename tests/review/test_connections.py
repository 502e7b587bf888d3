"""Connections that ask for nothing, or never to the end, on a real socket."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from diapir.review.service.limits import Limits
from fake_service import raw_exchange, read_all, running, status_of

ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMITS = Limits(header_s=0.3, connections=3)


async def patient(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after twice the time that headers may take."""
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(patient, limits=LIMITS) as found:
        yield found


@pytest.mark.parametrize("sent", [b"", ASKED[:9], ASKED[:-2], ASKED[:-1]])
def test_who_does_not_ask_to_the_end_is_not_waited_for(port: int, sent: bytes) -> None:
    start_s = time.monotonic()
    assert raw_exchange(port, sent, timeout_s=10) == b""
    assert 0.2 < time.monotonic() - start_s < 8


@pytest.mark.parametrize(
    "sent", [b"NO HTTP\r\n\r\n", ASKED[:-2] + b"Host: other\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http_is_refused_in_the_words_of_all_refusals(port: int, sent: bytes) -> None:
    head, _, body = raw_exchange(port, sent, timeout_s=10).partition(b"\r\n\r\n")
    assert status_of(head) == 400
    assert b"Content-Type: application/json" in head
    assert json.loads(body).keys() == {"detail"}


def test_headers_that_trickle_in_are_not_waited_for(port: int) -> None:
    start_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for number in range(100):
            try:
                connection.sendall(ASKED[number : number + 1])
            except OSError:
                break
            time.sleep(0.1)
    assert time.monotonic() - start_s < 8


def test_an_answer_may_take_longer_than_the_headers_and_another_may_be_asked_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(ASKED)
            answer = connection.recv(4096)
            while not answer.endswith(b"done"):
                answer += connection.recv(4096)
            assert status_of(answer) == 200
        connection.sendall(ASKED[:9])
        assert read_all(connection) == b"", "half of a third is not waited for"


def test_of_too_many_connections_the_last_is_told_to_come_again(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(LIMITS.connections)]
    time.sleep(0.1)
    answer = raw_exchange(port, b"", timeout_s=10)
    assert (status_of(answer), b"Retry-After: 1" in answer) == (503, True)
    for connection in held:
        assert read_all(connection) == b""
        connection.close()
    assert status_of(raw_exchange(port, ASKED, timeout_s=10)) == 200
