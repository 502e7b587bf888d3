"""Blends and edits: what other tiles decide for each, and has-salt probabilities on their way into the gate."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diapir.data.synthetic import make_synthetic
from diapir.data.tiles import DataSet, TileSet
from diapir.faults import InputError
from diapir.pipeline.blending import blend, post_process
from diapir.pipeline.plan import figures_of
from diapir.pipeline.predictions import HELD_OUT_HAS_SALT, HasSalt, Predictions, read_predictions, write_predictions
from diapir.pipeline.workplace import Workplace
from diapir.predict.build import OutOfFold, build_blend
from diapir.predict.crossfit import crossed_parts
from diapir.predict.ensemble import mean
from diapir.predict.selection import mean_score
from diapir.predict.threshold import best_threshold, candidate_scores, crossed_cuts
from diapir.recipe.mosaics import MosaicRule
from diapir.recipe.predicting import Ensemble, HasSaltGate, Threshold
from diapir.recipe.steps import BlendStep, PostProcessStep
from diapir.runs import write_json
from fake_surveys import survey_tiles
from fake_training import one_device, tiny_run_recipe

ROWS = {"one": np.arange(8), "two": np.arange(9)[::-1].copy()}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make_synthetic(labelled=10, unlabelled=4, seed=1)[0]


@pytest.fixture
def place(data: DataSet, tmp_path: Path) -> Workplace:
    """A run with two predictions, of other tiles in another order."""
    rng = np.random.default_rng(0)
    shape = data.unlabelled.images.shape
    for name, rows in ROWS.items():
        found = Predictions(
            rows=rows,
            held_out=rng.random((len(rows), *shape[1:])).astype(np.float16),
            unlabelled=rng.random(shape).astype(np.float16),
            has_salt=HasSalt(rng.random(len(rows), np.float32), rng.random(4, np.float32)),
        )
        write_predictions(tmp_path / name, found)
        write_json(tmp_path / name / "step.json", {"figures": {"seconds": 1.0}})
    numbers = np.arange(10) % 2
    return Workplace(recipe=tiny_run_recipe(), data=data, numbers=numbers, out=tmp_path, fabric=one_device())


def blended(place: Workplace, how: dict[str, Any]) -> HasSalt | None:
    section = Ensemble.model_validate({"blend": how})
    step = BlendStep(do="blend", name="both", of=("one", "two"), ensemble=section)
    write_json(place.out / "both" / "step.json", {"figures": blend(place, step, folds=())})
    return read_predictions(place.out / "both").has_salt


@pytest.mark.parametrize(
    ("how", "weights"),
    [({"name": "mean"}, (1, 1)), ({"name": "weighted", "weights": [1, 3]}, (1, 3)), ({"name": "aligned"}, (1, 1))],
)
def test_has_salt_probabilities_are_blended_by_the_members_weights(
    place: Workplace, how: dict[str, Any], weights: tuple[int, int]
) -> None:
    found = blended(place, how)
    one, two = (read_predictions(place.out / name).has_salt for name in ROWS)
    assert found is not None
    assert one is not None
    assert two is not None
    assert np.allclose(found.unlabelled, np.average([one.unlabelled, two.unlabelled], axis=0, weights=weights))
    # The tiles that both held out are the first eight; the second has them from its end on.
    assert read_predictions(place.out / "both").rows.tolist() == list(range(8))
    own = np.average([one.held_out, two.held_out[::-1][:8]], axis=0, weights=weights)
    assert np.allclose(found.held_out, own)


def test_what_one_member_lacks_the_blend_lacks_too(place: Workplace) -> None:
    (place.out / "two" / HELD_OUT_HAS_SALT).unlink()
    assert blended(place, {"name": "mean"}) is None


@pytest.mark.parametrize("how", [{"name": "stacked"}, {"name": "mean"}])
def test_held_out_tiles_are_blended_as_the_others_decide(place: Workplace, how: dict[str, Any]) -> None:
    blended(place, how)
    found = read_predictions(place.out / "both")
    gain = figures_of(place.out, "both")["gain_over_mean"]
    assert place.data.labelled.masks is not None
    truth, section = place.data.labelled.masks[:8], Ensemble.model_validate({"blend": how})
    one, two = (read_predictions(place.out / name).held_out for name in ROWS)
    members = [np.array(one), np.array(two[::-1][:8])]
    for own, others in crossed_parts(8):
        known = OutOfFold([member[others] for member in members], truth[others], seconds=[1.0, 1.0])
        expected = build_blend(section, known).blend([member[own] for member in members])
        assert np.array_equal(found.held_out[own], expected.astype(np.float16))
    scores = [mean_score(masks, truth) for masks in (mean(members), found.held_out)]
    assert [gain["before"], gain["after"]] == pytest.approx(scores)


def test_held_out_tiles_are_cut_where_the_others_say(place: Workplace) -> None:
    assert place.data.labelled.masks is not None
    truth = place.data.labelled.masks[:8]
    level = np.linspace(0.3, 0.7, 8)[:, None, None]  # above which each tile's salt begins
    source = read_predictions(place.out / "one")
    probability = np.where(truth > 0, level + 0.03, level - 0.03).astype(np.float16)
    write_predictions(place.out / "one", replace(source, held_out=probability))
    step = PostProcessStep(do="post-process", name="cut", of="one", edits=(Threshold(name="threshold", cut="tuned"),))
    figures = post_process(place, step)
    found = read_predictions(place.out / "cut")
    scores = candidate_scores(probability, truth)
    cuts = crossed_cuts(scores)
    assert len(set(cuts)) > 1
    assert np.array_equal(found.held_out, probability > cuts[:, None, None].astype(np.float16))
    assert figures["tuned_cut"] == best_threshold(scores)
    assert np.array_equal(found.unlabelled, source.unlabelled > np.float16(figures["tuned_cut"]))


def test_the_gate_empties_the_tiles_that_are_said_to_hold_nothing_and_its_gain_is_counted(place: Workplace) -> None:
    source = read_predictions(place.out / "one")
    assert source.has_salt is not None
    cut = float(np.median(source.has_salt.held_out))
    step = PostProcessStep(
        do="post-process", name="gated", of="one", edits=(HasSaltGate(name="has_salt_gate", cut=cut),)
    )
    figures = post_process(place, step)
    found = read_predictions(place.out / "gated")
    for masks, said in ((found.held_out, source.has_salt.held_out), (found.unlabelled, source.has_salt.unlabelled)):
        assert np.array_equal(masks.any((1, 2)), said >= cut)
    [edit] = figures["held_out"]
    assert (edit["name"], edit["num_tiles"]) == ("has_salt_gate", 4)
    assert place.data.labelled.masks is not None
    empty = ~place.data.labelled.masks[:8].any((1, 2))
    # Noise scores 0 on every tile, and an empty mask 1 on those without salt.
    right = (empty & (source.has_salt.held_out < cut)).mean()
    assert edit["gain"]["difference"] == pytest.approx(right)


def test_a_gate_over_old_predictions_without_is_refused(place: Workplace) -> None:
    (place.out / "one" / HELD_OUT_HAS_SALT).unlink()
    step = PostProcessStep(do="post-process", name="gated", of="one", edits=(HasSaltGate(name="has_salt_gate"),))
    with pytest.raises(InputError, match="these predictions were made without: remove this folder"):
        post_process(place, step)
    switched_off = step.model_copy(update={"off": ("has_salt_gate",)})
    assert post_process(place, switched_off)["held_out"][0]["left_out"] == "switched off"


@pytest.fixture
def survey_place(tmp_path: Path) -> Workplace:
    """Two rows of labelled neighbours in walls of salt, a row a fold, and a row without labels; salt called nowhere."""
    images = survey_tiles(3, 5, seed=0)
    ids = tuple(f"tile{number:02}" for number in range(len(images)))
    walls = (np.arange(101) < 40 + 5 * np.arange(10)[:, None] % 25).astype(np.uint8)
    masks = np.repeat(walls[:, None], 101, axis=1)
    masks[5:] = masks[:5]
    depths_m = np.linspace(100, 900, len(images), dtype=np.float32)
    labelled = TileSet(ids[:10], images[:10], masks, depths_m[:10])
    data = DataSet(labelled, TileSet(ids[10:], images[10:], None, depths_m[10:]), {"source": "survey"})
    nowhere = np.zeros((10, 101, 101), np.float16)
    write_predictions(tmp_path / "one", Predictions(np.arange(10), nowhere, nowhere[:5]))
    write_json(tmp_path / "one" / "step.json", {"figures": {"seconds": 1.0}})
    return Workplace(tiny_run_recipe(), data, np.arange(10) // 5, tmp_path, one_device())


def rules_of(place: Workplace, *off: str) -> dict[str, Any]:
    rules: tuple[MosaicRule, ...] = ("extrude_vertical", "empty_below_caps")
    return post_process(place, PostProcessStep(do="post-process", name="by", of="one", mosaic_rules=rules, off=off))


def test_each_rule_of_mosaics_is_counted_and_worth_what_it_says(survey_place: Workplace) -> None:
    found = rules_of(survey_place)
    walls, caps = found["mosaic_rules"]
    assert (walls["rule"], caps["rule"]) == ("extrude_vertical", "empty_below_caps")
    assert walls["held_out_changed"] == 5, "those below the other fold's walls"
    assert walls["gain"]["difference"] == pytest.approx(0.5)
    assert caps["gain"]["difference"] == caps["held_out_changed"] == 0
    assert found["mosaic_gain"] == walls["gain"]


def test_a_rule_of_mosaics_can_be_switched_off_by_name(survey_place: Workplace) -> None:
    found = rules_of(survey_place, "extrude_vertical")
    assert [rule["rule"] for rule in found["mosaic_rules"]] == ["empty_below_caps"]
    assert found["mosaic_gain"]["difference"] == 0
    assert "mosaic_rules" not in rules_of(survey_place, "extrude_vertical", "empty_below_caps")
    with pytest.raises(ValueError, match="there is no edit 'walls' among extrude_vertical, empty_below_caps"):
        rules_of(survey_place, "walls")
