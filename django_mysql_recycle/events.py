"""Telling people: the logger, the signals, the counters. Never SQL, parameters, credentials."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Any

from django.dispatch import Signal

from . import processes, signals

__all__ = ["counters", "limit_unknown", "recycled", "repeated", "reset_counters", "state_lost"]

logger = logging.getLogger("django_mysql_recycle")

#: Reasons that belong to the normal life of a connection; the others are worth a WARNING.
_NORMAL = {"idle limit", "max age", "closed"}


class _Ledger:
    """What this process has counted and said so far."""

    def __init__(self) -> None:
        self.forget_parent()

    def forget_parent(self) -> None:
        """Also after a fork, in the child: another thread may have held the lock just then."""
        self.lock = threading.Lock()
        self.counts: dict[str, Counter[str]] = {}
        self.limit_unknown: set[str] = set()


_ledger = _Ledger()
processes.track(_ledger)


def counters() -> dict[str, dict[str, int]]:
    """How often what has happened in this process: ``{alias: {event: count}}``. A copy.

    Events are ``recycled: <reason>``, ``repeated`` and ``state lost``. Safe in any thread; a
    forked child starts at zero.
    """
    with _ledger.lock:
        return {alias: dict(counter) for alias, counter in _ledger.counts.items()}


def reset_counters() -> None:
    """Start all counters at zero; for tests."""
    with _ledger.lock:
        _ledger.counts.clear()


def _count(alias: str, event: str) -> None:
    with _ledger.lock:
        _ledger.counts.setdefault(alias, Counter())[event] += 1


def _send(signal: Signal, connection: Any, **facts: Any) -> None:
    for receiver, answer in signal.send_robust(
        sender=type(connection), alias=connection.alias, connection=connection, **facts
    ):
        if isinstance(answer, Exception):
            logger.error("a receiver failed: %r", receiver, exc_info=answer)


def recycled(
    connection: Any,
    *,
    reason: str,
    age: float,
    idle: float,
    idle_limit: float | None,
    max_age: float | None,
) -> None:
    _count(connection.alias, f"recycled: {reason}")
    logger.log(
        logging.INFO if reason in _NORMAL else logging.WARNING,
        "recycled the connection of %r: %s (age %.1f s, idle %.1f s)",
        connection.alias,
        reason,
        age,
        idle,
    )
    _send(
        signals.connection_recycled,
        connection,
        reason=reason,
        age=age,
        idle=idle,
        idle_limit=idle_limit,
        max_age=max_age,
    )


def repeated(connection: Any, *, reason: str, age: float, idle: float) -> None:
    _count(connection.alias, "repeated")
    logger.warning(
        "a statement on %r never ran (%s, idle %.1f s): running it on a new connection",
        connection.alias,
        reason,
        idle,
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
    _count(connection.alias, "state lost")
    logger.warning(
        "the connection of %r is gone (%s, idle %.1f s) and session state with it: %s",
        connection.alias,
        reason,
        idle,
        description,
    )
    _send(
        signals.session_state_lost,
        connection,
        reason=reason,
        age=age,
        idle=idle,
        state=state,
        raised=raised,
    )


def limit_unknown(alias: str) -> None:
    """Once for each alias: all its connections, in all threads, will meet the same."""
    with _ledger.lock:
        if alias in _ledger.limit_unknown:
            return
        _ledger.limit_unknown.add(alias)
    logger.warning(
        "the server of %r does not tell its wait_timeout: its connections are recycled by the "
        "liveness check alone, unless OPTIONS['recycle']['idle_limit'] names a limit",
        alias,
    )
