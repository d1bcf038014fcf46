"""One throwaway server, one page of `make run` and one browser for all tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

from .bench import BenchPage
from .browser import browser, prefer, resize, served


@pytest.fixture(scope="session")
def address(vendor: str) -> Iterator[str]:
    """The page of `make run`, on a server of its own."""
    with served("--vendor", vendor) as address:
        yield address


@pytest.fixture(scope="session")
def chrome() -> Iterator[Chrome]:
    with browser() as chrome:
        yield chrome


@pytest.fixture
def page(chrome: Chrome, address: str) -> Iterator[BenchPage]:
    """The page, freshly loaded, at rest, in a light window of a desktop's width."""
    resize(chrome, 1280, 900)
    prefer(chrome)
    page = BenchPage(chrome, address)
    page.load()
    yield page
    # Nothing that a test does is an error to the page.
    assert chrome.get_log("browser") == []
