"""The largest mosaics as pictures, with the salt that is known."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from diapir.data.mosaic import Mosaics
from diapir.data.tiles import DataSet
from diapir.runs import atomic_path

_SALT, _LABELLED = "#e4572e", "#1f5c99"
_SHADE = 0.3
# Pixels of a tile; pictures are drawn several times smaller than mosaics.
_OUTLINE, _FRAME = 4, 2
_COLUMNS = 5


def draw_mosaics(data: DataSet, mosaics: Mosaics, path: Path, *, count: int) -> None:
    """Draw the `count` largest mosaics into a PNG: labelled tiles framed, their salt shaded and outlined.

    Args:
        mosaics: of the labelled tiles and then the unlabelled ones.
    """
    count = min(count, int(mosaics.mosaic.max(initial=-1)) + 1)
    rows = max(-(-count // _COLUMNS), 1)
    figure = Figure(figsize=(3.4 * _COLUMNS, 4.2 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for number, cell in enumerate(cells):
        cell.axis("off")
        if number < count:
            cell.imshow(mosaic_canvas(data, mosaics, number=number), interpolation="antialiased")
            cell.set_title(_title(data, mosaics, number=number), fontsize=9)
    figure.suptitle(f"the {count} largest mosaics: labelled tiles framed in blue, their salt in red", fontsize=12)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def mosaic_canvas(data: DataSet, mosaics: Mosaics, *, number: int) -> NDArray[np.uint8]:
    """One mosaic put together, white where it has no tile: uint8 (height, width, 3)."""
    members = np.flatnonzero(mosaics.mosaic == number)
    height, width = data.labelled.images.shape[1:]
    size = (int(mosaics.row[members].max()) + 1) * height, (int(mosaics.column[members].max()) + 1) * width
    canvas = np.full((*size, 3), 255, np.uint8)
    for tile in members.tolist():
        top, left = int(mosaics.row[tile]) * height, int(mosaics.column[tile]) * width
        canvas[top : top + height, left : left + width] = _tile_picture(data, tile)
    return canvas


def _tile_picture(data: DataSet, tile: int) -> NDArray[np.uint8]:
    num_labelled = len(data.labelled)
    if tile >= num_labelled:
        return np.repeat(data.unlabelled.images[tile - num_labelled, :, :, None], 3, axis=2)
    assert data.labelled.masks is not None
    picture = np.repeat(data.labelled.images[tile, :, :, None] / 255, 3, axis=2)
    salt = data.labelled.masks[tile].astype(bool)
    picture[salt] = (1 - _SHADE) * picture[salt] + _SHADE * np.array(to_rgb(_SALT))
    # Where salt leaves the tile there is no outline: whether it ends there is not known.
    picture[salt & ~binary_erosion(salt, iterations=_OUTLINE, border_value=1)] = to_rgb(_SALT)
    frame = np.ones(salt.shape, np.bool_)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    picture[frame] = to_rgb(_LABELLED)
    pixels: NDArray[np.uint8] = np.rint(picture * 255).astype(np.uint8)
    return pixels


def _title(data: DataSet, mosaics: Mosaics, *, number: int) -> str:
    members = np.flatnonzero(mosaics.mosaic == number)
    labelled = int((members < len(data.labelled)).sum())
    return f"mosaic {number}: {len(members)} tiles, {labelled} labelled"
