"""Runs and stores that several tests of review look at; copied where they are changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Error, Page, expect, sync_playwright

from fake_review import write_survey, write_survey_run, write_tile_run


@pytest.fixture(scope="session")
def made_review(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey, its salt, a run on it and a run of tiles. Not to be changed."""
    folder = tmp_path_factory.mktemp("review")
    write_survey(folder)
    write_survey_run(folder)
    write_tile_run(folder)
    return folder


@pytest.fixture
def review(made_review: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made_review, tmp_path / "review"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file, for while it is there no other test of the process can have a loop of its own."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser: install chromium")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"needs a browser that starts: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A wide window that waits for its file's WAIT_MS; a script that fails or breaks the policy fails the test."""
    wait_ms: int = request.module.WAIT_MS
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page, broken = context.new_page(), list[str]()
    page.set_default_timeout(wait_ms)
    expect.set_options(timeout=wait_ms)
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda line: broken.append(line.text) if "Content Security" in line.text else None)
    yield page
    context.close()
    assert broken == [], "scripts of the page failed"


@pytest.fixture
def refused(page: Page) -> list[Dialog]:
    """What the page asked, in order; every question is answered with no."""
    asked = list[Dialog]()

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog)
        dialog.dismiss()

    page.on("dialog", refuse)
    return asked
