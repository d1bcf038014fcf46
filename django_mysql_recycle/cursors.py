"""The cursor: the only place where the statement is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper

from .liveness import clock
from .processes import mark
from .session_state import PLAIN, PLAIN_INSERT, cache_get, examine, examine_callproc

if TYPE_CHECKING:
    from .recycler import Recycler

__all__ = ["QuietCursorWrapper", "RecyclingCursor", "StreamingCursor", "came_from_rows"]

#: Seconds after the last statement in which the liveness check is skipped: a loop that never
#: rests does not pay for a system call at each turn.
WINDOW = 0.001


class QuietCursorWrapper(CursorWrapper):
    """Django's cursor without execute_wrappers: for what the application did not run."""

    def _execute_with_wrappers(self, sql: Any, params: Any, many: Any, executor: Any) -> Any:
        return executor(sql, params, many, {"connection": self.db, "cursor": self})


class RecyclingCursor:
    """Stands around the cursor that the base backend makes, and outlives its connection.

    Between a replacement of the connection and its own next statement it keeps its buffered
    rows, so that a loop over them goes on to the last one.
    """

    name: str | None = None
    _closed = False

    def __init__(self, db: Any, recycler: Recycler, inner: Any) -> None:
        self._db = db
        self._recycler = recycler
        self._inner = inner
        self._record = recycler.record

    def __getattr__(self, attr: str) -> Any:
        return getattr(self._inner, attr)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def execute(self, query: Any, args: Any = None) -> Any:
        recycler = self._recycler
        db = self._db
        record = recycler.record
        try:
            statement = cache_get(query) or examine(query)
        except TypeError:  # unhashable
            statement = examine(query)
        if (
            record.calm
            and (statement is PLAIN or statement is PLAIN_INSERT)
            and record is self._record
            and record.connection is db.connection
        ):
            # The common path: nothing but the clocks and the socket can matter.
            if db.in_atomic_block:
                if mark[0]:
                    try:
                        result = self._inner.execute(query, args)
                    except BaseException as error:
                        recycler.failed(record, error, statement, args, 0.0, safe=False)
                        raise
                    record.dirty = True
                    if statement is PLAIN_INSERT:
                        record.inserted = True
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
                        result = self._inner.execute(query, args)
                    except BaseException as error:
                        if recycler.failed(record, error, statement, args, idle, safe=True):
                            return self.execute(query, args)
                        raise
                    record.contact = clock()
                    if statement is PLAIN_INSERT:
                        record.inserted = True
                    return result
        return recycler.run(self, statement, args, lambda inner: inner.execute(query, args))

    def executemany(self, query: Any, args: Any) -> Any:
        # The driver splits it into several statements, and the rows may be an iterator that
        # has begun: the check before the first one covers it, but it is never repeated.
        statement = examine(query)
        rows = args
        if not isinstance(args, (list, tuple)) and args:
            rows = _Rows(iter(args))
        return self._recycler.run(
            self, statement, args, lambda inner: inner.executemany(query, rows), many=True
        )

    def callproc(self, procname: str, *args: Any, **kwargs: Any) -> Any:
        return self._recycler.run(
            self,
            examine_callproc(procname),
            None,
            lambda inner: inner.callproc(procname, *args, **kwargs),
            many=True,
            leaves_arguments=bool(args and args[0]),
        )

    def nextset(self) -> Any:
        if not self.is_current():
            raise self._db.Database.ProgrammingError(
                "the connection of this cursor has been replaced; its result sets are gone"
            )
        more = self._recycler.guard(self._record, self._inner.nextset)
        self._recycler.note_unread(self, doubtful=bool(more))
        return more

    def close(self) -> None:
        self._closed = True
        record = self._record
        try:
            # A lost connection, or one that is no longer in use, has nothing to be told;
            # mysqlclient's close() would raise a bare 2006.
            if (record.calm and record is self._recycler.record) or (
                self.is_current() and not record.gone
            ):
                self._inner.close()
                if not record.calm and record.unread is self:
                    self._recycler.note_unread(self, rows_read=True)
        except BaseException as error:
            self._recycler.take_note(record, error, ran=False)
            if not record.lost:
                raise
        finally:
            if not record.calm and record.unread is self:
                record.unread = None

    def is_current(self) -> bool:
        """Whether the inner cursor belongs to the connection in use."""
        record = self._recycler.record
        return self._record is record and record.connection is self._db.connection

    def current(self) -> Any:
        """The inner cursor, made anew if the connection has been replaced."""
        db = self._db
        if self._closed:
            raise db.Database.ProgrammingError("cursor closed")
        if not self.is_current():
            self._inner = db.create_inner_cursor(self.name)
            self._record = self._recycler.record
        return self._inner

    def discard_leftovers(self) -> None:
        """Do what the driver's execute() begins with, before anybody looks at the socket."""
        while self._inner.nextset():
            pass

    def only_value(self) -> Any:
        """The one value of a one-row result, left in place for the application; else ...."""
        inner = self._inner
        rows = inner.fetchall()
        if len(rows) != 1 or len(rows[0]) != 1:
            value = ...
        else:
            row = rows[0]
            value = next(iter(row.values())) if isinstance(row, dict) else row[0]
        if rows:
            inner.scroll(0, "absolute")
        return value


class StreamingCursor(RecyclingCursor):
    """The same around an unbuffered cursor: fetching rows talks to the server."""

    def execute(self, query: Any, args: Any = None) -> Any:
        # No common path: whatever it runs leaves rows to keep books of.
        return self._recycler.run(
            self, examine(query), args, lambda inner: inner.execute(query, args)
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def fetchone(self) -> Any:
        return self._fetch(self._inner.fetchone, lambda row: row is None)

    def fetchmany(self, size: int | None = None) -> Any:
        wanted = int(size or self._inner.arraysize)
        return self._fetch(lambda: self._inner.fetchmany(wanted), lambda rows: len(rows) < wanted)

    def fetchall(self) -> Any:
        return self._fetch(self._inner.fetchall, lambda _rows: True)

    def only_value(self) -> Any:
        return ...

    def _fetch(self, fetch: Callable[[], Any], is_last: Callable[[Any], bool]) -> Any:
        result = self._recycler.guard(self._record, fetch)
        if self._record.unread is self and is_last(result):
            self._recycler.note_unread(self, rows_read=True)
        return result


class _Rows:
    """An application's iterator of rows, which tells its own exceptions from the driver's."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self.error: BaseException | None = None

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._rows)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


def came_from_rows(error: BaseException) -> bool:
    """Whether the exception is the application's own, out of its iterator of rows.

    The driver asks for the next row between two statements, when nothing is under way.
    """
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is _Rows.__next__.__code__:
            rows = trace.tb_frame.f_locals["self"]
            return rows.error is error
        trace = trace.tb_next
    return False
