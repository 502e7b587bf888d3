"""From labelled sections of a survey to tiles, so that what is trained on a competition's tiles trains on these."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import CROSSLINE, INLINE, PLACE, TILE, UNKNOWN, DataSet, TileSet
from diapir.volume.greys import grey_limit, to_grey
from diapir.volume.labelled_section import LabelledSection
from diapir.volume.labels import Labels
from diapir.volume.line_numbers import DIRECTIONS, Direction
from diapir.volume.sections import axis_of, read_section, section_shape
from diapir.volume.store import Store, read_map
from diapir.volume.tiling import Place, Tiling, cut_tiles, plan_tiling

_WANTED_TILES = 800
_OVERLAPS = (25, 38, 50, 63, 76, 85, 93)
"""Pixels: the first that gives enough tiles is taken. The last moves on by 8, as far as augmentation shifts."""
_UNLABELLED_LINES, _UNLABELLED_TILES = 16, 128
_LEAST_LIVE = 0.5


class _Cut(NamedTuple):
    """Tiles of one section: greys (n, 101, 101), masks of the same shape or None, places (n, 4), names."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    places: NDArray[np.int64]
    ids: list[str]


def survey_tiles(store: Store, labels: Labels) -> DataSet:
    """Tiles of 101 x 101 pixels of the labelled sections, and some of others, evenly over the survey, without labels.

    Sections are cut with such an overlap that there are plenty of tiles, or as many as there can be. A tile of which
    nothing is known is left out. What a tile has beyond a small section is mirrored, and nothing is known of it.

    Raises:
        InputError: the store is no survey, or is damaged.
    """
    limit = grey_limit(store)
    overlap = _overlap([section.mask.shape for section in labels.sections])
    labelled = [_cut_labelled(store, section, limit=limit, overlap=overlap) for section in labels.sections]
    lines = {(section.direction, section.place) for section in labels.sections}
    unlabelled = list(_cut_unlabelled(store, lines, limit=limit))
    return DataSet(_joined(labelled), _joined(unlabelled), _record(store, labels, overlap=overlap))


def _overlap(shapes: Sequence[tuple[int, ...]]) -> int:
    for overlap in _OVERLAPS:
        if sum(len(_tiling((shape[0], shape[1]), overlap=overlap)) for shape in shapes) >= _WANTED_TILES:
            return overlap
    return _OVERLAPS[-1]


def _tiling(shape: Place, *, overlap: int) -> Tiling:
    return plan_tiling(shape, tile=(TILE, TILE), overlap=(overlap, overlap))


def _cut_labelled(store: Store, section: LabelledSection, *, limit: float, overlap: int) -> _Cut:
    samples, traces = section.mask.shape
    tiling = _tiling((samples, traces), overlap=overlap)
    beyond = [(0, full - own) for full, own in zip(tiling.padded, tiling.shape, strict=True)]
    whole = np.pad(section.mask, beyond, constant_values=UNKNOWN)
    masks = np.stack([whole[row : row + TILE, column : column + TILE] for row, column in tiling.places])
    kept = np.flatnonzero((masks != UNKNOWN).any((1, 2)))
    cut = _cut(store, section.direction, section.place, tiling=tiling, limit=limit, kept=kept)
    return cut._replace(masks=masks[kept])


def _cut_unlabelled(store: Store, labelled: set[tuple[Direction, int]], *, limit: float) -> Iterator[_Cut]:
    """Tiles of lines that nobody labelled, line by line: as many of each, where most traces are live."""
    live = read_map(store, "live")
    lines = [line for line in _spread_lines(store) if line not in labelled]
    for direction, place in lines:
        is_live = live[place] if direction == "inline" else live[:, place]
        tiling = _tiling(section_shape(store.grid, direction), overlap=_OVERLAPS[0])
        shares = [is_live[column : column + TILE].mean() for _, column in tiling.places]
        good = np.flatnonzero(np.array(shares) >= _LEAST_LIVE)
        kept = good[_spread(len(good), _UNLABELLED_TILES // len(lines))]
        if len(kept):
            yield _cut(store, direction, place, tiling=tiling, limit=limit, kept=kept)


def _spread_lines(store: Store) -> Iterator[tuple[Direction, int]]:
    for direction in DIRECTIONS:
        for place in _spread(axis_of(store.grid, direction).count, _UNLABELLED_LINES // 2):
            yield direction, int(place)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Places of at most so many of `count` things, evenly, each in the middle of its share."""
    number = min(count, most)
    return (np.arange(number) * 2 + 1) * count // (2 * max(number, 1))


def _cut(
    store: Store, direction: Direction, place: int, *, tiling: Tiling, limit: float, kept: NDArray[np.int64]
) -> _Cut:
    """The tiles at `kept` of one section, without masks."""
    grey = to_grey(read_section(store, direction, place), limit=limit)
    tiles = list(cut_tiles(grey, tiling))
    line = axis_of(store.grid, direction).numbers[place]
    corners = np.array(tiling.places, np.int64)[kept]
    own = np.tile([INLINE if direction == "inline" else CROSSLINE, place], (len(kept), 1))
    ids = [f"{direction}-{line}-s{sample:04d}-t{trace:04d}" for sample, trace in corners.tolist()]
    images = np.stack([tiles[tile] for tile in kept]).astype(np.uint8)
    return _Cut(images, None, np.concatenate([own, corners], axis=1), ids)


def _joined(cuts: Sequence[_Cut]) -> TileSet:
    ids = tuple(name for cut in cuts for name in cut.ids)
    none = np.empty((0, TILE, TILE), np.uint8)
    masks = [cut.masks for cut in cuts if cut.masks is not None]
    return TileSet(
        ids=ids,
        images=np.concatenate([none, *(cut.images for cut in cuts)]),
        masks=np.concatenate([none, *masks]) if masks else None,
        depths_m=np.full(len(ids), np.nan, np.float32),
        places=np.concatenate([np.empty((0, len(PLACE)), np.int64), *(cut.places for cut in cuts)]),
    )


def _record(store: Store, labels: Labels, *, overlap: int) -> dict[str, Any]:
    """Where the tiles came from, as plain JSON values."""
    grid = store.grid
    return {
        "source": store.path.name,  # a path would tell of one machine
        "survey": {
            "inlines": str(grid.inlines),
            "crosslines": str(grid.crosslines),
            "samples": grid.num_samples,
            "interval": grid.interval,
            "unit": grid.unit,
            "facts": dict(store.facts),
        },
        "overlap_px": overlap,
        "labelled_sections": [
            {
                "direction": section.direction,
                "line": section.line,
                "known": round(float((section.mask != UNKNOWN).mean()), 4),
                "salt": round(float((section.mask == 1).mean()), 4),
                "file": section.source.name,
            }
            for section in labels.sections
        ],
        "notes": list(labels.notes),
    }
