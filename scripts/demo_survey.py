"""A made survey from SEG-Y to SEG-Y: what docs/surveys/first-survey.md describes, command by command.

`make demo-survey` runs it. What a command has written is kept: given again, the demo goes on where it was stopped.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIAPIR = ROOT / ".venv" / "bin" / "diapir"
STEPS = (
    ("survey.sgy", "survey synthetic survey.sgy --labels labels --truth truth.sgy"),
    ("survey-info", "survey info survey.sgy"),
    ("survey.zarr", "survey ingest survey.sgy survey.zarr"),
    ("run/record.json", f"survey train survey.zarr --labels labels --recipe {ROOT / 'recipes/survey.yaml'} --out run"),
    ("model", "bundle run model"),
    ("check", "survey check survey.zarr --model model --out check"),
    ("", "survey segment survey.zarr --model model --out salt.zarr"),
    ("salt.sgy", "survey export salt.zarr salt.sgy"),
    ("surfaces", "survey surfaces salt.zarr --out surfaces"),
)
"""What shows that a command is done, and the command."""


def main() -> int:
    """Run what is not done yet; the exit status is that of the first command that fails."""
    parser = argparse.ArgumentParser(description="Find salt in a made survey.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for done, command in STEPS:
        if done and (folder / done).exists():
            continue
        words = shlex.split(command)
        if words[:2] == ["survey", "train"] and (folder / "run").exists():
            words.append("--resume")
        print(f"== diapir {command}", flush=True)
        if status := subprocess.run([DIAPIR, *words], cwd=folder, check=False).returncode:
            return status
    pictures = (folder / name for name in ("survey-info/info.png", "surfaces/section.png", "surfaces/top.png"))
    print(f"== pictures: {', '.join(map(str, pictures))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
