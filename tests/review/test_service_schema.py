"""Every route called with what its description allows, and what it does not: no fault, no status unheard of."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from diapir.review.app import build_app
from diapir.review.service.access import Security
from fake_png import png
from fake_service import Folders, npy, running, served_run, smooth_greys

pytestmark = pytest.mark.usefixtures("one_thread")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
IMAGES = [smooth_greys(20, 30), smooth_greys(110, 9)]
schemathesis.openapi.media_type("image/png", st.sampled_from([png(image) for image in IMAGES]))
schemathesis.openapi.media_type("application/x-npy", st.sampled_from([npy(image) for image in IMAGES]))


ROUTES = [("POST", "/v1/segment"), ("GET", "/v1/models"), ("GET", "/healthz"), ("GET", "/metrics")]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    app = build_app(Folders({"tiny": served_run(tmp_path_factory)}), security=Security())
    with running(app) as port:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


def test_every_route_is_called(described: BaseSchema) -> None:
    found = [(method.upper(), path) for path, methods in described.items() for method in methods]
    assert sorted(found) == sorted(ROUTES)


# Where nothing can be given, nothing wrong can be.
@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [*((*route, GenerationMode.POSITIVE) for route in ROUTES), (*ROUTES[0], GenerationMode.NEGATIVE)],
)
def test_a_route_keeps_to_its_description(described: BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    operation = described[path][method]

    @settings(max_examples=25 if method == "POST" else 5, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case[Any]) -> None:
        answer = case.call_and_validate(checks=CHECKS)
        assert answer.status_code < 500

    call()
