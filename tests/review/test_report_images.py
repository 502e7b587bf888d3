"""Pictures of a page show the pixels that they are made of."""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from diapir.review.report.images import ADDED, LONGEST, MISSED, SALT, coloured_png, data_uri, file_png, tinted_png

RNG = np.random.default_rng(0)
START = "data:image/png;base64,"


def pixels(uri: str) -> NDArray[np.uint8]:
    assert uri.startswith(START)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(START)))).convert("RGB"))


def test_untinted_pixels_keep_their_grey() -> None:
    image = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
    shown = pixels(tinted_png(image, np.zeros_like(image), [SALT]))
    assert np.ptp(shown, axis=2).max() == 0
    assert np.abs(shown[..., 0].astype(int) - image).max() <= 4, "of 64 greys"


def test_tints_can_be_told_apart_and_lean_to_their_colour() -> None:
    image, kinds = np.full((1, 4), 128, np.uint8), np.array([[0, 1, 2, 3]])
    shown = pixels(tinted_png(image, kinds, [SALT, MISSED, ADDED]))[0].astype(int)
    for kind, colour in enumerate((SALT, MISSED, ADDED), 1):
        assert np.abs(shown[kind] - colour).sum() < np.abs(shown[0] - colour).sum()
    assert len({tuple(each) for each in shown.tolist()}) == 4


def test_numbers_take_the_colours_of_the_map_from_end_to_end() -> None:
    values = np.array([[-9.0, 0.0, 0.5, 1.0, 9.0, np.nan, np.inf]])
    shown = pixels(coloured_png(values, low=0, high=1, colours="viridis", nothing=(1, 2, 3)))[0]
    first, middle, last = (np.rint(np.array(colormaps["viridis"](at)[:3]) * 255) for at in (0.0, 0.5, 1.0))
    assert np.abs(shown[:2] - first).max() <= 1
    assert np.abs(shown[2] - middle).max() <= 2
    assert np.abs(shown[3:5] - last).max() <= 1
    assert shown[5:].tolist() == [[1, 2, 3]] * 2


def test_large_pictures_are_thinned() -> None:
    shown = pixels(coloured_png(np.zeros((3 * LONGEST + 1, 5)), low=0, high=1, colours="magma"))
    assert shown.shape[0] <= LONGEST
    assert shown.shape[1] == 5


def test_only_pngs_of_some_size_are_taken_from_files(tmp_path: Path) -> None:
    content = base64.b64decode(coloured_png(np.zeros((2, 2)), low=0, high=1, colours="magma").removeprefix(START))
    (tmp_path / "good.png").write_bytes(content)
    assert file_png(tmp_path / "good.png") == data_uri(content)
    (tmp_path / "page.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "huge.png").write_bytes(content + bytes(4 << 20))
    for name in ("page.png", "huge.png", "absent.png"):
        assert file_png(tmp_path / name) is None
