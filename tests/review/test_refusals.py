"""What goes wrong in a route is told in words, with the right status."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from diapir.faults import InputError
from diapir.review.service.refusals import tell_refusals


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (InputError.of("threshold", "expected 0 to 1"), 422, "expected 0 to 1"),
        (PermissionError(13, "Permission denied", "/data/s/salt.zarr"), 502, "salt.zarr: cannot be read or written"),
        (OSError(), 502, "cannot be read or written: unknown"),
        (ZeroDivisionError(), 500, "a fault of the server (ZeroDivisionError)"),
    ],
)
def test_what_goes_wrong_has_its_status_and_words(error: Exception, status: int, words: str) -> None:
    app = FastAPI()
    tell_refusals(app)

    @app.get("/v1/broken")
    def broken() -> None:
        raise error

    answer = TestClient(app, raise_server_exceptions=False).get("/v1/broken")
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert "/data" not in answer.text
