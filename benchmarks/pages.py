"""The page of a map in headless Chromium: how long it takes to write, how large it is, how smoothly it moves.

Images are drawn at random, of 28 x 28 and in colour, which compress worse than photographs; features are ready, so that
what is timed is the projection, the clusters, the thumbnails and the page. In the browser, whose graphics are computed
by the processor, the map is zoomed and dragged by the mouse for some seconds; the time between two frames is measured
by requestAnimationFrame. Run: python -m benchmarks.pages
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.setting import setting
from layertap.analysis.projections import clusters, project_all
from layertap.report.map_page import MapContent, write_map
from transfer.data.images import ArraySource

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
FLAGS += ("--disable-background-networking", "--disable-component-update")
WIDTH = 512  # of the features
FRAMES = """() => {
  window.frames_ = [];
  let last = performance.now();
  const tick = (now) => { window.frames_.push(now - last); last = now; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[60_000, 100_000], help="images of a map")
    parser.add_argument("--seconds", type=float, default=5, help="how long each is moved (default: 5)")
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of each map")
    args = parser.parse_args()
    print(setting())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        for points in args.points:
            file = Path(folder) / f"{points}.html"
            features, labels = blobs(points)
            start, busy = time.perf_counter(), time.process_time()
            write_map(file, content(features, labels))
            seconds, busy = time.perf_counter() - start, time.process_time() - busy
            size = file.stat().st_size / 1e6
            print(f"{points:,} images: written in {seconds:.1f} s ({busy:.1f} s of CPU), {size:.1f} MB", flush=True)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            start = time.perf_counter()
            page.goto(file.as_uri())
            page.wait_for_function("document.querySelector('#legend button') !== null")
            opened = time.perf_counter() - start
            frames = moved(page, args.seconds)
            rates = [1000 / frame for frame in frames if frame > 0]
            slow = sorted(frames)[int(0.95 * len(frames))]
            print(
                f"{points:,} points: opened in {opened:.1f} s; moved at {statistics.median(rates):.0f} frames a second "
                f"(median), {len(frames) / sum(frames) * 1000:.0f} (mean); 95 % of the frames within {slow:.0f} ms",
                flush=True,
            )
            if args.screenshots:
                page.screenshot(path=args.screenshots / f"map-{points}.png")
            page.close()
        browser.close()


def blobs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of ten classes, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count)
    features = rng.standard_normal((count, WIDTH), np.float32)
    features += 3 * rng.standard_normal((10, WIDTH), np.float32)[labels]
    return features, labels


def content(features: np.ndarray, labels: np.ndarray) -> MapContent:
    """A map of the features, which is computed here."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (len(labels), 7, 7, 3), np.uint8)
    sources = [ArraySource(one.repeat(4, 0).repeat(4, 1), str(number)) for number, one in enumerate(coarse)]
    columns = {
        "class": np.array([f"class {label}" for label in labels]),
        "confidence": rng.random(len(labels)),
        "cluster": clusters(features, 10).astype(str),
    }
    ids = [f"photos/class {label}/image-{number:06d}.jpg" for number, label in enumerate(labels)]
    return MapContent("Benchmark", project_all(features), ids, sources, columns, "")


def moved(page: Page, seconds: float) -> list[float]:
    """The milliseconds between frames, while the map is zoomed and dragged."""
    box = page.locator("#points").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.evaluate(FRAMES)
    stop, step = time.perf_counter() + seconds, 0
    while time.perf_counter() < stop:
        page.mouse.wheel(0, -40 if step % 60 < 30 else 40)
        page.mouse.down()
        page.mouse.move(x + 8 * (step % 10), y + 4 * (step % 10))
        page.mouse.up()
        step += 1
    frames: list[float] = page.evaluate("window.frames_")
    return frames[5:]


if __name__ == "__main__":
    main()
