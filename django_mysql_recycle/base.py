"""The seams in Django. The policy is in lifecycle.py, what a statement means in session_state.py."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from dataclasses import dataclass
from os import getpid
from random import random, uniform
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error, OperationalError

from . import events, liveness, processes
from .cursors import QuietCursorWrapper, RecyclingCursor, StreamingCursor
from .drivers import choose
from .errors import NOT_NOW, Proof, SessionStateLost, code_of, judge
from .lifecycle import REST, Action, Facts, decide
from .liveness import clock
from .option_files import sets_connect_timeout
from .options import DEFAULT_CONNECT_TIMEOUT, Options, max_age_of
from .record import ConnectionRecord
from .session_state import PLAIN, Statement, examine

driver = choose()  # before the next import, which binds it by name
unbuffered = driver.unbuffered

from django.db.backends.mysql.base import DatabaseWrapper as MySQLDatabaseWrapper  # noqa: E402

from .validation import DatabaseValidation  # noqa: E402

__all__ = ["DatabaseWrapper", "RecycleMixin"]

T = TypeVar("T")


class _NoRecord:
    """Stands for the record of no connection on the path that every statement takes."""

    calm = False
    connection = None
    pid = 0
    unread = None
    gone = "closed"


NO_RECORD: Any = _NoRecord()


class _NoAnswer(Exception):
    """A round trip of the backend's own was not answered in time."""


@dataclass(slots=True)
class _Carried:
    """What belongs to the wrapper and not to the connection, and outlives a replacement.

    Django's connect() resets all three.
    """

    autocommit: bool
    run_on_commit: list[Any]
    run_hooks: bool


class RecycleMixin(BaseDatabaseWrapper if TYPE_CHECKING else object):  # type: ignore[misc]
    """Replaces a stale connection before the next statement runs.

    A mixin over Django's MySQL wrapper or a subclass of it; put it first among the bases.
    """

    Database: Any
    _record: Any = NO_RECORD

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._carried: _Carried | None = None
        self._connecting = False
        self._at_boundary = False
        #: The loss of session state that nobody has heard of yet.
        self._untold: SessionStateLost | None = None
        #: What earlier statements left in connections that have been replaced since.
        self._gone: set[str] = set()
        self._limit_refused = False
        processes.track(self)

    # ##### Connecting #####

    def get_connection_params(self) -> dict[str, Any]:
        # Django hands all of OPTIONS to the driver.
        params: dict[str, Any] = super().get_connection_params()
        params.pop("recycle", None)
        self._options = Options.of(self.alias, self.settings_dict)
        if not params.get("connect_timeout"):
            if not sets_connect_timeout(params):
                params["connect_timeout"] = DEFAULT_CONNECT_TIMEOUT
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        # Django connects once. 'Not now' is worth another try within the same time.
        seconds = conn_params.get("connect_timeout")
        deadline = clock() + (DEFAULT_CONNECT_TIMEOUT if seconds is None else seconds)
        max_age = max_age_of(self.alias, self.settings_dict)
        if max_age is not None:
            max_age *= 1 - (self._options.jitter or 0) * random()
        tries_left = self._options.connect_retries or 0
        pause = 0.1
        while True:
            params = dict(conn_params)
            remaining = deadline - clock()
            if seconds is not None:
                params["connect_timeout"] = max(1, min(seconds, round(remaining)))
            driver.bound_connect(params, max(0.1, remaining))
            try:
                connection = super().get_new_connection(params)
            except self.Database.Error as error:
                wait = pause * uniform(0.5, 1.5)
                if (
                    tries_left <= 0
                    or code_of(error) not in NOT_NOW
                    or clock() + wait + 1 > deadline
                ):
                    raise
                tries_left -= 1
                pause *= 2
                sleep(wait)
                continue
            driver.unbound(connection, conn_params)
            self._record = ConnectionRecord(driver, connection, self._options, max_age)
            liveness.watch_path(
                self._record.descriptor, self._options.keepalive, self._options.network_timeout
            )
            return connection

    def connect(self) -> None:
        # Django's, whether for the first time or as a replacement. Until it returns no seam
        # decides, repeats or pins: a failure is a connect error. A connection that was opened
        # but could not be set up (isolation level, receivers) is dropped.
        carried, nested = self._carried, self._connecting
        self._connecting = True
        if carried is not None:
            # connection.queries, assertNumQueries and wrappers see what the application ran,
            # not what a replacement runs. A first connect is logged as in Django. The methods
            # are shadowed rather than overridden: Django calls them for every statement.
            self.__dict__.update(make_cursor=self._quiet_cursor, make_debug_cursor=self._quiet_cursor)
        try:
            super().connect()
            if carried is not None:
                if self.autocommit != carried.autocommit:
                    self.set_autocommit(carried.autocommit)
                self.run_on_commit = carried.run_on_commit
                self.run_commit_hooks_on_set_autocommit_on = carried.run_hooks
                self._carried = None
        except BaseException:
            if self.connection is not None and not nested:
                self._abandon(self._record)
                self.connection = None
            raise
        finally:
            self._connecting = nested
            self.__dict__.pop("make_cursor", None)
            self.__dict__.pop("make_debug_cursor", None)
        record = self._record
        record.connection = self.connection  # a subclass may have put it into a proxy
        record.contact = clock()
        record.dirty = False
        init_command = (self.settings_dict.get("OPTIONS") or {}).get("init_command")
        if isinstance(init_command, (str, bytes)) and examine(init_command).read_only:
            record.read_only_declared = True
        record.owing = self._untold is not None
        record.refresh()

    def _quiet_cursor(self, cursor: Any) -> QuietCursorWrapper:
        return QuietCursorWrapper(cursor, self)

    # ##### Statements #####

    def create_cursor(self, name: str | None = None) -> Any:
        # Django makes a new one for nearly every statement; some are held across a pause.
        inner = super().create_cursor(name)
        if self._connecting:
            return inner
        made_by_driver = getattr(inner, "cursor", inner)
        kind = StreamingCursor if isinstance(made_by_driver, unbuffered) else RecyclingCursor
        cursor = kind(self, inner)
        if name is not None:
            cursor._name = name
        return cursor

    def create_inner_cursor(self, name: str | None) -> Any:
        return super().create_cursor(name)

    def run_statement(
        self,
        cursor: RecyclingCursor,
        statement: Statement,
        args: Any,
        call: Callable[[Any], T],
        *,
        many: bool = False,
        leaves_arguments: bool = False,
    ) -> T:
        """Run `call` on the driver's cursor as one statement, with everything that takes.

        `many`: the driver makes several statements of it, so it is never repeated.
        """
        if self._connecting:
            return call(cursor.current())
        record = self._current_record()
        if record is None:
            self.ensure_connection()
            record = self._record
        if record.unread is cursor and not record.gone:
            self._discard_leftovers(cursor, record)
        idle = self._decide(statement, cursor)
        inner = cursor.current()
        record = self._record
        safe = self._at_safe_point(record)
        record.executing += 1
        record.refresh()
        try:
            result = call(inner)
        except BaseException as error:
            record.executing -= 1
            record.refresh()
            again = self.statement_failed(
                record, error, statement, args, idle, safe=safe, repeatable=not many
            )
            if not again:
                raise
        else:
            record.executing -= 1
            self._succeeded(record, statement, args, cursor, leaves_arguments)
            return result
        return self.run_statement(
            cursor, statement, args, call, many=many, leaves_arguments=leaves_arguments
        )

    def _succeeded(
        self,
        record: ConnectionRecord,
        statement: Statement,
        args: Any,
        cursor: RecyclingCursor,
        leaves_arguments: bool,
    ) -> None:
        now = record.contact = clock()
        ends = statement.ends_transaction and statement.single
        record.dirty = not ends or any(change.action == "begin" for change in statement.changes)
        if statement.inserts:
            record.inserted = True
        if leaves_arguments:
            record.arguments_left = True
            self._gone.discard("@_")
        if statement.read_only:
            record.read_only_declared = True
        if statement.mentions_wait_timeout:
            record.set_wait_timeout(None, unread=True)
        if record.options.pin_session_state and statement is not PLAIN:
            answer = cursor.only_value() if statement.lone_lock_call else ...
            if answer is ...:
                record.pins.apply(statement, args, now)
            else:
                record.pins.answer(statement, args, answer, now)
            if statement.sets_autocommit or statement.calls or not statement.single:
                # Both drivers keep the server's status flag: no round trip.
                off = not record.connection.get_autocommit()
                record.pins.autocommit_seen(bool(self.autocommit and off), now)
        self.note_unread(cursor, doubtful=statement.calls or not statement.single)

    def statement_failed(
        self,
        record: ConnectionRecord,
        error: BaseException,
        statement: Statement,
        args: Any,
        idle: float,
        *,
        safe: bool,
        repeatable: bool = True,
    ) -> bool:
        """Act on what the error proves. True: there is a new connection, run it once more."""
        proof = self._take_note(record, error)
        if proof is Proof.ALIVE:
            if not statement.single and record.options.pin_session_state:
                record.pins.apply_begins(statement, args, clock())
                record.refresh()
            return False
        if proof in (Proof.WRONG_NODE, Proof.READ_ONLY):
            return False
        repeatable = repeatable and statement.repeatable and proof is Proof.NEVER_RAN and safe
        if record is not self._record:
            # A statement nested in this one, a lazy parameter's, has replaced the connection.
            return repeatable
        if not safe:
            return False
        if record.pins.pinned or statement.reads:
            raise self._state_lost(record, idle, statement) from error
        if repeatable and idle >= REST:
            # Without a rest before it, 2006 may be the server's answer to the statement: one
            # that is longer than max_allowed_packet.
            events.repeated(self, reason=record.lost, age=clock() - record.opened, idle=idle)
            self._replace(record.lost)
            return True
        return False

    def _take_note(self, record: ConnectionRecord, error: BaseException) -> Proof:
        """Mark the record with what an error proves."""
        record.dirty = True
        if not isinstance(error, (self.Database.Error, Error)):
            rows_error = _error_of_rows(error)
            if not rows_error and not driver.never_sent(error):
                # A soft time limit, Ctrl-C, a killed greenlet: the answer may still come.
                record.mark_interrupted()
            return Proof.ALIVE
        proof = judge(error, mariadb=record.mariadb)
        if proof is Proof.ALIVE:
            return proof
        if proof is Proof.READ_ONLY:
            declared = code_of(error) == 1792 and record.read_only_declared
            if record.options.recycle_read_only and not declared:
                record.wrong_node = True
        elif proof is Proof.WRONG_NODE:
            record.wrong_node = True
        elif code_of(error) == 2014 and record.unread is not None:
            return Proof.ALIVE  # the rows that the application has not read yet are in the way
        else:
            if proof is Proof.PROTOCOL:
                record.mark_interrupted()
            record.mark_lost("lost", code_of(error))
        record.refresh()
        return proof

    def guard(self, record: Any, call: Callable[[], T]) -> T:
        """Fetching and closing: they talk to the server in the middle of a result."""
        try:
            return call()
        except BaseException as error:
            if record is not NO_RECORD:
                dirty = record.dirty
                self._take_note(record, error)
                record.dirty = dirty
            raise

    def note_unread(
        self, cursor: RecyclingCursor, *, doubtful: bool, rows_read: bool = False
    ) -> None:
        """Keep the books: does `cursor` leave anything at the server?"""
        record = self._record
        if record.gone:
            record.unread = None
            return
        rows = (
            isinstance(cursor, StreamingCursor)
            and not rows_read
            and getattr(cursor, "description", None) is not None
        )
        if rows or driver.has_more_results(record.connection, cursor, doubtful=doubtful):
            record.unread = cursor
        elif record.unread is cursor or record.unread is None:
            record.unread = None
        else:
            record.refresh()

    def _discard_leftovers(self, cursor: RecyclingCursor, record: ConnectionRecord) -> None:
        try:
            self.guard(record, cursor.discard_leftovers)
        except self.Database.Error:
            # The application gives these rows up; if their connection is lost, it is replaced.
            if not record.gone:
                raise
        record.unread = None

    # ##### Deciding #####

    def _current_record(self) -> Any:
        """The record of the connection in use, or None."""
        record = self._record
        if record.pid and record.pid != getpid():
            self.forget_parent()  # uWSGI forks without running Python's hooks
            record = self._record
        connection = self.connection
        if connection is None:
            return None
        if record.connection is not connection:
            # Somebody has put it there without connect().
            options = Options.of(self.alias, self.settings_dict)
            record = self._record = ConnectionRecord(driver, connection, options, None)
        return record

    def _at_safe_point(self, record: ConnectionRecord) -> bool:
        """Whether replacing the connection can lose nothing, pins and results aside."""
        return (
            not self.in_atomic_block
            and (self.autocommit or not record.dirty)
            and not record.executing
            and not self._thread_sharing_count
            and self._thread_ident == get_ident()
        )

    def _decide(self, statement: Statement, cursor: RecyclingCursor | None = None) -> float:
        """Apply the policy. Returns the idle seconds of the connection that is left."""
        record = self._record
        safe = self._at_safe_point(record)
        if safe and self._untold is not None:
            untold, self._untold = self._untold, None
            record.owing = False
            record.refresh()
            raise untold
        if self._gone and statement.reads:
            self._refuse_stale_reads(record, statement)
        while True:
            now = clock()
            idle = now - record.contact
            verdict = decide(
                Facts(
                    safe=safe,
                    unread=record.unread not in (None, cursor),
                    pinned=record.pins.pinned,
                    reads_state=bool(statement.reads),
                    lost=record.lost,
                    interrupted=record.interrupted,
                    wrong_node=record.wrong_node,
                    unit_begins=record.unit_begins,
                    idle=idle,
                    age=now - record.opened,
                    idle_limit=record.idle_limit,
                    max_age=record.max_age,
                    ping_after=record.options.ping_after,
                    limit_unread=record.limit_unread,
                    closed=lambda: bool(record.hung_up()),
                )
            )
            if verdict.action is Action.RECYCLE:
                self._replace(verdict.reason)
                return 0.0
            if verdict.action is Action.STATE_LOST:
                record.mark_lost(verdict.reason)
                raise self._state_lost(record, idle, statement)
            if verdict.action is Action.INTERRUPTED:
                raise _interrupted(record)
            if verdict.action is Action.RUN:
                if safe and record.unit_begins:
                    record.unit_begins = False
                    record.refresh()
                return idle
            # Either the connection has talked to the server now, or it is marked lost.
            self._probe(record, read_limit=verdict.action is Action.READ_LIMIT)

    def _refuse_stale_reads(self, record: ConnectionRecord, statement: Statement) -> None:
        """A new connection would answer 0 or NULL to what an earlier one was told."""
        for read in statement.reads:
            last_id = read.lower() in ("last_insert_id()", "@@last_insert_id", "@@identity")
            if (last_id and "LAST_INSERT_ID()" in self._gone and not record.inserted) or (
                read.startswith("@_") and "@_" in self._gone
            ):
                raise SessionStateLost(
                    2006,
                    f"{read} was left in a connection that has been replaced since; "
                    f"the connection of {self.alias!r} has no answer to it",
                )

    def _probe(self, record: ConnectionRecord, *, read_limit: bool) -> None:
        """One bounded round trip of the backend's own."""
        try:
            if not read_limit:
                self._ask(record, b"DO 0")
                return
            rows = self._ask(record, b"SELECT @@SESSION.wait_timeout")
            seconds = float(rows[0][0])
            if not seconds > 0:
                raise ValueError
            record.set_wait_timeout(seconds)
        except _NoAnswer:
            pass
        except (self.Database.Error, ValueError, TypeError, IndexError, KeyError):
            if record.gone or not read_limit:
                return  # marked, or answered with an error: alive
            record.set_wait_timeout(None)
            if not self._limit_refused:
                self._limit_refused = True
                events.limit_unknown(self.alias)

    def _ask(self, record: ConnectionRecord, sql: bytes) -> tuple[Any, ...]:
        timeout = record.options.ping_timeout
        try:
            driver.send(record.connection, sql)
            if not liveness.wait_until_readable(record.descriptor, timeout):
                record.mark_interrupted()
                # Not mark_lost(): the descriptor is still ours to detach.
                record.lost = "no answer"
                record.refresh()
                raise _NoAnswer
            rows = driver.receive(record.connection)
        except self.Database.Error as error:
            dirty = record.dirty
            self._take_note(record, error)
            record.dirty = dirty
            if not record.gone:
                record.contact = clock()
            raise
        except _NoAnswer:
            raise
        except BaseException:
            record.mark_interrupted()
            raise
        record.contact = clock()
        return rows

    def _replace(self, reason: str) -> None:
        """Close the connection and open a new one, at a safe point."""
        record = self._record
        now = clock()
        if record.inserted:
            self._gone.add("LAST_INSERT_ID()")
        if record.arguments_left:
            self._gone.add("@_")
        if self._carried is None:
            self._carried = _Carried(
                self.autocommit, self.run_on_commit, self.run_commit_hooks_on_set_autocommit_on
            )
        self.connection = None
        self._release(record)
        with self.wrap_database_errors:
            self.connect()
        events.recycled(
            self,
            reason=reason,
            age=now - record.opened,
            idle=now - record.contact,
            idle_limit=record.idle_limit,
            max_age=record.max_age,
        )

    def _release(self, record: ConnectionRecord) -> None:
        """Close a connection, politely if the server may still be listening."""
        if record.gone:
            self._abandon(record)
            return
        try:
            record.connection.close()
        except self.Database.Error:
            pass  # it was closed already, which is all that is wanted
        record.forget_descriptor()

    def _abandon(self, record: Any) -> None:
        """Close a connection without another command: nobody listens, or not to that."""
        liveness.detach(record.descriptor, record.socket)
        driver.abandon(record.connection)
        record.forget_descriptor()

    def _state_lost(
        self,
        record: ConnectionRecord,
        idle: float,
        statement: Statement | None = None,
        *,
        raised: bool = True,
    ) -> SessionStateLost:
        """The error for the loss of session state, which is told once."""
        now = clock()
        kinds = record.pins.kinds()
        description = record.pins.describe(now)
        if not kinds and statement is not None:
            kinds = tuple(statement.reads)
            description = "what an earlier statement left for " + ", ".join(kinds)
        reason = record.gone
        record.pins = type(record.pins)()
        record.refresh()
        events.state_lost(
            self,
            reason=reason,
            age=now - record.opened,
            idle=idle,
            state=kinds,
            description=description,
            raised=raised,
        )
        return SessionStateLost(
            record.lost_code or 2006,
            f"the connection of {self.alias!r} is gone ({reason}, idle {idle:.1f} s) "
            f"and session state with it: {description}",
        )

    # ##### Transactions #####

    def get_autocommit(self) -> bool:
        # With autocommit off atomic() enters through here and a savepoint.
        autocommit = super().get_autocommit()
        if not autocommit and not (self.in_atomic_block or self._connecting or self._at_boundary):
            self._current_record()
            self._decide(PLAIN)
        return bool(self.autocommit)

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        # Django runs the on_commit hooks at the end of this. An interruption in between must
        # not cost an acknowledged COMMIT its hooks.
        if self._connecting and self._carried is not None:
            # Django's would log it as the application's.
            self._set_autocommit(autocommit)
            self.autocommit = autocommit
            return
        try:
            super().set_autocommit(autocommit, *args, **kwargs)
        except BaseException:
            if self.autocommit and autocommit and self._record.interrupted_leaving:
                self._record.interrupted_leaving = False
                if self.run_commit_hooks_on_set_autocommit_on:
                    self.run_commit_hooks_on_set_autocommit_on = False
                    self.run_and_clear_commit_hooks()
            raise

    def _set_autocommit(self, autocommit: bool) -> None:
        record = None if self._connecting else self._current_record()
        if record is None:
            super()._set_autocommit(autocommit)
        elif autocommit:
            self._leave(record)
        else:
            self._enter()

    def _enter(self) -> None:
        """Enter a transaction: nothing has been done yet, so a loss here is repeated."""
        idle = self._decide(PLAIN)
        record = self._record
        safe = self._at_safe_point(record)
        try:
            super()._set_autocommit(False)
        except BaseException as error:
            proof = self._take_note(record, error)
            record.dirty = not safe
            if not safe or not record.lost:
                raise
            if record.pins.pinned:
                raise self._state_lost(record, idle) from error
            if proof is Proof.PROTOCOL:
                raise
            events.repeated(self, reason=record.lost, age=clock() - record.opened, idle=idle)
            self._replace(record.lost)
            record = self._record
            try:
                super()._set_autocommit(False)
            except BaseException as second:
                self._take_note(record, second)
                record.dirty = False
                raise
        record.contact = clock()
        if safe:
            record.dirty = False

    def _leave(self, record: ConnectionRecord) -> None:
        """Leave a transaction. No decision point: the answer may be a COMMIT's."""
        clean = not record.dirty
        if record.gone and clean:
            # COMMIT or ROLLBACK has been acknowledged, or the server rolls back by itself. The
            # next connection has autocommit on; reconnecting now to say so might fail.
            return
        if record.interrupted:
            raise _interrupted(record)
        try:
            super()._set_autocommit(True)
        except BaseException as error:
            self._take_note(record, error)
            record.dirty = not clean
            if clean and record.lost:
                return
            if clean and record.interrupted:
                self.autocommit = True  # as the next connection will have it
                record.interrupted_leaving = True
            raise
        record.contact = clock()
        record.transaction_ended()

    def _commit(self) -> None:
        # Never repeated: an error proves nothing about what the server did.
        record = None if self._connecting else self._current_record()
        if record is None:
            super()._commit()
            return
        if record.interrupted:
            raise _interrupted(record)
        try:
            super()._commit()
        except BaseException as error:
            self._take_note(record, error)
            raise
        record.contact = clock()
        record.transaction_ended()

    def _rollback(self) -> None:
        # Django's raises if the connection is lost, which would mask the application's own
        # exception. A lost connection is as good as a ROLLBACK: the server does it.
        record = None if self._connecting else self._current_record()
        if record is None:
            super()._rollback()
            return
        if not record.gone:
            try:
                super()._rollback()
            except BaseException as error:
                self._take_note(record, error)
                if not record.lost:
                    raise
            else:
                record.contact = clock()
        if record.gone:
            # Now, not at the next statement: its locks are to go.
            self._abandon(record)
        record.transaction_ended()

    # ##### Django's own checks, closing #####

    def is_usable(self) -> bool:
        # Django's ping waits for ever on a silent path.
        record = self._current_record()
        if record is None or record.gone:
            return False
        if record.unread is not None:
            return True  # a ping would fail or destroy the rows
        try:
            self._ask(record, b"DO 0")
        except (_NoAnswer, self.Database.Error):
            return not (record.gone or record.wrong_node)
        return True

    def close_if_health_check_failed(self) -> None:
        # Called for every cursor and at both ends of a transaction; Django's condition first.
        if self.connection is None or not self.health_check_enabled or self.health_check_done:
            return
        record = self._current_record()
        if record is None or self.in_atomic_block or record.executing:
            return
        if not self.autocommit and (record.dirty or self.settings_dict["AUTOCOMMIT"]):
            return  # inside a transaction, or leaving one
        was, self._at_boundary = self._at_boundary, True
        try:
            super().close_if_health_check_failed()
        finally:
            self._at_boundary = was

    def close_if_unusable_or_obsolete(self) -> None:
        # The boundary of a unit of work.
        was, self._at_boundary = self._at_boundary, True
        try:
            super().close_if_unusable_or_obsolete()
        finally:
            self._at_boundary = was
        record = self._record
        if self.connection is not None and record.connection is self.connection:
            if not self.in_atomic_block:
                record.pins.end_unit_of_work()
                record.unit_begins = True
                record.refresh()
                self._gone.clear()

    def close(self) -> None:
        record = self._record
        mine = record is not NO_RECORD and record.connection is self.connection
        if mine and record.pid != getpid():
            self.forget_parent()
            return
        pinned = mine and record.pins.pinned
        if pinned and not record.gone and record.unread is None and record.hung_up():
            record.mark_lost("closed")
        super().close()
        self._carried = None  # closed by the application: the next connection starts as new
        if not mine:
            return
        if pinned and record.gone:
            idle = clock() - record.contact
            error = self._state_lost(record, idle, raised=not self._at_boundary)
            # Django's own check at a boundary has done what it does on the stock backend, and
            # a WARNING tells it. Otherwise the next statement does.
            if not self._at_boundary:
                self._untold = error
        else:
            record.pins = type(record.pins)()

    def _close(self) -> None:
        record = self._record
        if record.connection is not self.connection or record is NO_RECORD:
            super()._close()
        elif record.gone:
            self._abandon(record)
        else:
            super()._close()
            record.forget_descriptor()

    def forget_parent(self) -> None:
        """After a fork, in the child: the connection belongs to the parent."""
        record = self._record
        if record is NO_RECORD or record.pid == getpid():
            return
        liveness.detach(record.descriptor, record.socket)
        processes.leave(record.connection)
        processes.leave(self.connection)
        self._record = NO_RECORD
        self._untold = None
        self._gone = set()
        self.run_on_commit = []
        self.run_commit_hooks_on_set_autocommit_on = False
        self._connecting = False
        self._carried = None
        if self.connection is None:
            return
        self.connection = None
        if self.in_atomic_block:
            # As after close() in a block: its statements raise until it is left.
            self.closed_in_transaction = True
            self.needs_rollback = True
        else:
            self._carried = _Carried(self.autocommit, [], False)

    def hold_session(self, reason: str) -> Callable[[], None]:
        """Pin by hand (see pinning.py). Returns the function that ends it."""
        self.ensure_connection()
        record = self._current_record()
        token = record.pins.hold(reason, clock())
        record.refresh()

        def release() -> None:
            record.pins.release(token)
            record.refresh()

        return release


def _interrupted(record: ConnectionRecord) -> OperationalError:
    return OperationalError(
        record.lost_code or 2013,
        "an earlier statement of this transaction was cut short; the next answer might be its. "
        "Leave the transaction: the connection is closed then",
    )


def _error_of_rows(error: BaseException) -> bool:
    """Whether the exception came out of an application's iterator of rows (cursors._Rows)."""
    from .cursors import _Rows

    trace = error.__traceback__
    while trace is not None:
        rows = trace.tb_frame.f_locals.get("self")
        if isinstance(rows, _Rows) and rows.error is error:
            return True
        trace = trace.tb_next
    return False


class DatabaseWrapper(RecycleMixin, MySQLDatabaseWrapper):
    """Django's MySQL backend with RecycleMixin in front of it."""

    validation_class = DatabaseValidation
