"""How soon the viewer shows another section and another threshold, in a real browser, and what time slices cost.

    python benchmarks/viewer_speed.py [--shape 400 500 600] [--steps 60] [--pause-ms 70]

A survey of noise with salt in it is served by a process of its own, and walked through by keys as a person who holds
one down. A figure is from the event (its own time stamp) to the canvas being drawn, and to the end of the frame that
shows it; a frame begins every 16.7 ms, so that the second is up to as much later whatever is drawn. Goals, on two
cores: a section in 50 ms, a threshold in 16 ms. Needs a browser: chromium.
"""

import argparse
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from diapir.volume.store import STRIP, Grid, add_volume, cut_of, finish, new_store, open_store, put_map
from made_survey import noise_store
from rounds import heading, spread, table
from served import serving

GOALS = {"section": 50, "threshold": 16}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[400, 500, 600], help="inlines, crosslines, samples")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pause-ms", type=float, default=70, help="between two keys")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise_store(folder / "survey.zarr", tuple(asked.shape))
        salt_store(folder / "salt.zarr", folder / "survey.zarr")
        with serving(folder / "survey.zarr", folder / "salt.zarr", cache=folder) as (port, server):
            measure(f"http://127.0.0.1:{port}/", shape=asked.shape, steps=asked.steps, pause_ms=asked.pause_ms)
            print(f"server     peak memory {peak_mib(server):.0f} MiB")


def salt_store(path: Path, survey: Path) -> None:
    """Salt in the lower half, with a rough edge."""
    grid: Grid = open_store(survey).grid
    store = new_store(path, grid, {"kind": "salt", "digest": "noise 0", "threshold": 0.5})
    chunk, shard = cut_of(grid.shape)
    volumes = [add_volume(store, name, chunk=chunk, shard=shard) for name in ("probability", "disagreement", "mask")]
    rng = np.random.default_rng(0)
    rough = rng.normal(0, 0.06, (STRIP, shard[1], grid.num_samples))
    block = np.clip(np.linspace(-0.6, 1.6, grid.num_samples) + rough, 0, 1).astype(np.float16)
    for first in range(0, grid.shape[0], STRIP):
        for second in range(0, grid.shape[1], shard[1]):
            lines = (
                slice(first, min(first + STRIP, grid.shape[0])),
                slice(second, min(second + shard[1], grid.shape[1])),
            )
            part = block[: lines[0].stop - first, : lines[1].stop - second]
            for volume, values in zip(volumes, (part, part * (1 - part), part > 0.5), strict=True):
                volume[lines[0], lines[1]] = values
    for name in ("x", "y", "trace_row", "live"):
        put_map(store, name, np.ones(grid.shape[:2]))
    finish(store, {})


def measure(address: str, *, shape: list[int], steps: int, pause_ms: float) -> None:
    """Walk, and print what was timed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{address}#/survey/survey.zarr/inline/{shape[0] // 4}")
        page.wait_for_selector("#jump:enabled", timeout=600_000)
        page.locator("#section").focus()
        found = {
            "inlines, one after another": walk(page, "section", ["ArrowRight"] * steps, pause_ms),
            "inlines, back": walk(page, "section", ["ArrowLeft"] * steps, pause_ms),
        }
        page.keyboard.press("x")
        page.wait_for_timeout(3000)
        found["crosslines, one after another"] = walk(page, "section", ["ArrowRight"] * steps, pause_ms)
        found["crosslines, far jumps (not read ahead)"] = jumps(page, steps // 4)
        found["threshold"] = walk(page, "threshold", (["ArrowUp"] * 10 + ["ArrowDown"] * 10) * (steps // 20), pause_ms)
        page.locator("#opacity-probability").evaluate("s => { s.value = 0.5; s.dispatchEvent(new Event('input')); }")
        page.locator("#opacity-disagreement").evaluate("s => { s.value = 0.5; s.dispatchEvent(new Event('input')); }")
        found["threshold, all layers"] = walk(
            page, "threshold", (["ArrowUp"] * 10 + ["ArrowDown"] * 10) * (steps // 20), pause_ms
        )
        browser.close()
    print(heading("fastapi", "playwright", threads=os.cpu_count() or 1))
    print(f"survey     {' x '.join(map(str, shape))}; window 1400 x 900")
    rows = [["from the event, ms", "drawn", "95 %", "shown", "95 %", "goal"]]
    for title, (drawn, shown) in found.items():
        goal = GOALS["threshold" if "threshold" in title else "section"]
        cells = [(spread(values).text(1), f"{np.quantile(values, 0.95):.1f}") for values in (drawn, shown)]
        rows.append([title, *cells[0], *cells[1], str(goal)])
    print(table(rows))
    first, second = (seconds_of(f"{address}api/surveys/survey.zarr/amplitude/sample/{place}") for place in (5, 6))
    print(f"time slice the first {first:.2f} s (all amplitudes are read), its neighbour {second * 1000:.0f} ms")


def walk(page: Page, kind: str, keys: list[str], pause_ms: float) -> tuple[list[float], list[float]]:
    """Milliseconds to drawn and to shown of each key."""
    page.evaluate("performance.clearMeasures()")
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(pause_ms)
    page.wait_for_timeout(1500)
    return timed(page, kind)


def jumps(page: Page, count: int) -> tuple[list[float], list[float]]:
    """The same of sections far from each other, which nobody could have fetched before."""
    page.evaluate("performance.clearMeasures()")
    last = int(page.locator("#place").get_attribute("max") or 0)
    for place in np.random.default_rng(0).permutation(last)[:count].tolist():
        page.locator("#place").evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", place)
        page.wait_for_timeout(700)
    return timed(page, "section")


def timed(page: Page, kind: str) -> tuple[list[float], list[float]]:
    """What the page itself put into its timeline."""
    found: dict[str, list[float]] = {
        end: page.evaluate("name => performance.getEntriesByName(name).map((e) => e.duration)", f"{kind}-{end}")
        for end in ("drawn", "shown")
    }
    return found["drawn"], found["shown"]


def seconds_of(url: str) -> float:
    """Until the server gives an answer, asked again as often as it wants."""
    began = time.monotonic()
    wait_for(url)
    return time.monotonic() - began


def wait_for(url: str) -> Any:
    """An answer, at last."""
    for _ in range(3000):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(url)


def peak_mib(number: int) -> float:
    """Greatest resident memory of a process so far."""
    text = Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
