import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from diapir.data.check import are_constant, are_vertical, check_data, describe_data, duplicate_groups
from diapir.data.tgs import read_tgs
from diapir.data.tiles import UNKNOWN, DataSet, TileSet, coverage_classes
from fake_masks import blob_masks
from fake_tgs import tgs_files, write_folder

PIXELS = 101 * 101


def mask_of(area: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return (np.arange(PIXELS) < area).astype(np.uint8).reshape(101, 101)


def data_of(*, num_labelled: int = 8, num_unlabelled: int = 5, has_depths: bool = True) -> DataSet:
    count = num_labelled + num_unlabelled
    images = np.random.default_rng(1).integers(0, 256, (count, 101, 101), dtype=np.uint8)
    depths_m = (np.arange(count) * 10 if has_depths else np.full(count, np.nan)).astype(np.float32)
    ids = tuple(f"t{row}" for row in range(count))
    masks = np.zeros((num_labelled, 101, 101), np.uint8)
    masks[: min(num_labelled, 8)] = blob_masks(8)[:num_labelled]
    labelled = TileSet(ids[:num_labelled], images[:num_labelled], masks, depths_m[:num_labelled])
    return DataSet(labelled, TileSet(ids[num_labelled:], images[num_labelled:], None, depths_m[num_labelled:]), {})


@given(area=st.integers(0, PIXELS))
def test_a_coverage_class_holds_a_tenth_of_all_areas(area: int) -> None:
    (found,) = coverage_classes(mask_of(area)[None])
    assert 10 * area <= found * PIXELS
    assert area == 0 or 10 * area > (found - 1) * PIXELS


def test_vertical_masks_are_salt_beside_a_wall() -> None:
    wall = np.zeros((101, 101), np.uint8)
    wall[:, 40:] = 1
    masks = np.stack([wall, wall.T, mask_of(0), mask_of(PIXELS), mask_of(5000), 1 - wall])
    assert are_vertical(masks).tolist() == [True, False, False, False, False, True]


def test_constant_images_have_one_grey_of_any_brightness() -> None:
    images = np.stack([np.full((9, 9), grey, np.uint8) for grey in (0, 7, 255, 7)])
    images[3, 8, 8] = 8
    assert are_constant(images).tolist() == [True, True, True, False]


def test_duplicates_are_found_within_and_across_parts() -> None:
    data = data_of()
    data.labelled.images[3] = data.labelled.images[0]
    data.unlabelled.images[1] = data.labelled.images[0]
    data.unlabelled.images[[2, 3]] = data.unlabelled.images[2]
    data.labelled.images[[5, 6]] = 0
    assert duplicate_groups(data) == [("t0", "t3", "t9"), ("t10", "t11")]
    figures = describe_data(data)["duplicates"]
    assert (figures["groups"], figures["tiles"], figures["groups_across_labelled_and_unlabelled"]) == (2, 5, 1)
    masks = data.labelled.masks
    assert masks is not None
    assert figures["groups_with_masks_that_differ"] == int((masks[0] != masks[3]).any())


def test_tiny_masks_are_counted_up_to_their_limits() -> None:
    data = data_of(num_labelled=7)
    assert data.labelled.masks is not None
    for row, area in enumerate((0, 5, 6, 10, 50, 100, 101)):
        data.labelled.masks[row] = mask_of(area)
    figures = describe_data(data)["masks"]
    assert figures["tiny"] == {"1-5": 1, "1-10": 3, "1-20": 3, "1-50": 4, "1-100": 5}
    assert (figures["empty"], figures["full"], figures["largest_pixels"]) == (1, 0, 101)


@pytest.mark.parametrize(("num_labelled", "num_unlabelled", "has_depths"), [(8, 5, True), (8, 0, False), (1, 0, True)])
def test_figures_and_picture_are_written_for_any_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], num_labelled: int, num_unlabelled: int, *, has_depths: bool
) -> None:
    data = data_of(num_labelled=num_labelled, num_unlabelled=num_unlabelled, has_depths=has_depths)
    figures = check_data(data, tmp_path / "new" / "folder")
    assert json.loads((tmp_path / "new/folder/check.json").read_text()) == figures
    with Image.open(tmp_path / "new/folder/check.png") as picture:
        assert np.asarray(picture).std() > 10
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == ["check.json", "check.png"]
    assert "coverage class 10" in capsys.readouterr().out


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    figures = check_data(read_tgs(write_folder(tgs_files(), tmp_path / "tgs")), None)
    assert (figures["labelled"]["tiles"], figures["unlabelled"]["tiles"]) == (8, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["tgs"]


def test_ids_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of()
    data.labelled.images[3] = data.labelled.images[0]
    ids = ("[/b]", "[red]", "$\\frac$", *data.labelled.ids[3:])
    check_data(replace(data, labelled=replace(data.labelled, ids=ids)), tmp_path)
    assert "  [/b], t3\n" in capsys.readouterr().out


def test_the_files_are_written_though_nobody_reads_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(Console, "print", refuse)
    with pytest.raises(BrokenPipeError):
        check_data(data_of(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check.json", "check.png"]


def test_the_real_tiles_have_the_shares_that_are_known_of_all_4000(tgs_data: DataSet) -> None:
    """The competition's 4000 training tiles were counted elsewhere; these are 3217 of them, the rest is unlabelled."""
    figures = describe_data(tgs_data)
    known = {"empty": 1562, "vertical": 113, "1-5": 29, "1-10": 45, "1-20": 70, "1-50": 113, "1-100": 168}
    known |= {f"class {number}": count for number, count in enumerate(KNOWN_CLASSES)}
    masks = figures["masks"]
    found = {"empty": masks["empty"], "vertical": masks["vertical"], **masks["tiny"]}
    found |= {f"class {number}": count for number, count in enumerate(masks["coverage_classes"])}
    share = figures["labelled"]["tiles"] / 4000
    for name, count in known.items():
        # Drawn without replacement: the spread is at most that of a binomial count.
        assert abs(found[name] - share * count) < 4 * np.sqrt(count * share * (1 - share)), name
    assert figures["labelled"]["constant"] + figures["unlabelled"]["constant"] == 80 + 430
    assert masks["full"] == masks["salt_in_constant_images"] == 0
    assert masks["largest_pixels"] <= 10200


KNOWN_CLASSES = (1562, 576, 296, 224, 186, 225, 205, 174, 148, 159, 245)


def test_pixels_that_nobody_knows_are_no_salt() -> None:
    data = data_of()
    assert data.labelled.masks is not None
    hidden = data.labelled.masks.copy()
    hidden[:, 50:] = UNKNOWN
    bare = np.where(hidden == UNKNOWN, 0, hidden).astype(np.uint8)
    told = [describe_data(replace(data, labelled=replace(data.labelled, masks=masks))) for masks in (hidden, bare)]
    for key in ("empty", "full", "largest_pixels", "coverage_classes", "tiny"):
        assert told[0]["masks"][key] == told[1]["masks"][key], key
