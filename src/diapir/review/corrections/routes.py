"""Corrections over HTTP: what was corrected, masks as they are now, saving, undoing, and what to look at next."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from diapir.data.tiles import UNKNOWN
from diapir.review.corrections.answers import Findings, in_words, refused
from diapir.review.corrections.merging import Mask
from diapir.review.corrections.queue_measures import measures_of
from diapir.review.corrections.queue_ranking import rank
from diapir.review.corrections.records import Which, history, mask_of
from diapir.review.corrections.saving import (
    LONGEST_NAME,
    Saved,
    corrected_targets,
    current_mask,
    refuse,
    save_mask,
    undo,
)
from diapir.review.corrections.subjects import OpenedSources, Subject, by_run, open_subjects
from diapir.review.corrections.suggestions import Suggestion, open_suggestions, proposal, suggestions_of
from diapir.review.corrections.targets import Kind, Target
from diapir.review.retraining.routes import retraining_routes

Who = Annotated[str, Query(max_length=LONGEST_NAME, description="what the person calls herself")]
Name = Annotated[str, Path(max_length=200)]
Number = Annotated[int, Path(ge=1, le=10**9)]
Key = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Look = Literal["mask", "greys", "probability"]

_Found = TypeVar("_Found")
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "uint8, X-Rows rows of X-Columns pixels",
    }
}
_MASKS = {
    "requestBody": {
        "required": True,
        "description": "the mask that the person began with, and behind it the one she leaves: 0, 1 and 255 (unknown)",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_NOTHING = "there is nothing of that name that can be corrected; a run on a survey needs that survey to be opened too"
_MEASURED = "the queue is being worked out: every section or tile is looked at once"
_LOOKED = "doubtful labels are being looked for: every label is looked at once"


def correction_routes(sources: OpenedSources, *, models: Mapping[str, Any] | None = None) -> APIRouter:
    """`/api/corrections`, `/api/queue` and `/api/suggestions`.

    Args:
        models: folders of what predicts, for training on corrections; those of the sources where none are given.
    """
    opened, findings = open_subjects(sources), Findings()
    subjects = {**by_run(opened), **opened}

    def subject_of(source: str) -> Subject:
        if source not in subjects:
            raise HTTPException(404, detail=_NOTHING)
        return subjects[source]

    routes = APIRouter(tags=["review"])
    _add_masks(routes, subject_of)
    _add_history(routes, subject_of)
    _add_queue(routes, subject_of, findings)
    _add_suggestions(routes, subject_of, findings)
    known = models if models is not None else getattr(sources, "models", {})
    routes.include_router(retraining_routes(subject_of, models=known))
    return routes


def _add_masks(routes: APIRouter, subject_of: Callable[[str], Subject]) -> None:
    prefix = "/api/corrections/{source}"

    @routes.get(
        f"{prefix}/look/{{kind}}/{{name}}/{{what}}", response_class=Response, responses=_BYTES | refused(404, 422, 502)
    )
    def look(source: str, kind: Kind, name: Name, what: Look) -> Response:
        """A tile or section: its mask as it is now, its image, or its probability."""
        subject, target = subject_of(source), _target(kind, name)
        with in_words():
            if what == "mask":
                mask, number = current_mask(subject.store, target, original=lambda: subject.original(target))
                return _bytes(mask, record=number)
            if what == "greys":
                return _bytes(subject.greys(target))
            found = subject.probability(target)
        if found is None:
            raise HTTPException(404, detail=f"no model said anything of {target}")
        return _bytes(np.round(np.nan_to_num(found) * 255).clip(0, 255).astype(np.uint8))

    @routes.post(
        f"{prefix}/look/{{kind}}/{{name}}/mask",
        response_class=Response,
        responses=_BYTES | refused(404, 413, 422, 502),
        openapi_extra=_MASKS,
    )
    async def save(request: Request, source: str, kind: Kind, name: Name, who: Who = "") -> Response:
        """Save a corrected mask; what others saved since is kept. X-Words says what came of it, percent-encoded."""
        subject, target = subject_of(source), _target(kind, name)
        with in_words():
            shape = await run_in_threadpool(subject.shape, target)
        before, after = _masks(await _body(request, 2 * shape[0] * shape[1]), shape)
        with in_words():
            saved = await run_in_threadpool(
                save_mask,
                subject.store,
                target,
                before=before,
                after=after,
                who=who,
                original=lambda: subject.original(target),
            )
        return _bytes(saved.mask, record=saved.correction.number if saved.correction else 0, words=saved.words)


def _add_history(routes: APIRouter, subject_of: Callable[[str], Subject]) -> None:
    prefix = "/api/corrections/{source}"

    @routes.get(prefix, responses=refused(404, 422, 502))
    def list_corrections(
        source: str,
        count: Annotated[int, Query(ge=1, le=1000)] = 100,
        below: Annotated[int, Query(ge=1, le=10**9, description="only records before this one")] = 10**9,
    ) -> dict[str, Any]:
        """Records, the latest first."""
        with in_words():
            records = history(subject_of(source).store)
        chosen = [record for record in reversed(records) if record.number < below][:count]
        return {"total": len(records), "corrections": [record.to_json() for record in chosen]}

    @routes.get(
        f"{prefix}/records/{{number}}/{{which}}", response_class=Response, responses=_BYTES | refused(404, 422, 502)
    )
    def record_mask(source: str, number: Number, which: Which) -> Response:
        """A mask of a record: before it, after it, or as it was sent."""
        subject = subject_of(source)
        with in_words():
            found = next((record for record in history(subject.store) if record.number == number), None)
            if found is None or not found.changed:
                raise HTTPException(404, detail=f"there is no correction {number} with a mask")
            return _bytes(mask_of(subject.store, number, which, shape=subject.shape(found.target)))

    @routes.post(f"{prefix}/records/{{number}}/undo", responses=refused(404, 409, 422, 502))
    def undo_record(source: str, number: Number, who: Who = "") -> dict[str, Any]:
        """Take a record back, by another record."""
        subject = subject_of(source)
        with in_words():
            if all(record.number != number for record in history(subject.store)):
                raise HTTPException(404, detail=f"there is no correction {number}")
        with in_words(faulty=409):
            return _told(undo(subject.store, number, who=who, shape=subject.shape))


def _add_queue(routes: APIRouter, subject_of: Callable[[str], Subject], findings: Findings) -> None:
    @routes.get("/api/queue/{source}", responses=refused(404, 422, 502, 503))
    def queue(source: str, count: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
        """What to look at next, and why."""
        subject = subject_of(source)
        measures = findings.get(("queue", subject.name), lambda: measures_of(subject), words=_MEASURED)
        with in_words():
            done = corrected_targets(history(subject.store))
        places = rank(measures, done=done, count=count)
        return {
            "total": len(measures.targets),
            "corrected": len(done),
            "notes": list(measures.notes),
            "places": [place.to_json() for place in places],
        }


def _add_suggestions(routes: APIRouter, subject_of: Callable[[str], Subject], findings: Findings) -> None:
    prefix = "/api/suggestions/{source}"

    def all_of(source: str) -> tuple[Suggestion, ...]:
        subject = subject_of(source)
        return findings.get(("suggestions", subject.name), lambda: suggestions_of(subject), words=_LOOKED)

    def open_one(source: str, key: str) -> Suggestion:
        with in_words():
            found = open_suggestions(all_of(source), history(subject_of(source).store))
        suggestion = next((each for each in found if each.key == key), None)
        if suggestion is None:
            raise HTTPException(404, detail="there is no such suggestion, or it was answered already")
        return suggestion

    @routes.get(prefix, responses=refused(404, 422, 502, 503))
    def list_suggestions(source: str, count: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
        """Labels that may be wrong, and that nobody has answered."""
        with in_words():
            found = open_suggestions(all_of(source), history(subject_of(source).store))
        return {"total": len(found), "suggestions": [each.to_json() for each in found[:count]]}

    @routes.get(f"{prefix}/{{key}}/mask", response_class=Response, responses=_BYTES | refused(404, 422, 502, 503))
    def suggested_mask(source: str, key: Key) -> Response:
        """The mask that accepting it would make of the label as it was."""
        suggestion = open_one(source, key)
        with in_words():
            return _bytes(proposal(subject_of(source), suggestion))

    @routes.post(f"{prefix}/{{key}}/accept", responses=refused(404, 422, 502, 503))
    def accept(source: str, key: Key, who: Who = "") -> dict[str, Any]:
        """Make it a correction."""
        subject, suggestion = subject_of(source), open_one(source, key)
        target = suggestion.target
        with in_words():
            saved = save_mask(
                subject.store,
                target,
                before=None,
                after=proposal(subject, suggestion),
                who=who,
                original=lambda: subject.original(target),
                suggestion=key,
            )
        return _told(saved)

    @routes.post(f"{prefix}/{{key}}/refuse", responses=refused(404, 422, 502, 503))
    def refuse_it(source: str, key: Key, who: Who = "") -> dict[str, Any]:
        """Keep the label; the suggestion does not come back."""
        suggestion = open_one(source, key)
        with in_words():
            record = refuse(subject_of(source).store, suggestion.target, who=who, suggestion=key)
        return {"correction": record.to_json(), "words": "the label stays, and this does not come back"}


def _target(kind: Kind, name: str) -> Target:
    try:
        return Target.of(kind, name)
    except ValueError as error:
        raise HTTPException(422, detail=str(error)) from None


async def _body(request: Request, size: int) -> bytes:
    """Just so many bytes of body; more are not read.

    Raises:
        HTTPException: there are more or fewer.
    """
    expected = f"expected {size} bytes, the mask before and the mask after, a byte a pixel"
    said = request.headers.get("content-length", "")
    if said.isdecimal() and (len(said) > len(str(size)) or int(said) > size):
        raise HTTPException(413, detail=f"{expected}; found more")
    parts, total = list[bytes](), 0
    async for part in request.stream():
        total += len(part)
        if total > size:
            raise HTTPException(413, detail=f"{expected}; found more")
        parts.append(part)
    if total != size:
        raise HTTPException(422, detail=f"{expected}; found {total}")
    return b"".join(parts)


def _masks(body: bytes, shape: tuple[int, int]) -> tuple[Mask, Mask]:
    both = np.frombuffer(body, np.uint8).reshape(2, *shape)
    if ((both > 1) & (both != UNKNOWN)).any():
        raise HTTPException(422, detail="expected 0 (no salt), 1 (salt) and 255 (unknown), found other values")
    return both[0], both[1]


def _bytes(pixels: Mask, *, record: int | None = None, words: str = "") -> Response:
    headers = {"X-Rows": str(pixels.shape[0]), "X-Columns": str(pixels.shape[1]), "Cache-Control": "no-store"}
    if record is not None:
        headers["X-Record"] = str(record)
    if words:
        headers["X-Words"] = quote(words)
    content = np.ascontiguousarray(pixels).tobytes()
    return Response(content, media_type="application/octet-stream", headers=headers)


def _told(saved: Saved) -> dict[str, Any]:
    return {"correction": saved.correction.to_json() if saved.correction else None, "words": saved.words}
