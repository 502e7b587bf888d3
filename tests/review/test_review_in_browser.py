"""Review in a real browser: drawing, saving, two people at once, suggestions, and errors in words."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from diapir.review.corrections.records import CorrectionStore, history, mask_of
from diapir.runs import read_json
from fake_review import review_app

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, COLUMNS = 120, 32
OPEN = "button[data-target='inline-{}']"
MASKS = re.compile(r"/look/.*/mask")


@pytest.fixture
def address(review: Path) -> Iterator[str]:
    """Where the page of a copy of the made review is served."""
    server = uvicorn.Server(uvicorn.Config(review_app(review), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1400, "height": 1000})
    made.set_default_timeout(40_000)
    yield made
    made.close()


def opened(context: BrowserContext, address: str, source: str = "survey", *, name: str = "") -> Page:
    """The page of review, with nothing on its console but what is meant."""
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(f"the page's own fault: {error}"))
    page.goto(f"{address}/try/#{source}")
    page.wait_for_selector("html[data-ready]")
    if name:
        page.fill("#review-who", name)
        page.locator("#review-who").blur()
    return page


def open_inline(page: Page, line: int = 110) -> None:
    """By the history or the queue, or else as both do."""
    page.evaluate("line => window.openTarget({ kind: 'inline', name: String(line) })", line)
    page.wait_for_selector("#editor-canvas-hints")


def spot(page: Page, column: float, row: float) -> tuple[float, float]:
    """Where a pixel of the picture is on the screen."""
    box = page.locator("#editor-canvas-hints").bounding_box()
    assert box is not None
    return box["x"] + (column + 0.5) * box["width"] / COLUMNS, box["y"] + (row + 0.5) * box["height"] / ROWS


def drag(page: Page, start: tuple[int, int], end: tuple[int, int]) -> None:
    page.mouse.move(*spot(page, *start))
    page.mouse.down()
    page.mouse.move(*spot(page, *end), steps=6)
    page.mouse.up()


def mask_of_page(page: Page) -> NDArray[np.uint8]:
    return np.array(page.evaluate("[...window.editor().mask()]"), np.uint8).reshape(ROWS, COLUMNS)


def clear(page: Page) -> None:
    """No salt anywhere, as one polygon."""
    page.select_option("#editor-paints", "0")
    page.click("#editor-polygon")
    for corner in ((0, 0), (COLUMNS - 1, 0), (COLUMNS - 1, ROWS - 1), (0, ROWS - 1)):
        page.mouse.click(*spot(page, *corner))
    page.click("#editor-close")
    page.select_option("#editor-paints", "1")
    assert not mask_of_page(page).any()


def test_brush_undo_redo_polygon_save_and_find_it_again(context: BrowserContext, address: str, review: Path) -> None:
    page = opened(context, address, name="Ada")
    open_inline(page)
    clear(page)
    page.click("#editor-brush")
    page.fill("#editor-size", "1")
    drag(page, (4, 20), (4, 30))
    drawn = mask_of_page(page)
    assert (drawn[20:31, 3:6] == 1).all()
    assert drawn.sum() < 60
    page.click("#editor-undo")
    assert not mask_of_page(page).any()
    page.keyboard.press("Control+y")
    assert (mask_of_page(page) == drawn).all()
    page.click("#editor-eraser")
    drag(page, (4, 25), (4, 26))
    assert mask_of_page(page)[24:28, 4].sum() == 0
    page.click("#editor-polygon")
    for corner in ((10, 60), (20, 60), (20, 80), (10, 80)):
        page.mouse.click(*spot(page, *corner))
    page.keyboard.press("Enter")
    after = mask_of_page(page)
    assert (after[60:81, 10:21] == 1).all()
    page.click("#editor-save")
    expect(page.locator("#editor-words")).to_contain_text("saved as correction 1")
    expect(page.locator("#editor-save")).to_be_disabled()
    expect(page.locator("#editor-canvas-hints")).to_be_focused()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    expect(page.locator("#review-history")).to_contain_text("1. Ada drew: inline 110")
    page.click("#review-history button[aria-label='Open inline 110']")
    page.wait_for_selector("#editor-canvas-hints")
    assert (mask_of_page(page) == after).all()
    folder = review / "salt.zarr.corrections"
    store = CorrectionStore(folder, read_json(folder / "about.json")["of"])
    assert (mask_of(store, 1, "after", shape=(ROWS, COLUMNS)) == after).all()


def test_what_hangs_together_above_the_threshold_is_filled(context: BrowserContext, address: str, review: Path) -> None:
    page = opened(context, address)
    open_inline(page, 104)
    clear(page)
    probability = np.frombuffer(
        page.request.get(f"{address}/api/corrections/survey/look/inline/104/probability").body(), np.uint8
    ).reshape(ROWS, COLUMNS)
    row, column = np.argwhere(probability > 230)[0].tolist()
    page.click("#editor-fill")
    page.fill("#editor-cut", "70")
    page.mouse.click(*spot(page, column, row))
    filled = mask_of_page(page) == 1
    assert filled[row, column]
    assert (probability[filled] > 0.7 * 255).all()
    page.keyboard.press("Control+z")
    page.mouse.click(*spot(page, *np.argwhere(probability < 100)[0][::-1].tolist()))
    expect(page.locator("#editor-words")).to_contain_text("nothing was filled")
    assert not mask_of_page(page).any()


def test_the_later_of_two_people_does_not_lose_the_earlier(
    browser: Browser, context: BrowserContext, address: str
) -> None:
    other = browser.new_context(viewport={"width": 1400, "height": 1000})
    other.set_default_timeout(40_000)
    ada, bob = opened(context, address, name="Ada"), opened(other, address, name="Bob")
    for page in (ada, bob):
        open_inline(page)
    before = mask_of_page(ada)
    for page, column in ((ada, 3), (bob, 25)):
        page.select_option("#editor-paints", "255")
        page.fill("#editor-size", "0")
        drag(page, (column, 10), (column, 40))
    ada.click("#editor-save")
    expect(ada.locator("#editor-words")).to_contain_text("saved as correction 1")
    bob.click("#editor-save")
    expect(bob.locator("#editor-words")).to_contain_text("brought together with correction 1")
    both = mask_of_page(bob)
    assert (both[10:41, 3] == 255).all(), "what Ada drew"
    assert (both[10:41, 25] == 255).all(), "what Bob drew"
    assert (np.delete(both, [3, 25], axis=1) == np.delete(before, [3, 25], axis=1)).all()
    drag(bob, (25, 50), (25, 60))
    bob.select_option("#editor-paints", "0")
    drag(bob, (25, 10), (25, 40))
    bob.click("#editor-save")
    expect(bob.locator("#editor-words")).to_contain_text("saved as correction 3, 42 pixels")
    assert (mask_of_page(bob)[10:41, 25] == 0).all(), "a second save goes on from the first"
    other.close()


def test_a_suggestion_is_accepted_another_refused_and_one_taken_back(context: BrowserContext, address: str) -> None:
    page = opened(context, address, "tiles", name="Ada")
    page.wait_for_selector(".review-accept")
    keys = page.eval_on_selector_all(".review-accept", "buttons => buttons.map(button => button.dataset.key)")
    expect(page.locator(".review-pair canvas").first).to_be_visible()
    page.click(f".review-accept[data-key='{keys[0]}']")
    expect(page.locator("#review-history")).to_contain_text("1. Ada accepted a suggestion")
    expect(page.locator("#review-suggestions > ul > li").first).to_be_focused()
    page.click(f".review-refuse[data-key='{keys[1]}']")
    expect(page.locator("#review-history")).to_contain_text("2. Ada kept the label")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    page.wait_for_selector("#review-suggestions p")
    for key in keys[:2]:
        expect(page.locator(f"li[data-key='{key}']")).to_have_count(0)
    page.click("button[aria-label='Take back 2']")
    expect(page.locator(f"li[data-key='{keys[1]}']")).to_have_count(1)
    expect(page.locator("#review-history li[data-number='2']")).to_be_focused()


def test_an_error_is_told_in_words_and_loses_nothing(context: BrowserContext, address: str, review: Path) -> None:
    page = opened(context, address)
    open_inline(page)
    page.select_option("#editor-paints", "255")
    drag(page, (3, 10), (20, 40))
    drawn = mask_of_page(page)
    (review / "salt.zarr.corrections" / "records").mkdir(parents=True, exist_ok=True)
    (review / "salt.zarr.corrections" / "records" / "000001.json").write_text('{"format": "something else"}')
    page.click("#editor-save")
    expect(page.locator("#editor-error")).to_contain_text("Not saved: 000001.json: expected a correction of version 1")
    assert str(review) not in page.inner_text("#editor-error")
    assert (mask_of_page(page) == drawn).all()
    (review / "salt.zarr.corrections" / "records" / "000001.json").unlink()
    page.click("#editor-save")
    expect(page.locator("#editor-words")).to_contain_text("saved as correction 1")
    expect(page.locator("#editor-error")).to_be_hidden()


def lose_answer(route: Route) -> None:
    """The server does what it was asked for, and the page is not told."""
    if route.request.method == "POST":
        route.fetch()
        route.abort()
    else:
        route.fallback()


def lose_request(route: Route) -> None:
    route.abort()


def save_in_doubt(page: Page, lose: Callable[[Route], None]) -> None:
    page.route(MASKS, lose)
    page.click("#editor-save")
    expect(page.locator("#editor-error")).to_contain_text("It is not known whether this was saved: the server does not")
    page.unroute(MASKS)


def mask_of_server(page: Page, address: str) -> NDArray[np.uint8]:
    found = page.request.get(f"{address}/api/corrections/survey/look/inline/110/mask").body()
    return np.frombuffer(found, np.uint8).reshape(ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("lose", "words"),
    [(lose_answer, "saved before; only the answer was lost"), (lose_request, "saved as correction 1")],
)
def test_a_save_without_an_answer_is_settled_by_the_next(
    context: BrowserContext, address: str, lose: Callable[[Route], None], words: str
) -> None:
    page = opened(context, address)
    open_inline(page)
    page.select_option("#editor-paints", "255")
    drag(page, (3, 10), (20, 40))
    save_in_doubt(page, lose)
    page.click("#editor-save")
    expect(page.locator("#editor-words")).to_contain_text(words)
    expect(page.locator("#editor-error")).to_be_hidden()
    expect(page.locator("#editor-save")).to_be_disabled()
    assert (mask_of_server(page, address) == mask_of_page(page)).all()
    assert page.request.get(f"{address}/api/corrections/survey").json()["total"] == 1


def test_undoing_takes_back_what_was_saved_without_an_answer(
    browser: Browser, context: BrowserContext, address: str
) -> None:
    page = opened(context, address, name="Ada")
    open_inline(page)
    before = mask_of_page(page)
    page.select_option("#editor-paints", "255")
    page.fill("#editor-size", "0")
    drag(page, (3, 10), (3, 40))
    save_in_doubt(page, lose_answer)
    page.click("#editor-undo")
    assert (mask_of_page(page) == before).all()
    other = browser.new_context(viewport={"width": 1400, "height": 1000})
    other.set_default_timeout(40_000)
    bob = opened(other, address, name="Bob")
    open_inline(bob)
    bob.select_option("#editor-paints", "255")
    bob.fill("#editor-size", "0")
    drag(bob, (25, 10), (25, 40))
    bob.click("#editor-save")
    expect(bob.locator("#editor-words")).to_contain_text("saved as correction 2")
    other.close()
    page.click("#editor-save")
    expect(page.locator("#editor-words")).to_contain_text("saved as correction 3, 31 pixels")
    expect(page.locator("#editor-words")).not_to_contain_text("brought together")
    found = mask_of_server(page, address)
    assert (found == mask_of_page(page)).all()
    assert (found[10:41, 25] == 255).all(), "what Bob drew stays"
    assert (np.delete(found, 25, axis=1) == np.delete(before, 25, axis=1)).all()


def test_the_editor_is_used_by_keys_alone(context: BrowserContext, address: str) -> None:
    page = opened(context, address)
    open_inline(page)
    clear(page)
    page.focus("#editor-canvas-hints")
    page.keyboard.press("b")
    for _ in range(10):
        page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Space")
    assert np.argwhere(mask_of_page(page) == 1).tolist() == [[ROWS // 2 + 10, page_cursor(page)]]
    page.keyboard.press("s")
    expect(page.locator("#editor-words")).to_contain_text("saved as correction 1")


def page_cursor(page: Page) -> int:
    return int(page.inner_text("#editor-words").split(",")[0].removeprefix("Column ")) - 1


def test_a_finger_draws_on_a_small_screen(browser: Browser, address: str) -> None:
    small = browser.new_context(viewport={"width": 400, "height": 700}, has_touch=True, is_mobile=True)
    small.set_default_timeout(40_000)
    page = opened(small, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    open_inline(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.select_option("#editor-paints", "255")
    page.locator("#editor-canvas-hints").scroll_into_view_if_needed()
    page.touchscreen.tap(*spot(page, 8, 12))
    assert mask_of_page(page)[12, 8] == 255
    small.close()


def test_nothing_is_asked_of_other_machines(context: BrowserContext, address: str) -> None:
    asked = list[str]()
    context.on("request", lambda request: asked.append(request.url))
    page = opened(context, address)
    page.wait_for_selector(".review-open")
    open_inline(page)
    assert asked
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)


def test_every_save_is_a_record_of_its_own(context: BrowserContext, address: str, review: Path) -> None:
    page = opened(context, address)
    open_inline(page)
    page.select_option("#editor-paints", "255")
    for number, column in enumerate((4, 12, 20)):
        drag(page, (column, 10), (column, 20))
        page.click("#editor-save")
        expect(page.locator("#editor-words")).to_contain_text(f"saved as correction {number + 1}")
    folder = review / "salt.zarr.corrections"
    store = CorrectionStore(folder, read_json(folder / "about.json")["of"])
    assert [record.based_on for record in history(store)] == [0, 1, 2]


def test_training_on_corrections_shows_both_on_the_same_pixels(context: BrowserContext, address: str) -> None:
    context.set_default_timeout(240_000)
    expect.set_options(timeout=240_000)
    page = opened(context, address)
    page.click("#retrain-start")
    expect(page.locator("#review-error")).to_contain_text("nothing was corrected yet")
    for line in (110, 130):
        open_inline(page, line)
        page.select_option("#editor-paints", "1")
        drag(page, (3, 10), (20, 40))
        page.click("#editor-save")
        expect(page.locator("#editor-words")).to_contain_text("saved as correction")
        page.click("#review-back")
    page.fill("#retrain-epochs", "1")
    page.click("#retrain-start")
    expect(page.locator("#review-retraining")).to_have_attribute("data-phase", "done")
    table = page.inner_text("#retrain-table")
    for words in ("inline 110", "inline 130", "Kept back: neither model has seen these", "before", "after"):
        assert words in table
    told = r"diapir survey segment \S*survey\.zarr --model \S*/retraining/001/run --out salt-corrected\.zarr"
    assert re.search(told, page.inner_text("#retrain-next"))
    picture = page.locator(".review-pictures img").first
    picture.scroll_into_view_if_needed()
    # Waiting by a polled expression would be eval, which the page's own policy refuses.
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
