"""TCP keepalive and the limit on unacknowledged data: what a socket has, and what is set.

On Linux TCP_USER_TIMEOUT takes the place of TCP_KEEPCNT: when the keepalive timer runs out after
it, one unanswered probe is enough to end the connection. So the first probe has to be sent early
enough for several of them to fit into that time.
"""

from __future__ import annotations

import _socket
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import lru_cache
from math import ceil, inf
from typing import NamedTuple

from .liveness import identity, milliseconds

__all__ = [
    "LINUX_GIVES_UP",
    "LINUX_PROBES",
    "PathOptions",
    "first_probe",
    "has_option",
    "is_unix_socket",
    "options_of",
    "set_user_timeout",
    "shortened",
    "watch_path",
]

#: The first probe is sent within this share of `network_timeout`. The rest is for further ones.
_MOST_OF_LIMIT = 2 / 3
#: Intervals into which that rest is divided.
_INTERVALS = 6
#: Seconds for the probes where no `network_timeout` bounds them.
_UNBOUNDED = 30

#: Seconds after which Linux, as it is installed, gives up 15 retransmissions of sent data, and
#: sends the first keepalive probe (tcp(7): tcp_retries2, tcp_keepalive_time).
LINUX_GIVES_UP = 924
LINUX_PROBES = 7200

# What Linux takes at most.
_LONGEST = 32767
_MOST_PROBES = 127


#: On Windows the number of a socket is a handle, which os.dup() does not take.
WINDOWS = os.name == "nt"

#: <netinet/tcp.h> of macOS; Python has no name for it.
_TCP_RXT_CONNDROPTIME = 0x80


class PathOptions(NamedTuple):
    """The options of one socket, named as in Linux. None: this system has no such option."""

    SO_KEEPALIVE: int
    TCP_KEEPIDLE: int | None = None  #: seconds without a packet before the first probe
    TCP_KEEPINTVL: int | None = None  #: seconds between two probes
    TCP_KEEPCNT: int | None = None  #: unanswered probes
    TCP_USER_TIMEOUT: int | None = None  #: milliseconds; 0 is no limit


class _Option(NamedTuple):
    """An option as this system has it."""

    level: int
    number: int
    unit: int = 1  #: what one stands for, in the unit of PathOptions


def options_of_system(platform: str, names: object) -> dict[str, _Option]:
    """The options that a system has, by their names on Linux.

    `platform`: as in sys.platform. `names`: the module socket, which has the numbers.
    """
    found = {}
    for name in PathOptions._fields[1:]:
        # macOS calls the first one TCP_KEEPALIVE.
        other = "TCP_KEEPALIVE" if name == "TCP_KEEPIDLE" else name
        number = getattr(names, name, getattr(names, other, None))
        if number is not None:
            found[name] = _Option(socket.IPPROTO_TCP, number)
    if platform == "darwin":
        # Seconds of retransmissions after which it ends the connection; 0 is no limit.
        found["TCP_USER_TIMEOUT"] = _Option(socket.IPPROTO_TCP, _TCP_RXT_CONNDROPTIME, 1000)
    # It comes last because a unix socket has it, too.
    found["SO_KEEPALIVE"] = _Option(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return found


_OPTIONS = options_of_system(sys.platform, socket)


def has_option(name: str) -> bool:
    """Whether this system has the option that Linux calls so."""
    return name in _OPTIONS


def watch_path(
    descriptor: int | None, keepalive: float | None, network_timeout: float | None
) -> Mapping[str, int]:
    """Let the kernel end a connection whose path drops packets. TCP only.

    `keepalive`: seconds without a packet before the first probe. `network_timeout`: seconds that
    sent data, and probes, may stay unanswered. Returns the options that were set.
    """
    if descriptor is None or (keepalive is None and network_timeout is None):
        return {}
    if WINDOWS and _is_hidden():
        return {}
    with closing(_view(descriptor)) as sock, suppress(OSError):
        system = _options_of(sock)
        wanted = shortened(system, keepalive, network_timeout)
        for name, value in wanted.items():
            if value != getattr(system, name):
                level, number, unit = _OPTIONS[name]
                sock.setsockopt(level, number, ceil(value / unit))
        return wanted
    # A unix socket has no such options. Some systems also answer so if the peer has just closed
    # the connection. `manage.py mysql_recycle` shows what the kernel has.
    return {}


def options_of(descriptor: int) -> PathOptions | None:
    """The options of an open TCP socket, as the kernel reports them. None for any other socket."""
    if WINDOWS and _is_hidden():
        return None
    with closing(_view(descriptor)) as sock, suppress(OSError):
        return _options_of(sock)
    return None


def is_unix_socket(descriptor: int | None) -> bool:
    """Whether an open socket is a unix socket, whose other end is on the same machine."""
    if descriptor is None or WINDOWS:  # the drivers know none on Windows
        return False
    with closing(_view(descriptor)) as sock, suppress(OSError):
        return not isinstance(sock.getpeername(), tuple)
    return False


def set_user_timeout(
    descriptor: int | None, known: tuple[int, int] | None, milliseconds: int
) -> None:
    """Change the limit on unacknowledged data, if the descriptor is still the same socket."""
    if descriptor is None or known is None or identity(descriptor) != known:
        return
    # An OSError means that the connection has been reset: there is nothing left to limit.
    with closing(_view(descriptor)) as sock, suppress(OSError):
        level, number, unit = _OPTIONS["TCP_USER_TIMEOUT"]
        sock.setsockopt(level, number, ceil(milliseconds / unit))


@lru_cache(maxsize=32)
def shortened(
    system: PathOptions, keepalive: float | None, network_timeout: float | None
) -> Mapping[str, int]:
    """The options that the settings ask for, none of them longer than what the socket has."""
    wanted: dict[str, int] = {}
    limit = _limit(system, network_timeout)
    if network_timeout is not None:
        has = system.TCP_USER_TIMEOUT or inf
        option = _OPTIONS.get("TCP_USER_TIMEOUT")
        unit = option.unit if option else 1
        wanted["TCP_USER_TIMEOUT"] = ceil(min(milliseconds(limit), has) / unit) * unit
    # If `keepalive` is None, the keepalive of the driver keeps to the limit as well.
    if keepalive is not None or (system.SO_KEEPALIVE and limit < inf):
        first = min(_or_inf(keepalive), _or_inf(system.TCP_KEEPIDLE))
        first = min(first_probe(first, limit)[0], _LONGEST)
        room = max(1, limit - first) if limit < inf else _UNBOUNDED
        interval = min(_or_inf(system.TCP_KEEPINTVL), max(1, room // _INTERVALS), _LONGEST)
        count = min(ceil(room / interval), _MOST_PROBES)
        if system.TCP_KEEPINTVL and system.TCP_KEEPCNT:
            # The system may send few probes with long pauses. It must not give up later than before.
            count = min(count, int(system.TCP_KEEPINTVL * system.TCP_KEEPCNT // interval))
        wanted["TCP_KEEPIDLE"] = first
        wanted["TCP_KEEPINTVL"] = int(interval)
        wanted["TCP_KEEPCNT"] = count
        wanted["SO_KEEPALIVE"] = system.SO_KEEPALIVE or 1
    return {name: value for name, value in wanted.items() if getattr(system, name) is not None}


def first_probe(keepalive: float | None, limit: float) -> tuple[int, bool]:
    """Whole seconds before the first probe, and whether that is what `keepalive` asks for.

    It is sent earlier if otherwise no further probes would fit between it and `limit`.
    """
    seconds = _or_inf(keepalive)
    fits = seconds <= min(limit * _MOST_OF_LIMIT, limit - 2)
    return max(1, ceil(seconds) if fits else int(limit / 3)), fits


def _limit(system: PathOptions, network_timeout: float | None) -> float:
    """Seconds without an answer after which the kernel ends the connection."""
    limit = _or_inf(network_timeout)
    if system.TCP_USER_TIMEOUT:
        return min(limit, system.TCP_USER_TIMEOUT / 1000)
    if limit < inf and system.SO_KEEPALIVE and system.TCP_KEEPIDLE and system.TCP_KEEPINTVL:
        # A longer TCP_USER_TIMEOUT would delay what the keepalive of the system finds.
        probing = system.TCP_KEEPINTVL * (system.TCP_KEEPCNT or 1)
        return min(limit, system.TCP_KEEPIDLE + probing)
    return limit


def _or_inf(seconds: float | None) -> float:
    return inf if seconds is None else seconds


def _options_of(sock: _socket.socket) -> PathOptions:
    return PathOptions(
        **{
            name: sock.getsockopt(level, number) * unit
            for name, (level, number, unit) in _OPTIONS.items()
        }
    )


class _Handle(_socket.socket):
    """A view of a socket of Windows, which has no second number for it."""

    def close(self) -> None:
        self.detach()


def _is_hidden() -> bool:
    """Whether a view of a socket of Windows would make it non-blocking, with no way back."""
    return socket.getdefaulttimeout() is not None


def _view(descriptor: int) -> _socket.socket:
    """The driver's socket as an object whose options can be set. Closing it leaves the socket open.

    The socket must stay blocking, because the driver uses it. gevent's socket class would change
    that, and so does Python's own if socket.setdefaulttimeout() has been called.
    """
    if WINDOWS:
        return _Handle(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, descriptor)
    default = socket.getdefaulttimeout()
    blocking = default is None or os.get_blocking(descriptor)
    # The family that is given here need not be true: Python does not ask the kernel for it, and
    # the kernel refuses TCP options on a unix socket all the same.
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock = _socket.socket(*kind, os.dup(descriptor))
    if default is not None:
        os.set_blocking(descriptor, blocking)
    return sock
