"""Training on corrections, as a process of its own: sets, a bundle, a run, and what it came to; told in files."""

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diapir.data.tiles import UNKNOWN
from diapir.faults import InputError
from diapir.pipeline.bundle import Model, open_model, write_bundle
from diapir.pipeline.fine_tuning import start_from_bundle
from diapir.pipeline.plan import FOLDS
from diapir.pipeline.run import run_recipe
from diapir.recipe.files import check_recipe, read_recipe
from diapir.recipe.whole import Recipe
from diapir.record import RECORD
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.records import CorrectionStore
from diapir.review.corrections.subjects import Subject, SurveySubject, TileSubject
from diapir.review.corrections.targets import Target
from diapir.review.retraining.before_after import Floats, Judged, draw_before_after, judge, net_says, totals
from diapir.review.retraining.sets import (
    control_sections,
    control_tiles,
    corrected_masks,
    first_weights,
    fold_behind,
    labels_to_learn,
    write_corrected_tiles,
    write_labels,
)
from diapir.review.retraining.trainings import JOB, RESULT, RUN, Phase, say
from diapir.runs import read_json, write_json
from diapir.train.doctor import TrainingFailed
from diapir.train.stop import Stopped, stop_at_once
from diapir.volume.segment_strip import seen_as
from diapir.volume.store import open_store
from diapir.volume.survey_train import survey_train

_GAP = 10
_SLOWER = 0.3
_HEAD_WEIGHT = 0.05
_MOST_PICTURES = 24
_SECTION_OF = re.compile(r"(inline|crossline)-(-?[0-9]+)-s[0-9]+-t[0-9]+,([0-9]+)")


@dataclass(frozen=True)
class RunFiles:
    """A finished run, as a job names it."""

    name: str
    folder: Path
    recipe: Recipe
    record: Mapping[str, Any]
    data_path: Path | None


@dataclass(frozen=True, eq=False)
class _Sets:
    """What is learned from, and what is judged by.

    Args:
        truths: of corrected targets and of those kept back, as they are scored.
        controls: those of them that are kept back.
    """

    truths: dict[Target, Mask]
    controls: frozenset[Target]


def main() -> int:
    """Do the job in the folder that is named; what came of it stands in its files.

    The lock of its folders came with the process, and goes with it.
    """
    folder = Path(sys.argv[1])
    stop_at_once()
    try:
        retrain(folder)
    except Stopped:
        return _end(folder, "stopped", "it was stopped; nothing else was changed")
    except (InputError, TrainingFailed) as error:
        return _end(folder, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the page must not wait for ever
        traceback.print_exc()
        return _end(folder, "failed", f"a fault of the program ({type(error).__name__}); log.txt says more")
    return 0


def retrain(folder: Path) -> None:
    """Everything, from the corrections as they are now to scores and pictures.

    Raises:
        InputError: the corrections are too few or damaged, or a file of the job is.
        Stopped: on a signal.
    """
    job = read_json(folder / JOB)
    say(folder, "preparing", "the corrections and the model are being brought together")
    subject, model = _open_subject(job), open_model(Path(job["model"]))
    corrected = corrected_masks(subject)
    if not corrected:
        raise InputError.of("", "nothing was corrected yet; correct some sections or tiles first")
    bundle = folder / "bundle"
    write_bundle(model.folder, bundle, data_path=None if job["data"] is None else Path(job["data"]))
    recipe = fine_tuning_recipe(model, epochs=job["epochs"], of_survey=isinstance(subject, SurveySubject))
    sets = _write_sets(subject, model, corrected, recipe, folder)
    epochs = sum(stage.epochs for stage in recipe.stages)
    say(folder, "training", f"the model goes on learning, with {len(corrected)} corrected", epochs=epochs)
    _train(subject, recipe, bundle, folder, threads=job["threads"])
    say(folder, "scoring", "both models are asked about the same pixels", epochs=epochs)
    write_json(folder / RESULT, _judged(subject, model, sets, folder))
    say(folder, "done", "it is done: the figures below say what it came to", epochs=epochs)


def fine_tuning_recipe(model: Model, *, epochs: int | None, of_survey: bool) -> Recipe:
    """The last stage of the model's own recipe once more, slower, for one net.

    Args:
        epochs: None for those of that stage.
    """
    own = model.members[-1].recipe
    raw = own.model_dump(mode="json")
    stage, loss = raw["stages"][-1], raw["stages"][-1]["loss"]
    # A head may have learned in an earlier stage alone; a recipe where one never learns is refused.
    loss["has_salt"] = (loss["has_salt"] or _HEAD_WEIGHT) if own.net.has_salt_head else 0.0
    loss["side"] = (loss["side"] or _HEAD_WEIGHT) if own.net.num_sides else 0.0
    stage |= {"cycles": 1, "keep_state": False, "start_from": "last", "snapshot": None, "stop_patience": None}
    stage["epochs"] = epochs or stage["epochs"]
    stage["score_every"] = stage["epochs"]
    stage["optimiser"]["lr"] *= _SLOWER
    if stage["schedule"]["lowest_lr"] is not None:
        stage["schedule"]["lowest_lr"] *= _SLOWER
    folds = raw["folds"]
    if of_survey:
        folds |= {"scheme": "sections", "gap": folds["gap"] if folds["gap"] is not None else _GAP, "groups": None}
    elif folds["scheme"] in ("groups", "sections"):
        folds |= {"scheme": "random", "groups": None, "gap": None}
    folds["held_out"] = [0]
    raw |= {"name": f"{model.recipe.name}-corrected", "about": "", "stages": [stage], "semi": None, "begin_with": None}
    raw |= {"models": {}, "steps": [], "average": raw["average"] | {"method": "none"}}
    raw["predict"] |= {"weights": "last", "threshold": 0.5}
    raw["data"] |= {"synthetic": None, "few_tiles": False}
    return check_recipe(raw, source=f"recipe {raw['name']}")


def _open_subject(job: Mapping[str, Any]) -> Subject:
    store = CorrectionStore(Path(job["corrections"]), job["identity"])
    run = None
    if job["run"] is not None:
        folder = Path(job["run"])
        data_path = None if job["data"] is None else Path(job["data"])
        run = RunFiles(job["name"], folder, read_recipe(folder / "recipe.yaml"), read_json(folder / RECORD), data_path)
    if job["survey"] is None:
        assert run is not None
        return TileSubject(run, store)
    salt = None if job["salt"] is None else open_store(Path(job["salt"]))
    return SurveySubject(job["name"], open_store(Path(job["survey"])), salt, run, store)


def _write_sets(
    subject: Subject, model: Model, corrected: Mapping[Target, Mask], recipe: Recipe, folder: Path
) -> _Sets:
    fold = fold_behind(first_weights(model))
    if isinstance(subject, SurveySubject):
        controls = control_sections(subject, corrected, fold=fold, gap=recipe.folds.gap or _GAP)
        write_labels(subject, labels_to_learn(subject, corrected, controls), folder / "labels")
        return _Sets({**corrected, **controls}, frozenset(controls))
    rows = control_tiles(subject, corrected, fold=fold)
    write_corrected_tiles(subject, corrected, rows, folder / "tiles")
    masks = subject.data.labelled.masks
    assert masks is not None
    kept = {Target("tile", subject.data.labelled.ids[row]): masks[row] for row in rows}
    return _Sets({**corrected, **kept}, frozenset(kept))


def _train(subject: Subject, recipe: Recipe, bundle: Path, folder: Path, *, threads: int | None) -> None:
    if isinstance(subject, SurveySubject):
        assert subject.survey is not None
        survey_train(subject.survey.path, folder / "labels", recipe, folder / RUN, start_from=bundle, threads=threads)
        return
    run_recipe(start_from_bundle(recipe, bundle), folder / RUN, data_path=folder / "tiles", threads=threads)


def _judged(subject: Subject, model: Model, sets: _Sets, folder: Path) -> dict[str, Any]:
    """Scores of each target and of each group, and pictures of the first."""
    targets = list(sets.truths)
    greys = [subject.greys(target) for target in targets]
    depths = [_depth_m(subject, target) for target in targets]
    after_model = open_model(folder / RUN)
    said: list[dict[Target, Floats]] = [
        dict(zip(targets, net_says(each, first_weights(each), greys, depths), strict=True))
        for each in (model, after_model)
    ]
    before, after = said
    held_out = _held_out_targets(folder / RUN / FOLDS)
    judged = list[Judged]()
    for number, target in enumerate(targets):
        is_control = target in sets.controls
        learned = not is_control and target not in held_out
        group = "control" if is_control else "corrected"
        judged.append(judge(target, sets.truths[target], before[target], after[target], group=group, learned=learned))
        if number < _MOST_PICTURES:
            kind = "label" if is_control else "corrected"
            told = f"{target}: overlap with salt {judged[-1].iou_before:.3f} before, {judged[-1].iou_after:.3f} after"
            draw_before_after(
                folder / "pictures" / f"{number:03}.png", greys[number], sets.truths[target], before[target],
                after[target], title=f"{told}{', kept back' if is_control else ''}", said=kind,
            )  # fmt: skip
    groups = {
        name: totals(
            {target: sets.truths[target] for target in targets if (target in sets.controls) == chosen}, before, after
        )
        for name, chosen in (("corrected", False), ("control", True))
    }
    return {
        "targets": [each.to_json() for each in judged],
        "groups": groups,
        "pictures": [f"{number:03}.png" for number in range(min(len(targets), _MOST_PICTURES))],
        "notes": [*_notes(sets), *_looked_otherwise(subject)],
    }


def _held_out_targets(path: Path) -> set[Target]:
    """Targets that the new run held out: of none of their tiles it learned."""
    found = set[Target]()
    for line in path.read_text(encoding="utf-8").splitlines()[2:]:
        name, _, fold = line.rpartition(",")
        if fold == "0":
            match = _SECTION_OF.fullmatch(line)
            found.add(
                Target("inline" if match[1] == "inline" else "crossline", match[2]) if match else Target("tile", name)
            )
    return found


def _depth_m(subject: Subject, target: Target) -> float:
    if isinstance(subject, SurveySubject):
        return float("nan")
    is_labelled, row = subject.places[target.name]
    tiles = subject.data.labelled if is_labelled else subject.data.unlabelled
    return float(tiles.depths_m[row])


def _notes(sets: _Sets) -> list[str]:
    notes = []
    if not sets.controls:
        notes.append(
            "nothing could be kept back that neither model has seen: label more, further apart, to see how it does "
            "elsewhere"
        )
    unknown = sum(int((mask == UNKNOWN).sum()) for mask in sets.truths.values())
    if unknown:
        notes.append(f"{unknown} pixels of which nobody has said what they are do not count")
    return notes


def _looked_otherwise(subject: Subject) -> Iterator[str]:
    """What to know where the model saw the survey in another way than this training does."""
    salt = subject.salt if isinstance(subject, SurveySubject) else None
    look = None if salt is None else seen_as(salt)
    if look is None or (look.interval is None and not look.flip_polarity):
        return
    told = [f"--resample {look.interval:g}"] if look.interval is not None else []
    told += ["--flip-polarity"] if look.flip_polarity else []
    yield (
        f"the salt was found with {' and '.join(told)}: the new model learned, and both were tried here, without; give "
        "the new one's results no such option"
    )


def _end(folder: Path, phase: Phase, words: str) -> int:
    say(folder, phase, words)
    return 0 if phase == "stopped" else 1


if __name__ == "__main__":
    np.seterr(all="warn")
    sys.exit(main())
