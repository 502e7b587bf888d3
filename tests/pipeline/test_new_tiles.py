"""Other tiles go through the steps that led to a run's submission, by what these decided."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diapir.data.tiles import DataSet, TileSet, write_data
from diapir.faults import InputError
from diapir.nets.weights import load_tensors, save_tensors
from diapir.pipeline.new_tiles import predict_with_run
from diapir.pipeline.predictions import read_predictions
from diapir.pipeline.run import run_recipe
from diapir.predict.submission import write_submission
from diapir.recipe.whole import Recipe
from diapir.runs import read_json, write_json
from diapir.train.snapshots import WEIGHTS_LAST
from fake_surveys import survey_tiles
from fake_training import TINY, tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

BLENDS: dict[str, dict[str, Any]] = {
    "ranked": {"blend": {"name": "ranked"}, "rescale": [1]},
    "by-score": {"blend": {"name": "weighted", "weights": "score"}},
    "vote": {"blend": {"name": "vote", "weights": [1, 2]}},
    "stacked": {"blend": {"name": "stacked"}},
    "aligned": {"blend": {"name": "aligned"}},
    "greedy": {"blend": {"name": "greedy"}},
}
STAGE = {**TINY["stages"][0], "epochs": 2, "framing": {"method": "resize", "size": 32}, "optimiser": {"lr": 0.05}}
STEPS: list[dict[str, Any]] = [
    {"do": "train", "name": "one"},
    {"do": "predict", "name": "one-says", "of": "one"},
    {"do": "train", "name": "two", "stages": [{**STAGE, "framing": {"method": "resize", "size": 24}}]},
    {"do": "predict", "name": "two-says", "of": "two"},
    *({"do": "blend", "name": name, "of": ["one-says", "two-says"], "ensemble": how} for name, how in BLENDS.items()),
    {"do": "post-process", "name": "one-cut", "of": "one-says", "edits": [{"name": "threshold", "cut": "tuned"}]},
    {"do": "blend", "name": "all", "of": [*BLENDS, "one-cut"]},
]


def recipe(edits: list[dict[str, Any]], *, of: str = "all", rules: tuple[str, ...] = ()) -> Recipe:
    edited = {"do": "post-process", "name": "edited", "of": of, "edits": edits, "mosaic_rules": list(rules)}
    steps = [*STEPS, edited, {"do": "submit", "of": "edited"}]
    return tiny_run_recipe({"data": {}, "folds.held_out": [], "stages": [STAGE], "steps": steps})


@pytest.fixture(scope="module")
def data() -> DataSet:
    """Two rows of a survey with walls of salt, and the row below them without labels."""
    images = survey_tiles(3, 5, seed=0)
    ids = tuple(f"tile{number:02}" for number in range(len(images)))
    columns = np.arange(101)
    starts = 1 + 2 * (np.arange(10) % 5)[:, None]
    # So wide that nets which find salt everywhere score above 0.
    walls = ((columns >= starts) & (columns < starts + 90)).astype(np.uint8)
    masks = np.repeat(walls[:, None], 101, axis=1)
    depths_m = np.linspace(100, 900, len(images), dtype=np.float32)
    labelled = TileSet(ids[:10], images[:10], masks, depths_m[:10])
    return DataSet(labelled, TileSet(ids[10:], images[10:], None, depths_m[10:]), {"source": "survey"})


@pytest.fixture(scope="module")
def path(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "set"
    write_data(data, out)
    return out


@pytest.fixture(scope="module")
def run(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    edits = [{"name": "threshold", "cut": "tuned"}, {"name": "small_salt", "smaller_than": "tuned"}]
    run_recipe(recipe(edits), out, data_path=path)
    return out


def predicted(run: Path, path: Path, out: Path) -> bytes:
    tiles, masks = predict_with_run(run, path)
    write_submission(out, tiles.ids, masks)
    return out.read_bytes()


def halving_edits(run: Path) -> list[dict[str, Any]]:
    """Edits that take about half of what they are asked about, whatever the nets say."""
    found = read_predictions(run / "all")
    assert found.has_salt is not None
    cut, gate = float(np.median(found.unlabelled)), float(np.median(found.has_salt.unlabelled))
    guarded = {"name": "location_crf", "only_if_score_below": 1.0}
    return [{"name": "threshold", "cut": cut}, guarded, {"name": "has_salt_gate", "cut": gate}]


def test_the_runs_own_tiles_come_out_as_its_submission_to_the_byte(run: Path, path: Path, tmp_path: Path) -> None:
    assert predicted(run, path, tmp_path / "tuned.csv") == (run / "submission.csv").read_bytes()
    halved = shutil.copytree(run, tmp_path / "halved")
    edits = halving_edits(run)
    run_recipe(recipe(edits), halved, data_path=path, update=True)
    again = predicted(halved, path, tmp_path / "halved.csv")
    assert again == (halved / "submission.csv").read_bytes()
    _, masks = predict_with_run(halved, path)
    assert 0.05 < masks.mean() < 0.95, "neither nothing nor all"
    assert (masks.max((1, 2)) == 0).sum() >= 2, "the gate emptied two of five"
    ruled = shutil.copytree(halved, tmp_path / "ruled")
    run_recipe(recipe(edits, rules=("extrude_vertical",)), ruled, data_path=path, update=True)
    assert predicted(ruled, path, tmp_path / "ruled.csv") == (ruled / "submission.csv").read_bytes() != again


def test_a_tile_gets_the_same_mask_in_another_set(run: Path, data: DataSet, path: Path, tmp_path: Path) -> None:
    # What stretches, weighs and cuts is the run's, not that of the tiles that come along.
    cut = float(np.median(read_predictions(run / "ranked").unlabelled))
    stretched = shutil.copytree(run, tmp_path / "stretched")
    changed = recipe([{"name": "threshold", "cut": cut}], of="ranked")
    run_recipe(changed, stretched, data_path=path, update=True)
    write_data(replace(data, unlabelled=data.unlabelled.take(np.array([3]))), tmp_path / "alone")
    every, alone = predict_with_run(stretched, path)[1], predict_with_run(stretched, tmp_path / "alone")[1]
    assert (alone[0] != every[3]).mean() < 1e-3, "a pixel at the cut may fall to its other side in another batch"


def test_a_folder_of_pngs_is_a_data_set(run: Path, data: DataSet, path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip(data.unlabelled.ids, data.unlabelled.images, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no tile")
    tiles, masks = predict_with_run(run, folder)
    expected_tiles, expected = predict_with_run(run, path)
    assert tiles.ids == expected_tiles.ids
    np.testing.assert_array_equal(masks, expected)
    (folder / "broken.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(folder / "small.png")
    with pytest.raises(InputError) as caught:
        predict_with_run(run, folder)
    assert sorted(Path(fault.where).name for fault in caught.value.faults) == ["broken.png", "small.png"]
    tiles, _ = predict_with_run(run, folder, skip_bad=True)
    assert tiles.ids == expected_tiles.ids


def test_mosaic_rules_need_the_runs_labelled_tiles(run: Path, data: DataSet, path: Path, tmp_path: Path) -> None:
    ruled = shutil.copytree(run, tmp_path / "ruled")
    run_recipe(recipe([], rules=("extrude_vertical",)), ruled, data_path=path, update=True)
    others = replace(data, labelled=data.labelled.take(np.arange(1, 10)))
    write_data(others, tmp_path / "others")
    with pytest.raises(InputError, match=r"'edited'.*\(extrude_vertical\).* 1 of them are not here, e\.g\. tile00"):
        predict_with_run(ruled, tmp_path / "others")


def test_what_a_step_decided_must_have_been_kept(run: Path, path: Path, tmp_path: Path) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    for name, keys in (("edited", ["tuned_cut"]), ("ranked", ["ranges"])):
        kept = read_json(old / name / "step.json")
        without = {key: value for key, value in kept["figures"].items() if key not in keys}
        write_json(old / name / "step.json", kept | {"figures": without})
        with pytest.raises(InputError, match=f"expected {keys[0]} among its figures.*do the step again"):
            predict_with_run(old, path)
        for damaged in ("no", {}, {"figures": 3}):
            write_json(old / name / "step.json", damaged)
            with pytest.raises(InputError, match=f"expected .*{keys[0]} among its figures"):
                predict_with_run(old, path)
        write_json(old / name / "step.json", kept)
    assert len(predict_with_run(old, path)[0]) == 5


def test_weights_of_an_earlier_version_are_named(run: Path, path: Path, tmp_path: Path) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    weights = old / "two" / "fold-1" / WEIGHTS_LAST
    tensors, facts = load_tensors(weights)
    spec = {key: value for key, value in facts["spec"].items() if key != "levels"} | {"mean": 0.5, "deviation": 0.2}
    save_tensors(weights, tensors, facts=facts | {"spec": spec})
    with pytest.raises(InputError, match=r"fold-1.weights-last.*of an earlier version, .*: train again"):
        predict_with_run(old, path)
