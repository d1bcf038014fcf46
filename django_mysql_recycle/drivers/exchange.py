"""Whether a statement is under way on a driver's connection: sent, and its answer not yet read.

The drivers do not say so. Every cursor of theirs sends by ``connection.query()``, which an
attribute of the connection object of the same name can watch. Without it it is not
known whether an exception came before anything was sent, and a statement that a signal handler runs in the
middle of another one would read that one's answer, or close the connection beneath it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from enum import Enum, auto
from itertools import dropwhile
from operator import not_
from traceback import walk_tb
from types import FrameType
from typing import Any

from .direct import watched_connection

__all__ = [
    "ANSWERED",
    "UNDER_WAY",
    "Exchange",
    "Outcome",
    "is_the_drivers",
    "refuse",
    "watch",
]

#: The whole answer has been read, and the driver's cursor may still ask the connection for parts of
#: it, ``lastrowid`` for one. No method says when it has them: the backend's cursor sets `under_way`
#: to False when the driver's returns, and until then the frames on the stack show it.
ANSWERED = "answered"

#: The methods of the drivers' cursors that send a statement and take its answer.
_TAKING = {"_query", "_do_get_result"}

#: CR_COMMANDS_OUT_OF_SYNC, which mysqlclient gives here, and its reason.
UNDER_WAY = (
    2014,
    "another statement is under way on this connection: its answer has not been read yet, and "
    "this statement was not sent. A signal handler, a destructor, a profiler or another thread "
    "has used the connection in the middle of a statement",
)


class Outcome(Enum):
    """What an exception that was raised around a call of the driver has done to the exchange."""

    NONE = auto()  #: nothing was under way: not sent yet, or answered in full
    FAILED = auto()  #: the driver itself has raised an error, which ended the exchange
    CUT_SHORT = auto()  #: sent, and the answer is still to come
    UNKNOWN = auto()  #: the connection object could not be watched


class Exchange:
    """The state of one driver connection between sending a statement and the end of its answer."""

    __slots__ = ("cursors", "failed", "ours", "plain", "under_way", "watched", "wrapper")

    def __init__(self) -> None:
        #: False, True, or `ANSWERED`.
        self.under_way: bool | str = False
        self.failed = False  #: the driver itself has raised an error since the last statement
        self.watched = False
        #: Statements of the application that went past Django's cursors. Which transactions they
        #: have begun, mysqlclient does not say.
        self.cursors = 0
        #: Its cursors are those of its attribute ``cursorclass``, whoever makes them.
        self.plain = False
        #: The next cursor is made by the connection wrapper, not by the application.
        self.ours = False
        #: Refers to the connection wrapper, which is informed of what the application does past it.
        self.wrapper: Callable[[], Any] | None = None

    @property
    def was_used_past(self) -> bool:
        """Whether the application has used the driver's connection past Django's cursors."""
        return bool(self.cursors) or self.under_way is ANSWERED

    def begin(self) -> None:
        """A statement of the backend's own is about to be sent."""
        if self.under_way is ANSWERED:
            self.cursors += 1
        self.under_way = True

    def connected(self) -> None:
        """What was sent until now was connecting's, by cursors that do not report when they return."""
        self.under_way = False
        self.cursors = 0

    def refuse_another(self, connection: Any, sender: FrameType) -> None:
        """Raise the driver's ProgrammingError if a statement is under way; `sender` sends another."""
        if self.under_way is True or self.is_taking(sender):
            raise refuse(connection)

    def is_taking(self, sender: FrameType | None = None) -> bool:
        """Whether the cursor that has the whole answer still asks the connection for parts of it.

        `sender`: the frame that is about to send another statement. If none is taking it, the
        statement was the application's own, past Django's cursors: those of the backend leave
        `under_way` false.
        """
        # This thread is known by its frame: with gevent, get_ident() is that of a greenlet.
        own = sys._getframe()
        frames = [own.f_back if sender is None else sender.f_back]
        if self._is_shared():
            frames += [frame for frame in sys._current_frames().values() if frame is not own]
        del own  # a frame that refers to itself would keep the connection alive
        if any(map(self._has_taker, frames)):
            return True
        self.cursors += 1
        self.under_way = False
        return False

    def _is_shared(self) -> bool:
        """Whether other threads may use the connection. Their frames are many in a busy server."""
        wrapper = self.wrapper and self.wrapper()
        return wrapper is None or bool(wrapper._thread_sharing_count)

    def _has_taker(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name in _TAKING:
                connection = getattr(frame.f_locals.get("self"), "connection", None)
                if getattr(getattr(connection, "query", None), "exchange", None) is self:
                    return True
            frame = frame.f_back
        return False

    def settle(self) -> Outcome:
        """Say what an exception has done, and begin anew: nothing is under way from here on."""
        under_way, failed = self.under_way, self.failed
        if under_way is ANSWERED:
            self.cursors += 1
        self.under_way = self.failed = False
        if under_way is True:
            return Outcome.CUT_SHORT
        if failed:
            return Outcome.FAILED
        return Outcome.NONE if self.watched else Outcome.UNKNOWN


def is_the_drivers(error: BaseException) -> bool:
    """Whether the driver itself has raised it, and no signal handler in the middle of it.

    A ``query()`` of a subclass or of an instrumentation may stand around the driver's. What strikes
    there, and not within the driver, has the statement not sent yet, or answered.
    """
    trace = error.__traceback__
    frames = walk_tb(None if trace is None else trace.tb_next)
    names = (str(frame.f_globals.get("__name__")) for frame, _ in frames)
    within = (name.partition(".")[0] in ("pymysql", "MySQLdb") for name in names)
    return all(dropwhile(not_, within))


def refuse(connection: Any) -> Exception:
    """The driver's error for a statement in the middle of another one."""
    error: Exception = connection.ProgrammingError(*UNDER_WAY)
    return error


def watch(connection: Any, make: Callable[[Any, Callable[..., Any], Exchange], None]) -> Exchange:
    """Have `make` put its attributes on the connection object, and return what they keep up to date.

    The object behind a transparent proxy is found by its bound method. Whatever has no such
    method is not watched.
    """
    query = getattr(connection, "query", None)
    known = getattr(query, "exchange", None)
    if isinstance(known, Exchange):
        return known
    exchange = Exchange()
    owner = getattr(query, "__self__", None)
    function = getattr(query, "__func__", None)
    if owner is None or function is None:
        return exchange
    try:
        # Weak: an attribute that refers to its own object would keep a connection open until the
        # garbage collector comes by.
        make(weakref.ref(owner), function, exchange)
        owner.query.exchange = exchange
        exchange.plain = owner is connection and "cursor" in vars(owner)
        kind: Any = type(owner)
        if not hasattr(kind, "finish"):  # which does it once the connection is open
            owner.__class__ = watched_connection(kind)
    except (AttributeError, TypeError):
        return exchange
    exchange.watched = True
    return exchange
