"""Signals, log and counters by themselves: what no receiver may break, and what is counted."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from django_mysql_recycle import counters, events, signals


class Wrapper:
    """Stands for a connection wrapper: events only ask for its alias and its class."""

    alias = "somewhere"


@pytest.fixture(autouse=True)
def _counters_at_zero() -> Iterator[None]:
    events.reset_counters()
    yield
    events.reset_counters()


def report(connection: Any = None, reason: str = "closed") -> None:
    events.recycled(
        connection or Wrapper(), reason=reason, age=9.0, idle=3.0, idle_limit=54.0, max_age=None
    )


@contextmanager
def receiving(*receivers: Callable[..., Any]) -> Iterator[None]:
    for receiver in receivers:
        signals.connection_recycled.connect(receiver)
    try:
        yield
    finally:
        for receiver in receivers:
            signals.connection_recycled.disconnect(receiver)


def failing(**facts: Any) -> None:
    raise LookupError("a receiver's own")


async def failing_later(**facts: Any) -> None:
    raise LookupError("an async receiver's own")


class AnObject:
    def __call__(self, **facts: Any) -> None:
        raise LookupError("an object's own")


@pytest.mark.parametrize(
    "receiver",
    [failing, failing_later, partial(failing, more=1), AnObject()],
    ids=["function", "coroutine", "partial", "object"],
)
def test_receiver_that_raises_is_logged_once_and_the_next_one_is_called(
    receiver: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[Any] = []

    def listen(**facts: Any) -> None:
        reported.append(facts)

    with receiving(receiver, listen):
        report()
    assert len(reported) == 1
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["django_mysql_recycle"]
    assert errors[0].exc_info is not None and errors[0].exc_info[0] is LookupError


def test_async_receiver_in_the_thread_of_an_event_loop_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reported: list[Any] = []

    async def later(**facts: Any) -> None:
        reported.append("async")

    def listen(**facts: Any) -> None:
        reported.append("sync")

    async def work() -> None:
        report()

    with receiving(later, listen):
        report()
        assert reported == ["sync", "async"]
        asyncio.run(work())
    assert reported == ["sync", "async", "sync"]
    assert "not all receivers could be called" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_of_a_receiver_passes(error: type[BaseException]) -> None:
    def leave(**facts: Any) -> None:
        raise error

    with receiving(leave), pytest.raises(error):
        report()
    assert counters() == {
        "somewhere": {"recycled": {"closed": 1}, "repeated": {}, "state_lost": {}}
    }


def test_receiver_may_disconnect_itself() -> None:
    reported: list[Any] = []

    def once(**facts: Any) -> None:
        reported.append(facts)
        signals.connection_recycled.disconnect(once)

    with receiving(once):
        report()
        report()
    assert len(reported) == 1


def test_receiver_may_ask_for_one_class_of_wrappers() -> None:
    reported: list[Any] = []

    class Other(Wrapper):
        pass

    def listen(sender: Any, **facts: Any) -> None:
        reported.append(sender)

    signals.connection_recycled.connect(listen, sender=Other)
    report()
    report(Other())
    signals.connection_recycled.disconnect(listen, sender=Other)
    assert reported == [Other]


@pytest.mark.parametrize("reason", events.LEVELS)
def test_each_reason_is_counted_by_its_name_and_logged_by_its_level(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "django_mysql_recycle"):
        report(reason=reason)
    assert counters()["somewhere"]["recycled"] == {reason: 1}
    (record,) = caplog.records
    assert record.levelno == events.LEVELS[reason]
    assert record.getMessage() == (
        f"recycled the connection of 'somewhere': {reason} (age 9.0 s, idle 3.0 s)"
    )


def _reasons_in_the_code() -> Iterator[str]:
    """What mark_lost() and _worsen() are called with, and what verdicts say."""
    package = Path(events.__file__).parent
    for module in package.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in ("mark_lost", "_worsen", "Verdict"):
                    yield from _texts(*node.args)


def _texts(*nodes: ast.AST) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
            yield node.value


def test_every_reason_in_the_code_has_its_level_and_every_level_a_reason() -> None:
    assert set(_reasons_in_the_code()) == set(events.LEVELS)


def test_counters_are_a_copy_for_the_caller_to_keep() -> None:
    assert counters() == {}
    report()
    counters()["somewhere"]["recycled"]["closed"] = 99
    counters().clear()
    assert json.loads(json.dumps(counters())) == {
        "somewhere": {"recycled": {"closed": 1}, "repeated": {}, "state_lost": {}}
    }


def test_counting_loses_nothing_between_threads() -> None:
    def work() -> None:
        for _ in range(500):
            events._count("somewhere", "repeated", "lost")
            counters()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters()["somewhere"]["repeated"] == {"lost": 2000}


def test_counting_goes_on_in_a_signal_handler_that_interrupts_it() -> None:
    with events._record.lock:  # where the handler strikes
        report()
    assert counters()["somewhere"]["recycled"] == {"closed": 1}


def lines_of_the_page() -> dict[str, set[str]]:
    """The table of attributes in docs/monitoring.md: event by event."""
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| `event` | further attributes |")
    listed: dict[str, set[str]] = {}
    for row in table.partition("\n\n")[0].splitlines()[2:]:
        names, attributes = (re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:3])
        listed |= {name: set(attributes) for name in names}
    return listed


def test_records_have_the_facts_of_their_lines(caplog: pytest.LogCaptureFixture) -> None:
    wrapper: Any = Wrapper()
    caplog.set_level(logging.INFO, "django_mysql_recycle")
    report()
    events.repeated(wrapper, reason="lost", age=9.0, idle=3.0)
    events.state_lost(
        wrapper,
        reason="lost",
        age=9.0,
        idle=3.0,
        raised=True,
        state=("named lock", "@secret"),
        description="named lock 'secret'",
    )
    events.transaction_repeated(wrapper, reason="lost", age=9.0, idle=3.0, attempt=2, attempts=3)
    events.never_used_again("extra")
    events.receivers_run_sql("extra")
    events.kept("extra", age=9.0, max_age=5.0, state=("named lock",))
    events.rolled_back("extra", 1213)
    events.no_writer("extra", 10.0)
    events.limit_unknown("extra")
    events.reconnect_switched_off("extra", "/etc/my.cnf")
    events.not_encrypted("extra")
    plain = set(vars(logging.makeLogRecord({}))) | {"message", "event", "taskName"}
    found = {record.event: set(vars(record)) - plain for record in caplog.records}  # type: ignore[attr-defined]
    assert found == lines_of_the_page()
    assert [record.funcName for record in caplog.records] == [*found]  # the place of the event
    (lost,) = (record for record in caplog.records if record.funcName == "state_lost")
    assert lost.state == ("named lock", "user variable")  # type: ignore[attr-defined]
    assert "secret" not in str(vars(lost))
