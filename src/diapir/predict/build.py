"""Recipe sections -> edits of masks and blends of members: the only `match` on their names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from diapir.faults import Fault, InputError, raise_if_any
from diapir.predict.crf import bilateral_crf, location_crf
from diapir.predict.crossfit import Rows, crossed_parts
from diapir.predict.ensemble import (
    Probability,
    Range,
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
from diapir.predict.stacking import Stack, fit_stack, stacked
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

    def take(self, rows: Rows) -> "OutOfFold":
        """Some of the tiles."""
        return replace(self, members=[member[rows] for member in self.members], truth=self.truth[rows])


@dataclass(frozen=True)
class BuiltBlend:
    """An ensemble's rule with everything in it that out-of-fold tiles decide.

    Args:
        needed: members that take part, counted from 0; the others need not predict anything.
        rescaled: places among them of those that are first stretched over 0 to 1.
        rule: predictions of those members, in that order, of a whole set -> one prediction, salt above 0.5.
        record: what was decided, as plain JSON values; `stored_blend` needs no more.
    """

    needed: tuple[int, ...]
    rescaled: tuple[int, ...]
    rule: Rule
    record: dict[str, Any]

    @property
    def weights(self) -> list[float]:
        """Weight of each needed member in a mean; all alike where the rule is none with weights."""
        return list(self.record.get("weights", [1.0] * len(self.needed)))

    def blend(
        self, parts: Sequence[Probability], *, ranges: Sequence[Range] | None = None
    ) -> NDArray[np.floating[Any]]:
        """Predictions (n, h, w) of the needed members, in their order, made one.

        Args:
            ranges: what becomes 0 and 1 of each rescaled member; None for its own range in these tiles.
        """
        return self.rule(_stretched(parts, self.rescaled, ranges=ranges))


def build_edits(section: recipe.PostProcess) -> tuple[Edit, ...]:
    """The edits of masks that a recipe names, with those that it switches off."""
    return tuple(_edit(edit) for edit in section.edits)


def build_blend(section: recipe.Ensemble, known: OutOfFold) -> BuiltBlend:
    """The blend of members that a recipe names, with weights and thresholds found on out-of-fold tiles.

    Raises:
        InputError: the recipe speaks of more or fewer members than there are, or allows fewer seconds than any of them
            takes.
    """
    number = len(known.members)
    assert number == len(known.seconds) > 0
    _require_fit(section, number)
    members = _stretched(known.members, sorted(set(section.rescale)))
    needed, decided = _decided(section.blend, replace(known, members=members))
    head = {"rule": section.blend.name, "members": list(needed), "rescaled": sorted(set(section.rescale))}
    return stored_blend(section, head | decided)


def crossed_blends(section: recipe.Ensemble, known: OutOfFold) -> Iterator[tuple[Rows, BuiltBlend]]:
    """Parts of the tiles, each with the blend that all other tiles decide: what an honest score of it is made of.

    Raises:
        InputError: as `build_blend`.
    """
    for own, others in crossed_parts(len(known.truth)):
        yield own, build_blend(section, known.take(others))


def stored_blend(section: recipe.Ensemble, record: Mapping[str, Any]) -> BuiltBlend:
    """The blend whose record was kept: nothing is decided anew."""
    needed = tuple(record["members"])
    places = tuple(place for place, member in enumerate(needed) if member in section.rescale)
    return BuiltBlend(needed, places, _rule(section.blend, record), dict(record))


def _edit(section: recipe.Edit) -> Edit:
    match section:
        case recipe.Threshold(cut=cut):
            if cut == "tuned":
                return Edit(section.name, lambda masks, tiles: _above_own_cut(tiles))
            return Edit(section.name, lambda masks, tiles: salt_above(tiles.probability, cut))
        case recipe.SmallSalt():
            return _small_salt(section)
        case recipe.SmallHoles():
            return _small_holes(section)
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


def _above_own_cut(tiles: Prediction) -> Masks:
    assert tiles.cut is not None, "the tuned threshold needs what was found on out-of-fold tiles"
    return salt_above(tiles.probability, tiles.cut[:, None, None].astype(tiles.probability.dtype))


def _small_salt(section: recipe.SmallSalt) -> Edit:
    size = section.smaller_than
    if size == "tuned":
        return Edit(section.name, by_size=lambda masks, tuned: remove_small_salt(masks, smaller_than=tuned))
    return Edit(section.name, lambda masks, tiles: remove_small_salt(masks, smaller_than=size))


def _small_holes(section: recipe.SmallHoles) -> Edit:
    size, connectivity = section.smaller_than, section.connectivity

    def filled(masks: Masks, smaller_than: int | None) -> Masks:
        return fill_small_holes(
            masks, smaller_than=smaller_than, connectivity=connectivity, at_border=section.at_border
        )

    if size == "tuned":
        return Edit(section.name, by_size=filled)
    return Edit(section.name, lambda masks, tiles: filled(masks, size))


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


def _decided(section: recipe.Blend, known: OutOfFold) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Members that take part, and what out-of-fold tiles decide."""
    every = tuple(range(len(known.members)))
    match section:
        case recipe.Mean():
            return every, {}
        case recipe.Weighted() | recipe.Vote():
            return every, _weights(section.weights, known)
        case recipe.Ranked():
            scores = _scores(known)
            return every, {"weights": weights_by_rank(scores, decay=section.decay), "scores": scores}
        case recipe.Aligned():
            return every, {"thresholds": _thresholds(section, known)}
        case recipe.Stacked():
            return every, {"stack": asdict(fit_stack(known.members, known.truth, ridge=section.ridge))}
        case recipe.Greedy():
            return _selected(section, known)
        case _:
            assert_never(section)


def _rule(section: recipe.Blend, decided: Mapping[str, Any]) -> Rule:
    """How members are blended, by what was decided."""
    match section:
        case recipe.Mean():
            return mean
        case recipe.Weighted() | recipe.Ranked() | recipe.Greedy():
            weights = decided["weights"]
            return lambda parts: weighted_mean(parts, weights)
        case recipe.Vote():
            votes, empty_above = decided["weights"], section.empty_above
            return lambda parts: vote_share(parts, above=START, weights=votes, empty_above=empty_above)
        case recipe.Aligned():
            thresholds = decided["thresholds"]
            return lambda parts: aligned_mean(parts, thresholds)
        case recipe.Stacked():
            kept = decided["stack"]
            stack = Stack(tuple(kept["weights"]), bias=kept["bias"], cross_entropy=kept["cross_entropy"])
            return lambda parts: stacked(parts, stack)
        case _:
            assert_never(section)


def _selected(section: recipe.Greedy, known: OutOfFold) -> tuple[tuple[int, ...], dict[str, Any]]:
    if section.most_s is not None and min(known.seconds) > section.most_s:
        raise InputError.of(
            "ensemble.blend.most_s",
            f"expected the seconds of at least one member, the quickest of which takes {min(known.seconds):g}, found "
            f"{section.most_s:g}",
        )
    selection = select_members(
        known.members, known.truth, seconds=known.seconds, least_gain=section.least_gain, most_s=section.most_s
    )
    needed = tuple(sorted(set(selection.order)))
    taken = selection.weights(len(known.members))
    return needed, {"weights": [taken[member] for member in needed], "selection": asdict(selection)}


def _weights(weights: str | tuple[float, ...], known: OutOfFold) -> dict[str, Any]:
    """Weights of all members, and the figures behind them."""
    if weights == "score":
        scores = _scores(known)
        # Members that all score 0 are alike.
        return {"weights": weights_by_score(scores if any(scores) else [1.0] * len(scores)), "scores": scores}
    return {"weights": [1.0] * len(known.members) if isinstance(weights, str) else list(weights)}


def _thresholds(section: recipe.Aligned, known: OutOfFold) -> list[float]:
    if not isinstance(section.thresholds, str):
        return list(section.thresholds)
    return [best_threshold(candidate_scores(member, known.truth)) for member in known.members]


def _scores(known: OutOfFold) -> list[float]:
    """Out-of-fold score of each member at 0.5."""
    return [mean_score(member, known.truth) for member in known.members]


def _stretched(
    members: Sequence[Probability], places: Sequence[int], *, ranges: Sequence[Range] | None = None
) -> list[Probability]:
    within = dict(zip(places, [None] * len(places) if ranges is None else ranges, strict=True))
    return [rescaled(member, within[place]) if place in within else member for place, member in enumerate(members)]


def _require_fit(section: recipe.Ensemble, number: int) -> None:
    """Refuse a recipe that speaks of other members than there are."""
    told = (fault.split(": ", 1) for fault in section.member_faults(number))
    raise_if_any(Fault(f"ensemble.{place}", what) for place, what in told)
