"""What several test files ask for."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from diapir import cli
from diapir.data.mosaic import Mosaics, find_mosaics
from diapir.data.tgs import read_tgs
from diapir.data.tiles import DataSet, read_data, write_data
from diapir.runs import locked_folder
from fake_command import Answer, Command

# How long an example takes says nothing on a busy machine.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: tiny nets are slower on several, which other test processes may want as well."""
    import torch  # here, for tests of data are quicker without it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def diapir(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """The command line, in this process."""
    monkeypatch.setattr(cli, "tune_process", lambda: None)  # it wants to come before torch
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def answer(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["diapir", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        out, err = capsys.readouterr()
        return Answer(status, out, err)

    yield answer
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tgs_folder() -> Path:
    """The folder of the competition's real files, named by DIAPIR_TGS."""
    return _named_by("DIAPIR_TGS", "the competition's files")


@pytest.fixture(scope="session")
def tgs_data(tgs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """The competition's real tiles, read once for all processes of a test run; not to be changed."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "real-tiles"
    with locked_folder(shared, wait_s=300):
        if not (shared / "set").exists():
            write_data(read_tgs(tgs_folder), shared / "set")
    return read_data(shared / "set")


@pytest.fixture(scope="session")
def tgs_mosaics(tgs_data: DataSet) -> Mosaics:
    """The mosaics of the labelled and then the unlabelled real tiles, found once."""
    return find_mosaics(np.concatenate([tgs_data.labelled.images, tgs_data.unlabelled.images]))


@pytest.fixture(scope="session")
def segy_folder() -> Path:
    """The folder of real SEG-Y files (f3.sgy, f3-withdead.sgy, volve10r12-full-twt-arb.sgy), named by DIAPIR_SEGY."""
    return _named_by("DIAPIR_SEGY", "real SEG-Y files")


def _named_by(variable: str, what: str) -> Path:
    name = os.environ.get(variable)
    if not name:
        pytest.skip(f"needs {what}: set {variable} to their folder")
    return Path(name)
