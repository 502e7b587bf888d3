"""A recipe of several steps: each done once, kept, and done again only where a change touches it."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diapir.data.synthetic import make_synthetic, write_synthetic
from diapir.data.tiles import DataSet
from diapir.faults import InputError
from diapir.pipeline import training
from diapir.pipeline.plan import begins_with_best, plan_steps
from diapir.pipeline.predictions import Predictions, read_predictions, write_array, write_predictions
from diapir.pipeline.pseudo import AUDIT, confidence, pseudo_label, read_pseudo_labels
from diapir.pipeline.run import run_recipe, show_plan
from diapir.pipeline.workplace import Workplace
from diapir.recipe.files import read_recipe
from diapir.recipe.steps import PseudoLabel, Train, round_of
from diapir.recipe.whole import Recipe
from diapir.runs import read_json
from fake_training import TINY, tiny_run_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPES = Path(__file__).parents[2] / "recipes"

STEPS: list[dict[str, Any]] = [
    {"do": "train", "name": "teacher"},
    {"do": "predict", "name": "teacher-says", "of": "teacher"},
    {"do": "pseudo-label", "name": "round-1", "of": "teacher-says", "confidence": 0.0},
    {"do": "train", "name": "pretrained", "tiles": ["round-1"], "start_from": "teacher"},
    {"do": "train", "name": "student", "tiles": ["labelled", "round-1"], "start_from": "pretrained"},
    {"do": "predict", "name": "student-says", "of": "student"},
    {"do": "submit", "of": "student-says"},
]

BCE: list[dict[str, Any]] = [{"name": "only", "epochs": 1, "loss": {"bce": 1.0}}]

MODEL = {key: TINY[key] for key in ("framing", "input", "net", "augment", "stages", "average")}
TWICE: dict[str, Any] = {"do": "blend", "name": "twice", "of": ["teacher-says", "teacher-says"]}
LEAKY = STEPS[2] | {"leak_free": False}
OF_ONE: dict[str, Any] = {"do": "predict", "name": "one-says", "of": "pretrained"}
FREE = STEPS[2] | {"name": "round-2", "of": "one-says"}
EDITED: dict[str, Any] = {"do": "post-process", "name": "edited", "of": "teacher-says"}
OF_BOTH = STEPS[2] | {"of": "twice"}
LAST: dict[str, Any] = {"do": "submit", "of": "twice"}


def steps_recipe(changes: dict[str, Any] | None = None) -> Recipe:
    stages = [{**stage, "epochs": 1} for stage in TINY["stages"]]
    base = {"stages": stages, "stages.0.framing.size": 32, "folds.held_out": [], "steps": STEPS}
    return tiny_run_recipe(base | (changes or {}))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return make_synthetic(labelled=20, unlabelled=5, seed=1)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("steps") / "run"
    run_recipe(steps_recipe(), out, data_path=None)
    return out


def states(recipe: Recipe, out: Path, data: DataSet) -> dict[str, str]:
    return {one.step.name: one.state for one in plan_steps(recipe, out, data=data)}


def stamps(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*.npy")}


def test_every_step_leaves_its_folder_and_the_last_the_record(finished: Path) -> None:
    assert {path.name for path in finished.iterdir() if path.is_dir()} == {step.get("name", "submit") for step in STEPS}
    record = read_json(finished / "record.json")
    assert "mean over 20 held-out tiles" in record["score_kind"]
    assert record["epochs"] == 3 * 2


def test_leak_free_labels_of_a_fold_come_from_that_folds_model_alone(finished: Path, data: DataSet) -> None:
    for fold in (0, 1):
        rows, masks = read_pseudo_labels(finished / "round-1", fold, tiles=data.unlabelled)
        own = read_predictions(finished / "teacher-says", fold).unlabelled
        assert rows.tolist() == list(range(5))
        assert ((own > 0.5) == masks.astype(bool)).all()
    mean = read_predictions(finished / "teacher-says").unlabelled.astype(np.float32)
    each = [read_predictions(finished / "teacher-says", fold).unlabelled.astype(np.float32) for fold in (0, 1)]
    assert np.abs(each[0] - each[1]).max() > 0.01, "two models"
    assert np.abs(mean - sum(each) / 2).max() < 2e-3


def test_the_audit_names_model_round_and_confidence_of_every_label(finished: Path, data: DataSet) -> None:
    rows = list(csv.DictReader(io.StringIO((finished / "round-1" / AUDIT).read_text())))
    assert [row["id"] for row in rows] == [*data.unlabelled.ids, *data.unlabelled.ids]
    assert {row["model"] for row in rows} == {"teacher-says fold 0", "teacher-says fold 1"}
    assert {row["round"] for row in rows} == {"1"}
    own = read_predictions(finished / "teacher-says", 1).unlabelled
    told = [float(row["confidence"]) for row in rows[5:]]
    assert told == pytest.approx(confidence(own, low=0.2, high=0.8), abs=1e-4)


def labelled_by_size(out: Path, data: DataSet, **settings: Any) -> list[list[int]]:
    """Rows that each of two folds is given: tile k has 10 k pixels of salt in the mean of all folds."""
    probability = np.zeros((5, 101, 101), np.float16)
    for row, tile in enumerate(probability):
        tile.reshape(-1)[: 10 * row] = 1.0
    probability[3, -1] = 0.5  # a hundredth unsure
    write_predictions(out / "says", Predictions(np.arange(0), probability[:0], probability))
    step = PseudoLabel(do="pseudo-label", name="round", of="says", leak_free=False, drop_constant=False, **settings)
    place = Workplace(tiny_run_recipe(), data, np.arange(20) % 2, out, fabric=None)  # type: ignore[arg-type]  # not asked
    pseudo_label(place, step, folds=(0, 1), number=1)
    return [read_pseudo_labels(out / "round", fold, tiles=data.unlabelled)[0].tolist() for fold in (0, 1)]


def test_sizes_choose_by_pixels_of_salt_confidence_and_every_so_many(tmp_path: Path, data: DataSet) -> None:
    sizes = [{"least_px": 0, "most_px": 0}, {"least_px": 11, "most_px": 40}]
    assert labelled_by_size(tmp_path / "a", data, sizes=sizes) == [[0, 2, 3, 4]] * 2
    assert labelled_by_size(tmp_path / "b", data, sizes=[sizes[0], sizes[1] | {"confidence": 0.995}]) == [[0, 2, 4]] * 2
    assert labelled_by_size(tmp_path / "c", data, sizes=[sizes[1] | {"every": 2}]) == [[2, 4]] * 2
    with pytest.raises(InputError, match="no tile fits any of its sizes"):
        labelled_by_size(tmp_path / "d", data, sizes=[{"least_px": 1, "most_px": 9}])


def test_labels_are_shared_out_so_that_each_fold_has_its_own(tmp_path: Path, data: DataSet) -> None:
    assert labelled_by_size(tmp_path, data, share_out=True) == [[0, 2, 4], [1, 3]]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "round" / AUDIT).read_text())))
    assert [(row["id"], row["trains"]) for row in rows[2:4]] == [
        (data.unlabelled.ids[4], "fold 0"),
        (data.unlabelled.ids[1], "fold 1"),
    ]
    assert {row["model"] for row in rows} == {"says mean of all folds"}


def test_shares_of_labels_that_differ_by_fold_do_not_overlap(tmp_path: Path, data: DataSet) -> None:
    says = {0: [1.0, 0.5, 1.0, 1.0, 0.5], 1: [0.5, 1.0, 1.0, 0.5, 1.0]}  # a half is unsure
    none = np.zeros((5, 101, 101), np.float16)
    write_predictions(tmp_path / "says", Predictions(np.arange(0), none[:0], none))
    for fold, values in says.items():
        probability = np.broadcast_to(np.array(values, np.float16)[:, None, None], none.shape)
        write_array(tmp_path / "says" / f"unlabelled-fold-{fold}.npy", probability)
    step = PseudoLabel(do="pseudo-label", name="round", of="says", drop_constant=False, share_out=True)
    place = Workplace(tiny_run_recipe(), data, np.arange(20) % 2, tmp_path, fabric=None)  # type: ignore[arg-type]
    pseudo_label(place, step, folds=(0, 1), number=1)
    assert [read_pseudo_labels(tmp_path / "round", fold, tiles=data.unlabelled)[0].tolist() for fold in (0, 1)] == [
        [0, 2],
        [1],
    ]


def test_rounds_are_counted_along_the_way_that_labels_take() -> None:
    steps = read_recipe(RECIPES / "place-01-bes-phalanx.yaml").all_steps
    names = ("round-1", "sure-1", "round-2", "submit")
    assert [round_of(steps, name) for name in names] == [1, 1, 2, 2]


@pytest.mark.parametrize(("asked", "predicts"), [("best", "last"), ("last", "best"), (None, "best")])
def test_a_step_starts_from_the_weights_that_it_names(asked: str | None, predicts: str) -> None:
    steps = [*STEPS[:3], STEPS[3] | ({"start_weights": asked} if asked else {}), *STEPS[4:]]
    recipe = steps_recipe({"steps": steps, "predict.weights": predicts})
    (step,) = [step for step in recipe.all_steps if step.name == "pretrained"]
    assert isinstance(step, Train)
    assert begins_with_best(recipe, step) == ((asked or predicts) == "best")


def test_confidence_is_the_share_of_sure_pixels() -> None:
    tile = np.full((10, 10), 0.5, np.float16)
    tile[:3] = 0.1
    tile[9] = 0.9
    assert confidence(np.stack([tile, np.zeros_like(tile)]), low=0.2, high=0.8).tolist() == [0.4, 1.0]


def test_one_label_for_all_folds_is_the_mean_and_is_said_to_leak(tmp_path: Path, data: DataSet) -> None:
    pseudo, says = {**STEPS[2], "leak_free": False, "soft": True}, {**STEPS[-2], "of": "pretrained"}
    steps = [*STEPS[:2], pseudo, STEPS[3], says, STEPS[-1]]
    run_recipe(steps_recipe({"steps": steps, "stages.1.loss": {"bce": 1.0}}), tmp_path / "run", data_path=None)
    for fold in (0, 1):
        _, masks = read_pseudo_labels(tmp_path / "run" / "round-1", fold, tiles=data.unlabelled)
        assert (masks == read_predictions(tmp_path / "run" / "teacher-says").unlabelled).all()
    assert not (tmp_path / "run" / "teacher-says" / "unlabelled-fold-0.npy").exists(), "nobody asks for it"
    assert read_json(tmp_path / "run" / "round-1" / "step.json")["figures"]["leak_free"] is False


def test_a_step_that_starts_from_another_starts_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run_recipe(steps_recipe({"steps": [*STEPS[:2], {"do": "submit", "of": "teacher-says"}]}), out, data_path=None)
    begun: list[Path | None] = []

    def note(*_: object, begin_with: Path | None, **__: object) -> None:
        begun.append(begin_with)
        raise InputError.of("", "enough")

    monkeypatch.setattr(training, "fit_fold", note)
    with pytest.raises(InputError, match="enough"):
        run_recipe(steps_recipe(), out, data_path=None, update=True)
    assert begun == [out / "teacher" / "fold-0" / "weights-last.safetensors"]
    assert begun[0] is not None
    assert begun[0].exists()


def test_no_tile_that_is_sure_enough_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tile reaches confidence 1\.0; the surest has"):
        run_recipe(steps_recipe({"steps.2.confidence": 1.0}), tmp_path / "run", data_path=None)


# What a change touches.


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, set()),
        ({"predict.threshold": 0.4}, {"submit"}),
        ({"about": "words"}, set()),
        ({"steps.2.confidence": 0.1}, {"round-1", "pretrained", "student", "student-says", "submit"}),
        ({"predict.views": ["plain"]}, {step.get("name", "submit") for step in STEPS} - {"teacher"}),
        ({"seed": 4}, {step.get("name", "submit") for step in STEPS}),
        ({"steps.4.tiles": ["labelled"]}, {"student", "student-says", "submit"}),
    ],
)
def test_only_what_a_change_touches_is_planned_again(
    finished: Path, data: DataSet, changes: dict[str, Any], again: set[str]
) -> None:
    found = states(steps_recipe(changes), finished, data)
    assert {name for name, state in found.items() if state != "done"} == again
    assert {found[name] for name in again} <= {"changed"}


def test_a_change_needs_update_and_keeps_what_it_leaves_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_recipe(steps_recipe(), out, data_path=None)
    before = stamps(out)
    changed = steps_recipe({"predict.threshold": 0.4})
    with pytest.raises(InputError, match="add --update to keep the steps that are the same"):
        run_recipe(changed, out, data_path=None)
    record = run_recipe(changed, out, data_path=None, update=True)
    assert record["threshold"] == 0.4
    assert stamps(out) == before


def test_labels_of_a_step_with_another_name_keep_their_nets_and_name_it(tmp_path: Path, data: DataSet) -> None:
    out = tmp_path / "run"
    run_recipe(steps_recipe(), out, data_path=None)
    steps = [{key: "renamed" if value == "teacher-says" else value for key, value in step.items()} for step in STEPS]
    renamed = steps_recipe({"steps": steps})
    found = states(renamed, out, data)
    assert found.pop("renamed") == "new"
    assert found.pop("round-1") == "changed"
    assert found.pop("submit") == "begun"
    assert {*found.values()} == {"done"}
    run_recipe(renamed, out, data_path=None, update=True)
    rows = csv.DictReader(io.StringIO((out / "round-1" / AUDIT).read_text()))
    assert {row["model"] for row in rows} == {"renamed fold 0", "renamed fold 1"}
    assert {*states(renamed, out, data).values()} == {"done"}


@pytest.mark.parametrize("name", ["submission.csv", "tiles.png", "held-out.csv"])
def test_what_a_finished_run_has_lost_is_made_again(tmp_path: Path, finished: Path, name: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before, kept = stamps(out), (out / name).read_bytes()
    (out / name).unlink()
    run_recipe(steps_recipe(), out, data_path=None)
    assert (out / name).read_bytes() == kept
    assert stamps(out) == before


def test_labels_for_tiles_that_are_not_there_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    tiles = tmp_path / "tiles"
    write_synthetic(tiles, labelled=20, unlabelled=1, seed=1)
    shutil.rmtree(tiles / "test")
    with pytest.raises(InputError, match="step round-1: it labels unlabelled tiles, and the data have none"):
        run_recipe(steps_recipe(), tmp_path / "run", data_path=tiles)
    assert not (tmp_path / "run" / "teacher").exists()


def test_what_a_step_begins_with_is_a_part_of_it(tmp_path: Path, data: DataSet) -> None:
    steps = [STEPS[0], {"do": "train", "name": "student", "start_from": "teacher"}, *STEPS[-2:]]
    plans = [
        plan_steps(steps_recipe({"steps": steps, "predict.weights": weights}), tmp_path, data=data)
        for weights in ("last", "best")
    ]
    same = {last.step.name for last, best in zip(*plans, strict=True) if last.digest == best.digest}
    assert same == {"teacher"}


def test_files_that_a_recipe_names_are_a_part_of_what_is_trained(finished: Path, data: DataSet, tmp_path: Path) -> None:
    def digests(recipe: Recipe) -> list[str]:
        return [one.digest for one in plan_steps(recipe, finished, data=data)]

    encoder = {"kind": "timm", "name": "resnet18", "weights": str(tmp_path / "trained.safetensors")}
    groups = {"scheme": "groups", "count": 2, "groups": str(tmp_path / "groups.csv")}
    cases: dict[str, dict[str, Any]] = {
        "trained.safetensors": {"net": {"encoder": encoder}, "stages": BCE},
        "groups.csv": {"folds": groups},
    }
    for name, changes in cases.items():
        recipe = steps_recipe(changes)
        before = [digests(recipe)]
        for content in ("one", "two"):
            (tmp_path / name).write_text(content)
            before.append(digests(recipe))
        assert all(len(set(each)) == 3 for each in zip(*before, strict=True)), name


def test_a_step_that_nothing_is_submitted_from_can_be_added(tmp_path: Path) -> None:
    steps = [*STEPS[:2], {"do": "submit", "of": "teacher-says"}]
    record = run_recipe(steps_recipe({"steps": steps}), tmp_path / "run", data_path=None)
    beside = {"do": "pseudo-label", "name": "beside", "of": "teacher-says", "confidence": 0.0, "leak_free": False}
    recipe = steps_recipe({"steps": [*steps[:2], beside, steps[2]]})
    again = run_recipe(recipe, tmp_path / "run", data_path=None, update=True)
    assert again["score"] == record["score"]
    assert again["recipe_digest"] == recipe.digest


def test_the_plan_is_shown_and_nothing_written(tmp_path: Path) -> None:
    text = show_plan(steps_recipe(), tmp_path / "run", data_path=None)
    wanted = [[step.get("name", "submit"), step["do"]] for step in STEPS]
    assert [line.split()[:2] for line in text.splitlines()] == wanted
    assert all(line.endswith("to do") for line in text.splitlines())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"steps.1.of": "student"}, "steps.1.of: 'student' is no train step before this one; there is teacher"),
        ({"steps.3.name": "teacher"}, "steps.3.name: 'teacher' is taken"),
        ({"steps.3.name": "labelled"}, "steps.3.name: 'labelled' is taken"),
        ({"steps.4.tiles": ["round-2"]}, "steps.4.tiles.0: 'round-2' is no pseudo-label step before this one"),
        ({"steps.0.model": "other"}, "steps.0.model: 'other' is none of models: none"),
        ({"steps.4.one_model": True}, "no tile is left to score it on"),
        ({"steps.3.one_model": True}, "steps.3.one_model: true, but 'round-1' labels for each fold apart"),
        (
            {"steps": [*STEPS[:2], LEAKY, STEPS[3] | {"one_model": True}, OF_ONE, FREE, LAST | {"of": "one-says"}]},
            "steps.5.leak_free: true needs a model for each fold, and 'pretrained' trains one for them all",
        ),
        (
            {"steps": [*STEPS[:2], EDITED, TWICE | {"of": ["teacher-says", "edited"]}, OF_BOTH, LAST]},
            "steps.4.leak_free: true needs each fold's own predictions, and 'edited' edits the mean of all folds",
        ),
        ({"steps.2.low": 0.9}, "steps.2: low 0.9 is above high 0.8, so every pixel would be sure"),
        ({"steps.2.sizes": [{"least_px": 9, "most_px": 3}]}, "steps.2.sizes.0: least_px 9 is above most_px 3"),
        (
            {"steps.2.sizes": [{"least_px": 0, "most_px": 3}, {"least_px": 3, "most_px": 5}]},
            "sizes: 3 pixels of salt are in two of them",
        ),
        (
            {"steps": [*STEPS[:2], TWICE | {"ensemble": {"blend": {"name": "weighted", "weights": [1, 2, 3]}}}, LAST]},
            "steps.2.ensemble.blend.weights: expected one a member, 2, found 3",
        ),
        (
            {"steps": [*STEPS[:2], TWICE | {"ensemble": {"rescale": [2]}}, LAST]},
            "steps.2.ensemble.rescale.0: expected members 0 to 1, found 2",
        ),
        (
            {"models": {"other": MODEL}, "models.other.input.channels": ["image"], "steps.3.model": "other"},
            "weights fit the same net alone, and these differ in the number of input.channels",
        ),
        (
            {"models": {"other": MODEL}, "models.other.net.encoder.widths": [4, 6], "steps.3.model": "other"},
            "differ in net.encoder",
        ),
        ({"steps": STEPS[:-1]}, "the last one, and no other, must be a submit step"),
    ],
)  # fmt: skip
def test_steps_that_do_not_fit_together_are_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError) as error:
        steps_recipe(changes)
    assert any(fault in str(each) for each in error.value.faults), error.value.faults
