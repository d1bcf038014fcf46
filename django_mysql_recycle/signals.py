"""Signals, sent once for each event. docs/monitoring.md describes them.

`sender` is the class of the connection wrapper. Every signal has the arguments ``alias``,
``connection`` (the wrapper), ``reason`` (a text), and ``age`` and ``idle`` (seconds). Receivers run
in the same thread as the statement that caused the event, and before it. An exception of a
receiver is logged and does not reach the statement; only KeyboardInterrupt, SystemExit and the
like do.
"""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

__all__ = [
    "connection_recycled",
    "session_state_lost",
    "statement_repeated",
    "transaction_repeated",
]

_logger = logging.getLogger("django_mysql_recycle")


class _EventSignal(Signal):
    """Django's signal. Errors while it is sent are logged by this backend and not raised."""

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        # Django's (5.2 to 6.1) logs to a logger of its own, and raises AttributeError for a
        # receiver without __qualname__, such as functools.partial: tests/unit/test_events.py.
        # https://github.com/django/django/blob/6.1/django/dispatch/dispatcher.py
        _logger.error("a receiver failed: %r", receiver, exc_info=err)

    def send_robust(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        try:
            return super().send_robust(sender, **named)
        except Exception as error:
            # For example, async receivers cannot be called in the thread of a running event loop.
            # Receivers that are not async have been called by then.
            _logger.error("not all receivers could be called", exc_info=error)
            return []


#: A stale connection was closed and a new one opened. Further arguments: ``idle_limit`` and
#: ``max_age``, the limits of the old connection (seconds; None is no limit).
connection_recycled = _EventSignal()

#: A statement has failed, and the error proves that it never ran. It is now run again on a new
#: connection.
statement_repeated = _EventSignal()

#: A connection was lost, and session state with it. Further arguments: ``state``, a tuple of the
#: kinds of state; ``description``, the same with names, as in the text of SessionStateLost; and
#: ``raised``, whether a statement raises that error. It is False if CONN_MAX_AGE is 0 and the loss
#: was found at the end of a request.
session_state_lost = _EventSignal()

#: run_transaction() is about to run a transaction again: it has failed, and nothing of it is in the
#: database. Further argument: ``attempt``, the number of the attempt that follows, from 2 on.
transaction_repeated = _EventSignal()
