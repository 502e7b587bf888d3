import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from diapir.faults import InputError
from diapir.predict.scoring import print_scoring, score_submission, write_scoring
from diapir.predict.submission import write_submission
from fake_masks import blob_masks

NUMBER = 64
IDS = [f"t{number:02}" for number in range(NUMBER)]


def folder_of(path: Path, *, truth_name: str = "truth.csv") -> Path:
    """A folder with a truth, depths, and a submission that is empty for every second tile and right for the rest."""
    masks = blob_masks(NUMBER)
    write_submission(path / truth_name, IDS, masks)
    masks[::2] = 0
    write_submission(path / "submission.csv", IDS[::-1], masks[::-1])
    rows = [f"{tile},{100 + 10 * number}" for number, tile in enumerate(IDS)]
    (path / "depths.csv").write_text("id,z\n" + "\n".join(rows))
    return path


def test_the_score_is_the_mean_over_the_tiles_of_the_truth(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    expected = np.where(np.arange(NUMBER) % 2 == 0, ~blob_masks(NUMBER).any(axis=(1, 2)), 1).mean()
    total = score_submission(folder / "submission.csv", folder).total
    assert total.num_tiles == NUMBER
    assert total.score == pytest.approx(expected)
    assert total.low < total.score < total.high


def test_classes_and_depth_bands_part_the_tiles(tmp_path: Path) -> None:
    scoring = score_submission(folder_of(tmp_path) / "submission.csv", tmp_path)
    for figures in (scoring.by_coverage, scoring.by_depth):
        assert sum(figure.num_tiles for figure in figures) == NUMBER
        mean = sum(figure.num_tiles * figure.score for figure in figures) / NUMBER
        assert mean == pytest.approx(scoring.total.score)
    # 100, 110 .. 190 m
    assert (scoring.by_depth[0].name, scoring.by_depth[0].num_tiles) == ("depth 0 to 200 m", 10)


@pytest.mark.parametrize(("salt", "name"), [(0, 0), (1, 1), (1020, 1), (1021, 2), (10201 - 1021, 9), (10201, 10)])
def test_a_coverage_class_is_the_tenth_of_salt_rounded_up(tmp_path: Path, salt: int, name: int) -> None:
    mask = (np.arange(101 * 101) < salt).astype(np.uint8).reshape(1, 101, 101)
    write_submission(tmp_path / "truth.csv", ["a"], mask)
    [figure] = score_submission(tmp_path / "truth.csv", tmp_path / "truth.csv").by_coverage
    assert figure.name == f"coverage class {name}"
    assert figure.score == figure.low == figure.high == 1


def test_depths_are_found_beside_the_truth_or_named_or_absent(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data", truth_name="train.csv.gz")
    scoring = score_submission(folder / "submission.csv", folder)
    shutil.move(folder / "depths.csv", tmp_path / "z.csv")
    assert score_submission(folder / "submission.csv", folder).by_depth == ()
    named = score_submission(folder / "submission.csv", folder / "train.csv.gz", depths_path=tmp_path / "z.csv")
    assert named.by_depth == scoring.by_depth
    (tmp_path / "z.csv").write_text("id,z\nt00,300\n")
    few = score_submission(folder / "submission.csv", folder, depths_path=tmp_path / "z.csv")
    assert [(figure.name, figure.num_tiles) for figure in few.by_depth] == [
        ("depth 200 to 400 m", 1),
        ("depth unknown", NUMBER - 1),
    ]


def test_rows_that_the_truth_does_not_have_are_counted_and_not_scored(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    before = score_submission(folder / "submission.csv", folder)
    with (folder / "submission.csv").open("a") as file:
        file.write("x,\ny,1 1\n")
    scoring = score_submission(folder / "submission.csv", folder)
    assert scoring.total == before.total
    assert (before.num_not_scored, scoring.num_not_scored) == (0, 2)
    out = io.StringIO()
    print_scoring(scoring, Console(file=out))
    assert "2 rows of the submission were not scored" in out.getvalue()
    assert f"{scoring.total.score:.4f}" in out.getvalue()


def test_every_fault_of_both_files_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("id,rle_mask\na,\nb,3\nc,1 1\nd,1 1\n")
    (tmp_path / "submission.csv").write_text("id,rle_mask\nb,1 1\na,5 5 6 6\n")
    with pytest.raises(InputError) as caught:
        score_submission(tmp_path / "submission.csv", tmp_path)
    places = [fault.where.removeprefix(f"{tmp_path}/") for fault in caught.value.faults]
    assert places == ["truth.csv:3", "submission.csv:3", "submission.csv", "submission.csv"]
    assert 'no row for the id "d"' in caught.value.faults[3].what


def test_a_truth_without_rows_or_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "submission.csv").write_text("id,rle_mask\n")
    with pytest.raises(InputError, match=r"one of truth\.csv"):
        score_submission(tmp_path / "submission.csv", tmp_path)
    with pytest.raises(InputError, match="found no rows below the header"):
        score_submission(tmp_path / "submission.csv", tmp_path / "submission.csv")


@pytest.mark.parametrize("depth", ["", "deep", "nan", "inf"])
def test_a_depth_that_is_no_number_is_named_with_its_line(tmp_path: Path, depth: str) -> None:
    folder = folder_of(tmp_path)
    (folder / "depths.csv").write_text(f"id,z\nt01,300\nt02,{depth}\nt01,200\n")
    with pytest.raises(InputError) as caught:
        score_submission(folder / "submission.csv", folder)
    assert [fault.where.rpartition(":")[2] for fault in caught.value.faults] == ["3", "4"]
    assert f"found '{depth}'" in caught.value.faults[0].what


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    scoring = score_submission(folder / "submission.csv", folder)
    write_scoring(scoring, tmp_path / "out" / "score.json")
    content = json.loads((tmp_path / "out" / "score.json").read_text())
    assert content["total"]["score"] == scoring.total.score
    assert [figure["name"] for figure in content["by_depth"]] == [figure.name for figure in scoring.by_depth]
    assert len(content["truth"]["sha256"]) == 64
    assert "provenance" in content


def test_the_real_truth_scores_1_against_itself(tgs_folder: Path) -> None:
    scoring = score_submission(tgs_folder / "train.csv", tgs_folder)
    assert scoring.total.score == 1
    assert len(scoring.by_coverage) == 11
    assert scoring.by_depth
