"""The functions on pixels of the editor, which know of no page: each against a slow and plain way, in a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Error, Page, sync_playwright
from scipy import ndimage

from diapir.review import sources

MODULE = Path(sources.__file__).parent / "static" / "editor-pixels.js"
WIDTH, HEIGHT = 23, 17
SEEDS = range(12)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"needs a browser, /usr/bin/chromium: {str(error).splitlines()[0]}")
        made = browser.new_page()
        made.add_script_tag(content=MODULE.read_text().replace("export ", "") + EXPOSED)
        yield made
        browser.close()


EXPOSED = (
    "Object.assign(window, { drawStroke, fillPolygon, floodAbove, fillRegion, countDiffering, changeBetween, newSteps,"
    " addStep, undoStep, redoStep });"
)


def run(page: Page, code: str, **given: Any) -> NDArray[np.uint8]:
    """What a function leaves in `mask`, which begins as `given['mask']` or empty."""
    given = {"mask": [0] * (WIDTH * HEIGHT), "width": WIDTH, "height": HEIGHT, **given}
    names = ", ".join(given)
    script = f"({{ {names} }}) => {{ mask = Uint8Array.from(mask); {code}; return [...mask]; }}"
    return np.array(page.evaluate(script, given), np.uint8).reshape(HEIGHT, WIDTH)


def points(rng: np.random.Generator, count: int, *, beyond: int = 0) -> list[dict[str, int]]:
    xs, ys = rng.integers(-beyond, WIDTH + beyond, count), rng.integers(-beyond, HEIGHT + beyond, count)
    return [{"x": int(x), "y": int(y)} for x, y in zip(xs, ys, strict=True)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stroke_is_every_pixel_within_its_radius(page: Page, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (start, end), radius = points(rng, 2, beyond=4), int(rng.integers(0, 6))
    code = "drawStroke(mask, { width, height, from: start, to: end, radius, value: 255 })"
    found = run(page, code, start=start, end=end, radius=radius)
    steps = np.linspace(0, 1, 4001)[:, None, None]
    rows, columns = np.indices((HEIGHT, WIDTH))
    xs, ys = start["x"] + steps * (end["x"] - start["x"]), start["y"] + steps * (end["y"] - start["y"])
    away = np.hypot(columns - xs, rows - ys).min(0)
    clear = np.abs(away - radius - 0.5) > 1e-3
    assert ((found == 255) == (away <= radius + 0.5))[clear].all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fill_is_what_hangs_together_above_the_cut(page: Page, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = (ndimage.gaussian_filter(rng.random((HEIGHT, WIDTH)), 1) * 400 - 80).clip(0, 255).astype(np.uint8)
    row, column = int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))
    code = "fillRegion(mask, floodAbove(Uint8Array.from(probability), { width, height, x, y, cut }), 1)"
    found = run(page, code, probability=probability.ravel().tolist(), x=column, y=row, cut=120)
    parts, _ = ndimage.label(probability > 120)
    expected = (parts == parts[row, column]) & (parts > 0)
    assert ((found == 1) == expected).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_polygon_holds_its_inside_and_its_rim(page: Page, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = points(rng, int(rng.integers(3, 8)), beyond=3)
    found = run(page, "fillPolygon(mask, { width, height, points: corners, value: 1 })", corners=corners) == 1
    for row, column in np.ndindex(HEIGHT, WIDTH):
        inside, beside = False, np.inf
        for one, other in zip(corners, [*corners[1:], corners[0]], strict=True):
            along = np.linspace(0, 1, 200)
            xs, ys = one["x"] + along * (other["x"] - one["x"]), one["y"] + along * (other["y"] - one["y"])
            beside = min(beside, float(np.hypot(column - xs, row - ys).min()))
            if (one["y"] > row) != (other["y"] > row):
                crossing = one["x"] + (row - one["y"]) / (other["y"] - one["y"]) * (other["x"] - one["x"])
                inside ^= column < crossing
        if beside > 0.75:
            assert found[row, column] == inside, (row, column)
        elif beside < 0.4:
            assert found[row, column], (row, column)


@pytest.mark.parametrize("seed", SEEDS)
def test_undo_and_redo_are_each_others_inverse(page: Page, seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = [rng.choice([0, 1, 255], WIDTH * HEIGHT).astype(np.uint8).tolist() for _ in range(5)]
    code = """
    const steps = newSteps(), seen = [];
    const bytes = states.map((state) => Uint8Array.from(state));
    for (let turn = 0; turn < 4; turn++) addStep(steps, changeBetween(bytes[turn], bytes[turn + 1]));
    mask.set(states[4]);
    for (let turn = 3; turn >= 0; turn--) { undoStep(steps, mask); seen.push(countDiffering(mask, states[turn])); }
    if (undoStep(steps, mask)) seen.push("there was nothing to undo");
    for (let turn = 1; turn <= 4; turn++) { redoStep(steps, mask); seen.push(countDiffering(mask, states[turn])); }
    if (redoStep(steps, mask)) seen.push("there was nothing to redo");
    undoStep(steps, mask);
    addStep(steps, changeBetween(mask, Uint8Array.from(states[0])));
    if (steps.undone.length) seen.push("a new change ends what could be redone");
    if (seen.some(Boolean)) throw new Error(seen.join(" "));
    """
    assert run(page, code, states=states).ravel().tolist() == states[3]
