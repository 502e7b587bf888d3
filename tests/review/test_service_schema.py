"""Every route called with what its description allows, and what it does not: no fault, no status unheard of."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from diapir.review.access import Security
from diapir.review.app import build_app
from fake_png import png
from fake_service import Folders, npy, served_run, smooth_greys

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


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> schemathesis.BaseSchema:
    run: Path = served_run(tmp_path_factory)
    app = build_app(Folders({"tiny": run}), security=Security())
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_keeps_to_its_description(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS, headers={"Host": "localhost"})
