"""From the viewer to the editor, to the history of review and back, as `diapir serve` puts them together."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Dialog, Page, expect

from diapir.review.app import build_app
from diapir.review.serve import rooms_of
from diapir.review.service.access import Security
from diapir.review.sources import open_sources
from fake_review import write_survey, write_survey_run
from fake_service import running

pytestmark = pytest.mark.usefixtures("one_thread")

LINES, WAIT_MS = (110, 112), 30_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("joined")
    write_survey(folder)
    sources = open_sources([folder / "survey.zarr", folder / "salt.zarr", write_survey_run(folder)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with running(build_app(sources, security=Security(), rooms=rooms_of(sources))) as port:
            yield f"http://127.0.0.1:{port}/"


def draw(page: Page, *, down: float) -> None:
    """A stroke across the middle of the picture."""
    page.wait_for_selector("#editor-canvas-hints")
    page.select_option("#editor-paints", "1")
    page.click("#editor-brush")
    # Where it is once the page has settled, for else the stroke may miss it.
    box = page.locator("#editor-canvas-hints").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + down * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + down * box["height"], steps=5)
    page.mouse.up()


def test_a_section_is_corrected_from_the_viewer_and_found_in_review(page: Page, address: str) -> None:
    page.goto(f"{address}#/survey/survey.zarr/inline/{LINES[0]}")
    page.click("#correct")
    draw(page, down=0.1)
    page.click("#editor-save")
    expect(page.locator("#editor-words")).to_contain_text("saved as correction 1")
    page.click("#editor-back")
    expect(page.locator("#correct")).to_be_visible()
    page.goto(f"{address}#/review/survey.zarr")
    expect(page.locator("#review-history")).to_contain_text(f"inline {LINES[0]}")


def test_a_drawing_that_was_not_saved_is_not_lost_by_a_slip(page: Page, address: str, refused: list[Dialog]) -> None:
    page.goto(f"{address}#/survey/survey.zarr/inline/{LINES[1]}")
    page.click("#correct")
    draw(page, down=0.9)
    page.click("#editor-back")
    expect(page.locator("#editor-canvas-hints")).to_be_visible()
    assert "not saved" in refused[0].message
    page.click("#editor-undo")
    page.click("#editor-back")
    expect(page.locator("#correct")).to_be_visible()
    assert len(refused) == 1


def test_a_tile_of_a_survey_leads_to_its_section(page: Page, address: str) -> None:
    page.goto(f"{address}#/tiles/run")
    first = page.locator("a[href*='/tiles/run/']").first
    line = re.search(r"inline-([0-9]+)-", first.get_attribute("href") or "")
    first.click()
    page.get_by_role("button", name="Correct its section").click()
    assert line is not None
    expect(page.get_by_role("heading", name=f"Correct inline {line[1]}")).to_be_visible()
    draw(page, down=0.5)
    page.click("#editor-save")
    expect(page.locator("#editor-words")).to_contain_text("saved as correction")
