"""A survey through a net: our strips over the bare net on ready batches, and MONAI's sliding window over our strips.

    python benchmarks/survey_speed.py [--recipe recipes/tgs-cpu.yaml] [--lines 32] [--tiles 3] [--rounds 5]

Inlines alone are looked at, in tiles that meet where MONAI's do, with the same net, overlap and weights; before
anything is timed, what the two find is compared. Our side is a whole `diapir survey segment`: it reads a store, and
writes probability, disagreement and mask. MONAI's has the volume in memory and leaves its result there; it is timed in
this process, with `diapir`'s settings for memory and threads, and in one of its own without them. Rounds are
interleaved; figures are medians, with the least and the greatest. Needs MONAI: pip install --no-deps monai
"""

from diapir.processor import tune_process

tune_process()

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from diapir.pipeline.bundle import open_model
from diapir.pipeline.survey_tiles import tile_predictor
from diapir.volume.greys import to_grey
from diapir.volume.segment import precision_of, segment
from diapir.volume.store import STRIP, open_store, read_volume
from diapir.volume.tiling import plan_tiling
from made_survey import brief_run, noise_store
from monai_window import OVERLAP, TILE, found_by_monai, greys_of
from rounds import heading, seconds, spread, start_worker, table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tgs-cpu.yaml"))
    parser.add_argument("--lines", type=int, default=32, help="inlines; fewer than 50, so that one way is looked at")
    parser.add_argument("--tiles", type=int, default=3, help="tiles along each side of a section")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    side = TILE + (asked.tiles - 1) * (TILE - OVERLAP)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = brief_run(folder / "run", asked.recipe)
        survey = noise_store(folder / "survey.zarr", (asked.lines, side, side))
        measure(run, survey, folder / "salt.zarr", rounds=asked.rounds)


def measure(run: Path, survey: Path, out: Path, *, rounds: int) -> None:
    """Four sides in turn, and what they took."""
    store, model = open_store(survey), open_model(run)
    predict = tile_predictor(model, precision=precision_of(model))
    lines, traces, samples = store.grid.shape
    tiling = plan_tiling((samples, traces), tile=(TILE, TILE), overlap=(OVERLAP, OVERLAP))
    rows = len({row for row, _ in tiling.places})

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)
        segment(survey, run, out)

    line = read_volume(store, "amplitude", inlines=slice(0, 1))[0, :TILE, :TILE].T
    ready = np.stack([to_grey(line, limit=store.facts["amplitude"]["limit"])] * (STRIP * rows))
    nowhere = np.full(len(ready), np.nan, np.float32)

    def bare() -> None:
        # As many tiles in batches of the same size.
        for _ in range(lines // STRIP * (len(tiling) // rows)):
            predict(ready, nowhere)

    volume = greys_of(survey)

    def peer() -> torch.Tensor:
        return found_by_monai(volume, predict, batch=len(ready))

    own_process = start_worker(str(Path(__file__).with_name("monai_window.py")), str(survey), str(run), "--serve")

    def peer_alone_s() -> float:
        return float(own_process.ask({"batch": len(ready)})["seconds"])

    ours()
    peer_alone_s()
    difference = np.abs(read_volume(open_store(out), "probability").transpose(0, 2, 1) - peer()[:, 0].numpy()).max()
    times = [(seconds(ours), seconds(bare), seconds(peer), peer_alone_s()) for _ in range(rounds)]
    own_process.close()
    own, net, other, alone = (np.array(column) for column in zip(*times, strict=True))
    voxels = lines * traces * samples
    print(heading("monai", "zarr", threads=torch.get_num_threads()))
    print(f"survey     {lines} x {traces} x {samples}, {len(tiling)} tiles a section; {model.recipe.name}")
    print(f"agreement  greatest difference from MONAI's probabilities {difference:.1e} (halves are kept: 4.9e-04)")
    rows_of_table = [["", "million voxels/s", "ours / it"]]
    for title, values in (
        ("diapir survey segment", own), ("bare net", net), ("MONAI", other), ("MONAI, without our settings", alone)
    ):  # fmt: skip
        rows_of_table.append(
            [title, spread((voxels / values / 1e6).tolist()).text(3), spread((values / own).tolist()).text()]
        )
    print(table(rows_of_table))


if __name__ == "__main__":
    main()
