"""The service with a real, tiny model: what it answers is what the model says."""

import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from diapir.data.rle import decode
from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import write_data
from diapir.faults import InputError
from diapir.pipeline.bundle import open_model, write_bundle
from diapir.pipeline.new_tiles import predict_with_run
from diapir.pipeline.survey_tiles import tile_predictor
from diapir.review.app import build_app
from diapir.review.service import routes
from diapir.review.service.access import Security
from diapir.review.service.jobs import OVERLAP, Job, new_job
from diapir.review.service.limits import Limits
from diapir.review.service.net_queue import NetQueue
from diapir.volume.tiling import Blend, cut_tiles, plan_tiling
from fake_png import png
from fake_service import Folders, npy, served_run, smooth_greys

pytestmark = pytest.mark.usefixtures("one_thread")

AGREEMENT = 1e-5
"""How far probabilities of one tile may lie apart when others go through a float32 net with it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_run(tmp_path_factory)


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(run, out)
    return out


@pytest.fixture(scope="module")
def service(run: Path, bundle: Path) -> Iterator[TestClient]:
    app = build_app(Folders({"tiny": run, "packed": bundle}), security=Security())
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def says(run: Path, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities of tiles, as a survey's are found."""
    return tile_predictor(open_model(run), precision="float32")(tiles, np.full(len(tiles), np.nan, np.float32)).mean


def probability(client: TestClient, body: bytes, query: str = "") -> NDArray[np.float64]:
    answer = client.post(f"/v1/segment?format=probability{query}", content=body)
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image).astype(np.float64) / 65535


def test_a_tile_gets_what_the_predictor_says(service: TestClient, run: Path) -> None:
    tile = smooth_greys(101, 101)
    own = says(run, tile[None])[0].astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(probability(service, png(tile)), own, atol=0.5 / 65535 + 1e-9)


def test_tiles_get_the_masks_of_diapir_predict(service: TestClient, run: Path, tmp_path: Path) -> None:
    data = make_synthetic(labelled=2, unlabelled=6, seed=4)[0]
    write_data(data, tmp_path / "set")
    tiles, masks = predict_with_run(run, tmp_path / "set")
    assert 0 < masks.mean() < 1
    for image, mask, depth_m in zip(tiles.images, masks, tiles.depths_m, strict=True):
        answer = service.post(f"/v1/segment?depth_m={float(depth_m)}", content=npy(image)).json()
        found = decode([answer["rle"]], height=101, width=101)[0]
        # Where a probability lies within rounding of the threshold, company may turn it.
        assert (found != mask).sum() <= 1


def test_a_larger_image_is_put_together_as_surveys_are(service: TestClient, run: Path) -> None:
    image = smooth_greys(170, 240)
    tiling = plan_tiling((170, 240), tile=(101, 101), overlap=(OVERLAP, OVERLAP))
    blend = Blend.empty(tiling)
    for number, tile in enumerate(cut_tiles(image, tiling)):
        blend.add(number, says(run, np.asarray(tile, np.uint8)[None])[0])
    np.testing.assert_allclose(probability(service, npy(image)), blend.section(), atol=AGREEMENT + 1e-3)


def test_company_changes_nothing_that_counts(run: Path) -> None:
    tiles = np.stack([smooth_greys(101, 101, seed=seed) for seed in range(16)])
    together = says(run, tiles)
    for number, tile in enumerate(tiles):
        np.testing.assert_allclose(together[number], says(run, tile[None])[0], atol=AGREEMENT)


def test_all_forms_say_the_same(service: TestClient) -> None:
    body = npy(smooth_greys(120, 130))
    said = probability(service, body)
    threshold = float(np.median(said))
    answer = service.post(f"/v1/segment?threshold={threshold}", content=body).json()
    picture = service.post(f"/v1/segment?threshold={threshold}&format=png", content=body)
    with Image.open(io.BytesIO(picture.content)) as image:
        mask = np.asarray(image)
    assert sorted(np.unique(mask)) == [0, 255]
    assert answer["shape"] == [120, 130] == list(mask.shape)
    assert (decode([answer["rle"]], height=120, width=130)[0] == (mask == 255)).all()
    assert answer["salt_share"] == pytest.approx((mask == 255).mean())
    assert answer["threshold"] == threshold == float(picture.headers["X-Threshold"])
    assert answer["model_digest"] == picture.headers["X-Model-Digest"]
    assert 0 <= answer["seconds"] < 60
    # Both are cut from what was rounded to float16.
    assert ((said > threshold + 1e-3) <= (mask == 255)).all()
    assert ((mask == 255) <= (said > threshold - 1e-3)).all()


def test_a_bundle_answers_as_its_run_does(service: TestClient, run: Path, bundle: Path) -> None:
    body = png(smooth_greys(101, 101))
    answers = [service.post(f"/v1/segment?model={name}", content=body).json() for name in ("tiny", "packed")]
    assert answers[0]["rle"] == answers[1]["rle"]
    assert [answer["model"] for answer in answers] == ["tiny", "packed"]
    assert answers[1]["model_digest"] == open_model(bundle).digest != answers[0]["model_digest"]


def test_the_models_are_told(service: TestClient, run: Path) -> None:
    first, second = service.get("/v1/models").json()["models"]
    record = json.loads((run / "record.json").read_text())
    assert (first["name"], first["kind"], second["name"], second["kind"]) == ("tiny", "run", "packed", "bundle")
    assert first["score"] == second["score"] == record["score"]
    assert first["threshold"] == record["threshold"]
    assert first["nets"] == 1
    assert len(first["digest"]) == 64


def test_the_first_model_answers_where_none_is_named(service: TestClient) -> None:
    assert service.post("/v1/segment", content=png(smooth_greys(9, 9))).json()["model"] == "tiny"


@pytest.mark.parametrize("name", ["other", "../tiny", "..%2Ftiny", "%2Fetc%2Fpasswd", "tiny%00", "%5Ctiny", ""])
def test_models_are_looked_up_by_name_alone(service: TestClient, name: str) -> None:
    answer = service.post(f"/v1/segment?model={name}", content=png(smooth_greys(9, 9)))
    assert answer.status_code == 404
    assert answer.json()["detail"] == "expected one of the models tiny, packed; found another name"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("threshold=2", "query threshold"),
        ("threshold=nan", "query threshold"),
        ("treshold=0.5", "query treshold"),
        ("format=bmp", "query format"),
        ("limit=0", "query limit"),
        ("limit=inf", "query limit"),
        ("limit=-1&threshold=x", "query threshold"),
        ("flip_polarity=perhaps", "query flip_polarity"),
        ("depth_m=nan", "query depth_m"),
    ],
)
def test_parameters_are_checked(service: TestClient, query: str, words: str) -> None:
    answer = service.post(f"/v1/segment?{query}", content=png(smooth_greys(9, 9)))
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_packed_bodies_are_refused(service: TestClient) -> None:
    answer = service.post("/v1/segment", content=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_pixels_beyond_the_cap_are_refused(run: Path) -> None:
    app = build_app(Folders({"tiny": run}), security=Security(), limits=Limits(pixels=500))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.post("/v1/segment", content=png(smooth_greys(20, 25))).status_code == 200
        assert client.post("/v1/segment", content=png(smooth_greys(20, 26))).status_code == 413


def test_a_service_without_models_says_so() -> None:
    with TestClient(build_app(Folders({}), security=Security()), base_url="http://localhost") as client:
        assert client.post("/v1/segment", content=png(smooth_greys(9, 9))).status_code == 404
        assert client.get("/v1/models").json() == {"models": []}
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_full_queue_says_when_to_come_again(run: Path) -> None:
    app = build_app(Folders({"tiny": run}), security=Security(), limits=Limits(waiting=0))
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/v1/segment", content=png(smooth_greys(9, 9)))
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


def test_an_image_is_cut_into_tiles_by_a_coder_and_only_where_there_is_room(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers, body = list[str](), png(smooth_greys(102, 9))

    def noting(*args: Any, **settings: Any) -> Job:
        makers.append(threading.current_thread().name.partition("_")[0])
        return new_job(*args, **settings)

    monkeypatch.setattr(routes, "new_job", noting)
    with TestClient(build_app(Folders({"tiny": run}), security=Security()), base_url="http://localhost") as client:
        assert client.post("/v1/segment", content=body).status_code == 200
        assert makers == ["coder"], "the other requests are not kept waiting"
        monkeypatch.setattr(NetQueue, "has_room", lambda _, num_pixels=0: num_pixels < 101 * 101)
        assert client.post("/v1/segment", content=body).status_code == 429
    assert makers == ["coder"], "nothing is made of what has no room"


def test_models_that_cannot_be_used_are_all_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        build_app(Folders({"a": tmp_path / "empty", "b": run, "c": tmp_path / "none"}), security=Security())
    told = str(caught.value)
    assert "empty" in told
    assert "none" in told


def test_damaged_weights_are_told_without_a_place(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    for weights in copy.rglob("*.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    with TestClient(build_app(Folders({"copy": copy}), security=Security()), base_url="http://localhost") as client:
        answer = client.post("/v1/segment", content=png(smooth_greys(9, 9)))
        assert client.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert str(tmp_path) not in answer.text


def test_what_was_done_is_counted(run: Path) -> None:
    with TestClient(build_app(Folders({"tiny": run}), security=Security()), base_url="http://localhost") as client:
        client.post("/v1/segment", content=png(smooth_greys(101, 150)))
        client.post("/v1/segment", content=b"nothing")
        client.get("/nowhere")
        text = client.get("/metrics").text
    assert 'diapir_requests_total{method="POST",route="/v1/segment",status="200"} 1.0' in text
    assert 'diapir_requests_total{method="POST",route="/v1/segment",status="415"} 1.0' in text
    assert 'diapir_requests_total{method="GET",route="other",status="404"} 1.0' in text
    assert "diapir_batch_tiles_sum 2.0" in text
    assert "diapir_images_waiting 0.0" in text


def test_the_description_is_a_page_that_asks_nothing_outside(service: TestClient) -> None:
    page = service.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "POST /v1/segment" in page.text
    assert "://" not in page.text
    assert "<script" not in page.text
    assert "style=" not in page.text
    described = service.get("/openapi.json").json()
    assert {"/v1/segment", "/v1/models", "/healthz", "/metrics"} <= set(described["paths"])
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert {"401", "403", "408", "413", "421", "503"} <= set(operation["responses"]), path


def test_who_reads_in_a_browser_gets_a_page_and_a_program_json(service: TestClient) -> None:
    page = service.get("/nowhere", headers={"Accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert service.get("/nowhere").json() == {"detail": "Not Found"}
    assert service.get("/v1/nowhere", headers={"Accept": "text/html"}).json() == {"detail": "Not Found"}
