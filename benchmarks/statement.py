"""Measure 1: the CPU time that the backend adds to a statement, without the driver and the server.

The driver's cursor is replaced by a stub that does nothing. The connection and its socket are real,
so that the liveness check looks at an open socket. What remains is the time of Django and of this
backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import thread_time
from typing import Any, NamedTuple

from .measure import OURS, STOCK, Run, main
from .rows import Row, difference_of, summary
from .timing import alternate, timed

NAME = "statement"
TITLE = "Added CPU time per statement, the driver's cursor replaced by a stub"

SQL = (
    "SELECT `item`.`id`, `item`.`name`, `item`.`value` FROM `item` WHERE `item`.`id` = %s LIMIT 21"
)

Situation = Callable[[Run, Any], AbstractContextManager[None]]


class StubCursor:
    """A driver's cursor with what execute() needs."""

    description = None
    lastrowid = 1
    rowcount = 1

    def execute(self, query: Any, args: Any = None) -> int:  # noqa: ARG002
        return 1


class Case(NamedTuple):
    name: str
    budget: float | None
    situation: Situation
    makes_cursor: bool = False


def rows(run: Run) -> Iterator[Row]:
    # The transport makes no difference here: nothing is sent.
    transport = run.transports[0]
    wrappers = {"stock": run.wrapper(STOCK, transport), "ours": run.wrapper(OURS, transport)}
    for wrapper in wrappers.values():
        wrapper.ensure_connection()
    with run.pinned() as placement:
        real = summary(_real(run, wrappers["stock"]))["median"]
        for case in CASES:
            with case.situation(run, wrappers["stock"]), case.situation(run, wrappers["ours"]):
                make = _open_and_close if case.makes_cursor else _execute
                blocks = {
                    name: timed(make(wrapper), 200 if run.quick else 2000, clock=thread_time)
                    for name, wrapper in wrappers.items()
                }
                samples = alternate(blocks, run.rounds(150), seconds=6)
            added = difference_of(samples["ours"], samples["stock"])
            yield run.row(
                case.name,
                "us",
                {
                    "stock": summary(samples["stock"]),
                    "ours": summary(samples["ours"]),
                    "added": added,
                },
                transport=transport,
                budget=case.budget,
                budget_of="added",
                note=f"added: {100 * added['median'] / real:.1f} % of the {real:.0f} us"
                f" that a SELECT by primary key takes the stock backend; {placement}",
            )


def _real(run: Run, wrapper: Any) -> list[float]:
    """One statement of the stock backend with driver and server, in microseconds of elapsed time."""
    cursor = wrapper.cursor()

    def select() -> None:
        cursor.execute("SELECT id, name, value FROM benchmarks_item WHERE id = %s", (1,))
        cursor.fetchall()

    return alternate({"real": timed(select, 50)}, run.rounds(40))["real"]


def _execute(wrapper: Any) -> Callable[[], object]:
    # Django's wrapper, the backend's wrapper, the driver's cursor.
    cursor = wrapper.cursor()
    cursor.cursor.cursor = StubCursor()
    return lambda: cursor.execute(SQL, (1,))


def _open_and_close(wrapper: Any) -> Callable[[], object]:
    def call() -> None:
        with wrapper.cursor():
            pass

    return call


# ##### Situations #####


def _in_a_loop(run: Run, wrapper: Any) -> AbstractContextManager[None]:  # noqa: ARG001
    return nullcontext()


@contextmanager
def after_a_pause(run: Run, wrapper: Any) -> Iterator[None]:  # noqa: ARG001
    """Every statement checks the socket, as if the last one were more than a millisecond ago."""
    from django_mysql_recycle import connection

    window, connection.WINDOW = connection.WINDOW, -1.0  # type: ignore[attr-defined]
    try:
        yield
    finally:
        connection.WINDOW = window  # type: ignore[attr-defined]


@contextmanager
def _in_atomic(run: Run, wrapper: Any) -> Iterator[None]:
    from django.db.transaction import Atomic

    block = Atomic(using="default", savepoint=True, durable=False)
    run.use(wrapper)
    block.__enter__()
    try:
        yield
    finally:
        run.use(wrapper)
        block.__exit__(None, None, None)


@contextmanager
def _pinned(run: Run, wrapper: Any) -> Iterator[None]:
    with after_a_pause(run, wrapper), _lock_held(wrapper):
        yield


@contextmanager
def _pinned_in_atomic(run: Run, wrapper: Any) -> Iterator[None]:
    with _lock_held(wrapper), _in_atomic(run, wrapper):
        yield


@contextmanager
def _lock_held(wrapper: Any) -> Iterator[None]:
    """A named lock, which pins the connection. Each engine has a name of its own."""
    name = f"benchmark {type(wrapper).__module__}"
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 1)", (name,))
        cursor.fetchall()
    try:
        yield
    finally:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT RELEASE_LOCK(%s)", (name,))
            cursor.fetchall()


@contextmanager
def _debugged(run: Run, wrapper: Any) -> Iterator[None]:
    with after_a_pause(run, wrapper):
        wrapper.force_debug_cursor = True
        try:
            yield
        finally:
            wrapper.force_debug_cursor = False


@contextmanager
def _wrapped(run: Run, wrapper: Any) -> Iterator[None]:
    with (
        after_a_pause(run, wrapper),
        wrapper.execute_wrapper(lambda execute, *rest: execute(*rest)),
    ):
        yield


CASES = [
    Case("autocommit", 1.5, after_a_pause),
    Case("autocommit, in a tight loop", 0.6, _in_a_loop),
    Case("inside atomic", 0.5, _in_atomic),
    Case("autocommit, a named lock held", 1.5, _pinned),
    Case("inside atomic, a named lock held", 0.5, _pinned_in_atomic),
    Case("autocommit, DEBUG cursor", None, _debugged),
    Case("autocommit, an execute_wrapper", None, _wrapped),
    Case("a cursor opened and closed", None, _in_a_loop, makes_cursor=True),
]


if __name__ == "__main__":
    main(NAME, rows)
