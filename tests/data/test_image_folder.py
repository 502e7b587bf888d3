"""Tiles as PNGs in a plain folder, and what may lie there besides."""

import os
import shutil
from pathlib import Path

import pytest

from diapir.data.image_folder import is_image_folder, read_image_folder
from diapir.data.synthetic import write_synthetic
from diapir.faults import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_synthetic(tmp_path / "tiles", labelled=4, unlabelled=2, seed=1)
    shutil.copytree(tmp_path / "tiles" / "test" / "images", tmp_path / "plain")
    return tmp_path / "plain"


def test_names_are_read_in_either_case(folder: Path) -> None:
    for path in folder.iterdir():
        path.rename(path.with_suffix(".PNG"))
    assert is_image_folder(folder)
    assert read_image_folder(folder).unlabelled.ids == tuple(sorted(path.stem for path in folder.iterdir()))


def test_every_entry_that_is_no_tile_is_told_or_left_out(folder: Path) -> None:
    ids = tuple(sorted(path.stem for path in folder.iterdir()))
    first = next(folder.iterdir())
    content = first.read_bytes()
    (folder / "link.png").symlink_to("nowhere")
    (folder / "inner.png").mkdir()
    (folder / "line\nend.png").write_bytes(content)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(content)
    (folder / f"{first.stem}.PNG").write_bytes(content)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        read_image_folder(folder)
    told = {(Path(fault.where).stem, fault.what.partition(";")[0]) for fault in caught.value.faults}
    assert told == {
        ("link", "cannot be read: No such file or directory"),
        ("inner", "cannot be read: Is a directory"),
        ("line\nend", "has characters in its name that no table can hold"),
        ("\udcff\udcfe", "has characters in its name that no table can hold"),
        (first.stem, f"another file is called {first.stem} too"),
    }
    found = read_image_folder(folder, skip_bad=True)
    assert found.unlabelled.ids == ids
    assert len(found.record["skipped"]) == 5
