"""From probabilities to the masks that are handed in: edits in a given order, each counted, and worth what it says."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diapir.data.tiles import is_constant
from diapir.faults import Fault, raise_if_any
from diapir.metrics import mask_scores
from diapir.predict.crossfit import crossed_parts
from diapir.predict.gain import Gain, paired_gain

Masks = NDArray[np.uint8]
"""(n, height, width) of 0 and 1, 1 where there is salt."""
Connectivity = Literal[4, 8]

START = 0.5
"""Probability above which a pixel is salt before the first edit."""

SIZES = (10, 20, 40, 80)
"""Pixels of small pieces that are tried where their size is tuned. Source: assumed; the 28th place gives none."""

_CHUNK = 512  # tiles worked on at once: what an edit needs beside its result stays below 100 MB


@dataclass(frozen=True)
class Prediction:
    """What is known of tiles when their masks are edited.

    Args:
        images: uint8 (n, h, w).
        probability: floating point (n, h, w).
        has_salt: probability that a tile holds salt at all, (n,); None without a head that says so.
        cut: each tile's tuned threshold, (n,); None where none was tuned.
    """

    images: NDArray[np.uint8]
    probability: NDArray[np.floating[Any]]
    has_salt: NDArray[np.floating[Any]] | None = None
    cut: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        assert self.images.shape == self.probability.shape, "an image for every tile"
        assert all(known is None or len(known) == len(self.images) for known in (self.has_salt, self.cut))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: slice) -> "Prediction":
        """Some of the tiles."""
        return Prediction(
            images=self.images[rows],
            probability=self.probability[rows],
            has_salt=None if self.has_salt is None else self.has_salt[rows],
            cut=None if self.cut is None else self.cut[rows],
        )


@dataclass(frozen=True)
class Edit:
    """One change of masks.

    Args:
        name: by which it is counted and can be switched off.
        change: masks so far, and what is known of their tiles -> masks.
        only_if_score_below: leave good predictions alone: the score that they must not reach, before any edit.
        by_size: masks so far, and a size of pieces -> masks; in place of `change` where that size is tuned.
    """

    name: str
    change: Callable[[Masks, Prediction], Masks] = lambda masks, _: masks
    only_if_score_below: float | None = None
    by_size: Callable[[Masks, int], Masks] | None = None


@dataclass(frozen=True)
class EditRecord:
    """What one edit did.

    Args:
        num_tiles, num_pixels: that it changed.
        gain: on these tiles, where their truth is known.
        left_out: why it was not applied; empty if it was.
        size: of pieces, that all of these tiles chose where it was tuned.
    """

    name: str
    num_tiles: int
    num_pixels: int
    gain: Gain | None = None
    left_out: str = ""
    size: int | None = None


def apply_edits(
    edits: Sequence[Edit],
    tiles: Prediction,
    *,
    truth: Masks | None = None,
    score: float | None = None,
    without: Collection[str] = (),
    sizes: Mapping[str, int] | None = None,
) -> tuple[Masks, list[EditRecord]]:
    """Masks after every edit, in the order given, and what each of them did.

    Args:
        truth: of the tiles, if known: then every edit is scored by itself, against the masks just before it. Numbers
            that were chosen on the same tiles make their gain look larger than it is.
        score: of these predictions on out-of-fold tiles, for edits that ask for it; None takes it from `truth`.
        without: names of edits to leave out.
        sizes: of pieces, by the edits' names, that out-of-fold tiles chose; where the truth is known each tile gets the
            one that the other tiles choose, for an honest figure.

    Raises:
        InputError: `without` names edits that are not there.
    """
    _require_known(without, edits)
    masks = np.empty(tiles.images.shape, np.uint8)
    for rows in _chunks(len(tiles)):
        masks[rows] = salt_above(tiles.probability[rows], START)
    scores = None if truth is None else mask_scores(masks, truth)
    if scores is not None and score is None:
        score = float(scores.mean())
    records = []
    for edit in edits:
        if reason := _reason_against(edit, score=score, without=without):
            records.append(EditRecord(edit.name, 0, 0, left_out=reason))
            continue
        gain, size = None, None
        if edit.by_size is None:
            changed = _change(masks, edit, tiles)
        else:
            own, size = _sizes(edit.by_size, masks, truth, known=(sizes or {}).get(edit.name))
            changed = _change_by_size(masks, edit.by_size, own)
        if scores is not None and truth is not None:
            before, scores = scores, scores.copy()
            rows_changed = np.flatnonzero(changed)
            scores[rows_changed] = mask_scores(masks[rows_changed], truth[rows_changed])
            gain = paired_gain(before, scores)
        records.append(EditRecord(edit.name, int((changed > 0).sum()), int(changed.sum()), gain=gain, size=size))
    return masks, records


def salt_above(probability: NDArray[np.floating[Any]], cut: "float | NDArray[np.floating[Any]]") -> Masks:
    """1 where the probability is above the cut; compared in the probability's own type."""
    return (probability > cut).astype(np.uint8)


def remove_small_salt(masks: Masks, *, smaller_than: int) -> Masks:
    """Masks without their pieces of salt of fewer than `smaller_than` pixels.

    A piece hangs together by sides and corners (8 neighbours).

    Source: the 28th place of the TGS competition, which gives no size.
    """
    return masks & ~_small_pieces(masks != 0, smaller_than=smaller_than, connectivity=8, at_border=True)


def fill_small_holes(
    masks: Masks, *, smaller_than: int | None, connectivity: Connectivity = 4, at_border: bool = True
) -> Masks:
    """Masks with their pieces of background of fewer than `smaller_than` pixels filled.

    Args:
        smaller_than: None for any size, which makes sense only for holes inside a tile.
        connectivity: 4 makes background hang together by sides alone. Salt does by corners too, so a diagonal line of
            salt parts the background on both of its sides; were both to pass through corners, each would cut through
            the other (Rosenfeld 1970, section 2). 8 is what a plain call of the public kernels' library does.
        at_border: whether pieces at the tile's border count, which may go on beyond it.

    Source: the 28th place (small pieces of either kind); the 14th and BloodAxe (holes of any size inside a tile).
    """
    assert smaller_than is not None or not at_border, "the background itself would be filled"
    size = smaller_than or masks[:1].size + 1
    return masks | _small_pieces(masks == 0, smaller_than=size, connectivity=connectivity, at_border=at_border)


def gate_by_has_salt(masks: Masks, has_salt: NDArray[np.floating[Any]], *, cut: float) -> Masks:
    """Masks, empty where the tile's probability of holding any salt, (n,), is below the cut.

    Source: the 14th place and BloodAxe, cut 0.5.
    """
    return np.where((has_salt < cut)[:, None, None], np.uint8(0), masks)


def empty_constant(masks: Masks, images: NDArray[np.uint8]) -> Masks:
    """Masks, empty where the image (n, h, w) has one grey value: all such training tiles are.

    Source: the 1st place of the TGS competition (b.e.s.).
    """
    return np.where(is_constant(images)[:, None, None], np.uint8(0), masks)


def empty_full(masks: Masks) -> Masks:
    """Masks, empty where all of the tile is salt: no training tile is.

    Source: the 14th place of the TGS competition (lRomul).
    """
    return np.where((masks.min(axis=(1, 2)) > 0)[:, None, None], np.uint8(0), masks)


def _require_known(names: Collection[str], edits: Sequence[Edit]) -> None:
    known = [edit.name for edit in edits]
    listed = ", ".join(known) or "none"
    raise_if_any(
        Fault(name, f"expected the name of an edit that is there ({listed})") for name in names if name not in known
    )


def _reason_against(edit: Edit, *, score: float | None, without: Collection[str]) -> str:
    """Why an edit is not applied; empty if it is."""
    if edit.name in without:
        return "switched off"
    if edit.only_if_score_below is None:
        return ""
    assert score is not None, f"{edit.name} asks for the score of the predictions"
    if score < edit.only_if_score_below:
        return ""
    return f"the score before any edit, {score:.4f}, is not below {edit.only_if_score_below:g}"


def _change(masks: Masks, edit: Edit, tiles: Prediction) -> NDArray[np.int64]:
    """Edit masks in place; gives how many pixels of each tile changed, (n,)."""
    changed = np.zeros(len(tiles), np.int64)
    for rows in _chunks(len(tiles)):
        edited = edit.change(masks[rows], tiles.take(rows))
        changed[rows] = (edited != masks[rows]).sum(axis=(1, 2))
        masks[rows] = edited
    return changed


def _sizes(
    by_size: Callable[[Masks, int], Masks], masks: Masks, truth: Masks | None, *, known: int | None
) -> tuple[NDArray[np.int64], int]:
    """The size of pieces for each tile, (n,), and for tiles to come."""
    if truth is None:
        assert known is not None, "a tuned size needs what was found on out-of-fold tiles"
        return np.full(len(masks), known), known
    scores = np.stack([mask_scores(by_size(masks, size), truth) for size in SIZES])
    sizes = np.empty(len(masks), np.int64)
    for own, others in crossed_parts(len(masks)):
        sizes[own] = SIZES[int(scores[:, others].mean(1).argmax())]
    return sizes, SIZES[int(scores.mean(1).argmax())]


def _change_by_size(
    masks: Masks, by_size: Callable[[Masks, int], Masks], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Edit masks in place, each by its own size; gives how many pixels of each tile changed, (n,)."""
    changed = np.zeros(len(masks), np.int64)
    for size in np.unique(sizes).tolist():
        every = np.flatnonzero(sizes == size)
        for chunk in _chunks(len(every)):
            rows = every[chunk]
            edited = by_size(masks[rows], size)
            changed[rows] = (edited != masks[rows]).sum(axis=(1, 2))
            masks[rows] = edited
    return changed


def _small_pieces(
    inside: NDArray[np.bool_], *, smaller_than: int, connectivity: Connectivity, at_border: bool
) -> NDArray[np.uint8]:
    """1 on connected pieces of fewer than `smaller_than` pixels: (n, h, w)."""
    found = np.zeros(inside.shape, np.uint8)
    # One call labels many tiles: in a stack of planes, pieces do not hang together from one plane to the next.
    touching = np.zeros((3, 3, 3), np.bool_)
    touching[1] = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    for rows in _chunks(len(inside)):
        filled = inside[rows].any(axis=(1, 2))
        labels, num_pieces = ndimage.label(inside[rows][filled], structure=touching)
        small = np.bincount(labels.ravel(), minlength=num_pieces + 1) < smaller_than
        small[0] = False
        if not at_border:
            small[np.unique(np.concatenate([labels[:, [0, -1], :].ravel(), labels[:, :, [0, -1]].ravel()]))] = False
        found[rows][filled] = small[labels]
    return found


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))
