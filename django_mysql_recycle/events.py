"""The logger, the signals and the counters. None of them shows SQL, parameters or passwords."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.dispatch import Signal

from . import processes, signals

__all__ = [
    "counters",
    "kept",
    "limit_unknown",
    "never_used_again",
    "no_writer",
    "not_encrypted",
    "receivers_run_sql",
    "reconnect_switched_off",
    "recycled",
    "repeated",
    "reset_counters",
    "rolled_back",
    "state_lost",
    "transaction_repeated",
]

logger = logging.getLogger("django_mysql_recycle")


def _log(level: int, event: str, text: str, *args: Any, **facts: Any) -> None:
    """A line of the log. The facts are attributes of the record, for handlers that write JSON."""
    # Two levels up: the place in the record is that of the event.
    logger.log(level, text, *args, extra={"event": event, **facts}, stacklevel=2)


#: Every reason, and the level of its line in the log. What belongs to the normal life of a
#: connection is INFO.
LEVELS = {
    "idle limit": logging.INFO,
    "max age": logging.INFO,
    "used before": logging.INFO,
    "closed": logging.INFO,
    "lost": logging.WARNING,
    "no answer": logging.WARNING,
    "interrupted": logging.WARNING,
    "wrong node": logging.WARNING,
}

#: The names under which events are always counted; ``kept`` is there once it has happened.
EVENTS = ("recycled", "repeated", "state_lost")

#: What is counted, in words that a metric can show.
DESCRIPTIONS = {
    "recycled": "Stale connections that were replaced",
    "repeated": "Statements that never ran and were run once more",
    "state_lost": "Losses of session state",
    "kept": "Warnings that a connection was kept open past its max age, by kind of session state",
    "transaction_repeated": "Transactions that run_transaction() has run again",
}

#: Called with alias, event and reason after each count, by contrib/. Their errors are logged.
listeners: list[Callable[[str, str, str], object]] = []

Counts = dict[str, dict[str, int]]


class _Record:
    """What this process has counted and said so far."""

    def __init__(self) -> None:
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Also after a fork, in the child: another thread may have held the lock just then."""
        # Reentrant: a signal handler may run SQL while its own thread is counting.
        self.lock = threading.RLock()
        self.counts: dict[str, Counts] = {}
        #: What is said once for each alias: all its connections will meet the same.
        self.said: set[tuple[str, str]] = set()

    def is_new(self, alias: str, what: str) -> bool:
        """Whether this is the first time that it is said of an alias in this process."""
        with self.lock:
            if (alias, what) in self.said:
                return False
            self.said.add((alias, what))
            return True


_record = _Record()
processes.track(_record)


def counters() -> dict[str, dict[str, dict[str, int]]]:
    """The number of events in this process: ``{alias: {event: {reason: count}}}``.

    The events are ``recycled``, ``repeated`` and ``state_lost``. After the first event of an alias,
    the result has that alias with all three. It also has ``kept`` once a connection was kept open
    past its max age; the reasons of ``kept`` are kinds of session state. And it has
    ``transaction_repeated`` once `run_transaction` has run a transaction again.

    The result is a copy, which the caller may change. Safe to call in any thread. A forked child
    starts at zero. Raises nothing.
    """
    with _record.lock:
        return {
            alias: {event: dict(reasons) for event, reasons in counts.items()}
            for alias, counts in _record.counts.items()
        }


def reset_counters() -> None:
    """Set all counters to zero, for tests."""
    with _record.lock:
        _record.counts.clear()


def _count(alias: str, event: str, reason: str) -> None:
    with _record.lock:
        events = _record.counts.setdefault(alias, {name: {} for name in EVENTS})
        reasons = events.setdefault(event, {})
        reasons[reason] = reasons.get(reason, 0) + 1
    for listener in listeners:
        try:
            listener(alias, event, reason)
        except Exception as error:
            logger.error("a listener failed: %r", listener, exc_info=error)


def _send(signal: Signal, connection: Any, **facts: Any) -> None:
    signal.send_robust(
        sender=type(connection), alias=connection.alias, connection=connection, **facts
    )


def recycled(
    connection: Any,
    *,
    reason: str,
    age: float,
    idle: float,
    idle_limit: float | None,
    max_age: float | None,
    signal: bool = True,
) -> None:
    _count(connection.alias, "recycled", reason)
    _log(
        LEVELS.get(reason, logging.WARNING),
        "recycled",
        "recycled the connection of %r: %s (age %.1f s, idle %.1f s)",
        *(connection.alias, reason, age, idle),
        alias=connection.alias,
        reason=reason,
        age=age,
        idle=idle,
        idle_limit=idle_limit,
        max_age=max_age,
    )
    if signal:
        _send(
            signals.connection_recycled,
            connection,
            reason=reason,
            age=age,
            idle=idle,
            idle_limit=idle_limit,
            max_age=max_age,
        )


def repeated(
    connection: Any, *, reason: str, age: float, idle: float, begins: bool = False
) -> None:
    """`begins`: it begins a transaction. It may have run, and has done nothing."""
    _count(connection.alias, "repeated", reason)
    _log(
        logging.WARNING,
        "repeated",
        "the beginning of a transaction on %r failed (%s, idle %.1f s): it begins on a new connection"
        if begins
        else "a statement on %r never ran (%s, idle %.1f s): it is run again on a new connection",
        *(connection.alias, reason, idle),
        alias=connection.alias,
        reason=reason,
        age=age,
        idle=idle,
    )
    _send(signals.statement_repeated, connection, reason=reason, age=age, idle=idle)


def state_lost(
    connection: Any,
    *,
    reason: str,
    age: float,
    idle: float,
    state: tuple[str, ...],
    description: str,
    raised: bool,
) -> None:
    _count(connection.alias, "state_lost", reason)
    # The kinds alone: the name of a lock can be a parameter, that of a variable is SQL.
    kinds = tuple("user variable" if kind.startswith("@") else kind for kind in state)
    _log(
        logging.WARNING,
        "state_lost",
        "the connection of %r was lost (%s, idle %.1f s), and session state with it: %s",
        *(connection.alias, reason, idle, ", ".join(kinds)),
        alias=connection.alias,
        reason=reason,
        age=age,
        idle=idle,
        state=kinds,
        raised=raised,
    )
    _send(
        signals.session_state_lost,
        connection,
        reason=reason,
        age=age,
        idle=idle,
        state=state,
        description=description,
        raised=raised,
    )


def transaction_repeated(
    connection: Any, *, reason: str, age: float, idle: float, attempt: int, attempts: int
) -> None:
    _count(connection.alias, "transaction_repeated", reason)
    _log(
        logging.WARNING,
        "transaction_repeated",
        "a transaction on %r has failed (%s), and nothing of it is in the database: "
        "attempt %d of %d follows",
        *(connection.alias, reason, attempt, attempts),
        alias=connection.alias,
        reason=reason,
        age=age,
        idle=idle,
        attempt=attempt,
        attempts=attempts,
    )
    _send(
        signals.transaction_repeated,
        connection,
        reason=reason,
        age=age,
        idle=idle,
        attempt=attempt,
    )


def kept(alias: str, *, age: float, max_age: float, state: tuple[str, ...]) -> None:
    """A boundary has left a connection open past its max age, for the state that it has."""
    for kind in state:
        _count(alias, "kept", kind)
    _log(
        logging.WARNING,
        "kept",
        "kept the connection of %r open past its max age of %g s (age %.1f s): it has %s",
        *(alias, max_age, age, ", ".join(state)),
        alias=alias,
        age=age,
        max_age=max_age,
        state=state,
    )


def rolled_back(alias: str, code: int | None) -> None:
    """The server has rolled back a whole transaction with the statement that failed."""
    _log(
        logging.WARNING,
        "rolled_back",
        "the server rolled back the whole transaction of %r (error %s)",
        *(alias, code),
        alias=alias,
        code=code,
    )


def no_writer(alias: str, seconds: float) -> None:
    """The time is over in which writes wait for a node that takes them."""
    _log(
        logging.WARNING,
        "no_writer",
        "no node of %r has taken writes for %g s: until one does, refusals are raised at once",
        *(alias, seconds),
        alias=alias,
        seconds=seconds,
    )


def limit_unknown(alias: str) -> None:
    if not _record.is_new(alias, "limit unknown"):
        return
    _log(
        logging.WARNING,
        "limit_unknown",
        "the server of %r refused to report its wait_timeout: until it does, only "
        "OPTIONS['recycle']['idle_limit'] limits the idle time of its connections",
        alias,
        alias=alias,
    )


def never_used_again(alias: str) -> None:
    """A persistent connection was opened in a thread that ends with its request."""
    if _record.is_new(alias, "never used again"):
        _log(
            logging.WARNING,
            "never_used_again",
            "CONN_MAX_AGE keeps the connections of %r open, but each thread or greenlet here ends "
            "with its request, as under ASGI and gevent: no later request uses its connection, and "
            "connections pile up at the server. Set OPTIONS['pool'] = True, or CONN_MAX_AGE = 0",
            alias,
            alias=alias,
        )


def receivers_run_sql(alias: str) -> None:
    """Receivers of connection_created have run a statement on a connection of the pool."""
    if _record.is_new(alias, "receivers run SQL"):
        _log(
            logging.INFO,
            "receivers_run_sql",
            "receivers of connection_created run SQL on %r: each time that a thread takes a "
            "connection from the pool it costs these statements. What they set keeps the "
            "connection from going back to the pool: OPTIONS['init_command'] sets it once for "
            "each connection",
            alias,
            alias=alias,
        )


def reconnect_switched_off(alias: str, source: str) -> None:
    if _record.is_new(alias, "reconnect"):
        _log(
            logging.WARNING,
            "reconnect_switched_off",
            "%s sets 'reconnect' for the connections of %r, and the backend has switched it off: if "
            "the client library replaced a connection by itself, its transaction and its locks would "
            "be lost without an error. Remove the option",
            *(source, alias),
            alias=alias,
            source=source,
        )


def not_encrypted(alias: str) -> None:
    if _record.is_new(alias, "not encrypted"):
        _log(
            logging.ERROR,
            "not_encrypted",
            "the settings of %r ask for TLS, and its connection is not encrypted: the server offers "
            "no TLS, or the driver does not know the options in 'ssl', and has connected without it",
            alias,
            alias=alias,
        )
