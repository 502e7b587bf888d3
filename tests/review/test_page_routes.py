"""The page and its files: all there, all from this server, and nothing else of the disk."""

import base64
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from diapir.review.sources import open_sources
from diapir.review.viewer.page_routes import COLOURS, STATIC, page_routes
from fake_viewed import write_viewed_survey

MODULES = sorted(STATIC.glob("*.js"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder = tmp_path_factory.mktemp("viewed")
    write_viewed_survey(folder, shape=(20, 20, 40))
    app = FastAPI()
    app.include_router(page_routes(open_sources([folder / "survey.zarr", folder / "salt.zarr"])))
    return TestClient(app)


def test_the_page_and_every_file_that_it_names_are_there(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    named = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    assert "/static/app.js" in named
    for module in MODULES:
        named += [f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', module.read_text(encoding="utf-8"))]
    assert {name: client.get(name).status_code for name in named} == dict.fromkeys(named, 200)


def test_nothing_of_the_page_asks_another_server_or_runs_what_a_strict_policy_forbids() -> None:
    for path in sorted(STATIC.iterdir()):
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|\beval\(|new Function", text), path.name
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page)


@pytest.mark.parametrize(
    "path",
    [
        "../page_routes.py",
        "..%2fpage_routes.py",
        "%2e%2e/page_routes.py",
        "/etc/passwd",
        "..\\page_routes.py",
        "%00",
        ".",
    ],
)
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    answer = client.get(f"/static/{path}")
    assert answer.status_code in (404, 405)
    assert "APIRouter" not in answer.text


def test_colour_maps_are_those_of_matplotlib(client: TestClient) -> None:
    found = client.get("/api/colours").json()
    assert set(found) == set(COLOURS)
    for name, theirs in COLOURS.items():
        table = np.frombuffer(base64.b64decode(found[name]), np.uint8).reshape(256, 3)
        expected = np.array([matplotlib.colormaps[theirs](shade) for shade in range(256)])[:, :3]
        np.testing.assert_allclose(table / 255, expected, atol=1 / 255)


def test_every_colour_map_that_the_page_asks_for_is_served() -> None:
    text = "".join(module.read_text(encoding="utf-8") for module in MODULES)
    asked = set(re.findall(r'maps\.get\("([^"]+)"\)', text)) | set(
        re.findall(r'^  \["([a-z-]+)", "[A-Z][^"]*"\],$', text, re.M)
    )
    assert asked <= set(COLOURS)
    assert {"grey", "heat", "orange-purple"} <= asked


def test_sources_are_listed_with_what_they_hold_and_not_where_they_lie(client: TestClient) -> None:
    answer = client.get("/api/sources")
    survey = answer.json()["surveys"][0]
    assert (survey["name"], survey["inlines"]) == ("survey.zarr", "100 to 119")
    assert survey["volumes"] == ["amplitude", "probability", "disagreement", "mask"]
    assert "/tmp" not in answer.text
    assert str(Path.cwd()) not in answer.text
