"""Take the pictures of the page for README.md: `python -m tests.browser.picture`."""

from __future__ import annotations

import sys
import time
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from servers import ServersError
from servers.chromium import obtain_browser

from .bench import BenchPage
from .browser import ROOT, browser, prefer, resize, served

FOLDER = ROOT / "docs" / "generated" / "images"
WIDTH = 1280
MOST_BYTES = 200_000


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    try:
        obtain_browser()
        with served() as address, browser(width=WIDTH) as chrome:
            pictures = take(BenchPage(chrome, address))
    except ServersError as error:
        print(error, file=sys.stderr)
        return 1
    for picture in pictures:
        size = picture.stat().st_size
        print(f"{picture.relative_to(ROOT)}: {size / 1000:.0f} kB")
        if size > MOST_BYTES:
            print(f"expected at most {MOST_BYTES / 1000:.0f} kB", file=sys.stderr)
            return 1
    return 0


def take(page: BenchPage) -> list[Path]:
    """A lost lock, a KILL, a pause past wait_timeout: stock is red, ours is green."""
    page.load()
    for experiment in ("lock-lost", "kill", "idle"):
        page.perform(experiment)
        time.sleep(2)  # the timelines scroll on
    body = page.chrome.find_element(By.TAG_NAME, "body")
    ActionChains(page.chrome).move_to_element_with_offset(body, 0, 0).perform()
    height = page.chrome.execute_script("return document.documentElement.scrollHeight")
    resize(page.chrome, WIDTH, height)
    pictures = []
    for name, dark in (("bench-light.png", False), ("bench-dark.png", True)):
        prefer(page.chrome, dark=dark, still=True)
        time.sleep(1.2)  # the interval at which the page redraws for those who want no motion
        picture = FOLDER / name
        with Image.open(BytesIO(page.chrome.get_screenshot_as_png())) as image:
            # As many colours as a palette holds are enough for it, and a third of the bytes.
            small = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            small.save(picture, optimize=True)
        pictures.append(picture)
    return pictures


if __name__ == "__main__":
    raise SystemExit(main())
