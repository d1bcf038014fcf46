"""The seams in Django; those where transactions begin and end are in transactions.py.

What Django does at each of them, and what changes, is said there; what is decided is in
lifecycle.py, and done in decider.py and recycler.py.
"""

from __future__ import annotations

import sys
from asyncio import _get_running_loop
from time import monotonic
from types import FunctionType
from typing import Any

from django.core import checks
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.asyncio import async_unsafe

from . import events, processes
from .checks import check_settings
from .checks.server import with_server_checks
from .connecting import open_in_time, with_connect_timeout
from .cursors import QuietCursorWrapper, RecyclingCursor, StreamingCursor
from .drivers import Attempt
from .keeper import CLOSED, NO_RECORD, NoAnswer
from .liveness import clock
from .options import NO_MAX_AGE, Options, given_options, max_age_of
from .processes import mark
from .record import ConnectionRecord
from .recycler import Recycler
from .session_state import Kind, SessionState, examine
from .stock import DatabaseWrapper as MySQLDatabaseWrapper
from .stock import driver
from .transactions import TransactionSeams

__all__ = ["DatabaseWrapper", "RecycleMixin"]

unbuffered = driver.unbuffered

_djangos_cursor = MySQLDatabaseWrapper._cursor  # type: ignore[attr-defined]
_djangos_create_cursor = MySQLDatabaseWrapper.create_cursor
#: Django's own, or None where a test runner had put another one in its place by now.
_djangos_ensure_connection = (
    BaseDatabaseWrapper.ensure_connection
    if BaseDatabaseWrapper.ensure_connection.__module__ == BaseDatabaseWrapper.__module__
    else None
)

_MAKES_CURSORS = {"cursor", "_cursor", "create_cursor"}
_ENDS_TRANSACTIONS = {"_set_autocommit", "_commit", "_rollback"}


class RecycleMixin(TransactionSeams):
    """Replaces a stale connection before the next statement runs.

    A mixin over Django's MySQL wrapper or a subclass of it; put it first among the bases.
    """

    validation_class: Any
    close_at: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Django's makes one of it. The wrapper below may have a class of its own.
        self.validation_class = with_server_checks(self.validation_class)
        super().__init__(*args, **kwargs)
        self.recycler = Recycler(self, driver)
        self.max_age = NO_MAX_AGE
        #: The base backend has its own way of making cursors.
        self.foreign_cursors = (
            getattr(super()._cursor, "__func__", None) is not _djangos_cursor
            or getattr(super().create_cursor, "__func__", None) is not _djangos_create_cursor
        )
        #: The base backend has its own way of making sure that there is a connection.
        mro = type(self).__mro__
        between = mro[mro.index(RecycleMixin) + 1 : mro.index(BaseDatabaseWrapper)]
        self.foreign_connecting = any("ensure_connection" in vars(base) for base in between)
        self.foreign_transactions = any(
            not _ENDS_TRANSACTIONS.isdisjoint(vars(base))
            for base in between
            if not base.__module__.startswith((f"{__package__}.", "django."))
        )
        #: A subclass, or the base backend, may set a connection up where it makes cursors.
        self.sets_up_with_cursors = (
            any(
                not _MAKES_CURSORS.isdisjoint(vars(base)) for base in mro[: mro.index(RecycleMixin)]
            )
            or getattr(super()._cursor, "__func__", None) is not _djangos_cursor
        )
        #: Something has been put in the place of Django's ensure_connection(), and runs.
        self.connecting_elsewise = False
        #: The driver's cursors are unbuffered ones, whatever stands around them.
        self.streams = False
        processes.track(self.recycler)

    # ##### Connecting #####

    def get_connection_params(self) -> dict[str, Any]:
        # Django hands all of OPTIONS to the driver.
        given_options(self.alias, self.settings_dict)  # raises before Django's AttributeError
        params: dict[str, Any] = super().get_connection_params()
        params.pop("recycle", None)
        return with_connect_timeout(params)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        # Django connects once. 'Not now' is worth another try within the same time.
        options = Options.of(self.alias, self.settings_dict).within(conn_params)
        command = conn_params.get("init_command")
        turned_on = self.recycler.is_connecting() and self.settings_dict["AUTOCOMMIT"]
        if turned_on and not (command and _may_begin_a_transaction(command)):
            # connect() goes on with set_autocommit(True). The drivers turn autocommit off before
            # that unless they are told, which is a round trip or two for nothing. Only where it
            # was off does turning it on commit what init_command has begun.
            conn_params = {"autocommit": driver.leaves_autocommit, **conn_params}
        theirs = super().get_new_connection
        connection = open_in_time(
            self._open if _only_calls_the_driver(theirs) else lambda given, *_: theirs(given),
            driver,
            self.alias,
            conn_params,
            tries_left=options.connect_retries or 0,
        )
        if not self.recycler.is_connecting():
            driver.finish_opening(connection)
        if turned_on:
            driver.distrust_autocommit(connection)
        record = self._record_of(connection, options)
        if not command:
            record.opened_in = conn_params.get("db") or conn_params.get("database")
        if not _is_surely_a_unix_socket(conn_params):
            record.watch_path()
        return connection

    @async_unsafe
    def _open(self, conn_params: dict[str, Any], deadline: float, attempt: Attempt) -> Any:
        """What Django's get_new_connection() does, within the deadline."""
        return driver.open(conn_params, deadline, attempt)

    def init_connection_state(self) -> None:
        # What Django sends here keeps to connect_timeout. What receivers of connection_created
        # and subclasses send after it is the application's.
        super().init_connection_state()
        self._finish_opening()

    def _finish_opening(self) -> None:
        made = self.recycler.made
        if made is not None:
            driver.finish_opening(made.connection)

    def _record_of(self, connection: Any, options: Options) -> ConnectionRecord:
        connecting = self.recycler.is_connecting()
        limit = self.max_age if connecting else max_age_of(self.alias, self.settings_dict)
        record = ConnectionRecord(driver, connection, options, limit.drawn(options.jitter))
        record.exchange.wrapper = self.recycler._db
        if connecting:  # else it is one of the application's own, beside the one in use
            self.recycler.record = self.recycler.made = record
            # Django's check goes by it. Django itself has computed it from CONN_MAX_AGE alone.
            age = limit.at_boundary
            self.close_at = None if age is None else monotonic() + age
        return record

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
        if _djangos_ensure_connection is None or (
            BaseDatabaseWrapper.ensure_connection is _djangos_ensure_connection
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
        # Django's, whether for the first time or as a replacement. Until it returns no seam
        # decides, repeats or pins: a failure is a connect error. A connection that was opened
        # but could not be set up (isolation level, receivers) is dropped.
        # Before Django adds whatever CONN_MAX_AGE is to a clock and fails with a bare TypeError.
        self.max_age = max_age_of(self.alias, self.settings_dict)
        if not mark[0]:
            processes.look()
        recycler = self.recycler
        nested = recycler.connecting if recycler.is_connecting() else None
        carried = recycler.carried
        shadowed: dict[str, Any] = {}
        recycler.made = None
        forks = recycler.forks
        try:
            recycler.connecting = sys._getframe()
            if carried is not None:
                # connection.queries, assertNumQueries and wrappers see what the application ran,
                # not what a replacement runs. A first connect is logged as in Django. The methods
                # are shadowed rather than overridden: Django calls them for every statement.
                for name in ("make_cursor", "make_debug_cursor"):
                    shadowed[name] = self.__dict__.get(name)
                    self.__dict__[name] = self._make_quiet_cursor
            super().connect()
            self._finish_opening()  # a subclass may have an init_connection_state() of its own
            if not mark[0]:
                processes.look()  # a receiver may have forked
            if recycler.made is None and self.connection is not None:
                # A subclass has a get_new_connection() of its own, which does not call ours.
                options = Options.of(self.alias, self.settings_dict)
                self._record_of(self.connection, options.within(self.settings_dict["OPTIONS"]))
            if (
                recycler.database is not None
                and self.connection is not None
                and recycler.forks == forks
                and not nested
            ):
                recycler.select_database()
            if carried is not None and recycler.forks == forks:
                if self.autocommit != carried.autocommit:
                    made = recycler.made
                    if made is not None and not self.foreign_transactions:
                        made.exchange.under_way = True  # the driver sends it past its query()
                    self.set_autocommit(carried.autocommit)
                    if made is not None:
                        made.exchange.under_way = False
                self.run_on_commit = carried.run_on_commit
                self.run_commit_hooks_on_set_autocommit_on = carried.run_hooks
                recycler.carried = None
        except BaseException:
            if self.connection is not None and not nested:
                if recycler.made is not None:
                    recycler.abandon(recycler.made)
                self.connection = None
            raise
        finally:
            recycler.connecting = nested
            for name, instrumented in shadowed.items():
                self.__dict__.pop(name, None)
                if instrumented is not None:
                    self.__dict__[name] = instrumented
        if self.connection is None:
            # A receiver of connection_created has closed it, or has forked: then this is the
            # child, and the connection is its parent's.
            if recycler.forks != forks:
                self.connect()
            return
        record = recycler.record
        if record.connection is not self.connection:
            record.connection = self.connection  # a subclass has put it into a proxy
            record.exchange.plain = False
        cursor_class = getattr(self.connection, "cursorclass", None)
        self.streams = isinstance(cursor_class, type) and issubclass(cursor_class, unbuffered)
        record.contact = clock()
        record.exchange.connected()
        record.dirty = False
        record.read_only_declared = _declares_read_only(self.settings_dict)
        escapes, ansi = driver.escapes(self.connection), _quotes_names(self.settings_dict)
        if ansi or not escapes:
            record.reads_literals(escapes=escapes, ansi=ansi)
        record.forget_answers()
        recycler.settle()
        if carried is not None and carried.ending is not None and not nested:
            recycler.tell(carried.ending)
            if not mark[0]:
                processes.look()
            if self.connection is None:  # a receiver has closed it, or this is a child of its
                if recycler.forks == forks:
                    carried.ending = None
                    recycler.carried = carried
                self.connect()

    def _make_quiet_cursor(self, cursor: Any) -> QuietCursorWrapper:
        return QuietCursorWrapper(cursor, self)

    # ##### Statements #####

    # What the next two spare is what Django (5.2 to 6.1) does on the way from cursor() to the
    # driver's: twice more it looks for a running event loop, for which cursor() itself has looked.
    # It makes up for what a statement costs here. test_cursors.py notices when Django changes.
    # https://github.com/django/django/blob/6.1/django/db/backends/base/base.py#L294
    # https://github.com/django/django/blob/6.1/django/db/backends/mysql/base.py#L278

    def _cursor(self, name: str | None = None) -> Any:
        # Django sees to the health check and to a connection first. Somebody else's
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
                self.recycler.decide_before_cursor()
            return super()._cursor(name)
        with self.wrap_database_errors:
            return self._prepare_cursor(self.create_cursor(name))

    def create_cursor(self, name: str | None = None) -> Any:
        # Django makes a new one for nearly every statement; some are held across a pause. Its own
        # puts the driver's cursor into a CursorWrapper, and ours is one.
        recycler = self.recycler
        connecting = recycler.connecting and recycler.is_connecting()
        foreign = self.foreign_cursors or connecting
        connection, record = self.connection, recycler.record
        exchange = record.exchange
        if exchange.plain and record.connection is connection and not foreign:
            # What both drivers do in their cursor(), which is left to the application.
            inner = connection.cursorclass(connection)
        else:
            exchange.ours = True
            inner = super().create_cursor(name) if foreign else connection.cursor()
            exchange.ours = False
        if connecting:
            return inner
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
        exchange = self.recycler.record.exchange
        exchange.ours = True
        inner = super().create_cursor(name) if self.foreign_cursors else self.connection.cursor()
        exchange.ours = False
        return inner

    # ##### Django's own checks, closing #####

    def is_usable(self) -> bool:
        # Django's ping waits for ever on a silent path.
        record = self.recycler.current()
        if record is None or record.gone:
            return False
        in_the_middle = record.exchange.under_way and self.recycler.in_the_middle(record)
        if record.unread is not None or in_the_middle:
            return True  # a ping would fail or destroy the rows
        try:
            self.recycler.ask(record, b"DO 0")
        except (NoAnswer, self.Database.Error):
            return not (record.gone or record.wrong_node)
        return True

    def close_if_health_check_failed(self) -> None:
        # Called for every cursor and at both ends of a transaction; Django's condition first.
        if self.connection is None or not self.health_check_enabled or self.health_check_done:
            return
        record = self.recycler.current()
        if record is None or self.in_atomic_block or record.is_executing():
            return
        if record.exchange.under_way and self.recycler.in_the_middle(record):
            return
        if not self.autocommit and (record.dirty or self.settings_dict["AUTOCOMMIT"]):
            return  # inside a transaction, or leaving one
        was = self.recycler.boundary
        try:
            self.recycler.boundary = sys._getframe()
            super().close_if_health_check_failed()
        finally:
            self.recycler.boundary = was

    def close_if_unusable_or_obsolete(self) -> None:
        # The boundary of a unit of work: Django closes what is too old or has met errors. What
        # holds a lock stays open.
        if not mark[0]:
            processes.look()
        recycler = self.recycler
        if recycler.record.exchange.under_way and recycler.in_the_middle(recycler.record):
            return  # a signal handler in the middle of a statement
        was = recycler.boundary
        close_at = self.close_at
        held: tuple[str, ...] = ()
        if close_at is not None and not recycler.record.calm:
            held = recycler.held_past(close_at)
        try:
            recycler.boundary = sys._getframe()
            if held:
                self.close_at = None
            super().close_if_unusable_or_obsolete()
        finally:
            recycler.boundary = was
            if held:
                self.close_at = close_at
        if held and self.connection is not None and (max_age := self.max_age.between_statements):
            age = monotonic() - close_at + max_age
            if recycler.record.kept(age / max_age):
                events.kept(self.alias, age=age, max_age=max_age, state=held)
        if not self.in_atomic_block:
            record = recycler.record
            if record.calm and not recycler.unanswerable:
                record.unit_ended()  # nothing else to end
            else:
                if recycler.is_in_use(record) and record.pins.database_unknown:
                    recycler.ask_database(record)  # it outlives the unit of work
                recycler.unit_of_work_ended()

    def close(self) -> None:
        # Django closes and forgets. Session state that was lost before, or that Django's own
        # check at a boundary ends by closing, makes the next statement raise. CONN_MAX_AGE = 0
        # closes at each boundary by the user's own wish: only a transaction that has written
        # something is reported there, so that its second half is never committed alone.
        processes.look()
        recycler = self.recycler
        recycler.pending()
        record = recycler.record
        at_boundary = recycler.at_boundary()
        outlives = at_boundary and not self.max_age.closes_at_boundary
        # A receiver's close() is another matter.
        if not (recycler.is_telling() or recycler.is_connecting()):
            recycler.unanswerable = {}  # as in Django, a new connection answers for itself
            if not outlives:
                recycler.owed = None
        if record is NO_RECORD or record.connection is not self.connection:
            super().close()
            recycler.carried = None
            if not (at_boundary or recycler.is_connecting()):
                recycler.database = recycler.refused = None
            return
        if at_boundary:
            record.pins.end_unit_of_work()
            if not record.gone:
                recycler.look_for_autocommit(record)
            recycler.confirm_transaction(record)
        if recycler.is_connecting():
            pass  # a receiver's: what is to be selected is to be selected on the next one
        elif outlives or recycler.is_telling():
            if record.pins.database_unknown:
                recycler.ask_database(record)
            recycler.remember_database()
        else:
            recycler.database = recycler.refused = None
        pinned = record.pins.pinned
        if pinned and not record.gone and not record.may_be_unread and record.is_closed():
            record.mark_lost("closed")
        raised = pinned and (outlives or (record.pins.uncommitted if at_boundary else True))
        if pinned and (record.gone or (raised and at_boundary)):
            # First of all: once it is closed, an interruption would keep the loss from being known.
            self.validate_thread_sharing()
            idle = clock() - record.contact
            reason = self._why_closed(record)
            recycler.state_lost(record, idle, raised=raised, reason=reason)
        super().close()
        recycler.carried = None  # closed by the application: the next connection starts as new
        if pinned:
            record.pins = SessionState()
        if self.connection is None:
            record.connection = CLOSED  # and with it goes the last result

    def _why_closed(self, record: ConnectionRecord) -> str:
        """Why Django's check at a boundary has closed a living connection."""
        if record.wrong_node:
            return "wrong node"
        too_old = self.close_at is not None and monotonic() >= self.close_at
        return "max age" if too_old else "closed"

    def _close(self) -> None:
        record = self.recycler.record
        if record is NO_RECORD or record.connection is not self.connection:
            super()._close()
        elif record.gone:
            self.recycler.abandon(record)
        else:
            super()._close()
            record.forget_descriptor()


_ensure_connection = RecycleMixin.ensure_connection


def _is_surely_a_unix_socket(params: dict[str, Any]) -> bool:
    """By the driver's parameters; what an option file says is the driver's secret."""
    named = {"host", "read_default_file", "read_default_group"} & params.keys()
    return "unix_socket" in params and not named


def _only_calls_the_driver(get_new_connection: Any) -> bool:
    """Whether it is Django's own, and nothing stands between it and the driver's connect()."""
    decorated = getattr(get_new_connection, "__func__", None)
    function = getattr(decorated, "__wrapped__", None)
    if type(decorated) is not FunctionType or type(function) is not FunctionType:
        return False
    # By where they were written: a wrapper takes on the name and the module of what it wraps.
    return (
        decorated.__globals__.get("__name__") == async_unsafe.__module__
        and function.__globals__.get("__name__") == MySQLDatabaseWrapper.__module__
        and driver.is_own(function.__globals__["Database"].connect)
    )


def _may_begin_a_transaction(command: Any) -> bool:
    statement = examine(command)
    begins = (change.kind is Kind.TRANSACTION and not change.ends for change in statement.changes)
    return statement.calls or any(begins)


def _declares_read_only(settings: dict[str, Any]) -> bool:
    """Whether each connection begins read-only by the user's own wish (error 1792)."""
    command = (settings.get("OPTIONS") or {}).get("init_command")
    return isinstance(command, (str, bytes)) and examine(command).read_only


def _quotes_names(settings: dict[str, Any]) -> bool:
    """Whether each connection begins with ANSI_QUOTES by the user's own wish."""
    options = settings.get("OPTIONS") or {}
    return "ANSI" in f"{options.get('sql_mode')} {options.get('init_command')}".upper()


class DatabaseWrapper(RecycleMixin, MySQLDatabaseWrapper):
    """Django's MySQL backend with RecycleMixin in front of it."""


checks.register(check_settings)
