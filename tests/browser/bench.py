"""The page as a person uses it: what it shows, and clicks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")


class LaneView:
    """One of the two connections, as the page shows it."""

    def __init__(self, page: BenchPage, alias: str) -> None:
        self._page = page
        self._alias = alias

    def text(self, part: str) -> str:
        """What is in the part of this class, whether it has been scrolled to or not."""
        return str(self.part(part).get_property("textContent"))

    def part(self, part: str) -> WebElement:
        return self._page.chrome.find_element(By.CSS_SELECTOR, f"#{self._alias} .{part}")

    @property
    def tone(self) -> str | None:
        return self._page.chrome.find_element(By.ID, self._alias).get_attribute("data-tone")

    @property
    def connection(self) -> int:
        match = re.search(r"\d+", self.text("id"))
        return int(match[0]) if match else 0

    @property
    def colour(self) -> tuple[int, int, int]:
        """The colour of the word for its state."""
        value = self.part("state").value_of_css_property("color")
        red, green, blue = re.findall(r"\d+", value)[:3]
        return int(red), int(green), int(blue)

    def draws(self, mark: str) -> bool:
        """Whether the timeline shows marks of this kind, now or at its next turn."""
        which = f"#{self._alias} .timeline .{mark}"
        find = self._page.chrome.find_elements
        return bool(self._page.until(lambda: find(By.CSS_SELECTOR, which), 5))

    def events(self, kind: str) -> list[str]:
        """The rows of the table about this connection, the latest first."""
        who = {"stock": "Django", "ours": "This backend"}[self._alias]
        return [text for text in self._page.rows(kind) if who in text]


class BenchPage:
    def __init__(self, chrome: Chrome, address: str) -> None:
        self.chrome = chrome
        self.address = address
        self.stock = LaneView(self, "stock")
        self.ours = LaneView(self, "ours")

    def load(self) -> None:
        self.chrome.get(self.address)
        self.rest()

    def state(self) -> dict[str, Any]:
        script = "return fetch(document.body.dataset.state).then((answer) => answer.json())"
        state: dict[str, Any] = self.chrome.execute_script(script)
        return state

    def rest(self, seconds: float = 25) -> None:
        """Return once no experiment is under way, and the page knows that."""

        def at_rest() -> bool:
            state = self.state()
            newest = max((event["n"] for event in state["events"]), default=0)
            shown = self.chrome.execute_script("return seen.number >= arguments[0]", newest)
            buttons = self.buttons('[aria-disabled="true"]')
            return bool(shown) and not state["experiment"] and not buttons

        self.until(at_rest, seconds)

    def until(self, condition: Callable[[], T], seconds: float = 15) -> T:
        wait = WebDriverWait(self.chrome, seconds, poll_frequency=0.1)
        try:
            return wait.until(lambda _: condition())
        except TimeoutException:  # pragma: no cover - only a test that fails comes here
            shown = self.chrome.find_element(By.TAG_NAME, "main").text
            raise AssertionError(f"not within {seconds:g} s; the page shows:\n{shown}") from None

    def buttons(self, which: str = "") -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, f"button[data-act]{which}")

    def acts(self) -> list[str]:
        return [str(button.get_attribute("data-act")) for button in self.buttons()]

    def click(self, act: str) -> None:
        (button,) = self.buttons(f'[data-act="{act}"]')
        button.click()

    def perform(self, experiment: str) -> None:
        """Click and return when it is over."""
        before = self.newest()
        self.click(experiment)
        self.until(lambda: self.newest() > before)
        self.rest()

    def disconnect(self) -> None:
        """Begin with no connection."""
        self.click("close")
        self.until(lambda: self.stock.tone == self.ours.tone == "none")

    def newest(self) -> int:
        return max((event["n"] for event in self.state()["events"]), default=0)

    def rows(self, kind: str) -> list[str]:
        # In one go: rows come and go.
        script = "return [...document.querySelectorAll(arguments[0])].map((row) => row.textContent)"
        found = self.chrome.execute_script(script, f'#events tr[data-kind="{kind}"]')
        return [str(text) for text in found]

    def headline(self) -> str:
        return str(self.chrome.find_element(By.ID, "headline").get_property("textContent"))
