"""Sections of a survey as a page gets them: the store's own numbers, and every fault in words."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from diapir.review.sources import open_sources
from diapir.review.viewer.levels import LEVELS
from diapir.review.viewer.survey_routes import survey_routes
from diapir.review.viewer.whole_volumes import slices_together
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.store import Store, open_store, read_map
from fake_stores import volume_of
from fake_viewed import write_viewed_survey

SHAPE = (36, 40, 50)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewed")
    write_viewed_survey(folder, shape=SHAPE, dead=True)
    return folder


@pytest.fixture(scope="module")
def stores(folder: Path) -> tuple[Store, Store]:
    return open_store(folder / "survey.zarr"), open_store(folder / "salt.zarr")


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    return client_of(folder, cache=folder / "cache")


def client_of(folder: Path, *, cache: Path, most_bytes: int = 1 << 24) -> TestClient:
    sources = open_sources([folder / "survey.zarr", folder / "salt.zarr"])
    app = FastAPI()
    app.include_router(survey_routes(sources.surveys, cache=cache, most_bytes=most_bytes))
    return TestClient(app)


def get(client: TestClient, path: str) -> Any:
    """An answer, waited for as a page waits."""
    for _ in range(600):
        answer = client.get(f"/api/surveys/{path}")
        if answer.status_code != 503:
            return answer
        assert answer.headers["Retry-After"] == "1"
        time.sleep(0.1)
    raise AssertionError("no answer within a minute")


def described(client: TestClient) -> dict[str, Any]:
    for _ in range(600):
        told: dict[str, Any] = get(client, "survey.zarr").json()
        if told["disagreement"]["state"] != "reading":
            return told
        time.sleep(0.1)
    raise AssertionError("disagreement was not read within a minute")


def planes_of(answer: Any) -> dict[str, NDArray[np.uint8]]:
    assert answer.status_code == 200, answer.text
    names = answer.headers["X-Planes"].split(",")
    shape = int(answer.headers["X-Rows"]), int(answer.headers["X-Columns"])
    return dict(zip(names, np.frombuffer(answer.content, np.uint8).reshape(len(names), *shape), strict=True))


def line_of(volume: NDArray[Any], direction: str, place: int) -> NDArray[Any]:
    """What a person sees: rows are samples, or inlines of a time slice."""
    if direction == "inline":
        return np.asarray(volume[place].T)
    return np.asarray(volume[:, place].T if direction == "crossline" else volume[:, :, place])


LINES = [("inline", 100, 0), ("inline", 135, 35), ("crossline", 302, 1), ("crossline", 378, 39), ("sample", 7, 7)]


@pytest.mark.parametrize(("direction", "number", "place"), LINES)
def test_amplitudes_are_the_survey_greys_and_none_is_taken_for_a_missing_trace(
    client: TestClient, stores: tuple[Store, Store], direction: str, number: int, place: int
) -> None:
    store = stores[0]
    answer = get(client, f"survey.zarr/amplitude/{direction}/{number}")
    greys = np.maximum(to_grey(volume_of(store, "amplitude"), limit=grey_limit(store)), 1)
    greys[~read_map(store, "live")] = 0
    np.testing.assert_array_equal(planes_of(answer)["amplitude"], line_of(greys, direction, place))
    assert answer.headers["X-Missing"] == "0"


@pytest.mark.parametrize(("direction", "number", "place"), LINES)
def test_a_mask_of_bytes_is_the_mask_at_every_threshold(
    client: TestClient, stores: tuple[Store, Store], direction: str, number: int, place: int
) -> None:
    live = read_map(stores[1], "live")
    planes = planes_of(get(client, f"survey.zarr/probability,mask/{direction}/{number}"))
    volume = volume_of(stores[1], "probability").astype(np.float32)
    volume[~live] = np.nan
    values = line_of(volume, direction, place)
    known = ~np.isnan(values)
    assert (planes["probability"][~known] == 255).all()
    for level in range(0, LEVELS, 11):
        expected = values[known] > np.float32(level / LEVELS)
        np.testing.assert_array_equal(planes["probability"][known] > level, expected)
    np.testing.assert_array_equal(planes["mask"][known] == 1, values[known] > 0.5)


def test_disagreement_comes_in_steps_that_the_headers_tell(client: TestClient, stores: tuple[Store, Store]) -> None:
    answer = get(client, "survey.zarr/disagreement/inline/110")
    expected = line_of(volume_of(stores[1], "disagreement"), "inline", 10).astype(np.float32)
    found = planes_of(answer)["disagreement"]
    known = found != int(answer.headers["X-Missing"])
    np.testing.assert_allclose(found[known] * float(answer.headers["X-Step"]), expected[known], atol=0.0011)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("other", "there is no survey other"),
        ("other/amplitude/inline/100", "there is no survey other"),
        ("survey.zarr/live/inline/100", "has no volume live"),
        ("survey.zarr/amplitude,x/inline/100", "has no volume x"),
        ("survey.zarr/amplitude/inline/99", "has no inline 99: there are 100 to 135"),
        ("survey.zarr/amplitude/crossline/301", "has no crossline 301: there are 300 to 378 in steps of 2"),
        ("survey.zarr/amplitude/sample/50", "has no sample 50: there are 0 to 49"),
        ("survey.zarr/amplitude/inline/-1", "has no inline -1"),
        ("survey.zarr/amplitude/inline/" + "9" * 40, "has no inline 999"),
    ],
)
def test_what_is_not_there_is_not_found_and_said_so(client: TestClient, path: str, words: str) -> None:
    answer = get(client, path)
    assert answer.status_code == 404
    assert words in answer.json()["detail"]


def test_a_direction_or_number_that_is_none_is_refused(client: TestClient) -> None:
    for path in ("survey.zarr/amplitude/diagonal/1", "survey.zarr/amplitude/inline/x"):
        assert get(client, path).status_code == 422


def test_a_survey_is_described_with_the_disagreement_of_each_section(
    client: TestClient, stores: tuple[Store, Store]
) -> None:
    told = described(client)
    assert told["inlines"] == {"first": 100, "step": 1, "count": 36}
    assert told["crosslines"] == {"first": 300, "step": 2, "count": 40}
    assert told["volumes"] == ["amplitude", "probability", "disagreement", "mask"]
    spread = volume_of(stores[1], "disagreement").astype(np.float64)
    live = read_map(stores[1], "live")
    means = [spread[place][live[place]].mean() for place in range(SHAPE[0])]
    np.testing.assert_allclose(told["disagreement"]["inline"], means, atol=1e-5)
    assert int(np.argmax(told["disagreement"]["inline"])) == 9
    samples = [spread[:, :, place][live].mean() for place in range(SHAPE[2])]
    np.testing.assert_allclose(told["disagreement"]["sample"], samples, atol=1e-5)


def test_disagreement_is_read_once_and_kept_apart_from_the_stores(folder: Path, tmp_path: Path) -> None:
    before = contents(folder / "salt.zarr")
    first = described(client_of(folder, cache=tmp_path))["disagreement"]
    kept = list(tmp_path.glob("disagreement-*.json"))
    assert len(kept) == 1
    kept[0].write_text(kept[0].read_text().replace(str(first["inline"][3]), "0.123456"))
    again = described(client_of(folder, cache=tmp_path))["disagreement"]
    assert again["inline"][3] == 0.123456
    kept[0].write_text("damaged")
    assert described(client_of(folder, cache=tmp_path))["disagreement"] == first
    assert contents(folder / "salt.zarr") == before


def test_without_a_place_to_keep_it_disagreement_is_read_all_the_same(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert described(client_of(folder, cache=tmp_path / "file"))["disagreement"]["state"] == "ready"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(folder: Path, tmp_path: Path, volume: str) -> Path:
    """A copy of both stores, a chunk of one volume changed."""
    for name in ("survey.zarr", "salt.zarr"):
        shutil.copytree(folder / name, tmp_path / name)
    store = "survey.zarr" if volume == "amplitude" else "salt.zarr"
    chunk = tmp_path / store / volume / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 0xFF  # in the first chunk of the shard
    chunk.write_bytes(content)
    return chunk


@pytest.mark.parametrize("path", ["amplitude/inline/105", "amplitude/crossline/320", "amplitude/sample/3"])
def test_a_damaged_chunk_is_named_without_the_place_where_the_store_lies(
    folder: Path, tmp_path: Path, path: str
) -> None:
    damage(folder, tmp_path, "amplitude")
    answer = get(client_of(tmp_path, cache=tmp_path / "cache"), f"survey.zarr/{path}")
    assert answer.status_code == 502
    assert answer.json()["detail"].startswith("survey.zarr/amplitude/c/0/0/0: its bytes are not those")
    assert str(tmp_path) not in answer.text


def test_an_absent_chunk_is_named_too(folder: Path, tmp_path: Path) -> None:
    chunk = damage(folder, tmp_path, "probability")
    client = client_of(tmp_path, cache=tmp_path / "cache")
    chunk.unlink()
    answer = get(client, "survey.zarr/probability/inline/105")
    assert (answer.status_code, "salt.zarr/probability/c/0/0/0: expected a file" in answer.text) == (502, True)


def test_salt_that_is_gone_is_missed_and_not_left_out(folder: Path, tmp_path: Path) -> None:
    damage(folder, tmp_path, "mask")
    client = client_of(tmp_path, cache=tmp_path / "cache")
    before = described(client)["volumes"]
    (tmp_path / "salt.zarr").rename(tmp_path / "away")
    assert described(client)["volumes"] == before
    answer = get(client, "survey.zarr/amplitude,probability/inline/105")
    assert (answer.status_code, "salt.zarr/probability: expected an array" in answer.text) == (502, True)
    (tmp_path / "away").rename(tmp_path / "salt.zarr")
    assert get(client, "survey.zarr/amplitude,probability/inline/105").status_code == 200


def test_damaged_disagreement_is_told_and_the_survey_is_shown(folder: Path, tmp_path: Path) -> None:
    damage(folder, tmp_path, "disagreement")
    told = described(client_of(tmp_path, cache=tmp_path / "cache"))["disagreement"]
    assert told["state"] == "failed"
    assert told["words"].startswith("salt.zarr/disagreement/c/0/0/0: its bytes")
    assert list(tmp_path.glob("cache/*")) == []


def test_half_of_a_pair_is_shown_alone(folder: Path, tmp_path: Path) -> None:
    for name in ("survey.zarr", "salt.zarr"):
        app = FastAPI()
        app.include_router(survey_routes(open_sources([folder / name]).surveys, cache=tmp_path))
        client = TestClient(app)
        has_salt = name == "salt.zarr"
        assert ("probability" in get(client, name).json()["volumes"]) == has_salt
        assert get(client, f"{name}/probability/inline/101").status_code == (200 if has_salt else 404)
        assert get(client, f"{name}/amplitude/inline/101").status_code == (404 if has_salt else 200)


def test_one_read_of_a_volume_gives_many_time_slices(client: TestClient, folder: Path) -> None:
    source = open_sources([folder / "survey.zarr"]).surveys["survey.zarr"]
    assert slices_together(source) == SHAPE[2]
    found = [planes_of(get(client, f"survey.zarr/amplitude/sample/{place}"))["amplitude"] for place in (0, 49)]
    assert found[0].shape == SHAPE[:2]
    assert (found[0] != found[1]).any()
