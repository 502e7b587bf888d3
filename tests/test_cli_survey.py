"""The commands of `diapir survey`, and what faults tell people to do with them."""

import ast
import errno
import io
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import diapir
from diapir.cli import app
from diapir.faults import InputError
from diapir.volume import check_fit, segment
from diapir.volume import survey_train as step
from diapir.volume.check_fit import Fit
from diapir.volume.gate import Verdict
from diapir.volume.ingest import ingest
from diapir.volume.synthetic_survey import make_survey
from fake_command import Command
from fake_salt import smeared, write_salt
from fake_stores import shuffled_segy

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


@pytest.mark.parametrize("words", [("survey", "info", "FILE"), ("score", "FILE", "FILE")])
def test_a_file_that_may_not_be_read_is_told_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diapir: Command, words: tuple[str, ...]
) -> None:
    file = tmp_path / "survey.sgy"
    file.write_bytes(bytes(4000))
    opened, access = io.open, os.access

    def closed(path: Any, *arguments: Any, **options: Any) -> Any:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    # Root may read anything.
    monkeypatch.setattr(io, "open", closed)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file and access(path, mode))
    answer = diapir(*(str(file) if word == "FILE" else word for word in words))
    assert answer.status == 2
    assert re.fullmatch(rf"error: {file}: .*Permission denied\)?\n", answer.err)


def test_options_that_messages_name_exist() -> None:
    known = {*options_of(typer.main.get_command(app)), "--help", *OTHERS}
    files = sorted(
        set(SOURCES.rglob("*.py")) - {SOURCES / "review" / "report" / "style.py"}
    )  # a style sheet's own names
    named = {str(file.relative_to(SOURCES)): named_in(file) - known for file in files}
    assert not {file: names for file, names in named.items() if names}


@pytest.mark.parametrize("command", ["check", "segment"])
def test_how_a_survey_is_looked_at_is_handed_on(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    given: dict[str, Any] = {}

    def keep(*_: object, **options: Any) -> Any:
        given.update(options)
        return Fit(Verdict("fit", ()), ()) if command == "check" else ""

    monkeypatch.setattr(check_fit, "check_fit", keep)
    monkeypatch.setattr(segment, "segment", keep)
    options = ["--resample", "2.5", "--limit", "7", "--flip-polarity", "--out", "out"]
    assert CliRunner().invoke(app, ["survey", command, "s.zarr", "--model", "model", *options]).exit_code == 0
    assert (given["resample"], given["limit"], given["flip_polarity"]) == (2.5, 7, True)


@pytest.mark.parametrize("limit", ["0", "7"])
def test_workers_are_started_only_for_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, diapir: Command, limit: str
) -> None:
    began: list[int] = []

    @contextmanager
    def workers(count: int, **_: object) -> Iterator[int]:
        began.append(count)
        yield count

    def find(*_: object, limit: float, do_strips: Any, **options: object) -> str:
        if not limit:
            raise InputError.of("--limit", "expected more than 0")
        assert [*do_strips(["a"]), *do_strips(["b"])] == ["a", "b"]
        return "found"

    monkeypatch.setattr("diapir.pipeline.side_by_side.local_workers", workers)
    monkeypatch.setattr("diapir.volume.segment_on_dask.strips_by", lambda crew: iter)
    monkeypatch.setattr(segment, "segment", find)
    words = ("survey", "segment", "s.zarr", "--model", "model", "--out", "out", "--limit", limit, "--workers")
    assert diapir(*words, "3").status == (0 if began else 2) == (2 if limit == "0" else 0)
    assert began == [3] * (limit == "7")
    assert diapir(*words, "100000").status == 2


def test_labels_in_segy_are_read_as_the_options_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(step, "survey_train", lambda *paths, **options: given.update(options))
    recipe = SOURCES.parents[1] / "recipes" / "survey.yaml"
    needed = ["survey", "train", "s.zarr", "--labels", "labels", "--recipe", str(recipe), "--out", str(tmp_path)]
    options = ["--order", "little", "--format", "ieee32", "--inline-byte", "9", "--crossline-byte", "21"]
    assert CliRunner().invoke(app, [*needed, *options]).exit_code == 0
    asked = {"order": "little", "stored": "ieee32", "num_samples": None, "interval_us": None}
    assert given["of_segy"] == {"asked": asked, "inline_byte": 9, "crossline_byte": 21}


@contextmanager
def small_disk(most_bytes: int) -> Iterator[None]:
    """No file can be longer, which is what a full disk is to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_bytecode = not sys.dont_write_bytecode
    # Python would keep what it could write of a module, and fail over it from then on.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = not writes_bytecode


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SEG-Y file, its store, and salt that was found in another survey."""
    folder = tmp_path_factory.mktemp("sources")
    ingest(shuffled_segy(folder), folder / "survey.zarr")
    write_salt(folder / "salt.zarr", smeared(make_survey(inlines=20, crosslines=24, samples=80, seed=5)))
    return folder


@pytest.mark.parametrize("most_bytes", [0, 700, 5000])
@pytest.mark.parametrize(
    "words",
    [
        ("info", "{sources}/fake.sgy", "--out", "{out}/info"),
        ("ingest", "{sources}/fake.sgy", "{out}/survey.zarr"),
        ("export", "{sources}/survey.zarr", "{out}/survey.sgy"),
        ("surfaces", "{sources}/salt.zarr", "--out", "{out}/surfaces"),
        ("synthetic", "{out}/made.sgy", "--inlines", "60", "--crosslines", "40", "--labels", "{out}/labels"),
    ],
    ids=lambda words: words[0],
)
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(
    diapir: Command, sources: Path, tmp_path: Path, words: tuple[str, ...], most_bytes: int
) -> None:
    given = [word.format(sources=sources, out=tmp_path / "out") for word in words]
    before = sorted(sources.rglob("*"))
    with small_disk(most_bytes):
        answer = diapir("survey", *given)
    assert answer.status == 2
    assert re.fullmatch(rf"error: {tmp_path}/out/\S+: File too large", answer.err.splitlines()[-1])
    assert "Traceback" not in answer.err
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert sorted(sources.rglob("*")) == before
    assert diapir("survey", *given).status == 0
