"""Everything that one address serves, called with what its description allows and what it does not."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import response_headers_conformance, status_code_conformance

from diapir.review.app import build_app
from diapir.review.serve import rooms_of
from diapir.review.service.access import Security
from diapir.review.sources import open_sources
from fake_service import raw_exchange, running, served_run, status_of
from fake_viewed import write_viewed_survey

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("tiny", "survey.zarr", "no such thing")
# Of the pages alone: the service has a test of its own.
PREFIX = "/api/"
# It would train.
LEFT_OUT = {("POST", "/api/corrections/{source}/retraining")}
TRAVERSALS = (
    "/static/../sources.py",
    "/static/%2e%2e/sources.py",
    "/static/%252e%252e/sources.py",
    "/static/..%2fsources.py",
    "/static/..%5csources.py",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/app.js%00.css",
    "/api/corrections/..%2f..%2fetc/look/tile/passwd/mask",
    "/api/tiles/tiny/..%2f..%2frecord.json",
    "/api/surveys/survey.zarr/..%2f..%2fzarr.json/inline/1",
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("joined")
    sources = open_sources([served_run(tmp_path_factory), *(store.path for store in write_viewed_survey(folder))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with running(build_app(sources, security=Security(), rooms=rooms_of(sources))) as found:
            yield found


@pytest.fixture(scope="module")
def described(port: int) -> BaseSchema:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_route_has_a_fault_or_an_unheard_status(described: BaseSchema, mode: GenerationMode) -> None:
    called = [
        path
        for path, methods in described.items()
        for method, operation in methods.items()
        if path.startswith(PREFIX) and (method.upper(), path) not in LEFT_OUT and is_called(operation, mode)
    ]
    assert len(called) > 10, called


def is_called(operation: Any, mode: GenerationMode) -> bool:
    """Call a route some times; where nothing can be given, nothing wrong can be."""

    @settings(max_examples=6, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), name=st.sampled_from(NAMES))
    def call(case: schemathesis.Case[Any], name: str) -> None:
        if "source" in (case.path_parameters or {}):
            case.path_parameters["source"] = name
        answer = case.call_and_validate(
            checks=[not_a_server_error, status_code_conformance, response_headers_conformance]
        )
        # 503 tells what is still being worked out.
        assert answer.status_code < 500 or answer.status_code == 503

    try:
        call()
    except Unsatisfiable:
        return False
    return True


@pytest.mark.parametrize("path", TRAVERSALS)
def test_nothing_outside_is_read(port: int, path: str) -> None:
    answer = raw_exchange(port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert 400 <= status_of(answer) < 500
    assert b"root:" not in answer
    assert b"import" not in answer


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/sources", "/api/tiles/tiny", "/docs"])
def test_what_the_page_asks_for_is_there(port: int, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        assert answer.status == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_another_sites_page_may_not_save(port: int) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/suggestions/tiny/x/accept", method="POST", headers={"Origin": "http://evil.test"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
