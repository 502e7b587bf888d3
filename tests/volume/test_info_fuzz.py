import random
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest

from diapir.faults import InputError
from diapir.volume.info import survey_info
from fake_damage import STRIDES, damaged_segy
from fake_segy import fake_segy, grid_traces, write

GRID = grid_traces(3, 4)
SEEDS = (
    fake_segy(GRID, code=1),
    fake_segy(GRID, code=5, order="little"),
    fake_segy(GRID, code=6, revision=(2, 0), more_headers=1, trailer=b"T" * 3200, fields={(3507, 4): 1, (3529, 4): 1}),
    fake_segy(GRID, code=8, revision=(2, 1), fields={(3297, 4): 0x01020304}),
)
# A grid has up to a million places however few the traces.
MOST_BYTES, LONGEST_S = 100_000_000, 20.0


def told(path: Path, out: Path | None) -> bool:
    """Whether a file could be told of; all that is not refused is whole text."""
    try:
        text = survey_info(path, out)
    except InputError:
        return False
    assert all(line.isprintable() for line in text.split("\n"))
    return True


def fuzz(folder: Path, content: bytes, *, seed: int, times: int, pictures: int, **shape: int) -> int:
    """How many of some damaged files could be told of, in bounded time and memory, and without a warning."""
    rng = random.Random(seed)
    path = write(folder, content)
    # With all that is loaded once.
    assert told(path, folder)
    could = 0
    began = time.process_time()
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(times):
            path.write_bytes(damaged_segy(content, rng, **shape))
            could += told(path, folder if number % (times // pictures) == 0 else None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MOST_BYTES
    assert time.process_time() - began < LONGEST_S
    return could


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_a_damaged_file_is_told_of_or_refused_in_bounded_time_and_memory(tmp_path: Path, seed: int) -> None:
    content = SEEDS[seed]
    header_bytes = 480 if seed == 2 else 240
    stride = header_bytes + 6 * (4, 4, 8, 1)[seed]
    could = fuzz(tmp_path, content, seed=seed, times=40, pictures=2, header_bytes=header_bytes, stride=stride)
    # Both ends are met: neither is everything refused, nor does everything pass.
    assert 5 < could < 39


@pytest.mark.parametrize(("name", "stride"), STRIDES.items())
def test_a_damaged_real_file_is_told_of_or_refused_in_bounded_time_and_memory(
    tmp_path: Path, segy_folder: Path, name: str, stride: int
) -> None:
    content = (segy_folder / name).read_bytes()
    assert 3 < fuzz(tmp_path, content, seed=0, times=20, pictures=1, header_bytes=240, stride=stride) < 20
