"""A survey begins where its live traces do, and is refused where they do not begin together."""

from pathlib import Path

import numpy as np
import pytest

from diapir.faults import InputError
from diapir.volume.geometry import find_geometry
from diapir.volume.info import survey_info
from diapir.volume.ingest import ingest
from diapir.volume.segy import open_segy
from diapir.volume.start_times import Start, find_start
from diapir.volume.store import open_store
from fake_segy import Trace, fake_segy, write


def file_of(folder: Path, delays: list[int], *, kinds: dict[int, int] | None = None, scalar: int = 0) -> Path:
    """A line whose traces have these delays."""
    traces = [
        Trace([1.0, 2.0], 1, 1 + row, {(109, 2): delay, (215, 2): scalar, (29, 2): (kinds or {}).get(row, 1)})
        for row, delay in enumerate(delays)
    ]
    return write(folder, fake_segy(traces))


def first_sample_of(source: Path, out: Path, **options: float) -> float:
    ingest(source, out, **options)  # type: ignore[arg-type]
    return open_store(out).grid.first_sample


@pytest.mark.parametrize(("scalar", "expected"), [(0, 400), (1, 400), (-10, 40), (10, 4000), (77, 400)])
def test_a_delay_is_scaled_as_its_header_says(tmp_path: Path, scalar: int, expected: float) -> None:
    assert first_sample_of(file_of(tmp_path, [400] * 5, scalar=scalar), tmp_path / "out.zarr") == expected


def test_dead_traces_do_not_say_when_a_survey_begins(tmp_path: Path) -> None:
    path = file_of(tmp_path, [0, *[500] * 9], kinds={0: 2})
    assert first_sample_of(path, tmp_path / "out.zarr") == 500
    assert "4 ms, from 500 to 504 ms" in survey_info(path, None)
    assert find_geometry(open_segy(file_of(tmp_path, [7, 7], kinds={0: 2, 1: 2}))).start == Start(7, 7, 7, 1)


def test_a_few_wrong_delays_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path, [*[500] * 199, 3])
    assert first_sample_of(path, tmp_path / "out.zarr") == 500
    assert "note: the delays of live traces (byte 109) go from 3 to 500 ms; 99.5%" in capsys.readouterr().err


def test_traces_that_do_not_begin_together_are_refused_unless_it_is_said_where(tmp_path: Path) -> None:
    path = file_of(tmp_path, [*[0] * 20, *[400] * 30])
    with pytest.raises(InputError, match=r"go from 0 to 400 ms; 60.0% of them are 400 ms; .* --first-sample"):
        ingest(path, tmp_path / "out.zarr")
    assert "go from 0 to 400 ms" in survey_info(path, None)
    assert first_sample_of(path, tmp_path / "out.zarr", first_sample=100.0) == 100
    for beyond in (np.nan, -np.inf, 1e308, -1.1e6):
        with pytest.raises(InputError, match=r"--first-sample: expected a number from .* to 1e\+06, found"):
            ingest(path, tmp_path / "other.zarr", first_sample=beyond)


def test_a_survey_that_begins_elsewhere_is_another(tmp_path: Path) -> None:
    path = file_of(tmp_path, [400] * 5)
    digests = []
    for number, first_sample in enumerate((None, 400.0, 100.0)):
        ingest(path, tmp_path / f"{number}.zarr", first_sample=first_sample)
        digests.append(open_store(tmp_path / f"{number}.zarr").facts["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_files_from_before_scalars_have_none() -> None:
    delay, scalar, nobody = np.full(3, 400), np.full(3, -10), np.zeros(3, np.bool_)
    assert find_start(delay, scalar, is_dead=nobody, has_scalar=False).ms == 400
