"""The viewer in a real browser: what a person does, and what the page then says and shows.

DIAPIR_SCREENSHOTS=docs/images writes the pictures of the docs anew, at 1400 and 400 pixels, of what `make demo` and
`make demo-survey` leave behind.
"""

import base64
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from playwright.sync_api import Page, expect

from diapir.data.png import image_size
from diapir.review.sources import open_sources
from diapir.review.viewer.levels import LEVELS
from diapir.review.viewer.page_routes import page_routes
from diapir.review.viewer.survey_routes import survey_routes
from diapir.review.viewer.tile_routes import tile_routes
from fake_viewed import write_viewed_run, write_viewed_survey

RUNS, WANTED = Path(__file__).parents[2] / "runs", os.environ.get("DIAPIR_SCREENSHOTS")
POLICY = "default-src 'self'; img-src 'self' data: blob:; style-src 'self'"
WAIT_MS = 60_000
SURVEY, TILES = "#/survey/survey.zarr", "#/tiles/run"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("viewed")
    write_viewed_survey(folder, shape=(48, 60, 80), dead=True)
    write_viewed_run(folder, count=16)
    with served(*(folder / name for name in ("run", "tiles", "survey.zarr", "salt.zarr")), cache=folder) as address:
        yield address


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A survey of few inlines in which nothing was found yet."""
    folder = tmp_path_factory.mktemp("bare")
    write_viewed_survey(folder, shape=(12, 60, 80))
    with served(folder / "survey.zarr", cache=folder) as address:
        yield address


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `make demo` and `make demo-survey` leave behind."""
    run, survey = RUNS / "demo", RUNS / "demo-survey"
    assert (run / "record.json").is_file(), "run make demo first"
    assert (survey / "salt.zarr").is_dir(), "run make demo-survey first"
    with served(run, survey / "survey.zarr", survey / "salt.zarr", cache=tmp_path_factory.mktemp("cache")) as address:
        yield address


@contextmanager
def served(*paths: Path, cache: Path) -> Iterator[str]:
    """The address of pages on runs, surveys and what else is named."""
    sources = open_sources(paths)
    app = FastAPI()

    @app.middleware("http")
    async def strict(request: Request, call_next: object) -> Response:
        answer: Response = await call_next(request)  # type: ignore[operator]
        answer.headers["Content-Security-Policy"] = POLICY
        return answer

    for routes in (page_routes(sources), tile_routes(sources.runs), survey_routes(sources.surveys, cache=cache)):
        app.include_router(routes)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)


def open_at(page: Page, address: str, place: str) -> None:
    page.goto(address + place)
    expect(page.locator("main")).not_to_contain_text("Opening…")


def fingerprint(page: Page, canvas: str) -> int:
    """A sum over a canvas: another picture has another."""
    return int(
        page.evaluate(
            """(name) => { const c = document.querySelector(name); const d = c.getContext('2d')
            .getImageData(0, 0, c.width, c.height).data; let s = 0;
            for (let i = 0; i < d.length; i++) s = (s * 31 + d[i]) % 2147483647; return s; }""",
            canvas,
        )
    )


def set_slider(page: Page, name: str, value: float) -> None:
    page.locator(name).evaluate(
        """(slider, value) => { slider.value = value;
        slider.dispatchEvent(new Event('input', { bubbles: true }));
        slider.dispatchEvent(new Event('change', { bubbles: true })); }""",
        value,
    )


def test_everything_that_was_opened_is_a_click_away(page: Page, address: str) -> None:
    open_at(page, address, "")
    expect(page.locator("#status")).to_contain_text("1 run and 1 survey")
    page.get_by_role("link", name="survey.zarr").first.click()
    expect(page.locator("#section")).to_be_visible()
    page.get_by_role("link", name="run", exact=True).click()
    expect(page.locator("#gallery li").first).to_be_visible()
    page.get_by_role("link", name="diapir").click()
    expect(page.get_by_role("heading", name="What was opened")).to_be_visible()


def test_sections_scroll_by_keys_buttons_and_slider_and_the_address_follows(page: Page, address: str) -> None:
    open_at(page, address, f"{SURVEY}/inline/120")
    expect(page.locator("#status")).to_contain_text("Inline 120")
    before = fingerprint(page, "#section")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("Inline 121")
    assert fingerprint(page, "#section") != before
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#status")).to_contain_text("Inline 120")
    assert fingerprint(page, "#section") == before
    page.locator("#next").click()
    page.keyboard.press("PageDown")
    expect(page.locator("#number")).to_have_value("131")
    expect(page).to_have_url(f"{address}{SURVEY}/inline/131")
    set_slider(page, "#place", 0)
    expect(page.locator("#status")).to_contain_text("Inline 100")
    page.keyboard.press("End")
    expect(page.locator("#status")).to_contain_text("Inline 147")
    page.reload()
    expect(page.locator("#status")).to_contain_text("Inline 147")


def test_crosslines_and_time_slices_are_a_key_away_and_a_number_goes_there(page: Page, address: str) -> None:
    open_at(page, address, SURVEY)
    expect(page.locator("#status")).to_contain_text("Inline")
    page.keyboard.press("x")
    expect(page.locator("#status")).to_contain_text("Crossline 360")
    page.locator("#number").fill("317")  # every second number has a line: the nearest is shown
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Crossline 318")
    page.locator("#section").focus()
    page.keyboard.press("t")
    expect(page.locator("#status")).to_contain_text("Time slice 160 ms")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).to_contain_text("Time slice 164 ms")
    expect(page).to_have_url(f"{address}{SURVEY}/sample/41")


def test_the_threshold_moves_the_mask_and_what_is_said_of_it(page: Page, address: str) -> None:
    open_at(page, address, f"{SURVEY}/inline/120")
    expect(page.locator("#status")).to_contain_text("above 0.500")
    before, words = fingerprint(page, "#section"), page.locator("#status").inner_text()
    set_slider(page, "#threshold", 20)
    expect(page.locator("#status")).to_contain_text("above 0.100")
    assert fingerprint(page, "#section") != before

    def share(text: str) -> float:
        return float(text.split("·")[1].split("%", maxsplit=1)[0])

    assert share(page.locator("#status").inner_text()) > share(words)
    page.locator("#section").focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(page.locator("#status")).to_contain_text("above 0.130")


def test_colours_window_and_layers_change_the_picture_and_stay(page: Page, address: str) -> None:
    open_at(page, address, f"{SURVEY}/inline/120")
    expect(page.locator("#status")).to_contain_text("Inline 120")
    seen = {fingerprint(page, "#section")}
    for act in (
        lambda: page.locator("#map").select_option("orange-purple"),
        lambda: set_slider(page, "#window", 0.4),
        lambda: set_slider(page, "#level", 0.2),
        lambda: page.locator("#flip").check(),
        lambda: set_slider(page, "#opacity-mask", 0),
        lambda: set_slider(page, "#opacity-probability", 0.6),
        lambda: set_slider(page, "#opacity-disagreement", 0.9),
        lambda: page.locator("#outline").uncheck(),
        lambda: page.locator("#zoom-in").click(),
    ):
        act()
        # Disagreement is fetched when it is first shown.
        expect(page.locator("#stage")).not_to_have_attribute("aria-busy", "true")
        now = fingerprint(page, "#section")
        assert now not in seen
        seen.add(now)
    page.wait_for_timeout(400)  # settings are kept when they have rested
    page.reload()
    expect(page.locator("#map")).to_have_value("orange-purple")
    expect(page.locator("#flip")).to_be_checked()


def test_a_click_goes_to_the_section_where_members_disagree_most(page: Page, address: str) -> None:
    open_at(page, address, f"{SURVEY}/inline/140")
    expect(page.locator("#jump")).to_be_enabled()
    page.locator("#jump").click()
    expect(page.locator("#status")).to_contain_text("Inline 109")
    expect(page.locator("#worst li").first).to_contain_text("Inline 109")
    page.locator("#section").focus()
    page.keyboard.press("d")
    expect(page.locator("#status")).not_to_contain_text("Inline 109")


def test_the_pointer_reads_amplitude_and_probability_and_missing_traces(page: Page, address: str) -> None:
    open_at(page, address, f"{SURVEY}/inline/147")
    expect(page.locator("#status")).to_contain_text("Inline 147")
    box = page.locator("#section").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#reading")).to_contain_text("amplitude")
    expect(page.locator("#reading")).to_contain_text("probability")
    expect(page.locator("#reading")).to_contain_text("disagreement")
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#reading")).to_contain_text("no trace")


def test_disagreement_that_nobody_sees_is_not_asked_for(page: Page, address: str) -> None:
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    open_at(page, address, f"{SURVEY}/inline/120")
    expect(page.locator("#status")).to_contain_text("Inline 120")
    page.locator("#section").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#status")).not_to_contain_text("Inline 120")
    for _ in range(300):
        page.wait_for_timeout(100)
        if sum("amplitude,probability/inline" in url for url in asked) > 2:
            break
    assert sum("amplitude,probability/inline" in url for url in asked) > 2, "neighbours are fetched ahead"
    assert not any("disagreement/inline" in url for url in asked)
    box = page.locator("#section").bounding_box()
    assert box is not None
    for share in (0.3, 0.31, 0.32):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
    expect(page.locator("#reading")).to_contain_text("disagreement")
    assert sum("/disagreement/inline" in url for url in asked) == 1


def test_a_survey_without_salt_is_drawn_though_disagreement_was_shown_of_another(page: Page, bare: str) -> None:
    open_at(page, bare, SURVEY)
    expect(page.locator("#status")).to_contain_text("Inline")
    page.evaluate("localStorage.setItem('diapir-survey', JSON.stringify({ disagreement: 0.5, probability: 0.5 }))")
    page.reload()
    expect(page.locator("#status")).to_contain_text("Inline")
    expect(page.locator("#stage")).not_to_have_attribute("aria-busy", "true")
    assert fingerprint(page, "#section") != 0


def test_axes_have_no_ticks_between_two_lines(page: Page, bare: str) -> None:
    page.add_init_script(
        """const write = CanvasRenderingContext2D.prototype.fillText; window.written = [];
        CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
          window.written.push(text); write.call(this, text, ...at); };"""
    )
    page.set_viewport_size({"width": 1400, "height": 3000})
    open_at(page, bare, f"{SURVEY}/sample")
    expect(page.locator("#status")).to_contain_text("Time slice")
    written = page.evaluate("window.written")
    assert "101" in written
    assert not [text for text in written if "." in text]


def test_help_lists_the_keys_of_the_view_and_gives_focus_back(page: Page, address: str) -> None:
    open_at(page, address, SURVEY)
    expect(page.locator("#status")).to_contain_text("Inline")
    page.locator("#section").focus()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    expect(page.locator("#help-keys")).to_contain_text("where members disagree most")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    expect(page.locator("#section")).to_be_focused()


def test_a_moved_threshold_scores_the_tiles_anew_as_the_server_would(page: Page, address: str) -> None:
    open_at(page, address, TILES)
    expect(page.locator("#mean-score")).to_be_visible()
    told = page.request.get(f"{address}api/tiles/run").json()
    for level in (100, 30, 170):
        set_slider(page, "#threshold", level)
        tenths = np.frombuffer(base64.b64decode(told["scores"]), np.uint8).reshape(LEVELS, -1)[level]
        expect(page.locator("#mean-score")).to_have_text(f"{tenths.mean() / 10:.4f}")
    expect(page.locator("#status")).to_contain_text("at threshold 0.850")


def test_tiles_are_filtered_by_class_and_depth_and_the_score_is_of_what_is_left(page: Page, address: str) -> None:
    open_at(page, address, TILES)
    columns = page.request.get(f"{address}api/tiles/run").json()["columns"]
    classes, depths = columns["coverage_class"], sorted(columns["depth_m"])
    wanted = int(classes[0])
    page.locator(f"#class-{wanted}").check()
    expect(page.locator("#gallery li")).to_have_count(classes.count(wanted))
    expect(page.locator("#count")).to_have_text(f"{classes.count(wanted)} of {len(classes)} held-out tiles")
    page.locator("#clear-filter").click()
    expect(page.locator("#gallery li")).to_have_count(len(classes))
    page.locator("#depth-from").fill(str(depths[-2]))
    page.locator("#depth-from").press("Enter")
    expect(page.locator("#gallery li")).to_have_count(sum(depth >= depths[-2] for depth in depths))
    page.locator("#depth-from").fill("99999")
    page.locator("#depth-from").press("Enter")
    expect(page.locator("#none")).to_be_visible()


def test_tiles_are_sorted_by_what_is_asked_for(page: Page, address: str) -> None:
    open_at(page, address, TILES)
    told = page.request.get(f"{address}api/tiles/run").json()
    for name, column in (("uncertain", "uncertainty"), ("disputed", "disagreement")):
        page.locator("#sort").select_option(name)
        values = told["columns"][column]
        first = told["ids"][max(range(len(values)), key=lambda row: values[row])]
        expect(page.locator("#gallery a").first).to_have_attribute("data-id", first)


def test_a_tile_shows_its_pictures_and_the_next_is_a_key_away(page: Page, address: str) -> None:
    open_at(page, address, TILES)
    first, second = (page.locator("#gallery a").nth(place).get_attribute("data-id") for place in (0, 1))
    page.locator("#gallery a").first.click()
    for name in ("image", "truth", "probability", "mask", "difference", "disagreement"):
        expect(page.locator(f"#picture-{name}")).to_be_visible()
    expect(page.get_by_role("heading", name=str(first))).to_be_visible()
    before = fingerprint(page, "#picture-mask")
    set_slider(page, "#threshold", 2)
    expect(page.locator("#status")).to_contain_text("at threshold 0.010")
    assert fingerprint(page, "#picture-mask") != before
    page.locator("#back").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name=str(second))).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#gallery")).to_be_visible()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("#/survey/none/inline/1", "Nothing of the name none was opened."),
        ("#/tiles/run/no-tile", "There is no held-out tile no-tile in run."),
        (f"{SURVEY}/inline/9999", "There is no inline 9999"),
        ("#/nonsense", "knows no address"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_in_words(page: Page, address: str, place: str, words: str) -> None:
    open_at(page, address, place)
    expect(page.get_by_role("alert")).to_contain_text(words)


def test_a_refusal_of_the_server_is_told_in_words(page: Page, address: str) -> None:
    damaged = '{"detail": "survey.zarr/amplitude/c/0/0/0: its bytes are not those that were written"}'
    page.route(
        re.compile(r"/inline/1[34]\d$"),
        lambda route: route.fulfill(status=502, content_type="application/json", body=damaged),
    )
    open_at(page, address, f"{SURVEY}/inline/110")
    expect(page.locator("#status")).to_contain_text("Inline 110")
    set_slider(page, "#place", 40)
    expect(page.get_by_role("alert")).to_contain_text("its bytes are not those that were written")
    set_slider(page, "#place", 5)
    expect(page.locator("#status")).to_contain_text("Inline 105")
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_server_that_went_away_is_told_in_words(page: Page, address: str) -> None:
    open_at(page, address, f"{SURVEY}/inline/110")
    expect(page.locator("#status")).to_contain_text("Inline 110")
    page.route("**/api/**", lambda route: route.abort())
    set_slider(page, "#place", 40)
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")


def test_what_a_screen_reader_needs_has_a_name(page: Page, address: str) -> None:
    for place in ("", f"{SURVEY}/inline/110", TILES):
        page.goto("about:blank")
        open_at(page, address, place)
        page.wait_for_timeout(500)
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, a, input, select, canvas')]
            .filter((e) => !e.closest('[aria-hidden=true]') && e.getAttribute('aria-hidden') !== 'true')
            .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length)))
            .map((e) => e.outerHTML)"""
        )
        assert unnamed == []
        assert page.locator("h1").count() == 1


def test_nothing_is_wider_than_a_small_screen(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 400, "height": 850})
    for place in ("", f"{SURVEY}/inline/110", TILES):
        page.goto("about:blank")
        open_at(page, address, place)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, place
    expect(page.locator("#threshold")).to_be_visible()


@pytest.mark.skipif(not WANTED, reason="writes pictures of the docs: DIAPIR_SCREENSHOTS=docs/images")
@pytest.mark.parametrize("width", [1400, 400])
def test_pictures_for_the_docs(page: Page, pictured: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    first, tiles = None, "#/tiles/demo"
    for name, place in (("survey", SURVEY), ("tiles", tiles), ("tile", f"{tiles}/{{first}}")):
        page.goto("about:blank")
        open_at(page, pictured, place.format(first=first))
        if name == "tiles":
            # The run's tiles are made once more.
            page.wait_for_selector("#gallery a", timeout=240_000)
            page.locator("#sort").select_option("uncertain")
            first = page.locator("#gallery a").nth(3).get_attribute("data-id")
        page.wait_for_timeout(3000)
        path = Path(str(WANTED)) / f"viewer-{name}-{width}.png"
        page.screenshot(path=path)
        assert image_size(path.read_bytes(), where=name) == (900, width)
