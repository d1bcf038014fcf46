"""Opening a connection: several tries within the time of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from random import uniform
from time import sleep
from typing import Any

from . import events, network_path, option_files
from .drivers import Attempt, Driver
from .errors import NOT_NOW, code_of
from .liveness import clock
from .options import DEFAULT_CONNECT_TIMEOUT, is_number

__all__ = ["open_in_time", "with_connect_timeout"]


def with_connect_timeout(params: Mapping[str, Any]) -> dict[str, Any]:
    """The driver's parameters with a bound on connecting, if neither they nor a file has one."""
    if params.get("connect_timeout") is None and option_files.connect_timeout(params) is None:
        return {**params, "connect_timeout": DEFAULT_CONNECT_TIMEOUT}
    return dict(params)


def open_in_time(
    open_once: Callable[[dict[str, Any], float, Attempt], Any],
    driver: Driver,
    alias: str,
    given: dict[str, Any],
    *,
    tries_left: int,
) -> Any:
    """Open a connection, again if the server says 'not now'. All tries within connect_timeout.

    `given` are the driver's parameters; `open_once` is called with those of one try, the deadline
    and the try. What the connection is asked next keeps to the deadline as well, until the
    driver's `finish_opening` is called. Raises what the last try raised.
    """
    seconds: Any = given.get("connect_timeout")
    if not is_number(seconds) or seconds <= 0:
        seconds = None  # what it means, or that it means nothing, is for the driver to say
    limit = seconds or option_files.connect_timeout(given) or DEFAULT_CONNECT_TIMEOUT
    deadline = clock() + limit
    # 0 is mysqlclient's word for no limit, which then has none: the tries alone do.
    last = inf if given.get("connect_timeout") == 0 else deadline
    pause = 0.1
    spare = True
    while True:
        remaining = deadline - clock()
        params = dict(given)
        if seconds:
            params["connect_timeout"] = max(1, min(seconds, round(remaining)))
        attempt = driver.attempt(alias, params, max(0.1, remaining), spare=spare)
        try:
            connection = open_once(params, last, attempt)
            driver.hasten(connection, last)
            attempt.succeeded(connection)
        except Exception as error:
            if attempt.is_to_blame(error):
                spare = False
                continue
            wait = pause * uniform(0.5, 1.5)
            # mysqlclient takes whole seconds: a try needs one.
            too_late = clock() + wait + 1 > deadline
            if not tries_left or code_of(error) not in NOT_NOW or too_late:
                raise
            sleep(wait)
            tries_left -= 1
            pause *= 2
        else:
            if attempt.reconnecting:
                events.reconnect_switched_off(alias, attempt.reconnecting)
            if (
                driver.asks_for_tls(given)
                and not driver.is_encrypted(connection)
                and not network_path.is_unix_socket(driver.descriptor(connection))
            ):
                events.not_encrypted(alias)
            return connection
