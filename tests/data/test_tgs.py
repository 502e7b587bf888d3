import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diapir.data import rle
from diapir.data.tgs import open_data, prepare_tgs, read_tgs
from diapir.data.tiles import DataSet, read_data
from diapir.faults import InputError
from diapir.runs import read_json
from fake_masks import blob_masks
from fake_png import png
from fake_tgs import LABELLED, UNLABELLED, Files, packed, tgs_files, write_folder, zipped

FILES = tgs_files()
Change = Callable[[Files], None]


def faults_of(source: Path, *, skip_bad: bool = False) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_tgs(source, skip_bad=skip_bad)
    return [str(fault).replace(f"{source}/", "").replace(str(source), "SOURCE") for fault in caught.value.faults]


def changed(folder: Path, *changes: Change) -> Path:
    files = dict(FILES)
    for change in changes:
        change(files)
    return write_folder(files, folder)


def put(name: str, content: bytes) -> Change:
    return lambda files: files.update({name: content})


def drop(*names: str) -> Change:
    return lambda files: [files.pop(name) for name in list(files) if name.startswith(names)].clear()


def edit(name: str, old: str, new: str) -> Change:
    def change(files: Files) -> None:
        assert old.encode() in files[name]
        files[name] = files[name].replace(old.encode(), new.encode(), 1)

    return change


def row_of(tile: str) -> str:
    """The line of a tile in train.csv."""
    (line,) = [line for line in FILES["train.csv"].decode().splitlines() if line.startswith(f"{tile},")]
    return line


def test_tiles_are_what_was_written_in_the_order_of_the_tables(tmp_path: Path) -> None:
    data = read_tgs(write_folder(FILES, tmp_path))
    assert data.labelled.ids == LABELLED
    assert data.unlabelled.ids == UNLABELLED
    assert data.labelled.masks is not None
    assert np.array_equal(data.labelled.masks, blob_masks(len(LABELLED)))
    pixels = np.random.default_rng(0).integers(0, 256, (11, 101, 101), dtype=np.uint8)
    assert np.array_equal(np.concatenate([data.labelled.images, data.unlabelled.images]), pixels)
    assert [*data.labelled.depths_m, *data.unlabelled.depths_m] == list(range(50, 61))
    assert data.record["skipped"] == []


def forms(folder: Path) -> dict[str, Path]:
    """Every form that the same download is kept in."""
    flat = {name.replace("train/", "").replace("test/", ""): content for name, content in FILES.items()}
    below = {f"tgs-salt/{name}": content for name, content in FILES.items()}
    write_folder({"one.zip": zipped(packed(FILES)), "direct.zip": zipped(FILES), "below.zip": zipped(below)}, folder)
    csvs = {f"{name}.zip": zipped({name: content}) for name, content in FILES.items() if name.endswith(".csv")}
    return {
        "one zip of zips": folder / "one.zip",
        "one zip": folder / "direct.zip",
        "one zip with a folder": folder / "below.zip",
        "folder of zips": write_folder(packed(FILES), folder / "packed"),
        "folder of zips and zipped tables": write_folder(packed(FILES) | csvs, folder / "zipped tables"),
        "unpacked folder": write_folder(FILES, folder / "unpacked"),
        "unpacked into one": write_folder(flat, folder / "flat"),
        "zips and what they hold": write_folder(packed(FILES) | FILES, folder / "both"),
        "the zip that holds all twice": write_folder(packed(FILES) | {"all.zip": zipped(FILES)}, folder / "twice"),
    }


def test_every_form_gives_the_same_tiles(tmp_path: Path) -> None:
    digests = {form: read_tgs(source).digest for form, source in forms(tmp_path).items()}
    assert len(set(digests.values())) == 1, digests


def test_masks_as_png_and_as_run_lengths_give_the_same_tiles(tmp_path: Path) -> None:
    both = read_tgs(write_folder(FILES, tmp_path / "both"))
    told = read_tgs(changed(tmp_path / "told", drop("train/masks")))
    assert told.digest == both.digest
    assert (both.record["masks"], told.record["masks"]) == ("PNG and run lengths, which agree", "run lengths")


@pytest.mark.parametrize(
    "save",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: b"".join(b'"' + line.replace(b",", b'","') + b'"\n' for line in text.splitlines()),
    ],
    ids=["byte order mark", "CRLF", "no last line end", "quotes"],
)
def test_how_tables_are_saved_makes_no_difference(tmp_path: Path, save: Callable[[bytes], bytes]) -> None:
    saved = {name: save(content) if name.endswith(".csv") else content for name, content in FILES.items()}
    assert read_tgs(write_folder(saved, tmp_path / "a")).digest == read_tgs(write_folder(FILES, tmp_path / "b")).digest


def test_unlabelled_tiles_may_be_absent(tmp_path: Path) -> None:
    data = read_tgs(changed(tmp_path, drop("test/")))
    assert (len(data.labelled), len(data.unlabelled)) == (8, 0)
    assert data.record["depths_of_other_tiles"] == 3


def test_without_a_sample_the_unlabelled_tiles_go_by_name(tmp_path: Path) -> None:
    data = read_tgs(changed(tmp_path, drop("sample")))
    assert data.unlabelled.ids == tuple(sorted(UNLABELLED))
    assert data.record["order"] == "by name"


def test_depths_may_be_absent_altogether(tmp_path: Path) -> None:
    data = read_tgs(changed(tmp_path, drop("depths.csv")))
    assert np.isnan(data.labelled.depths_m).all()
    assert data.record["depths"] == "none"


def test_other_files_are_named_as_ignored(tmp_path: Path) -> None:
    data = read_tgs(changed(tmp_path, put("README.txt", b"x"), put("train/more/a.png", b"x")))
    assert data.record["ignored_files"] == ["README.txt", "train/more/a.png"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", os.fsdecode(b"caf\xe9")])
def test_a_name_that_no_table_can_hold_is_a_fault(tmp_path: Path, name: str) -> None:
    source = changed(tmp_path / "source", drop("sample"), drop("depths"))
    try:
        (source / f"test/images/{name}.png").write_bytes(FILES["test/images/z1.png"])
    except OSError:
        pytest.skip("this disk has no such names")
    with pytest.raises(InputError, match="characters in its name") as error:
        read_tgs(source)
    assert len(error.value.faults) == 1
    data = prepare_tgs(source, tmp_path / "out", skip_bad=True)
    assert data.unlabelled.ids == tuple(sorted(UNLABELLED))
    assert [skipped["tile"] for skipped in read_json(tmp_path / "out" / "record.json")["skipped"]] == [name]


FAULTS = {
    "broken image": (put("train/images/a2.png", b"text"), "train/images/a2.png: expected a PNG"),
    "small image": (put("test/images/z1.png", png(np.zeros((7, 7), np.uint8))), "test/images/z1.png: expected 101"),
    "grey mask": (put("train/masks/a2.png", png(np.full((101, 101), 9, np.uint8))), "a2.png: expected a mask of 0"),
    "mask of another": (
        put("train/masks/h8.png", png(np.zeros((101, 101), np.uint8))),
        'train.csv:9: id "h8": the mask differs from SOURCE',
    ),
    "odd count": (edit("train.csv", row_of("h8"), "h8,1 2 3"), 'train.csv:9: id "h8": expected pairs'),
    "overlap": (edit("train.csv", row_of("h8"), "h8,5 9 6 9"), 'the run "6 9" overlaps'),
    "not ascending": (edit("train.csv", row_of("h8"), "h8,50 9 6 9"), 'the run "6 9" overlaps or precedes'),
    "zero start": (edit("train.csv", row_of("h8"), "h8,0 9"), 'the run "0 9" starts before pixel 1'),
    "too far": (edit("train.csv", row_of("h8"), "h8,10201 2"), 'the run "10201 2" goes past the last pixel'),
    "no numbers": (edit("train.csv", row_of("h8"), "h8,1 2.5"), "expected whole numbers"),
    "no such image": (drop("train/images/a2"), 'train.csv:3: expected the image train/images/a2.png of the id "a2"'),
    "no such test image": (drop("test/images/y2"), "sample_submission.csv:3: expected the image test/images/y2.png"),
    "no such mask": (drop("train/masks/a2"), "train.csv:3: expected the mask train/masks/a2.png"),
    "unknown image": (put("train/images/q9.png", FILES["train/images/a2.png"]), 'q9.png: id "q9" is not in train.csv'),
    "unknown mask": (put("train/masks/q9.png", FILES["train/masks/a2.png"]), 'q9.png: id "q9" is not in train.csv'),
    "unknown test image": (
        put("test/images/q9.png", FILES["test/images/z1.png"]),
        'id "q9" is not in sample_submission.csv',
    ),
    "doubled row": (edit("train.csv", "c3,", "a2,\nc3,"), 'train.csv:4: id "a2" is in '),
    "doubled depth": (edit("depths.csv", "c3,", "a2,7\nc3,"), 'depths.csv:4: id "a2" is in '),
    "no id": (edit("train.csv", "c3,", ",\nc3,"), "train.csv:4: expected an id, found none"),
    "more fields": (edit("train.csv", row_of("h8"), "h8,1 2,3"), "train.csv:9: expected 2 fields"),
    "no depth": (edit("depths.csv", "a2,51\n", ""), 'a2.png: expected a row of the id "a2" in depths.csv'),
    "empty depth": (edit("depths.csv", "a2,51", "a2,"), 'depths.csv:3: id "a2": expected a depth'),
    "depth that is none": (edit("depths.csv", "a2,51", "a2,deep"), "expected a depth in metres, a number"),
    "depth nan": (edit("depths.csv", "a2,51", "a2,nan"), "expected a depth in metres, a number"),
    "both parts": (put("test/images/a2.png", FILES["train/images/a2.png"]), "is an image without label, and"),
    "loose image": (put("images/q9.png", FILES["test/images/z1.png"]), "lies below neither train nor test"),
    "copies that differ": (put("more/train/images/a2.png", FILES["train/images/b1.png"]), "differs from"),
    "no row": (edit("train.csv", row_of("a2") + "\n", ""), 'train/images/a2.png: id "a2" is not in train.csv'),
}
# What a change breaks besides what it is for.
MORE = {
    "unknown image": 1, "unknown test image": 1, "more fields": 2, "no row": 1, "both parts": 1,
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_a_tile_is_named_with_its_place(tmp_path: Path, kind: str) -> None:
    change, expected = FAULTS[kind]
    found = faults_of(changed(tmp_path, change))
    assert sum(expected.replace("SOURCE", "") in fault for fault in found) == 1, found
    assert len(found) == 1 + MORE.get(kind, 0), found


@pytest.mark.parametrize("kind", FAULTS)
def test_skip_bad_leaves_out_the_faulty_tile_alone_and_names_it(tmp_path: Path, kind: str) -> None:
    data = read_tgs(changed(tmp_path, FAULTS[kind][0]), skip_bad=True)
    skipped = {fault["tile"] for fault in data.record["skipped"]}
    assert len(skipped - {""}) <= 1
    assert data.labelled.ids == tuple(tile for tile in LABELLED if tile not in skipped)
    assert data.unlabelled.ids == tuple(tile for tile in UNLABELLED if tile not in skipped)
    assert data.record["skipped"]
    json.dumps(data.record)


def test_all_faults_come_in_one_report_in_order(tmp_path: Path) -> None:
    names = ["broken image", "small image", "overlap", "no such image", "unknown mask", "depth nan"]
    names.remove("no such image")
    found = faults_of(changed(tmp_path, *(FAULTS[name][0] for name in names)))
    assert len(found) == len(names)
    files = [fault.split(": ")[0] for fault in found]
    assert files == sorted(files)


STRUCTURAL = {
    "no train.csv": (drop("train.csv"), "SOURCE: expected tiles, found no train.csv"),
    "no mask column": (edit("train.csv", "id,rle_mask", "id,mask"), 'train.csv:1: expected the header "id,rle_mask"'),
    "no id column": (edit("train.csv", "id,rle_mask", "name,rle_mask"), "train.csv:1: expected the header"),
    "no depth column": (edit("depths.csv", "id,z", "id,depth"), 'depths.csv:1: expected the header "id,z"'),
    "empty train.csv": (put("train.csv", b""), "found an empty file"),
    "train.csv that is no text": (put("train.csv", b"id,rle_mask\n\xff\xff"), "train.csv:2: expected UTF-8 text"),
    "no images": (drop("train/images"), "SOURCE: expected images of the tiles in train.csv, found none"),
}


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("kind", STRUCTURAL)
def test_what_leaves_nothing_to_read_stops_in_any_case(tmp_path: Path, kind: str, *, skip_bad: bool) -> None:
    change, expected = STRUCTURAL[kind]
    (found,) = faults_of(changed(tmp_path, change), skip_bad=skip_bad)
    assert expected in found


def test_faults_of_several_tables_come_together(tmp_path: Path) -> None:
    changes = [STRUCTURAL[kind][0] for kind in ("no mask column", "no depth column")]
    assert len(faults_of(changed(tmp_path, *changes))) == 2


def test_a_zip_that_is_cut_off_stops_even_with_skip_bad(tmp_path: Path) -> None:
    given = packed(FILES)
    source = write_folder(given | {"test.zip": given["test.zip"][:-100]}, tmp_path)
    assert "test.zip: is a zip that is cut off or damaged" in faults_of(source, skip_bad=True)[0]


def test_a_damaged_member_is_a_fault_of_its_tile(tmp_path: Path) -> None:
    given = packed(FILES)
    damaged = bytearray(given["test.zip"])
    damaged[2000] ^= 1
    source = write_folder(given | {"test.zip": bytes(damaged)}, tmp_path)
    (found,) = faults_of(source)
    assert found.startswith("test.zip/images/")
    assert len(read_tgs(source, skip_bad=True).unlabelled) == len(UNLABELLED) - 1


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_set_without_a_good_tile_is_refused(tmp_path: Path, *, skip_bad: bool) -> None:
    no_rows = write_folder(FILES | {"train.csv": b"id,rle_mask\n"}, tmp_path / "rows")
    assert any("is not in train.csv" in fault for fault in faults_of(no_rows, skip_bad=skip_bad))
    broken = {name: b"x" if name.startswith("train/images") else content for name, content in FILES.items()}
    assert len(faults_of(write_folder(broken, tmp_path / "images"), skip_bad=skip_bad)) == len(LABELLED)


@pytest.mark.parametrize("files", [{}, {"photo.png": b"x"}, {"train.zip": zipped({"images/a.png": b"x"})}])
def test_a_folder_of_something_else_is_told_what_is_accepted(tmp_path: Path, files: Files) -> None:
    with pytest.raises(InputError, match=r"found no train\.csv in it; give the competition's zip"):
        open_data(write_folder(files, tmp_path))


def test_a_prepared_folder_and_its_source_are_the_same_data(tmp_path: Path) -> None:
    source = write_folder(FILES, tmp_path / "source")
    written = prepare_tgs(source, tmp_path / "out")
    assert open_data(tmp_path / "out").digest == open_data(source).digest == written.digest
    assert read_data(tmp_path / "out").labelled.ids == LABELLED


def test_a_folder_with_files_in_it_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    write_folder({"out/mine.txt": b"mine"}, tmp_path)
    with pytest.raises(InputError, match="expected a new or empty folder"):
        prepare_tgs(tmp_path / "no source", tmp_path / "out")
    assert (tmp_path / "out/mine.txt").read_bytes() == b"mine"


# Tests may run as root, who can write to any folder, so the system's answer is played.
READ_ONLY = """
import errno, os
def mkdir(path, *rest):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
os.mkdir = mkdir
"""


def diapir(*arguments: object, before: str = "", most_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own.

    Args:
        before: code that changes the process first.
        most_bytes: the largest file that it can write: what a full disk is to a program.
    """

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [sys.executable, "-B", "-c", f"{before}\nfrom diapir.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)


def test_the_command_names_every_fault_and_leaves_nothing(tmp_path: Path) -> None:
    source = changed(tmp_path / "source", FAULTS["broken image"][0], FAULTS["overlap"][0])
    answer = diapir("data", "tgs", source, tmp_path / "out")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 2
    assert all(line.startswith(f"error: {source}") for line in answer.stderr.splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_the_command_skips_bad_tiles_and_says_so(tmp_path: Path) -> None:
    source = changed(tmp_path / "source", FAULTS["broken image"][0])
    answer = diapir("data", "tgs", source, tmp_path / "out", "--skip-bad")
    assert answer.returncode == 0, answer.stderr
    assert "7 labelled and 3 unlabelled tiles; 1 left out, named in" in answer.stdout
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert [fault["tile"] for fault in record["skipped"]] == ["a2"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_folder(FILES, tmp_path / "source")
    answer = diapir("data", "tgs", source, tmp_path / "out", most_bytes=50_000)
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1), answer.stderr
    assert f"{tmp_path / 'out'}: File too large" in answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_read_only_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_folder(FILES, tmp_path / "source")
    answer = diapir("data", "tgs", source, tmp_path / "out", before=READ_ONLY)
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1), answer.stderr
    assert f"{tmp_path / 'out'}: Read-only file system" in answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    source = write_folder(FILES | {"file": b""}, tmp_path / "source")
    answer = diapir("data", "tgs", source, source / "file" / "out")
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1), answer.stderr


def test_the_real_tiles_are_read_whole(tgs_folder: Path, tgs_data: DataSet) -> None:
    data = tgs_data
    given = {name: len((tgs_folder / name).read_text().splitlines()) - 1 for name in ("train.csv", "depths.csv")}
    assert len(data.labelled) == given["train.csv"] > 3000
    assert len(data.labelled) + len(data.unlabelled) == given["depths.csv"] == 22_000
    assert data.labelled.masks is not None
    lines = (tgs_folder / "train.csv").read_text().splitlines()[1:]
    texts = rle.encode(data.labelled.masks)
    assert [f"{tile},{text}" for tile, text in zip(data.labelled.ids, texts, strict=True)] == lines
    assert (data.labelled.depths_m.min(), data.labelled.depths_m.max()) == (51, 959)
    assert not any(math.isnan(depth) for depth in data.unlabelled.depths_m)
    assert data.record["masks"] == "PNG and run lengths, which agree"
