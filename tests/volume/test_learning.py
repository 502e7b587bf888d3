from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.tiles import CROSSLINE, INLINE, TILE, UNKNOWN, DataSet
from diapir.faults import InputError
from diapir.volume import learning
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.labelled_section import LabelledSection
from diapir.volume.labels import Labels
from diapir.volume.learning import survey_tiles
from diapir.volume.store import Store
from fake_labelled_survey import write_store

SHAPE = (130, 12, 150)


@pytest.fixture(scope="module")
def amplitude() -> NDArray[np.float32]:
    """Noise, so that every place looks like no other."""
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def store(amplitude: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Store:
    live = np.ones(SHAPE[:2], np.bool_)
    live[:40] = False
    return write_store(tmp_path_factory.mktemp("stores") / "survey.zarr", amplitude, live=live)


def section(direction: str, place: int, mask: NDArray[np.uint8]) -> LabelledSection:
    line = 100 + 2 * place if direction == "inline" else 300 + place
    return LabelledSection(direction, line, place, mask, Path("labels") / "one.png")  # type: ignore[arg-type]


def some_mask(traces: int, *, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array([0, 1, UNKNOWN], np.uint8), (SHAPE[2], traces))


@pytest.fixture(scope="module")
def labels() -> Labels:
    crossline = np.full((SHAPE[2], SHAPE[0]), UNKNOWN, np.uint8)
    crossline[5:10, 115:] = 1
    return Labels((section("inline", 70, some_mask(12, seed=1)), section("crossline", 5, crossline)), ("a note",))


@pytest.fixture(scope="module")
def data(store: Store, labels: Labels) -> DataSet:
    return survey_tiles(store, labels)


def test_a_tile_shows_its_place_with_its_labels(
    data: DataSet, labels: Labels, amplitude: NDArray[np.float32], store: Store
) -> None:
    tiles = data.labelled
    assert tiles.places is not None
    assert tiles.masks is not None
    greys = to_grey(amplitude, limit=grey_limit(store))
    masks = {(each.direction == "crossline", each.place): each.mask for each in labels.sections}
    for number, (direction, line, sample, trace) in enumerate(tiles.places.tolist()):
        whole = (greys[line] if direction == INLINE else greys[:, line]).T[sample : sample + TILE]
        shown = whole[:, trace : trace + TILE]
        height, width = shown.shape
        assert np.array_equal(tiles.images[number, :height, :width], shown)
        own = masks[direction == CROSSLINE, line][sample : sample + TILE, trace : trace + TILE]
        assert np.array_equal(tiles.masks[number, :height, :width], own)
        assert (tiles.masks[number, :, width:] == UNKNOWN).all(), "a mirrored pixel is known"
        name = "inline-240" if direction == INLINE else "crossline-305"
        assert tiles.ids[number] == f"{name}-s{sample:04d}-t{trace:04d}"
    assert len(set(tiles.ids)) == len(tiles.ids)


def test_what_lies_beyond_a_small_section_is_its_mirror_image(data: DataSet) -> None:
    assert data.labelled.places is not None
    images = data.labelled.images[data.labelled.places[:, 0] == INLINE]
    assert np.array_equal(images[:, :, 12:24], images[:, :, 11::-1])


def test_every_label_is_in_a_tile_and_every_tile_knows_something(data: DataSet, labels: Labels) -> None:
    tiles = data.labelled
    assert tiles.places is not None
    assert tiles.masks is not None
    assert (tiles.masks != UNKNOWN).any((1, 2)).all()
    for one in labels.sections:
        covered = np.zeros((SHAPE[2] + TILE, SHAPE[0] + TILE), np.bool_)
        direction = INLINE if one.direction == "inline" else CROSSLINE
        for sample, trace in tiles.places[tiles.places[:, 0] == direction][:, 2:]:
            covered[sample : sample + TILE, trace : trace + TILE] = True
        known = one.mask != UNKNOWN
        assert covered[: known.shape[0], : known.shape[1]][known].all()


def test_few_sections_are_cut_with_more_overlap_than_many(store: Store) -> None:
    full = [section("crossline", place, np.ones((SHAPE[2], SHAPE[0]), np.uint8)) for place in range(12)]
    few, many = (survey_tiles(store, Labels(tuple(full[:count]), ())) for count in (1, 12))
    assert few.record["overlap_px"] > many.record["overlap_px"] or len(many.labelled) < learning._WANTED_TILES
    assert len(few.labelled) > 20
    assert len(many.labelled) <= 12 * len(few.labelled)


def test_tiles_without_labels_come_evenly_from_live_parts_of_other_lines(data: DataSet) -> None:
    tiles = data.unlabelled
    assert tiles.masks is None
    assert tiles.places is not None
    assert 0 < len(tiles) <= learning._UNLABELLED_TILES
    own = {(direction, line) for direction, line in tiles.places[:, :2].tolist()}
    assert own.isdisjoint({(INLINE, 70), (CROSSLINE, 5)})
    inlines = sorted(line for direction, line in own if direction == INLINE)
    assert inlines[0] >= 40, "dead inlines"
    assert len(inlines) >= 4
    assert np.ptp(np.diff(inlines)) <= 1
    for direction, _, _, trace in tiles.places.tolist():
        if direction == CROSSLINE:
            assert trace >= 40 - TILE // 2, "more dead traces than live ones"


def test_the_record_tells_where_tiles_came_from(data: DataSet, store: Store) -> None:
    record = data.record
    assert record["survey"]["interval"] == 4.0
    assert record["survey"]["unit"] == "ms"
    assert record["survey"]["facts"]["amplitude"] == store.facts["amplitude"]
    assert [(each["direction"], each["line"]) for each in record["labelled_sections"]] == [
        ("inline", 240), ("crossline", 305),
    ]  # fmt: skip
    assert record["notes"] == ["a note"]
    assert "/" not in record["source"] + record["labelled_sections"][0]["file"]


def test_the_same_survey_and_labels_give_the_same_tiles(store: Store, labels: Labels, data: DataSet) -> None:
    assert survey_tiles(store, labels).digest == data.digest


@pytest.mark.parametrize("limit", [None, "much", 0.0, float("nan")])
def test_a_store_without_the_limit_of_its_amplitudes_is_refused(tmp_path: Path, limit: object) -> None:
    store = write_store(tmp_path / "s.zarr", np.ones((3, 3, 5), np.float32))
    facts = dict(store.facts) | {"amplitude": {"limit": limit}}
    with pytest.raises(InputError, match="expected a survey"):
        grey_limit(replace(store, facts=facts))
