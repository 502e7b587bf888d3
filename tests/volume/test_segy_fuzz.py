import random
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from diapir.faults import InputError
from diapir.volume.geometry import coordinates, find_geometry
from diapir.volume.segy import extended_texts, file_header, header_values, open_segy, raw_headers, samples, trailer
from diapir.volume.segy_headers import TRACE_FIELDS
from fake_segy import fake_segy, grid_traces, write

TRACES = grid_traces(3, 4)
END = b"((SEG: EndText))".ljust(3200)
SEEDS = (
    fake_segy(TRACES, code=1),
    fake_segy(TRACES, code=3, order="little"),
    fake_segy(
        TRACES, code=5, revision=(2, 0), more_headers=1, trailer=b"T" * 3200, fields={(3507, 4): 1, (3529, 4): 1}
    ),
    fake_segy(TRACES, code=7, revision=(2, 1), more_texts=[END], fields={(3505, 2): -1, (3297, 4): 0x01020304}),
)
# Where a changed byte changes what the file is, not its samples: the binary header and headers of traces.
TELLING = [*range(3216, 3228), *range(3260, 3300), *range(3500, 3532)] * 3 + [*range(3600, 3840)]
MOST_BYTES, LONGEST_S = 24_000_000, 20.0


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Some bytes or whole numbers changed, and sometimes the end cut off, or more put behind it."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 30))):
        place = rng.choice(TELLING) if rng.random() < 0.8 else rng.randrange(len(changed))
        extreme = rng.choice((b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 8, rng.randbytes(4)))
        changed[place : place + len(extreme)] = extreme
    if rng.random() < 0.2:
        del changed[rng.randrange(len(changed)) :]
    if rng.random() < 0.2:
        changed += rng.randbytes(rng.choice((1, 100, 3200, 10_000)))
    return bytes(changed)


def read_all(path: Path) -> bool:
    """Whether a file could be read; everything in it is read then, and holds together."""
    try:
        segy = open_segy(path)
        values = samples(segy, slice(None))
        assert values.shape == (segy.num_traces, segy.num_samples)
        parts = (file_header(segy), b"".join(trailer(segy)))
        assert sum(map(len, parts)) + segy.num_traces * segy.stride == segy.size == path.stat().st_size
        assert raw_headers(segy, slice(None)).shape == (segy.num_traces, segy.header_bytes)
        assert len(header_values(segy, list(TRACE_FIELDS.values()))) == len(TRACE_FIELDS)
        assert all(line.isprintable() for text in (segy.text, *extended_texts(segy)) for line in text.lines)
        geometry = find_geometry(segy)
        rows = geometry.trace_rows[geometry.trace_rows >= 0]
        assert sorted([*rows, *geometry.duplicates[:, 0]]) == list(range(segy.num_traces))
        assert np.shape(coordinates(segy, geometry)) == (2, *geometry.shape)
    except InputError:
        return False
    return True


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_a_damaged_file_is_read_or_refused_in_bounded_time_and_memory(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = write(tmp_path, SEEDS[seed])
    assert read_all(path)
    could = []
    began = time.process_time()
    tracemalloc.start()
    for _ in range(100):
        path.write_bytes(mutate(SEEDS[seed], rng))
        could.append(read_all(path))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MOST_BYTES
    assert time.process_time() - began < LONGEST_S
    # Both ends are met: neither is everything refused, nor does everything pass.
    assert 5 < sum(could) < 95
