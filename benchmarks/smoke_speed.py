"""How long `diapir run --smoke` takes for every recipe of tiles: every step of it, on a few of them.

    python benchmarks/smoke_speed.py SOURCE [RECIPE...]

SOURCE is the competition's download in any form that `diapir data tgs` takes; it is prepared once. Each recipe runs in
a process of its own, as a person would start it, once; goal: under 3 minutes each on two cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from diapir.recipe.files import read_recipe
from rounds import heading, seconds, table

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
OF_SURVEYS = "survey.yaml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("recipes", type=Path, nargs="*")
    asked = parser.parse_args()
    recipes = asked.recipes or [path for path in sorted(RECIPES.glob("*.yaml")) if path.name != OF_SURVEYS]
    rows = [["recipe", "seconds", "goal"]]
    with tempfile.TemporaryDirectory() as name:
        _diapir("data", "tgs", asked.source, Path(name) / "tiles")
        for recipe in recipes:
            data = ["--data", Path(name) / "tiles"] if read_recipe(recipe).data.synthetic is None else []
            arguments = ["run", recipe, "--smoke", "--out", Path(name) / recipe.stem, *data]
            rows.append([recipe.stem, f"{seconds(partial(_diapir, *arguments)):.0f}", "180"])
    print(heading(threads=os.cpu_count() or 1))
    print(table(rows))


def _diapir(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "diapir", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
