from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diapir.predict.pictures import _worst_and_best, draw_predictions
from fake_masks import blob_masks


def draw(path: Path, truth: NDArray[np.uint8], *, each: int = 2) -> None:
    rng = np.random.default_rng(0)
    draw_predictions(
        path,
        ids=[f"$\\frac{number}$" for number in range(len(truth))],
        images=rng.integers(0, 256, truth.shape, np.uint8),
        truth=truth,
        probability=rng.random(truth.shape, np.float32),
        threshold=0.5,
        scores=rng.random(len(truth)),
        title="threshold 0.5",
        each=each,
    )


@pytest.mark.parametrize(
    "truth",
    [
        blob_masks(8, side=12)[1:],
        np.zeros((5, 12, 12), np.uint8),
        np.ones((1, 12, 12), np.uint8),
        blob_masks(4, side=12)[2:3],
        np.zeros((0, 12, 12), np.uint8),
    ],
    ids=["some", "no salt", "one tile, all salt", "one tile", "no tile"],
)
def test_a_picture_is_drawn_of_any_set(truth: NDArray[np.uint8], tmp_path: Path) -> None:
    draw(tmp_path / "new" / "tiles.png", truth)
    with Image.open(tmp_path / "new" / "tiles.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 100
        assert len(np.unique(np.asarray(picture))) > 10
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tiles.png"]


def test_worst_and_best_are_the_ends_of_the_scores_and_share_no_tile() -> None:
    truth = np.ones((6, 4, 4), np.uint8)
    truth[2] = 0  # no salt: not shown, whatever its score
    scores = np.array([0.5, 0.1, 0.0, 0.9, 0.3, 0.7])
    assert _worst_and_best(truth, scores, each=2) == ([1, 4], [3, 5])
    assert _worst_and_best(truth, scores, each=9) == ([1, 4], [3, 5, 0])


def test_of_equally_good_tiles_the_one_with_the_longest_boundary_is_shown() -> None:
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[0, :4], truth[1, ::2], truth[2] = 1, 1, 1
    assert _worst_and_best(truth, np.ones(3), each=1)[1] == [1]
