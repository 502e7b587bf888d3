"""Strips that others do, where those who hand them out are gone."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from diapir.faults import InputError
from diapir.pipeline.side_by_side import LOST, Crew
from diapir.volume import segment_on_dask
from diapir.volume.segment_on_dask import strips_by
from diapir.volume.segment_strip import Options, Setting, StripJob

SETTING = Setting(
    Path("survey.zarr"),
    Path("run"),
    Path("salt.zarr"),
    "key",
    Options(25, 1.0, False, None, 64, "float32", 1),
    ("inline",),
)


def test_a_scheduler_that_died_while_nothing_ran_is_not_waited_for() -> None:
    def nthreads() -> dict[str, int]:
        raise LOST[0]("gone")

    client = SimpleNamespace(status="connecting", nthreads=nthreads, cancel=lambda futures: None)
    crew = Crew(client, "tcp://host:8786", 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"tcp://host:8786.*connection to the scheduler was lost.*goes on"):
        list(strips_by(crew)([StripJob(SETTING, "inline", 0)]))


def test_workers_that_left_are_missed_once_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([dict[str, int]()] * 5)

    def nthreads() -> dict[str, int]:
        found: dict[str, int] | None = next(looks, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(segment_on_dask, "_PATIENCE_S", 0.0)
    client = SimpleNamespace(status="running", nthreads=nthreads, cancel=lambda futures: None)
    crew = Crew(client, "tcp://host:8786", 1)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        list(strips_by(crew)([StripJob(SETTING, "inline", 0)]))
    told = capsys.readouterr().err
    assert told.count("no worker is left") == 1
    assert "tcp://host:8786" in told
