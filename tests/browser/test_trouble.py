"""A person causes each trouble: stock fails or waits, ours goes on or says what was lost."""

from __future__ import annotations

import re

import pytest

from .bench import BenchPage

#: The error of a client whose connection was lost, by driver, server and transport (docs/errors.md).
LOST = re.compile(r"Error: \((2006|2013|2026|4031|0), ")


def test_stock_turns_red_after_wait_timeout_and_ours_goes_on(page: BenchPage) -> None:
    page.disconnect()
    page.click("idle")
    page.until(lambda: page.ours.tone == page.stock.tone == "good")
    before = {page.ours.connection, page.stock.connection}
    green = page.stock.colour
    assert green[1] > green[0]
    page.until(lambda: "wait_timeout is 3 s" in page.headline())
    page.rest()
    red = page.stock.colour
    assert page.stock.tone == "bad" and red[0] > 2 * red[1]
    assert LOST.search(page.stock.text("answer"))
    assert LOST.search(page.stock.events("error")[0])
    assert len(page.stock.events("error")) >= 2  # and still at the second try
    assert page.stock.draws("m-error")
    assert page.ours.tone == "good" and page.ours.colour == green
    assert page.ours.connection not in before
    assert str(page.ours.connection) in page.ours.text("answer")
    assert "recycled: idle limit" in page.ours.events("recycle")[0]
    assert page.ours.draws("m-recycle")
    assert "recycled: idle limit" in page.ours.text("counters")
    assert page.headline() == (
        f"Django's own backend failed. This backend works with connection {page.ours.connection}."
    )


@pytest.mark.parametrize(
    ("act", "event"),
    [("kill", "KILL"), ("restart", "server runs again"), ("hang-up", "proxy closes")],
)
def test_lost_connection_stays_lost_on_stock_and_is_replaced_on_ours(
    page: BenchPage, act: str, event: str
) -> None:
    page.perform(act)
    assert any(event in row for row in page.rows("trouble"))
    assert page.stock.tone == "bad"
    assert LOST.search(page.stock.text("answer"))
    assert page.ours.tone == "good"
    assert page.ours.events("recycle")
    assert page.ours.draws("m-trouble")


def test_stopped_server_fails_both_and_started_again_only_stock(page: BenchPage) -> None:
    page.perform("stop")
    assert page.stock.tone == page.ours.tone == "bad"
    assert page.chrome.find_element("id", "server").text == "server stopped"
    page.perform("start")
    assert page.chrome.find_element("id", "server").text == "server runs"
    assert page.stock.tone == "bad"
    assert page.ours.tone == "good"


def test_stock_waits_while_packets_are_dropped_until_they_pass_again(page: BenchPage) -> None:
    page.perform("cut")
    page.until(lambda: page.stock.text("state").startswith("waiting for"))
    # ours: idle for one second, then a ping that waits two.
    page.until(lambda: page.ours.tone == "good" and page.ours.events("recycle"), 8)
    assert "recycled: no answer" in page.ours.events("recycle")[0]
    page.until(lambda: page.stock.text("state") == "waiting for 4 s", 8)
    assert page.stock.tone == "warn"
    assert page.stock.draws("m-wait")
    assert page.headline().startswith("Django's own backend is waiting for an answer. This")
    # The page is alive, and so is what does not hang.
    connection = page.ours.connection
    page.perform("select")
    assert page.ours.events("ok")[0].count(str(connection))
    page.perform("mend")
    page.until(lambda: page.stock.tone == "bad")
    assert LOST.search(page.stock.text("answer"))


def test_lost_lock_is_named_by_ours_alone(page: BenchPage) -> None:
    page.disconnect()
    page.click("lock-lost")
    page.until(lambda: page.ours.text("pins") == "named lock")
    assert page.ours.draws("m-pin")
    page.rest()
    assert page.ours.text("pins") == "nothing"
    earlier = page.ours.text("earlier")
    assert "SessionStateLost: (" in earlier
    assert "named lock 'bench of django_mysql_recycle, ours' taken 4 s ago" in earlier
    assert page.ours.tone == "good"  # the error is raised once
    assert page.ours.events("lost")
    assert page.stock.tone == "bad"
    assert "lock" not in page.stock.text("answer")


def test_lost_transaction_is_an_error_on_both(page: BenchPage) -> None:
    page.perform("transaction-lost")
    for lane in (page.stock, page.ours):
        assert LOST.search(lane.events("error")[0])
        assert lane.events("rollback")
        # Django leaves the block, which closes the connection of either.
        assert lane.tone == "good"


def test_statements_of_ones_own_run_on_both(page: BenchPage) -> None:
    page.disconnect()
    for act in ("begin", "insert", "commit", "lock", "unlock", "select"):
        page.perform(act)
    for lane in (page.stock, page.ours):
        answered = " ".join(lane.events("ok")[:6])
        for what in ("enter atomic()", "INSERT", "leave atomic()", "GET_LOCK", "RELEASE_LOCK"):
            assert what in answered
    assert page.ours.events("unpin")


def test_select_repeats_itself(page: BenchPage) -> None:
    page.disconnect()
    page.chrome.execute_script("const auto = document.getElementById('auto'); auto.value = '1';")
    before = len(page.ours.events("ok"))
    page.until(lambda: len(page.ours.events("ok")) >= before + 3)
