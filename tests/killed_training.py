"""Train the tiny fold to its end through deaths by SIGKILL; run as a script, for a fork needs a lone thread.

Argument: a folder. In it comes a folder for each of `new_state` and `keep_state`, and in that one for `steps` (it dies
at random steps) and one for `times` (at random moments). Prints how often each was killed, as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from diapir.train import fit
from fake_training import fit_tiny, tiny_recipe

DEATHS_AT_STEPS = 5


def main() -> None:
    torch.set_num_threads(1)
    kills = {}
    for state in ("new_state", "keep_state"):
        for kind in ("steps", "times"):
            name = f"{state}/{kind}"
            kills[name] = train_through_deaths(Path(sys.argv[1]) / name, keep_state=state == "keep_state", kind=kind)
    print(json.dumps(kills))


def train_through_deaths(folder: Path, *, keep_state: bool, kind: str) -> int:
    # Some deaths leave the state of a step or two before, some that of the step itself, some a file half written.
    fit._SAVE_EVERY_S = 0.02 if kind == "steps" else 0.0
    rng = random.Random(kind)
    kills = 0
    while True:
        last_breath = rng.randint(1, 3) if kind == "steps" and kills < DEATHS_AT_STEPS else None
        child = os.fork()
        if child == 0:
            train_and_die(folder, keep_state=keep_state, last_breath=last_breath)
        if kind == "times":
            # Longer and longer, so that the end is reached soon on a slow or busy machine too.
            time.sleep(rng.uniform(0, 0.1 * 1.5**kills))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "training failed"
            return kills
        kills += 1


def train_and_die(folder: Path, *, keep_state: bool, last_breath: int | None) -> None:
    taken: list[int] = []

    def note(step: int) -> None:
        taken.append(step)
        if len(taken) == last_breath:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        fit_tiny(tiny_recipe({"stages.1.keep_state": keep_state}), folder, on_step=note)
        os._exit(0)
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
