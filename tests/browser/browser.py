"""A headless Chromium, and the page of `make run` to open in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from servers.chromium import find_browser
from servers.machine import free_port

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "example_project"

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-lcd-text",  # letters without coloured edges
)


@contextmanager
def browser(*, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Chrome]:
    """A fresh one with a profile of its own."""
    program, driver = find_browser()
    with tempfile.TemporaryDirectory(prefix="recycle-chromium-") as profile:
        options = ChromeOptions()
        options.binary_location = program
        for option in (*_OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # With the path given Selenium looks for no driver on the network.
        chrome = Chrome(options=options, service=Service(driver))
        try:
            resize(chrome, width, height)
            prefer(chrome, dark=dark)
            yield chrome
        finally:
            chrome.quit()


def resize(chrome: Chrome, width: int, height: int) -> None:
    """Set the size of the page itself: windows are never as narrow as a phone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(chrome: Chrome, *, dark: bool = False, still: bool = False) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
    ]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@contextmanager
def served(*arguments: str, **variables: str) -> Iterator[str]:
    """`serve.py` as a reader runs it. Gives the page's address; everything ends with the block."""
    port = free_port()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MYSQL_", "EXAMPLE_", "DJANGO_SETTINGS_MODULE"))
    }
    environment = {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "serve.py", "--port", str(port), *arguments],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait_for(address, process, output)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], output: Any) -> None:
    deadline = time.monotonic() + 40
    while True:
        try:
            with urlopen(address, timeout=10):
                return
        except URLError:
            if (
                process.poll() is not None or time.monotonic() > deadline
            ):  # pragma: no cover - broken
                output.seek(0)
                raise AssertionError(f"serve.py does not answer:\n{output.read()}") from None
            time.sleep(0.05)
