"""A net before and after it was trained on corrections, scored on the same pixels, and drawn."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from diapir.data.tiles import TILE, UNKNOWN
from diapir.nets.infer import TileTensors, predict_heads
from diapir.pipeline.bundle import Model
from diapir.pipeline.predicting import load_model
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.targets import Target
from diapir.runs import atomic_path
from diapir.train.together import make_fabric
from diapir.volume.tiling import Blend, cut_tiles, plan_tiling

Greys = NDArray[np.uint8]
Floats = NDArray[np.float32]

CUT = 0.5
"""Probability above which a pixel is salt, before and after."""

_OVERLAP = 25
# Blue and orange of Okabe and Ito 2008, which the colour-blind tell apart; shapes differ as well.
_TRUTH, _FOUND = "#0072b2", "#e69f00"


@dataclass(frozen=True)
class Judged:
    """How well a net knew some pixels before and after.

    Args:
        group: `corrected` or `control`.
        learned: whether the net after had them to learn from.
        known: pixels that count.
        iou_before, iou_after: intersection over union of salt; 1 where there is none and none was found.
        right_before, right_after: share of the pixels.
    """

    target: Target
    group: str
    learned: bool
    known: int
    iou_before: float
    iou_after: float
    right_before: float
    right_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def net_says(model: Model, weights: str, pictures: list[Greys], depths_m: list[float]) -> list[Floats]:
    """Probabilities of pictures of any size (rows, columns) by one net of a model.

    Args:
        weights: its file, below the model's folder.
        depths_m: of the top of each, NaN where unknown.

    Raises:
        InputError: the file is damaged.
    """
    member = next(each for each in model.members if any(one.file == weights for one in each.weights))
    fabric = make_fabric(model.recipe.precision, devices=1)
    net, spec = load_model(member.recipe, model.folder / weights)
    net = net.to(fabric.device).eval()
    settings, found = member.recipe.predict, []
    for picture, depth_m in zip(pictures, depths_m, strict=True):
        shape = (picture.shape[0], picture.shape[1])
        tiling = plan_tiling(shape, tile=(TILE, TILE), overlap=(_OVERLAP, _OVERLAP))
        tiles = np.stack(list(cut_tiles(picture, tiling))).astype(np.uint8)
        tensors = TileTensors(torch.from_numpy(tiles).to(fabric.device), None, torch.full((len(tiles),), depth_m))
        batches = predict_heads(
            net, tensors, spec=spec, frame=member.frame, views=settings.views, batch=settings.batch,
            autocast=fabric.autocast,
        )  # fmt: skip
        said = torch.cat([each.mask.cpu() for each in batches]).numpy()
        blend = Blend.empty(tiling)
        for number, tile in enumerate(said):
            blend.add(number, tile)
        found.append(blend.section())
    return found


def judge(target: Target, truth: Mask, before: Floats, after: Floats, *, group: str, learned: bool) -> Judged:
    """Both on the pixels that the truth knows."""
    (iou_before, right_before), (iou_after, right_after) = (_scores(truth, each) for each in (before, after))
    known = int((truth != UNKNOWN).sum())
    return Judged(target, group, learned, known, iou_before, iou_after, right_before, right_after)


def totals(
    truths: Mapping[Target, Mask], before: Mapping[Target, Floats], after: Mapping[Target, Floats]
) -> dict[str, float]:
    """The same over the pixels of all targets together; nothing where there are none."""
    if not truths:
        return {}
    whole = np.concatenate([truth.ravel() for truth in truths.values()])
    found = dict[str, float]()
    for name, said in (("before", before), ("after", after)):
        iou, right = _scores(whole, np.concatenate([said[target].ravel() for target in truths]))
        found |= {f"iou_{name}": iou, f"right_{name}": right}
    return found


def draw_before_after(
    path: Path, greys: Greys, truth: Mask, before: Floats, after: Floats, *, title: str, said: str
) -> None:
    """Three pictures side by side: what is said to be salt, and what the net found before and after.

    Args:
        said: what to call the first.
    """
    figure = Figure(figsize=(10, 10 / 3 * min(max(greys.shape[0] / greys.shape[1], 0.5), 1.5) + 0.6))
    for number, (name, mask, colour) in enumerate(
        ((said, truth == 1, _TRUTH), ("before", before > CUT, _FOUND), ("after", after > CUT, _FOUND))
    ):
        cell = figure.add_subplot(1, 3, number + 1)
        cell.imshow(greys, cmap="gray", vmin=0, vmax=255, aspect="auto")
        if number:
            _outline(cell, truth == 1, truth == UNKNOWN, colour=_TRUTH, dashed=True)
        nowhere = np.zeros(mask.shape, np.bool_)
        _outline(cell, mask, nowhere if number else truth == UNKNOWN, colour=colour, dashed=False)
        cell.set_title(f"{name} (dashed: {said})" if number else name, fontsize=9)
        cell.set_xticks([])
        cell.set_yticks([])
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png", metadata={"Software": None})


def _outline(cell: Axes, mask: NDArray[np.bool_], hidden: NDArray[np.bool_], *, colour: str, dashed: bool) -> None:
    """The rim of a mask, but for where it is hidden."""
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        values, lines = np.ma.masked_where(hidden, mask.astype(float)), "dashed" if dashed else "solid"
        cell.contour(values, [0.5], colors=colour, linewidths=1.5, linestyles=lines)


def _scores(truth: Mask, said: Floats) -> tuple[float, float]:
    """Intersection over union, and share of pixels that are right."""
    known = truth != UNKNOWN
    salt, found = truth[known] == 1, said[known] > CUT
    either = int((salt | found).sum())
    iou = float((salt & found).sum() / either) if either else 1.0
    return round(iou, 4), round(float((salt == found).mean()), 4) if known.any() else 1.0
