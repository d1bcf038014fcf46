"""The connection pool's seam in the backend: borrowing in connect(), returning in close().

pool.py keeps the account, pooled.py says what makes a connection fit for the next borrower.
"""

from __future__ import annotations

import atexit
import sys
from _thread import get_ident
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from operator import itemgetter
from sys import getrefcount
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from . import connecting, failover, processes
from .calls import runs
from .connection import NO_CONNECTION
from .errors import NoAnswer, PoolClosed, PoolTimeout, TooManyRequests
from .liveness import clock
from .losses import Ending
from .options import MaxAge, PoolOptions
from .originals import djangos_own
from .pool import Account, Lease, Refusal, Refused
from .pooled import PooledConnection

if TYPE_CHECKING:
    from .wrapper import Wrapper

__all__ = [
    "all_statistics",
    "called_in",
    "close_pool",
    "connect",
    "end",
    "give_back",
    "returned",
    "statistics",
    "suspect",
]

#: Django's connections for CREATE DATABASE, which have no database and are not kept.
_NO_DB_ALIAS = "__no_db__"

_djangos_connect = djangos_own(BaseDatabaseWrapper.connect)

_djangos_close = djangos_own(BaseDatabaseWrapper.close)

_names_of = itemgetter("HOST", "PORT", "USER", "NAME", "AUTOCOMMIT")

#: Whether sys.getrefcount() shows how many references there are.
_counts_references = getattr(sys, "_is_gil_enabled", lambda: True)() and (
    sys.implementation.name == "cpython"
)

_numbers = count()
#: Of parameters that are other ones at each connect so many are remembered.
_MOST_KEYS = 64

_Params = dict[str, Any]

#: What Django caches of the server on the wrapper, and what its get_connection_params() leaves.
_FACTS = ("isolation_level", "mysql_server_data")


class _Pools:
    """The accounts of this process, by alias."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        #: What connections are opened with: OPTIONS as they were, and without their passwords, and
        #: the keys of the lists in the accounts.
        self.keys: dict[tuple[object, ...], list[tuple[_Params, _Params, object]]] = {}
        self.facts: dict[object, dict[str, Any]] = {}

    def after_fork_in_child(self) -> None:
        """The connections are the parent's, and are not closed here."""
        for account in list(self.accounts.values()):
            kept = [connection for each in list(account.idle.values()) for connection in each]
            # What another thread was just borrowing or closing. A connection in use is its guard's.
            for lease in list(account.leases):
                kept += [lease.connection, *lease.unwanted]
            for connection in kept:
                if isinstance(connection, PooledConnection):
                    connection.discard_inherited()
                    processes.leave(connection.raw)
        self.accounts = {}


_pools = _Pools()
processes.track(_pools)


# ##### Borrowing #####


def connect(
    wrapper: Wrapper, djangos: Callable[[], None], max_age: MaxAge, options: PoolOptions
) -> None:
    """Django's connect(), for which the pool may have a connection.

    Raises PoolTimeout, TooManyRequests and PoolClosed, and what connecting raises.
    """
    guard = wrapper.guard
    if wrapper.alias == _NO_DB_ALIAS:
        connecting.connect(wrapper, djangos, max_age)
        return
    frame = sys._getframe()
    lease = guard.lease
    if lease is not None and not lease.keeps_slot(frame):  # for a replacement
        lease = None
    try:
        if lease is None:
            account = _account_of(wrapper.alias, options)
            lease = Lease(account, _key_of(wrapper), frame)
            former, guard.lease = guard.lease, lease
            if former is not None:
                _finish(former.account, former.account.give_back(former))
            _borrow(wrapper, account, lease)
            _finish(account, lease.unwanted)
        if (
            lease.connection is not None
            and wrapper.plain_connecting
            and getattr(djangos, "__func__", None) is _djangos_connect
            and guard.replacement.state is None
            and guard.replacement.database is None
            and not _has_receivers(wrapper)
        ):
            _take_over_in_place(wrapper, lease, max_age)
        else:
            _connect(wrapper, partial(connecting.connect, wrapper, djangos, max_age), lease, frame)
            guard.replacement.made = None
    except BaseException:
        if guard.lease is not None:
            lease, guard.lease = guard.lease, None
            _close_what_was_opened(wrapper, lease)
            _finish(lease.account, lease.account.give_back(lease))
        raise
    finally:
        if lease is not None:
            lease.call = None
        del frame  # one that refers to itself keeps all that called it alive
    guard.rest()


def _close_what_was_opened(wrapper: Wrapper, lease: Lease) -> None:
    """Connecting was interrupted: a connection without a slot must not stay open."""
    connection: PooledConnection | None = lease.in_use()
    if connection is None:
        return
    if connection.raw is wrapper.connection:
        wrapper.connection = None
    connection.close()


def _borrow(wrapper: Wrapper, account: Account, lease: Lease) -> None:
    try:
        account.borrow(lease)
    except Refused as refused:
        raise _as_error(wrapper.alias, account, *refused.args) from None
    connection: PooledConnection | None = lease.connection
    if connection is not None and lease.called_in:
        # It was called in: what its former holder still has is as a closed connection from here on.
        if connection.is_clean():
            lease.connection = connection.handed_on()
            lease.connection.was_called_in = True
        else:
            lease.connection = None
            connection.close()
    if lease.connection is not None and _has_receivers(wrapper):
        # A receiver may run a statement before anything else is decided.
        _judge(lease)


def _has_receivers(wrapper: Wrapper) -> bool:
    # Most projects have none, and the second question takes a microsecond.
    return bool(connection_created.receivers) and connection_created.has_listeners(type(wrapper))


def _judge(lease: Lease) -> None:
    """Close the idle connection that was borrowed, unless it is known to be alive."""
    connection: PooledConnection = lease.connection
    now = clock()
    if connection.needs_no_decision(now):
        return
    limit = connection.idle_limit
    stale = now >= connection.expires_at or connection.peer_closed()
    if not stale and (limit is None or now - connection.last_activity < limit):
        try:
            connection.ask(b"DO 0")
        except (NoAnswer, connection.driver.error):
            pass
        else:
            return
    lease.connection = None
    connection.close()
    lease.account.counts["connections_lost"] += 1


def _connect(
    wrapper: Wrapper, connects: Callable[[], None], lease: Lease, frame: FrameType
) -> None:
    """Django's connect(), with the methods that it calls put in order for this borrower.

    They are shadowed rather than overridden, for subclasses override them as well.
    """
    guard = wrapper.guard
    idle: PooledConnection | None = lease.connection
    set_up = wrapper.init_connection_state
    began = clock()

    def init_connection_state() -> None:
        if idle is None:
            set_up()
            if guard.replacement.made is None:
                guard.adopt(wrapper.connection, guard.options())
            guard.connection.opened()
        # From here on receivers of connection_created run, whose state is not a new connection's.
        guard.calls.receiving = frame

    shadows: dict[str, Callable[..., Any]] = {"init_connection_state": init_connection_state}
    if idle is not None:
        wrapper.__dict__.update(_pools.facts.get(lease.key, {}))
        shadows["get_connection_params"] = dict
        shadows["get_new_connection"] = lambda _: _take_over(wrapper, lease, idle)
    try:
        for name, instead in shadows.items():
            wrapper.__dict__[name] = _while_it_runs(wrapper, name, frame, instead)
        connects()
    except BaseException:
        if idle is None:
            lease.account.counts["connections_errors"] += 1
        raise
    finally:
        guard.calls.receiving = None
        for name in shadows:
            wrapper.__dict__.pop(name, None)
    if idle is None:
        lease.account.counts["connections_num"] += 1
        lease.account.counts["connections_ms"] += 1000 * (clock() - began)


def _while_it_runs(
    wrapper: Wrapper, name: str, frame: FrameType, instead: Callable[..., Any]
) -> Callable[..., Any]:
    """A shadow of a method that does nothing once `frame` has ended, however it did."""

    def call(*args: Any) -> Any:
        if runs(frame):
            return instead(*args)
        wrapper.__dict__.pop(name, None)
        return getattr(wrapper, name)(*args)

    return call


def _take_over_in_place(wrapper: Wrapper, lease: Lease, max_age: MaxAge) -> None:
    """What Django's connect() does where the connection is set up and no receiver waits for it.

    test_djangos_source.py notices when Django changes it.
    https://github.com/django/django/blob/6.1/django/db/backends/base/base.py#L236
    """
    guard, settings = wrapper.guard, wrapper.settings_dict
    wrapper.in_atomic_block = wrapper.needs_rollback = False
    wrapper.savepoint_ids, wrapper.atomic_blocks = [], []
    wrapper.closed_in_transaction = wrapper.errors_occurred = False
    wrapper.health_check_enabled = settings["CONN_HEALTH_CHECKS"]
    wrapper.health_check_done = True
    wrapper.autocommit = settings["AUTOCOMMIT"]
    wrapper.run_commit_hooks_on_set_autocommit_on = False
    wrapper.run_on_commit = []
    facts = _pools.facts.get(lease.key)
    if facts is not None:
        wrapper.__dict__.update(facts)
    guard.max_age = max_age
    wrapper.connection = _take_over(wrapper, lease, lease.connection)
    guard.replacement.made = None
    guard.losses.watch()


def _take_over(wrapper: Wrapper, lease: Lease, connection: PooledConnection) -> Any:
    guard = wrapper.guard
    connection.lent_to(lease, guard.wrapper)
    guard.connection = guard.replacement.made = connection
    lease.use(connection)
    wrapper.close_at = 0.0  # the end of the request returns it, whatever its age
    return connection.raw


def _account_of(alias: str, options: PoolOptions) -> Account:
    account = _pools.accounts.get(alias)
    if account is None:
        account = _pools.accounts.setdefault(alias, Account(options, clock))
    account.limits = options
    return account


def _key_of(wrapper: Wrapper) -> object:
    """The list that a connection belongs to: what it is opened with, without the password."""
    settings: Mapping[str, Any] = wrapper.settings_dict
    options = settings["OPTIONS"]
    if wrapper.foreign_params:
        options = wrapper.get_connection_params()
    names = _names_of(settings)
    known = _pools.keys.setdefault(names, [])
    for given, _, key in known:
        if given == options:
            return key
    # Settings in a dict of their own may be changed in place.
    given = {k: dict(v) if isinstance(v, dict) else v for k, v in options.items()}
    kept = {k: v for k, v in given.items() if k not in ("passwd", "password")}
    for index, (_, other, key) in enumerate(known):
        if other == kept:  # the password is another one
            known[index] = (given, kept, key)
            return key
    key = (names, next(_numbers))
    known.append((given, kept, key))
    del known[:-_MOST_KEYS]
    return key


def _as_error(alias: str, account: Account, refusal: Refusal, holder: Lease | None) -> Exception:
    waiting, limits = len(account.queue), account.limits
    facts = f"{len(account.leases)} of {limits.max_size} are in use, and {waiting} wait"
    if holder is not None:
        now = clock()
        connection = holder.in_use()
        idle = "" if connection is None else f", idle {now - connection.last_activity:.1f} s"
        facts += (
            f". The longest in use is held by thread {holder.thread.name!r} "
            f"for {now - holder.since:.1f} s{idle}"
        )
    if refusal is Refusal.CLOSED:
        return PoolClosed(f"the pool of {alias!r} was closed while this thread waited")
    if refusal is Refusal.TOO_MANY:
        return TooManyRequests(
            f"no connection of {alias!r} is free, and OPTIONS['pool']['max_waiting'] "
            f"({limits.max_waiting}) allows no further thread to wait: {facts}"
        )
    if refusal is Refusal.NESTED:
        return PoolTimeout(
            f"a signal handler asks for a connection of {alias!r} while its thread is in the code "
            f"of the pool, where it cannot wait, and none is free: {facts}"
        )
    if refusal is Refusal.OWN:
        return PoolTimeout(
            f"this thread asks for another connection of {alias!r} and holds all of them itself: "
            f"{facts}"
        )
    return PoolTimeout(
        f"no connection of {alias!r} was free within OPTIONS['pool']['timeout'] "
        f"({limits.timeout:g} s): {facts}"
    )


# ##### Returning #####


def returned(wrapper: Wrapper, lease: Lease, djangos: Callable[[], None]) -> bool:
    """Do what Django's close() does where there is nothing but a connection to be returned.

    False: nothing was done.
    """
    guard = wrapper.guard
    connection, losses, replacement = guard.connection, guard.losses, guard.replacement
    if (
        not (connection.ready and isinstance(connection, PooledConnection))
        or connection.raw is not wrapper.connection
        or getattr(djangos, "__func__", None) is not _djangos_close
        or not wrapper.plain_connecting
        or not processes.mark[0]
        or wrapper.in_atomic_block
        or wrapper.closed_in_transaction
        or wrapper.errors_occurred
        or wrapper._thread_sharing_count
        or wrapper._thread_ident != get_ident()
        or guard.calls.connecting is not None
        or guard.calls.notifying is not None
        or connection.watched
        or replacement.state is not None
        or replacement.database is not None
        or not (wrapper.autocommit and wrapper.settings_dict["AUTOCOMMIT"])
        or not lease.claim()
        or not connection.is_clean()
    ):
        return False
    losses.unanswerable = {}
    wrapper.run_on_commit = []
    _remember_facts(wrapper, lease)
    del connection
    _hand_on(wrapper, lease)
    return True


def give_back(wrapper: Wrapper, lease: Lease) -> bool:
    """Return the connection to the pool. False: it is to be closed, and then `end` is called."""
    connection = wrapper.guard.connection
    if not lease.claim():
        wrapper.connection = None  # another borrower has it
        end(wrapper, lease)
        return True
    if not (
        isinstance(connection, PooledConnection)
        and connection.raw is wrapper.connection
        and not wrapper.in_atomic_block
        and not wrapper.errors_occurred
        and _roll_back(wrapper, connection)
        and connection.is_clean()
    ):
        return False
    _remember_facts(wrapper, lease)
    del connection
    _hand_on(wrapper, lease)
    return True


def _hand_on(wrapper: Wrapper, lease: Lease) -> None:
    """Return the connection in use. No caller may have it in a variable."""
    guard = wrapper.guard
    lease.returns(sys._getframe())
    if _counts_references and getrefcount(guard.connection) == 2:
        # The guard's reference and the argument: no cursor or generator of this borrower is left
        # that could reach it, so that the next one can have this very object.
        fit = cast("PooledConnection", guard.connection)
        fit.begin_lease()
    else:
        fit = cast("PooledConnection", guard.connection).handed_on()
        guard.connection.forget_raw()
    guard.connection = NO_CONNECTION
    wrapper.connection = None
    end(wrapper, lease, fit)


def end(wrapper: Wrapper, lease: Lease, fit: PooledConnection | None = None) -> None:
    """End a lease. `fit` is the connection, if another borrower may use it."""
    wrapper.guard.lease = None
    _finish(lease.account, lease.account.give_back(lease, fit))


def _roll_back(wrapper: Wrapper, connection: PooledConnection) -> bool:
    """With AUTOCOMMIT = False, end the transaction. Whether the connection can still be used."""
    if wrapper.settings_dict["AUTOCOMMIT"]:
        return True
    try:
        connection.ask(b"ROLLBACK")
    except (NoAnswer, connection.driver.error):
        return False
    connection.transaction_ended()
    return True


def _remember_facts(wrapper: Wrapper, lease: Lease) -> None:
    known = _pools.facts.setdefault(lease.key, {})
    if len(known) < len(_FACTS):
        known.update((name, vars(wrapper)[name]) for name in _FACTS if name in vars(wrapper))


def called_in(wrapper: Wrapper) -> None:
    """Another borrower has taken the connection while its holder rested: forget it here."""
    guard = wrapper.guard
    lease, connection = guard.lease, guard.connection
    guard.losses.connection_replaced(connection, Ending.of(connection, "called in", signal=False))
    if guard.is_in_use(guard.connection):
        wrapper.connection = None
    guard.connection = NO_CONNECTION
    if lease is not None:
        end(wrapper, lease)


def _finish(account: Account, connections: list[PooledConnection]) -> None:
    """Close what the account has no use for."""
    while connections:
        connection = connections[-1]
        try:
            connection.close()
        finally:
            connections.pop()
            account.closed(connection)


# ##### The pool as a whole #####


def close_pool(alias: str) -> None:
    """Close the idle connections; those in use are closed when they are returned."""
    account = _pools.accounts.get(alias)
    if account is not None:
        _finish(account, account.clear())


def suspect(alias: str) -> None:
    """Close the idle connections: they may lead to a node that refuses to write."""
    account = _pools.accounts.get(alias)
    if account is not None:
        _finish(account, account.suspect(failover.suspect_since(alias)))


def statistics(alias: str) -> dict[str, float]:
    """The statistics of the pool of an alias; empty where none was used in this process."""
    account = _pools.accounts.get(alias)
    return {} if account is None else account.statistics()


def all_statistics() -> dict[str, dict[str, float]]:
    """The statistics of every pool that was used in this process, by alias."""
    return {alias: account.statistics() for alias, account in list(_pools.accounts.items())}


def _close_all() -> None:
    processes.look()
    for alias in list(_pools.accounts):
        close_pool(alias)


atexit.register(_close_all)
