"""The page for everyone: by keyboard, on a phone, light and dark, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from .bench import BenchPage
from .browser import prefer, resize

_CONTRASTS = (Path(__file__).parent / "contrast.js").read_text()


def test_everything_works_by_keyboard(page: BenchPage) -> None:
    reached: list[str] = []
    while reached[-1:] != ["select"]:
        ActionChains(page.chrome).send_keys(Keys.TAB).perform()
        focused = page.chrome.switch_to.active_element
        act = focused.get_attribute("data-act")
        if act:
            reached.append(act)
            assert float(focused.value_of_css_property("outline-width").removesuffix("px")) >= 2
            assert focused.value_of_css_property("outline-style") != "none"
    assert reached == page.acts()[: len(reached)]
    before = page.newest()
    ActionChains(page.chrome).send_keys(Keys.SPACE).perform()
    page.until(lambda: page.newest() > before)
    page.rest()
    # The focus is where it was, ready for the next press.
    assert page.chrome.switch_to.active_element.get_attribute("data-act") == "select"
    order = [*page.acts()[page.acts().index("select") + 1 :]]
    for act in order:
        ActionChains(page.chrome).send_keys(Keys.TAB).perform()
        assert page.chrome.switch_to.active_element.get_attribute("data-act") == act
    ActionChains(page.chrome).send_keys(Keys.TAB).perform()
    assert page.chrome.switch_to.active_element.get_attribute("id") == "auto"


def test_phone_needs_no_horizontal_scrolling(page: BenchPage) -> None:
    resize(page.chrome, 360, 740)
    page.perform("kill")  # long errors, all marks
    assert page.chrome.execute_script("return document.documentElement.scrollWidth") <= 360
    widest = """
    const right = (element) => element.getBoundingClientRect().right;
    return Math.max(...[...document.querySelectorAll("main *")].map(right));
    """
    assert page.chrome.execute_script(widest) <= 360
    for button in page.chrome.find_elements(By.CSS_SELECTOR, "button, select, .where a"):
        assert button.size["height"] >= 44
    # What the click did is to be seen without looking for it.
    top = page.chrome.execute_script(
        "return document.getElementById('stock').getBoundingClientRect().top"
    )
    assert 0 <= top < 740


def test_every_text_has_contrast(page: BenchPage) -> None:
    page.perform("hang-up")
    assert (page.stock.tone, page.ours.tone) == ("bad", "good")
    for width in (360, 1280):
        resize(page.chrome, width, 900)
        for dark in (False, True):
            prefer(page.chrome, dark=dark)
            contrasts: list[tuple[str, float]] = page.chrome.execute_script(_CONTRASTS)
            assert len(contrasts) > 40
            assert [found for found in contrasts if found[1] < 4.5] == [], (width, dark)


def test_dark_looks_different(page: BenchPage) -> None:
    def ground() -> Any:
        return page.chrome.execute_script("return getComputedStyle(document.body).backgroundColor")

    light, picture = ground(), page.chrome.get_screenshot_as_png()
    prefer(page.chrome, dark=True)
    assert ground() != light
    assert page.chrome.get_screenshot_as_png() != picture


def test_reduced_motion_draws_once_a_second(page: BenchPage) -> None:
    count = """
    const done = arguments[0]; let drawn = 0;
    const watch = new MutationObserver(() => { drawn += 1; });
    watch.observe(document.querySelector("#ours .timeline"), { childList: true });
    setTimeout(() => { watch.disconnect(); done(drawn); }, 1200);
    """
    assert page.chrome.execute_async_script(count) >= 3
    prefer(page.chrome, still=True)
    assert page.chrome.execute_async_script(count) <= 2
    transition = page.ours.part("bar i").value_of_css_property("transition-duration")
    assert transition == "0s"


def test_nothing_is_asked_of_another_server(page: BenchPage) -> None:
    page.perform("select")
    script = "return performance.getEntries().map((e) => e.name).filter((n) => n.includes(':'))"
    asked = page.chrome.execute_script(script)
    assert any("bench.js" in name for name in asked)
    assert [name for name in asked if not name.startswith(page.address)] == []
    names = "return [...document.querySelectorAll('[src], link')].map((e) => e.src || e.href)"
    for name in page.chrome.execute_script(names):
        assert name.startswith((page.address, "data:,"))


def test_results_are_announced_and_the_timeline_has_a_text(page: BenchPage) -> None:
    headline = page.chrome.find_element(By.ID, "headline")
    assert headline.get_attribute("role") == "status"
    page.perform("select")
    assert "This backend works with connection" in headline.text
    for lane in (page.stock, page.ours):
        timeline = lane.part("timeline")
        assert timeline.get_attribute("role") == "img"
        assert "table" in str(timeline.get_attribute("aria-label"))
    nameless = """
    const named = (element) => element.textContent.trim() || element.labels?.length;
    const all = [...document.querySelectorAll("button, select, section")];
    return all.filter((element) => !named(element)).length;
    """
    assert page.chrome.execute_script(nameless) == 0
    ids = "return [...document.querySelectorAll('[id]')].map((e) => e.id)"
    found = page.chrome.execute_script(ids)
    assert len(found) == len(set(found)), json.dumps(found)
