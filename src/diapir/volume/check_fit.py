"""Whether a model is fit for a survey: the gate as a step, from a store and a bundle to text, JSON and a picture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from diapir.data.statistics import TileStatistics
from diapir.faults import Fault, InputError, raise_if_any
from diapir.pipeline.bundle import Model, open_model
from diapir.runs import atomic_folder, require_new_folder, require_outside, write_json, write_text
from diapir.volume.gate import Scale, Verdict, judge
from diapir.volume.gate_lines import LineToLabel, disputed_lines, novel_lines
from diapir.volume.gate_picture import draw_gate
from diapir.volume.gate_sampling import NUM_TILES, NothingToJudgeError, SurveyStatistics, survey_statistics
from diapir.volume.greys import limit_faults
from diapir.volume.resampling import resampling_faults
from diapir.volume.store import Grid, Store, Unit, open_store

TEXT, JSON, PICTURE = "fit.txt", "fit.json", "fit.png"


@dataclass(frozen=True)
class Fit:
    """What the gate says.

    Args:
        lines: to label next, if the model is to learn this survey.
    """

    verdict: Verdict
    lines: tuple[LineToLabel, ...]

    @property
    def text(self) -> str:
        """For people: the verdict, a line a finding, and what to label."""
        lines = ", ".join(map(str, self.lines)) or "there are no sections to choose from"
        return "\n".join([self.verdict.title, *map(str, self.verdict.findings), f"label next: {lines}"])


def check_fit(
    store_path: Path,
    model_path: Path,
    out: Path | None = None,
    *,
    salt_path: Path | None = None,
    count: int = NUM_TILES,
    limit: float | None = None,
    flip_polarity: bool = False,
    resample: float | None = None,
) -> Fit:
    """Hold a survey against what a model was trained on, and say which lines to label next.

    Args:
        store_path: what `diapir survey ingest` wrote.
        model_path: a bundle.
        out: a new folder for the same as text, JSON and a picture; None writes nothing.
        salt_path: what `diapir survey segment` wrote of this survey: lines to label are then those it is least sure of.
        count: tiles to look at.
        limit, flip_polarity, resample: how traces become greys, as `segment` is to be told.

    Raises:
        InputError: an option makes no sense; a store or the bundle is damaged; the model is a run, which keeps no
            statistics; the salt is of another survey; or the survey has nothing to look at.
    """
    if out is not None:
        require_new_folder(out)
        for used in (store_path, salt_path):
            if used is not None:
                require_outside(out, used)
    store, model = open_store(store_path), open_model(model_path)
    raise_if_any([*limit_faults(limit), *resampling_faults(resample, store.grid)])
    salt = None if salt_path is None else _open_salt(salt_path, store)
    fit, survey, training = fit_of(
        store, model, salt=salt, count=count, limit=limit, flip_polarity=flip_polarity, resample=resample
    )
    if out is not None:
        with atomic_folder(out) as folder:
            write_text(folder / TEXT, fit.text + "\n")
            write_json(folder / JSON, _to_json(fit, store.grid, survey, training))
            draw_gate(folder / PICTURE, survey, training, lines=fit.lines, title=fit.verdict.title)
    return fit


def fit_of(
    store: Store,
    model: Model,
    *,
    salt: Store | None = None,
    count: int = NUM_TILES,
    limit: float | None = None,
    flip_polarity: bool = False,
    resample: float | None = None,
) -> tuple[Fit, SurveyStatistics, TileStatistics]:
    """What the gate says of opened files, and what it held against each other.

    Raises:
        InputError: as `check_fit`.
    """
    training = model.statistics
    if training is None:
        what = "expected a bundle, found a run, which does not keep what its training tiles look like; "
        raise InputError.of(model.folder, f"{what}write one: diapir bundle {model.folder} OUT")
    survey = survey_statistics(store, count=count, limit=limit, flip_polarity=flip_polarity, resample=resample)
    verdict = judge(survey, training, scale=_stored_scale(model.record["data"]))
    lines = novel_lines(survey.lines, training, grid=store.grid) if salt is None else disputed_lines(salt)
    return Fit(verdict, lines), survey, training


def require_fit(
    store: Store,
    model: Model,
    *,
    anyway: bool = False,
    count: int = NUM_TILES,
    limit: float | None = None,
    flip_polarity: bool = False,
    resample: float | None = None,
) -> tuple[str, ...]:
    """What a person should know before a model is put to work on a survey: nothing where it fits, or lines of warning.

    Args:
        anyway: whether an unfit model is to be used all the same.
        count, limit, flip_polarity, resample: as for `check_fit`.

    Raises:
        InputError: the model is unfit, or nobody can say whether it is, with the reason and what to do; or as
            `check_fit`.
    """
    if model.statistics is None:
        return (
            f"{model.folder}: a run does not keep what its training tiles look like, so nobody knows whether it fits",
        )
    do = "nothing was segmented; do what is said above, or add --anyway to segment all the same"
    try:
        fit, _, _ = fit_of(store, model, count=count, limit=limit, flip_polarity=flip_polarity, resample=resample)
    except NothingToJudgeError as error:
        if not anyway:
            raise InputError([*error.faults, Fault(str(store.path), do)]) from None
        return tuple(f"nobody knows whether the model fits: {fault}" for fault in error.faults)
    verdict = fit.verdict
    told = [str(finding) for finding in verdict.findings if finding.level == verdict.level != "fit"]
    if verdict.level == "unfit" and not anyway:
        raise InputError(Fault(str(store.path), what) for what in (*told, do))
    return tuple(f"{store.path}: {line}" for line in told)


def _open_salt(path: Path, survey: Store) -> Store:
    salt = open_store(path)
    if salt.grid != survey.grid:
        what = f"expected the grid of {survey.path} ({survey.grid}), found another ({salt.grid})"
        raise InputError.of(path, f"{what}; give what was found in that survey")
    return salt


def _stored_scale(data: Mapping[str, Any]) -> Scale | None:
    """How the training data are sampled, where they come of a survey that says so."""
    survey = data.get("survey")
    if not isinstance(survey, dict):
        return None
    interval, unit = survey.get("interval"), survey.get("unit")
    if not isinstance(interval, int | float) or not 0 < interval < math.inf or unit not in get_args(Unit):
        return None
    return Scale(float(interval), str(unit))


def _to_json(fit: Fit, grid: Grid, survey: SurveyStatistics, training: TileStatistics) -> dict[str, Any]:
    return {
        **fit.verdict.to_json(),
        "label_next": [line.to_json() for line in fit.lines],
        "survey": {
            "tiles": survey.every.to_json(),
            "interval": grid.interval,
            "looked_at_interval": survey.interval,
            "unit": survey.unit,
            "spacing": survey.spacing,
            "limit": survey.limit,
            "live_share": survey.live_share,
        },
        "training": training.to_json(),
    }
