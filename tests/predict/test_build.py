import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.faults import InputError
from diapir.predict.build import OutOfFold, build_blend, build_edits, crossed_blends, stored_blend
from diapir.predict.ensemble import aligned_mean, mean, rescaled, value_range, vote_share, weighted_mean
from diapir.predict.postprocess import Masks, Prediction, apply_edits, fill_small_holes, remove_small_salt
from diapir.predict.selection import mean_score
from diapir.recipe.predicting import Ensemble, PostProcess
from fake_masks import blob_masks

TRUTH = blob_masks(24, side=16)


def members(*levels: float) -> list[NDArray[np.float16]]:
    rng = np.random.default_rng(0)
    return [np.clip(TRUTH * 0.6 + 0.2 + rng.normal(0, level, TRUTH.shape), 0, 1).astype(np.float16) for level in levels]


def built(blend: dict[str, Any], given: list[NDArray[np.float16]], *, rescale: tuple[int, ...] = ()) -> Any:
    section = Ensemble.model_validate({"blend": blend, "rescale": rescale})
    return build_blend(section, OutOfFold(given, TRUTH, seconds=[2.0**place for place in range(len(given))]))


def edited(masks: Masks, *edits: dict[str, Any], images: NDArray[np.uint8] | None = None) -> Masks:
    tiles = Prediction(
        images=np.random.default_rng(0).integers(0, 255, masks.shape, np.uint8) if images is None else images,
        probability=np.where(masks > 0, 0.6, 0.4).astype(np.float32),
        has_salt=np.linspace(0, 1, len(masks)),
    )
    found, records = apply_edits(build_edits(PostProcess.model_validate({"edits": edits})), tiles, score=0.5)
    assert [record.name for record in records] == [edit["name"] for edit in edits]
    return found


def test_each_name_builds_its_edit() -> None:
    masks = TRUTH
    images = np.random.default_rng(0).integers(0, 255, masks.shape, np.uint8)
    images[10:12] = 9
    empty_rows = (masks[:, None] * 0)[:, 0]
    assert np.array_equal(edited(masks, {"name": "threshold", "cut": 0.8}), empty_rows)
    assert edited(masks, {"name": "threshold", "cut": 0.2}).all()
    small = edited(masks, {"name": "small_salt", "smaller_than": 30})
    assert np.array_equal(small, remove_small_salt(masks, smaller_than=30))
    choices: list[dict[str, Any]] = [{}, {"connectivity": 8}, {"at_border": False}]
    for options in choices:
        holes = edited(masks, {"name": "small_holes", "smaller_than": 30, **options})
        assert np.array_equal(holes, fill_small_holes(masks, smaller_than=30, **options))
    gated = edited(masks, {"name": "has_salt_gate", "cut": 0.5})
    assert not gated[:12].any()
    assert np.array_equal(gated[12:], masks[12:])
    constant = edited(masks, {"name": "constant_to_empty"}, images=images)
    assert not constant[10:12].any()
    assert np.array_equal(constant[12:], masks[12:])
    assert not edited(masks, {"name": "full_to_empty"})[-1].any()


def test_a_tuned_threshold_is_the_one_that_was_found() -> None:
    section = PostProcess.model_validate({"edits": [{"name": "threshold", "cut": "tuned"}]})
    probability = np.where(TRUTH > 0, 0.3, 0.1).astype(np.float16)
    cuts = np.where(np.arange(len(TRUTH)) % 2, 0.2, 0.4)
    masks, _ = apply_edits(build_edits(section), Prediction(images=TRUTH, probability=probability, cut=cuts))
    assert np.array_equal(masks, TRUTH * (cuts < 0.3).astype(np.uint8)[:, None, None])
    with pytest.raises(AssertionError, match="tuned threshold"):
        apply_edits(build_edits(section), Prediction(images=TRUTH, probability=probability))


@pytest.mark.parametrize("name", ["location_crf", "bilateral_crf"])
def test_a_random_field_is_built_with_its_numbers_and_its_guard(name: str) -> None:
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[:, 8:] = 1
    masks[1, 3, 3] = 1
    images = np.where(masks > 0, 200, 50).astype(np.uint8)
    images[1, 3, 3] = 50
    edit = {"name": name, "compat": 3.0}
    smoothed = edited(masks, edit, images=images)
    assert np.array_equal(smoothed[1], masks[0])
    assert np.array_equal(edited(masks, edit | {"compat": 1e-6}, images=images), masks)
    assert np.array_equal(edited(masks, edit | {"only_if_score_below": 0.4}, images=images), masks)
    assert np.array_equal(edited(masks, edit | {"only_if_score_below": 0.6}, images=images), smoothed)


def test_each_name_builds_its_blend() -> None:
    given = members(0.3, 0.5, 0.4)
    scores = [mean_score(member, TRUTH) for member in given]
    ranks = np.argsort(np.argsort([-score for score in scores]))
    expected: dict[str, tuple[dict[str, Any], NDArray[np.floating]]] = {
        "mean": ({}, mean(given)),
        "weighted": ({"weights": [1, 1, 3]}, weighted_mean(given, [1, 1, 3])),
        "ranked": ({"decay": 0.5}, weighted_mean(given, [0.5**rank for rank in ranks])),
        "vote": ({"weights": [1, 1, 3]}, vote_share(given, above=0.5, weights=[1, 1, 3])),
        "aligned": ({"thresholds": [0.4, 0.5, 0.6]}, aligned_mean(given, [0.4, 0.5, 0.6])),
    }
    for name, (options, value) in expected.items():
        blend = built({"name": name, **options}, given)
        assert blend.needed == (0, 1, 2)
        assert np.allclose(blend.blend(given), value, atol=1e-3), name
    by_score = built({"name": "weighted", "weights": "score"}, given)
    assert by_score.record["scores"] == scores
    assert np.allclose(by_score.blend(given), weighted_mean(given, scores), atol=1e-3)


def test_every_record_is_plain_json() -> None:
    given = members(0.3, 0.5)
    for name in ("mean", "ranked", "vote", "aligned", "stacked", "greedy"):
        record = built({"name": name}, given, rescale=(1,)).record
        assert json.loads(json.dumps(record))["rule"] == name
        assert record["rescaled"] == [1]


def test_a_tuned_threshold_undoes_a_shift() -> None:
    [member] = members(0.15)
    shifted = (member * 0.5).astype(np.float16)
    blend = built({"name": "aligned"}, [shifted])
    assert blend.record["thresholds"][0] < 0.4
    assert mean_score(blend.blend([shifted]), TRUTH) > mean_score(shifted, TRUTH)


def test_only_the_members_that_greedy_selection_took_are_needed() -> None:
    useless = np.full(TRUTH.shape, 0.5, np.float16)
    useless[:, 0] = 1
    given = [useless, *members(0.25, 0.4)]
    blend = built({"name": "greedy"}, given)
    assert 0 not in blend.needed
    chosen = [given[member] for member in blend.needed]
    assert np.allclose(blend.blend(chosen), weighted_mean(chosen, blend.record["weights"]))
    assert mean_score(blend.blend(chosen), TRUTH) == pytest.approx(blend.record["selection"]["scores"][-1], abs=0.02)


def test_members_are_rescaled_before_they_are_blended_and_before_anything_is_fitted() -> None:
    given = members(0.2, 0.2)
    low = [given[0], (given[1] * 0.3).astype(np.float16)]
    blend = built({"name": "weighted", "weights": "score"}, low, rescale=(1,))
    stretched = rescaled(low[1])
    assert blend.record["scores"] == [mean_score(low[0], TRUTH), mean_score(stretched, TRUTH)]
    assert np.allclose(blend.blend(low), weighted_mean([low[0], stretched], blend.record["weights"]), atol=1e-3)


def test_a_recipe_of_other_members_is_refused_with_every_fault() -> None:
    with pytest.raises(InputError) as caught:
        built({"name": "weighted", "weights": [1, 1, 1]}, members(0.3, 0.4), rescale=(0, 2))
    assert [fault.where for fault in caught.value.faults] == ["ensemble.rescale.1", "ensemble.blend.weights"]
    with pytest.raises(InputError, match="one a member, 2, found 3"):
        built({"name": "aligned", "thresholds": [0.4] * 3}, members(0.3, 0.4))


def test_seconds_that_no_member_keeps_to_are_told() -> None:
    with pytest.raises(InputError, match="expected the seconds of at least one member"):
        built({"name": "greedy", "most_s": 1e-6}, members(0.3, 0.4))


def test_members_that_all_score_nothing_weigh_alike() -> None:
    useless = np.zeros(TRUTH.shape, np.float16)
    useless[:, 0] = 1
    blend = built({"name": "weighted", "weights": "score"}, [useless, useless])
    assert blend.record == blend.record | {"weights": [0.5, 0.5], "scores": [0.0, 0.0]}


@pytest.mark.parametrize("name", ["ranked", "aligned", "stacked", "greedy"])
def test_no_tile_has_a_say_in_its_own_blend(name: str) -> None:
    section = Ensemble.model_validate({"blend": {"name": name}})
    known = OutOfFold(members(0.3, 0.5, 0.4), TRUTH, seconds=[1.0, 1.0, 1.0])
    own_of, blends = zip(*crossed_blends(section, known), strict=True)
    assert sorted(np.concatenate(own_of).tolist()) == list(range(len(TRUTH)))
    others_differ = False
    for own, blend in zip(own_of, blends, strict=True):
        turned = TRUTH.copy()
        turned[own] = 1 - turned[own]
        again = list(crossed_blends(section, OutOfFold(known.members, turned, seconds=known.seconds)))
        [same] = [each for rows, each in again if np.array_equal(rows, own)]
        assert same.record == blend.record
        others_differ |= any(each.record != before.record for (_, each), before in zip(again, blends, strict=True))
    assert others_differ


@pytest.mark.parametrize("name", ["mean", "weighted", "ranked", "vote", "aligned", "stacked", "greedy"])
def test_a_stored_blend_does_what_was_decided_once_to_the_bit(name: str) -> None:
    options = {"weighted": {"weights": "score"}, "vote": {"weights": "score"}}.get(name, {})
    section = Ensemble.model_validate({"blend": {"name": name, **options}, "rescale": [1]})
    given = members(0.3, 0.5, 0.4)
    fresh = build_blend(section, OutOfFold(given, TRUTH, seconds=[1.0, 2.0, 3.0]))
    stored = stored_blend(section, json.loads(json.dumps(fresh.record)))
    assert stored.needed == fresh.needed
    assert stored.weights == fresh.weights
    others = [given[member][:5] for member in fresh.needed]
    ranges = [value_range(given[fresh.needed[place]]) for place in fresh.rescaled]
    assert np.array_equal(stored.blend(others, ranges=ranges), fresh.blend(others, ranges=ranges))


def test_a_range_that_another_set_decided_holds_for_a_tile_alone() -> None:
    low, high = members(0.2, 0.3)
    blend = built({"name": "mean"}, [low, high], rescale=(1,))
    ranges = [value_range(high)]
    every = blend.blend([low, high])
    assert np.array_equal(blend.blend([low[:1], high[:1]], ranges=ranges), every[:1])
    assert np.array_equal(
        rescaled(high, (0.4, 0.6)), ((high.astype(np.float64) - 0.4) / 0.2).clip(0, 1).astype(np.float16)
    )
