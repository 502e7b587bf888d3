import csv
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from diapir.data.synthetic import make_synthetic, write_synthetic
from diapir.data.synthetic_earth import HEIGHT, WIDTH, SaltKind, make_section
from diapir.data.tiles import TILE, DataSet
from diapir.faults import InputError
from diapir.runs import read_json

Made = tuple[DataSet, NDArray[np.uint8]]

# Of the competition's 4000 training masks: no salt, then coverage classes 1 to 10.
REAL_CLASSES = np.array([1562, 576, 296, 224, 186, 225, 205, 174, 148, 159, 245]) / 4000


@pytest.fixture(scope="module")
def made() -> Made:
    return make_synthetic(labelled=240, unlabelled=40, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "data"
    write_synthetic(out, labelled=30, unlabelled=12, seed=5)
    return out


def masks_of(data: DataSet) -> NDArray[np.uint8]:
    assert data.labelled.masks is not None
    return data.labelled.masks


def areas_of(data: DataSet) -> NDArray[np.int64]:
    return np.asarray(masks_of(data).sum((1, 2), dtype=np.int64))


def is_vertical(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((masks == masks[:, :1]).all((1, 2)) & masks.any((1, 2)))


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def mask_of_rle(text: str) -> NDArray[np.uint8]:
    """The slow and obvious decoder: numbered from 1, down the columns."""
    flat = np.zeros(TILE * TILE, np.uint8)
    numbers = [int(number) for number in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 1
    return flat.reshape(TILE, TILE).T


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "again", labelled=30, unlabelled=12, seed=5)
    assert digests(tmp_path / "again") == digests(folder)


def test_other_seed_gives_other_tiles_and_ids() -> None:
    (first, _), (second, _) = (make_synthetic(labelled=12, unlabelled=3, seed=seed) for seed in (0, 1))
    assert not set(first.labelled.ids) & set(second.labelled.ids)
    assert first.digest != second.digest
    assert not (first.labelled.images == second.labelled.images).all((1, 2)).all()


def test_coverage_classes_have_the_shares_of_the_real_set(made: Made) -> None:
    classes = np.ceil(10 * areas_of(made[0]) / TILE**2).astype(int)
    shares = np.bincount(classes, minlength=11) / len(classes)
    np.testing.assert_allclose(shares, REAL_CLASSES, atol=0.015)


def test_special_tiles_have_the_shares_of_the_real_set(made: Made) -> None:
    data = made[0]
    area = areas_of(data)
    constant = data.labelled.images.max((1, 2)) == data.labelled.images.min((1, 2))
    assert constant.mean() == pytest.approx(80 / 4000, abs=0.01)
    assert is_vertical(masks_of(data)).mean() == pytest.approx(113 / 4000, abs=0.01)
    assert ((area > 0) & (area <= 10)).mean() == pytest.approx(45 / 4000, abs=0.006)
    assert ((area > 0) & (area <= 100)).mean() == pytest.approx(168 / 4000, abs=0.01)
    assert (area > 10000).mean() == pytest.approx(98 / 4000, abs=0.01)


def test_every_special_kind_is_present_in_a_set_of_a_few_hundred(made: Made) -> None:
    data = made[0]
    area = areas_of(data)
    assert ((area > 0) & (area <= 10)).any()
    assert (area > 10000).any()
    assert (area == 0).any()
    assert is_vertical(masks_of(data)).any()
    assert masks_of(data)[:, -1].all(1).any(), "caps"


def test_constant_tiles_are_black_and_hold_no_salt(made: Made) -> None:
    tiles = made[0].labelled
    constant = tiles.images.max((1, 2)) == tiles.images.min((1, 2))
    assert constant.any()
    assert not tiles.images[constant].any()
    assert not masks_of(made[0])[constant].any()


def test_no_mask_is_full(made: Made) -> None:
    assert areas_of(made[0]).max() < TILE**2
    assert made[1].sum((1, 2), dtype=np.int64).max() < TILE**2


def test_masks_are_zero_and_one(made: Made) -> None:
    assert set(np.unique(masks_of(made[0]))) == {0, 1}


def test_tiles_use_all_greys_unless_constant(made: Made) -> None:
    images = made[0].labelled.images
    low, high = images.min((1, 2)), images.max((1, 2))
    assert (((low == 0) & (high == 255)) | (low == high)).all()


def test_no_tile_is_there_twice(made: Made) -> None:
    images = np.concatenate([made[0].labelled.images, made[0].unlabelled.images])
    moving = images[images.any((1, 2))]
    assert len({tile.tobytes() for tile in moving}) == len(moving)


def test_ids_are_ten_hexadecimal_digits_and_distinct(made: Made) -> None:
    ids = made[0].labelled.ids + made[0].unlabelled.ids
    assert all(re.fullmatch(r"[0-9a-f]{10}", name) for name in ids)
    assert len(set(ids)) == len(ids)


def test_depths_lie_where_the_real_ones_do(made: Made) -> None:
    depths = made[0].labelled.depths_m
    assert depths.min() >= 50
    assert depths.max() <= 959
    assert (depths == np.rint(depths)).all()


def test_shallow_tiles_hold_less_salt(made: Made) -> None:
    empty, depths = areas_of(made[0]) == 0, made[0].labelled.depths_m
    assert empty[depths < 200].mean() > empty[(depths > 350) & (depths < 650)].mean() + 0.2


def test_deeper_sections_have_lower_frequencies() -> None:
    def mean_frequency(depth_m: float) -> float:
        sections = [make_section(np.random.default_rng(seed), depth_m=depth_m, kind="none") for seed in range(4)]
        power = sum(np.square(np.abs(np.fft.rfft(section.amplitude, axis=0))).sum(1) for section in sections)
        return float((power * np.fft.rfftfreq(HEIGHT)).sum() / np.sum(power))

    assert mean_frequency(80) > 1.5 * mean_frequency(700)


@pytest.mark.parametrize("kind", ["massif", "diapir", "sheet", "overhang", "walls"])
def test_every_kind_of_salt_is_partly_in_its_section(kind: SaltKind) -> None:
    shares = [make_section(np.random.default_rng(seed), depth_m=400, kind=kind).salt.mean() for seed in range(4)]
    assert any(0.02 < share < 0.98 for share in shares)


def test_sections_without_salt_have_none() -> None:
    section = make_section(np.random.default_rng(0), depth_m=400, kind="none")
    assert not section.salt.any()
    assert section.amplitude.shape == section.salt.shape == (HEIGHT, WIDTH)
    assert np.isfinite(section.amplitude).all()


def test_walls_are_vertical_through_the_whole_section() -> None:
    salt = make_section(np.random.default_rng(1), depth_m=400, kind="walls").salt
    assert salt.any()
    assert (salt == salt[:1]).all()


def test_salt_is_usually_quieter_than_what_surrounds_it() -> None:
    def inside_over_outside(seed: int) -> float:
        section = make_section(np.random.default_rng(seed), depth_m=400, kind="massif")
        inside, outside = (binary_erosion(part, iterations=15) for part in (section.salt, ~section.salt))
        return float(section.amplitude[inside].std() / section.amplitude[outside].std())

    assert np.median([inside_over_outside(seed) for seed in range(8)]) < 0.8


def test_salt_boundary_is_usually_brighter_than_the_rest() -> None:
    def boundary_over_rest(seed: int) -> float:
        section = make_section(np.random.default_rng(seed), depth_m=400, kind="massif")
        edge = binary_dilation(section.salt, iterations=3) & ~binary_erosion(section.salt, iterations=3)
        return float(section.amplitude[edge].std() / section.amplitude[~edge].std())

    assert np.median([boundary_over_rest(seed) for seed in range(8)]) > 1.3


def test_folder_has_the_layout_of_the_competition(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "depths.csv",
        "train.csv",
        "sample_submission.csv",
        "truth.csv",
        "record.json",
        "train",
        "test",
    }
    train, test = read_rows(folder / "train.csv"), read_rows(folder / "sample_submission.csv")
    assert (len(train), len(test)) == (30, 12)
    assert {row["rle_mask"] for row in test} == {"1 1"}
    for place, rows in (("train/images", train), ("train/masks", train), ("test/images", test)):
        assert {path.name for path in (folder / place).iterdir()} == {f"{row['id']}.png" for row in rows}
    depths = read_rows(folder / "depths.csv")
    assert {row["id"] for row in depths} == {row["id"] for row in train + test}
    assert all(50 <= int(row["z"]) <= 959 for row in depths)


def test_written_tiles_and_truth_are_those_that_were_made(folder: Path) -> None:
    data, truth = make_synthetic(labelled=30, unlabelled=12, seed=5)
    texts = {row["id"]: row["rle_mask"] for name in ("train", "truth") for row in read_rows(folder / f"{name}.csv")}
    for name, image, mask in zip(data.labelled.ids, data.labelled.images, masks_of(data), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "train" / "images" / f"{name}.png")), image)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "train" / "masks" / f"{name}.png")), mask * 255)
        np.testing.assert_array_equal(mask_of_rle(texts[name]), mask)
    for name, image, mask in zip(data.unlabelled.ids, data.unlabelled.images, truth, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "test" / "images" / f"{name}.png")), image)
        np.testing.assert_array_equal(mask_of_rle(texts[name]), mask)


def test_record_counts_what_was_made(folder: Path) -> None:
    record = read_json(folder / "record.json")
    assert (record["seed"], record["labelled"], record["unlabelled"]) == (5, 30, 12)
    assert sum(record["kinds"].values()) == 42


def test_competition_reader_reads_the_folder(folder: Path) -> None:
    tgs = pytest.importorskip("diapir.data.tgs", reason="the reader of the competition's files is not there")
    data, _ = make_synthetic(labelled=30, unlabelled=12, seed=5)
    read: DataSet = tgs.read_tgs(folder)
    assert read.labelled.ids == data.labelled.ids
    assert read.unlabelled.ids == data.unlabelled.ids
    assert read.digest == data.digest


def test_progress_reaches_the_number_of_tiles() -> None:
    steps: list[int] = []
    make_synthetic(labelled=25, unlabelled=5, seed=0, advance=steps.append)
    assert sum(steps) == 30


@pytest.mark.parametrize("labelled", [1, 2, 7])
def test_small_sets_have_the_asked_size(labelled: int) -> None:
    data, truth = make_synthetic(labelled=labelled, unlabelled=0, seed=0)
    assert (len(data.labelled), len(data.unlabelled), truth.shape) == (labelled, 0, (0, TILE, TILE))


def test_impossible_numbers_are_refused_all_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_synthetic(tmp_path / "data", labelled=0, unlabelled=-1, seed=-2)
    assert [fault.where for fault in caught.value.faults] == ["--labelled", "--unlabelled", "--seed"]
    with pytest.raises(InputError) as caught:
        write_synthetic(tmp_path / "data", labelled=10**19, unlabelled=10**9, seed=10**40)
    assert [fault.where for fault in caught.value.faults] == ["--labelled", "--unlabelled", "--seed"]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(folder: Path) -> None:
    before = digests(folder)
    with pytest.raises(InputError, match="new or empty folder"):
        write_synthetic(folder, labelled=3, unlabelled=1, seed=0)
    assert digests(folder) == before
