"""Labelled sections of a survey that are held out together, and what must not be learned from beside them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import CROSSLINE, UNKNOWN, TileSet
from diapir.faults import Fault, InputError, raise_if_any
from diapir.recipe.tiles import Folds

Numbers = NDArray[np.int64]

_FAR = 2**40  # more lines than a survey has: sections of the other direction are never the nearest


def salted_sections(tiles: TileSet) -> tuple[Numbers, NDArray[np.bool_]]:
    """Direction and line of each section with tiles, in order: int64 (s, 2); and which of them hold salt: (s,)."""
    assert tiles.places is not None
    assert tiles.masks is not None
    sections, own = _sections(tiles)
    has_salt = np.zeros(len(sections), np.bool_)
    has_salt[own[(tiles.masks == 1).any((1, 2))]] = True
    return sections, has_salt


def make_section_folds(tiles: TileSet, section: Folds) -> Numbers:
    """The fold of each tile by its section: (n,). Neighbours go together, and every fold has a section with salt.

    Sections with salt are cut, in their order, into parts of the same number; the others go with the nearest.

    Raises:
        InputError: the tiles are of no survey; sections with salt are fewer than folds; or a fold that is held out
            leaves nothing to train on beyond the gap.
    """
    if tiles.places is None:
        raise InputError.of(
            "folds.scheme",
            "'sections' is for a survey's tiles, and these are of none: use diapir survey train, or another scheme",
        )
    sections, has_salt = salted_sections(tiles)
    _require_sections(has_salt, count=section.count)
    salted = np.flatnonzero(has_salt)
    apart = np.abs(sections[:, None] - sections[salted])
    nearest = (apart[..., 1] + _FAR * apart[..., 0]).argmin(1)
    folds: Numbers = (nearest * section.count // len(salted))[_sections(tiles)[1]]
    raise_if_any(_without_training(tiles, folds, section))
    return folds


def keep_apart(tiles: TileSet, held_out: TileSet, *, gap: int) -> TileSet:
    """Those of the tiles that may be trained on where the others are held out.

    Within `gap` lines of a held-out trace nothing is known any more, in sections beside it and across it alike; a tile
    of which nothing is known is left out.
    """
    assert tiles.masks is not None
    inlines, crosslines = _lines_of_columns(tiles)
    is_near = np.zeros(inlines.shape, np.bool_)
    for (first_inline, last_inline), (first_crossline, last_crossline) in _extents(held_out):
        is_near |= (
            (inlines >= first_inline - gap)
            & (inlines <= last_inline + gap)
            & (crosslines >= first_crossline - gap)
            & (crosslines <= last_crossline + gap)
        )
    masks = np.where(is_near[:, None, :], np.uint8(UNKNOWN), tiles.masks)
    kept = np.flatnonzero((masks != UNKNOWN).any((1, 2)))
    return replace(tiles, masks=masks).take(kept)


def _sections(tiles: TileSet) -> tuple[Numbers, Numbers]:
    """Direction and line of each section, (s, 2), and the row there of each tile's, (n,)."""
    assert tiles.places is not None
    sections, own = np.unique(tiles.places[:, :2], axis=0, return_inverse=True)
    return sections, own.reshape(-1)


def _lines_of_columns(tiles: TileSet) -> tuple[Numbers, Numbers]:
    """Inline and crossline of each column of each tile, both (n, w)."""
    assert tiles.places is not None
    along = tiles.places[:, 3:] + np.arange(tiles.images.shape[2])
    line = np.broadcast_to(tiles.places[:, 1:2], along.shape)
    is_crossline = tiles.places[:, :1] == CROSSLINE
    return np.where(is_crossline, along, line), np.where(is_crossline, line, along)


def _extents(tiles: TileSet) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """First and last inline and crossline of which something is known, section by section."""
    assert tiles.masks is not None
    lines = _lines_of_columns(tiles)
    is_known = (tiles.masks != UNKNOWN).any(1)
    sections, own = _sections(tiles)
    for number in range(len(sections)):
        chosen = is_known & (own == number)[:, None]
        if chosen.any():
            inlines, crosslines = (each[chosen] for each in lines)
            yield (int(inlines.min()), int(inlines.max())), (int(crosslines.min()), int(crosslines.max()))


def _require_sections(has_salt: NDArray[np.bool_], *, count: int) -> None:
    number = int(has_salt.sum())
    if number >= count:
        return
    found = f"found {number} among {len(has_salt)} labelled"
    if number < 2:
        what = f"expected at least two sections with salt, so that one can be held out, {found}; label another"
    else:
        what = f"expected at least {count} sections with salt, one a fold, {found}; label more, or set it to {number}"
    raise InputError.of("folds.count", what)


def _without_training(tiles: TileSet, folds: Numbers, section: Folds) -> Iterator[Fault]:
    """A fault for each held-out fold that nothing is left beside to train on."""
    assert section.gap is not None
    for fold in section.held_out or range(section.count):
        own = folds == fold
        others, held_out = (tiles.take(np.flatnonzero(chosen)) for chosen in (~own, own))
        if not len(keep_apart(others, held_out, gap=section.gap)):
            yield Fault(
                "folds.gap",
                f"all that is labelled lies within {section.gap} lines of what fold {fold} holds out, so nothing is "
                "left to train on; set a smaller gap, or label sections that lie further apart",
            )
