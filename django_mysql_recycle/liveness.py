"""The socket: clock, closed-check, keepalive, network timeout, detaching after a fork.

Only looks. It never reads, writes or closes through a driver's descriptor: MSG_PEEK after a
reset would eat the error that the driver should see.
"""

from __future__ import annotations

import _socket
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from math import ceil
from typing import Any

__all__ = [
    "can_look",
    "clock",
    "detach",
    "hangs_up",
    "identity",
    "milliseconds",
    "path_options",
    "wait_until_readable",
    "watch",
    "watch_path",
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

# None where the system has no such option. macOS calls the first one TCP_KEEPALIVE.
_KEEPIDLE = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
_KEEPINTVL = getattr(socket, "TCP_KEEPINTVL", None)
_KEEPCNT = getattr(socket, "TCP_KEEPCNT", None)
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


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


def watch_path(
    descriptor: int | None, keepalive: float | None, network_timeout: float | None
) -> None:
    """Let the kernel end a connection whose path drops packets in silence. TCP only.

    `keepalive`: seconds of silence before the first probe. `network_timeout`: seconds that
    sent data may stay unacknowledged; probes are spread over the same time.
    """
    if descriptor is None or os.name == "nt":
        return
    # Told what it is, whatever it is, the socket object does not ask the kernel for it.
    sock = _view(descriptor, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        for option, value in _wanted(keepalive, network_timeout):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if keepalive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError:
        # A unix socket, which has no such options, or a peer that has just hung up, which some
        # systems answer so. `manage.py mysql_recycle` compares what was asked for with what is.
        pass
    finally:
        sock.close()


def _view(descriptor: int, family: int = -1, kind: int = -1, protocol: int = -1) -> _socket.socket:
    """The driver's socket as an object with options to set; closing it closes nothing else.

    It stays blocking, for the driver has the same one: gevent's socket class would change that,
    and so does Python's own where socket.setdefaulttimeout() has been called.
    """
    default = socket.getdefaulttimeout()
    blocking = default is None or os.get_blocking(descriptor)
    sock = _socket.socket(family, kind, protocol, os.dup(descriptor))
    if default is not None:
        os.set_blocking(descriptor, blocking)
    return sock


@lru_cache(maxsize=32)
def _wanted(keepalive: float | None, network_timeout: float | None) -> list[tuple[int, int]]:
    wanted: list[tuple[int | None, int]] = []
    if keepalive is not None:
        interval = ceil((network_timeout or 30) / 3)
        # Linux takes 32767 s at most.
        wanted += [(_KEEPIDLE, min(ceil(keepalive), 32767)), (_KEEPINTVL, min(interval, 32767))]
        wanted += [(_KEEPCNT, 3)]
    if network_timeout is not None:
        wanted += [(_USER_TIMEOUT, milliseconds(network_timeout))]
    return [(option, value) for option, value in wanted if option is not None]


def path_options(descriptor: int) -> dict[str, int]:
    """What the kernel says of an open TCP socket; empty for a unix socket."""
    sock = _view(descriptor)
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return {}
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        found = {
            name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in names
            if hasattr(socket, name)
        }
        found["SO_KEEPALIVE"] = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return found
    finally:
        sock.close()
