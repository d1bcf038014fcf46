"""Opening a connection: Django's connect(), and several tries within the time of one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from math import inf
from random import uniform
from time import sleep
from typing import TYPE_CHECKING, Any

from . import events, network_path, option_files, processes, what_ran
from .drivers import Attempt, Driver
from .errors import NOT_NOW, code_of
from .liveness import clock
from .options import DEFAULT_CONNECT_TIMEOUT, MaxAge, is_number
from .session_state import examine

if TYPE_CHECKING:
    from .guard import Guard
    from .replacement import WrapperState
    from .wrapper import Wrapper

__all__ = ["connect", "open_in_time", "with_connect_timeout"]


def connect(wrapper: Wrapper, djangos: Callable[[], None], max_age: MaxAge) -> None:
    """Django's connect(), whether for the first time or for a replacement.

    Until it returns nothing is decided, repeated or pinned: a failure is a connect error. A
    connection that was opened but could not be set up (isolation level, receivers) is dropped.
    """
    if not processes.mark[0]:
        processes.look()
    guard = wrapper.guard
    calls, replacement = guard.calls, guard.replacement
    guard.max_age = max_age
    outer = calls.connecting if calls.is_connecting() else None
    state = replacement.state
    replacement.made = None
    forks = replacement.forks
    try:
        calls.connecting = sys._getframe()
        if state is None:
            djangos()
        else:
            _unlogged(wrapper, djangos)
        if hasattr(wrapper.connection, "finish"):
            wrapper.finish_opening()  # a subclass has an init_connection_state() of its own
        if not processes.mark[0]:
            processes.look()  # a receiver may have forked
        if replacement.forks == forks:
            _carry_over(wrapper, guard, state, nested=outer is not None)
        if wrapper.connection is not None:
            _connected(wrapper, guard)
    except BaseException:
        if wrapper.connection is not None and outer is None:
            made = guard.replacement.made
            if made is not None:
                made.discard()
            wrapper.connection = None
        raise
    finally:
        calls.connecting = outer
    if wrapper.connection is None:
        # A receiver of connection_created has closed it, or has forked: then this is the
        # child, and the connection is its parent's.
        if replacement.forks != forks:
            wrapper.connect()
        return
    # Not before: if connecting fails after all, the next try needs them again.
    replacement.state = None
    if outer is None:
        replacement.database = None
    if state is not None and state.ending is not None and outer is None:
        replacement.notify(state.ending)
        if not processes.mark[0]:
            processes.look()
        if wrapper.connection is None:  # a receiver has closed it, or this is a child of its
            if replacement.forks == forks:
                state.ending = None
                replacement.state = state
            wrapper.connect()


def _unlogged(wrapper: Wrapper, djangos: Callable[[], None]) -> None:
    """connection.queries, assertNumQueries and wrappers see what the application ran.

    A first connect is logged as in Django, a replacement is not. The methods are shadowed rather
    than overridden: Django calls them for every statement.
    """
    shadowed: dict[str, Any] = {}
    try:
        for name in ("make_cursor", "make_debug_cursor"):
            shadowed[name] = wrapper.__dict__.get(name)
            wrapper.__dict__[name] = wrapper.make_unlogged_cursor
        djangos()
    finally:
        for name, instrumented in shadowed.items():
            wrapper.__dict__.pop(name, None)
            if instrumented is not None:
                wrapper.__dict__[name] = instrumented


def _carry_over(
    wrapper: Wrapper, guard: Guard, state: WrapperState | None, *, nested: bool
) -> None:
    """Give the new connection what the wrapper had before."""
    replacement = guard.replacement
    if wrapper.connection is not None:
        if replacement.made is None:
            # A subclass has a get_new_connection() of its own, which does not call the backend's.
            guard.adopt(wrapper.connection, guard.options())
        if replacement.database is not None and not nested:
            guard.losses.refused = replacement.select_database(guard.connection)
    if state is not None:
        replacement.restore(state)


def _connected(wrapper: Wrapper, guard: Guard) -> None:
    if guard.lease is not None and guard.takes_over:
        guard.losses.watch()  # of the pool's connection all else is known
        return
    options = wrapper.settings_dict.get("OPTIONS") or {}
    command = options.get("init_command")
    guard.connection.connected(
        wrapper.connection,
        # Each connection begins read-only by the user's own wish (error 1792).
        read_only=isinstance(command, (str, bytes)) and examine(command).read_only,
        # Each connection begins with ANSI_QUOTES by the user's own wish.
        ansi="ANSI" in f"{options.get('sql_mode')} {command}".upper(),
    )
    guard.losses.watch()


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
                what_ran.note_not_sent(error)
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
