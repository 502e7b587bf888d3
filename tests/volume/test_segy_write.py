import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import segyio  # type: ignore[import-untyped]  # it ships no types

from diapir.faults import InputError
from diapir.volume.geometry import coordinates, find_geometry
from diapir.volume.segy import Segy, file_header, header_values, open_segy, raw_headers, samples, trailer
from diapir.volume.segy_format import FORMATS, ORDERS, Order, SampleFormat
from diapir.volume.segy_headers import TRACE_FIELDS, new_file_header, new_trace_headers
from diapir.volume.segy_write import Block, write_segy
from fake_segy import fake_segy, grid_traces, write

TRACES = grid_traces()
TRUTH = np.array([trace.samples for trace in TRACES], np.float32)


def blocks_of(segy: Segy, *, size: int = 7) -> Iterator[Block]:
    for start in range(0, segy.num_traces, size):
        rows = slice(start, start + size)
        yield raw_headers(segy, rows), samples(segy, rows)


def written_again(segy: Segy, path: Path) -> bytes:
    layout = segy.layout
    count = write_segy(
        path,
        file_header=file_header(segy),
        blocks=blocks_of(segy),
        trailer=trailer(segy),
        stored=layout.stored,
        order=layout.order,
    )
    assert count == segy.num_traces
    return path.read_bytes()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
def test_a_file_that_is_written_again_is_the_same_byte_for_byte(
    tmp_path: Path, stored: SampleFormat, order: Order
) -> None:
    text = b"\x40" * 3200
    fields = {(3507, 4): 1, (3529, 4): 1}
    how = {"code": stored.code, "order": order, "revision": (2, 0), "more_texts": [text], "more_headers": 1}
    content = fake_segy(TRACES, **how, fields=fields, trailer=b"T" * 3200)  # type: ignore[arg-type]
    segy = open_segy(write(tmp_path, content))
    assert written_again(segy, tmp_path / "again.sgy") == content


@pytest.mark.parametrize("name", ["f3.sgy", "f3-withdead.sgy", "volve10r12-full-twt-arb.sgy"])
def test_a_real_file_that_is_written_again_is_the_same_byte_for_byte(
    tmp_path: Path, segy_folder: Path, name: str
) -> None:
    segy = open_segy(segy_folder / name)
    assert written_again(segy, tmp_path / "again.sgy") == segy.path.read_bytes()


def test_only_samples_change(tmp_path: Path) -> None:
    segy = open_segy(write(tmp_path, fake_segy(TRACES, code=1)))
    changed = np.random.default_rng(0).normal(size=TRUTH.shape).astype(np.float32)
    path = tmp_path / "changed.sgy"
    blocks = [(raw_headers(segy, slice(None)), changed)]
    write_segy(path, file_header=file_header(segy), blocks=blocks, stored=segy.layout.stored, order="big")
    again = open_segy(path)
    assert file_header(again) == file_header(segy)
    assert np.array_equal(raw_headers(again, slice(None)), raw_headers(segy, slice(None)))
    # An IBM float has at least 21 bits.
    assert (np.abs(samples(again, slice(None)) - changed) <= np.abs(changed) * 2.0**-21).all()


@pytest.mark.parametrize(("value", "format_name"), [(np.nan, "ibm32"), (np.inf, "int16"), (200.0, "int8")])
def test_samples_that_a_format_cannot_hold_are_refused_and_leave_no_file(
    tmp_path: Path, value: float, format_name: str
) -> None:
    stored = next(found for found in FORMATS.values() if found.name == format_name)
    headers, values = np.zeros((20, 240), np.uint8), TRUTH.copy()
    values[13, 2] = value
    blocks = [(headers[:10], values[:10]), (headers[10:], values[10:])]
    with pytest.raises(InputError, match=rf"out\.sgy: traces 11 to 20: expected .*{format_name}"):
        write_segy(tmp_path / "out.sgy", file_header=bytes(3600), blocks=blocks, stored=stored, order="big")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_other_bytes_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(handle: int) -> None:
        os.pwrite(handle, b"\xff", 5000)

    segy = open_segy(write(tmp_path, fake_segy(TRACES)))
    path = tmp_path / "out.sgy"
    path.write_bytes(b"as before")
    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(InputError, match="the disk cannot be relied on"):
        written_again(segy, path)
    assert path.read_bytes() == b"as before"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("interval_us", [4000.0, 62.5, 40_000.0])
def test_a_new_file_is_what_it_was_made_of(
    tmp_path: Path, stored: SampleFormat, order: Order, interval_us: float
) -> None:
    inline, crossline = (grid.ravel() for grid in np.mgrid[10:14, 20:25])
    x, y = 500_000 + 12.5 * inline, 6_000_000.25 - 25.0 * crossline
    make = {"num_samples": 6, "interval_us": interval_us, "order": order}
    headers = [
        new_trace_headers(
            inline=inline[some],
            crossline=crossline[some],
            cdp_x=x[some],
            cdp_y=y[some],
            first_row=some.start,
            **make,  # type: ignore[arg-type]
        )
        for some in (slice(0, 9), slice(9, 20))
    ]
    path = tmp_path / "new.sgy"
    write_segy(
        path,
        file_header=new_file_header(stored=stored, lines=["MADE BY CODE"], **make),  # type: ignore[arg-type]
        blocks=[(headers[0], TRUTH[:9]), (headers[1], TRUTH[9:])],
        stored=stored,
        order=order,
    )
    segy = open_segy(path)
    assert segy.warnings == ()
    assert (segy.layout.order, segy.layout.stored, segy.interval_us) == (order, stored, interval_us)
    assert segy.text.lines[0] == "C 1 MADE BY CODE"
    assert np.array_equal(samples(segy, slice(None)), TRUTH)
    assert header_values(segy, [TRACE_FIELDS["trace_in_file"]])[0].tolist() == list(range(1, 21))
    geometry = find_geometry(segy)
    assert geometry.trace_rows.ravel().tolist() == list(range(20))
    for found, expected in zip(coordinates(segy, geometry), (x, y), strict=True):
        assert np.allclose(found.ravel(), expected, rtol=0, atol=0.005)


def test_a_new_file_is_read_by_another_program(tmp_path: Path) -> None:
    inline, crossline = (grid.ravel() for grid in np.mgrid[10:14, 20:25])
    where = {"cdp_x": inline * 25.0, "cdp_y": crossline * 25.0}
    headers = new_trace_headers(inline=inline, crossline=crossline, num_samples=6, interval_us=4000, **where)
    for stored in (FORMATS["ibm32"], FORMATS["ieee32"], FORMATS["int16"]):
        path = tmp_path / f"{stored.name}.sgy"
        header = new_file_header(num_samples=6, interval_us=4000, stored=stored)
        write_segy(path, file_header=header, blocks=[(headers, TRUTH)], stored=stored, order="big")
        with segyio.open(path) as other:
            assert (other.ilines.tolist(), other.xlines.tolist()) == ([10, 11, 12, 13], [20, 21, 22, 23, 24])
            assert np.array_equal(other.trace.raw[:], TRUTH)


def test_more_samples_than_two_bytes_can_say_are_written_and_read(tmp_path: Path) -> None:
    values = np.arange(140_000, dtype=np.float32).reshape(2, 70_000)
    one = np.ones(2, np.int64)
    where = {"inline": one, "crossline": one * [1, 2], "cdp_x": one * 1.0, "cdp_y": one * 1.0}
    headers = new_trace_headers(num_samples=70_000, interval_us=2000, **where)  # type: ignore[arg-type]
    stored = FORMATS["ieee32"]
    header = new_file_header(num_samples=70_000, interval_us=2000, stored=stored)
    write_segy(tmp_path / "long.sgy", file_header=header, blocks=[(headers, values)], stored=stored, order="big")
    assert np.array_equal(samples(open_segy(tmp_path / "long.sgy"), slice(None)), values)
