"""Training on corrections over HTTP: begin, watch, stop, and see what it came to."""

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import FileResponse

from diapir.review.corrections.answers import in_words, refused, without_places
from diapir.review.corrections.subjects import Subject
from diapir.review.retraining.trainings import Retrainings, model_for

_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "a PNG"}
}


def retraining_routes(subject_of: Callable[[str], Subject], *, models: Mapping[str, FilePath]) -> APIRouter:
    """`/api/corrections/{source}/retraining`."""
    routes, trainings = APIRouter(prefix="/api/corrections/{source}/retraining", tags=["review"]), Retrainings()

    @routes.get("", responses=refused(404, 422, 502))
    def retraining_state(source: str) -> dict[str, Any]:
        """How far the latest training is, or what it came to."""
        with in_words():
            return _told(trainings.state(subject_of(source)))

    @routes.post("", responses=refused(404, 409, 422, 502))
    def begin_retraining(
        source: str,
        epochs: Annotated[int | None, Query(ge=1, le=1000, description="else as the model's recipe has it")] = None,
    ) -> dict[str, Any]:
        """Begin training on everything that was corrected."""
        subject = subject_of(source)
        with in_words(faulty=409):
            return _told(trainings.begin(subject, model_for(subject, models), epochs=epochs))

    @routes.post("/stop", responses=refused(404, 409, 422, 502))
    def stop_retraining(source: str) -> dict[str, Any]:
        """Ask it to end."""
        with in_words(faulty=409):
            return _told(trainings.stop(subject_of(source)))

    @routes.get("/{number}/pictures/{name}", response_class=FileResponse, responses=_PICTURE | refused(404, 422, 502))
    def retraining_picture(
        source: str,
        number: Annotated[int, Path(ge=1, le=999_999, description="of the training, as its state has it")],
        name: Annotated[str, Path(pattern=r"^[0-9]{3}\.png$")],
    ) -> FileResponse:
        """A section or tile before and after."""
        with in_words():
            path = trainings.picture(subject_of(source), number, name)
        if path is None or not path.is_file():
            raise HTTPException(404, detail="there is no such picture")
        return FileResponse(path, media_type="image/png")

    return routes


def _told(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "words": without_places(state["words"])}
