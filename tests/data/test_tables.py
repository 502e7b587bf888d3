import gzip
import re
import tracemalloc
from pathlib import Path

import pytest

from diapir.data import tables
from diapir.data.tables import Table, read_table
from diapir.faults import InputError


def table_of(folder: Path, content: bytes, *, name: str = "masks.csv") -> Table:
    path = folder / name
    path.write_bytes(content)
    return read_table(path, columns=("id", "rle_mask"))


@pytest.mark.parametrize(
    "content",
    [
        b"id,rle_mask\na,1 1\nb,\n",
        b"\xef\xbb\xbfid,rle_mask\na,1 1\nb,\n",
        b"id,rle_mask\r\na,1 1\r\nb,\r\n",
        b"id,rle_mask\ra,1 1\rb,",
        b'"id","rle_mask"\n"a","1 1"\n"b",""\n',
        b'\xef\xbb\xbf"id", "rle_mask"\r\n"a", "1 1"\r\nb,\r\n',
        b"id,rle_mask\na,1 1\nb,\n\n  \n",
        b" id , rle_mask \n a , 1 1 \n b , \n",
        b"rle_mask,z,id\n1 1,306,a\n,157,b\n",
    ],
)
def test_how_a_program_saves_a_table_makes_no_difference(tmp_path: Path, content: bytes) -> None:
    for name, data in (
        ("masks.csv", content),
        ("masks.csv.gz", gzip.compress(content, mtime=0)),
        ("m", gzip.compress(content)),
    ):
        table = table_of(tmp_path, data, name=name)
        assert table.rows == (("a", "1 1"), ("b", ""))
        assert table.lines == (2, 3)
        assert not table.faults


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    table = table_of(tmp_path, b"\nid,rle_mask\n\na,1 1\n\n\nb\n")
    assert table.where(0) == f"{tmp_path / 'masks.csv'}:4"
    assert [fault.where for fault in table.faults] == [f"{tmp_path / 'masks.csv'}:7"]


def test_a_bad_line_leaves_the_lines_around_it_alone(tmp_path: Path) -> None:
    table = table_of(tmp_path, b'id,rle_mask\na,1 1\nb,"2 2\nc\nd,1 1,\n\xc3\xa9,"1" 1\nf,3 3\n')
    assert table.rows == (("a", "1 1"), ("f", "3 3"))
    assert [fault.where.rpartition(":")[2] for fault in table.faults] == ["3", "4", "5", "6"]
    assert "quotes in pairs" in table.faults[0].what
    assert "expected 2 fields, as in the header, found 1: 'c'" in table.faults[1].what
    assert "found 3: 'd,1 1,'" in table.faults[2].what


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "found an empty file"),
        (b"\n \r\n", "found an empty file"),
        (b"a,1 1\nb,\n", "masks.csv:1: expected the header \"id,rle_mask\", found 'a,1 1'"),
        (b"id\na\n", "found 'id'"),
        (b"id;rle_mask\na;1 1\n", "found 'id;rle_mask'"),
        (b"id,rle_mask,id\na,1 1,b\n", "found 'id,rle_mask,id'"),
        (b'id,"rle_mask\na,\n', "expected the header"),
        ("id,rle_mask\na,1 1\n".encode("utf-16"), 'found UTF-16; save it as "CSV UTF-8"'),
        (b"id,rle_mask\na,1 1\n\xe9,\n", "masks.csv:3: expected UTF-8 text"),
        (b"\x1f\x8b\x07 not the method that gzip has", "damaged gzip data"),
        (gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "damaged gzip data"),
        (gzip.compress(b"id,rle_mask\na,1 1\n", mtime=0)[:-9], "is cut off"),
        (gzip.compress(b"id,rle_mask\na,1 1\n", mtime=0) + b"more", "damaged gzip data"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        table_of(tmp_path, content)


def test_a_name_that_says_gzip_must_be_true(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is named \.gz, but is not gzip data"):
        table_of(tmp_path, b"id,rle_mask\n", name="masks.csv.gz")


def test_absent_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected this file, found none"):
        read_table(tmp_path / "none.csv", columns=("id",))
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path, columns=("id",))


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(40 << 20), mtime=0)
    monkeypatch.setattr(tables, "_MOST_BYTES", 1 << 20)
    tracemalloc.start()
    with pytest.raises(InputError, match="expected at most 1 MB of text, found more"):
        table_of(tmp_path, bomb, name="masks.csv.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
