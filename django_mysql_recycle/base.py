"""Django's methods: connecting, cursors, transactions, closing. Each hands on.

What is done is in connecting.py, guard.py, transactions.py and boundary.py; what is decided is in
policy.py.
"""

from __future__ import annotations

import _thread
from asyncio import _get_running_loop
from functools import partial
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from django.core import checks
from django.db.backends import utils
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.asyncio import async_unsafe

from . import boundary, connecting, opening, pooling, processes, transactions
from .checks import check_settings
from .checks.server import with_server_checks
from .connection import NO_CONNECTION, PhysicalConnection
from .creation import with_closed_pool
from .cursors import (
    DJANGOS_WRAPPER,
    DirectCursorWrapper,
    MarkingCursor,
    RecyclingCursor,
    StreamingCursor,
    UnloggedCursorWrapper,
)
from .drivers import Attempt
from .guard import Guard
from .options import KEYS, Options, given_options, max_age_of
from .originals import REPLACED, djangos_own
from .processes import mark
from .questions import takes_writes
from .session_state import Kind, examine
from .stock import DatabaseWrapper as MySQLDatabaseWrapper
from .stock import driver

if TYPE_CHECKING:
    from .stock import Base
else:
    Base = object

__all__ = ["DatabaseWrapper", "RecycleMixin"]

unbuffered = driver.unbuffered

_djangos_call = djangos_own(BaseDatabaseWrapper.cursor)
_djangos_commit = djangos_own(BaseDatabaseWrapper.commit)
_djangos_prepare = djangos_own(BaseDatabaseWrapper._prepare_cursor)  # type: ignore[attr-defined]
_djangos_make = djangos_own(BaseDatabaseWrapper.make_cursor)
_djangos_getattr = djangos_own(utils.CursorWrapper.__getattr__)
_djangos_cursor = djangos_own(MySQLDatabaseWrapper._cursor)  # type: ignore[attr-defined]
_djangos_create_cursor = djangos_own(MySQLDatabaseWrapper.create_cursor)
_djangos_get_new_connection = djangos_own(MySQLDatabaseWrapper.get_new_connection)
_djangos_get_connection_params = djangos_own(MySQLDatabaseWrapper.get_connection_params)
_djangos_check = djangos_own(BaseDatabaseWrapper.close_if_unusable_or_obsolete)
_djangos_ensure_connection = djangos_own(BaseDatabaseWrapper.ensure_connection)
_djangos_get_autocommit = djangos_own(BaseDatabaseWrapper.get_autocommit)
_djangos_set_autocommit = djangos_own(BaseDatabaseWrapper.set_autocommit)

_MAKES_CURSORS = {"cursor", "_cursor", "create_cursor"}
_CALLED = {"cursor", "commit"}
_AUTOCOMMIT = {"get_autocommit", "set_autocommit"}
_ENDS_TRANSACTIONS = {"_set_autocommit", "_commit", "_rollback"}


class RecycleMixin(Base):
    """Replaces a stale connection before the next statement runs.

    A mixin over Django's MySQL wrapper or a subclass of it; put it first among the bases.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Django's makes one of it. The wrapper below may have a class of its own.
        validation_class: Any = self.validation_class
        self.validation_class = with_server_checks(validation_class)
        creation_class: Any = self.creation_class
        self.creation_class = with_closed_pool(creation_class)
        super().__init__(*args, **kwargs)
        self.guard = Guard(self, driver)
        #: The base backend has its own way of making cursors.
        self.foreign_cursors = (
            getattr(super()._cursor, "__func__", None) is not _djangos_cursor
            or getattr(super().create_cursor, "__func__", None) is not _djangos_create_cursor
        )
        mro = type(self).__mro__
        place = mro.index(RecycleMixin)
        between = mro[place + 1 : mro.index(BaseDatabaseWrapper)]
        #: The base backend has its own way of making sure that there is a connection.
        self.foreign_connecting = any("ensure_connection" in vars(base) for base in between)
        #: The base backend does more where the application makes a cursor or commits.
        self.foreign_calls = any(not _CALLED.isdisjoint(vars(base)) for base in between)
        #: The base backend has its own way of reading or switching autocommit.
        self.foreign_autocommit = hasattr(self, "_start_transaction_under_autocommit") or any(
            not _AUTOCOMMIT.isdisjoint(vars(base)) for base in between
        )
        #: The base backend may run statements of its own where transactions begin and end.
        self.foreign_transactions = any(
            not _ENDS_TRANSACTIONS.isdisjoint(vars(base))
            for base in between
            if not base.__module__.startswith("django.")
        )
        #: A subclass, or the base backend, may set a connection up where it makes cursors.
        self.sets_up_with_cursors = (
            any(not _MAKES_CURSORS.isdisjoint(vars(base)) for base in mro[:place])
            or getattr(super()._cursor, "__func__", None) is not _djangos_cursor
        )
        own = ("connect", "set_autocommit", "close")
        #: No subclass does something of its own where a connection is borrowed or returned.
        self.plain_connecting = all(
            getattr(type(self), name) is getattr(RecycleMixin, name) for name in own
        )
        #: A subclass or the base backend computes the driver's parameters.
        self.foreign_params = (
            type(self).get_connection_params is not RecycleMixin.get_connection_params
            or getattr(super().get_connection_params, "__func__", None)
            is not _djangos_get_connection_params
        )
        #: Something has been put in the place of Django's ensure_connection(), and runs.
        self.connecting_elsewise = False
        #: The driver's cursors are unbuffered ones, whatever stands around them.
        self.streams = False

    # ##### Connecting #####

    def get_connection_params(self) -> dict[str, Any]:
        # Django hands all of OPTIONS to the driver.
        given_options(self.alias, self.settings_dict)  # raises before Django's AttributeError
        params: dict[str, Any] = super().get_connection_params()
        for key in KEYS:
            params.pop(key, None)
        return connecting.with_connect_timeout(params)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        # Django connects once. 'Not now' is worth another try within the same time.
        options = Options.of(self.alias, self.settings_dict).within(conn_params)
        command = conn_params.get("init_command")
        turned_on = self.guard.calls.is_connecting() and self.settings_dict["AUTOCOMMIT"]
        if turned_on and not (command and _may_begin_a_transaction(command)):
            # connect() goes on with set_autocommit(True). Without this parameter the drivers turn
            # autocommit off before that, which is a round trip or two for nothing. Only where it
            # was off does turning it on commit what init_command has begun.
            conn_params = {"autocommit": driver.leaves_autocommit, **conn_params}
        theirs = super().get_new_connection
        connection = opening.open_in_time(
            self._open if _only_calls_the_driver(theirs) else lambda given, *_: theirs(given),
            driver,
            self.alias,
            conn_params,
            retries=None if self.guard.probing else options.connect_retries or 0,
            takes_writes=partial(_takes_writes, options) if options.require_primary else None,
        )
        if not self.guard.calls.is_connecting():
            driver.finish_opening(connection)
        if turned_on:
            driver.distrust_autocommit(connection)
        named = conn_params.get("db") or conn_params.get("database")
        made = self.guard.adopt(connection, options, None if command else named)
        if not _is_surely_a_unix_socket(conn_params):
            made.watch_path()
        return connection

    @async_unsafe
    def _open(self, conn_params: dict[str, Any], deadline: float, attempt: Attempt) -> Any:
        """What Django's get_new_connection() does, within the deadline."""
        return driver.open(conn_params, deadline, attempt)

    def init_connection_state(self) -> None:
        # What Django sends here keeps to connect_timeout. What receivers of connection_created
        # and subclasses send after it is the application's.
        super().init_connection_state()
        self.finish_opening()

    def finish_opening(self) -> None:
        """End the deadline that connecting has put on the new connection."""
        made = self.guard.replacement.made
        if made is not None:
            driver.finish_opening(made.raw)

    def ensure_connection(self) -> None:
        # Django's sees a connection where a child of fork() still has its parent's.
        if not mark[0]:
            processes.look()
        if (
            self.connection is not None
            and _get_running_loop() is None
            and not self.foreign_connecting
            and BaseDatabaseWrapper.ensure_connection is _djangos_ensure_connection
        ):
            return  # Django's does no more than this, and takes two calls and an exception for it
        if self.connection is None and self.closed_in_transaction and not self.atomic_blocks:
            # With autocommit off Atomic.__exit__ (Django 5.2 to 6.1) leaves this flag set at the
            # end of the block in which the connection was closed: nothing could connect again.
            self.in_atomic_block = False
        if (
            _djangos_ensure_connection is REPLACED
            or BaseDatabaseWrapper.ensure_connection is _djangos_ensure_connection
        ):
            super().ensure_connection()
        elif self.connecting_elsewise:
            # What has been put in the place of Django's method calls this one, which it took from
            # the instance before.
            _djangos_ensure_connection(self)
        else:
            try:
                self.connecting_elsewise = True
                super().ensure_connection()
            finally:
                self.connecting_elsewise = False

    def connect(self) -> None:
        # Before Django adds whatever CONN_MAX_AGE is to a clock and fails with a bare TypeError.
        max_age = max_age_of(self.alias, self.settings_dict)
        if max_age.pool is None:
            connecting.connect(self, super().connect, max_age)
        else:
            pooling.connect(self, super().connect, max_age, max_age.pool)
        cursor_class = getattr(self.connection, "cursorclass", None)
        self.streams = isinstance(cursor_class, type) and issubclass(cursor_class, unbuffered)

    def make_unlogged_cursor(self, cursor: Any) -> UnloggedCursorWrapper:
        """In the place of Django's make_cursor() while a connection is replaced."""
        return UnloggedCursorWrapper(cursor, self)

    # ##### Statements #####

    # What the next three spare is what Django (5.2 to 6.1) does on the way from cursor() to the
    # driver's. It looks for a running event loop three times, by an exception that says that there
    # is none, and takes a lock to see whether the thread may use the connection.
    # It makes up for what a statement costs here. test_in_place_of_django.py notices when Django changes.
    # https://github.com/django/django/blob/6.1/django/db/backends/base/base.py#L283
    # https://github.com/django/django/blob/6.1/django/db/backends/mysql/base.py#L278

    def cursor(self) -> Any:
        if (
            _get_running_loop() is None
            and not self.foreign_calls
            and BaseDatabaseWrapper.cursor is _djangos_call
        ):
            return self._cursor()
        return super().cursor()

    def _cursor(self, name: str | None = None) -> Any:
        # Django sees to the health check and to a connection first. Another
        # ensure_connection() does more: pytest-django's keeps tests away from the database.
        if (
            self.connection is None
            or self.health_check_enabled
            or self.foreign_cursors
            or self.foreign_connecting
            or self.sets_up_with_cursors
            or not mark[0]
            or getattr(self.ensure_connection, "__func__", None) is not _ensure_connection
            or BaseDatabaseWrapper.ensure_connection is not _djangos_ensure_connection
        ):
            if self.sets_up_with_cursors:
                self.guard.decide_before_cursor()
            return super()._cursor(name)
        connection = self.guard.connection
        if (
            connection.raw is self.connection
            and connection.exchange.plain
            and connection.raw.cursorclass is driver.cursor
        ):
            # Nothing in it can raise an error of the driver's, which would have to be wrapped.
            cursor = self.create_cursor(name)
            if (
                type(cursor) is RecyclingCursor
                and self._thread_ident == _thread.get_ident()
                and getattr(self._prepare_cursor, "__func__", None) is _djangos_prepare
                and getattr(self.make_cursor, "__func__", None) is _djangos_make
                and utils.CursorWrapper is DJANGOS_WRAPPER
                and DJANGOS_WRAPPER.__getattr__ is _djangos_getattr
                and not self.queries_logged
            ):
                return DirectCursorWrapper(cursor, self)
            return self._prepare_cursor(cursor)
        with self.wrap_database_errors:
            return self._prepare_cursor(self.create_cursor(name))

    def create_cursor(self, name: str | None = None) -> Any:
        # Django makes a new one for nearly every statement; some are held across a pause. Its own
        # puts the driver's cursor into a CursorWrapper, and ours is one.
        guard = self.guard
        connection, raw = guard.connection, self.connection
        if (
            name is None
            and connection.exchange.plain
            and connection.raw is raw
            and raw.cursorclass is driver.cursor
            and guard.calls.connecting is None
            and not (self.foreign_cursors or self.streams)
        ):
            # What both drivers do in their cursor(), which is left to the application.
            return RecyclingCursor(raw.cursorclass(raw), self)
        is_connecting = guard.calls.connecting and guard.calls.is_connecting()
        foreign = self.foreign_cursors or is_connecting
        exchange = connection.exchange
        if exchange.plain and connection.raw is raw and not foreign:
            inner = raw.cursorclass(raw)
        else:
            exchange.ours = True
            inner = super().create_cursor(name) if foreign else raw.cursor()
            exchange.ours = False
        if is_connecting:
            receiving = guard.calls.receiving and guard.calls.is_receiving()
            return MarkingCursor(inner, self) if receiving else inner
        made_by_driver = getattr(inner, "cursor", inner) if foreign else inner
        streams = self.streams or isinstance(made_by_driver, unbuffered)
        cursor = (StreamingCursor if streams else RecyclingCursor)(inner, self)
        if foreign:
            # The base backend has mapped the errors already, or does not want to.
            cursor.codes_for_integrityerror = ()
        if name is not None:
            cursor.name = name
        return cursor

    def create_inner_cursor(self, name: str | None) -> Any:
        """What stands inside a cursor of ours, made anew on a new connection."""
        exchange = self.guard.connection.exchange
        exchange.ours = True
        inner = super().create_cursor(name) if self.foreign_cursors else self.connection.cursor()
        exchange.ours = False
        return inner

    # ##### Transactions #####

    def get_autocommit(self) -> bool:
        # With autocommit off atomic() enters through here and a savepoint.
        calls = self.guard.calls
        if calls.django_check and self.connection is not None and self.autocommit:
            return True  # without Django's look for a running event loop
        if self.foreign_autocommit or (
            MySQLDatabaseWrapper.get_autocommit is not _djangos_get_autocommit
        ):
            super().get_autocommit()
        else:
            self.ensure_connection()  # which is all that Django's does
        if self.autocommit:
            return True
        if not (self.in_atomic_block or calls.in_django_check() or calls.is_connecting()):
            self.guard.current()
            self.guard.decide()
        return self.autocommit

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        # Django opens the connection, logs a BEGIN, sets the flag and runs on_commit hooks.
        was, guard = self.autocommit, self.guard
        try:
            if not autocommit:
                guard.off_for_atomic = force_begin_transaction_with_broken_autocommit
            if (
                guard.calls.connecting
                and guard.calls.is_connecting()
                and (guard.replacement.state is not None or (guard.lease and guard.takes_over))
            ):
                self._set_autocommit(autocommit)  # the log would show it as the application's
                self.autocommit = autocommit
            else:
                if (
                    MySQLDatabaseWrapper.set_autocommit is _djangos_set_autocommit
                    and not self.foreign_autocommit
                    and (autocommit or not self.queries_logged)
                ):
                    # What Django's does, without the context manager that would log it.
                    self.validate_no_atomic_block()
                    self.close_if_health_check_failed()
                    self.ensure_connection()
                    self._set_autocommit(autocommit)
                    self.autocommit = autocommit
                    if autocommit and self.run_commit_hooks_on_set_autocommit_on:
                        self.run_and_clear_commit_hooks()
                        self.run_commit_hooks_on_set_autocommit_on = False
                else:
                    force = force_begin_transaction_with_broken_autocommit
                    super().set_autocommit(autocommit, force)
                if autocommit and guard.lease is not None:
                    guard.left_transaction()
        except BaseException as error:
            transactions.mode_cut_short(self, error, autocommit, was)
            raise

    def _set_autocommit(self, autocommit: bool) -> None:
        if autocommit:
            transactions.leave(self, super()._set_autocommit)
        else:
            transactions.enter(self, super()._set_autocommit)

    def _commit(self) -> None:
        transactions.send_commit(self, super()._commit)

    def _rollback(self) -> None:
        transactions.send_rollback(self, super()._rollback)

    def commit(self) -> None:
        try:
            if not mark[0]:
                processes.look()
            if (
                _get_running_loop() is None
                and not (self.foreign_calls or self.in_atomic_block)
                and BaseDatabaseWrapper.commit is _djangos_commit
                and self._thread_ident == _thread.get_ident()
            ):
                # What Django's does when it has found this out.
                self._commit()
                self.errors_occurred = False
                self.run_commit_hooks_on_set_autocommit_on = True
            else:
                super().commit()
        except BaseException as error:
            transactions.cut_short(self, error)
            raise

    def rollback(self) -> None:
        try:
            if not mark[0]:
                processes.look()
            super().rollback()
        except BaseException as error:
            transactions.cut_short(self, error)
            raise

    def _savepoint_allowed(self) -> bool:
        if not mark[0]:
            processes.look()
        if self.closed_in_transaction and self.guard.connection is NO_CONNECTION:
            # A child of fork() is in a block of its parent. As for every block whose connection
            # was closed in it, Atomic sets no savepoint and ends none.
            return False
        return bool(super()._savepoint_allowed())

    def _savepoint(self, sid: str) -> None:
        # With autocommit off Atomic.__enter__ declares the block open before its savepoint is
        # set (Django 5.2 and 6.1), and would leave it so, with rollback() forbidden in it.
        try:
            super()._savepoint(sid)
        except BaseException:
            if not self.atomic_blocks:
                self.in_atomic_block = False
            raise

    # ##### Django's own checks, closing #####

    def is_usable(self) -> bool:
        return boundary.is_usable(self)

    def close_if_health_check_failed(self) -> None:
        # Called for every cursor and at both ends of a transaction; Django's condition first.
        if self.connection is None or not self.health_check_enabled or self.health_check_done:
            return
        boundary.close_if_health_check_failed(self, super().close_if_health_check_failed)

    def close_if_unusable_or_obsolete(self) -> None:
        guard, djangos = self.guard, super().close_if_unusable_or_obsolete
        if guard.lease is None or not (
            getattr(djangos, "__func__", None) is _djangos_check
            and not guard.held_by_hand
            and pooling.returned(self, guard.lease, super().close)
        ):
            boundary.close_if_unusable_or_obsolete(self, djangos)

    def close(self) -> None:
        lease, djangos = self.guard.lease, super().close
        if lease is None or not pooling.returned(self, lease, djangos):
            boundary.close(self, djangos)

    def _close(self) -> None:
        lease = self.guard.lease
        if lease is not None and pooling.give_back(self, lease):
            return
        try:
            connection = self.guard.connection
            if connection is NO_CONNECTION or connection.raw is not self.connection:
                super()._close()
            elif not connection.usable:
                connection.discard()
            else:
                super()._close()
                connection.discarded()
        finally:
            if lease is not None:
                pooling.end(self, lease)

    def close_pool(self) -> None:
        """Close the connections of this alias's pool that are idle.

        Those in use are closed when they are returned, and threads that wait for one get
        PoolClosed. The next use opens new connections: after a GRANT or SET GLOBAL, for example.
        Does nothing without ``OPTIONS["pool"]``. Raises nothing.
        """
        pooling.close_pool(self.alias)

    def pool_stats(self) -> dict[str, float]:
        """The statistics of this alias's pool in this process, by psycopg_pool's names.

        Times are milliseconds (``..._ms``), all else are counts; see docs/pool.md. Empty without
        ``OPTIONS["pool"]``, and before the first use.
        """
        return pooling.statistics(self.alias)


_ensure_connection = RecycleMixin.ensure_connection


def _takes_writes(options: Options, connection: Any) -> bool:
    """Whether a connection that is being opened leads to a node that takes writes."""
    asked = PhysicalConnection(driver, connection, options)
    return takes_writes(asked) is not False and asked.usable


def _is_surely_a_unix_socket(params: dict[str, Any]) -> bool:
    """By the driver's parameters; what an option file says is the driver's secret."""
    named = {"host", "read_default_file", "read_default_group"} & params.keys()
    return "unix_socket" in params and not named


def _only_calls_the_driver(get_new_connection: Any) -> bool:
    """Whether it is Django's own, and nothing stands between it and the driver's connect()."""
    function = getattr(get_new_connection, "__func__", None)
    if function is not _djangos_get_new_connection:
        return False
    return driver.is_own(unwrap(function).__globals__["Database"].connect)


def _may_begin_a_transaction(command: Any) -> bool:
    statement = examine(command)
    begins = (change.kind is Kind.TRANSACTION and not change.ends for change in statement.changes)
    return statement.calls or any(begins)


class DatabaseWrapper(RecycleMixin, MySQLDatabaseWrapper):
    """Django's MySQL backend with RecycleMixin in front of it."""


checks.register(check_settings)
