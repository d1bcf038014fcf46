"""A program that does one thing at a time, so that it can be counted what each thing takes.

`python -m tests.cost_probe WHAT DRIVER VENDOR ENGINE [ADDITION]`; tests/integration/costs.py runs
it. WHAT is `calls` or `statements`, which are printed by operation as JSON, or `systemcalls`, which
strace sees: before each operation the program asks for a file whose name says what begins.
ADDITION makes each statement cost more, to show that it is noticed.

The server is named by the environment, as for a measure (benchmarks/measure.py).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from benchmarks.admin import Admin
from benchmarks.measure import STOCK, Run, configure, make_table, target_of
from benchmarks.serverlog import logged, statements
from benchmarks.statement import StubCursor

#: Under strace, access() to a file below it stands for the beginning of what its name says.
MARK = "/cost-probe/"

#: Functions in some versions of Python and inlined in others.
COMPREHENSIONS = {"<dictcomp>", "<listcomp>", "<setcomp>"}

Act = Callable[[], object]


def operations(run: Run, engine: str) -> Iterator[tuple[str, Act]]:
    """The operations, by name; what has to come before one is done when it is asked for."""
    from django.db import transaction

    wrapper = run.wrapper(engine)
    run.use(wrapper)
    wrapper.ensure_connection()

    def select() -> None:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT id, name FROM benchmarks_item WHERE id = %s", (1,))
            cursor.fetchall()

    def write() -> None:
        with transaction.atomic(), wrapper.cursor() as cursor:
            cursor.execute("UPDATE benchmarks_item SET value = 1 WHERE id = %s", (1,))

    def request() -> None:
        wrapper.close_if_unusable_or_obsolete()
        select()
        wrapper.close_if_unusable_or_obsolete()

    def reconnect() -> None:
        wrapper.close()
        wrapper.connect()
        select()

    def recycle() -> None:
        # What stock does by hand. The mark stands for whatever has shown that it is lost.
        if engine == STOCK:
            reconnect()
        else:
            wrapper.guard.connection.mark_unanswered()
            select()

    def select_after_the_first_rest() -> None:
        if engine != STOCK:
            wrapper.guard.connection.read_again()
        select_after_a_rest()

    def select_after_a_rest() -> None:
        if engine != STOCK:
            wrapper.guard.connection.last_activity -= 1.0
        select()

    # So that a slow machine does not make a first rest of any of the others.
    select_after_a_rest()
    execute = stubbed(wrapper)
    with window(-1.0):
        yield "statement", execute
    with window(1e9):
        yield "statement in a tight loop", execute
    with window(-1.0), transaction.atomic():
        execute()  # the first one in a transaction is no different, and shall not count
        yield "statement inside atomic", execute

    def open_and_close() -> None:
        with wrapper.cursor():
            pass

    yield "cursor opened and closed", open_and_close

    with window(-1.0):
        yield "select", select
        yield "select after a later rest", select_after_a_rest
        yield "select after the first rest", select_after_the_first_rest
        yield "atomic with one write", write
        yield "request with one select", request
        yield "close, connect, select", reconnect
        yield "recycle, select", recycle


def stubbed(wrapper: Any) -> Act:
    """A statement as far as the driver's cursor, whose own calls are none of ours."""
    cursor = wrapper.cursor()
    cursor.cursor.cursor = StubCursor()
    return lambda: cursor.execute("SELECT id FROM benchmarks_item WHERE id = %s", (1,))


@contextmanager
def window(seconds: float) -> Iterator[None]:
    """How long after a statement the next one does not look at the socket, whatever time it is."""
    from django_mysql_recycle import connection

    usual, connection.WINDOW = connection.WINDOW, seconds
    try:
        yield
    finally:
        connection.WINDOW = usual


# ##### Calls #####


def all_calls(run: Run, engine: str) -> dict[str, Counter[str]]:
    """Python and C functions by name, the clock and the look at the socket among them."""
    make_visible()
    return {name: fewest(act) for name, act in operations(run, engine)}


def fewest(act: Act) -> Counter[str]:
    """The calls of the cheapest of some runs: a pause of the machine can only add to them."""
    act()
    return min((calls(act) for _ in range(7)), key=lambda counter: counter.total())


def calls(act: Act) -> Counter[str]:
    counter: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name not in COMPREHENSIONS:
            counter[f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"] += 1
        elif event == "c_call":
            counter[f"C {argument.__name__}"] += 1

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return counter


def make_visible() -> None:
    """Let the clock and the look at the socket be Python functions: a profile sees no partial()."""
    from django_mysql_recycle import liveness

    clock, watch = liveness.clock, liveness.watch

    def read_clock() -> float:
        return clock()

    def watch_visibly(descriptor: int | None) -> Callable[[], object]:
        look = watch(descriptor)

        def look_at_socket() -> object:
            return look()

        return look_at_socket

    liveness.watch = watch_visibly
    for name, module in list(sys.modules.items()):
        if name.startswith("django_mysql_recycle") and getattr(module, "clock", None) is clock:
            module.clock = read_clock  # type: ignore[attr-defined]


# ##### System calls #####


def marked(run: Run, engine: str) -> None:
    """Do each operation several times between marks."""
    for name, act in operations(run, engine):
        act()
        for _ in range(7):
            os.access(f"{MARK}{name}", os.F_OK)
            act()
        os.access(f"{MARK}end", os.F_OK)


# ##### Statements #####


def all_statements(run: Run, engine: str) -> dict[str, list[str]]:
    """What reaches the server, in its own words."""
    sent = {}
    with Admin(run.target) as admin, logged(admin.rows) as commands:
        for name, act in operations(run, engine):
            commands()
            act()
            sent[name] = statements(commands())
    return sent


# ##### Controls #####


def add(addition: str) -> None:
    """Make each statement of ours cost one thing more than it does."""
    from django_mysql_recycle import cursors, liveness

    execute = cursors.RecyclingCursor.execute

    def dearer(self: Any, query: Any, args: Any = None) -> Any:
        record = self._connection
        if addition == "poll":
            liveness.wait_until_readable(record.descriptor, 0)
        elif addition == "clock":
            cursors.clock()  # type: ignore[attr-defined]
        elif addition == "statement":
            record.ask(b"DO 0")
        # "call": this function itself.
        return execute(self, query, args)

    cursors.RecyclingCursor.execute = dearer  # type: ignore[method-assign]


def main(what: str, driver: str, vendor: str, engine: str, addition: str = "") -> None:
    configure(driver)
    logging.disable(logging.CRITICAL)
    if addition:
        add(addition)
    with target_of(vendor) as (target, pid):
        run = Run("cost_probe", driver, target, server_pid=pid)
        make_table(run)
        if what == "calls":
            sys.stdout.write(json.dumps(all_calls(run, engine)))
        elif what == "statements":
            sys.stdout.write(json.dumps(all_statements(run, engine)))
        else:
            marked(run, engine)
        run.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
