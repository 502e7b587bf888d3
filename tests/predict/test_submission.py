import csv
import gzip
import io
from pathlib import Path

import pytest

from diapir.data.rle import decode
from diapir.faults import InputError
from diapir.predict.submission import check_submission, read_submission, write_submission
from fake_masks import blob_masks

SAMPLE = "id,rle_mask\na,1 1\nb,1 1\nc,1 1\n"


def faults_of(folder: Path, content: str, *, sample: str = SAMPLE) -> list[tuple[str, str]]:
    """(line, fault) of every fault of a submission with this content; no line for a fault of the whole file."""
    path, against = folder / "submission.csv", folder / "sample.csv"
    path.write_text(content, encoding="utf-8", newline="")
    against.write_text(sample, encoding="utf-8")
    faults = check_submission(path, against=against)
    return [(fault.where.removeprefix(str(path)).removeprefix(":"), fault.what) for fault in faults]


@pytest.mark.parametrize("name", ["submission.csv", "submission.csv.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    masks = blob_masks(30)
    ids = [f"tile {number}" for number in range(30)]
    write_submission(tmp_path / name, ids, masks)
    submission = read_submission(tmp_path / name)
    assert list(submission.texts) == ids
    assert (decode(list(submission.texts.values()), height=101, width=101) == masks).all()
    assert submission.where("tile 3") == f"{tmp_path / name}:5"


def test_a_written_submission_has_no_faults_and_is_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv.gz"
    write_submission(path, ["a", "b,", 'c"'], blob_masks(24)[[0, 12, 23]])
    assert check_submission(path, against=path) == []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(io.StringIO(file.read())))
    assert rows[0] == ["id", "rle_mask"]
    assert rows[1] == ["a", ""]
    assert rows[3] == ['c"', "1 10201"]


def test_the_same_masks_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.csv.gz", "other.csv.gz"):
        write_submission(tmp_path / name, ["a", "b"], blob_masks(2))
    content = (tmp_path / "one.csv.gz").read_bytes()
    assert content == (tmp_path / "other.csv.gz").read_bytes()
    # No flags, so no file name; no time.
    assert content[3:8] == bytes(5)


def test_the_sample_submission_has_no_faults(tmp_path: Path) -> None:
    assert faults_of(tmp_path, SAMPLE) == []
    assert faults_of(tmp_path, '\ufeff"rle_mask","id"\r\n"",c\r\n 10201  1 ,a\r\n1 1,b\r\n\r\n') == []


def test_every_bad_row_is_named_with_its_line_and_fault(tmp_path: Path) -> None:
    content = "id,rle_mask\nb,1 2 3\na,nan\nb,\nx,0 1\n,1 1\nc,1 1,\n"
    found = faults_of(tmp_path, content)
    expected = [
        ("2", 'id "b": expected pairs of start and length, found an odd number of numbers (3)'),
        ("3", 'id "a": expected whole numbers'),
        ("4", 'id "b" is on line 2 already'),
        ("5", 'id "x": the run "0 1" starts before pixel 1'),
        ("5", 'id "x" is not in'),
        ("6", "expected an id, found none"),
        ("7", "expected 2 fields, as in the header, found 3"),
        ("", 'no row for the id "c", which is wanted by'),
    ]
    assert len(found) == len(expected)
    for (line, what), (expected_line, beginning) in zip(found, expected, strict=True):
        assert line == expected_line
        assert what.startswith(beginning)


def test_missing_and_unknown_ids_are_all_named(tmp_path: Path) -> None:
    found = faults_of(tmp_path, "id,rle_mask\nb,\nd,\ne,\n")
    assert [line for line, _ in found] == ["3", "4", "", ""]
    assert [what.split('"')[1] for _, what in found] == ["d", "e", "a", "c"]


def test_columns_that_were_not_asked_for_are_a_fault(tmp_path: Path) -> None:
    found = faults_of(tmp_path, ",id,rle_mask\n0,a,\n1,b,\n2,c,\n")
    assert found == [("1", "expected the columns id and rle_mask alone, found ,id,rle_mask")]


@pytest.mark.parametrize("content", ["", "a,1 1\nb,1 1\nc,1 1\n", "id\na\nb\nc\n"])
def test_a_file_without_its_header_is_one_fault(tmp_path: Path, content: str) -> None:
    found = faults_of(tmp_path, content)
    assert len(found) == 1
    assert 'expected the header "id,rle_mask"' in found[0][1]


def test_faults_of_the_sample_are_told_as_its_own(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(SAMPLE)
    [fault] = check_submission(path, against=tmp_path / "none.csv")
    assert fault.where == str(tmp_path / "none.csv")


def test_read_submission_tells_every_unusable_row_at_once(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("id,rle_mask\na,\na,\nb\n,1 1\n")
    with pytest.raises(InputError) as caught:
        read_submission(path)
    assert {fault.where.rpartition(":")[2] for fault in caught.value.faults} == {"3", "4", "5"}


def test_the_real_sample_submission_has_no_faults(tgs_folder: Path) -> None:
    path = tgs_folder / "sample_submission.csv"
    assert check_submission(path, against=path) == []
    assert len(read_submission(path)) > 18_000
