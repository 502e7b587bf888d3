"""The blend and post-process steps: predictions of several steps made one, and masks edited."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diapir.data.mosaic import NONE
from diapir.faults import InputError
from diapir.metrics import mask_scores
from diapir.pipeline.mosaics import mosaics_of
from diapir.pipeline.plan import figures_of
from diapir.pipeline.predictions import (
    HasSalt,
    Predictions,
    read_predictions,
    unlabelled_name,
    write_array,
    write_predictions,
)
from diapir.pipeline.workplace import Workplace
from diapir.predict.build import BuiltBlend, OutOfFold, build_blend, build_edits, crossed_blends
from diapir.predict.ensemble import mean, value_range
from diapir.predict.gain import paired_gain
from diapir.predict.mosaic_edits import apply_mosaic_rules
from diapir.predict.mosaic_rules import labelled_survey
from diapir.predict.postprocess import START, Masks, Prediction, apply_edits
from diapir.predict.threshold import CANDIDATES, best_threshold, candidate_scores, crossed_cuts, kept_curve
from diapir.recipe.mosaics import MosaicRule
from diapir.recipe.predicting import Ensemble
from diapir.recipe.steps import BlendStep, PostProcessStep


def blend(place: Workplace, step: BlendStep, *, folds: tuple[int, ...]) -> dict[str, Any]:
    """Write the blend of its members; gives the rule and all that was decided in it, enough to blend other tiles.

    Tiles count that every member held out. What they decide is not tried on themselves: each is blended as the other
    tiles decide, and the gain over the plain mean of all members is of that.

    Args:
        folds: for which the blend of each member's own fold is kept too.

    Raises:
        InputError: the recipe speaks of more or fewer members than there are.
    """
    members = [read_predictions(place.out / name, data=place.data) for name in step.of]
    rows = members[0].rows
    for member in members[1:]:
        rows = np.intersect1d(rows, member.rows)
    places = [_places(member.rows, rows) for member in members]
    known = OutOfFold(
        members=[member.held_out[own] for member, own in zip(members, places, strict=True)],
        truth=_truth(place, rows),
        seconds=[_seconds(place, name) for name in step.of],
    )
    says_salt = [
        None if member.has_salt is None else member.has_salt.held_out[own]
        for member, own in zip(members, places, strict=True)
    ]
    held_out, held_out_salt = _crossed(step.ensemble, known, says_salt)

    built = build_blend(step.ensemble, known)
    needed = [members[member] for member in built.needed]
    # Of the held-out tiles where there are no others: new tiles have to be stretched by something.
    ranges = [
        value_range(needed[one].unlabelled if len(place.data.unlabelled) else known.members[built.needed[one]])
        for one in built.rescaled
    ]
    folder = place.out / step.name
    for fold in folds:
        own = [read_predictions(place.out / step.of[member], fold, data=place.data) for member in built.needed]
        parts = [each.unlabelled for each in own]
        write_array(folder / unlabelled_name(fold), built.blend(parts).astype(np.float16))
    salt = mean_has_salt(built, [None if each.has_salt is None else each.has_salt.unlabelled for each in needed])
    found = Predictions(
        rows=rows,
        held_out=held_out,
        unlabelled=built.blend([each.unlabelled for each in needed], ranges=ranges).astype(np.float16),
        has_salt=None if held_out_salt is None or salt is None else HasSalt(held_out_salt, salt),
    )
    write_predictions(folder, found)
    scores = [mask_scores(masks > START, known.truth) for masks in (mean(known.members), held_out)]
    return built.record | {
        "ranges": ranges,
        "gain_over_mean": asdict(paired_gain(*scores)),
        "seconds": round(sum(known.seconds[member] for member in built.needed), 2),
    }


def mean_has_salt(built: BuiltBlend, parts: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """Mean of the needed members' has-salt probabilities (n,), by their weights; None where one of them has none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(built.needed):
        return None
    return np.average(np.stack(known), axis=0, weights=built.weights).astype(np.float32)


def post_process(place: Workplace, step: PostProcessStep) -> dict[str, Any]:
    """Write edited masks; gives for each edit what it changed, and its gain on out-of-fold tiles.

    Raises:
        InputError: an edit asks for has-salt probabilities, and nobody kept them.
    """
    source = read_predictions(place.out / step.of, data=place.data)
    has_salt = source.has_salt or (None, None)
    if step.needs_has_salt and source.has_salt is None:
        raise InputError.of(
            place.out / step.of,
            "'has_salt_gate' needs has-salt probabilities, and these predictions were made without: remove this folder "
            "and those of the predict and blend steps that it was made from, and run again",
        )
    truth = _truth(place, source.rows)
    scores = candidate_scores(source.held_out, truth)
    tuned_cut, before = best_threshold(scores), float(scores[CANDIDATES.index(START)].mean())
    edits = build_edits(step)
    images = place.data.labelled.images[source.rows]
    labelled = Prediction(images, source.held_out, has_salt[0], crossed_cuts(scores))
    masks, on_labelled = apply_edits(edits, labelled, truth=truth, without=step.edits_off)
    cut = np.full(len(source.unlabelled), tuned_cut)
    unlabelled = Prediction(place.data.unlabelled.images, source.unlabelled, has_salt[1], cut)
    sizes = {each.name: each.size for each in on_labelled if each.size is not None}
    others, on_unlabelled = apply_edits(edits, unlabelled, score=before, without=step.edits_off, sizes=sizes)
    by_mosaics: dict[str, Any] = {}
    if step.rules_on:
        masks, others, by_mosaics = _by_mosaics(place, source.rows, masks, others, rules=step.rules_on)
    found = replace(source, held_out=masks.astype(np.float16), unlabelled=others.astype(np.float16))
    write_predictions(place.out / step.name, found)
    return by_mosaics | {
        "tuned_cut": tuned_cut,
        "tuned_sizes": sizes,
        "score_before": before,
        "score_by_threshold": kept_curve(scores),
        "held_out": [asdict(each) for each in on_labelled],
        "unlabelled": [asdict(each) for each in on_unlabelled],
        "seconds": _seconds(place, step.of),
    }


def _by_mosaics(
    place: Workplace, rows: NDArray[np.int64], held_out: Masks, unlabelled: Masks, *, rules: Sequence[MosaicRule]
) -> tuple[Masks, Masks, dict[str, Any]]:
    """Masks after the rules of mosaics, and what these did: to held-out tiles as if their fold's masks were unknown."""
    data, count = place.data, len(place.data.labelled)
    survey = labelled_survey(data, mosaics_of(data, place.out))
    predicted = np.concatenate([np.zeros_like(data.labelled.images), unlabelled])
    predicted[rows] = held_out
    edited, records = apply_mosaic_rules(predicted, survey, rules=rules)
    after, rule_of = held_out.copy(), np.full(len(rows), NONE)
    for fold in np.unique(place.numbers[rows]):
        truth_row = survey.truth_row.copy()
        truth_row[:count][place.numbers == fold] = NONE
        by_others, of_fold = apply_mosaic_rules(predicted, replace(survey, truth_row=truth_row), rules=rules)
        own = place.numbers[rows] == fold
        after[own] = by_others[rows[own]]
        for number, record in enumerate(of_fold):
            rule_of[own & np.isin(rows, record.changed)] = number
    before, last = (mask_scores(masks, _truth(place, rows)) for masks in (held_out, after))
    done, scores = [], before
    for number, record in enumerate(records):
        # A mask that a rule gave is not changed by those after it, so each tile has its last score from one of them.
        following = np.where(rule_of == number, last, scores)
        done.append(
            {
                "rule": record.rule,
                "reached": record.num_reached,
                "changed": len(record.changed),
                "held_out_changed": int((rule_of == number).sum()),
                "gain": asdict(paired_gain(scores, following)),
            }
        )
        scores = following
    return after, edited[count:], {"mosaic_rules": done, "mosaic_gain": asdict(paired_gain(before, last))}


def _crossed(
    section: Ensemble, known: OutOfFold, says_salt: Sequence[NDArray[np.float32] | None]
) -> tuple[NDArray[np.float16], NDArray[np.float32] | None]:
    """Masks and has-salt probabilities of out-of-fold tiles, each blended as the other tiles decide."""
    masks, salt = np.empty(known.truth.shape, np.float16), np.empty(len(known.truth), np.float32)
    is_known = True
    for own, built in crossed_blends(section, known):
        ranges = [value_range(known.members[built.needed[one]]) for one in built.rescaled]
        masks[own] = built.blend([known.members[member][own] for member in built.needed], ranges=ranges)
        parts = [says_salt[member] for member in built.needed]
        blended = mean_has_salt(built, [None if part is None else part[own] for part in parts])
        is_known &= blended is not None
        salt[own] = 0 if blended is None else blended
    return masks, salt if is_known else None


def _truth(place: Workplace, rows: NDArray[np.int64]) -> Masks:
    masks = place.data.labelled.masks
    assert masks is not None
    return np.asarray(masks[rows] == 1).astype(np.uint8)


def _places(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `wanted` stands in `rows`."""
    order = np.argsort(rows)
    return order[np.searchsorted(rows[order], wanted)]


def _seconds(place: Workplace, name: str) -> float:
    # A hundredth at least, for they were rounded to that.
    return max(float(figures_of(place.out, name, keys=["seconds"])["seconds"]), 0.01)
