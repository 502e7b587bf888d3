"""The routes of review, as a browser or a stranger calls them."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from fake_review import SURE_TILES, review_app

pytestmark = pytest.mark.usefixtures("one_thread")

INLINE = "/api/corrections/survey/look/inline/110"


@pytest.fixture
def client(review: Path) -> TestClient:
    return TestClient(review_app(review))


def mask_at(client: TestClient, url: str = INLINE) -> NDArray[np.uint8]:
    answer = client.get(f"{url}/mask")
    assert answer.status_code == 200, answer.text
    return pixels(answer)


def pixels(answer: object) -> NDArray[np.uint8]:
    headers, content = answer.headers, answer.content  # type: ignore[attr-defined]
    return np.frombuffer(content, np.uint8).reshape(int(headers["x-rows"]), int(headers["x-columns"]))


def patiently(client: TestClient, url: str) -> Any:
    """What is answered once it was worked out."""
    for _ in range(100):
        answer = client.get(url)
        if answer.status_code != 503:
            break
        assert answer.headers["retry-after"] == "1"
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_was_saved_is_found_again_and_lies_beside_the_data(client: TestClient, review: Path) -> None:
    salt = {path: path.read_bytes() for path in (review / "salt.zarr").rglob("*") if path.is_file()}
    before = mask_at(client)
    after = before.copy()
    after[:10, :5] = 1 - after[:10, :5]
    answer = client.post(f"{INLINE}/mask?who=Ada", content=before.tobytes() + after.tobytes())
    assert answer.status_code == 200, answer.text
    assert (pixels(answer) == after).all()
    assert "correction 1, 50 pixels" in unquote(answer.headers["x-words"])
    assert (mask_at(TestClient(review_app(review))) == after).all()
    assert salt == {path: path.read_bytes() for path in (review / "salt.zarr").rglob("*") if path.is_file()}
    (found,) = client.get("/api/corrections/survey").json()["corrections"]
    assert (found["who"], found["target"]) == ("Ada", {"kind": "inline", "name": "110"})
    assert (pixels(client.get("/api/corrections/survey/records/1/before")) == before).all()


def test_a_save_on_an_older_state_keeps_what_came_between(client: TestClient) -> None:
    before = mask_at(client)
    hers, his = before.copy(), before.copy()
    hers[0, :6] = 1
    his[0, 4:9] = 255
    client.post(f"{INLINE}/mask?who=Ada", content=before.tobytes() + hers.tobytes())
    answer = client.post(f"{INLINE}/mask?who=Bob", content=before.tobytes() + his.tobytes())
    assert (pixels(answer)[0, :9] == [1, 1, 1, 1, 255, 255, 255, 255, 255]).all()
    assert "2 pixels that both of you changed" in unquote(answer.headers["x-words"])
    assert (pixels(client.get("/api/corrections/survey/records/1/after")) == hers).all()
    assert (pixels(client.get("/api/corrections/survey/records/2/drawn")) == his).all()


def test_a_run_on_a_survey_is_corrected_in_the_survey(client: TestClient) -> None:
    before = mask_at(client)
    client.post(f"{INLINE}/mask", content=before.tobytes() + (1 - before).tobytes())
    assert client.get("/api/corrections/run").json() == client.get("/api/corrections/survey").json()
    assert client.get("/api/corrections/run/look/tile/x/mask").status_code == 404


def test_a_record_can_be_undone_once(client: TestClient) -> None:
    before = mask_at(client)
    after = before.copy()
    after[3:9] = 1
    client.post(f"{INLINE}/mask", content=before.tobytes() + after.tobytes())
    answer = client.post("/api/corrections/survey/records/1/undo?who=Ada")
    assert answer.status_code == 200, answer.text
    assert (mask_at(client) == before).all()
    again = client.post("/api/corrections/survey/records/1/undo")
    assert (again.status_code, again.json()["detail"][:40]) == (409, "correction 1 was undone by correction 2;")
    assert patiently(client, "/api/queue/survey")["corrected"] == 0


@pytest.mark.parametrize("url", ["/api/corrections/tiles/look/tile/{}", "/api/corrections/survey/look/crossline/310"])
def test_tiles_and_crosslines_are_looked_at(client: TestClient, review: Path, url: str) -> None:
    places = patiently(client, "/api/queue/tiles")["places"]
    url = url.format(places[0]["target"]["name"])
    shapes = {what: pixels(client.get(f"{url}/{what}")).shape for what in ("mask", "greys", "probability")}
    assert len(set(shapes.values())) == 1


def test_the_queue_says_why(client: TestClient) -> None:
    found = patiently(client, "/api/queue/survey?count=5")
    assert [place["score"] for place in found["places"]] == sorted(
        (place["score"] for place in found["places"]), reverse=True
    )
    assert any("disagree" in reason for reason in found["places"][0]["reasons"])
    first = found["places"][0]["target"]
    url = f"/api/corrections/survey/look/{first['kind']}/{first['name']}"
    before = mask_at(client, url)
    client.post(f"{url}/mask", content=before.tobytes() + (1 - before).tobytes())
    again = patiently(client, "/api/queue/survey?count=5")
    assert again["corrected"] == 1
    assert first not in [place["target"] for place in again["places"]], "what is corrected leaves the queue"


def test_a_suggestion_is_answered_once(client: TestClient) -> None:
    url = "/api/suggestions/tiles"
    found = patiently(client, url)
    assert found["total"] >= SURE_TILES
    one, other = found["suggestions"][:2]
    proposed = pixels(client.get(f"{url}/{one['key']}/mask"))
    answer = client.post(f"{url}/{one['key']}/accept?who=Ada")
    assert answer.status_code == 200, answer.text
    assert (mask_at(client, f"/api/corrections/tiles/look/tile/{one['target']['name']}") == proposed).all()
    assert client.post(f"{url}/{other['key']}/refuse").status_code == 200
    left = [each["key"] for each in patiently(client, url)["suggestions"]]
    assert one["key"] not in left
    assert other["key"] not in left
    assert client.post(f"{url}/{one['key']}/accept").status_code == 404
    client.post("/api/corrections/tiles/records/2/undo")
    assert other["key"] in [each["key"] for each in patiently(client, url)["suggestions"]]


@pytest.mark.parametrize(
    ("method", "url", "content", "status", "words"),
    [
        ("POST", f"{INLINE}/mask", b"\x01" * 100, 422, "expected 7680 bytes"),
        ("POST", f"{INLINE}/mask", b"", 422, "found 0"),
        ("POST", f"{INLINE}/mask", b"\x00" * 7681, 413, "found more"),
        ("POST", f"{INLINE}/mask", b"\x00" * 3840 + b"\x07" * 3840, 422, "0 (no salt), 1 (salt) and 255"),
        ("POST", f"{INLINE}/mask?who={'x' * 81}", b"\x00" * 7680, 422, ""),
        ("GET", "/api/corrections/survey/look/inline/5000/mask", b"", 404, "whose inlines are 100 to 139"),
        ("GET", f"/api/corrections/survey/look/inline/{'9' * 30}/mask", b"", 422, "expected the number"),
        ("GET", f"/api/corrections/survey/look/inline/{'9' * 300}/mask", b"", 422, ""),
        ("GET", "/api/corrections/survey/look/inline/1e3/mask", b"", 422, "expected the number"),
        ("GET", "/api/corrections/survey/look/tile/110/mask", b"", 404, "which has sections and no tiles"),
        ("GET", "/api/corrections/tiles/look/inline/110/mask", b"", 404, "there is no inline 110"),
        ("GET", "/api/corrections/survey/look/depth/110/mask", b"", 422, ""),
        ("GET", "/api/corrections/..%2F..%2Fetc", b"", 404, ""),
        ("GET", "/api/corrections/nothing", b"", 404, "nothing of that name"),
        ("GET", "/api/corrections/survey/records/1/after", b"", 404, "there is no correction 1"),
        ("GET", f"/api/corrections/survey/records/{10**30}/after", b"", 422, ""),
        ("POST", "/api/corrections/survey/records/7/undo", b"", 404, "there is no correction 7"),
        ("GET", "/api/suggestions/survey/zz/mask", b"", 422, ""),
        ("POST", "/api/corrections/survey/retraining", b"", 409, "nothing was corrected yet"),
        ("POST", "/api/corrections/survey/retraining/stop", b"", 409, "nothing to stop"),
        ("GET", "/api/corrections/survey/retraining/1/pictures/000.png", b"", 404, "no such picture"),
    ],
)
def test_what_cannot_be_done_is_told_in_words(
    client: TestClient, review: Path, method: str, url: str, content: bytes, status: int, words: str
) -> None:
    answer = client.request(method, url, content=content)
    assert answer.status_code == status, answer.text
    assert words in str(answer.json()["detail"])
    assert str(review) not in answer.text
    assert not (review / "salt.zarr.corrections" / "records" / "000001.json").exists()


def test_a_damaged_record_is_told_without_its_place(client: TestClient, review: Path) -> None:
    before = mask_at(client)
    client.post(f"{INLINE}/mask", content=before.tobytes() + (1 - before).tobytes())
    record = review / "salt.zarr.corrections" / "records" / "000001.json"
    record.write_text(record.read_text().replace('"changed"', '"chanted"'))
    answer = client.get(f"{INLINE}/mask")
    assert answer.status_code == 502
    assert "differs from its own digest" in answer.json()["detail"]
    assert str(review) not in answer.text


def test_corrections_of_other_data_are_left_alone(client: TestClient, review: Path) -> None:
    before = mask_at(client)
    client.post(f"{INLINE}/mask", content=before.tobytes() + (1 - before).tobytes())
    about = review / "salt.zarr.corrections" / "about.json"
    about.write_text(about.read_text().replace('"of": "', '"of": "0'))
    answer = client.get("/api/corrections/survey")
    assert (answer.status_code, "corrections of other data" in answer.text) == (502, True)
