"""The seams in Django.

What Django does at each of them, and what changes, is said there; what is decided is in
lifecycle.py, and done in recycler.py.
"""

from __future__ import annotations

from random import random
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db.utils import Error, InterfaceError, OperationalError

from . import liveness, processes
from .checks import check_settings
from .connecting import open_in_time
from .cursors import QuietCursorWrapper, RecyclingCursor, StreamingCursor
from .drivers import choose, versions
from .keeper import CLOSED, NO_RECORD, NoAnswer
from .liveness import clock
from .option_files import sets_connect_timeout
from .options import DEFAULT_CONNECT_TIMEOUT, Options, max_age_of
from .record import ConnectionRecord
from .recycler import Recycler, interrupted
from .session_state import SessionState, examine
from .validation import with_server_checks

driver = choose()  # before the next import, which binds it by name

try:
    from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper
except ImproperlyConfigured as error:
    raise versions.explained(driver.name, error) from error

__all__ = ["DatabaseWrapper", "RecycleMixin"]

unbuffered = driver.unbuffered

#: What is no interruption: the database's errors, and Django's refusal to work inside an event
#: loop, which comes before anything is done.
_HEARD = (Error, SynchronousOnlyOperation)

#: Django's wrapper, whose private methods no stubs describe.
_Wrapper: Any = object


class RecycleMixin(_Wrapper):  # type: ignore[misc]
    """Replaces a stale connection before the next statement runs.

    A mixin over Django's MySQL wrapper or a subclass of it; put it first among the bases.
    """

    connection: Any
    validation_class: Any
    run_on_commit: list[Any]
    run_commit_hooks_on_set_autocommit_on: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Django's makes one of it. The wrapper below may have a class of its own.
        self.validation_class = with_server_checks(self.validation_class)
        super().__init__(*args, **kwargs)
        self.recycler = Recycler(self, driver)
        processes.track(self.recycler)

    # ##### Connecting #####

    def get_connection_params(self) -> dict[str, Any]:
        # Django hands all of OPTIONS to the driver.
        params: dict[str, Any] = super().get_connection_params()
        params.pop("recycle", None)
        if params.get("connect_timeout") is None and not sets_connect_timeout(params):
            params["connect_timeout"] = DEFAULT_CONNECT_TIMEOUT
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        # Django connects once. 'Not now' is worth another try within the same time.
        options = Options.of(self.alias, self.settings_dict)
        max_age = max_age_of(self.alias, self.settings_dict)
        if max_age is not None:
            max_age *= 1 - (options.jitter or 0) * random()
        connection = open_in_time(
            super().get_new_connection,
            driver,
            self.alias,
            conn_params,
            tries_left=options.connect_retries or 0,
        )
        self.recycler.record = record = ConnectionRecord(driver, connection, options, max_age)
        liveness.watch_path(record.descriptor, options.keepalive, options.network_timeout)
        return connection

    def connect(self) -> None:
        # Django's, whether for the first time or as a replacement. Until it returns no seam
        # decides, repeats or pins: a failure is a connect error. A connection that was opened
        # but could not be set up (isolation level, receivers) is dropped.
        # Before Django adds whatever CONN_MAX_AGE is to a clock and fails with a bare TypeError.
        max_age_of(self.alias, self.settings_dict)
        recycler = self.recycler
        carried, nested = recycler.carried, recycler.connecting
        shadowed: dict[str, Any] = {}
        try:
            recycler.connecting = True
            if carried is not None:
                # connection.queries, assertNumQueries and wrappers see what the application ran,
                # not what a replacement runs. A first connect is logged as in Django. The methods
                # are shadowed rather than overridden: Django calls them for every statement.
                for name in ("make_cursor", "make_debug_cursor"):
                    shadowed[name] = self.__dict__.get(name)
                    self.__dict__[name] = self._make_quiet_cursor
            super().connect()
            if carried is not None:
                if self.autocommit != carried.autocommit:
                    self.set_autocommit(carried.autocommit)
                self.run_on_commit = carried.run_on_commit
                self.run_commit_hooks_on_set_autocommit_on = carried.run_hooks
                recycler.carried = None
        except BaseException:
            if self.connection is not None and not nested:
                recycler.abandon(recycler.record)
                self.connection = None
            raise
        finally:
            recycler.connecting = nested
            for name, instrumented in shadowed.items():
                self.__dict__.pop(name, None)
                if instrumented is not None:
                    self.__dict__[name] = instrumented
        record = recycler.record
        record.connection = self.connection  # a subclass may have put it into a proxy
        record.contact = clock()
        record.dirty = False
        record.read_only_declared = _declares_read_only(self.settings_dict)
        record.owing = recycler.untold is not None
        record.refresh()

    def _make_quiet_cursor(self, cursor: Any) -> QuietCursorWrapper:
        return QuietCursorWrapper(cursor, self)

    # ##### Statements #####

    def create_cursor(self, name: str | None = None) -> Any:
        # Django makes a new one for nearly every statement; some are held across a pause.
        inner = super().create_cursor(name)
        recycler = self.recycler
        if recycler.connecting:
            return inner
        try:
            made_by_driver = inner.cursor
        except AttributeError:
            made_by_driver = inner
        kind = StreamingCursor if isinstance(made_by_driver, unbuffered) else RecyclingCursor
        cursor = kind(self, recycler, inner)
        if name is not None:
            cursor.name = name
        return cursor

    def create_inner_cursor(self, name: str | None) -> Any:
        """What stands inside a cursor: the base backend's own."""
        return super().create_cursor(name)

    # ##### Transactions #####

    def get_autocommit(self) -> bool:
        # With autocommit off atomic() enters through here and a savepoint.
        autocommit = super().get_autocommit()
        recycler = self.recycler
        if not (autocommit or self.in_atomic_block or recycler.connecting or recycler.at_boundary):
            recycler.current()
            recycler.decide()
        return bool(self.autocommit)

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        # Django opens the connection, logs a BEGIN, sets the flag and runs on_commit hooks.
        try:
            if self.recycler.connecting and self.recycler.carried is not None:
                self._set_autocommit(autocommit)  # the log would show it as the application's
                self.autocommit = autocommit
            else:
                super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        except BaseException as error:
            if not isinstance(error, _HEARD) and self.autocommit != autocommit:
                self._mode_cut_short(autocommit)
            raise

    def _mode_cut_short(self, autocommit: bool) -> None:
        """An interruption on any line between the SET and Django's flag: which mode is on?"""
        record = self.recycler.record
        if self.recycler.connecting or not self.recycler.is_in_use(record):
            return
        record.mark_interrupted()
        if autocommit and not record.dirty:
            # COMMIT or ROLLBACK is done, and the next connection has autocommit on. The
            # exception that is on its way must not cost an acknowledged COMMIT its hooks.
            self.autocommit = True
            if self.run_commit_hooks_on_set_autocommit_on:
                self.run_commit_hooks_on_set_autocommit_on = False
                self.run_and_clear_commit_hooks()

    def _set_autocommit(self, autocommit: bool) -> None:
        record = None if self.recycler.connecting else self.recycler.current()
        if record is None:
            super()._set_autocommit(autocommit)
        elif autocommit:
            self._leave(record)
        else:
            self._enter(record)

    def _enter(self, record: Any) -> None:
        """Enter a transaction: nothing has been done yet, so a loss here is repeated."""
        recycler = self.recycler
        idle = recycler.idle_if_fresh(record)
        safe = idle is not None
        if idle is None:
            idle = recycler.decide()
            record = recycler.record
            safe = recycler.is_safe(record)
        try:
            super()._set_autocommit(False)
        except BaseException as error:
            proof = recycler.take_note(record, error, ran=not safe)
            if not safe or not proof.is_loss or not recycler.is_in_use(record):
                raise
            if record.pins.pinned:
                raise recycler.state_lost(record, idle) from error
            recycler.repeat(record, idle)
            record = recycler.record
            try:
                super()._set_autocommit(False)
            except BaseException as second:
                recycler.take_note(record, second, ran=False)
                raise
        record.contact = clock()
        record.dirty = record.dirty and not safe

    def _leave(self, record: Any) -> None:
        """Leave a transaction. No decision point: SET autocommit = 1 may be a COMMIT itself."""
        clean = not record.dirty
        if record.gone and clean:
            # COMMIT or ROLLBACK has been acknowledged, or the server rolls back by itself. The
            # next connection has autocommit on; reconnecting now to say so might fail.
            return
        if record.interrupted:
            raise interrupted(record)
        try:
            super()._set_autocommit(True)
        except BaseException as error:
            proof = self.recycler.take_note(record, error, ran=not clean)
            if clean and proof.is_loss:
                return
            raise
        record.contact = clock()
        if not record.calm:
            record.pins.autocommit_seen(False, record.contact)
        record.transaction_ended()

    def _commit(self) -> None:
        # Never repeated: an error proves nothing about what the server did.
        record = None if self.recycler.connecting else self.recycler.current()
        if record is None:
            super()._commit()
            return
        if record.interrupted:
            raise interrupted(record)
        if record.lost:
            raise _lost_before_commit(record)
        try:
            super()._commit()
        except BaseException as error:
            self.recycler.take_note(record, error)
            if record.lost and isinstance(error, InterfaceError):
                raise _lost_before_commit(record) from error
            raise
        # Django does the same, a few lines on; an interruption in between shall not cost hooks.
        self.run_commit_hooks_on_set_autocommit_on = True
        record.contact = clock()
        record.transaction_ended()

    def _rollback(self) -> None:
        # Django's raises if the connection is lost, which would mask the application's own
        # exception. A lost connection is as good as a ROLLBACK: the server does it.
        record = None if self.recycler.connecting else self.recycler.current()
        if record is None:
            super()._rollback()
            return
        if not record.gone:
            try:
                super()._rollback()
            except BaseException as error:
                if not self.recycler.take_note(record, error).is_loss:
                    raise
            else:
                record.contact = clock()
        if record.gone:
            # Now, not at the next statement: its locks are to go.
            self.recycler.abandon(record)
        record.transaction_ended()

    def commit(self) -> None:
        try:
            super().commit()
        except BaseException as error:
            self._end_cut_short(error)
            raise

    def rollback(self) -> None:
        try:
            super().rollback()
        except BaseException as error:
            self._end_cut_short(error)
            raise

    def _end_cut_short(self, error: BaseException) -> None:
        """COMMIT or ROLLBACK was cut short by an exception that is on its way to be heard.

        Atomic.__exit__ only switches autocommit on now. That must not commit what was to be
        rolled back, nor mask the exception, nor leave the hooks to the next transaction.
        """
        record = self.recycler.record
        if isinstance(error, _HEARD) or not self.recycler.is_in_use(record):
            return
        record.mark_interrupted()
        self.recycler.abandon(record)
        record.transaction_ended()
        if not self.run_commit_hooks_on_set_autocommit_on:
            self.run_on_commit = []

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
        # Django's ping waits for ever on a silent path.
        record = self.recycler.current()
        if record is None or record.gone:
            return False
        if record.unread is not None:
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
        if record is None or self.in_atomic_block or record.executing:
            return
        if not self.autocommit and (record.dirty or self.settings_dict["AUTOCOMMIT"]):
            return  # inside a transaction, or leaving one
        was = self.recycler.at_boundary
        try:
            self.recycler.at_boundary = True
            super().close_if_health_check_failed()
        finally:
            self.recycler.at_boundary = was

    def close_if_unusable_or_obsolete(self) -> None:
        # The boundary of a unit of work: Django closes what is too old or has met errors.
        was = self.recycler.at_boundary
        try:
            self.recycler.at_boundary = True
            super().close_if_unusable_or_obsolete()
        finally:
            self.recycler.at_boundary = was
        if not self.in_atomic_block:
            self.recycler.unit_of_work_ended()

    def close(self) -> None:
        # Django closes and forgets. A loss of session state that nobody has heard of is told
        # by the next statement, or, where Django's own check at a boundary has found it, by a
        # WARNING: there the stock backend goes on in silence, and nothing raises.
        processes.look()
        recycler = self.recycler
        record = recycler.record
        if record is NO_RECORD or record.connection is not self.connection:
            super().close()
            recycler.carried = None
            return
        pinned = record.pins.pinned
        if pinned and not record.gone and not record.may_be_unread and record.is_closed():
            record.mark_lost("closed")
        super().close()
        recycler.carried = None  # closed by the application: the next connection starts as new
        if pinned and record.gone:
            idle = clock() - record.contact
            error = recycler.state_lost(record, idle, raised=not recycler.at_boundary)
            if not recycler.at_boundary:
                recycler.owe(error)
        record.pins = SessionState()
        if self.connection is None:
            record.connection = CLOSED  # and with it goes the last result

    def _close(self) -> None:
        record = self.recycler.record
        if record is NO_RECORD or record.connection is not self.connection:
            super()._close()
        elif record.gone:
            self.recycler.abandon(record)
        else:
            super()._close()
            record.forget_descriptor()


def _lost_before_commit(record: ConnectionRecord) -> OperationalError:
    # PyMySQL's own is an InterfaceError, for which Atomic.__exit__ does not roll back: the hooks
    # of this transaction would be left to the next one.
    return OperationalError(record.lost_code or 2006, "the connection was lost before COMMIT")


def _declares_read_only(settings: dict[str, Any]) -> bool:
    """Whether each connection begins read-only by the user's own wish (error 1792)."""
    command = (settings.get("OPTIONS") or {}).get("init_command")
    return isinstance(command, (str, bytes)) and examine(command).read_only


class DatabaseWrapper(RecycleMixin, MySQLDatabaseWrapper):
    """Django's MySQL backend with RecycleMixin in front of it."""


checks.register(check_settings)
