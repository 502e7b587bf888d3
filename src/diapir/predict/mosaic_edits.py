"""Masks edited by rules of mosaics, every edit counted, and the rules held against masks that are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diapir.data.mosaic import NONE
from diapir.predict.mosaic_rules import Masks, Survey, claims_of
from diapir.recipe.mosaics import MosaicRule

DEFAULT_RULES: tuple[MosaicRule, ...] = (
    "empty_below_caps",
    "extrude_vertical",
    "extrude_almost_vertical",
    "fill_between",
)
"""What is used unless something else is asked for, in this order: rules that start from known masks, the surest first.

Of the competition's labelled tiles the first two are exact on each one that they reach; the third on nearly all.
"""
_RULES_FROM_TRUTH: tuple[MosaicRule, ...] = (*DEFAULT_RULES, "extrude_both_ways", "extrude_semi_vertical")


@dataclass(frozen=True)
class RuleRecord:
    """What one rule did to masks.

    Args:
        num_reached: tiles without a known mask for which it spoke, and no rule before it.
        changed: int64, the tiles of these whose mask it changed.
        num_pixels: that it changed in all.
    """

    rule: MosaicRule
    num_reached: int
    changed: NDArray[np.int64]
    num_pixels: int


@dataclass(frozen=True)
class RuleCheck:
    """How a rule fares on known masks.

    Args:
        num_known: tiles with a known mask that it reaches from others.
        num_exact: of these, where it claims that very mask.
        mean_iou: with the known masks; 1 where both are empty, nan without tiles.
        num_open: tiles without a known mask that it reaches.
    """

    rule: MosaicRule
    num_known: int
    num_exact: int
    mean_iou: float
    num_open: int


def apply_mosaic_rules(
    predicted: Masks, survey: Survey, *, rules: Sequence[MosaicRule] = DEFAULT_RULES
) -> tuple[Masks, list[RuleRecord]]:
    """Masks after every rule, in the order given, and what each of them did.

    A mask that is known never changes, and one that a rule gave is not changed by the rules after it.

    Args:
        predicted: uint8 (n, height, width), 1 where there is salt.
    """
    assert len(predicted) == len(survey.mosaics)
    masks = predicted.copy()
    is_settled = survey.truth_row != NONE
    records = []
    for rule in rules:
        claims = claims_of(rule, survey, predicted=masks)
        is_open = ~is_settled[claims.tiles]
        tiles, claimed = claims.tiles[is_open], claims.masks[is_open]
        pixels = (masks[tiles] != claimed).sum(axis=(1, 2))
        masks[tiles] = claimed
        is_settled[tiles] = True
        records.append(RuleRecord(rule, len(tiles), tiles[pixels > 0], int(pixels.sum())))
    return masks, records


def check_rules(survey: Survey, *, rules: Sequence[MosaicRule] = _RULES_FROM_TRUTH) -> list[RuleCheck]:
    """How the rules that start from known masks fare on other known masks."""
    nothing = np.broadcast_to(np.uint8(0), (len(survey.mosaics), *survey.truth.shape[1:]))
    checks = []
    for rule in rules:
        claims = claims_of(rule, survey, predicted=nothing)
        rows = survey.truth_row[claims.tiles]
        claimed, truth = claims.masks[rows != NONE] != 0, survey.truth[rows[rows != NONE]] != 0
        exact = (claimed == truth).all(axis=(1, 2))
        union = (claimed | truth).sum(axis=(1, 2))
        iou = np.where(union > 0, (claimed & truth).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)
        mean = float(iou.mean()) if len(iou) else float("nan")
        checks.append(RuleCheck(rule, len(truth), int(exact.sum()), mean, int((rows == NONE).sum())))
    return checks


def describe_check(check: RuleCheck) -> str:
    """One line for a person."""
    known = f"exact on {check.num_exact} of {check.num_known} known masks it reaches"
    mean = f", mean IoU {check.mean_iou:.3f}" if check.num_known > check.num_exact else ""
    return f"{check.rule}: {known}{mean}; it speaks for {check.num_open} unknown ones"
