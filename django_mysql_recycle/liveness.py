"""The clock, the liveness check of a socket, and detaching it after a fork.

This module only looks at a driver's socket. It never reads, writes or closes through it: even
MSG_PEEK would take away the error of a reset, which the driver has to see. The options of TCP are
in network_path.py.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

__all__ = [
    "can_look",
    "clock",
    "detach",
    "hangs_up",
    "identity",
    "milliseconds",
    "wait_until_readable",
    "watch",
]

# A clock that also counts suspended time, if the system has one: the server does not stop while
# a laptop sleeps or a container is frozen.
clock: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


class Select:
    """What is used of poll(), made of select(), for a system that has no poll(): Windows."""

    def __init__(self, function: Callable[..., Any] = select.select) -> None:
        self._select = function
        self._descriptor = -1

    def register(self, descriptor: int, _events: int) -> None:
        self._descriptor = descriptor

    def poll(self, milliseconds: int | None = None) -> list[int]:
        """Wait until the socket is readable or in error. Empty if it is not."""
        watched = [self._descriptor]
        seconds = None if milliseconds is None else milliseconds / 1000
        try:
            readable, _, in_error = self._select(watched, [], watched, seconds)
        except OSError:
            return watched  # poll() reports a socket that is not open as well
        except ValueError:
            return []  # other systems than Windows refuse a high descriptor: nothing is known
        return [*readable, *in_error]


def _waiting() -> Any:
    # Taken at import, because eventlet removes poll() later. If it has done so already, its
    # select() would let other code run before the statement.
    if hasattr(select, "poll") or "eventlet" in sys.modules:
        return getattr(select, "poll", None)
    return Select


def _looking() -> Any:
    # gevent's poll() takes 27 us and lets other greenlets run before the statement.
    patched_by = sys.modules.get("gevent.monkey")
    if patched_by is None or _poll is None:
        return _poll
    if _poll is Select:
        return partial(Select, patched_by.get_original("select", "select"))
    return patched_by.get_original("select", "poll")


# None under eventlet: then there is no liveness check, and only the driver limits the round trips
# of the backend.
_poll = _waiting()
_look = _looking()
_READABLE = getattr(select, "POLLIN", 0)
_CLOSED = _READABLE | getattr(select, "POLLRDHUP", 0)


def can_look() -> bool:
    """Whether this platform has what the liveness check needs."""
    return _look is not None


def watch(descriptor: int | None) -> Callable[[], object]:
    """A function that returns a true value if the idle connection has been closed. No round trip.

    A healthy idle connection has nothing to read. Once the other end has closed it, the socket is
    readable or in error, over TCP, TLS and unix sockets alike.
    """
    if _look is None or descriptor is None:
        return _never
    poll = _look()
    poll.register(descriptor, _CLOSED)
    return partial(poll.poll, 0)


def _never() -> bool:
    return False


def wait_until_readable(descriptor: int | None, seconds: float | None) -> bool:
    """Whether there is something to read within `seconds` (None: however long it takes)."""
    if _poll is None or descriptor is None:
        return True
    poll = _poll()
    poll.register(descriptor, _READABLE)
    return bool(poll.poll(None if seconds is None else milliseconds(seconds)))


def hangs_up(descriptor: int | None, seconds: float) -> bool | None:
    """Whether the other end has closed the connection, or closes it within `seconds`.

    None if the system cannot show it. Call it only when there is nothing left to read.
    """
    if _poll is None or descriptor is None:
        return None
    poll = _poll()
    poll.register(descriptor, _CLOSED)
    return bool(poll.poll(milliseconds(seconds)))


def milliseconds(seconds: float) -> int:
    """Seconds as poll() and the kernel take them: whole milliseconds, 24 days at most."""
    # The limit comes before the rounding, because 1e308 s are infinitely many milliseconds.
    return ceil(min(seconds * 1000, 2**31 - 1))


def identity(descriptor: int | None) -> tuple[int, int] | None:
    """Distinguishes a socket from a later one with the same descriptor."""
    if descriptor is None:
        return None
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def detach(descriptor: int | None, known: tuple[int, int] | None) -> None:
    """Make the driver's descriptor point at /dev/null, in this process only.

    Nothing that the driver sends from now on, COM_QUIT included, reaches the server: neither the
    session of the parent after a fork nor a server in the middle of a statement. Does nothing if
    the descriptor is no longer the same socket.
    """
    if descriptor is None or known is None or identity(descriptor) != known:
        return
    null = os.open(os.devnull, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)
