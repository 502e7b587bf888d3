"""The commands of `diapir survey`, and what faults tell people to do with them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import diapir
from diapir.cli import app
from diapir.volume import survey_train as step

SOURCES = Path(diapir.__file__).parent
# Of git, dask, uv and the program that downloads weights.
OTHERS = {"--porcelain", "--nthreads", "--preload", "--extra", "--local-dir"}


def options_of(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for each in getattr(command, "commands", {}).values():
        yield from options_of(each)


def named_in(file: Path) -> set[str]:
    """Options in its texts: `--limit` of "give --limit"."""
    texts = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
    return {name for text in texts if isinstance(text, str) for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)}


def test_options_that_messages_name_exist() -> None:
    known = {*options_of(typer.main.get_command(app)), "--help", *OTHERS}
    files = sorted(
        set(SOURCES.rglob("*.py")) - {SOURCES / "review" / "report" / "style.py"}
    )  # a style sheet's own names
    named = {str(file.relative_to(SOURCES)): named_in(file) - known for file in files}
    assert not {file: names for file, names in named.items() if names}


def test_labels_in_segy_are_read_as_the_options_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(step, "survey_train", lambda *paths, **options: given.update(options))
    recipe = SOURCES.parents[1] / "recipes" / "survey.yaml"
    needed = ["survey", "train", "s.zarr", "--labels", "labels", "--recipe", str(recipe), "--out", str(tmp_path)]
    options = ["--order", "little", "--format", "ieee32", "--inline-byte", "9", "--crossline-byte", "21"]
    assert CliRunner().invoke(app, [*needed, *options]).exit_code == 0
    asked = {"order": "little", "stored": "ieee32", "num_samples": None, "interval_us": None}
    assert given["of_segy"] == {"asked": asked, "inline_byte": 9, "crossline_byte": 21}
