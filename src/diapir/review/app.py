"""The pages and the service as one application, behind its guard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp

from diapir import __version__
from diapir.review.service.access import Security
from diapir.review.service.counts import new_counts
from diapir.review.service.description import docs_page
from diapir.review.service.guard import Guard
from diapir.review.service.limits import USUAL, Limits
from diapir.review.service.refusals import refusals, tell_refusals
from diapir.review.service.routes import service_routes

_ABOUT = "Finds salt in seismic images and sections, with models that diapir trained."


class HasModels(Protocol):
    """What is served, as far as the service is concerned."""

    @property
    def models(self) -> Mapping[str, Path]:
        """Folders of finished runs and bundles, by name."""


def build_app(
    sources: HasModels, *, security: Security, limits: Limits = USUAL, rooms: Sequence[APIRouter] = ()
) -> ASGIApp:
    """Everything that one address serves.

    Args:
        rooms: the routes of pages and of what they ask for, beside the service's own.

    Raises:
        InputError: a model cannot be used.
    """
    counts = new_counts()
    app = FastAPI(
        title="diapir", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, responses=refusals()
    )
    app.include_router(service_routes(sources.models, limits=limits, counts=counts))
    for room in rooms:
        app.include_router(room)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    tell_refusals(app)
    return Guard(app, security=security, limits=limits, counts=counts)
