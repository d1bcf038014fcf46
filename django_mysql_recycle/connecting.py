"""Django's connect(), whether for the first time or for a replacement."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import events, option_files, processes
from .options import DEFAULT_CONNECT_TIMEOUT, MaxAge
from .session_state import examine

if TYPE_CHECKING:
    from .guard import Guard
    from .replacement import WrapperState
    from .wrapper import Wrapper

__all__ = ["connect", "with_connect_timeout"]


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
    if max_age.pool is None and max_age.at_boundary != 0 and _ends_with_its_request():
        events.never_used_again(wrapper.alias)
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


def _ends_with_its_request() -> bool:
    """Whether this thread or greenlet serves one request or task, and ends with it."""
    asgi = sys.modules.get("asgiref.sync")
    if asgi is not None and asgi.SyncToAsync.thread_sensitive_context.get(None) is not None:
        return True
    gevent = sys.modules.get("gevent.monkey")
    return (
        gevent is not None
        and gevent.is_module_patched("threading")
        and threading.current_thread() is not threading.main_thread()
    )


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
        # Of the pool's connection all else is known.
        guard.connection.exchange.connected()
        guard.losses.watch()
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
