"""The socket: clock, closed-check, detaching after a fork. What TCP watches is in network_path.py.

Only looks. It never reads, writes or closes through a driver's descriptor: MSG_PEEK after a
reset would eat the error that the driver should see.
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

# Counts suspended time where the system has such a clock: the server does not stop with the
# laptop or the frozen container.
clock: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)

# Taken at import: eventlet removes it, Windows does not have it. Without it there is no
# liveness check, and a round trip of the backend's own is bounded by the driver alone.
_poll = getattr(select, "poll", None)


def _unpatched_poll() -> Any:
    # gevent's is for waiting: it costs 27 us and lets other greenlets run before the statement.
    patched_by = sys.modules.get("gevent.monkey")
    return (
        _poll if patched_by is None or _poll is None else patched_by.get_original("select", "poll")
    )


_look = _unpatched_poll()
_CLOSED = getattr(select, "POLLIN", 0) | getattr(select, "POLLRDHUP", 0)


def can_look() -> bool:
    """Whether this platform has what the liveness check needs."""
    return _look is not None


def watch(descriptor: int | None) -> Callable[[], object]:
    """A function that is true if the idle connection has been closed. No round trip.

    A healthy idle connection has nothing to read; after a hang-up, whoever caused it, the
    socket is readable or in error, over TCP, TLS and unix sockets alike.
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
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else milliseconds(seconds)))


def hangs_up(descriptor: int | None, seconds: float) -> bool | None:
    """Whether the other end has closed the connection, or does within `seconds`.

    None where that cannot be seen. Only after an answer, when there is nothing left to read.
    """
    if _poll is None or descriptor is None:
        return None
    poll = _poll()
    poll.register(descriptor, _CLOSED)
    return bool(poll.poll(milliseconds(seconds)))


def milliseconds(seconds: float) -> int:
    """What poll() and the kernel are given; at most what they take, 24 days."""
    # Cut off before it is rounded: 1e308 s are infinitely many milliseconds.
    return ceil(min(seconds * 1000, 2**31 - 1))


def identity(descriptor: int | None) -> tuple[int, int] | None:
    """Tells a socket from another one that got the same number after it."""
    if descriptor is None:
        return None
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def detach(descriptor: int | None, known: tuple[int, int] | None) -> None:
    """Point the driver's descriptor at nothing, in this process alone.

    Whatever the driver sends from now on, COM_QUIT included, reaches nobody: not the parent's
    session after a fork, not a server in the middle of a statement. Nothing happens unless the
    descriptor still is the socket it was.
    """
    if descriptor is None or known is None or identity(descriptor) != known:
        return
    null = os.open(os.devnull, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)
