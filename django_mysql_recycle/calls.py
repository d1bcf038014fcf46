"""Calls under way, as opposed to calls that an interruption has ended.

A flag that a ``finally`` resets stays set where Ctrl-C strikes in that ``finally``. What is kept
here instead of a flag is the frame of the call, which says itself whether it still runs.
"""

from __future__ import annotations

import sys
from types import FrameType, TracebackType

__all__ = ["Calls", "application_frame", "has_left", "is_in_a_statement", "is_on_the_stack", "runs"]

_PACKAGE = __name__.rpartition(".")[0] + "."
#: Where an exception has not reached the application yet.
_INSIDE = (_PACKAGE, "django.db.backends.")
_DRIVERS = ("MySQLdb", "pymysql")
#: What of the package is on the stack while a statement is under way.
_SENDING = {
    *("execute", "executemany", "callproc", "run", "enter", "leave"),
    *("send_commit", "send_rollback"),
    *("fetch", "ask", "watched_query", "watched_store_result", "watched_use_result"),
}


def runs(frame: FrameType | None) -> bool:
    """Whether a call is still under way, in whichever thread."""
    if frame is None:
        return False
    try:
        frame.clear()
    except RuntimeError:
        return True
    return False


class Calls:
    """The calls of one wrapper that are under way. The attributes are for who makes the call.

    A call that an interruption has ended is forgotten where it is asked for: its frame refers to
    the frames that called it, and keeps alive what these refer to.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a child after fork(): the calls are the parent's."""
        #: The call of connect(), in which nothing is decided, repeated or pinned.
        self.connecting: FrameType | None = None
        #: The call of connect() in which receivers of connection_created run, on a pooled connection.
        self.receiving: FrameType | None = None
        #: Django's own check of the connection between two units of work.
        self.django_check: FrameType | None = None
        #: The call of the receivers of connection_recycled.
        self.notifying: FrameType | None = None
        #: The call in which a loss of session state is reported, receivers included.
        self.reporting: FrameType | None = None

    def is_connecting(self) -> bool:
        if self.connecting is not None and not runs(self.connecting):
            self.connecting = None
        return self.connecting is not None

    def is_receiving(self) -> bool:
        if self.receiving is not None and not runs(self.receiving):
            self.receiving = None
        return self.receiving is not None

    def in_django_check(self) -> bool:
        if self.django_check is not None and not runs(self.django_check):
            self.django_check = None
        return self.django_check is not None

    def is_notifying(self) -> bool:
        if self.notifying is not None and not runs(self.notifying):
            self.notifying = None
        return self.notifying is not None


def has_left(trace: TracebackType | None) -> bool:
    """Whether an exception that was raised inside the package has come out of the backend."""
    return trace is None or not _module(trace.tb_frame).startswith(_INSIDE)


def application_frame() -> FrameType | None:
    """The call of the application that has led into Django and the backend."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _module(frame).startswith((_PACKAGE, "django.")):
        frame = frame.f_back
    return frame


def is_on_the_stack(wanted: FrameType | None) -> bool:
    """Whether a call of this thread is under way. Unlike runs(), it leaves the frame as it is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not wanted:
        frame = frame.f_back
    return frame is not None


def is_in_a_statement() -> bool:
    """Whether another statement is under way further out on the stack of this thread.

    The nearest frames, down to the first that is the application's, are those of the caller.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _module(frame).startswith((_PACKAGE, "django.")):
        frame = frame.f_back
    while frame is not None:
        module = _module(frame)
        if module.partition(".")[0] in _DRIVERS:
            return True
        if module.startswith(_PACKAGE) and frame.f_code.co_name in _SENDING:
            return True
        frame = frame.f_back
    return False


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
