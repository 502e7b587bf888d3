"""Recipe sections -> edits of masks and blends of members: the only `match` on their names."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.faults import Fault, raise_if_any
from diapir.predict.crf import bilateral_crf, location_crf
from diapir.predict.ensemble import (
    Probability,
    aligned_mean,
    mean,
    rescaled,
    vote_share,
    weighted_mean,
    weights_by_rank,
    weights_by_score,
)
from diapir.predict.postprocess import (
    START,
    Connectivity,
    Edit,
    Masks,
    Prediction,
    empty_constant,
    empty_full,
    fill_small_holes,
    gate_by_has_salt,
    remove_small_salt,
    salt_above,
)
from diapir.predict.selection import mean_score, select_members
from diapir.predict.stacking import check_stack, fit_stack, stacked
from diapir.predict.threshold import best_threshold, candidate_scores
from diapir.recipe import predicting as recipe

Rule = Callable[[Sequence[Probability]], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class OutOfFold:
    """Members of an ensemble on labelled tiles, each predicted by nets that did not see the tile.

    Args:
        members: (n, h, w) each.
        truth: uint8 (n, h, w) of 0 and 1.
        seconds: that each member's inference takes.
    """

    members: Sequence[Probability]
    truth: NDArray[np.uint8]
    seconds: Sequence[float]


@dataclass(frozen=True)
class BuiltBlend:
    """An ensemble's rule with everything in it that out-of-fold tiles decide.

    Args:
        needed: members that take part, counted from 0; the others need not predict anything.
        blend: predictions of those members, in that order, of a whole set -> one prediction, salt above 0.5.
        record: what was decided, as plain JSON values.
    """

    needed: tuple[int, ...]
    blend: Rule
    record: dict[str, Any]


def build_edits(section: recipe.PostProcess, *, tuned_cut: float | None = None) -> tuple[Edit, ...]:
    """The edits of masks that a recipe names, with those that it switches off.

    Args:
        tuned_cut: the threshold that is best on out-of-fold tiles, where the recipe asks for it.
    """
    return tuple(_edit(edit, tuned_cut=tuned_cut) for edit in section.edits)


def build_blend(section: recipe.Ensemble, known: OutOfFold) -> BuiltBlend:
    """The blend of members that a recipe names, with weights and thresholds found on out-of-fold tiles.

    Raises:
        InputError: the recipe speaks of more or fewer members than there are.
    """
    number = len(known.members)
    assert number == len(known.seconds) > 0
    _require_fit(section, number)
    members = _stretched(known.members, section.rescale)
    needed, rule, decided = _rule(section.blend, replace(known, members=members))
    rescale = [place for place, member in enumerate(needed) if member in section.rescale]
    record = {"rule": section.blend.name, "members": list(needed), "rescaled": sorted(set(section.rescale)), **decided}
    return BuiltBlend(needed, lambda parts: rule(_stretched(parts, rescale)), record)


def _edit(section: recipe.Edit, *, tuned_cut: float | None) -> Edit:
    match section:
        case recipe.Threshold():
            cut = tuned_cut if section.cut == "tuned" else section.cut
            assert cut is not None, "the recipe asks for the tuned threshold"
            return Edit(section.name, lambda masks, tiles: salt_above(tiles.probability, cut))
        case recipe.SmallSalt():
            return Edit(section.name, lambda masks, tiles: remove_small_salt(masks, smaller_than=section.smaller_than))
        case recipe.SmallHoles():
            return Edit(section.name, lambda masks, tiles: _filled(masks, section))
        case recipe.HasSaltGate():
            return Edit(section.name, lambda masks, tiles: _gated(masks, tiles, cut=section.cut))
        case recipe.ConstantToEmpty():
            return Edit(section.name, lambda masks, tiles: empty_constant(masks, tiles.images))
        case recipe.FullToEmpty():
            return Edit(section.name, lambda masks, tiles: empty_full(masks))
        case recipe.LocationCrf():
            return Edit(
                section.name,
                lambda masks, tiles: _smoothed(masks, section),
                only_if_score_below=section.only_if_score_below,
            )
        case recipe.BilateralCrf():
            return Edit(
                section.name,
                lambda masks, tiles: _smoothed_by_grey(tiles, section),
                only_if_score_below=section.only_if_score_below,
            )
        case _:
            assert_never(section)


def _filled(masks: Masks, section: recipe.SmallHoles) -> Masks:
    connectivity: Connectivity = section.connectivity
    return fill_small_holes(
        masks, smaller_than=section.smaller_than, connectivity=connectivity, at_border=section.at_border
    )


def _gated(masks: Masks, tiles: Prediction, *, cut: float) -> Masks:
    assert tiles.has_salt is not None, "the has-salt gate needs what the has-salt head says"
    return gate_by_has_salt(masks, tiles.has_salt, cut=cut)


def _smoothed(masks: Masks, section: recipe.LocationCrf) -> Masks:
    salt = location_crf(
        torch.from_numpy(masks),
        certainty=section.certainty,
        sigma_px=section.sigma_px,
        compat=section.compat,
        steps=section.steps,
    )
    return salt_above(salt.numpy(), START)


def _smoothed_by_grey(tiles: Prediction, section: recipe.BilateralCrf) -> Masks:
    salt = bilateral_crf(
        torch.from_numpy(tiles.probability.astype(np.float32)),
        torch.from_numpy(tiles.images),
        cut=section.cut,
        sigma_px=section.sigma_px,
        sigma_grey=section.sigma_grey,
        compat=section.compat,
        steps=section.steps,
    )
    return salt_above(salt.numpy(), START)


def _rule(section: recipe.Blend, known: OutOfFold) -> tuple[tuple[int, ...], Rule, dict[str, Any]]:
    """Members that take part, how they are blended, and what out-of-fold tiles decided."""
    every = tuple(range(len(known.members)))
    match section:
        case recipe.Mean():
            return every, mean, {}
        case recipe.Weighted():
            given, seen = _weights(section.weights, known)
            return every, lambda parts: weighted_mean(parts, given), seen
        case recipe.Ranked():
            scores = _scores(known)
            ranked = weights_by_rank(scores, decay=section.decay)
            return every, lambda parts: weighted_mean(parts, ranked), {"weights": ranked, "scores": scores}
        case recipe.Vote():
            votes, seen = _weights(section.weights, known)
            empty_above = section.empty_above
            return every, lambda parts: vote_share(parts, above=START, weights=votes, empty_above=empty_above), seen
        case recipe.Aligned():
            thresholds = _thresholds(section, known)
            return every, lambda parts: aligned_mean(parts, thresholds), {"thresholds": thresholds}
        case recipe.Stacked():
            stack = fit_stack(known.members, known.truth, ridge=section.ridge)
            check = check_stack(known.members, known.truth, stack=stack, parts=section.parts, ridge=section.ridge)
            return every, lambda parts: stacked(parts, stack), {"stack": asdict(stack), "check": asdict(check)}
        case recipe.Greedy():
            return _selected(section, known)
        case _:
            assert_never(section)


def _selected(section: recipe.Greedy, known: OutOfFold) -> tuple[tuple[int, ...], Rule, dict[str, Any]]:
    selection = select_members(
        known.members, known.truth, seconds=known.seconds, least_gain=section.least_gain, most_s=section.most_s
    )
    needed = tuple(sorted(set(selection.order)))
    taken = selection.weights(len(known.members))
    weights = [taken[member] for member in needed]
    return needed, lambda parts: weighted_mean(parts, weights), {"weights": weights, "selection": asdict(selection)}


def _weights(weights: str | tuple[float, ...], known: OutOfFold) -> tuple[list[float], dict[str, Any]]:
    """Weights of all members, and the figures behind them."""
    if weights == "score":
        scores = _scores(known)
        return weights_by_score(scores), {"weights": weights_by_score(scores), "scores": scores}
    found = [1.0] * len(known.members) if isinstance(weights, str) else list(weights)
    return found, {"weights": found}


def _thresholds(section: recipe.Aligned, known: OutOfFold) -> list[float]:
    if not isinstance(section.thresholds, str):
        return list(section.thresholds)
    return [best_threshold(candidate_scores(member, known.truth)) for member in known.members]


def _scores(known: OutOfFold) -> list[float]:
    """Out-of-fold score of each member at 0.5."""
    return [mean_score(member, known.truth) for member in known.members]


def _stretched(members: Sequence[Probability], places: Sequence[int]) -> list[Probability]:
    return [rescaled(member) if place in places else member for place, member in enumerate(members)]


def _require_fit(section: recipe.Ensemble, number: int) -> None:
    """Refuse a recipe that speaks of other members than there are."""
    faults = [
        Fault(f"ensemble.rescale.{place}", f"expected members 0 to {number - 1}, found {member}")
        for place, member in enumerate(section.rescale)
        if member >= number
    ]
    for name in ("weights", "thresholds"):
        values = getattr(section.blend, name, "")
        if not isinstance(values, str) and len(values) != number:
            faults.append(Fault(f"ensemble.blend.{name}", f"expected one a member, {number}, found {len(values)}"))
    raise_if_any(faults)
