import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diapir.data.folds import (
    Numbers,
    coverage_folds,
    depth_folds,
    group_folds,
    make_folds,
    mosaic_folds,
    random_folds,
    write_folds,
)
from diapir.data.mosaic import NONE, Mosaics, are_beside_training, find_mosaics
from diapir.data.tiles import UNKNOWN, DataSet, TileSet, coverage_classes
from diapir.faults import InputError
from diapir.recipe.tiles import Folds
from fake_masks import blob_masks
from fake_surveys import strangers, survey_tiles

SCHEMES = ("depth", "coverage", "random", "groups", "mosaic")


def some_tiles(count: int = 53, *, seed: int = 0) -> TileSet:
    """Tiles with depths of which many are equal and some unknown, in no order."""
    rng = np.random.default_rng(seed)
    depths_m = rng.integers(50, 70, count).astype(np.float32)
    depths_m[rng.permutation(count)[: count // 10]] = np.nan
    masks = blob_masks(count, seed=seed, side=20)[rng.permutation(count)]
    ids = tuple(f"{number:010x}" for number in rng.permutation(16**4)[:count])
    return TileSet(ids, np.zeros_like(masks), masks, depths_m)


def write_groups(path: Path, groups: dict[str, str]) -> Path:
    path.write_text("".join(f"{one},{other}\n" for one, other in {"id": "group", **groups}.items()))
    return path


def section(scheme: str, tiles: TileSet, folder: Path, *, count: int = 5, seed: int = 3) -> Folds:
    """The recipe's section for a scheme; groups are told by an id's last digit."""
    groups = write_groups(folder / "groups.csv", {tile: f"g{tile[-1]}" for tile in tiles.ids})
    return Folds.model_validate(
        {"scheme": scheme, "count": count, "seed": seed, "groups": groups if scheme == "groups" else None}
    )


def sizes(folds: Numbers, count: int) -> NDArray[np.int64]:
    return np.bincount(folds, minlength=count)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("count", [2, 5, 7])
def test_every_tile_has_one_fold_and_every_fold_tiles(scheme: str, count: int, tmp_path: Path) -> None:
    tiles = some_tiles()
    folds = make_folds(tiles, section(scheme, tiles, tmp_path, count=count))
    assert folds.shape == (len(tiles),)
    assert set(folds.tolist()) == set(range(count))
    if scheme != "groups":
        assert np.ptp(sizes(folds, count)) <= 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_order_of_the_tiles_does_not_matter(scheme: str, tmp_path: Path) -> None:
    tiles = some_tiles()
    settings = section(scheme, tiles, tmp_path)
    folds = make_folds(tiles, settings)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(tiles))
        assert np.array_equal(make_folds(tiles.take(order), settings), folds[order])


def test_depth_deals_out_by_rank() -> None:
    tiles = some_tiles()
    depths = {tile: (np.inf if np.isnan(z) else z, tile) for tile, z in zip(tiles.ids, tiles.depths_m, strict=True)}
    ranked = sorted(tiles.ids, key=lambda tile: depths[tile])
    folds = depth_folds(tiles.ids, tiles.depths_m, count=5)
    assert folds.tolist() == [ranked.index(tile) % 5 for tile in tiles.ids]


def test_depths_are_ranked_among_all_tiles_where_that_is_asked_for() -> None:
    every = some_tiles(60)
    tiles, others = every.take(np.arange(0, 60, 2)), every.take(np.arange(1, 60, 2))
    folds = make_folds(tiles, Folds(count=5, ranked="all"), others=replace(others, masks=None))
    assert np.array_equal(folds, depth_folds(every.ids, every.depths_m, count=5)[::2])
    assert not np.array_equal(folds, make_folds(tiles, Folds(count=5), others=others))
    with pytest.raises(ValueError, match="belongs to scheme 'depth'"):
        Folds(scheme="random", ranked="all")


@pytest.mark.parametrize("count", [2, 5, 8])
def test_coverage_divides_every_class_evenly(count: int) -> None:
    tiles = some_tiles(200)
    assert tiles.masks is not None
    folds = coverage_folds(tiles.ids, tiles.masks, count=count, seed=0)
    classes = coverage_classes(tiles.masks)
    assert len(set(classes.tolist())) > 8
    for one in set(classes.tolist()):
        assert np.ptp(sizes(folds[classes == one], count)) <= 1


@given(st.integers(0, 101))
def test_coverage_classes_are_tenths_rounded_up(salt: int) -> None:
    mask = (np.arange(101) < salt).astype(np.uint8).reshape(1, 1, 101)
    expected = next(tenth for tenth in range(11) if 10 * salt <= tenth * 101)
    assert coverage_classes(mask).tolist() == [expected]


def test_seeds_give_other_folds_where_chance_plays_a_part() -> None:
    tiles = some_tiles()
    assert tiles.masks is not None
    assert not np.array_equal(random_folds(tiles.ids, count=5, seed=0), random_folds(tiles.ids, count=5, seed=1))
    one, other = (coverage_folds(tiles.ids, tiles.masks, count=5, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.integers(2, 5))
def test_groups_stay_whole_and_no_fold_is_empty_or_needlessly_large(groups: list[str], count: int) -> None:
    number = len(set(groups))
    if number < count:
        with pytest.raises(InputError, match=rf"folds\.groups: expected at least {count} groups, .* found {number}"):
            group_folds(groups, count=count)
        return
    folds = group_folds(groups, count=count)
    assert len(set(zip(groups, folds.tolist(), strict=True))) == number
    held = sizes(folds, count)
    assert held.min() > 0
    # A group goes to the smallest fold, so no fold is ahead of another by more than the last group it was given.
    for fold in range(count):
        last = min(Counter(group for group, one in zip(groups, folds.tolist(), strict=True) if one == fold).values())
        assert held[fold] - last <= held.min()


@settings(deadline=None)
@given(st.lists(st.integers(NONE, 12), min_size=60, max_size=60), st.integers(2, 6))
def test_mosaics_stay_whole_and_the_rest_evens_folds_out(numbers: list[int], count: int) -> None:
    tiles, mosaics = some_tiles(60), np.array(numbers)
    folds = mosaic_folds(tiles.ids, tiles.depths_m, mosaics, count=count)
    is_together = np.array([number != NONE and numbers.count(number) > 1 for number in numbers])
    assert all(len(set(folds[mosaics == number].tolist())) == 1 for number in set(mosaics[is_together].tolist()))
    whole = sizes(folds[is_together], count)
    # The others go to the smallest folds: a fold that is larger than another by two or more got none of them.
    held = sizes(folds, count)
    for fold in range(count):
        assert held[fold] - held.min() <= 1 or held[fold] == whole[fold]


@settings(deadline=None)
@given(st.integers(2, 7), st.integers(7, 60))
def test_without_mosaics_they_are_depth_folds(count: int, number: int) -> None:
    tiles = some_tiles(number)
    alone = np.full(number, NONE)
    folds = mosaic_folds(tiles.ids, tiles.depths_m, alone, count=count)
    assert np.array_equal(folds, depth_folds(tiles.ids, tiles.depths_m, count=count))
    assert np.array_equal(folds, mosaic_folds(tiles.ids, tiles.depths_m, np.arange(number), count=count))


def test_the_rest_is_dealt_over_all_depths() -> None:
    tiles = some_tiles(200)
    mosaics = np.full(200, NONE)
    mosaics[:24], mosaics[24:40] = 0, 1
    folds = mosaic_folds(tiles.ids, tiles.depths_m, mosaics, count=5)
    assert sizes(folds, 5).tolist() == [40] * 5
    ranks = np.lexsort((np.array(tiles.ids), tiles.depths_m))
    rest = folds[ranks[ranks >= 40]]
    for quarter in np.split(rest, 4):  # 16 and 24 of 160 for the folds of the mosaics, 40 for the others
        assert np.abs(sizes(quarter, 5) - [4, 6, 10, 10, 10]).max() <= 1


def test_mosaics_run_through_tiles_without_labels() -> None:
    survey = survey_tiles(3, 3, seed=0)
    corners = [0, 2, 6, 8]  # neighbours of none of them, but of one survey
    images = np.concatenate([survey[corners], strangers(8, seed=0)])
    ids = tuple("abcdefghijkl")
    masks = np.ones_like(images)
    tiles = TileSet(ids, images, masks, np.arange(12, dtype=np.float32))
    section = Folds(scheme="mosaic", count=3)
    assert len(set(make_folds(tiles, section)[:4].tolist())) > 1
    others = survey[[1, 3, 4, 5, 7]]
    folds = make_folds(tiles, section, survey=lambda: find_mosaics(np.concatenate([images, others])))
    assert len(set(folds[:4].tolist())) == 1
    assert sizes(folds, 3).tolist() == [4, 4, 4]


def test_the_real_mosaic_folds_are_even_and_leave_no_tile_beside_training(
    tgs_data: DataSet, tgs_mosaics: Mosaics
) -> None:
    tiles = tgs_data.labelled
    labelled = tgs_mosaics.take(np.arange(len(tiles)))
    folds = mosaic_folds(tiles.ids, tiles.depths_m, labelled.mosaic, count=5)
    assert np.ptp(sizes(folds, 5)) <= 1
    assert not are_beside_training(folds, labelled).any()
    medians = [np.median(tiles.depths_m[folds == fold]) for fold in range(5)]
    assert np.ptp(medians) < 30
    for other in (depth_folds(tiles.ids, tiles.depths_m, count=5), random_folds(tiles.ids, count=5, seed=0)):
        assert are_beside_training(other, labelled).sum() > 100


def test_the_file_names_scheme_count_and_seed_and_every_tile(tmp_path: Path) -> None:
    tiles = some_tiles()
    folds = random_folds(tiles.ids, count=4, seed=9)
    write_folds(tmp_path / "folds.csv", tiles.ids, folds, Folds(scheme="random", count=4, seed=9))
    first, *rest = (tmp_path / "folds.csv").read_text().splitlines()
    assert first == "# scheme=random count=4 seed=9"
    assert [(row["id"], int(row["fold"])) for row in csv.DictReader(rest)] == list(
        zip(tiles.ids, folds.tolist(), strict=True)
    )


def test_folds_without_salt_are_told_all_at_once() -> None:
    masks = np.zeros((9, 2, 2), np.uint8)
    masks[1] = 1  # depths 0, 1, 2 ... go to folds 0, 1, 2, 0 ...
    masks[3] = UNKNOWN
    tiles = TileSet(tuple("abcdefghi"), masks, masks, np.arange(9, dtype=np.float32))
    with pytest.raises(InputError) as caught:
        make_folds(tiles, Folds(count=3))
    assert [fault.where for fault in caught.value.faults] == ["fold 0", "fold 2"]
    assert "none of its tiles has salt" in caught.value.faults[0].what


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_tiles_are_told(count: int) -> None:
    tiles = some_tiles().take(np.arange(count))
    with pytest.raises(InputError, match=rf"folds\.count: expected at least 5 labelled tiles, .* found {count}"):
        make_folds(tiles, Folds(count=5))


def group_faults(text: str | bytes, tiles: TileSet, folder: Path) -> Sequence[str]:
    path = folder / "groups.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        make_folds(tiles, Folds(scheme="groups", count=2, groups=path))
    return [str(fault).removeprefix(str(path)) for fault in caught.value.faults]


def few_tiles() -> TileSet:
    masks = np.ones((3, 2, 2), np.uint8)
    return TileSet(("a", "b", "c"), masks, masks, np.zeros(3, np.float32))


def test_every_fault_of_a_group_file_is_told_with_its_line(tmp_path: Path) -> None:
    text = 'id,group\na,1\n\nb\nb,2,3\na,4\nx,\n,5\n"b\n'
    assert group_faults(text, few_tiles(), tmp_path) == [
        ":4: expected an id and a group, found b",
        ":5: expected an id and a group, found b,2,3",
        ":6: the id a is given twice",
        ":7: expected an id and a group, found x,",
        ":8: expected an id and a group, found ,5",
        ":9: expected an id and a group, found b",
        ": 2 labelled tiles have no group, e.g. b, c",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: expected the header id,group, found none"),
        ("a,1\nb,2\nc,3\n", ":1: expected the header id,group, found a,1"),
        ("id;group\na;1\n", ":1: expected the header id,group, found id;group"),
        (b"id,group\n\xff\xfe,1\n", ": cannot be read as CSV: "),
    ],
)
def test_what_is_no_group_file_is_refused(text: str | bytes, says: str, tmp_path: Path) -> None:
    (fault,) = group_faults(text, few_tiles(), tmp_path)
    assert fault.startswith(says)


def test_a_group_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read as CSV"):
        make_folds(few_tiles(), Folds(scheme="groups", count=2, groups=tmp_path / "absent.csv"))


def test_a_group_file_may_come_from_a_spreadsheet_and_hold_more_tiles(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_bytes(
        '\ufeffid,group\r\n"c","north, upper"\r\nb,south\r\nunlabelled,9\r\na,"north, upper"\r\n\r\n'.encode()
    )
    folds = make_folds(few_tiles(), Folds(scheme="groups", count=2, groups=path))
    assert folds[0] == folds[2] != folds[1]
