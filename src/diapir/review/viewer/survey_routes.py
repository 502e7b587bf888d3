"""Surveys for a page: what they are, their sections each way as bytes, and where members disagree most."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Response

from diapir.faults import InputError
from diapir.review.sources import SurveySource
from diapir.review.viewer.background import Slow, StillWorking, damage_words, damaged, wait_again
from diapir.review.viewer.levels import LEVELS, NO_TRACE, STEPS, planes_response
from diapir.review.viewer.strips import Kept, Strips
from diapir.review.viewer.whole_volumes import TimeSlices, disagreement_by_section, slices_together, volume_bytes
from diapir.volume.line_numbers import Axis
from diapir.volume.sections import axis_of, place_of

MOST_BYTES = 384 << 20
"""Of sections that are kept in memory, of all surveys together."""
_WAIT_S = 1.5
_REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "there is no such survey, volume or line"},
    502: {"description": "a file of the store is absent or damaged; it is named"},
}
_SECTION: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "uint8, X-Rows rows of X-Columns bytes: of a section a row is a sample and a column a trace, of "
        "a time slice a row is an inline and a column a crossline; a byte is worth X-Step, and X-Missing is no trace",
    },
    503: {"description": "a whole volume is being read", "headers": {"Retry-After": {"schema": {"type": "integer"}}}},
}


def cache_folder() -> Path:
    """Where what was once computed is kept for the next time: $XDG_CACHE_HOME/diapir, or ~/.cache/diapir."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diapir"


def survey_routes(
    surveys: Mapping[str, SurveySource], *, cache: Path | None = None, most_bytes: int = MOST_BYTES
) -> APIRouter:
    """`/api/surveys/{source}` and `/api/surveys/{source}/{volume}/{direction}/{number}`.

    Args:
        cache: folder for the disagreement by section, which is read once; None for `cache_folder()`.
        most_bytes: of sections that are kept in memory.
    """
    routes = APIRouter(prefix="/api/surveys", tags=["viewer"])
    kept = Kept(most_bytes)
    strips, slices = Strips(kept), TimeSlices(kept)
    folder = cache_folder() if cache is None else cache
    disagreement = {
        name: _slow_disagreement(each, folder) for name, each in surveys.items() if each.store_of("disagreement")
    }

    def survey_of(source: str) -> SurveySource:
        if source not in surveys:
            raise HTTPException(404, detail=f"there is no survey {source} among those that were opened")
        return surveys[source]

    @routes.get("/{source}", responses=_REFUSALS)
    def describe_survey(source: str) -> dict[str, Any]:
        """Grid, facts, and mean disagreement by section as far as it is known."""
        survey = survey_of(source)
        return describe(survey) | {"disagreement": _disagreement(survey, disagreement.get(source))}

    @routes.get("/{source}/{volume}/{direction}/{number}", responses=_SECTION, response_class=Response)
    def get_section(
        source: str, volume: str, direction: Literal["inline", "crossline", "sample"], number: int
    ) -> Response:
        """A section by its line's own number, or a time slice by its place from 0 on; several volumes by commas."""
        survey = survey_of(source)
        names = list(dict.fromkeys(volume.split(",")))
        for name in names:
            if name not in STEPS or survey.store_of(name) is None:
                raise HTTPException(404, detail=f"{source} has no volume {name}")
        place = _place(survey, direction, number)
        try:
            if direction == "sample":
                planes = {name: slices.slice(survey, name, place, wait_s=_WAIT_S) for name in names}
            else:
                planes = strips.sections(survey, names, direction, place)
        except StillWorking as words:
            raise wait_again(words) from None
        except InputError as error:
            raise damaged(error, *survey.paths) from None
        steps, missing = (",".join(str(table[name]) for name in names) for table in (STEPS, NO_TRACE))
        return planes_response(planes, X_Step=steps, X_Missing=missing)

    return routes


def describe(survey: SurveySource) -> dict[str, Any]:
    """What a page needs to know of a survey, as plain JSON values."""
    grid, stores = survey.grid, [store for store in (survey.survey, survey.salt) if store is not None]
    volumes = [name for name in STEPS if name in survey.volumes]
    facts = survey.salt.facts if survey.salt is not None else {}
    source = stores[0].facts.get("source")
    threshold, limit = facts.get("threshold"), stores[0].facts.get("amplitude")
    return {
        "name": survey.name,
        "inlines": _axis(grid.inlines),
        "crosslines": _axis(grid.crosslines),
        "num_samples": grid.num_samples,
        "first_sample": grid.first_sample,
        "interval": grid.interval,
        "unit": grid.unit,
        "volumes": volumes,
        "limit": limit.get("limit") if isinstance(limit, dict) else None,
        "threshold": float(threshold) if isinstance(threshold, int | float) else 0.5,
        "levels": LEVELS,
        "source": source.get("name") if isinstance(source, dict) else None,
        "model": facts.get("model") if isinstance(facts.get("model"), dict) else None,
        "slices_together": slices_together(survey),
        "bytes_for_slices": {name: volume_bytes(survey, name) for name in volumes},
    }


def _place(survey: SurveySource, direction: Literal["inline", "crossline", "sample"], number: int) -> int:
    axis = Axis(0, 1, survey.grid.num_samples) if direction == "sample" else axis_of(survey.grid, direction)
    place = place_of(axis, number)
    if place is None:
        raise HTTPException(404, detail=f"{survey.name} has no {direction} {number}: there are {axis}")
    return place


def _axis(axis: Axis) -> dict[str, int]:
    return {"first": axis.first, "step": axis.step, "count": axis.count}


def _disagreement(survey: SurveySource, slow: Slow[dict[str, Any]] | None) -> dict[str, Any]:
    """`state` none, reading, ready or failed; with words, or the means by section."""
    if slow is None:
        return {"state": "none", "words": "nothing says how far members disagree"}
    try:
        return {"state": "ready", "words": "", **slow.get(wait_s=0.2)}
    except StillWorking as words:
        return {"state": "reading", "words": str(words)}
    except InputError as error:
        return {"state": "failed", "words": damage_words(error, *survey.paths)}


def _slow_disagreement(survey: SurveySource, folder: Path) -> Slow[dict[str, Any]]:
    return Slow(lambda tell: disagreement_by_section(survey, tell, folder=folder), begins="reading all disagreement")
