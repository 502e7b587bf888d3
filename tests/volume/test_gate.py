"""What the gate says of surveys that are alike, and of ones that were changed in a known way."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import zoom

from diapir.data.statistics import tile_statistics
from diapir.volume.gate import Finding, Limits, Scale, Verdict, judge
from diapir.volume.gate_sampling import SurveyStatistics
from fake_gate_stores import smooth_tiles, survey_of

Tiles = NDArray[np.uint8]

TRAINING = tile_statistics(smooth_tiles(40, seed=0))
TILES = smooth_tiles(40, seed=1)


def about(verdict: Verdict, name: str) -> Finding:
    (found,) = (finding for finding in verdict.findings if finding.about == name)
    return found


def greys(values: NDArray[np.floating]) -> Tiles:
    tiles: Tiles = np.clip(values, 0, 255).astype(np.uint8)
    return tiles


def scaled(down: float, across: float) -> Tiles:
    return greys(np.stack([zoom(tile.astype(float), (down, across), order=1)[:101, :101] for tile in TILES]))


def test_tiles_of_the_same_kind_fit_and_nothing_is_to_be_done() -> None:
    verdict = judge(survey_of(TILES), TRAINING, scale=Scale(4.0, "ms"))
    assert verdict.level == "fit"
    assert {finding.level for finding in verdict.findings} <= {"fit", "cannot tell"}
    assert verdict.title.startswith("fit")


@pytest.mark.parametrize(
    ("name", "tiles", "advice"),
    [
        ("vertical scale", scaled(2, 1), "give --resample 8"),
        ("horizontal scale along inlines", scaled(1, 2), "resample traces along inlines (every"),
        ("contrast", greys(128 + 0.3 * (TILES - 128.0)), "give --limit 3"),
        ("contrast", greys(128 + 3.0 * (TILES - 128.0)), "give --limit 2"),
        ("mean grey", greys(TILES + 60.0), "take the mean out"),
        ("distribution of greys", greys(np.where(TILES > 128, 170, 90)), "gain control"),
        ("vertical spectrum", greys(TILES + np.random.default_rng(2).normal(0, 15, TILES.shape)), "filter the noise"),
    ],
)
def test_a_known_change_is_found_with_what_to_do_about_it(name: str, tiles: Tiles, advice: str) -> None:
    verdict = judge(survey_of(tiles), TRAINING)
    finding = about(verdict, name)
    assert finding.level in ("doubtful", "unfit")
    assert verdict.level != "fit"
    assert advice in finding.advice
    assert f"to do: {finding.advice}" in str(finding)


def test_a_spacing_that_is_known_is_named_where_the_horizontal_scale_is_off() -> None:
    survey = survey_of(scaled(1, 2))
    advice = about(judge(survey, TRAINING), "horizontal scale along inlines").advice
    every, spacing, wanted = map(float, re.findall(r"\d+\.?\d*", advice))
    assert every == pytest.approx(2, rel=0.07)
    assert spacing == 12.5
    assert wanted == pytest.approx(25, rel=0.07)
    fine = survey_of(smooth_tiles(20, seed=1, waves=(2.0, 1.2)))
    assert "interpolate to 2." in about(judge(fine, TRAINING), "horizontal scale along inlines").advice
    silent = replace(survey, spacing={"inline": None, "crossline": None})
    assert "spacing" not in about(judge(silent, TRAINING), "horizontal scale along inlines").advice


def test_noise_alone_is_unfit_and_no_resampling_is_its_cure() -> None:
    noise = np.random.default_rng(3).normal(128, 38, TILES.shape)
    verdict = judge(survey_of(greys(noise)), TRAINING)
    assert verdict.level == "unfit"
    assert about(verdict, "vertical scale").level == "unfit"
    assert not any("resample" in finding.advice for finding in verdict.findings if "scale" in finding.about)


def one_sided(sign: int) -> SurveyStatistics:
    survey = survey_of(TILES)
    return replace(survey, every=replace(survey.every, asymmetry=(sign * 0.05, 0.1), skewness=sign * 0.3))


def test_turned_polarity_is_doubtful_where_the_data_tell() -> None:
    training = replace(TRAINING, asymmetry=(0.05, 0.1), skewness=0.3, num_tiles=3000)
    same, turned = (judge(one_sided(sign), training) for sign in (1, -1))
    assert (same.level, about(same, "polarity").level) == ("fit", "fit")
    assert (turned.level, about(turned, "polarity").level) == ("doubtful", "doubtful")
    assert "give --flip-polarity" in about(turned, "polarity").advice


@pytest.mark.parametrize("change", [lambda survey: replace(survey, asymmetry_error=1.0, skewness_error=9.0), None])
def test_where_nobody_can_tell_the_polarity_the_verdict_does_not_rest_on_it(
    change: Callable[[SurveyStatistics], SurveyStatistics] | None,
) -> None:
    training = replace(TRAINING, asymmetry=(0.05, 0.1), skewness=0.3, num_tiles=3000)
    survey = one_sided(-1)
    # Without a change, it is the training tiles that do not say.
    verdict = (
        judge(change(survey), training) if change else judge(survey, replace(TRAINING, asymmetry=None, skewness=0))
    )
    assert about(verdict, "polarity").level == "cannot tell"
    assert verdict.level == "fit"
    assert "cannot tell: polarity" in verdict.title


def test_polarity_is_not_told_before_the_scale_fits() -> None:
    training = replace(TRAINING, asymmetry=(0.05, 0.1), skewness=0.3, num_tiles=3000)
    survey = survey_of(scaled(2, 1))
    survey = replace(survey, every=replace(survey.every, asymmetry=(-0.05, 0.1), skewness=-0.3))
    assert about(judge(survey, training), "polarity").level == "cannot tell"


@pytest.mark.parametrize(
    ("scale", "level"),
    [
        (None, "cannot tell"), (Scale(4.0, "ms"), "fit"), (Scale(5.0, "ms"), "fit"), (Scale(2.0, "ms"), "doubtful"),
        (Scale(8.0, "ms"), "doubtful"), (Scale(4.0, "m"), "doubtful"),
    ],
)  # fmt: skip
def test_intervals_are_compared_where_both_are_known(scale: Scale | None, level: str) -> None:
    finding = about(judge(survey_of(TILES), TRAINING, scale=scale), "sample interval")
    assert finding.level == level
    assert "4 ms" in finding.found


def test_each_direction_is_judged_by_itself() -> None:
    survey = survey_of(TILES, by_direction={"inline": TRAINING, "crossline": tile_statistics(scaled(1, 2.5))})
    verdict = judge(survey, TRAINING)
    assert about(verdict, "horizontal scale along inlines").level == "fit"
    assert about(verdict, "horizontal scale along crosslines").level != "fit"


def test_empty_and_small_surveys_are_told() -> None:
    empty = np.concatenate([TILES[:10], np.full((20, 101, 101), 128, np.uint8)])
    assert about(judge(survey_of(empty), TRAINING), "empty tiles").level == "doubtful"
    assert about(judge(survey_of(TILES, is_mirrored=True), TRAINING), "size").level == "cannot tell"


def test_the_verdict_is_the_worst_finding() -> None:
    findings = [
        Finding(name, level, "", None, "", "")  # type: ignore[arg-type]
        for name, level in (("a", "fit"), ("b", "doubtful"), ("c", "unfit"), ("d", "cannot tell"))
    ]
    assert Verdict("unfit", tuple(findings)).title == "unfit (c); cannot tell: d"
    verdict = judge(survey_of(greys(np.random.default_rng(3).normal(180, 9, TILES.shape))), TRAINING)
    levels = {finding.level for finding in verdict.findings}
    assert {"unfit", "fit"} <= levels
    assert verdict.level == "unfit"
    assert json.loads(json.dumps(verdict.to_json()))["level"] == "unfit"


def test_limits_begin_where_they_say() -> None:
    limits = Limits(1.5, 2.0)
    assert [limits.level(distance) for distance in (1.49, 1.5, 1.99, 2.0)] == ["fit", "doubtful", "doubtful", "unfit"]
