"""Opening one connection: several tries within the time of one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from math import inf
from random import uniform
from time import sleep
from typing import Any

from . import events, failover, network_path, option_files, what_ran
from .drivers import Attempt, Driver
from .errors import BUSY, NOT_NOW, READ_ONLY_MODE, UNKNOWN_HOST, code_of
from .liveness import clock
from .options import DEFAULT_CONNECT_TIMEOUT, is_number, refused_argument

__all__ = ["open_in_time", "time_to_connect"]

#: Seconds. The pauses between tries grow from the first to the longest, and vary at random.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 1.0
#: The pause where the server has no room at the moment, of which there is one.
_PAUSE_BUSY = 0.5
#: What a try needs at least: mysqlclient takes whole seconds.
_LEAST = 1.0
#: The share of the remaining time that a try may take while others are left, so that a host that
#: does not answer leaves time for the one to which its name has moved.
_SHARE = 1 / 3


def time_to_connect(params: Mapping[str, Any]) -> float:
    """The seconds that all tries to connect have together, by the driver's parameters."""
    return _own_timeout(params) or option_files.connect_timeout(params) or DEFAULT_CONNECT_TIMEOUT


def _own_timeout(params: Mapping[str, Any]) -> float | None:
    seconds: Any = params.get("connect_timeout")
    # What another value means, or that it means nothing, is for the driver to say.
    return seconds if is_number(seconds) and seconds > 0 else None


def open_in_time(
    open_once: Callable[[dict[str, Any], float, Attempt], Any],
    driver: Driver,
    alias: str,
    given: dict[str, Any],
    *,
    retries: int | None,
    takes_writes: Callable[[Any], bool] | None = None,
) -> Any:
    """Open a connection, again if the server says 'not now'. All tries within connect_timeout.

    `given` are the driver's parameters; `open_once` is called with those of one try, the deadline
    and the try. What the connection is asked next keeps to the deadline as well, until the
    driver's `finish_opening` is called. Raises what the last try raised, and ImproperlyConfigured
    if the driver does not know an argument that is a misplaced setting. `retries`: how
    many further tries the settings allow; None for a probe, which is one try and says nothing about
    the others. `takes_writes`: asked of each connection, if only a node that takes writes will do.
    """
    seconds = _own_timeout(given)
    deadline = clock() + (seconds or time_to_connect(given))
    # 0 is mysqlclient's word for no limit, which then has none: the tries alone do.
    unlimited = given.get("connect_timeout") == 0
    state = failover.of(alias)
    host = given.get("host")
    tries_left = 0 if retries is None else state.tries(retries)
    pause = _FIRST_PAUSE
    spare = True
    while True:
        begun = clock()
        share = deadline - begun
        if tries_left and share >= 2 * _LEAST:
            share = max(_LEAST, share * _SHARE)
        params = dict(given)
        if seconds:
            params["connect_timeout"] = max(1, min(seconds, round(share)))
        attempt = driver.attempt(alias, params, max(0.1, share), spare=spare)
        try:
            connection = open_once(params, inf if unlimited else begun + share, attempt)
            driver.hasten(connection, inf if unlimited else deadline)
            attempt.succeeded(connection)
            if takes_writes is not None and not takes_writes(connection):
                connection.close()
                raise driver.operational_error(
                    READ_ONLY_MODE,
                    f"the server of {alias!r} is read-only, and 'require_primary' is set",
                )
        except Exception as error:
            if attempt.is_to_blame(error):
                spare = False
                continue
            code = code_of(error)
            remaining = deadline - clock() - _LEAST
            if not _says_not_now(error, code, known=host in state.hosts):
                what_ran.note_not_sent(error)
                explained = isinstance(error, TypeError) and refused_argument(
                    alias, given, error, driver.name
                )
                if explained:
                    raise explained from None
                raise
            if not tries_left or state.down or remaining <= 0:
                if retries is not None:
                    state.gave_up()
                what_ran.note_not_sent(error)
                raise
            if code in BUSY:
                tries_left, wait = 1, _PAUSE_BUSY
            elif clock() - begun >= 0.9 * share:
                tries_left, wait = 1, 0.0  # no answer: the next try has all that is left
            else:
                wait = min(pause * uniform(0.75, 1.25), _LONGEST_PAUSE)
                pause = min(2 * pause, _LONGEST_PAUSE)
            sleep(min(wait, remaining))
            tries_left -= 1
        else:
            state.connected(host)
            if attempt.reconnecting:
                events.reconnect_switched_off(alias, attempt.reconnecting)
            if (
                driver.asks_for_tls(given)
                and not driver.is_encrypted(connection)
                and not network_path.is_unix_socket(driver.descriptor(connection))
            ):
                events.not_encrypted(alias)
            return connection


def _says_not_now(error: BaseException, code: int | None, *, known: bool) -> bool:
    """Whether the same may succeed in a moment. `known`: the host's name has been resolved before."""
    original = getattr(error, "original_exception", None)  # of PyMySQL's 2003
    if code == UNKNOWN_HOST or isinstance(original, socket.gaierror):
        return known
    return code in NOT_NOW or code == READ_ONLY_MODE
