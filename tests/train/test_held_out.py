"""Scores of tiles of which some pixels are not known."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
from torch import Tensor, nn

from diapir.data.tiles import UNKNOWN
from diapir.losses import mixed_loss
from diapir.nets.framing import Frame, InputSpec
from diapir.nets.unet import Outputs
from diapir.train.held_out import score_held_out
from fake_training import tiny_tiles

SPEC = InputSpec(("image",), levels=((0.7, 0.1),), depth_low_m=0.0, depth_high_m=1.0)


class Brightness(nn.Module):
    """Says salt where it is bright."""

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(image[:, 0], None)


def test_figures_are_those_of_the_known_pixels() -> None:
    tiles = tiny_tiles(9, seed=3)
    assert tiles.masks is not None
    width = tiles.masks.shape[2] // 2
    hidden = tiles.masks.clone()
    hidden[:, :, width:] = UNKNOWN
    known = replace(tiles, images=tiles.images[:, :, :width], masks=tiles.masks[:, :, :width])
    figures = []
    for shown in (replace(tiles, masks=hidden, is_partial=True), known):
        loss = partial(mixed_loss, weights={"bce": 1.0}, is_partial=shown.is_partial)
        figures.append(
            score_held_out(
                Brightness(), shown, spec=SPEC, frame=Frame("native"), batch=4, autocast=nullcontext, loss=loss
            )
        )
    for name in ("score", "held_out_loss", "accuracy"):
        assert figures[0][name] == pytest.approx(figures[1][name]), name
    assert 0 < figures[0]["score"] < 1
