"""Train the tiny fold to its end through deaths by SIGKILL; run as a script, for a fork needs a lone thread.

Arguments: a folder, and what is done in it: RECIPE/steps (it dies at random steps) or RECIPE/times (at random moments),
with one of RECIPES. Each has a folder of its name. Prints how often each was killed, as JSON.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from diapir.train import fit, sitting
from fake_training import RESTLESS, fit_tiny, restless_scores, tiny_recipe

DEATHS_AT_STEPS = 5
RECIPES: dict[str, dict[str, Any]] = {
    "new_state": {"stages.1.keep_state": False},
    "keep_state": {"stages.1.keep_state": True},
    "restless": RESTLESS,
}


def main() -> None:
    torch.set_num_threads(1)
    kills = {}
    for name in sys.argv[2:]:
        recipe, kind = name.split("/")
        kills[name] = train_through_deaths(Path(sys.argv[1]) / name, recipe=recipe, kind=kind)
    print(json.dumps(kills))


def train_through_deaths(folder: Path, *, recipe: str, kind: str) -> int:
    # Some deaths leave the state of a step or two before, some that of the step itself, some a file half written.
    sitting.SAVE_EVERY_S = 0.02 if kind == "steps" else 0.0
    rng = random.Random(kind)
    kills = 0
    while True:
        last_breath = rng.randint(1, 3) if kind == "steps" and kills < DEATHS_AT_STEPS else None
        child = os.fork()
        if child == 0:
            train_and_die(folder, recipe=recipe, last_breath=last_breath)
        if kind == "times":
            # Longer and longer, so that the end is reached soon on a slow or busy machine too.
            time.sleep(rng.uniform(0, 0.1 * 1.5**kills))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "training failed"
            return kills
        kills += 1


def train_and_die(folder: Path, *, recipe: str, last_breath: int | None) -> None:
    taken: list[int] = []

    def note(step: int) -> None:
        taken.append(step)
        if len(taken) == last_breath:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        if recipe == "restless":
            pytest.MonkeyPatch().setattr(fit, "score_held_out", restless_scores)
        fit_tiny(tiny_recipe(RECIPES[recipe]), folder, on_step=note)
        os._exit(0)
    finally:
        os._exit(1)


def killed_folders(folder: Path, *names: str) -> Path:
    """The folder, with trainings in it that were killed again and again, in a process of their own."""
    script = [sys.executable, __file__, str(folder), *names]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    assert all(count >= 1 for count in kills.values()), kills
    assert all(count == DEATHS_AT_STEPS for name, count in kills.items() if name.endswith("steps"))
    return folder


if __name__ == "__main__":
    main()
