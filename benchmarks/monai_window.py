"""A survey's inlines through MONAI's sliding window, with a net of ours; the volume is in memory, and so is the result.

    python benchmarks/monai_window.py SURVEY RUN [--serve]

As a script it does nothing else, so that its memory can be measured; or it does it as often as it is asked, and tells
how long it took, in a process without the settings that `diapir` gives its own. Needs MONAI: pip install --no-deps
monai
"""

import sys

from diapir.processor import tune_process

if __name__ == "__main__" and "--serve" not in sys.argv:
    tune_process()

from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from diapir.pipeline.bundle import open_model
from diapir.pipeline.survey_tiles import Predict, tile_predictor
from diapir.volume.greys import to_grey
from diapir.volume.segment import precision_of
from diapir.volume.store import STRIP, open_store, read_volume
from diapir.volume.tiling import plan_tiling
from rounds import seconds, serve

TILE, OVERLAP = 101, 25


def greys_of(survey: Path) -> torch.Tensor:
    """A survey as nets see it: (inlines, 1, samples, crosslines), read strip by strip into the one array."""
    store = open_store(survey)
    lines, traces, samples = store.grid.shape
    greys = torch.empty((lines, 1, samples, traces))
    for first in range(0, lines, STRIP):
        amplitude = read_volume(store, "amplitude", inlines=slice(first, min(first + STRIP, lines)))
        strip = to_grey(amplitude.transpose(0, 2, 1), limit=store.facts["amplitude"]["limit"])
        greys[first : first + STRIP, 0] = torch.from_numpy(strip)
    return greys


def found_by_monai(greys: torch.Tensor, predict: Predict, *, batch: int) -> torch.Tensor:
    """Probabilities, in the shape of `greys`.

    Windows weigh as our tiles do, and lie where these lie if both sides are a tile and whole steps.
    """
    tiling = plan_tiling((greys.shape[2], greys.shape[3]), tile=(TILE, TILE), overlap=(OVERLAP, OVERLAP))
    nowhere = np.full(batch, np.nan, np.float32)

    def windows(tiles: torch.Tensor) -> torch.Tensor:
        found = predict(tiles[:, 0].numpy().astype(np.uint8), nowhere[: len(tiles)])
        return torch.from_numpy(found.mean)[:, None]

    weights = torch.from_numpy(tiling.weights.astype(np.float32))
    found: torch.Tensor = sliding_window_inference(
        greys, (TILE, TILE), batch, windows, overlap=OVERLAP / TILE, roi_weight_map=weights
    )
    return found


if __name__ == "__main__":
    made = open_model(Path(sys.argv[2]))
    predictor = tile_predictor(made, precision=precision_of(made))
    if "--serve" in sys.argv:
        volume = greys_of(Path(sys.argv[1]))
        serve(lambda asked: {"seconds": seconds(lambda: found_by_monai(volume, predictor, batch=asked["batch"]))})
    else:
        found_by_monai(greys_of(Path(sys.argv[1])), predictor, batch=64)
