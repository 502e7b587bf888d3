"""What a report shows of a survey is what its stores hold."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from diapir.faults import InputError
from diapir.review.report import sections as report_sections
from diapir.review.report.page import write_report
from diapir.review.report.sections import look_at_salt, surface_curves, telling_lines
from diapir.review.report.survey import open_surveys, survey_verdict
from diapir.volume.store import STRIP, Store
from diapir.volume.surfaces import extract_surfaces
from fake_salt import write_salt
from fake_stores import fake_store
from page_checks import Page

SHAPE = (36, 20, 48)
DIGEST = "a" * 64


@pytest.fixture(scope="module")
def salt(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A block of salt, thickest on inline 108 and crossline 305; disputed on crossline 310; one dead trace."""
    probability = np.zeros(SHAPE, np.float32)
    probability[2:30, 3:15, 10:20] = 0.9
    probability[4, 3:15, 10:40] = 0.9
    probability[2:30, 5, 10:44] = 0.9
    disagreement = np.zeros(SHAPE, np.float32)
    disagreement[:, 10] = 0.3
    live = np.ones(SHAPE[:2], np.bool_)
    live[0, 0] = False
    folder = tmp_path_factory.mktemp("stores")
    return write_salt(
        folder / "salt.zarr", probability, disagreement=disagreement, live=live, facts={"digest": DIGEST, "model": {}}
    )


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Amplitudes of the same survey."""
    amplitude = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    return fake_store(tmp_path_factory.mktemp("stores") / "survey.zarr", {"amplitude": amplitude}, digest=DIGEST)


@pytest.fixture(scope="module")
def surfaces(salt: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "surfaces"
    extract_surfaces(salt.path, out, smallest_body=1, smallest_hole=1)
    return out


def page_of(folder: Path, *paths: Path) -> Page:
    write_report(paths, folder / "report.html")
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_survey_has_map_sections_and_surfaces(salt: Store, survey: Store, surfaces: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, salt.path, surfaces, survey.path)
    assert page.faults == []
    assert "missing" not in page.text
    for told in (
        "Inline 108, the one with the most salt", "Crossline 305, the one with the most salt",
        "Crossline 310, where models and directions disagree most", "amplitude, salt by the mask",
        "top of salt, P50, with P10 to P90", "base of salt, P50", "Mean disagreement", "median P90 - P10, ms",
    ):  # fmt: skip
        assert told in page.text, told
    assert page.counts["image"] == 2 + 3 * 3, "two maps, and three pictures of three sections"


@pytest.mark.parametrize("which", range(3))
def test_each_of_them_alone_says_what_is_missing(
    which: int, salt: Store, survey: Store, surfaces: Path, tmp_path: Path
) -> None:
    page = page_of(tmp_path, (salt.path, survey.path, surfaces)[which])
    assert page.faults == []
    assert "missing" in page.text or "give the salt store" in page.text


def test_the_look_from_above_is_that_of_the_whole_volume(salt: Store) -> None:
    look = look_at_salt(salt)
    assert np.isnan(look.salt[0, 0]), "not live"
    assert look.salt[4, 5] == pytest.approx(0.9, abs=1e-3)
    assert look.salt_samples[4, 5] == 34
    assert look.disagreement[7, 10] == pytest.approx(0.3, abs=1e-3)
    assert np.nansum(look.salt_samples) == 28 * 12 * 10 + 11 * 20 + 27 * 24 + 24
    assert look.share_text == ""


def test_of_a_large_survey_some_strips_are_looked_at_and_that_is_told(
    salt: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = look_at_salt(salt)
    monkeypatch.setattr(report_sections, "_MOST_SAMPLES", 3 * np.prod(SHAPE) // 2)
    part = look_at_salt(salt)
    assert part.num_strips == (2, 3)
    assert np.isnan(part.salt[STRIP : 2 * STRIP]).all()
    np.testing.assert_array_equal(part.salt[:STRIP], whole.salt[:STRIP])
    assert "2 evenly spread" in part.share_text


def test_lines_are_chosen_by_salt_and_by_disagreement(salt: Store) -> None:
    places = list(telling_lines(look_at_salt(salt), salt.grid).values())
    assert places == [("inline", 4), ("crossline", 5), ("crossline", 10)]


def test_a_surface_along_a_section_stands_where_its_table_says(salt: Store) -> None:
    table = np.array([[108.0, 303, 1, 2, 3], [108, 305, 4, 5, 6], [110, 304, 7, 8, 9], [108, 999, 1, 1, 1]])
    (curve,) = surface_curves({"top": table}, salt.grid, "inline", 4)
    assert curve.y[3] == 2
    assert (curve.low[5], curve.y[5], curve.high[5]) == (4, 5, 6)
    assert np.isfinite(curve.y).sum() == 2
    (across,) = surface_curves({"top": table}, salt.grid, "crossline", 4)
    assert across.y[5] == 8


def test_stores_and_surfaces_of_one_survey_stand_together(salt: Store, survey: Store, surfaces: Path) -> None:
    (view,) = open_surveys([surfaces, survey.path, salt.path])
    assert view.survey is not None
    assert view.surfaces == surfaces
    assert "salt in 336 of 719 live traces" in survey_verdict(view)


def test_those_of_others_stand_apart(salt: Store, surfaces: Path, tmp_path: Path) -> None:
    amplitude = np.zeros(SHAPE, np.float32)
    other = fake_store(tmp_path / "other.zarr", {"amplitude": amplitude}, digest="b" * 64)
    views = open_surveys([salt.path, other.path])
    assert [view.survey is None for view in views] == [True, False]


def test_damaged_surfaces_are_told_in_words(salt: Store, surfaces: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(surfaces, tmp_path / "surfaces")
    for content in ("", "inline,crossline\n", "inline,crossline,x,y,p10_ms,p50_ms,p90_ms\n1,2\n"):
        (damaged / "top.csv").write_text(content)
        with pytest.raises(InputError, match=r"top\.csv"):
            write_report([damaged], tmp_path / "out.html")
    (damaged / "top.csv").unlink()
    with pytest.raises(InputError, match=r"top\.csv"):
        write_report([damaged], tmp_path / "out.html")


def test_nothing_is_written_into_a_store(salt: Store) -> None:
    with pytest.raises(InputError, match="outside"):
        write_report([salt.path], salt.path / "report.html")
