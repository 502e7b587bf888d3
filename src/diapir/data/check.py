"""What is in a set of tiles, in figures and in a picture."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from diapir.data.check_picture import draw_check
from diapir.data.tiles import DataSet, TileSet, coverage_classes
from diapir.runs import require_outside_results, write_json

_TINY_PIXELS = (5, 10, 20, 50, 100)
_MOST_NAMED = 5


def check_data(data: DataSet, out: Path | None) -> dict[str, Any]:
    """Print and, with `out`, write what is in a data set: `check.json` has the figures, `check.png` draws them.

    Args:
        out: folder for the two files; None to write none.

    Returns:
        the figures of `describe_data`.
    """
    if out:
        require_outside_results(out)
    figures = describe_data(data)
    # Written first, for the reader of what is printed may leave early (`diapir data check DATA | head`).
    if out:
        draw_check(data, figures, out / "check.png")
        write_json(out / "check.json", figures)
    _print_figures(figures, Console())
    return figures


def describe_data(data: DataSet) -> dict[str, Any]:
    """Figures of a data set as plain JSON values: tiles, depths, coverage; constant, double, vertical and tiny ones."""
    return {
        "digest": data.digest,
        "source": data.record.get("source"),
        "skipped": len(data.record.get("skipped", ())),
        "labelled": _describe_images(data.labelled),
        "unlabelled": _describe_images(data.unlabelled),
        "masks": _describe_masks(data.labelled),
        "duplicates": _describe_duplicates(data),
    }


def are_constant(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images have one grey everywhere: (n,)."""
    return np.asarray(images.max(axis=(1, 2)) == images.min(axis=(1, 2)))


def are_vertical(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which masks have the same row everywhere, and are neither empty nor full: (n,)."""
    is_same = (masks == masks[:, :1]).all(axis=(1, 2))
    area = (masks[:, 0] == 1).sum(axis=1, dtype=np.int64)
    return np.asarray(is_same & (area > 0) & (area < masks.shape[2]))


def duplicate_groups(data: DataSet) -> list[tuple[str, ...]]:
    """Ids of tiles whose images are equal in every pixel, labelled and unlabelled together; constant ones left out."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for tiles in (data.labelled, data.unlabelled):
        for tile, image, is_constant in zip(tiles.ids, tiles.images, are_constant(tiles.images), strict=True):
            if not is_constant:
                groups[image.tobytes()].append(tile)
    return [tuple(ids) for ids in groups.values() if len(ids) > 1]


def _describe_images(tiles: TileSet) -> dict[str, Any]:
    known_m = tiles.depths_m[~np.isnan(tiles.depths_m)]
    quantiles = np.quantile(known_m, (0, 0.25, 0.5, 0.75, 1)).tolist() if len(known_m) else None
    return {
        "tiles": len(tiles),
        "constant": int(are_constant(tiles.images).sum()) if len(tiles) else 0,
        "mean_grey": round(float(tiles.images.mean()), 2) if len(tiles) else None,
        "without_depth": len(tiles) - len(known_m),
        "depth_m_quantiles_0_25_50_75_100": quantiles,
    }


def _describe_masks(tiles: TileSet) -> dict[str, Any]:
    assert tiles.masks is not None
    area = (tiles.masks == 1).sum(axis=(1, 2), dtype=np.int64)
    pixels = tiles.masks.shape[1] * tiles.masks.shape[2]
    classes = np.bincount(coverage_classes(tiles.masks), minlength=11)
    is_constant = are_constant(tiles.images)
    return {
        "empty": int((area == 0).sum()),
        "full": int((area == pixels).sum()),
        "largest_pixels": int(area.max(initial=0)),
        "coverage_classes": classes.tolist(),
        "tiny": {f"1-{most}": int(((area > 0) & (area <= most)).sum()) for most in _TINY_PIXELS},
        "vertical": int(are_vertical(tiles.masks).sum()),
        "salt_in_constant_images": int((area[is_constant] > 0).sum()),
    }


def _describe_duplicates(data: DataSet) -> dict[str, Any]:
    groups = duplicate_groups(data)
    labelled = set(data.labelled.ids)
    row = {tile: number for number, tile in enumerate(data.labelled.ids)}
    masks = data.labelled.masks
    assert masks is not None
    across, contradictory = [], []
    for ids in groups:
        own = [row[tile] for tile in ids if tile in labelled]
        if 0 < len(own) < len(ids):
            across.append(ids)
        if len(own) > 1 and (masks[own] != masks[own[0]]).any():
            contradictory.append(ids)
    return {
        "groups": len(groups),
        "tiles": sum(len(ids) for ids in groups),
        "groups_across_labelled_and_unlabelled": len(across),
        "groups_with_masks_that_differ": len(contradictory),
        "ids": [list(ids) for ids in groups],
    }


def _print_figures(figures: dict[str, Any], console: Console) -> None:
    table = Table("", "labelled", "unlabelled", title="tiles", title_justify="left")
    for title, key in (("tiles", "tiles"), ("constant images", "constant"), ("without depth", "without_depth")):
        table.add_row(title, *(f"{figures[part][key]:,}" for part in ("labelled", "unlabelled")))
    depths = [figures[part]["depth_m_quantiles_0_25_50_75_100"] for part in ("labelled", "unlabelled")]
    shown = (f"{found[0]:g} to {found[4]:g} (median {found[2]:g})" if found else "-" for found in depths)
    table.add_row("depth, m", *shown)
    console.print(table)

    masks, tiles = figures["masks"], max(figures["labelled"]["tiles"], 1)
    table = Table("", "tiles", "share", title="masks of the labelled tiles", title_justify="left")
    rows = [("empty", masks["empty"]), ("full", masks["full"]), ("vertical (all rows alike)", masks["vertical"])]
    rows += [(f"{pixels} salt pixels", count) for pixels, count in masks["tiny"].items()]
    rows += [
        (f"coverage class {number}" + (f" (up to {number * 10} %)" if number else " (no salt)"), count)
        for number, count in enumerate(masks["coverage_classes"])
    ]
    rows.append(("salt in a constant image", masks["salt_in_constant_images"]))
    for title, count in rows:
        table.add_row(title, f"{count:,}", f"{count / tiles:.2%}")
    console.print(table)

    doubles = figures["duplicates"]
    across, differ = doubles["groups_across_labelled_and_unlabelled"], doubles["groups_with_masks_that_differ"]
    console.print(
        f"duplicate images: {doubles['tiles']} tiles in {doubles['groups']} groups "
        f"({across} across labelled and unlabelled, {differ} whose masks differ)"
    )
    for ids in doubles["ids"][:_MOST_NAMED]:
        console.print(f"  {', '.join(ids)}", highlight=False, markup=False)
    if len(doubles["ids"]) > _MOST_NAMED:
        console.print(f"  and {len(doubles['ids']) - _MOST_NAMED} groups more")
    if figures["skipped"]:
        console.print(f"{figures['skipped']} faults were skipped when the tiles were read")
