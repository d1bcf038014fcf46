"""Chromium and its driver, for the tests that use the page of the example project."""

from __future__ import annotations

from .apt import install
from .errors import NotAvailable
from .machine import find_program, locked

PACKAGES = ("chromium", "chromium-driver")

_MISSING = (
    "No Chromium with its driver on this machine: install the packages chromium and "
    "chromium-driver (apt-get install chromium chromium-driver), so that chromium and "
    "chromedriver are on the PATH."
)


def find_browser() -> tuple[str, str]:
    """Return the paths of Chromium, or Chrome, and of its driver; raise `NotAvailable`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(find_program, names)), None)
    driver = find_program("chromedriver")
    if browser is None or driver is None:
        raise NotAvailable(_MISSING)
    return browser, driver


def obtain_browser() -> tuple[str, str]:
    """Return the same, installed through apt if it is missing; raise `NotAvailable`."""
    try:
        return find_browser()
    except NotAvailable:
        pass  # the usual state of a new machine
    with locked("chromium"):
        try:
            install(*PACKAGES)
        except NotAvailable as error:
            raise NotAvailable(f"{_MISSING}\n{error}") from error
    return find_browser()
