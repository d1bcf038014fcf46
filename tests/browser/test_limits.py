"""What the page refuses, and what it does not offer on a server that is not its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from selenium.webdriver import Chrome

from servers import Server

from .bench import BenchPage
from .browser import prefer, resize, served

DESTRUCTIVE = ("kill", "restart", "stop", "start", "cut", "mend", "hang-up")
HARMLESS = ("idle", "lock-lost", "transaction-lost", "select", "close")


class Visitor:
    """Asks as a program does, with the page's cookie and its token."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))
        text = self._opener.open(address, timeout=10).read().decode()
        match = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text)
        assert match is not None
        self.token = match[1]

    def refusal(self, act: str, *, method: str = "POST", **headers: str) -> int:
        """The status with which this is refused."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(f"{self.address}bench/do/{act}/", method=method, headers=named)
        with pytest.raises(HTTPError) as refused:
            self._opener.open(request, timeout=10)
        with refused.value as error:
            return int(error.code)


@pytest.fixture(scope="module")
def named(vendor: str) -> Iterator[str]:
    """The page on a server that the environment names."""
    with Server(vendor) as server, served(**server.settings) as address:
        yield address


@pytest.mark.parametrize("act", ["kill", "select"])
def test_post_without_the_token_is_refused(address: str, act: str) -> None:
    assert Visitor(address).refusal(act) == 403
    assert Visitor(address).refusal(act, X_CSRFToken="x" * 64) == 403


@pytest.mark.parametrize("act", [*DESTRUCTIVE, *HARMLESS])
def test_get_causes_nothing(address: str, act: str) -> None:
    assert Visitor(address).refusal(act, method="GET") == 405


def test_other_origins_and_names_of_this_machine_are_refused(address: str) -> None:
    visitor = Visitor(address)
    assert visitor.refusal("kill", X_CSRFToken=visitor.token, Origin="http://evil.example") == 403
    # A name that a foreign DNS server turns into 127.0.0.1.
    assert visitor.refusal("kill", X_CSRFToken=visitor.token, Host="evil.example") == 400


def test_unknown_button_is_not_found(address: str) -> None:
    visitor = Visitor(address)
    assert visitor.refusal("drop-database", X_CSRFToken=visitor.token) == 404


@pytest.mark.parametrize("act", DESTRUCTIVE)
def test_a_users_own_server_is_not_touched(named: str, act: str) -> None:
    visitor = Visitor(named)
    assert visitor.refusal(act, X_CSRFToken=visitor.token) == 403


def test_a_users_own_server_serves_the_harmless_half(chrome: Chrome, named: str) -> None:
    resize(chrome, 1280, 900)
    prefer(chrome)
    page = BenchPage(chrome, named)
    page.load()
    assert not set(DESTRUCTIVE) & set(page.acts())
    assert set(HARMLESS) <= set(page.acts())
    assert not chrome.find_element("id", "server").is_displayed()
    page.perform("idle")
    assert page.stock.tone == "bad"
    assert page.ours.tone == "good"
    assert chrome.get_log("browser") == []
    chrome.get("about:blank")  # or it would go on asking when its server has ended
