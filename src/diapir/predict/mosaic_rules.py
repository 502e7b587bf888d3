"""What a tile's neighbours in the survey say about its mask, as the 1st, 4th and 11th places used it.

Salt was drawn over whole sections that then were cut: a wall drawn straight down goes on in the tile below, and below
a tile whose last row is all salt the drawing has ended. A rule claims masks for tiles, known ones among them, so that
it can be held against those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from diapir.data.mosaic import NONE, Mosaics, neighbours
from diapir.data.tiles import DataSet
from diapir.recipe.mosaics import MosaicRule

Masks = NDArray[np.uint8]
Row = NDArray[np.uint8]

# Source: the 1st place's; its rows count from 0.
_SOFT_VERTICAL_ROWS = 50
_FIRST_ROW_WITH_CLAIM_ABOVE = 3
# Source: the 11th place's rules 1 and 5.
_ALMOST_VERTICAL_ROWS = 30
# Source: the 4th place's, the last 20 % of rows.
_SEMI_VERTICAL_SHARE = 0.2


@dataclass(frozen=True)
class Survey:
    """Tiles in their mosaics, and the masks that are known of them.

    Args:
        mosaics: of n tiles.
        truth: uint8 (k, height, width), 1 where there is salt.
        truth_row: int64 (n,), the row of `truth` with a tile's mask; -1 where it is not known.
    """

    mosaics: Mosaics
    truth: Masks
    truth_row: NDArray[np.int64]

    def __post_init__(self) -> None:
        assert len(self.mosaics) == len(self.truth_row), "a row of truth, or -1, for every tile"

    def known_where(self, is_chosen: NDArray[np.bool_]) -> list[int]:
        """The tiles in mosaics with a known mask for which `is_chosen` (k,) is true."""
        known = np.flatnonzero((self.truth_row != NONE) & (self.mosaics.mosaic != NONE))
        tiles: list[int] = known[is_chosen[self.truth_row[known]]].tolist()
        return tiles

    def known_mask(self, tile: int) -> Masks | None:
        """A tile's mask, (height, width), if it is known."""
        row = self.truth_row[tile]
        return None if row == NONE else self.truth[row]


@dataclass(frozen=True)
class Claims:
    """What a rule says: masks uint8 (m, height, width) of m different tiles, int64 (m,)."""

    tiles: NDArray[np.int64]
    masks: Masks


def labelled_survey(data: DataSet, mosaics: Mosaics) -> Survey:
    """All tiles of a data set, the labelled ones first and known."""
    assert data.labelled.masks is not None
    rows = np.full(len(mosaics), NONE, np.int64)
    rows[: len(data.labelled)] = np.arange(len(data.labelled))
    return Survey(mosaics, data.labelled.masks, rows)


def claims_of(rule: MosaicRule, survey: Survey, *, predicted: Masks) -> Claims:
    """What a rule says of tiles, known ones included; a tile's own mask has no part in it, unless the rule says so.

    Args:
        predicted: uint8 (n, height, width).
    """
    height = survey.truth.shape[1]
    match rule:
        case "empty_below_caps":
            return empty_below_caps(survey)
        case "extrude_vertical":
            return extrude_vertical(survey)
        case "extrude_almost_vertical":
            return extrude_down(survey, rows=_ALMOST_VERTICAL_ROWS)
        case "fill_between":
            return fill_between(survey, predicted)
        case "extrude_both_ways":
            return extrude_both_ways(survey)
        case "extrude_semi_vertical":
            return extrude_down(survey, rows=round(_SEMI_VERTICAL_SHARE * height))
        case "empty_below_predicted_caps":
            return empty_below_predicted_caps(survey, predicted)
        case "extrude_predicted":
            return extrude_predicted(survey, predicted, rows=_ALMOST_VERTICAL_ROWS)
        case "interpolate_empty":
            return interpolate_empty(survey, predicted)
        case _:
            assert_never(rule)


def are_walls(masks: Masks, *, rows: int) -> NDArray[np.bool_]:
    """Which masks have the same last `rows` rows, neither without salt nor full of it: (n,)."""
    last = masks[:, -1:]
    is_straight: NDArray[np.bool_] = (masks[:, -rows:] == last).all(axis=(1, 2))
    return is_straight & last.any(axis=(1, 2)) & ~last.all(axis=(1, 2))


def are_caps(masks: Masks) -> NDArray[np.bool_]:
    """Which masks end in a row that is all salt: (n,)."""
    return np.asarray(masks[:, -1].all(axis=1))


def empty_below_caps(survey: Survey) -> Claims:
    """No salt in any tile below a known mask whose last row is all salt.

    Source: the 11th place's rule 2, and the 4th's and 14th's.
    """
    nothing = np.zeros(survey.truth.shape[2], np.uint8)
    return _spread(survey, dict.fromkeys(survey.known_where(are_caps(survey.truth)), nothing))


def extrude_vertical(survey: Survey) -> Claims:
    """The last row of each column's first straight known mask for all tiles below it.

    Straight is a mask whose last 50 rows are the same. If all its rows are, and it stands in row 3 or below, the tile
    right above it gets that row too.

    Source: the 1st place's post-processing.
    """
    truth, claimed = survey.truth, dict[int, Row]()
    straight = set(survey.known_where(are_walls(truth, rows=_SOFT_VERTICAL_ROWS)))
    vertical = set(survey.known_where(are_walls(truth, rows=truth.shape[1])))
    above = neighbours(survey.mosaics)[:, 0]
    for column in _columns(survey.mosaics):
        source = next((tile for tile in column if tile in straight), None)
        if source is None:
            continue
        edge = truth[survey.truth_row[source], -1]
        claimed |= dict.fromkeys(column[column.index(source) + 1 :], edge)
        row = survey.mosaics.row[source]
        if source in vertical and row >= _FIRST_ROW_WITH_CLAIM_ABOVE and above[source] != NONE:
            claimed[int(above[source])] = edge
    return _repeated(survey, claimed)


def extrude_down(survey: Survey, *, rows: int) -> Claims:
    """The last row of the nearest known mask above whose last `rows` rows are the same, for every tile below one.

    Source: the 11th place's rule 1 (30 rows); the 4th's semi-vertical rule (a fifth of the rows).
    """
    return _spread(survey, _last_rows(survey, survey.known_where(are_walls(survey.truth, rows=rows))))


def extrude_both_ways(survey: Survey) -> Claims:
    """The row of the nearest known mask of which all rows are the same, for every tile below one or else above one.

    Upwards it is often wrong: salt begins somewhere.

    A reconstruction: that the 4th place extruded up and down is known, how it chose among several masks is not.
    """
    vertical = survey.known_where(are_walls(survey.truth, rows=survey.truth.shape[1]))
    down, up = (_spread(survey, _last_rows(survey, vertical), upwards=upwards) for upwards in (False, True))
    is_new = ~np.isin(up.tiles, down.tiles)
    return Claims(np.concatenate([down.tiles, up.tiles[is_new]]), np.concatenate([down.masks, up.masks[is_new]]))


def fill_between(survey: Survey, predicted: Masks) -> Claims:
    """The last row of the tile above for a tile between two known masks with salt, if that is more than it has.

    A reconstruction: that the rows that touch the tile must hold salt, and the upper one not be full, is assumed.

    Source: the 11th place's rule 3.
    """
    claimed = {}
    for tile, (above, below, *_) in enumerate(neighbours(survey.mosaics).tolist()):
        upper = survey.known_mask(above) if above != NONE else None
        lower = survey.known_mask(below) if below != NONE else None
        if upper is None or lower is None or upper[-1].all() or not (upper[-1].any() and lower[0].any()):
            continue
        if upper[-1].sum() * len(upper) > predicted[tile].sum(dtype=np.int64):
            claimed[tile] = upper[-1]
    return _repeated(survey, claimed)


def empty_below_predicted_caps(survey: Survey, predicted: Masks) -> Claims:
    """No salt below a predicted mask whose last row is all salt, down to the next tile that is known.

    Source: the 11th place's rule 4; the end at known tiles is the team's.
    """
    tiles = _predicted_tiles(survey)
    nothing = np.zeros(survey.truth.shape[2], np.uint8)
    edges: dict[int, Row | None] = dict.fromkeys(tiles[are_caps(predicted[tiles])].tolist(), nothing)
    return _spread(survey, edges | _ends(survey))


def extrude_predicted(survey: Survey, predicted: Masks, *, rows: int) -> Claims:
    """The last row of the nearest predicted mask above whose last `rows` rows are the same, down to a known tile.

    It cost the 11th place 0.003 of private score.

    Source: the 11th place's rule 5; the end at known tiles is the team's.
    """
    tiles = _predicted_tiles(survey)
    edges: dict[int, Row | None] = {
        tile: predicted[tile, -1] for tile in tiles[are_walls(predicted[tiles], rows=rows)].tolist()
    }
    return _spread(survey, edges | _ends(survey))


def interpolate_empty(survey: Survey, predicted: Masks) -> Claims:
    """Salt from the tile above to the tile below, with straight sides, for predicted masks without any.

    Both rows that touch the tile must hold salt in one piece; its ends move linearly from one to the other.

    A reconstruction: that the 4th place interpolated between the edges of neighbours is known, and no more.
    """
    beside = neighbours(survey.mosaics)
    tiles, masks = [], []
    for tile in _predicted_tiles(survey).tolist():
        above, below = beside[tile, :2].tolist()
        if NONE in (above, below) or predicted[tile].any():
            continue
        upper, lower = (_mask_so_far(survey, predicted, one) for one in (above, below))
        ends = _piece(upper[-1]), _piece(lower[0])
        if ends[0] is not None and ends[1] is not None:
            tiles.append(tile)
            masks.append(_straight_sides(*ends[0], *ends[1], height=len(upper), width=upper.shape[1]))
    return Claims(np.array(tiles, np.int64), np.array(masks, np.uint8).reshape(len(tiles), *predicted.shape[1:]))


def _columns(mosaics: Mosaics) -> list[list[int]]:
    """The tiles of every column of every mosaic, from the top down; gaps do not part them."""
    columns: dict[tuple[int, int], list[int]] = {}
    for (mosaic, _, column), tile in sorted(mosaics.tiles_by_place().items()):
        columns.setdefault((mosaic, column), []).append(tile)
    return list(columns.values())


def _spread(survey: Survey, edges: Mapping[int, Row | None], *, upwards: bool = False) -> Claims:
    """For every tile the edge of the nearest tile above it (or below it) that has one; None lets nothing through."""
    claimed: dict[int, Row] = {}
    for column in _columns(survey.mosaics):
        edge = None
        for tile in reversed(column) if upwards else column:
            if edge is not None:
                claimed[tile] = edge
            edge = edges.get(tile, edge)
    return _repeated(survey, claimed)


def _repeated(survey: Survey, edges: Mapping[int, Row]) -> Claims:
    """Masks of which every row is the edge of its tile."""
    _, height, width = survey.truth.shape
    rows = np.array(list(edges.values()), np.uint8).reshape(len(edges), 1, width)
    return Claims(np.array(list(edges), np.int64), np.repeat(rows, height, axis=1))


def _last_rows(survey: Survey, tiles: Sequence[int]) -> dict[int, Row]:
    return {tile: survey.truth[survey.truth_row[tile], -1] for tile in tiles}


def _predicted_tiles(survey: Survey) -> NDArray[np.int64]:
    return np.flatnonzero((survey.truth_row == NONE) & (survey.mosaics.mosaic != NONE))


def _ends(survey: Survey) -> dict[int, Row | None]:
    return dict.fromkeys(np.flatnonzero(survey.truth_row != NONE).tolist(), None)


def _mask_so_far(survey: Survey, predicted: Masks, tile: int) -> Masks:
    known = survey.known_mask(tile)
    return predicted[tile] if known is None else known


def _piece(row: Row) -> tuple[int, int] | None:
    """First pixel of the only piece of salt in a row, and the one after its last; None without salt or with more."""
    change = np.diff(row.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return (int(starts[0]), int(ends[0])) if len(starts) == 1 else None


def _straight_sides(left: int, right: int, lower_left: int, lower_right: int, *, height: int, width: int) -> Masks:
    """A mask that leads from the pixels `left` to `right` - 1 above it to `lower_left` to `lower_right` - 1 below."""
    share = ((np.arange(height) + 1) / (height + 1))[:, None]
    column = np.arange(width) + 0.5
    is_salt = (column > left + share * (lower_left - left)) & (column < right + share * (lower_right - right))
    return is_salt.astype(np.uint8)
