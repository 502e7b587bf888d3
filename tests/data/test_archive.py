import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from diapir.data import archive as archives
from diapir.data.archive import open_source, read_alike
from diapir.faults import InputError
from fake_tgs import write_folder, zipped

FILES = {"train.csv": b"id,rle_mask\n", "train/images/a.png": b"abc" * 100, "train/images/b.png": b""}


def contents(source: Path) -> dict[str, bytes]:
    with open_source(source) as members:
        return {"/".join(member.parts): member.read() for member in members}


def faults_of(source: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        contents(source)
    return [str(fault).replace(str(source), "SOURCE") for fault in caught.value.faults]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def entry(name: str, content: bytes = b"x", *, mode: int = 0, flags: int = 0, method: int = 0) -> bytes:
    """A zip of one entry that says of itself what it is told to."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, method or zipfile.ZIP_DEFLATED)
    data = bytearray(file.getvalue())
    directory = data.index(b"PK\x01\x02")
    for place in (6, directory + 8):
        data[place] |= flags
    return bytes(data)


def test_a_zip_a_folder_and_zips_in_either_hold_the_same(tmp_path: Path) -> None:
    inner = zipped({"images/a.png": FILES["train/images/a.png"], "images/b.png": b""})
    nested = {"train.csv": FILES["train.csv"], "train.zip": inner}
    forms = [
        write_folder(FILES, tmp_path / "unpacked"),
        write_folder(nested, tmp_path / "packed"),
    ]
    assert all(contents(form) == FILES for form in forms)
    for number, content in enumerate((zipped(FILES), zipped(nested))):
        source = written(tmp_path / f"{number}.zip", content)
        assert contents(source) == {f"{number}/{name}": data for name, data in FILES.items()}


def test_what_programs_add_for_themselves_is_left_out(tmp_path: Path) -> None:
    added = {"__MACOSX/train/images/._a.png": b"x", ".DS_Store": b"x", "__MACOSX/._train.zip": b"no zip"}
    assert contents(write_folder(FILES | added, tmp_path / "folder")) == FILES
    assert len(contents(written(tmp_path / "x.zip", zipped(FILES | added)))) == len(FILES)


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/a.png", "C:/a.png", "C:a.png", "..\\a.png"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    (fault,) = faults_of(written(tmp_path / "x.zip", entry(name)))
    assert "leads outside of its zip" in fault


@pytest.mark.parametrize("name", ["images\\a.png"])
def test_names_that_programs_read_differently_are_refused(tmp_path: Path, name: str) -> None:
    (fault,) = faults_of(written(tmp_path / "x.zip", entry(name)))
    assert "backslash" in fault


def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = written(tmp_path / "x.zip", entry("a.png", b"/etc/passwd", mode=stat.S_IFLNK | 0o777))
    device = written(tmp_path / "y.zip", entry("a.png", mode=stat.S_IFCHR | 0o666))
    assert "expected a plain file, found a link" in faults_of(link)[0]
    assert "found a device or pipe" in faults_of(device)[0]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["a.png", "./a.png"])
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, twin: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", b"one")
        archive.writestr(twin, b"two")
    assert faults_of(written(tmp_path / "x.zip", file.getvalue())) == [
        "SOURCE: holds 'a.png' 2 times; pack it again with every file once"
    ]


def test_encrypted_and_strangely_packed_entries_are_refused(tmp_path: Path) -> None:
    encrypted = written(tmp_path / "x.zip", entry("a.png", flags=1))
    assert "is encrypted; pack the zip again without a password" in faults_of(encrypted)[0]
    strange = entry("a.png", method=zipfile.ZIP_BZIP2)
    assert "method 12 (bzip2)" in faults_of(written(tmp_path / "y.zip", strange))[0]


def test_a_file_that_unpacks_to_too_much_is_never_unpacked(tmp_path: Path) -> None:
    (fault,) = faults_of(written(tmp_path / "x.zip", entry("a.png", b"\0" * 5_000_000)))
    assert "claims to unpack to 5000000 bytes, expected at most 4194304" in fault


def test_a_file_that_shrank_too_well_is_never_unpacked(tmp_path: Path) -> None:
    (fault,) = faults_of(written(tmp_path / "x.zip", entry("train.csv", b"\0" * 3_000_000)))
    assert "to 3000000 bytes, expected at most 200 times as many" in fault


def test_zips_that_unpack_to_too_much_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_BYTES_OF_NESTED", 300)
    source = written(tmp_path / "x.zip", zipped({f"{number}.zip": zipped(FILES) for number in range(3)}))
    assert "unpack to more than" in faults_of(source)[0]


def test_a_declared_size_below_the_real_one_is_found(tmp_path: Path) -> None:
    data = bytearray(entry("a.png", b"abc" * 1000))
    directory = data.index(b"PK\x01\x02")
    for place in (22, directory + 24):
        data[place : place + 4] = struct.pack("<I", 30)
    assert "is damaged in its zip" in faults_of(written(tmp_path / "x.zip", bytes(data)))[0]


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """The trick of zip bombs that need no nesting: many names for one packed body."""
    data = bytearray(zipped({"a.png": b"same" * 50, "b.png": b"same" * 50}))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    assert "overlaps what follows it" in faults_of(written(tmp_path / "x.zip", bytes(data)))[0]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_FILES", 2)
    for source in (written(tmp_path / "x.zip", zipped(FILES)), write_folder(FILES, tmp_path / "folder")):
        assert "expected at most 2 files" in faults_of(source)[0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_zip_that_is_cut_off_is_refused_at_any_depth(tmp_path: Path, share: float) -> None:
    content = zipped(FILES)
    cut = content[: int(len(content) * share)]
    (fault,) = faults_of(written(tmp_path / "x.zip", cut))
    assert fault.startswith("SOURCE: is a zip that is cut off or damaged")
    (fault,) = faults_of(written(tmp_path / "y.zip", zipped({"train.zip": cut})))
    assert fault.startswith("SOURCE/train.zip: is a zip that is cut off or damaged")


def test_a_bad_checksum_is_told_of_the_member_alone(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": os.urandom(500), "b.png": b"good"}))
    data[200] ^= 1
    with open_source(written(tmp_path / "x.zip", bytes(data))) as (bad, good):
        assert good.read() == b"good"
        with pytest.raises(InputError, match=r"x\.zip/a\.png: is damaged in its zip .*download"):
            bad.read()


def test_a_zip_in_a_zip_in_a_zip_is_refused(tmp_path: Path) -> None:
    deepest = zipped({"inner.zip": zipped(FILES)})
    (fault,) = faults_of(written(tmp_path / "x.zip", zipped({"outer.zip": deepest})))
    assert fault == "SOURCE/outer.zip/inner.zip: expected a zip in a zip at most; unpack this one first"


def test_faults_of_several_zips_come_together(tmp_path: Path) -> None:
    files = {"train.zip": zipped(FILES)[:-30], "test.zip": entry("../a.png"), "more.zip": b"no zip"}
    assert len(faults_of(write_folder(files, tmp_path / "folder"))) == 3


@pytest.mark.parametrize("content", [b"", b"a text", b"\x1f\x8b\x08 gzip"])
def test_what_is_no_zip_is_told(tmp_path: Path, content: bytes) -> None:
    assert "expected a zip, found" in faults_of(written(tmp_path / "x.tgz", content))[0]


def test_nothing_there_is_told(tmp_path: Path) -> None:
    assert "expected a folder or a zip, found neither" in faults_of(tmp_path / "absent")[0]


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    write_folder({"secret.png": b"x", "other/a.png": b"x"}, tmp_path)
    folder = write_folder(FILES, tmp_path / "folder")
    (folder / "file.png").symlink_to(tmp_path / "secret.png")
    (folder / "images").symlink_to(tmp_path / "other", target_is_directory=True)
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "ring.png").symlink_to("ring.png")
    found = faults_of(folder)
    assert len(found) == 4
    assert all("is a link to" in fault for fault in found)


def test_a_link_within_the_folder_and_a_link_to_the_folder_are_followed(tmp_path: Path) -> None:
    folder = write_folder(FILES, tmp_path / "folder")
    (folder / "again.csv").symlink_to("train.csv")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert contents(tmp_path / "link") == FILES | {"again.csv": FILES["train.csv"]}


def test_reading_leaves_nothing_on_disk(tmp_path: Path) -> None:
    written(tmp_path / "x.zip", zipped({"train.zip": zipped(FILES)}))
    contents(tmp_path / "x.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_copies_must_be_alike(tmp_path: Path) -> None:
    with open_source(write_folder({"a/x.png": b"one", "b/x.png": b"one", "c/x.png": b"two"}, tmp_path)) as members:
        one, same, other = sorted(members, key=lambda member: member.where)
        assert read_alike((one, same)) == b"one"
        with pytest.raises(InputError, match=r"a/x\.png: differs from .*c/x\.png"):
            read_alike((one, same, other))
