"""What the tests of training ask for."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _on_one_thread(one_thread: None) -> None:
    """Whatever trains here trains tiny nets."""
