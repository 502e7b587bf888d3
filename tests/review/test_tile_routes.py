"""Tiles of a run as a page gets them: the scores of the metric itself, planes that say what they are, and words."""

import base64
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from diapir.data.tiles import read_data
from diapir.metrics import mask_scores
from diapir.pipeline.predictions import read_predictions
from diapir.pipeline.run import run_recipe
from diapir.recipe.files import read_recipe
from diapir.review.sources import open_sources
from diapir.review.viewer.levels import LEVELS, thresholds
from diapir.review.viewer.tile_routes import tile_routes
from diapir.runs import read_json, write_json
from fake_training import tiny_run_recipe
from fake_viewed import BLENDED_MASKS, MEMBERS, write_viewed_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewed")
    write_viewed_run(folder)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    return client_of(folder / "run", folder / "tiles")


def client_of(*paths: Path) -> TestClient:
    app = FastAPI()
    app.include_router(tile_routes(open_sources(paths).runs))
    return TestClient(app)


def get(client: TestClient, url: str) -> Any:
    """An answer, waited for as a page waits."""
    for _ in range(600):
        answer = client.get(url)
        if answer.status_code != 503:
            return answer
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["detail"]
        time.sleep(0.1)
    raise AssertionError("no answer within a minute")


def scores_of(told: dict[str, Any]) -> NDArray[np.float64]:
    tenths = np.frombuffer(base64.b64decode(told["scores"]), np.uint8)
    return tenths.reshape(LEVELS, len(told["ids"])) / 10


def planes_of(answer: Any) -> dict[str, NDArray[np.uint8]]:
    names = answer.headers["X-Planes"].split(",")
    shape = int(answer.headers["X-Rows"]), int(answer.headers["X-Columns"])
    return dict(zip(names, np.frombuffer(answer.content, np.uint8).reshape(len(names), *shape), strict=True))


def test_scores_by_threshold_are_those_of_the_metric(client: TestClient, folder: Path) -> None:
    told = get(client, "/api/tiles/run").json()
    found, data = read_predictions(folder / "run" / "both"), read_data(folder / "tiles")
    assert data.labelled.masks is not None
    truth = data.labelled.masks[found.rows]
    assert told["ids"] == [data.labelled.ids[row] for row in found.rows]
    assert told["thresholds"] == thresholds()
    for level in (0, 37, 100, 199):
        expected = mask_scores(found.held_out.astype(np.float32) > np.float32(level / LEVELS), truth)
        np.testing.assert_allclose(scores_of(told)[level], expected, atol=1e-6)
    # 0.44 is one that a tuned run may be cut at.
    assert 0.44 in told["thresholds"]


def test_a_real_run_scores_at_its_own_threshold_what_its_record_says(tmp_path: Path) -> None:
    run_recipe(tiny_run_recipe({"predict.threshold": 0.44}), tmp_path / "run", data_path=None)
    told = get(client_of(tmp_path / "run"), "/api/tiles/run").json()
    record = read_json(tmp_path / "run" / "record.json")
    level = round(told["threshold"] * LEVELS)
    assert scores_of(told)[level].mean() == pytest.approx(record["score"], abs=1e-5)
    np.testing.assert_allclose(scores_of(told)[level], told["columns"]["score"], atol=1e-6)
    assert told["columns"]["disagreement"] is None
    assert "no disagreement" in " ".join(told["lacks"])


def test_a_mask_of_bytes_is_the_mask_that_is_scored(client: TestClient, folder: Path) -> None:
    found = read_predictions(folder / "run" / "both")
    told = get(client, "/api/tiles/run").json()
    for row, tile in enumerate(told["ids"][:4]):
        planes = planes_of(get(client, f"/api/tiles/run/{tile}"))
        for level in range(0, LEVELS, 7):
            expected = found.held_out[row].astype(np.float32) > np.float32(level / LEVELS)
            np.testing.assert_array_equal(planes["probability"] > level, expected)


def test_planes_are_the_image_the_truth_and_how_far_members_disagree(client: TestClient, folder: Path) -> None:
    data = read_data(folder / "tiles").labelled
    assert data.masks is not None
    says = [read_predictions(folder / "run" / name) for name in MEMBERS]
    tile = get(client, "/api/tiles/run").json()["ids"][2]
    planes = planes_of(get(client, f"/api/tiles/run/{tile}"))
    row = data.ids.index(tile)
    np.testing.assert_array_equal(planes["image"], data.images[row])
    np.testing.assert_array_equal(planes["truth"], data.masks[row])
    spread = np.abs(says[0].held_out[2].astype(np.float32) - says[1].held_out[2].astype(np.float32)) / 2
    np.testing.assert_allclose(planes["disagreement"] * 0.002, spread, atol=0.0012)


def test_the_probabilities_of_each_member_can_be_asked_for(client: TestClient, folder: Path) -> None:
    both = get(client, "/api/tiles/run").json()
    assert both["steps"] == ["both", "right-says", "left-says"]
    left = get(client, "/api/tiles/run?step=left-says").json()
    assert left["step"] == "left-says"
    assert (scores_of(left) != scores_of(both)).any()
    planes = planes_of(get(client, f"/api/tiles/run/{left['ids'][0]}?step=left-says"))
    expected = read_predictions(folder / "run" / "left-says").held_out[0].astype(np.float32) > np.float32(0.5)
    np.testing.assert_array_equal(planes["probability"] > LEVELS // 2, expected)


def test_uncertainty_and_disagreement_rank_tiles(client: TestClient, folder: Path) -> None:
    columns = get(client, "/api/tiles/run").json()["columns"]
    values = read_predictions(folder / "run" / "both").held_out.astype(np.float64)
    np.testing.assert_allclose(columns["uncertainty"], (4 * values * (1 - values)).mean((1, 2)), atol=1e-5)
    assert all(0 <= value <= 0.5 for value in columns["disagreement"])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/api/tiles/other", "there is no run other"),
        ("/api/tiles/other/x", "there is no run other"),
        ("/api/tiles/run/x", "there is no held-out tile x in run"),
        ("/api/tiles/run?step=x", "no probabilities of a step x"),
        ("/api/tiles/run/x?step=x", "no probabilities of a step x"),
    ],
)
def test_unknown_names_are_not_found(client: TestClient, url: str, words: str) -> None:
    answer = get(client, url)
    assert answer.status_code == 404
    assert words in answer.json()["detail"]


def test_a_run_without_its_tiles_says_what_it_lacks_and_shows_the_rest(folder: Path) -> None:
    client = client_of(folder / "run")
    told = get(client, "/api/tiles/run").json()
    assert told["scores"] is None
    assert "name the prepared tiles that it was made of" in " ".join(told["lacks"])
    assert (
        told["columns"]["score"]
        == get(client_of(folder / "run", folder / "tiles"), "/api/tiles/run").json()["columns"]["score"]
    )
    planes = planes_of(get(client, f"/api/tiles/run/{told['ids'][0]}"))
    assert set(planes) == {"probability", "disagreement"}


def test_tiles_that_are_others_are_not_shown_as_the_runs_own(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copytree(folder / "tiles", tmp_path / "tiles")
    images = np.load(tmp_path / "tiles" / "labelled-images.npy")
    images[0, 0, 0] ^= 1
    np.save(tmp_path / "tiles" / "labelled-images.npy", images)
    told = get(client_of(tmp_path / "run", tmp_path / "tiles"), "/api/tiles/run").json()
    assert told["scores"] is None
    assert "cannot be read" in " ".join(told["lacks"])


def test_a_damaged_file_is_named_without_the_place_where_it_lies(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "both" / "held-out.npy").write_bytes(b"no array")
    answer = get(client_of(tmp_path / "run"), "/api/tiles/run")
    assert answer.status_code == 502
    assert answer.json()["detail"].startswith("run/both/held-out.npy: cannot be read")
    assert str(tmp_path) not in answer.text


def test_rows_beyond_the_tiles_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    for name in ("both", *MEMBERS):
        rows = np.load(tmp_path / "run" / name / "held-out-rows.npy")
        rows[-1] = 10**6
        np.save(tmp_path / "run" / name / "held-out-rows.npy", rows)
    answer = get(client_of(tmp_path / "run"), "/api/tiles/run")
    assert (answer.status_code, "expected every held-out tile" in answer.json()["detail"]) == (502, True)


def test_masks_that_members_were_edited_to_are_not_taken_for_those_of_the_run(tmp_path: Path) -> None:
    client = client_of(*write_viewed_run(tmp_path, steps=BLENDED_MASKS))
    told = get(client, "/api/tiles/run").json()
    assert (told["edited"], told["step"]) == (None, "both")
    assert sorted(told["steps"]) == ["both", *sorted(MEMBERS)]
    found = read_predictions(tmp_path / "run" / "both").held_out[0].astype(np.float32)
    planes = planes_of(get(client, f"/api/tiles/run/{told['ids'][0]}"))
    np.testing.assert_array_equal(planes["probability"] > LEVELS // 2, found > 0.5)
    assert "edited" not in planes


def test_edited_masks_are_shown_beside_the_probabilities_they_were_made_of(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    text = (tmp_path / "run" / "recipe.yaml").read_text()
    submit = "- do: submit\n  name: submit\n  of: "
    text = text.replace(f"{submit}both", f"- do: post-process\n  name: edited\n  of: both\n{submit}edited")
    assert "edited" in text
    (tmp_path / "run" / "recipe.yaml").write_text(text)
    digest = read_recipe(tmp_path / "run" / "recipe.yaml").digest
    write_json(
        tmp_path / "run" / "record.json", read_json(tmp_path / "run" / "record.json") | {"recipe_digest": digest}
    )
    shutil.copytree(tmp_path / "run" / "both", tmp_path / "run" / "edited")
    masks = np.load(tmp_path / "run" / "both" / "held-out.npy") > 0.7
    np.save(tmp_path / "run" / "edited" / "held-out.npy", masks.astype(np.float16))
    client = client_of(tmp_path / "run", folder / "tiles")
    told = get(client, "/api/tiles/run").json()
    assert (told["edited"], told["step"], told["steps"][0]) == ("edited", "both", "both")
    planes = planes_of(get(client, f"/api/tiles/run/{told['ids'][0]}"))
    np.testing.assert_array_equal(planes["edited"], masks[0])
