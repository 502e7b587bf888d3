"""A report in a real browser, wide and narrow: it asks for nothing, nothing sticks out, every picture is there.

With DIAPIR_SCREENSHOTS=docs/images the pictures of the docs are written too, of the run of recipes/quickstart.yaml that
`make demo` leaves behind.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from diapir.review.report.page import write_report
from fake_report_run import write_fake_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
WANTED = os.environ.get("DIAPIR_SCREENSHOTS")
HEIGHTS = {1400: 2600, 400: 2600}
"""Width of the page, and how much of its length the docs show."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    if WANTED:
        run = ROOT / "runs" / "demo"
        assert (run / "record.json").is_file(), "run make demo first"
    else:
        run = write_fake_run(folder / "made")
    write_report([run], folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", HEIGHTS)
def test_a_report_fits_the_screen_and_asks_for_nothing(
    width: int, scheme: Literal["light", "dark"], report: Path, browser: "Browser", tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, said = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    outside = [url for url in asked if url != report.as_uri() and not url.startswith("data:image/png")]
    assert outside == []
    assert said == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    small = page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map(text => text.getBoundingClientRect().height)"
    )
    assert min(small) >= 8, "pixels of the smallest letters"
    summary = page.locator("details").first
    summary.locator("summary").focus()
    page.keyboard.press("Enter")
    assert summary.get_attribute("open") is not None, "opens by key"
    place = (Path(WANTED) if WANTED and scheme == "light" else tmp_path) / f"report-{width}.png"
    page.goto(report.as_uri())
    page.screenshot(path=place, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": HEIGHTS[width]})
    assert place.stat().st_size > 10_000
    page.close()
