"""Review without a browser: what to look at, corrections as labels, and training on them; each says what it did."""

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diapir.faults import InputError
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.queue_measures import measures_of
from diapir.review.corrections.queue_ranking import rank
from diapir.review.corrections.records import history
from diapir.review.corrections.saving import corrected_targets
from diapir.review.corrections.subjects import OpenedSources, Subject, SurveySubject, open_subjects
from diapir.review.corrections.targets import Target
from diapir.review.retraining.sets import corrected_masks, write_corrected_tiles, write_labels
from diapir.review.retraining.trainings import Retrainings, model_for
from diapir.runs import atomic_folder
from diapir.train.stop import Stopped
from diapir.volume.export import export_segy
from diapir.volume.labelled_section import LabelledSection
from diapir.volume.sections import axis_of, place_of

_EVERY_S = 2.0
_SEGY = (".sgy", ".segy")


def review_queue(opened: OpenedSources, *, name: str | None = None, count: int = 20) -> str:
    """What to look at next, the most telling first, a line each.

    Args:
        name: of a run or survey among those that were opened; None where there is only one.

    Raises:
        InputError: there is none of that name, or it is damaged.
    """
    subject = _chosen(opened, name)
    measures = measures_of(subject)
    done = corrected_targets(history(subject.store))
    lines = [f"note: {note}" for note in measures.notes]
    for number, place in enumerate(rank(measures, done=done, count=count), start=1):
        lines.append(f"{number:>3}. {place.target}: {'; '.join(place.reasons)}")
    return "\n".join([*lines, f"{len(done)} of {len(measures.targets)} are corrected"])


def export_corrections(opened: OpenedSources, out: Path, *, name: str | None = None) -> str:
    """Write what was corrected as labels: of a survey PNGs a section, of tiles a prepared data set with new masks.

    Args:
        out: a new folder; of a survey, what `diapir survey train --labels` takes. Or, for a survey, a file NAME.sgy or
            NAME.segy: the whole mask with the corrections in it, under the headers of the survey's own file.

    Raises:
        InputError: nothing was corrected; `out` holds files already; or as `review_queue` and `export_segy`.
    """
    subject = _chosen(opened, name)
    masks = corrected_masks(subject)
    if not masks:
        raise InputError.of(subject.store.folder, "expected corrections, found none; correct something first")
    if out.suffix.lower() in _SEGY:
        return _export_segy(subject, masks, out)
    if not isinstance(subject, SurveySubject):
        write_corrected_tiles(subject, masks, [], out)
        return f"{out}: tiles with {len(masks)} corrected masks among them"
    with atomic_folder(out) as folder:
        write_labels(subject, masks, folder)
        written = len(list(folder.iterdir()))
    return f"{out}: {written} corrected sections; learn from them with diapir survey train --labels {out}"


def train_on_corrections(
    opened: OpenedSources,
    *,
    name: str | None = None,
    models: Mapping[str, Path] | None = None,
    epochs: int | None = None,
    threads: int | None = None,
) -> str:
    """Train on everything that was corrected, wait for it, and say what it came to.

    Args:
        models: folders of what predicts, of which the only one is gone on with where no run is known.
        epochs: None for as many as the last stage of the model's recipe has.

    Raises:
        InputError: nothing was corrected, there is no model to go on with, another training is under way, or it failed.
        Stopped: on a signal; the training is stopped too.
    """
    subject, trainings = _chosen(opened, name), Retrainings()
    trainings.begin(subject, model_for(subject, models or {}), epochs=epochs, threads=threads)
    told = ""
    try:
        while (state := trainings.state(subject))["running"]:
            if (line := _progress(state)) != told:
                print(line, file=sys.stderr)
                told = line
            time.sleep(_EVERY_S)
    except (Stopped, KeyboardInterrupt):
        trainings.stop(subject)
        raise
    if state["phase"] != "done":
        raise InputError.of(subject.name, state["words"])
    return _summary(state)


def _export_segy(subject: Subject, masks: Mapping[Target, Mask], out: Path) -> str:
    if not isinstance(subject, SurveySubject) or subject.salt is None:
        what = "expected salt that was found in a survey, whose mask goes into SEG-Y; name its store, or another folder"
        raise InputError.of(out, what)
    grid, drawn = subject.salt.grid, list[LabelledSection]()
    for target, mask in masks.items():
        place = place_of(axis_of(grid, target.direction), target.line)
        assert place is not None
        drawn.append(LabelledSection(target.direction, target.line, place, mask, subject.store.folder))
    return export_segy(subject.salt.path, out, what="mask", drawn=drawn)


def _chosen(opened: OpenedSources, name: str | None) -> Subject:
    subjects = open_subjects(opened)
    if not subjects:
        what = "expected a run, or a survey or what was found in it, found nothing that can be corrected"
        raise InputError.of("", f"{what}; beside a run that learned from a survey, name that survey too")
    first, known = next(iter(subjects)), ", ".join(subjects)
    if name is None and len(subjects) > 1:
        raise InputError.of("", f"several were named ({known}): add --name {shlex.quote(first)}, or another of them")
    if name is not None and name not in subjects:
        raise InputError.of(f"--name {name}", f"expected one of those that were named: {known}")
    return subjects[name or first]


def _progress(state: Mapping[str, Any]) -> str:
    counted = f", epoch {state['epochs_done']} of {state['epochs']}" if state["phase"] == "training" else ""
    return f"{state['words']}{counted}"


def _summary(state: Mapping[str, Any]) -> str:
    result, lines = state["result"], list[str]()
    for group, title in (("corrected", "corrected"), ("control", "kept back")):
        total = result["groups"][group]
        if total:
            lines.append(
                f"{title:<10}overlap with salt {total['iou_before']:.4f} before, {total['iou_after']:.4f} after"
            )
        for each in (each for each in result["targets"] if each["group"] == group):
            target = f"{each['target']['kind']} {each['target']['name']}"
            lines.append(f"          {target}: {each['iou_before']:.4f} before, {each['iou_after']:.4f} after")
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"]), f"next: {state['next']}"])
