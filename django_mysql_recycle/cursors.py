"""The cursor: the only place where the statement is known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError
from django.db.backends import utils

from .liveness import clock
from .processes import look, mark
from .session_state import (
    INSERTED,
    PLAIN,
    PLAIN_INSERT,
    USUAL,
    Statement,
    cache_get,
    examine,
    examine_callproc,
)
from .session_state.effects import may_touch_tables
from .stock import CursorWrapper

if TYPE_CHECKING:
    from .record import ConnectionRecord

__all__ = ["QuietCursorWrapper", "RecyclingCursor", "StreamingCursor", "only_value"]

#: Seconds after the last statement in which the liveness check is skipped: a loop that never
#: rests does not pay for a system call at each turn.
WINDOW = 0.001


class QuietCursorWrapper(utils.CursorWrapper):
    """Django's cursor without execute_wrappers: for what the application did not run."""

    def _execute_with_wrappers(self, sql: Any, params: Any, many: Any, executor: Any) -> Any:
        return executor(sql, params, many, {"connection": self.db, "cursor": self})


class RecyclingCursor(CursorWrapper):
    """Django's wrapper of the driver's cursor, which looks at the connection before it executes.

    It outlives its connection: between a replacement and its own next statement it keeps its
    buffered rows, so that a loop over them goes on to the last one.
    """

    name: str | None = None
    _closed = False

    def __init__(self, cursor: Any, db: Any) -> None:
        self.cursor = cursor
        self._db = db
        self._record: ConnectionRecord = db.recycler.record

    def execute(self, query: Any, args: Any = None) -> Any:
        db = self._db
        record = self._record
        try:
            statement = cache_get(query) or examine(query)
        except TypeError:  # unhashable
            statement = examine(query)
        if (
            record.calm  # which the record of a connection that was replaced is not
            and (statement is PLAIN or statement is PLAIN_INSERT)
            and record.connection is db.connection
            and not record.exchange.under_way
        ):
            # The common path: nothing but the clocks and the socket can matter. It does what
            # Django's execute() does, in place: a call costs as much as all the rest.
            if db.in_atomic_block:
                if mark[0]:
                    try:
                        result = self.cursor.execute(query, args)
                    except BaseException as error:
                        db.recycler.failed(
                            record, error, statement, args, 0.0, safe=False, sql=query
                        )
                        self._raise_mapped(error)
                        raise
                    record.exchange.under_way = False
                    record.dirty = True
                    if not record.touched:
                        # A SELECT may do without a table, and begin nothing at the server.
                        record.touched = query[:1] in ("I", "U") or may_touch_tables(query)
                    if statement is PLAIN_INSERT:
                        record.left |= INSERTED
                    return result
            elif db.autocommit and not db._thread_sharing_count:
                now = clock()
                idle = now - record.contact
                if (
                    mark[0]
                    and now < record.age_due
                    and (idle < WINDOW or (idle < record.quiet and not record.hung_up()))
                ):
                    try:
                        result = self.cursor.execute(query, args)
                    except BaseException as error:
                        if db.recycler.failed(record, error, statement, args, idle, safe=True):
                            return self.execute(query, args)
                        self._raise_mapped(error)
                        raise
                    record.exchange.under_way = False
                    record.contact = clock()
                    if statement is PLAIN_INSERT:
                        record.left |= INSERTED
                    return result
        return self._execute_with_care(statement, query, args)

    def _execute_with_care(self, statement: Statement, query: Any, args: Any) -> Any:
        # Apart from execute(), for which the function below would cost as much as the clocks.
        record = self._db.recycler.record
        if record.reading is not USUAL and not record.gone:
            statement = examine(query, record.reading)
        run = super().execute
        return self._db.recycler.run(self, statement, args, lambda: run(query, args), sql=query)

    def _raise_mapped(self, error: BaseException) -> None:
        """Raise what Django's execute() makes of some of the driver's errors."""
        wrong_class = self._db.Database.OperationalError
        if isinstance(error, wrong_class) and error.args[0] in self.codes_for_integrityerror:
            raise IntegrityError(*error.args)

    def executemany(self, query: Any, args: Any) -> Any:
        # The driver splits it into several statements, and the rows may be an iterator that
        # has begun: the check before the first one covers it, but it is never repeated.
        statement = examine(query, self._db.recycler.record.reading)
        run = super().executemany
        return self._db.recycler.run(
            self, statement, args, lambda: run(query, args), many=True, sql=query
        )

    def callproc(self, procname: str, *args: Any, **kwargs: Any) -> Any:
        return self._db.recycler.run(
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
        if not self.is_current():
            raise self._db.Database.ProgrammingError(
                "the connection of this cursor has been replaced; its result sets are lost"
            )
        more = self._db.recycler.guard(self._record, self.cursor.nextset)
        self._db.recycler.note_unread(self, doubtful=bool(more))
        return more

    def close(self) -> None:
        recycler = self._db.recycler
        if recycler.untold is not None:
            # Raised by this cursor and on its way through the application's `with` statement.
            recycler.in_flight = sys.exc_info()[1] is recycler.untold
        self._closed = True
        if not mark[0]:
            look()
        record = self._record
        try:
            if record.exchange.under_way and recycler.in_the_middle(record):
                # The driver's close() would read the answer of that statement. A cursor that is
                # only dropped has left nothing at the server.
                pass
            elif record.calm:
                self.cursor.close()
            elif self.is_current() and not record.gone:
                # A connection that is lost or no longer in use has nothing left to read;
                # mysqlclient's close() would raise a bare 2006.
                self._db.recycler.guard(record, self.cursor.close)
                if record.unread is self:
                    self._db.recycler.note_unread(self, rows_read=True)
        except BaseException as error:
            self._db.recycler.take_note(record, error, ran=False)
            self._db.recycler.look_for_rollback(record, error)
            if not record.lost:
                # It has read what earlier statements of the text have done.
                self._db.recycler.look_at_status(record)
                raise
        finally:
            if not record.calm and record.unread is self:
                record.unread = None
        recycler.in_flight = False

    def is_current(self) -> bool:
        """Whether the inner cursor belongs to the connection in use."""
        record = self._db.recycler.record
        return self._record is record and record.connection is self._db.connection

    def bring_up_to_date(self) -> None:
        """Make the inner cursor anew if the connection has been replaced."""
        db = self._db
        if self._closed:
            raise db.Database.ProgrammingError("cursor closed")
        if not self.is_current():
            self.cursor = db.create_inner_cursor(self.name)
            self._record = db.recycler.record

    def discard_leftovers(self) -> None:
        """Do what the driver's execute() begins with, before anybody looks at the socket."""
        while self.cursor.nextset():
            pass

    def only_value(self) -> Any:
        return only_value(self.cursor)


class StreamingCursor(RecyclingCursor):
    """The same around an unbuffered cursor: fetching rows talks to the server."""

    def execute(self, query: Any, args: Any = None) -> Any:
        # No common path: whatever it runs leaves rows to keep books of.
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
        recycler = self._db.recycler
        result = recycler.guard(self._record, fetch)
        if self._record.unread is self and is_last(result):
            recycler.note_unread(self, rows_read=True)
        return result


def only_value(cursor: Any) -> Any:
    """The one value of a one-row result, left in place for the application; else ....

    `cursor` is one of the driver's that has read its rows.
    """
    rows = cursor.fetchall()
    if len(rows) != 1 or len(rows[0]) != 1:
        value = ...
    else:
        row = rows[0]
        value = next(iter(row.values())) if isinstance(row, dict) else row[0]
    if rows:
        cursor.scroll(0, "absolute")
    return value
