"""The cursor: the only place where the statement is known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import IntegrityError
from django.db.backends import utils

from . import events
from .drivers import only_value
from .liveness import clock
from .originals import REPLACED, djangos_own
from .processes import look, mark
from .rollbacks import look_for_rollback
from .session_state import (
    PLAIN,
    PLAIN_INSERT,
    USUAL,
    Statement,
    cache_get,
    examine,
    examine_callproc,
)
from .stock import CursorWrapper

if TYPE_CHECKING:
    from .wrapper import Wrapper

__all__ = [
    "DJANGOS_WRAPPER",
    "DirectCursorWrapper",
    "MarkingCursor",
    "RecyclingCursor",
    "StreamingCursor",
    "UnloggedCursorWrapper",
]

_wrapper: Any = utils.CursorWrapper
_djangos_way = djangos_own(_wrapper._execute_with_wrappers)
_djangos_execute = djangos_own(_wrapper._execute)


class MarkingCursor(utils.CursorWrapper):
    """For receivers of connection_created, on a connection of a pool.

    What they set is not there for a borrower whose receivers set nothing: it marks the connection.
    """

    def execute(self, sql: Any, params: Any = None) -> Any:
        self._marks(examine(sql))
        return self.cursor.execute(sql, params)

    def executemany(self, sql: Any, param_list: Any) -> Any:
        self._marks(examine(sql))
        return self.cursor.executemany(sql, param_list)

    def callproc(self, procname: Any, *args: Any, **kwargs: Any) -> Any:
        self._marks(examine_callproc(procname))
        return self.cursor.callproc(procname, *args, **kwargs)

    def _marks(self, statement: Statement) -> None:
        connection = self.db.guard.connection
        connection.ledger.mark(statement, pins=False)
        events.receivers_run_sql(self.db.alias)
        connection.contacted()


class UnloggedCursorWrapper(utils.CursorWrapper):
    """Django's cursor without execute_wrappers: for what the application did not run."""

    def _execute_with_wrappers(self, sql: Any, params: Any, many: Any, executor: Any) -> Any:
        return executor(sql, params, many, {"connection": self.db, "cursor": self})


class DirectCursorWrapper(_wrapper):  # type: ignore[misc]
    """Django's cursor, which reaches the driver's cursor in fewer calls.

    Django's finds these methods by ``__getattr__()``, and calls them in a context manager that
    does nothing unless there is an error. What is spared makes up for what a statement costs here.
    test_in_place_of_django.py notices when Django changes.
    https://github.com/django/django/blob/6.1/django/db/backends/utils.py#L18
    """

    # Not execute(): instrumentations put functions of their own in the place of Django's.
    def _execute_with_wrappers(self, sql: Any, params: Any, many: Any, executor: Any) -> Any:
        db = self.db
        if (
            many
            or db.execute_wrappers
            or db.needs_rollback
            or not apps.ready
            or _wrapper._execute_with_wrappers is not _djangos_way
            or getattr(executor, "__func__", None) is not _djangos_execute
        ):
            return super()._execute_with_wrappers(sql, params, many, executor)
        try:
            if params is None:
                return self.cursor.execute(sql)
            return self.cursor.execute(sql, params)
        except Exception:
            with db.wrap_database_errors:
                raise

    def fetchone(self) -> Any:
        try:
            return self.cursor.fetchone()
        except Exception:
            with self.db.wrap_database_errors:
                raise

    def fetchmany(self, size: int | None = None) -> Any:
        try:
            return self.cursor.fetchmany(size)
        except Exception:
            with self.db.wrap_database_errors:
                raise

    def fetchall(self) -> Any:
        try:
            return self.cursor.fetchall()
        except Exception:
            with self.db.wrap_database_errors:
                raise

    def close(self) -> Any:
        return self.cursor.close()


#: Django's class of cursors, if nothing has been put in the place of what `DirectCursorWrapper`
#: does in other ways; else `REPLACED`.
DJANGOS_WRAPPER: Any = (
    _wrapper
    if not any(hasattr(_wrapper, name) for name in ("fetchone", "fetchmany", "fetchall", "close"))
    else REPLACED
)


class RecyclingCursor(CursorWrapper):
    """Django's wrapper of the driver's cursor, which asks the guard before it executes.

    It outlives its connection: between a replacement and its own next statement it keeps its
    buffered rows, so that a loop over them goes on to the last one.
    """

    name: str | None = None
    #: The driver leaves rows at the server until they are fetched.
    streams = False
    _closed = False

    def __init__(self, cursor: Any, wrapper: Wrapper) -> None:
        self.cursor = cursor
        self._db = wrapper
        self._connection = wrapper.guard.connection

    def execute(self, query: Any, args: Any = None) -> Any:
        db = self._db
        connection = self._connection
        try:
            statement = cache_get(query) or examine(query)
        except TypeError:  # unhashable
            statement = examine(query)
        if (
            (statement is PLAIN or statement is PLAIN_INSERT)
            and connection.raw is db.connection
            and not connection.exchange.under_way
            and mark[0]
        ):
            # The common path: it does what Django's execute() does, in place.
            if db.in_atomic_block:
                ledger = connection.ledger
                if connection.ready and not (ledger.may_be_pending or ledger.pins.careful):
                    try:
                        result = self.cursor.execute(query, args)
                    except BaseException as error:
                        db.guard.failed(
                            connection, error, statement, args, 0.0, safe=False, sql=query
                        )
                        self._raise_mapped(error)
                        raise
                    connection.exchange.under_way = False
                    if statement is PLAIN_INSERT or not connection.touched:
                        connection.ordinary_succeeded_in_transaction(statement, query)
                    return result
            elif db.autocommit and not db._thread_sharing_count:
                now = clock()
                if connection.may_run(now):
                    idle = now - connection.last_activity
                    try:
                        result = self.cursor.execute(query, args)
                    except BaseException as error:
                        if db.guard.failed(
                            connection, error, statement, args, idle, safe=True, sql=query
                        ):
                            return self._execute_with_care(statement, query, args, again=True)
                        db.guard.rest()
                        self._raise_mapped(error)
                        raise
                    connection.ordinary_succeeded(statement)
                    return result
        return self._execute_with_care(statement, query, args)

    def _execute_with_care(
        self, statement: Statement, query: Any, args: Any, *, again: bool = False
    ) -> Any:
        # Apart from execute(), for which the function below would cost as much as the clocks.
        guard = self._db.guard
        connection = guard.connection
        if connection.reading is not USUAL and connection.usable:
            statement = examine(query, connection.reading)
        run = super().execute
        return guard.run(self, statement, args, lambda: run(query, args), sql=query, again=again)

    def _raise_mapped(self, error: BaseException) -> None:
        """Raise what Django's execute() makes of some of the driver's errors."""
        wrong_class = self._db.guard.driver.operational_error
        if isinstance(error, wrong_class) and error.args[0] in self.codes_for_integrityerror:
            raise IntegrityError(*error.args)

    def executemany(self, query: Any, args: Any) -> Any:
        # The driver splits it into several statements, and the rows may be an iterator that
        # has begun: the check before the first one covers it, but it is never repeated.
        guard = self._db.guard
        statement = examine(query, guard.connection.reading)
        run = super().executemany
        return guard.run(self, statement, args, lambda: run(query, args), many=True, sql=query)

    def callproc(self, procname: str, *args: Any, **kwargs: Any) -> Any:
        return self._db.guard.run(
            self,
            examine_callproc(procname),
            None,
            lambda: self.cursor.callproc(procname, *args, **kwargs),
            many=True,
            # Both drivers put them into @_procname_0 and so on.
            arguments=f"@_{procname}_".lower() if args and args[0] else "",
        )

    def nextset(self) -> Any:
        if not mark[0]:
            look()
        guard = self._db.guard
        lease = self._connection.lease
        if not self.is_current() or not (lease is None or lease.claim()):
            raise guard.driver.programming_error(
                "the connection of this cursor has been replaced; its result sets are lost"
            )
        more = guard.fetch(self._connection, self.cursor.nextset)
        guard.note_pending(self, doubtful=bool(more))
        guard.rest()
        return more

    def close(self) -> None:
        guard = self._db.guard
        losses = guard.losses
        if losses.pending_error is not None:
            # Raised by this cursor and on its way through the application's `with` statement. An
            # interruption of the call that finds that out has it raised again, rather than never.
            losses.in_flight = True
            losses.in_flight = sys.exc_info()[1] is losses.pending_error
        self._closed = True
        if not mark[0]:
            look()
        connection = self._connection
        ledger = connection.ledger
        try:
            if connection.exchange.under_way and guard.in_the_middle(connection):
                # The driver's close() would read the answer of that statement. A cursor that is
                # only dropped has left nothing at the server.
                pass
            elif connection.ready and not ledger.may_be_pending:
                if connection.lease is None or connection.lease.held:
                    self.cursor.close()
                elif connection.lease.claim():
                    self.cursor.close()
                    guard.rest()
            elif self.is_current() and connection.usable:
                # A connection that is lost or no longer in use has nothing left to read;
                # mysqlclient's close() would raise a bare 2006.
                guard.fetch(connection, self.cursor.close)
                if ledger.pending_result is self:
                    guard.note_pending(self, rows_read=True)
        except BaseException as error:
            lost = guard.note_error(connection, error, ran=False).is_loss
            look_for_rollback(self._db, connection, error)
            if not lost:
                if connection.usable:
                    # It has read what earlier statements of the text have done.
                    connection.look_at_status(self._db.autocommit)
                raise
        finally:
            if ledger.may_be_pending and ledger.pending_result is self:
                connection.set_pending(None)
        losses.in_flight = False

    def is_current(self) -> bool:
        """Whether the inner cursor belongs to the connection in use."""
        connection = self._db.guard.connection
        return self._connection is connection and connection.raw is self._db.connection

    def bring_up_to_date(self) -> None:
        """Make the inner cursor anew if the connection has been replaced."""
        db = self._db
        if self._closed:
            raise db.guard.driver.programming_error("cursor closed")
        if not self.is_current():
            self.cursor = db.create_inner_cursor(self.name)
            self._connection = db.guard.connection

    def discard_leftovers(self) -> None:
        """Do what the driver's execute() begins with, before anything looks at the socket."""
        while self.cursor.nextset():
            pass

    def only_value(self) -> Any:
        """The one value of the result, left in place for the application; else ``...``."""
        return only_value(self.cursor)


class StreamingCursor(RecyclingCursor):
    """The same around an unbuffered cursor: fetching rows talks to the server."""

    streams = True

    def execute(self, query: Any, args: Any = None) -> Any:
        # No common path: whatever it runs leaves a pending result.
        return self._execute_with_care(examine(query), query, args)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def fetchone(self) -> Any:
        return self._fetch(self.cursor.fetchone, lambda row: row is None)

    def fetchmany(self, size: int | None = None) -> Any:
        wanted = int(size or self.cursor.arraysize)
        return self._fetch(lambda: self.cursor.fetchmany(wanted), lambda rows: len(rows) < wanted)

    def fetchall(self) -> Any:
        return self._fetch(self.cursor.fetchall, lambda _rows: True)

    def only_value(self) -> Any:
        return ...

    def _fetch(self, fetch: Callable[[], Any], is_last: Callable[[Any], bool]) -> Any:
        if not mark[0]:
            look()
        guard = self._db.guard
        result = guard.fetch(self._connection, fetch)
        if self._connection.ledger.pending_result is self and is_last(result):
            guard.note_pending(self, rows_read=True)
            guard.rest()
        return result
