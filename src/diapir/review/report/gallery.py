"""Held-out tiles worth a look: the worst, the best, the least sure, and those on which two runs differ most."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN, TileSet, known_alone
from diapir.pipeline.plan import PICTURE
from diapir.review.report.images import (
    ADDED,
    MISSED,
    SALT,
    UNKNOWN_RGB,
    coloured_png,
    file_png,
    scale,
    swatches,
    tinted_png,
)
from diapir.review.report.markup import Html, join, missing, shortened, tag
from diapir.review.report.run import Found, RunView, tile_uncertainty

EACH = 6
"""Tiles of a kind."""

_MASK, _NOT_KNOWN = 1, 2
_RIGHT, _MISSED, _ADDED = 1, 2, 3
_COLOURS = "viridis"


def gallery_part(run: RunView, *, heading: str, each: int = EACH) -> Html:
    """The worst, the best and the least sure tiles, with image, truth, probability, mask and difference.

    Args:
        heading: element of the name of each kind.
        each: tiles of a kind.
    """
    if run.tiles is None or not isinstance(run.found, Found):
        return _without_tiles(run)
    uncertainty = tile_uncertainty(run.found)
    kinds = (
        ("The worst", "the lowest score first, then the most pixels that are wrong", worst(run, each=each)),
        (
            "The best",
            "the highest score first, then the longest boundary, for such tiles are hard",
            best(run, each=each),
        ),
        (
            "The most uncertain",
            "the greatest mean of 4 p (1 - p): 1 where every pixel has a probability of one half",
            np.argsort(-uncertainty, kind="stable")[:each],
        ),
    )
    parts = [_legend()]
    for title, order, rows in kinds:
        tiles = [_tile(run, int(row), float(uncertainty[row])) for row in rows]
        parts += [
            tag(heading, title),
            tag("p", f"In this order: {order}.", class_="soft"),
            tag("div", *tiles, class_="tiles"),
        ]
    return join(parts)


def worst(run: RunView, *, each: int) -> NDArray[np.int64]:
    """Rows of the tiles with the lowest scores, of equal ones those with the most wrong pixels first."""
    return np.lexsort((-_wrong_pixels(run), run.scores))[:each]


def best(run: RunView, *, each: int) -> NDArray[np.int64]:
    """Rows of the tiles with the highest scores, of equal ones those with the longest boundary first."""
    lengths = np.array([int(fact["boundary_px"]) for fact in run.facts])
    return np.lexsort((-lengths, -run.scores))[:each]


def changed_part(first: RunView, second: RunView, *, each: int, is_inner: bool) -> Html:
    """The tiles whose score differs most between two runs, each way, with the masks of both."""
    if first.tiles is None or second.tiles is None:
        run = first if first.tiles is None else second
        return missing(f"{run.name}: {run.why_no_tiles}.")
    rows_of = [{fact["id"]: row for row, fact in enumerate(run.facts)} for run in (first, second)]
    ids = [name for name in rows_of[0] if name in rows_of[1]]
    gains = np.array([second.scores[rows_of[1][name]] - first.scores[rows_of[0][name]] for name in ids])
    order = np.argsort(gains, kind="stable")
    parts = []
    for run, chosen in ((first, order[:each]), (second, order[::-1][:each])):
        own = [row for row in chosen if (gains[row] < 0 if run is first else gains[row] > 0)]
        tiles = [_pair(first, second, ids[row], rows_of, float(gains[row])) for row in own]
        parts.append(tag("h4" if is_inner else "h3", f"{run.name} is better"))
        parts.append(tag("div", *tiles, class_="tiles") if tiles else tag("p", "On no tile."))
    return join(parts)


def _without_tiles(run: RunView) -> Html:
    lack = missing(f"{run.name}: {run.why_no_tiles}.")
    picture = file_png(run.folder / PICTURE)
    if picture is None:
        return lack
    alt = "Worst tiles left and best tiles right, each with image, truth, probability and mask"
    shown = tag(
        "figure",
        tag("figcaption", "What the run drew itself when it ended: its worst and its best tiles with salt."),
        tag("img", src=picture, alt=alt),
    )
    return join([lack, shown])


def _legend() -> Html:
    named = (
        ("salt, in truth and mask", SALT), ("missed", MISSED), ("wrongly called salt", ADDED),
        ("unknown in the truth", UNKNOWN_RGB),
    )  # fmt: skip
    note = "In the difference, salt that was found stays yellow."
    return join([swatches(named), scale("0", "1", colours=_COLOURS, of="probability"), tag("p", note, class_="soft")])


def _wrong_pixels(run: RunView) -> NDArray[np.int64]:
    assert run.tiles is not None and run.tiles.masks is not None and isinstance(run.found, Found)
    counts = np.empty(len(run.facts), np.int64)
    for row, truth in enumerate(run.tiles.masks):
        counts[row] = ((_mask(run, row) != (truth == 1)) & (truth != UNKNOWN)).sum()
    return counts


def _mask(run: RunView, row: int) -> NDArray[np.bool_]:
    assert isinstance(run.found, Found)
    return np.asarray(run.found.final[row] > run.found.final.dtype.type(run.threshold))


def _truth(tiles: TileSet, row: int) -> NDArray[np.uint8]:
    assert tiles.masks is not None
    return np.asarray(tiles.masks[row], np.uint8)


def _kinds(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(np.select([truth == UNKNOWN, truth == 1], [_NOT_KNOWN, _MASK], 0), np.uint8)


def _difference(mask: NDArray[np.bool_], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    is_known, salt = truth != UNKNOWN, truth == 1
    cases = [is_known & mask & salt, is_known & ~mask & salt, is_known & mask & ~salt]
    return np.asarray(np.select(cases, [_RIGHT, _MISSED, _ADDED], 0), np.uint8)


def _difference_shown(
    title: str, image: NDArray[np.uint8], mask: NDArray[np.bool_], truth: NDArray[np.uint8]
) -> tuple[str, str, str]:
    """Title, picture and words of a difference."""
    kinds = _difference(mask, truth)
    missed, added = (int((kinds == kind).sum()) for kind in (_MISSED, _ADDED))
    alt = f"{title}: {missed} pixels missed, {added} wrongly called salt"
    return title, tinted_png(image, kinds, [SALT, MISSED, ADDED]), alt


def _tile(run: RunView, row: int, uncertainty: float) -> Html:
    assert run.tiles is not None and isinstance(run.found, Found)
    image, truth, mask, fact = run.tiles.images[row], _truth(run.tiles, row), _mask(run, row), run.facts[row]
    name = shortened(fact["id"], 60)
    probability = known_alone(np.asarray(run.found.probability[row]), truth)
    shown = (
        ("image", tinted_png(image, np.zeros_like(image), [SALT]), f"image of {name}"),
        ("truth", tinted_png(image, _kinds(truth), [SALT, UNKNOWN_RGB]), f"truth: {(truth == 1).mean():.0%} salt"),
        (
            "probability",
            coloured_png(probability, low=0, high=1, colours=_COLOURS),
            f"probability: {probability.mean(dtype=np.float64):.2f} on the mean",
        ),
        ("mask", tinted_png(image, mask.astype(np.uint8), [SALT]), f"mask: {mask.mean():.0%} salt"),
        _difference_shown("difference", image, mask, truth),
    )
    depth = f", {float(fact['depth_m']):g} m" if fact["depth_m"] else ""
    place = f"coverage class {fact['coverage_class']}{depth}"
    return _figure(name, f"score {float(fact['score']):.1f}, uncertainty {uncertainty:.2f}, {place}", shown)


def _pair(first: RunView, second: RunView, name: str, rows_of: Sequence[dict[str, int]], gain: float) -> Html:
    rows = [places[name] for places in rows_of]
    assert first.tiles is not None
    image, truth = first.tiles.images[rows[0]], _truth(first.tiles, rows[0])
    shown = [
        ("image", tinted_png(image, np.zeros_like(image), [SALT]), f"image of {shortened(name, 60)}"),
        ("truth", tinted_png(image, _kinds(truth), [SALT, UNKNOWN_RGB]), f"truth: {(truth == 1).mean():.0%} salt"),
    ]
    for run, row in zip((first, second), rows, strict=True):
        shown.append(_difference_shown(shortened(run.name, 24), image, _mask(run, row), truth))
    scores = [run.scores[row] for run, row in zip((first, second), rows, strict=True)]
    return _figure(shortened(name, 60), f"scores {scores[0]:.1f} and {scores[1]:.1f}, difference {gain:+.1f}", shown)


def _figure(name: str, text: str, shown: Iterable[tuple[str, str, str]]) -> Html:
    pictures = [tag("li", tag("img", src=uri, alt=alt), title) for title, uri, alt in shown]
    return tag("figure", tag("figcaption", tag("strong", name), text), tag("ul", *pictures), class_="tile")
