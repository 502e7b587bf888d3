"""The gate as a step: from a store and a bundle to a verdict, its text, its JSON and its picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diapir.data.statistics import BINS, TileStatistics, tile_statistics
from diapir.faults import InputError
from diapir.pipeline.bundle import Model
from diapir.runs import read_json
from diapir.volume import check_fit as step
from diapir.volume.check_fit import JSON, PICTURE, TEXT, check_fit, fit_of, require_fit
from diapir.volume.gate_sampling import sample_tiles
from diapir.volume.resampling import plan_resampling
from diapir.volume.store import open_store
from diapir.volume.synthetic_survey import make_survey
from fake_gate_stores import amplitude_store, salt_store
from fake_training import tiny_run_recipe

SHAPE = (40, 32, 120)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    amplitude = make_survey(inlines=SHAPE[0], crosslines=SHAPE[1], samples=SHAPE[2], seed=2).amplitude
    return amplitude_store(tmp_path_factory.mktemp("stores") / "survey", amplitude).path


def model_of(statistics: TileStatistics | None, data: dict[str, Any] | None = None) -> Model:
    manifest = None if statistics is None else {"training_data": statistics.to_json()}
    return Model(Path("model"), tiny_run_recipe({}), {"data": data or {}}, (), manifest)


@pytest.fixture(scope="module")
def training(store: Path) -> TileStatistics:
    """Of tiles of the survey itself."""
    return tile_statistics(sample_tiles(open_store(store), count=40).images)


@pytest.fixture
def own_model(training: TileStatistics, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was trained on them."""
    data = {"survey": {"interval": 4.0, "unit": "ms"}}
    monkeypatch.setattr(step, "open_model", lambda path: model_of(training, data))


@pytest.mark.usefixtures("own_model")
def test_a_model_fits_what_it_was_trained_on_and_that_is_written(store: Path, tmp_path: Path) -> None:
    fit = check_fit(store, Path("model"), tmp_path / "out")
    assert fit.verdict.level == "fit"
    lines = (tmp_path / "out" / TEXT).read_text(encoding="utf-8").splitlines()
    assert lines == fit.text.splitlines()
    assert lines[0].startswith("fit")
    assert len(lines) == 2 + len(fit.verdict.findings)
    assert lines[-1].startswith("label next: ")
    assert len(fit.lines) == 3
    raw = read_json(tmp_path / "out" / JSON)
    assert raw["level"] == "fit"
    assert [line["number"] for line in raw["label_next"]] == [line.number for line in fit.lines]
    assert TileStatistics.stored(raw["survey"]["tiles"]) is not None
    assert (tmp_path / "out" / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert "4 ms, in training 4 ms" in fit.text


@pytest.mark.usefixtures("own_model")
def test_without_a_place_nothing_is_written(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_fit(store, Path("model"), count=20).verdict.level == "fit"
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("own_model")
def test_lines_are_those_of_the_salt_where_there_is_one(store: Path, tmp_path: Path) -> None:
    disagreement = np.zeros(SHAPE, np.float32)
    disagreement[:, 7] = 0.3
    salt = salt_store(tmp_path / "salt", disagreement).path
    assert str(check_fit(store, Path("model"), salt_path=salt, count=4).lines[0]).startswith("crossline 307")


@pytest.mark.usefixtures("own_model")
def test_salt_of_another_survey_is_refused(store: Path, tmp_path: Path) -> None:
    salt = salt_store(tmp_path / "salt", np.zeros((40, 32, 60), np.float32)).path
    with pytest.raises(InputError, match="give what was found in that survey"):
        check_fit(store, Path("model"), tmp_path / "out", salt_path=salt)
    assert not (tmp_path / "out").exists()


def test_a_model_that_fits_is_put_to_work_without_a_word(store: Path, training: TileStatistics) -> None:
    assert require_fit(open_store(store), model_of(training), count=20) == ()


def test_doubts_are_warnings_and_an_unfit_model_is_refused_unless_it_is_wanted(
    store: Path, training: TileStatistics
) -> None:
    opened = open_store(store)
    doubtful = model_of(replace(training, mean=training.mean + 0.7 * training.deviation))
    (warning,) = require_fit(opened, doubtful, count=20)
    assert warning.startswith(f"{store}: doubtful: mean grey")
    unfit = model_of(replace(training, mean=training.mean + 0.7 * training.deviation, deviation=training.deviation / 3))
    with pytest.raises(InputError, match="--anyway") as caught:
        require_fit(opened, unfit, count=20)
    assert any("unfit: contrast" in str(fault) for fault in caught.value.faults)
    assert any("unfit: contrast" in line for line in require_fit(opened, unfit, anyway=True, count=20))


@pytest.mark.parametrize("case", ["hardly a live trace", "one amplitude"])
def test_a_survey_with_nothing_to_judge_by_is_segmented_where_that_is_wanted(
    tmp_path: Path, training: TileStatistics, case: str
) -> None:
    live = np.ones(SHAPE[:2], np.bool_)
    if case == "hardly a live trace":
        live[:] = np.arange(SHAPE[1]) % 5 == 0
        live[np.arange(SHAPE[0]) % 5 != 0] = False
    survey = amplitude_store(tmp_path / "survey", np.ones(SHAPE, np.float32), live=live)
    with pytest.raises(InputError, match="add --anyway to segment all the same"):
        require_fit(survey, model_of(training), count=20)
    (told,) = require_fit(survey, model_of(training), anyway=True, count=20)
    assert told.startswith(f"nobody knows whether the model fits: {survey.path}: expected")


def test_of_a_run_nobody_knows_whether_it_fits(store: Path) -> None:
    (warning,) = require_fit(open_store(store), model_of(None))
    assert "nobody knows" in warning


def test_a_bundle_whose_figures_lie_gives_no_traceback(store: Path, training: TileStatistics) -> None:
    lies: dict[str, Any] = {"deviation": 0.0, "skewness": 1e300, "num_tiles": 10**12, "constant_share": 7.0}
    zeros: dict[str, Any] = {
        "vertical_spectrum": (0.0,) * BINS,
        "histogram": (0.0,) * BINS,
        "asymmetry": (1e300, 1e300),
    }
    fit, _, _ = fit_of(open_store(store), model_of(replace(training, **lies, **zeros)), count=4)
    assert fit.verdict.level == "unfit"


def test_a_run_is_told_to_become_a_bundle(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "open_model", lambda path: model_of(None))
    with pytest.raises(InputError, match="diapir bundle model OUT"):
        check_fit(store, Path("model"))


@pytest.mark.parametrize(
    "survey",
    [None, 3, {}, {"interval": 4.0}, {"interval": "4", "unit": "ms"}, {"interval": -4.0, "unit": "ms"},
     {"interval": 4.0, "unit": "px"}, {"interval": 4.0, "unit": []}],
)  # fmt: skip
def test_an_interval_that_no_record_tells_is_not_known(
    store: Path, training: TileStatistics, survey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "open_model", lambda path: model_of(training, {"survey": survey}))
    assert "4 ms; training's is not known" in check_fit(store, Path("model"), count=4).text


def test_what_the_gate_says_of_an_interval_mends_it(tmp_path: Path) -> None:
    amplitude = make_survey(inlines=SHAPE[0], crosslines=SHAPE[1], samples=240, seed=2).amplitude
    coarse = amplitude_store(tmp_path / "coarse", amplitude)
    learned = model_of(tile_statistics(sample_tiles(coarse, count=160).images))
    finer = plan_resampling(coarse.grid, wanted=1.6).resampled(amplitude)
    store = amplitude_store(tmp_path / "fine", finer, interval=1.6)
    (told,) = [one for one in fit_of(store, learned)[0].verdict.findings if one.about == "vertical scale"]
    assert told.level == "unfit"
    wanted = float(told.advice.split("--resample ")[1].split(",")[0])
    assert wanted == pytest.approx(4, rel=0.1)
    fit, survey, _ = fit_of(store, learned, resample=wanted)
    assert fit.verdict.level == "fit"
    assert survey.interval == wanted


@pytest.mark.usefixtures("own_model")
def test_faults_of_options_are_told_together(store: Path) -> None:
    with pytest.raises(InputError) as told:
        check_fit(store, Path("model"), limit=-1, resample=0)
    assert [fault.where for fault in told.value.faults] == ["--limit", "--resample"]
