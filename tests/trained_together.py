"""Train the tiny fold on two processes; run as a script, for the second process is the same command once more.

Argument: a folder. In it comes `whole`, trained without a stop, and `parts`, which is stopped in mid-epoch by a signal
to one of the processes alone, to the first and then to the second, and goes on each time.
"""

import signal
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from diapir.train import fit
from diapir.train.stop import Stopped
from fake_training import STEPS_PER_EPOCH, fit_tiny, tiny_recipe

STOPS = (STEPS_PER_EPOCH - 1, 3 * STEPS_PER_EPOCH - 1)
"""Steps after which a process is asked to stop, each the last but one of its epoch."""


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true", precision="32-true")
    fabric.launch()
    # Together they look up at some steps alone: here at every last but one and last of an epoch.
    fit._LOOK_EVERY_STEPS = STEPS_PER_EPOCH - 1
    fit_tiny(tiny_recipe(), folder / "whole", fabric=fabric)
    for rank, step in enumerate(STOPS):
        stop_one(fabric, folder / "parts", rank=rank, step=step)
        fabric.barrier()
    fit_tiny(tiny_recipe(), folder / "parts", fabric=fabric)


def stop_one(fabric: Fabric, folder: Path, *, rank: int, step: int) -> None:
    taken = [0]

    def asked() -> int | None:
        return signal.SIGTERM if fabric.global_rank == rank and taken[-1] == step - 1 else None

    with pytest.raises(Stopped) as stopped:
        fit_tiny(tiny_recipe(), folder, fabric=fabric, stop_asked=asked, on_step=taken.append)
    assert stopped.value.signal_number == signal.SIGTERM
    assert taken[-1] == step, taken


if __name__ == "__main__":
    main()
