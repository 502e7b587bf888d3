"""The page as a whole in a real browser: nothing is lost from view to view, and nothing that is late or old is seen."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Dialog, Page, Route, expect

from diapir.review.serve import rooms_of
from diapir.review.service.access import Security
from diapir.review.service.counts import new_counts
from diapir.review.service.guard import Guard
from diapir.review.service.limits import USUAL
from diapir.review.sources import open_sources
from diapir.review.viewer.levels import LEVELS
from fake_service import running
from fake_viewed import write_viewed_run, write_viewed_survey

pytestmark = pytest.mark.usefixtures("one_thread")

SURVEY, TILES, REVIEW = "#/survey/survey.zarr", "#/tiles/run", "#/review/survey.zarr"
MASKS = re.compile(r"/look/.*/mask(\?|$)")
SECTIONS = re.compile(r"/amplitude.*/inline/")
WAIT_MS = 60_000
LATE_MS = 800
"""After which what comes late would have come."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All rooms on a survey, its salt, and a run without nets."""
    folder = tmp_path_factory.mktemp("page")
    write_viewed_survey(folder, shape=(48, 60, 80))
    write_viewed_run(folder, count=16)
    sources = open_sources([folder / name for name in ("run", "tiles", "survey.zarr", "salt.zarr")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        app = FastAPI()
        for room in rooms_of(sources):
            app.include_router(room)
        with running(Guard(app, security=Security(), limits=USUAL, counts=new_counts())) as port:
            yield f"http://127.0.0.1:{port}/"


def draw(page: Page) -> None:
    """A stroke of the unknown, which is nowhere yet."""
    canvas = page.locator("#editor-canvas-hints")
    box = canvas.bounding_box()
    assert box is not None
    page.select_option("#editor-paints", "255")
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.2 * box["height"], steps=3)
    page.mouse.up()
    expect(page.locator("#editor-save")).to_be_enabled()


def open_first_tile(page: Page) -> None:
    page.locator("#gallery a").first.click()
    page.locator("#correct").click()


def told_of_run(page: Page, address: str) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """The run's list of tiles, and tenths of their scores: (LEVELS, m)."""
    told = page.request.get(f"{address}api/tiles/run").json()
    return told, np.frombuffer(base64.b64decode(told["scores"]), np.uint8).reshape(LEVELS, -1)


def in_json(route: Route, content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
    route.fulfill(status=status, headers=headers, content_type="application/json", body=json.dumps(content))


def test_a_run_that_is_still_read_never_takes_the_place_of_what_was_opened_meanwhile(page: Page, address: str) -> None:
    asked = list[str]()

    def still_reading(route: Route) -> None:
        asked.append(route.request.url)
        in_json(route, {"detail": "reading what the run kept"}, status=503, headers={"Retry-After": "1"})

    page.route(re.compile(r"/api/tiles/run$"), still_reading)
    page.goto(address + TILES)
    expect(page.locator("main")).to_contain_text("reading what the run kept")
    page.get_by_role("link", name="survey.zarr").first.click()
    expect(page.locator("#status")).to_contain_text("Inline")
    before = len(asked)
    page.wait_for_timeout(LATE_MS)
    expect(page.locator("#section")).to_be_visible()
    assert len(asked) == before


@pytest.mark.parametrize(
    ("place", "open_editor"),
    [
        (f"{SURVEY}/inline/110", lambda page: page.click("#correct")),
        (TILES, open_first_tile),
        (f"{REVIEW}/inline/110", lambda page: page.wait_for_selector("#review-drawing #editor-canvas-hints")),
    ],
)
def test_a_drawing_that_was_not_saved_is_lost_on_no_way_out_without_a_question(
    page: Page, address: str, place: str, open_editor: Callable[[Page], None]
) -> None:
    asked = list[str]()

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        (dialog.accept if len(asked) > 3 else dialog.dismiss)()

    page.on("dialog", answer)
    page.goto(address)
    page.goto(address + place)  # while the first is still being opened
    open_editor(page)
    draw(page)
    own = page.url
    brand = page.get_by_role("link", name="diapir")
    ways: tuple[Callable[[], object], ...] = (page.go_back, brand.click, page.go_back)
    for number, leave in enumerate(ways, start=1):
        leave()
        expect(page).to_have_url(own)
        expect(page.locator("#editor-save")).to_be_enabled()
        assert len(asked) == number
        assert "not saved" in asked[-1]
    brand.click()
    expect(page.get_by_role("heading", name="What was opened")).to_be_visible()
    page.goto("about:blank")
    assert len(asked) == 4, "an editor that was left asks no more"


def test_corners_of_a_polygon_stay_with_another_tool_and_are_not_left_without_a_question(
    page: Page, address: str, refused: list[Dialog]
) -> None:
    page.goto(f"{address}{SURVEY}/inline/110")
    page.click("#correct")
    page.click("#editor-polygon")
    for x, y in ((20, 20), (60, 20), (60, 60)):
        page.locator("#editor-canvas-hints").click(position={"x": x, "y": y})
    for tool in ("move", "polygon"):
        page.click(f"#editor-{tool}")
    expect(page.locator("#editor-close")).to_be_enabled()
    page.click("#editor-back")
    expect(page.locator("#editor-canvas-hints")).to_be_visible()
    with page.expect_event("dialog"):
        page.close(run_before_unload=True)
    assert [dialog.type for dialog in refused] == ["confirm", "beforeunload"]
    for _ in range(3):
        expect(page.locator("#editor-undo")).to_be_enabled()
        page.click("#editor-undo")
    expect(page.locator("#editor-undo")).to_be_disabled()
    page.click("#editor-back")
    expect(page.locator("#correct")).to_be_visible()
    assert len(refused) == 2, "nothing is left to be lost"


@pytest.mark.parametrize("key", ["End", "x"])
def test_what_comes_behind_an_editor_says_nothing_and_the_address_is_of_what_is_corrected(
    page: Page, address: str, key: str
) -> None:
    late, held = re.compile(r"/amplitude.*/(inline/147|crossline/\d+)$"), list[Route]()
    page.route(late, lambda route: held.append(route))
    page.goto(f"{address}{SURVEY}/inline/110")
    expect(page.locator("#status")).to_contain_text("Inline 110")
    with page.expect_request(late):
        page.keyboard.press(key)
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Correct inline 110")).to_be_visible()
    # Behind whatever was still to be said of the section.
    page.locator("#status").evaluate(
        """status => new Promise((done) => setTimeout(() => {
        status.textContent = 'of the editor'; done(); }, 500))"""
    )
    with page.expect_response(late):
        held[0].continue_()
    page.wait_for_timeout(LATE_MS)
    expect(page.locator("#status")).to_have_text("of the editor")
    expect(page).to_have_url(f"{address}{SURVEY}/inline/110")
    page.click("#editor-back")
    expect(page.locator("#status")).to_contain_text("Inline 110")
    expect(page.locator("#number")).to_have_value("110")
    expect(page.locator("#direction-inline")).to_be_checked()


def test_that_there_is_no_such_section_is_still_said_when_another_comes_late(page: Page, address: str) -> None:
    held, is_late = list[Route](), True

    def hold(route: Route) -> None:
        if is_late:
            held.append(route)
        else:
            route.continue_()

    page.route(SECTIONS, hold)
    with page.expect_request(SECTIONS):
        page.goto(f"{address}{SURVEY}/inline/99999")
    page.wait_for_timeout(LATE_MS)
    is_late = False  # first, for what is asked for next is not to be held
    for route in held:
        route.continue_()
    expect(page.locator("#status")).to_contain_text("Inline 124")
    expect(page.get_by_role("alert")).to_contain_text("There is no inline 99999")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("Inline 125")
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize(
    ("place", "open_editor"),
    [
        (f"{SURVEY}/inline/112", lambda page: page.click("#correct")),
        (f"{REVIEW}/inline/112", lambda page: page.wait_for_selector("#review-drawing #editor-canvas-hints")),
    ],
)
def test_a_name_goes_with_what_is_saved_even_where_the_browser_keeps_nothing(
    page: Page, address: str, place: str, open_editor: Callable[[Page], None]
) -> None:
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })")
    page.route(MASKS, lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.goto(address + place)
    open_editor(page)
    page.get_by_label("Your name").fill("Ada")
    draw(page)
    with page.expect_request(lambda request: request.method == "POST") as saving:
        page.click("#editor-save")
    assert saving.value.url.endswith("/mask?who=Ada")
    expect(page.get_by_label("Your name")).to_have_value("Ada")


def test_an_editor_that_is_asked_for_twice_opens_once(page: Page, address: str) -> None:
    held = list[Route]()
    page.route(MASKS, lambda route: held.append(route))
    page.goto(f"{address}{SURVEY}/inline/110")
    expect(page.locator("#correct")).to_be_enabled()
    for _ in range(2):
        with page.expect_request(MASKS):
            page.keyboard.press("e")
    for route in held:
        route.continue_()
    page.locator("#editor-back").click()
    expect(page.locator("#correct")).to_be_visible()
    expect(page.locator("#editor")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("Inline 111")


def test_a_tile_is_corrected_once_it_is_there(page: Page, address: str) -> None:
    held = list[Route]()
    page.route(re.compile(r"/api/tiles/run/"), lambda route: held.append(route))
    tile = told_of_run(page, address)[0]["ids"][0]
    with page.expect_request(re.compile(r"/api/tiles/run/")):
        page.goto(f"{address}{TILES}/{tile}")
    expect(page.locator("#correct")).to_be_disabled()
    page.keyboard.press("e")
    expect(page.get_by_role("alert")).to_be_empty()
    for route in held:
        route.continue_()
    expect(page.locator("#correct")).to_be_enabled()
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name=f"Correct tile {tile}")).to_be_visible()


def test_an_editor_that_comes_late_stays_away_from_the_next_view(page: Page, address: str) -> None:
    held = list[Route]()
    page.route(MASKS, lambda route: held.append(route))
    page.goto(f"{address}{SURVEY}/inline/110")
    expect(page.locator("#correct")).to_be_enabled()
    with page.expect_request(MASKS):
        page.keyboard.press("e")
    page.get_by_role("link", name="diapir").click()
    expect(page.get_by_role("heading", name="What was opened")).to_be_visible()
    held[0].continue_()
    page.wait_for_timeout(LATE_MS)
    expect(page.get_by_role("heading", name="What was opened")).to_be_visible()
    expect(page.locator("#editor")).to_have_count(0)
    expect(page.get_by_role("alert")).to_be_empty()


def test_what_review_opened_last_is_what_is_corrected(page: Page, address: str) -> None:
    held = list[Route]()
    page.route(re.compile(r"/look/inline/110/mask$"), lambda route: held.append(route))
    records = [record_of(number, line) for number, line in ((2, 130), (1, 110))]
    page.route(re.compile(r"/api/corrections/survey\.zarr(\?|$)"), lambda route: in_json(route, records_of(records)))
    page.goto(address + REVIEW)
    with page.expect_request(re.compile(r"/look/inline/110/mask$")):
        page.get_by_role("button", name="Open inline 110").click()
    page.get_by_role("button", name="Open inline 130").click()
    expect(page.get_by_role("heading", name="Correct inline 130")).to_be_visible()
    held[0].continue_()
    page.wait_for_timeout(LATE_MS)
    expect(page.get_by_role("heading", name="Correct inline 130")).to_be_visible()
    page.locator("#review-back").click()
    expect(page.get_by_role("button", name="Open inline 130")).to_be_focused()


def test_enter_opens_what_has_the_focus_and_not_the_first_tile(page: Page, address: str) -> None:
    page.goto(address + TILES)
    third = page.locator("#gallery a").nth(2)
    wanted = third.get_attribute("data-id")
    third.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(str(wanted))
    page.goto(address + TILES)
    page.get_by_role("link", name="diapir").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What was opened")).to_be_visible()


def test_scores_under_tiles_are_those_of_the_threshold_even_of_tiles_that_come_late(page: Page, address: str) -> None:
    told, tenths = told_of_run(page, address)
    held = list[Route]()
    page.route(re.compile(rf"/api/tiles/run/{told['ids'][0]}$"), lambda route: held.append(route))
    page.goto(address + TILES)
    page.locator("#sort").select_option("given")
    page.locator("#gallery a").first.focus()
    for _ in range(40):
        page.keyboard.press("]")
    level = round(told["threshold"] * LEVELS) + 80
    for row, name in enumerate(told["ids"]):
        caption = page.locator(f"#gallery a[data-id='{name}'] .caption")
        expect(caption).to_contain_text(re.compile(rf"^{tenths[level, row] / 10:.1f}\b"))
    assert held, "the first tile was asked for, and has not come"


def test_the_worst_come_first_at_the_threshold_that_keys_have_come_to(page: Page, address: str) -> None:
    told, tenths = told_of_run(page, address)
    boundary = np.array(told["columns"]["boundary_px"])
    orders = np.array([np.lexsort((-boundary, scores)) for scores in tenths])
    start = round(told["threshold"] * LEVELS)
    steps = next(steps for steps in range(1, 50) if (orders[start + 2 * steps] != orders[start]).any())
    page.goto(address + TILES)
    page.locator("#gallery a").first.focus()
    for _ in range(steps):
        page.keyboard.press("]")
    for place, row in enumerate(orders[start + 2 * steps].tolist()):
        expect(page.locator("#gallery a").nth(place)).to_have_attribute("data-id", told["ids"][row])


def test_a_step_that_cannot_be_read_is_told_in_words_and_the_tiles_stay(page: Page, address: str) -> None:
    page.route(re.compile(r"\?step="), lambda route: in_json(route, {"detail": "a file is damaged"}, status=502))
    page.goto(address + TILES)
    before = page.locator("#step").input_value()
    page.locator("#gallery a").first.focus()
    page.keyboard.press("]")
    page.locator("#step").select_option(index=1)
    expect(page.get_by_role("alert")).to_contain_text("a file is damaged")
    expect(page.locator("#step")).to_have_value(before)
    expect(page.locator("#step")).to_be_focused()
    expect(page.locator("#gallery a").first).to_be_visible()


def test_after_a_turn_nothing_is_read_at_a_place_of_the_section_before(page: Page, address: str) -> None:
    page.goto(f"{address}{SURVEY}/inline/110")
    expect(page.locator("#status")).to_contain_text("Inline 110")
    box = page.locator("#section").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.9 * box["height"])
    expect(page.locator("#reading")).to_contain_text("amplitude")
    for key, words in (("x", "Crossline"), ("t", "slice")):
        page.keyboard.press(key)
        expect(page.locator("#status")).to_contain_text(words)
        expect(page.locator("#reading")).to_be_hidden()


def test_the_key_of_the_direction_that_is_shown_goes_nowhere(page: Page, address: str) -> None:
    page.goto(f"{address}{SURVEY}/inline/110")
    expect(page.locator("#status")).to_contain_text("Inline 110")
    page.keyboard.press("i")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("Inline 111")


def test_a_training_is_watched_on_after_an_answer_that_failed_and_shows_its_own_pictures(
    page: Page, address: str
) -> None:
    figures = {"iou_before": 0.5, "iou_after": 0.6, "right_before": 0.7, "right_after": 0.8}
    target = {"target": {"kind": "inline", "name": "110"}, "group": "corrected", "learned": True, **figures}
    result = {"targets": [target], "groups": {"corrected": figures}, "pictures": ["000.png"], "notes": []}
    under_way = {"number": 7, "phase": "training", "words": "it learns", "running": True, "epochs": 3}
    done = under_way | {"phase": "done", "running": False, "epochs_done": 3, "result": result, "next": "diapir …"}
    answers = iter([under_way | {"epochs_done": 1}, None, under_way | {"epochs_done": 2}, done])

    def answer(route: Route) -> None:
        state = next(answers)
        route.abort() if state is None else in_json(route, state)

    page.route(re.compile(r"/retraining$"), answer)
    picture = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    page.route("**/retraining/7/pictures/*", lambda route: route.fulfill(content_type="image/svg+xml", body=picture))
    page.goto(address + REVIEW)
    words = page.locator("#retrain-words")
    for told in ("Epoch 1 of 3", "does not answer", "Epoch 2 of 3", "It learns."):
        expect(words).to_contain_text(told)
    own = "/api/corrections/survey.zarr/retraining/7/pictures/000.png"
    expect(page.locator(".review-pictures img")).to_have_attribute("src", own)


def record_of(number: int, line: int, *, undoes: int | None = None) -> dict[str, Any]:
    """A record as the history tells it."""
    return {
        "number": number,
        "deed": "drawn" if undoes is None else "undone",
        "target": {"kind": "inline", "name": str(line)},
        "who": "Ada",
        "when": "2024-05-01T10:00:00+00:00",
        "changed": 5,
        "contested": 0,
        "undoes": undoes,
        "suggestion": None,
    }


def records_of(records: list[dict[str, Any]], *, total: int | None = None) -> dict[str, Any]:
    return {"total": len(records) if total is None else total, "corrections": records}


def test_records_that_are_older_are_a_button_away(page: Page, address: str) -> None:
    records = [record_of(number, 110, undoes=60 if number == 240 else None) for number in range(250, 0, -1)]

    def answer(route: Route) -> None:
        asked = dict(re.findall(r"(count|below)=(\d+)", route.request.url))
        below, count = int(asked.get("below", 10**9)), int(asked.get("count", 100))
        in_json(route, records_of([each for each in records if each["number"] < below][:count], total=250))

    page.route(re.compile(r"/api/corrections/survey\.zarr(\?|$)"), answer)
    page.goto(address + REVIEW)
    rows = page.locator("#review-history li")
    for count in (100, 200, 250):
        expect(rows).to_have_count(count)
        if count < 250:
            page.locator("#review-older").click()
            expect(rows.nth(count)).to_be_focused()
    expect(page.locator("#review-older")).to_be_hidden()
    expect(rows.last).to_have_attribute("data-number", "1")
    expect(page.locator("#review-history .review-undone")).to_have_attribute("data-number", "60")


def test_the_focus_goes_on_to_what_took_the_place(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("link", name="run", exact=True).first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="run", level=1)).to_be_focused()
    card = page.locator("#gallery a").nth(1)
    name = card.get_attribute("data-id")
    card.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=str(name))).to_be_focused()
    page.keyboard.press("Escape")
    expect(card).to_be_focused()
    page.keyboard.press("b")
    expect(page.locator("#gallery a:focus")).to_have_count(1)
