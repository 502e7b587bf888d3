"""What is measured of sections and tiles, and in which order they are to be looked at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diapir.faults import InputError
from diapir.predict.comparing import boundary_px
from diapir.review.corrections import queue_measures
from diapir.review.corrections.queue_measures import Measures, measures_of
from diapir.review.corrections.queue_ranking import rank
from diapir.review.corrections.subjects import SurveySubject, TileSubject, open_subjects
from diapir.review.corrections.targets import Target, section_target
from diapir.volume.gate_sampling import SurveyStatistics, survey_statistics
from diapir.volume.store import Store, open_store, read_volume
from fake_review import opened
from fake_stores import fake_store

pytestmark = pytest.mark.usefixtures("one_thread")


def made(rows: list[tuple[float, float, float]], *, kind: str = "tile") -> Measures:
    columns = np.array(rows, np.float64).reshape(-1, 3).T
    targets = tuple(
        Target("tile", str(row)) if kind == "tile" else section_target("inline", 100 + row) for row in range(len(rows))
    )
    return Measures(targets, columns[0], columns[1], columns[2], ())


@pytest.mark.parametrize("block", [7, 256])
def test_each_section_is_measured_as_if_it_were_read_alone(
    review: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(queue_measures, "_BLOCK", block)
    subject = open_subjects(opened(review))["survey"]
    assert isinstance(subject, SurveySubject)
    assert subject.salt is not None
    found = measures_of(subject)
    mask, spread = (read_volume(subject.salt, name) for name in ("mask", "disagreement"))
    expected = [*(mask[place] for place in range(mask.shape[0])), *(mask[:, place] for place in range(mask.shape[1]))]
    assert found.boundary.tolist() == [boundary_px(section[None])[0] for section in expected]
    means = [*spread.astype(float).mean((1, 2)), *spread.astype(float).mean((0, 2))]
    assert found.disagreement == pytest.approx(means, rel=1e-4)
    assert np.isfinite(found.novelty).all()
    assert found.targets[0] == Target("inline", "100")
    assert found.targets[-1] == Target("crossline", "362")


def test_a_mask_that_is_gone_is_missed_and_not_taken_for_unknown(review: Path) -> None:
    subject = open_subjects(opened(review))["survey"]
    target = Target("inline", "110")
    before = subject.original(target)
    (review / "salt.zarr" / "mask").rename(review / "mask")
    with pytest.raises(InputError, match="mask"):
        subject.original(target)
    (review / "mask").rename(review / "salt.zarr" / "mask")
    assert (subject.original(target) == before).all()


@pytest.mark.parametrize("gone", ["salt.zarr", "salt.zarr/mask", "salt.zarr/disagreement", "run/survey_tiles"])
def test_what_is_away_for_a_while_is_missed_and_measured_once_it_is_back(review: Path, gone: str) -> None:
    subject = open_subjects(opened(review))["survey"]
    (review / gone).rename(review / "away")
    with pytest.raises(InputError, match=r"expected|cannot be read"):
        measures_of(subject)
    (review / "away").rename(review / gone)
    found = measures_of(subject)
    assert found.notes == ()
    assert np.isfinite([found.disagreement, found.boundary, found.novelty]).all()


def test_a_damaged_survey_is_told_and_its_novelty_known_once_it_is_repaired(review: Path) -> None:
    subject = open_subjects(opened(review))["survey"]
    chunk = next(path for path in (review / "survey.zarr" / "amplitude" / "c").rglob("*") if path.is_file())
    content = chunk.read_bytes()
    chunk.write_bytes(content[:2000])
    with pytest.raises(InputError, match="its bytes are not those"):
        measures_of(subject)
    chunk.write_bytes(content)
    assert np.isfinite(measures_of(subject).novelty).all()


def test_a_survey_with_too_little_in_it_is_ranked_by_what_was_found(review: Path) -> None:
    subject = open_subjects(opened(review))["survey"]
    assert isinstance(subject, SurveySubject)
    assert subject.survey is not None
    fake_store(review / "even.zarr", {"amplitude": np.zeros(subject.survey.grid.shape, np.float32)})
    found = measures_of(replace(subject, survey=open_store(review / "even.zarr")))
    assert np.isnan(found.novelty).all()
    assert np.isfinite(found.disagreement).all()
    assert found.notes[0].startswith("novelty is not known: expected amplitudes that differ")


def test_novelty_is_of_what_the_model_saw(review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def kept(store: Store, **options: Any) -> SurveyStatistics:
        seen.append(options)
        return survey_statistics(store, **options)

    monkeypatch.setattr(queue_measures, "survey_statistics", kept)
    subject = open_subjects(opened(review))["survey"]
    assert isinstance(subject, SurveySubject)
    assert subject.salt is not None
    options = {"limit": 3.0, "flip_polarity": True, "interval": 2.0}
    salt = replace(subject.salt, facts={**subject.salt.facts, "key": {"options": options}})
    measures_of(replace(subject, salt=salt))
    assert seen == [{"limit": 3.0, "flip_polarity": True, "resample": 2.0}]


def test_what_was_measured_is_kept_until_the_data_change(review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = open_subjects(opened(review))["survey"]
    found = measures_of(subject)
    monkeypatch.setattr(queue_measures, "_of_survey", lambda subject: 1 / 0)
    again = measures_of(subject)
    assert again.targets == found.targets
    assert again.boundary.tolist() == found.boundary.tolist()
    monkeypatch.setattr(queue_measures, "_VERSION", 99)
    with pytest.raises(ZeroDivisionError):
        measures_of(subject)


def test_tiles_that_no_model_was_asked_about_have_no_disagreement(review: Path) -> None:
    subject = open_subjects(opened(review))["tiles"]
    assert isinstance(subject, TileSubject)
    found = measures_of(subject)
    held_out = set(subject.held_out_row) | set(range(len(subject.data.labelled), len(found.targets)))
    assert {int(row) for row in np.flatnonzero(np.isfinite(found.disagreement))} == held_out
    assert any("were not held out" in note for note in found.notes)


VALUES = st.one_of(st.just(float("nan")), st.integers(0, 3).map(float))


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12))
def test_what_exceeds_another_in_everything_comes_before_it(rows: list[tuple[float, float, float]]) -> None:
    order = [int(place.target.name) for place in rank(made(rows))]
    for one, row in enumerate(rows):
        for other, less in enumerate(rows):
            if all(high > low for high, low in zip(row, less, strict=True)):
                assert one in order
                assert other not in order or order.index(one) < order.index(other)


def test_the_queue_leaves_out_what_is_done_and_keeps_sections_apart() -> None:
    measures = made([(float(row), float(row), float(row)) for row in range(60)], kind="inline")
    lines = [place.target.line for place in rank(measures)]
    assert lines[0] == 159
    assert min(np.abs(np.diff(sorted(lines)))) == 3
    done = [Target("inline", "159")]
    lines = [place.target.line for place in rank(measures, done=done)]
    assert lines[0] == 156


def test_the_reasons_are_those_that_weigh() -> None:
    (first, *_) = rank(made([(0.9, 0.0, 1.0), (0.1, 5.0, 1.0), (0.2, 5.0, 1.0), (0.3, 2.0, 1.0)]))
    assert first.target.name == "0"
    assert first.reasons == ("models disagree, by 0.9 a pixel: more than 99 % of the tiles",)
