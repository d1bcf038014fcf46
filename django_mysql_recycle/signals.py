"""Signals, sent once for each event.

A receiver's exception is logged and never breaks the statement. `sender` is the class of the
connection wrapper; every signal carries ``alias``, ``connection`` (the wrapper), ``reason``,
``age`` and ``idle`` (seconds).
"""

from django.dispatch import Signal

__all__ = ["connection_recycled", "session_state_lost", "statement_repeated"]

#: A stale connection was closed and a new one opened. Also carries ``idle_limit`` and
#: ``max_age``, the limits in force on the old one (seconds or None).
connection_recycled = Signal()

#: A statement that provably never ran is about to be run once more on a new connection.
statement_repeated = Signal()

#: A connection is gone and session state with it. Also carries ``state``, a tuple of the kinds
#: of state, and ``raised``: False where Django's own check found it at the boundary of a unit
#: of work, so that nobody gets an exception.
session_state_lost = Signal()
