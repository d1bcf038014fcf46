"""The socket: clock, closed-check, keepalive, network timeout, detaching after a fork.

Only looks. It never reads, writes or closes through a driver's descriptor: MSG_PEEK after a
reset would eat the error that the driver should see.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from math import ceil

__all__ = [
    "clock",
    "detach",
    "identity",
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
_CLOSED = getattr(select, "POLLIN", 0) | getattr(select, "POLLRDHUP", 0)


def watch(descriptor: int | None) -> Callable[[], object]:
    """A function that is true if the idle connection has been closed. No round trip.

    A healthy idle connection has nothing to read; after a hang-up, whoever caused it, the
    socket is readable or in error, over TCP, TLS and unix sockets alike.
    """
    if _poll is None or descriptor is None:
        return _never
    poll = _poll()
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
    return bool(poll.poll(None if seconds is None else ceil(seconds * 1000)))


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
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        if keepalive is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            interval = ceil((network_timeout or 30) / 3)
            # macOS calls the first one TCP_KEEPALIVE. Linux takes 32767 s at most.
            _set(sock, ("TCP_KEEPIDLE", "TCP_KEEPALIVE"), min(ceil(keepalive), 32767))
            _set(sock, ("TCP_KEEPINTVL",), min(interval, 32767))
            _set(sock, ("TCP_KEEPCNT",), 3)
        if network_timeout is not None:
            _set(sock, ("TCP_USER_TIMEOUT",), min(ceil(network_timeout * 1000), 2**31 - 1))


def path_options(descriptor: int) -> dict[str, int]:
    """What the kernel says of an open TCP socket; empty for a unix socket."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
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


def _set(sock: socket.socket, names: tuple[str, ...], value: int) -> None:
    for name in names:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            return
