"""The picture of a report in the README: the demo's estimates and its first label issues, seen by a browser.

    python examples/picture_of_the_report.py [FILE]

It cleans the demo data in a temporary folder, opens report.html in Chromium without a window, and writes FILE
(docs/images/report.png). It needs playwright and Chromium (``pip install labelfix[dev]``, ``apt-get install
chromium`` or ``playwright install chromium``).
"""

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from labelfix.demo import run_demo

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "report.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTH = 1280
ISSUES = 4  # rows of the list of label issues
MARGIN = 28  # pixels below the estimates and above the heading of the list
GAP, GAP_COLOUR = 12, (229, 231, 235)  # the bar between the two views


def main() -> None:
    """Clean the demo data and take the picture."""
    picture = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PICTURE
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        report = run_demo(Path("labelfix-demo")).result.out / "report.html"
        views = look_at(report.resolve())
    picture.parent.mkdir(parents=True, exist_ok=True)
    stack(views).save(picture, optimize=True)
    print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


def look_at(report: Path) -> list[Image.Image]:
    """Return the top of the overview, and the top of the list of label issues."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        page.goto(report.as_uri())
        estimates = page.locator(".figures").bounding_box()
        top = part_of(page, 0, estimates["y"] + estimates["height"] + MARGIN)
        page.goto(f"{report.as_uri()}#suspects")
        heading, first = (page.locator(part).first.bounding_box() for part in ("h1", ".suspect"))
        issues = part_of(page, heading["y"] - MARGIN, first["y"] + ISSUES * first["height"])
        browser.close()
    return [top, issues]


def part_of(page: Any, start: float, end: float) -> Image.Image:
    """Return what the page shows from one height to another, over its whole width."""
    clip = {"x": 0, "y": round(start), "width": WIDTH, "height": round(end) - round(start)}
    return Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))).convert("RGB")


def stack(views: list[Image.Image]) -> Image.Image:
    """Return the views below one another, with a bar in between."""
    height = sum(view.height for view in views) + GAP * (len(views) - 1)
    whole, y = Image.new("RGB", (WIDTH, height), GAP_COLOUR), 0
    for view in views:
        whole.paste(view, (0, y))
        y += view.height + GAP
    return whole


if __name__ == "__main__":
    main()
