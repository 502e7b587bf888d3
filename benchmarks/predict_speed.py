"""Time of tiles -> submission.csv over the time of the net alone on ready batches: 1 is the speed of the net.

    python benchmarks/predict_speed.py [--recipe recipes/tgs-cpu.yaml] [--tiles 2000] [--rounds 5]

Both sides see each tile plain and flipped with the recipe's net (random weights, so masks are noisier and their
run-length texts longer than real ones). The whole side frames, predicts, averages the views, cuts at the threshold,
encodes and writes the file. Rounds are interleaved; the figure is the median ratio.
"""

from diapir.processor import tune_process

tune_process()

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diapir.nets.build import build_net
from diapir.nets.framing import InputSpec, net_input
from diapir.nets.infer import TileTensors, predict_heads
from diapir.predict.submission import write_submission
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.record import provenance
from diapir.train.sitting import stage_frame


def whole(net: nn.Module, tiles: TileTensors, recipe: Recipe, spec: InputSpec, path: Path) -> None:
    """Tiles to submission, as a run does it."""
    frame = stage_frame(recipe, recipe.stages[-1])
    batches = predict_heads(
        net, tiles, spec=spec, frame=frame, views=("plain", "flip"), batch=recipe.predict.batch, autocast=autocast
    )
    masks = np.concatenate([(batch.mask > 0.5).numpy() for batch in batches])
    write_submission(path, [f"{tile:010x}" for tile in range(len(tiles))], masks.astype(np.uint8))


@torch.inference_mode()
def net_alone(net: nn.Module, batch: torch.Tensor, passes: int) -> None:
    """As many forward passes on one ready batch."""
    with autocast():
        for _ in range(passes):
            net(batch)


def autocast() -> torch.autocast:
    """bfloat16 where this machine multiplies it faster, as runs do."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


def seconds(action: Callable[[], None]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--tiles", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    recipe = read_recipe(asked.recipe)
    torch.manual_seed(0)
    net = build_net(recipe.net, in_channels=len(recipe.input.channels)).to(memory_format=torch.channels_last).eval()
    spec = InputSpec(recipe.input.channels, levels=((0.47, 0.16),), depth_low_m=50, depth_high_m=959)
    count = asked.tiles // recipe.predict.batch * recipe.predict.batch
    images = torch.randint(0, 256, (count, 101, 101), dtype=torch.uint8)
    tiles = TileTensors(images, None, torch.full((count,), 500.0))
    some = images[: recipe.predict.batch].float() / 255
    frame = stage_frame(recipe, recipe.stages[-1])
    ready = net_input(some, tiles.depths_m[: len(some)], spec=spec, frame=frame)
    passes = 2 * count // recipe.predict.batch
    ratios, speeds = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.csv"
        whole(net, tiles, recipe, spec, path)
        for _ in range(asked.rounds):
            one = seconds(lambda: whole(net, tiles, recipe, spec, path))
            other = seconds(lambda: net_alone(net, ready, passes))
            ratios.append(one / other)
            speeds.append(count / one)
    where = provenance()
    print(
        f"{recipe.name}: {count} tiles, two views, {asked.rounds} rounds, {where['processor']}, {where['cores']} cores"
    )
    print(f"tiles/s, whole          median {np.median(speeds):.0f}  min {min(speeds):.0f}  max {max(speeds):.0f}")
    print(f"time whole / net alone  median {np.median(ratios):.3f}  min {min(ratios):.3f}  max {max(ratios):.3f}")


if __name__ == "__main__":
    main()
