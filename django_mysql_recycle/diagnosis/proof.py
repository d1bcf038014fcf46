"""The proof: a connection made for it is left idle until the server closes it, and then used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from statistics import median
from time import perf_counter, sleep
from typing import Any

from django.db.utils import Error

from .. import liveness
from ..drivers import Driver
from ..errors import code_of
from ..signals import connection_recycled

__all__ = ["Control", "Progress", "Proof", "prove"]

#: Called with the seconds that have passed and those it takes at most.
Progress = Callable[[float, float], None]

#: Statements of which the median is reported.
STATEMENTS = 7


@dataclass(frozen=True, slots=True)
class Control:
    """The stock backend in the same situation."""

    engine: str
    error: str  #: the driver's; empty if the statement worked
    code: int | None


@dataclass(frozen=True, slots=True)
class Proof:
    outcome: str  #: ``proven``, ``failed`` or ``inconclusive``
    explanation: str
    wait_timeout: int  #: of the session, seconds
    waited: float  #: seconds without a statement
    #: Whether the connection was seen to be closed; None where the system cannot show it.
    closed: bool | None
    connection_id_before: int | None
    connection_id_after: int | None
    reason: str  #: why the connection was recycled; empty if it was not
    statement_ms: float | None  #: a normal statement
    next_ms: float | None  #: the statement after the pause
    control: Control | None


def prove(
    ours: Any,
    stock: Any,
    driver: Driver,
    progress: Progress,
    *,
    wait_timeout: int = 2,
    patience: float = 2,
) -> Proof:
    """Use two new wrappers, this backend's and the stock backend's, and close both in the end.

    `patience`: seconds beyond `wait_timeout` that the server has for closing the connections.
    Raises what connecting raises. Where the stock backend cannot connect, as for a subclass of
    this backend that fetches its password elsewhere, there is no control.
    """
    with ExitStack() as stack:
        stack.callback(_close, ours)
        stack.callback(_close, stock)
        before = _connection_id(ours)
        open_ = [ours, stock] if _can_connect(stock) else [ours]
        statement_ms = round(median(_timed(ours)[1] for _ in range(STATEMENTS)), 3)
        for connection in open_:
            with connection.cursor() as cursor:
                cursor.execute(f"SET SESSION wait_timeout = {wait_timeout:d}")
            if not connection.get_autocommit():
                connection.commit()  # in a transaction nothing is replaced
        recycles: list[str] = []

        def note(connection: Any, reason: str, **_facts: Any) -> None:
            if connection is ours:
                recycles.append(reason)

        connection_recycled.connect(note)
        stack.callback(connection_recycled.disconnect, note)
        closed, waited = _wait_until_closed(open_, driver, wait_timeout + patience, progress)
        after, next_ms, error = _attempt(ours)
        control = None
        if stock in open_:
            *_, failure = _attempt(stock)
            engine = str(stock.settings_dict["ENGINE"])
            control = Control(engine, _text(failure), code_of(failure) if failure else None)
    outcome, explanation = _judge(_text(error), before, after, closed, control)
    return Proof(
        outcome,
        explanation,
        wait_timeout,
        waited,
        closed,
        before,
        after,
        recycles[0] if recycles else "",
        statement_ms,
        next_ms,
        control,
    )


def _judge(
    error: str, before: int, after: int | None, closed: bool | None, control: Control | None
) -> tuple[str, str]:
    if error:
        return "failed", f"the statement after the pause raised {error}"
    if after == before:
        return "inconclusive", (
            f"connection {before} still works after its wait_timeout: it was not closed, or "
            "something on the way hides that"
        )
    if control is not None and not control.error:
        return "inconclusive", (
            f"connection {before} was replaced by {after}, but the connection of the stock backend "
            "still works, so that the server has closed neither"
        )
    if control is None and not closed:
        return "inconclusive", (
            f"connection {before} was replaced by {after}, but it was not seen to be closed"
        )
    beside = "" if control is None else f"; on the stock backend it raised {control.code}"
    return "proven", (
        f"connection {before} was closed, and the next statement ran on connection {after}{beside}"
    )


def _wait_until_closed(
    wrappers: list[Any], driver: Driver, seconds: float, progress: Progress
) -> tuple[bool | None, float]:
    """Wait until the server has closed the connections, or for so many seconds."""
    looks = [liveness.watch(driver.descriptor(wrapper.connection)) for wrapper in wrappers]
    begun = liveness.clock()
    while True:
        waited = liveness.clock() - begun
        progress(waited, seconds)
        if all(look() for look in looks):
            return True, round(waited, 3)
        if waited >= seconds:
            return (bool(looks[0]()) if liveness.can_look() else None), round(waited, 3)
        sleep(min(0.1, max(0.01, seconds - waited)))


def _can_connect(connection: Any) -> bool:
    try:
        connection.ensure_connection()
    except Error:
        return False
    return True


def _attempt(connection: Any) -> tuple[int | None, float | None, Error | None]:
    """Its id and how long the statement took, or the error."""
    try:
        return *_timed(connection), None
    except Error as error:
        return None, None, error


def _text(error: Error | None) -> str:
    return "" if error is None else f"{type(error).__name__} {error}"


def _connection_id(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])


def _timed(connection: Any) -> tuple[int, float]:
    begun = perf_counter()
    number = _connection_id(connection)
    return number, round((perf_counter() - begun) * 1e3, 3)


def _close(connection: Any) -> None:
    with suppress(Error):  # the stock backend's may fail: the server has closed it
        connection.close()
