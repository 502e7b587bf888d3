"""Labels in, a run out: the whole way, with a net so small that it takes seconds."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diapir.data.tiles import UNKNOWN, read_data
from diapir.faults import InputError
from diapir.nets.weights import load_tensors
from diapir.pipeline import training
from diapir.pipeline.bundle import write_bundle
from diapir.pipeline.plan import SURVEY_TILES
from diapir.pipeline.predictions import read_predictions
from diapir.pipeline.replay import replay_run
from diapir.pipeline.run import run_recipe
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.runs import read_json
from diapir.train.sitting import Fold
from diapir.volume.survey_train import survey_summary, survey_train
from fake_labelled_survey import INLINES, SAMPLES, small_survey, write_picture, write_store
from fake_training import TINY, tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

SURVEY = Path(__file__).parent.parent.parent / "recipes" / "survey.yaml"
STAGE = {**TINY["stages"][0], "epochs": 1, "batch": 8, "framing": {"method": "resize", "size": 32}}


def recipe(changes: dict[str, Any] | None = None) -> Recipe:
    """One short stage, folds by section."""
    base = {"stages": [STAGE], "average": {}, "folds": {"scheme": "sections", "count": 5, "gap": 2, "held_out": [0]}}
    return tiny_recipe(base | (changes or {}))


@pytest.fixture(scope="module")
def salt() -> NDArray[np.uint8]:
    """Of the survey that `survey` is."""
    return small_survey().salt.astype(np.uint8)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("stores") / "survey.zarr", small_survey().amplitude).path


@pytest.fixture(scope="module")
def labels(salt: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three inlines, of one of which only a part is known."""
    folder = tmp_path_factory.mktemp("labels")
    put_labels(folder, salt, places=(4, 20, 36))
    mask = salt[20].T.copy()
    mask[:, 20:] = UNKNOWN
    write_picture(folder / f"inline-{INLINES.numbers[20]}.png", mask)
    return folder


def put_labels(folder: Path, salt: NDArray[np.uint8], *, places: tuple[int, ...]) -> Path:
    for place in places:
        write_picture(folder / f"inline-{INLINES.numbers[place]}.png", salt[place].T)
    return folder


@pytest.fixture(scope="module")
def finished(survey: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "run"
    survey_train(survey, labels, recipe(), out)
    return out


def test_labels_lead_to_a_finished_run(finished: Path, survey: Path, labels: Path) -> None:
    record = survey_train(survey, labels, recipe(), finished)
    assert [each["line"] for each in record["data"]["labelled_sections"]] == [108, 140, 172]
    assert record["data"]["survey"]["unit"] == "ms"
    assert record["folds_held_out"] == [0]
    told = survey_summary(record, finished)
    assert "3 sections, 3 with salt: inline 108, inline 140, inline 172" in told
    assert f"{record['score']:.4f}" in told


def test_folds_are_no_more_than_labelled_sections(finished: Path) -> None:
    assert read_recipe(finished / "recipe.yaml").folds.count == 3
    assert (finished / "folds.csv").read_text().startswith("# scheme=sections count=3 seed=0 gap=2\n")


def test_held_out_scores_do_not_ask_what_nobody_knows(finished: Path) -> None:
    tiles, found = read_data(finished / SURVEY_TILES).labelled, read_predictions(finished / "predict")
    assert tiles.masks is not None
    unknown = tiles.masks[found.rows] == UNKNOWN
    assert unknown.any()
    assert (found.held_out[unknown] == 0).all()
    assert (found.held_out[~unknown] > 0).all()
    record = read_json(finished / "record.json")
    scores = []
    for row, probability in zip(found.rows, found.held_out, strict=True):
        known = tiles.masks[row] != UNKNOWN
        salt, truth = probability[known] > record["threshold"], tiles.masks[row][known] == 1
        both, either = (salt & truth).sum(), (salt | truth).sum()
        scores.append(sum(20 * both > step * either for step in range(10, 20)) / 10 if either else 1.0)
    honest = record["score_kind"].endswith("chosen on other tiles")
    assert record["score"] == pytest.approx(np.mean(scores), abs=0.02 if honest else 1e-5)


def test_a_recipe_of_several_models_cannot_begin_with_a_bundle(
    survey: Path, labels: Path, bundle: Path, tmp_path: Path
) -> None:
    several = recipe({"models": {"one": {"net": TINY["net"], "stages": [STAGE]}}})
    with pytest.raises(InputError, match="a bundle can begin only one"):
        survey_train(survey, labels, several, tmp_path / "run", start_from=bundle)


@pytest.mark.parametrize("count", [2, 3, 12])
def test_any_number_of_sections_from_two_on_will_do(
    survey: Path, salt: NDArray[np.uint8], tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = tuple(int(place) for place in np.linspace(0, 39, count))
    put_labels(tmp_path / "labels", salt, places=places)
    seen = list[Fold]()

    def stop_here(recipe: Recipe, fold: Fold, **named: object) -> None:
        seen.append(fold)
        raise RuntimeError("far enough")

    monkeypatch.setattr(training, "fit_fold", stop_here)
    with pytest.raises(RuntimeError, match="far enough"):
        survey_train(survey, tmp_path / "labels", recipe(), tmp_path / "run")
    assert len(seen[0].train) > 0
    assert seen[0].train.is_partial, "mirrored pixels are not known"
    assert len(seen[0].held_out) > 0


def test_what_lies_near_the_held_out_sections_teaches_nothing(
    survey: Path, salt: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_labels(tmp_path / "labels", salt, places=(3, 20, 30))
    write_picture(tmp_path / "labels" / "xl310.png", salt[:, 10].T)
    seen = list[Fold]()

    def stop_here(recipe: Recipe, fold: Fold, **named: object) -> None:
        seen.append(fold)
        raise RuntimeError("far enough")

    monkeypatch.setattr(training, "fit_fold", stop_here)
    with pytest.raises(RuntimeError, match="far enough"):
        survey_train(survey, tmp_path / "labels", recipe({"folds.count": 4}), tmp_path / "run")
    # All tiles are of the same rows; those of the crossline begin at its first inline.
    masks = seen[0].train.masks
    assert masks is not None
    crossline = masks[(masks[:, :SAMPLES] != UNKNOWN).any(1)[:, 35]]
    assert len(crossline)
    known = (crossline != UNKNOWN).any(1)
    assert not known[:, 1:6].any(), "inlines within 2 of the held-out one, place 3"
    assert known[:, [0, *range(6, 40)]].all()


def test_a_run_is_not_done_again(finished: Path, survey: Path, labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "fit_fold", lambda *arguments, **named: 1 / 0)
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    survey_train(survey, labels, recipe(), finished)
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}


def test_other_labels_need_another_folder_or_an_update(
    finished: Path, survey: Path, salt: NDArray[np.uint8], tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    put_labels(tmp_path / "labels", salt, places=(5, 25, 35))
    with pytest.raises(InputError, match="a run on other labels"):
        survey_train(survey, tmp_path / "labels", recipe(), run, resume=True)
    assert read_data(run / SURVEY_TILES).digest == read_data(finished / SURVEY_TILES).digest
    record = survey_train(survey, tmp_path / "labels", recipe(), run, update=True)
    assert [each["line"] for each in record["data"]["labelled_sections"]] == [110, 150, 170]


def test_a_run_that_was_stopped_goes_on(
    survey: Path, labels: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(training, "fit_fold", lambda *arguments, **named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            survey_train(survey, labels, recipe(), tmp_path / "run")
    with pytest.raises(InputError, match="add --resume to go on"):
        survey_train(survey, labels, recipe(), tmp_path / "run")
    survey_train(survey, labels, recipe(), tmp_path / "run", resume=True)
    name = "train/fold-0/weights-last.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("places", [(), (7,)])
def test_too_few_labels_leave_nothing_behind(
    survey: Path, salt: NDArray[np.uint8], tmp_path: Path, places: tuple[int, ...]
) -> None:
    (tmp_path / "labels").mkdir()
    put_labels(tmp_path / "labels", salt, places=places)
    with pytest.raises(InputError, match=r"label another|expected labels in it"):
        survey_train(survey, tmp_path / "labels", recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(survey: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        survey_train(survey, labels, recipe(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"thesis.txt"}


def test_the_recipe_of_surveys_runs_to_its_end(survey: Path, labels: Path, tmp_path: Path) -> None:
    narrow = [
        "net.encoder.widths=[8, 8, 8, 8, 8]", "net.decoder.widths=[8, 8, 8, 8]", "net.decoder.hypercolumn=4",
        "net.encoder.squeeze=2",
    ]  # fmt: skip
    record = survey_train(survey, labels, read_recipe(SURVEY, changes=narrow), tmp_path / "run", smoke=True)
    assert record["data"]["labelled"] == 8
    assert (tmp_path / "run" / "tiles.png").exists()


def test_tiles_of_no_survey_are_refused_by_its_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use diapir survey train, or another scheme"):
        run_recipe(recipe({"data": {"synthetic": {"labelled": 20, "unlabelled": 2}}}), tmp_path / "run", data_path=None)


# What is made of a run afterwards.


@pytest.fixture(scope="module")
def bundle(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(finished, out)
    return out


def test_a_bundle_and_a_replay_find_the_runs_own_tiles(finished: Path, bundle: Path, tmp_path: Path) -> None:
    assert (bundle / "bundle.json").exists()
    replay = replay_run(finished, tmp_path / "again", data_path=None)
    assert replay.different == ()


# From a bundle.


def wider() -> Recipe:
    """Another net, input, framing and stage than the bundle's."""
    stages = [{**STAGE, "framing": None, "loss": {"bce": 1.0}, "optimiser": {"lr": 1e-12, "weight_decay": 0.0}}]
    net = {"encoder": {"kind": "residual", "widths": [8, 8], "blocks": [1, 1]}, "decoder": {"widths": [8, 8]}}
    return recipe({"stages": stages, "net": net, "input": {"channels": ["image"]}, "framing": TINY["framing"]})


def test_training_goes_on_from_a_bundle(
    survey: Path, salt: NDArray[np.uint8], bundle: Path, finished: Path, tmp_path: Path
) -> None:
    others = put_labels(tmp_path / "labels", salt, places=(0, 15, 39))
    survey_train(survey, others, wider(), tmp_path / "run", start_from=bundle)
    name = "train/fold-0/weights-last.safetensors"
    (before, facts), (after, own_facts) = (load_tensors(run / name) for run in (finished, tmp_path / "run"))
    assert own_facts["spec"] == facts["spec"], "greys are scaled in another way"
    kept = [key for key in before if "running" not in key and "num_batches" not in key]
    assert kept
    for key in kept:
        assert np.allclose(before[key].numpy(), after[key].numpy(), atol=1e-6), key
    made = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert made.net == recipe().net
    assert made.input == recipe().input
    assert made.framing.size == 32, "tiles are seen as the bundle's net saw them last"
    assert made.stages[0].loss.has_salt > 0
    assert made.begin_with is not None


def test_another_bundle_is_another_run(survey: Path, labels: Path, bundle: Path, tmp_path: Path) -> None:
    survey_train(survey, labels, wider(), tmp_path / "run", start_from=bundle)
    made = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert made.begin_with is not None
    other = made.begin_with.model_copy(update={"digest": "0" * 64})
    assert made.model_copy(update={"begin_with": other}).digest != made.digest
    with pytest.raises(InputError, match="expected the bundle that the recipe begins with, digest 000000000000"):
        run_recipe(
            made.model_copy(update={"begin_with": other}),
            tmp_path / "other",
            data_path=tmp_path / "run" / SURVEY_TILES,
        )


def test_what_is_no_bundle_is_refused(survey: Path, labels: Path, finished: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one of it first, with diapir bundle"):
        survey_train(survey, labels, wider(), tmp_path / "run", start_from=finished)
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    content = bytearray((damaged / "train/fold-0/weights-last.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "train/fold-0/weights-last.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="does not match its SHA-256"):
        survey_train(survey, labels, wider(), tmp_path / "run", start_from=damaged)
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_another_net_is_told_that_the_weights_do_not_fit(
    bundle: Path, finished: Path, tmp_path: Path
) -> None:
    digest = read_json(bundle / "bundle.json")["digest"]
    asked = {"begin_with": {"bundle": str(bundle), "digest": digest}}
    strange = recipe(asked | {"net.encoder.widths": [8, 8]})
    with pytest.raises(InputError, match="weights-last"):
        run_recipe(strange, tmp_path / "run", data_path=finished / SURVEY_TILES)


def test_recipes_without_a_bundle_say_nothing_of_one() -> None:
    assert "begin_with" not in recipe().model_dump(mode="json")
