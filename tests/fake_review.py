"""A made survey with salt, a run that learned from labels of it, and a made run of tiles, opened for review."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from starlette.types import Message, Receive, Scope, Send

from diapir.pipeline.predictions import read_predictions, write_predictions
from diapir.pipeline.run import open_run_data, run_recipe
from diapir.recipe.files import read_recipe
from diapir.recipe.whole import Recipe
from diapir.review.corrections import routes as routes_module
from diapir.review.corrections.routes import correction_routes
from diapir.review.retraining.process import RunFiles
from diapir.runs import read_json
from diapir.volume.store import Store, open_store
from diapir.volume.survey_train import survey_train
from fake_labelled_survey import small_survey, write_picture
from fake_stores import fake_store
from fake_training import TINY, tiny_recipe, tiny_run_recipe

FIRST_INLINE, FIRST_CROSSLINE, CROSSLINE_STEP = 100, 300, 2
LABELLED = (4, 20, 36)
"""Places of labelled inlines."""
SURE_TILES, SURE_ROWS = 3, 30
STAGE = {**TINY["stages"][0], "epochs": 1, "batch": 8, "framing": {"method": "resize", "size": 32}}
CSP = "default-src 'self'; img-src 'self' data: blob:; style-src 'self'"
STATIC = Path(routes_module.__file__).parents[1] / "static"


@dataclass(frozen=True, eq=False)
class FakePair:
    """A survey and its salt, as the page opens them."""

    name: str
    survey: Store | None
    salt: Store | None


@dataclass(frozen=True, eq=False)
class FakeSources:
    """What was named, as the page opens it."""

    runs: Mapping[str, RunFiles] = field(default_factory=dict)
    surveys: Mapping[str, FakePair] = field(default_factory=dict)
    models: Mapping[str, Path] = field(default_factory=dict)


def salt_of_survey() -> NDArray[np.uint8]:
    """The truth: (inlines, crosslines, samples)."""
    return np.asarray(small_survey().salt, np.uint8)


def write_survey(folder: Path) -> Path:
    """`survey.zarr`, and `salt.zarr` of smeared probabilities with a disagreement at salt's borders."""
    made = small_survey()
    fake_store(folder / "survey.zarr", {"amplitude": made.amplitude})
    smeared = np.asarray(gaussian_filter1d(made.salt.astype(np.float32), 2.0, axis=2))
    found = {"probability": smeared, "disagreement": smeared * (1 - smeared), "mask": (smeared > 0.6).astype(np.uint8)}
    fake_store(folder / "salt.zarr", found, threshold=0.6, model={"name": "tiny", "score": 0.0, "files": 1})
    return folder


def survey_recipe(changes: Mapping[str, Any] | None = None) -> Recipe:
    """One short stage, folds by section, of which the first is held out."""
    folds = {"scheme": "sections", "count": 5, "gap": 2, "held_out": [0]}
    return tiny_recipe({"stages": [STAGE], "average": {}, "folds": folds, **(changes or {})})


def write_survey_run(folder: Path) -> Path:
    """A run on three labelled inlines of `survey.zarr`, in `folder/run`."""
    salt = salt_of_survey()
    for place in LABELLED:
        write_picture(folder / "labels" / f"inline-{FIRST_INLINE + place}.png", salt[place].T)
    survey_train(folder / "survey.zarr", folder / "labels", survey_recipe(), folder / "run")
    return folder / "run"


def write_tile_run(folder: Path) -> Path:
    """A run on twenty made tiles, in `folder/tiles`, whose models are sure of the opposite at the first tiles' tops."""
    run_recipe(tiny_run_recipe(), folder / "tiles", data_path=None)
    found = read_predictions(folder / "tiles" / "predict")
    data, _ = open_run_data(tiny_run_recipe(), None, skip_bad=False)
    assert data.labelled.masks is not None
    held_out = found.held_out.copy()
    for row, tile in enumerate(found.rows[:SURE_TILES]):
        held_out[row, : SURE_ROWS + row] = data.labelled.masks[tile, : SURE_ROWS + row] == 0
    write_predictions(folder / "tiles" / "predict", replace(found, held_out=held_out))
    return folder / "tiles"


def opened(folder: Path) -> FakeSources:
    """All of it that lies in a folder."""
    runs = {
        name: RunFiles(
            name,
            folder / name,
            read_recipe(folder / name / "recipe.yaml"),
            read_json(folder / name / "record.json"),
            folder / name / "survey_tiles" if (folder / name / "survey_tiles").is_dir() else None,
        )
        for name in ("run", "tiles")
        if (folder / name / "record.json").exists()
    }
    pairs = {}
    if (folder / "salt.zarr").exists():
        pairs["survey"] = FakePair("survey", open_store(folder / "survey.zarr"), open_store(folder / "salt.zarr"))
    return FakeSources(runs, pairs, {name: run.folder for name, run in runs.items()})


def review_app(folder: Path) -> FastAPI:
    """The routes of review, the static files, and a page to try them on, under the headers of the real one."""
    app = FastAPI()
    app.include_router(correction_routes(opened(folder)))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.mount("/try", StaticFiles(directory=Path(__file__).parent / "review" / "page", html=True))
    app.add_middleware(_WithHeaders)
    return app


class _WithHeaders:
    """Puts the content security policy of the real page on every answer; a class, as middleware is."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", CSP.encode())]
            await send(message)

        await self._app(scope, receive, with_headers)
