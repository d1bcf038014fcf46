"""Signals, sent once for each event. docs/monitoring.md describes them.

`sender` is the class of the connection wrapper; every signal carries ``alias``, ``connection``
(the wrapper), ``reason``, ``age`` and ``idle`` (seconds). Receivers run in the thread and before
the statement that met the event. A receiver's exception is logged and never breaks the statement;
KeyboardInterrupt, SystemExit and their like are no errors of a receiver's, and pass.
"""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

__all__ = ["connection_recycled", "session_state_lost", "statement_repeated"]

_logger = logging.getLogger("django_mysql_recycle")


class _EventSignal(Signal):
    """Django's signal, but whatever fails while it is sent is logged here and goes no further."""

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        # Django's (5.2 to 6.1) logs to a logger of its own, and raises AttributeError for a
        # receiver without __qualname__, such as functools.partial: tests/unit/test_events.py.
        # https://github.com/django/django/blob/6.1/django/dispatch/dispatcher.py
        _logger.error("a receiver failed: %r", receiver, exc_info=err)

    def send_robust(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        try:
            return super().send_robust(sender, **named)
        except Exception as error:
            # Async receivers, called in the thread of a running event loop, for one. Those that
            # are not async have been called by then.
            _logger.error("not all receivers could be called", exc_info=error)
            return []


#: A stale connection was closed and a new one opened. Also carries ``idle_limit`` and
#: ``max_age``, the limits in force on the old one (seconds or None).
connection_recycled = _EventSignal()

#: A statement that provably never ran is about to be run once more on a new connection.
statement_repeated = _EventSignal()

#: A connection was lost and session state with it. Also carries ``state``, a tuple of the kinds
#: of state, ``description`` (the same with names, as the exception has it), and ``raised``: False
#: where CONN_MAX_AGE is 0 and the end of a request found the connection dead: no statement raises.
session_state_lost = _EventSignal()
