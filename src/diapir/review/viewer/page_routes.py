"""The page, and the files that it is made of."""

import base64
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from diapir.review.sources import Sources

COLOURS = {
    "grey": "gray",
    "red-white-blue": "seismic",
    "orange-purple": "PuOr",
    "blue-yellow": "cividis",
    "heat": "inferno",
    "green-blue": "viridis",
}
"""Colour maps by the name that people see, and matplotlib's; the third and fourth are told apart without red and green.
"""

STATIC = Path(str(files("diapir.review"))) / "static"


def page_routes(sources: Sources | None = None) -> APIRouter:
    """`/` and `/static/...`, and where sources are given, `/api/sources`: what there is to look at."""
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @routes.get("/api/colours", tags=["viewer"])
    def list_colours() -> dict[str, str]:
        """Colour maps by name: 256 times red, green and blue, base64."""
        return colour_tables()

    routes.mount("/static", StaticFiles(directory=STATIC), name="static")
    if sources is not None:
        described = describe(sources)

        @routes.get("/api/sources", tags=["viewer"])
        def list_sources() -> dict[str, Any]:
            """Everything that was opened, by name."""
            return described

    return routes


@cache
def colour_tables() -> dict[str, str]:
    """Every colour map of COLOURS: base64 of uint8 (256, 3)."""
    shades = np.linspace(0, 1, 256)
    tables = {name: matplotlib.colormaps[theirs](shades, bytes=True)[:, :3] for name, theirs in COLOURS.items()}
    return {name: base64.b64encode(table.tobytes()).decode() for name, table in tables.items()}


def describe(sources: Sources) -> dict[str, Any]:
    """Names and a few facts of every source, as plain JSON values."""
    return {
        "runs": [
            {
                "name": run.name,
                "recipe": run.recipe.name,
                "score": run.record["score"],
                "interval_95": run.record["interval_95"],
                "score_kind": run.record["score_kind"],
                "has_tiles": run.has_tiles,
            }
            for run in sources.runs.values()
        ],
        "surveys": [
            {
                "name": each.name,
                "inlines": str(each.grid.inlines),
                "crosslines": str(each.grid.crosslines),
                "num_samples": each.grid.num_samples,
                "unit": each.grid.unit,
                "volumes": list(each.volumes),
            }
            for each in sources.surveys.values()
        ],
        "models": list(sources.models),
    }
