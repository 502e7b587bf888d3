import os
import pickle
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segyio  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from diapir.faults import InputError
from diapir.volume import segy as segy_module
from diapir.volume.segy import (
    Segy,
    extended_texts,
    file_header,
    header_values,
    open_segy,
    raw_headers,
    samples,
    trailer,
)
from diapir.volume.segy_format import FORMATS, ORDERS, Order, SampleFormat
from diapir.volume.segy_headers import TRACE_FIELDS, Field
from fake_segy import Trace, fake_segy, grid_traces, pack_samples, write

TRACES = grid_traces()
TRUTH = np.array([trace.samples for trace in TRACES], np.float32)
REAL = ("f3.sgy", "f3-withdead.sgy", "volve10r12-full-twt-arb.sgy")
STRIDE = 240 + 6 * 4


def opened(folder: Path, content: bytes, **asked: Any) -> Segy:
    return open_segy(write(folder, content), **asked)


def faults_of(folder: Path, content: bytes, **asked: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        opened(folder, content, **asked)
    return [str(fault) for fault in caught.value.faults]


def with_fields(traces: Sequence[Trace], fields: dict[tuple[int, int], int]) -> list[Trace]:
    return [replace(trace, fields=dict(trace.fields) | fields) for trace in traces]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
def test_samples_of_every_format_and_order_are_read(tmp_path: Path, stored: SampleFormat, order: Order) -> None:
    segy = opened(tmp_path, fake_segy(TRACES, code=stored.code, order=order))
    assert (segy.layout.order, segy.layout.stored) == (order, stored)
    assert (segy.num_traces, segy.num_samples, segy.interval_us) == (20, 6, 4000)
    assert np.array_equal(samples(segy, slice(None)), TRUTH)
    inlines, rows = header_values(segy, [TRACE_FIELDS["inline"], TRACE_FIELDS["trace_in_file"]])
    assert inlines.tolist() == [trace.inline for trace in TRACES]
    assert rows.tolist() == list(range(1, 21))
    assert (segy.warnings == ()) == (order == "big")


@pytest.mark.parametrize("revision", [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)])
@pytest.mark.parametrize("order", ORDERS)
def test_every_revision_is_read(tmp_path: Path, revision: tuple[int, int], order: Order) -> None:
    segy = opened(tmp_path, fake_segy(TRACES, revision=revision, order=order))
    assert segy.layout.revision == ((1, 0) if revision == (0, 1) else revision)
    assert np.array_equal(samples(segy, slice(None)), TRUTH)


@pytest.mark.parametrize("code", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("order", ORDERS)
def test_another_reader_finds_the_same(tmp_path: Path, code: int, order: Order) -> None:
    segy = opened(tmp_path, fake_segy(TRACES, code=code, order=order))
    with segyio.open(segy.path, ignore_geometry=True, endian=order) as other:
        assert np.array_equal(other.trace.raw[:], samples(segy, slice(None)))
        found = header_values(segy, list(TRACE_FIELDS.values()))
        for wanted, values in zip(TRACE_FIELDS.values(), found, strict=True):
            assert np.array_equal(other.attributes(wanted.byte)[:], values), wanted


@pytest.mark.parametrize("name", REAL)
def test_another_reader_finds_the_same_in_real_files(segy_folder: Path, name: str) -> None:
    segy = open_segy(segy_folder / name)
    with segyio.open(segy.path, ignore_geometry=True) as other:
        assert np.array_equal(other.trace.raw[:], samples(segy, slice(None)))
        for wanted, values in zip(TRACE_FIELDS.values(), header_values(segy, list(TRACE_FIELDS.values())), strict=True):
            assert np.array_equal(other.attributes(wanted.byte)[:], values), wanted
        assert segy.interval_us == segyio.tools.dt(other)
    assert segy.text.encoding == "EBCDIC"


def test_any_rows_in_any_order_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pieces of three traces, so that runs and pieces cross.
    monkeypatch.setattr(segy_module, "_PIECE", 3 * STRIDE)
    monkeypatch.setattr(segy_module, "_MAPPED", 3 * STRIDE)
    segy = opened(tmp_path, fake_segy(TRACES))
    inline = [TRACE_FIELDS["crossline"]]
    crosslines = np.array([trace.crossline for trace in TRACES])
    for chosen in ([], [3], [0, 1, 2, 3, 4, 5, 6, 7], [19, 0, 5, 6, 7, 7, 1], list(range(0, 20, 5))):
        rows = np.array(chosen, np.int64)
        assert np.array_equal(samples(segy, rows), TRUTH[rows])
        assert np.array_equal(header_values(segy, inline, rows=rows)[0], crosslines[rows])
        assert np.array_equal(raw_headers(segy, rows)[:, 192:196].copy().view(">i4")[:, 0], crosslines[rows])
    for part in (slice(None), slice(4, 11), slice(18, 50), slice(7, 7), slice(-2, None)):
        assert np.array_equal(samples(segy, part), TRUTH[part])
        assert np.array_equal(header_values(segy, inline, rows=part)[0], crosslines[part])


def test_every_byte_of_a_file_is_in_one_of_its_parts(tmp_path: Path) -> None:
    text = "((SEG: Note)) more".ljust(3200).encode("cp037")
    fields = {(3529, 4): 2, (3507, 4): 1}
    content = fake_segy(TRACES, revision=(2, 0), more_texts=[text], more_headers=1, trailer=b"x" * 6400, fields=fields)
    segy = opened(tmp_path, content)
    raw = raw_headers(segy, slice(None))
    assert raw.shape == (20, 480)
    body = b"".join(
        header.tobytes() + pack_samples(trace.samples, code=5, order="big")
        for header, trace in zip(raw, TRACES, strict=True)
    )
    assert file_header(segy) + body + b"".join(trailer(segy)) == content
    assert [found.lines for found in extended_texts(segy)] == [("((SEG: Note)) more",)]
    assert segy.warnings == ()


def test_a_file_can_be_sent_to_another_process(tmp_path: Path) -> None:
    segy = opened(tmp_path, fake_segy(TRACES))
    assert np.array_equal(samples(pickle.loads(pickle.dumps(segy)), slice(2, 4)), TRUTH[2:4])  # noqa: S301


def test_nan_and_infinity_are_given_as_they_stand(tmp_path: Path) -> None:
    values = [np.nan, np.inf, -np.inf, 0, 1, 2]
    segy = opened(tmp_path, fake_segy([Trace(values), *TRACES]))
    assert np.array_equal(samples(segy, slice(0, 1))[0], values, equal_nan=True)


ASCII = "".join(f"C{number:2d} PLAIN".ljust(80) for number in range(1, 41)).encode()


@pytest.mark.parametrize(
    ("text", "encoding", "first"),
    [
        (None, "EBCDIC", "C 1 A FAKE"),
        (ASCII, "ASCII", "C 1 PLAIN"),
        (ASCII.replace(b"     ", b"\0\0\r\n\t"), "ASCII", "C 1 PLAIN"),
        (bytes(3200), "ASCII", None),
        (b"\x40" * 3200, "EBCDIC", None),
        (np.random.default_rng(0).integers(0, 256, 3200, np.uint8).tobytes(), "unknown", ""),
    ],
)
def test_text_is_read_in_its_own_code(tmp_path: Path, text: bytes | None, encoding: str, first: str | None) -> None:
    segy = opened(tmp_path, fake_segy(TRACES, text=text))
    assert segy.text.encoding == encoding
    assert len(segy.text.lines) == (40 if first is not None else 0)
    assert not first or segy.text.lines[0] == first
    assert all(line.isprintable() for line in segy.text.lines)
    assert any("neither EBCDIC nor ASCII" in warning for warning in segy.warnings) == (encoding == "unknown")


TEXT = b"\x40" * 3200
END = "((SEG: EndText))".ljust(3200)
READABLE: dict[str, tuple[dict[str, Any], dict[tuple[int, int], int], str]] = {
    "binary count zero": ({"num_samples": 0}, {}, "as the first trace header says"),
    "binary count lies": ({"num_samples": 7}, {}, "the binary header says 7"),
    "trace count lies": ({}, {(115, 2): 462}, "says 462 samples, the file's length 6"),
    "trace counts zero": ({}, {(115, 2): 0}, ""),
    "interval in traces alone": ({"interval_us": 0}, {(117, 2): 4000}, "the interval is the first trace header's"),
    "intervals differ": ({}, {(117, 2): 2000}, "an interval of 4000 us, the first trace header 2000"),
    "more texts": ({"more_texts": [TEXT, TEXT]}, {}, ""),
    "texts to their end": ({"more_texts": [TEXT, END.encode("cp037")], "fields": {(3505, 2): -1}}, {}, ""),
    "texts to their end in ASCII": ({"more_texts": [END.encode()], "fields": {(3505, 2): -1}}, {}, ""),
    "texts without end": ({"fields": {(3505, 2): -1}}, {}, "says to have -1 extended"),
    "a text that is not there": ({"fields": {(3505, 2): 1}}, {}, "its headers say 6800 and 0"),
    "texts beyond the end": ({"fields": {(3505, 2): 3}}, {}, "says to have 3 extended text headers"),
    "texts before revision 1": ({"revision": (0, 0), "fields": {(3505, 2): 3}}, {}, ""),
    "long count": ({"num_samples": 0, "revision": (2, 0), "fields": {(3269, 4): 6}}, {}, ""),
    "long count lies": ({"revision": (2, 0), "fields": {(3269, 4): 9}}, {}, "the binary header says 9"),
    "place of the first trace": (
        {"revision": (2, 0), "more_texts": [TEXT], "fields": {(3505, 2): 0, (3521, 8): 6800}},
        {},
        "",
    ),
    "no place for a first trace": ({"revision": (2, 0), "fields": {(3521, 8): 2**63}}, {}, ""),
    "trailer without number": (
        {"revision": (2, 0), "trailer": bytes(6400), "fields": {(3529, 4): -1, (3513, 8): 20}},
        {},
        "",
    ),
    "trailer as long as some traces": (
        {"revision": (2, 0), "trailer": bytes(33 * 3200), "fields": {(3529, 4): -1, (3513, 8): 20}},
        {},
        "",
    ),
    "unannounced trailer": (
        {"revision": (2, 0), "trailer": b"abc", "fields": {(3513, 8): 20}},
        {},
        "3 bytes follow the last trace",
    ),
    "number of traces lies": ({"revision": (2, 0), "fields": {(3513, 8): 11}}, {}, "says to hold 11 traces"),
    "more headers of 2.0": ({"revision": (2, 0), "more_headers": 2, "fields": {(3507, 4): 2}}, {}, ""),
    "more headers of 2.1": ({"revision": (2, 1), "more_headers": 2, "fields": {(3507, 2): 2, (3509, 2): 1}}, {}, ""),
    "more headers that are not there": (
        {"revision": (2, 0), "fields": {(3507, 4): 5}},
        {},
        "its headers say 3600 and 5",
    ),
    "revision of the future": ({"revision": (9, 9)}, {}, "unknown; read as revision 1"),
}


@pytest.mark.parametrize("kind", READABLE)
@pytest.mark.parametrize("order", ORDERS)
def test_an_odd_file_is_read_with_a_word_of_what_is_odd(tmp_path: Path, kind: str, order: Order) -> None:
    how, in_traces, expected = READABLE[kind]
    segy = opened(tmp_path, fake_segy(with_fields(TRACES, in_traces), order=order, **how))
    assert np.array_equal(samples(segy, slice(None)), TRUTH)
    told = [text for text in segy.warnings if "little-endian" not in text]
    assert len(told) == bool(expected), told
    assert not expected or expected in told[0]


def test_an_interval_as_a_fraction_is_read(tmp_path: Path) -> None:
    place = struct.unpack(">q", struct.pack(">d", 62.5))[0]
    segy = opened(tmp_path, fake_segy(TRACES, revision=(2, 0), fields={(3273, 8): place}, interval_us=0))
    assert segy.interval_us == 62.5


@pytest.mark.parametrize("interval_us", [1e-300, 1e-7, 1e10, -1.0, float("nan"), float("inf")])
def test_an_interval_that_cannot_be_is_none(tmp_path: Path, interval_us: float) -> None:
    place = struct.unpack(">q", struct.pack(">d", interval_us))[0]
    segy = opened(tmp_path, fake_segy(TRACES, revision=(2, 0), fields={(3273, 8): place}))
    assert segy.interval_us == 4000
    [fault] = faults_of(tmp_path, GOOD, interval_us=interval_us)
    assert "expected microseconds from 1e-6 to 1e9" in fault


def test_what_is_asked_for_goes_before_what_headers_say(tmp_path: Path) -> None:
    content = fake_segy(TRACES, code=99, packed_as=3, num_samples=1000, interval_us=-5)
    segy = opened(tmp_path, content, order="big", stored="int16", num_samples=6, interval_us=500)
    assert np.array_equal(samples(segy, slice(None)), TRUTH)
    assert segy.interval_us == 500
    assert any("read as int16, as asked" in warning for warning in segy.warnings)


@pytest.mark.parametrize("order", ORDERS)
def test_the_mark_of_revision_2_says_the_order(tmp_path: Path, order: Order) -> None:
    content = fake_segy(TRACES, order=order, code=99, packed_as=5, revision=(2, 0), fields={(3297, 4): 0x01020304})
    assert opened(tmp_path, content, stored="ieee32").layout.order == order


GOOD = fake_segy(TRACES)
VARYING = [Trace([0.0] * count, crossline=count) for count in (6, 9, 4, 6, 11)]
REFUSED = {
    "empty": (b"", ["found an empty one"]),
    "cut in its headers": (GOOD[:3599], ["found 3599 bytes in all"]),
    "headers alone": (GOOD[:3600], ["found 0 bytes: no whole trace"]),
    "a trace header alone": (GOOD[:3840], ["found 240 bytes: no whole trace"]),
    "cut in the first trace": (GOOD[: 3600 + 250], ["found 0 whole ones and 250 bytes more"]),
    "cut in a trace": (GOOD[:-100], ["found 19 whole ones and 164 bytes more", "trace 20", "head -c 8616"]),
    "more behind": (GOOD + b"x", ["found 20 whole ones and 1 bytes more"]),
    "tape label": (b"   1SY1.0RECORD".ljust(128) + GOOD, ["tail -c +129"]),
    "no count": (fake_segy(with_fields(TRACES, {(115, 2): 0}), num_samples=0), ["byte 3221", "--samples"]),
    "both counts lie": (
        fake_segy(with_fields(TRACES, {(115, 2): 5}), num_samples=1001),
        ["traces of 1001 samples", "the first trace header says 5", "--samples"],
    ),
    "varying counts": (fake_segy(VARYING), ["found traces of 4 to 11"]),
    "varying headers": (
        fake_segy(TRACES[:1], revision=(2, 0), more_headers=2, fields={(3507, 4): 2})
        + fake_segy(TRACES[1:], revision=(2, 0), more_headers=1)[3600:],
        ["its traces do not all have 2 more headers (byte 3507), which is not read"],
    ),
    "unknown format": (fake_segy(TRACES, code=77, packed_as=5), ["found 77 as big-endian; give --format"]),
    "no format": (fake_segy(TRACES, code=0, packed_as=5), ["found 0"]),
    "fixed point": (fake_segy(TRACES, code=4, packed_as=5), ["code 4 (byte 3225), fixed point with gain"]),
    "no interval": (fake_segy(TRACES, interval_us=0), ["found 0 in the binary", "--interval-us"]),
    "interval below 0": (fake_segy(TRACES, interval_us=-4000), ["found -4000 in the binary header"]),
    "swapped in pairs": (
        fake_segy(TRACES, revision=(2, 0), fields={(3297, 4): 0x02010403}),
        ["its words are swapped in pairs"],
    ),
    "no SEG-Y": (b"\x89PNG\r\n\x1a\n" * 2000, ["known format code"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    content, expected = REFUSED[kind]
    found = faults_of(tmp_path, content)
    assert found[0].startswith(f"{tmp_path}/fake.sgy: ")
    assert all(part in found[0] for part in expected), found


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    found = faults_of(tmp_path, fake_segy(TRACES, code=77, packed_as=5, interval_us=0))
    assert ["format" in found[0], "interval" in found[1], len(found)] == [True, True, 2]
    found = faults_of(tmp_path, fake_segy(TRACES, interval_us=0)[:-1])
    assert ["cut off" in found[0], "interval" in found[1], len(found)] == [True, True, 2]
    found = faults_of(tmp_path, GOOD, num_samples=0, interval_us=-1.0)
    assert ["--samples" in found[0], "--interval-us" in found[1], len(found)] == [True, True, 2]


def test_a_number_of_samples_that_was_asked_for_is_told_as_such(tmp_path: Path) -> None:
    [fault] = faults_of(tmp_path, GOOD, num_samples=1_000_000)
    assert all(part in fault for part in ("expected traces of 1000000 samples", "header says 6", "--samples"))


def test_the_whole_traces_of_a_file_that_was_cut_off_can_be_kept_as_told(tmp_path: Path) -> None:
    [fault] = faults_of(tmp_path, GOOD[:-100])
    size = int(fault.split("head -c ")[1].split()[0])
    assert np.array_equal(samples(opened(tmp_path, GOOD[:size]), slice(None)), TRUTH[:19])


def test_a_length_that_two_counts_fit_is_read_as_the_traces_agree(tmp_path: Path) -> None:
    # 15 traces of 6 samples are as long as 11 of 30: the headers of the others say which.
    traces = grid_traces(3, 5)
    content = fake_segy(traces, num_samples=30)
    assert (len(content) - 3600) % (240 + 30 * 4) == 0
    segy = opened(tmp_path, content)
    assert segy.num_samples == 6
    assert np.array_equal(samples(segy, slice(None)), TRUTH[:15])


def test_floats_of_the_other_kind_are_suspected(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(12, 100)) * 1000).astype(np.float32).tolist()
    traces = [Trace(row, crossline=number) for number, row in enumerate(values)]
    for code, packed_as, expected in ((1, 1, ""), (5, 5, ""), (1, 5, "--format ieee32"), (5, 1, "--format ibm32")):
        segy = opened(tmp_path, fake_segy(traces, code=code, packed_as=packed_as))
        assert len(segy.warnings) == bool(expected)
        assert not expected or expected in segy.warnings[0]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    segy = opened(tmp_path, GOOD)
    segy.path.write_bytes(GOOD[:-1])
    for read in (lambda: samples(segy, slice(None)), lambda: header_values(segy, [Field(1, 4)])):
        with pytest.raises(InputError, match="changed while it was read"):
            read()
    with pytest.raises(InputError, match="changed while it was read"):
        file_header(segy)


def test_a_folder_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="expected a SEG-Y file, found a folder or a device"):
            open_segy(path)


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, len(GOOD) - 1))
def test_no_part_of_a_file_passes_for_the_whole(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    if cut > 3600 and (cut - 3600) % STRIDE == 0:
        assert opened(folder, GOOD[:cut]).num_traces == (cut - 3600) // STRIDE
    else:
        assert faults_of(folder, GOOD[:cut])
