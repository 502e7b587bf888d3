import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diapir.data.mosaic_files import describe_mosaics, read_mosaics, survey_mosaics, write_mosaics
from diapir.data.mosaic_picture import mosaic_canvas
from diapir.data.tiles import DataSet, TileSet
from diapir.faults import InputError
from fake_surveys import SIDE, mosaics_of, strangers, survey_tiles

IDS = tuple("abcdefgh")
RED, BLUE, WHITE = [228, 87, 46], [31, 92, 153], [255, 255, 255]


def some_data(*, num_labelled: int = 7) -> DataSet:
    """Two surveys of 6 and of 4 tiles and 5 strangers; salt in the left third of each labelled tile."""
    images = np.concatenate([survey_tiles(2, 3, seed=0), survey_tiles(2, 2, seed=1), strangers(5, seed=0)])
    images = images[np.random.default_rng(5).permutation(len(images))]
    ids = tuple(f"t{number}" for number in range(len(images)))
    masks = np.zeros((num_labelled, SIDE, SIDE), np.uint8)
    masks[:, :, :33] = 1
    depths_m = np.arange(len(images), dtype=np.float32)
    labelled = TileSet(ids[:num_labelled], images[:num_labelled], masks, depths_m[:num_labelled])
    return DataSet(labelled, TileSet(ids[num_labelled:], images[num_labelled:], None, depths_m[num_labelled:]), {})


def test_a_file_brings_back_what_was_written(tmp_path: Path) -> None:
    mosaics = mosaics_of("ab .d", "f g")
    write_mosaics(tmp_path / "mosaics.csv", IDS[:7], mosaics)
    found = read_mosaics(tmp_path / "mosaics.csv", IDS)
    assert found.tiles_by_place() == mosaics.tiles_by_place()
    assert (len(found), found.mosaic[7]) == (8, -1)
    assert (tmp_path / "mosaics.csv").read_text().splitlines()[:3] == ["id,mosaic,row,column", "a,0,0,0", "b,0,0,1"]


def test_the_order_of_the_ids_is_the_readers_own(tmp_path: Path) -> None:
    write_mosaics(tmp_path / "mosaics.csv", IDS[:4], mosaics_of("ab cd"))
    found = read_mosaics(tmp_path / "mosaics.csv", ("d", "x", "a"))
    assert (found.row.tolist(), found.column.tolist()) == ([1, -1, 0], [1, -1, 0])


def test_every_fault_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mosaics.csv"
    path.write_text("id,mosaic,row,column\na,0,0,0\nb,0,0\nc,0,x,1\nd,0,0,0\na,0,0,1\ne,-1,-1,-1\n")
    with pytest.raises(InputError) as caught:
        read_mosaics(path, IDS)
    assert [str(fault).removeprefix(f"{path}:") for fault in caught.value.faults] == [
        "3: expected an id and three whole numbers, found b,0,0",
        "4: expected an id and three whole numbers, found c,0,x,1",
        "5: the place 0,0,0 is given twice; find the mosaics again",
        "6: the id a is given twice; find the mosaics again",
        "7: expected an id and three whole numbers, found e,-1,-1,-1",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "expected the header"), (b"id,group\na,1\n", "found id,group"), (b"\xff\xfe", "cannot be read as CSV")],
)
def test_what_is_no_file_of_mosaics_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "mosaics.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_mosaics(tmp_path / "mosaics.csv", IDS)


def test_a_survey_of_a_data_set_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = some_data()
    mosaics = survey_mosaics(data, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mosaics.csv", "mosaics.json", "mosaics.png"]
    back = read_mosaics(tmp_path / "out" / "mosaics.csv", data.labelled.ids + data.unlabelled.ids)
    assert back.tiles_by_place() == mosaics.tiles_by_place()
    figures = json.loads((tmp_path / "out" / "mosaics.json").read_text())
    assert figures == describe_mosaics(data, mosaics)
    assert (figures["mosaics"], figures["tiles"], figures["largest"]) == (2, 10, [6, 4])
    assert figures["labelled_tiles"] + figures["unlabelled_tiles"] == 10
    assert figures["held_out_beside_training"]["mosaic"] == 0
    with Image.open(tmp_path / "out" / "mosaics.png") as picture:
        assert np.asarray(picture).std() > 10
    assert "tiles in mosaics" in capsys.readouterr().out


def test_how_much_nearer_neighbours_must_be_can_be_said(tmp_path: Path) -> None:
    survey_mosaics(some_data(), tmp_path, least_compatibility=0.999)
    assert json.loads((tmp_path / "mosaics.json").read_text())["tiles"] == 0


def test_a_data_set_without_mosaics_is_surveyed_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE), dtype=np.uint8)
    ids = tuple("abcdef")
    depths_m = np.full(6, np.nan, np.float32)
    labelled = TileSet(ids[:5], images[:5], np.ones((5, SIDE, SIDE), np.uint8), depths_m[:5])
    data = DataSet(labelled, TileSet(ids[5:], images[5:], None, depths_m[5:]), {})
    survey_mosaics(data, tmp_path)
    assert json.loads((tmp_path / "mosaics.json").read_text())["mosaics"] == 0
    assert (tmp_path / "mosaics.csv").read_text() == "id,mosaic,row,column\n"


def test_figures_count_tiles_with_labels_and_beside_them() -> None:
    data = some_data(num_labelled=6)  # t0 to t5, and t6 to t14 without masks
    figures = describe_mosaics(data, mosaics_of("abg", "c h", "ij", "def", count=15))
    assert (figures["mosaics"], figures["tiles"], figures["labelled_tiles"]) == (4, 10, 6)
    assert (figures["mosaics_with_labelled_tiles"], figures["unlabelled_tiles_of_those"]) == (3, 2)
    # Folds by depth: a to e one each, f with a; so a and b, d and e, e and f are apart.
    assert figures["held_out_beside_training"]["depth"] == 5


def test_a_mosaic_is_drawn_tile_by_tile_with_the_salt_that_is_known() -> None:
    data = some_data(num_labelled=1)
    canvas = mosaic_canvas(data, mosaics_of("ab .c"), number=0)
    assert canvas.shape == (2 * SIDE, 2 * SIDE, 3)
    assert (canvas[SIDE:, :SIDE] == WHITE).all()
    for row, place in ((0, np.s_[:SIDE, SIDE:]), (1, np.s_[SIDE:, SIDE:])):
        assert np.array_equal(canvas[place], np.repeat(data.unlabelled.images[row, :, :, None], 3, axis=2))
    labelled = canvas[:SIDE, :SIDE]
    image = data.labelled.images[0, :, :, None]
    assert (labelled[50, [0, 100]] == BLUE).all()
    assert (labelled[50, 30:33] == RED).all(), "the wall of the salt is outlined"
    shaded = np.rint(0.7 * image[20:80, 5:25] + 0.3 * np.array(RED))
    assert np.abs(labelled[20:80, 5:25] - shaded).max() <= 1, "and its inside shaded, up to the border of the tile"
    assert np.array_equal(labelled[20:80, 40:95], np.repeat(image[20:80, 40:95], 3, axis=2))
