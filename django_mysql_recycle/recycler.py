"""What happens around a statement: run it, and act on what its success or its error proves.

One `Recycler` belongs to each connection wrapper; base.py, transactions.py and the cursor call
it at the seams. What is decided before a statement is in decider.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from django.db.transaction import TransactionManagementError

from . import events
from .cursors import RecyclingCursor, StreamingCursor, only_value
from .decider import Decider
from .drivers import Exchange
from .errors import Proof, code_of, may_roll_back
from .keeper import CLOSED, NO_RECORD, NoAnswer, Owed
from .lifecycle import REST
from .liveness import clock
from .record import ConnectionRecord
from .session_state import PLAIN, Kind, Statement, begins_of, examine, transactions_only
from .session_state.effects import commits, may_touch_tables, rolls_back

__all__ = ["Recycler"]

T = TypeVar("T")

BEGUN = examine("BEGIN")


def _may_write(statement: Statement, cursor: RecyclingCursor) -> bool:
    """Whether a transaction may have written by it. What ends or divides one writes nothing."""
    if statement.leaves or not statement.single:
        return True
    quiet = not statement.repeatable or statement.enters_transaction
    return not quiet and getattr(cursor, "description", None) is None


class Recycler(Decider):
    """Runs the statements of one connection wrapper."""

    # ##### The statement #####

    def run(
        self,
        cursor: RecyclingCursor,
        statement: Statement,
        args: Any,
        call: Callable[[], T],
        *,
        many: bool = False,
        arguments: str = "",
        again: bool = False,
        sql: Any = None,
    ) -> T:
        """Run `call`, which executes on what is inside `cursor`, with everything that takes.

        `many`: the driver makes several statements of it, so it is never repeated. `again`: this
        is the repetition, and there is no second one. `sql`: the text, as far as there is one.
        """
        if self.connecting and self.is_connecting():
            cursor.bring_up_to_date()
            return call()
        if statement.sends_file:
            call = partial(self._with_patience, statement, call)
        record = self.current()
        if record is None:
            self.db.ensure_connection()
            record = self.record
        self.refuse_in_the_middle(record)
        if statement.changes and not record.options.pin_session_state:
            statement = transactions_only(statement)
        if record.unread is cursor and not record.gone:
            self._discard_leftovers(cursor, record)
        if record.rolled_back is not None:
            self._after_rollback(record, statement, sql)
        idle = self.decide(statement, cursor)
        cursor.bring_up_to_date()
        record = self.record
        safe = self.is_safe(record) and not self._somebody_reads(record, cursor)
        executing = record.executing if record.is_executing() else None
        exchange = record.exchange
        cursors = exchange.cursors
        try:
            record.executing = sys._getframe()
            record.refresh()
            result = call()
            exchange.under_way = False
            exchange.cursors = cursors  # `call` may be several statements to the driver
            if self.is_in_use(record):  # a signal handler or a lazy row may have closed it
                if not record.touched:
                    db: Any = self._db()
                    if db.in_atomic_block or not db.autocommit:
                        record.touched = may_touch_tables(sql)
                self._succeeded(record, statement, args, cursor, many, arguments)
                if record.pins.doubtful and executing is None:
                    self.ask_locks(record, None)
        except BaseException as error:
            repeat = self.failed(
                record, error, statement, args, idle, safe=safe, many=many, again=again, sql=sql
            )
            if not repeat:
                raise
        else:
            return result
        finally:
            record.executing = executing
            record.refresh()
        return self.run(cursor, statement, args, call, again=True, sql=sql)

    def _with_patience(self, statement: Statement, call: Callable[[], T]) -> T:
        """Run a statement during which the server may take no data for a long time.

        It may be waiting for a row lock in the middle of the client's file. To the kernel the data
        that was sent stays unacknowledged.
        """
        record = self.record
        record.lift_network_timeout()
        try:
            result = call()
        except BaseException:
            record.restore_network_timeout()
            raise
        if statement.single:
            record.restore_network_timeout()
        # Else nextset() may send the file: the limit is restored after the last result.
        return result

    def _succeeded(
        self,
        record: ConnectionRecord,
        statement: Statement,
        args: Any,
        cursor: RecyclingCursor,
        many: bool,
        arguments: str,
    ) -> None:
        now = clock()
        record.ran(statement, now)
        ends = statement.ends_transaction and statement.single
        begins = statement.calls or not statement.single  # a transaction, maybe, without a sign
        if ends and not any(not change.ends for change in statement.changes):
            record.dirty = record.touched = False
        elif begins or not self.db.autocommit:
            record.dirty = True
        if arguments:
            record.left_arguments(arguments)
        if self.unanswerable:
            rows = not statement.asks_only and getattr(cursor, "description", None) is not None
            self.note_answers(rows=rows, arguments=arguments)
        if statement.read_only:
            record.read_only_declared = True
        if statement.mentions_wait_timeout:
            record.set_wait_timeout(None, unread=True)
        record.pins_after = None
        if self.refused is not None and statement.selects_database:
            self.refused = None
            self.settle()
        if self.owed is not None and not self.is_telling():
            self._pay(self.owed, statement, args, many)
        if statement is not PLAIN:
            self._apply(record, statement, args, cursor, many, now)
        if record.pins.pinned and _may_write(statement, cursor):
            record.pins.written()
        if record.flags_unknown and cursor.description is None:
            record.flags_unknown = False
            self.look_at_status(record)
        self.note_unread(cursor, doubtful=statement.calls or not statement.single, executed=True)

    def _pay(self, owed: Owed, statement: Statement, args: Any, many: bool) -> None:
        """A statement has set lost state again."""
        if any(change.kind is Kind.DEFAULT_DATABASE for change in statement.changes):
            owed.pins.another_database()
        # Of several statements the driver has read the first result; what follows may still fail.
        owed.later = PLAIN if statement.single else statement
        if statement.single and (not many or (isinstance(args, (list, tuple)) and args)):
            owed.pay(statement)
            self.settle_owed()

    def _apply(
        self,
        record: ConnectionRecord,
        statement: Statement,
        args: Any,
        cursor: RecyclingCursor,
        many: bool,
        now: float,
    ) -> None:
        """Keep account of the session state that a statement has begun or ended."""
        pins = record.pins
        if many:
            # Whatever a row has ended, the next one may have begun again.
            begins = begins_of(statement.changes)
            if begins:
                beginning = replace(statement, changes=begins)
                for row in args if isinstance(args, (list, tuple)) else [None]:
                    pins.apply(beginning, row, now)
        elif not statement.single:
            # The driver has read the first result; what follows may still fail.
            record.pins_after = pins.copy()
            record.pins_after.apply(statement, args, now)
            pins.apply_begins(statement, args, now)
        else:
            answer = cursor.only_value() if statement.lone_lock_call else ...
            if answer is ...:
                pins.apply(statement, args, now)
            else:
                pins.answer(statement, args, answer, now)
        if statement.sets_sql_mode:
            record.read_again()
        if (
            statement.sets_autocommit
            or statement.sets_sql_mode
            or statement.calls
            or not statement.single
        ):
            self.look_at_status(record)

    def ran_directly(
        self, exchange: Exchange, sql: str | bytes | bytearray, args: Any, cursor: Any
    ) -> bool:
        """The application has run a statement past Django's cursors, by an object of the driver's.

        `cursor` is the driver's, or None for a method of its connection. Returns whether a
        transaction is open that SQL has begun.
        """
        record = self.record
        if self.is_connecting() or record.exchange is not exchange or not self.is_in_use(record):
            return False
        statement = examine(sql, record.reading)
        if statement.changes and not record.options.pin_session_state:
            statement = transactions_only(statement)
        now = clock()
        record.ran(statement, now)
        record.dirty = record.dirty or not self.db.autocommit
        if statement.mentions_wait_timeout:
            record.set_wait_timeout(None, unread=True)
        if not statement.single:
            record.pins.apply_begins(statement, args, now)  # the rest may still fail
        elif statement is not PLAIN:
            asked = statement.lone_lock_call and not isinstance(cursor, self.driver.unbuffered)
            answer = only_value(cursor) if asked else ...
            if answer is ...:
                record.pins.apply(statement, args, now)
            else:
                record.pins.answer(statement, args, answer, now)
        if record.pins.pinned and _may_write(statement, cursor):
            record.pins.written()
        if statement.sets_sql_mode:
            record.read_again()
        if (
            statement.sets_autocommit
            or statement.sets_sql_mode
            or statement.calls
            or not statement.single
        ):
            self.look_at_status(record)
        record.refresh()
        return bool(record.pins.in_transaction)

    def hold_directly(self, exchange: Exchange, reason: str) -> None:
        """The application has made the session another one, for as long as it lives."""
        record = self.record
        if record.exchange is exchange and not self.is_connecting():
            record.pins.hold(reason, clock())
            record.refresh()

    def look_at_status(self, record: ConnectionRecord) -> None:
        """See what no text shows: autocommit switched off, a transaction left open, the sql_mode.

        Both drivers keep the server's status flags: no round trip.
        """
        now = clock()
        off = self.db.autocommit and not record.connection.get_autocommit()
        record.pins.autocommit_seen(off, now)
        if self.db.autocommit and self.driver.in_transaction(record.connection):
            record.pins.apply(BEGUN, None, now)
        record.reads_literals(escapes=self.driver.escapes(record.connection))

    def failed(
        self,
        record: ConnectionRecord,
        error: BaseException,
        statement: Statement,
        args: Any,
        idle: float,
        *,
        safe: bool,
        many: bool = False,
        again: bool = False,
        sql: Any = None,
    ) -> bool:
        """Act on what the error proves. True: there is a new connection, run it once more."""
        proof = self.take_note(record, error, of_a_cursor=True)
        if proof is Proof.ALIVE:
            if self.unanswerable and code_of(error) is not None:
                self.note_answers()
            if statement.changes:
                # INSERT ... SELECT GET_LOCK() that meets a duplicate key keeps the lock.
                record.pins.apply_begins(statement, args, clock(), many=many)
            if statement.calls or not statement.single:
                record.flags_unknown = record.dirty = True
            record.refresh()
            if not (statement.lone_lock_call or commits(sql)):
                self.look_for_rollback(record, error)
            if not record.touched and (self.db.in_atomic_block or not self.db.autocommit):
                record.touched = may_touch_tables(sql)
            return False
        if not proof.is_loss:
            return False
        # BEGIN has done nothing yet, whether it ran or not.
        entering = statement.enters_transaction and proof is not Proof.PROTOCOL
        never_ran = proof is Proof.NEVER_RAN
        repeatable = statement.repeatable and not (many or again) and (never_ran or entering)
        if not safe or not self.is_in_use(record):
            # Closed while the statement ran, by a signal handler or a lazy parameter: 2006 may
            # speak of the closing alone, and the statement may have run.
            return False
        self.look_for_autocommit(record)
        # Without a rest before it, 2006 may be the server's answer to the statement: one
        # that is longer than max_allowed_packet.
        repeatable = repeatable and (idle >= REST or entering)
        carried = record.pins.settable
        set_again = repeatable and carried is not None and statement.may_set_again(carried)
        if (record.pins.pinned and not set_again) or any(map(record.has_left, statement.reads)):
            raise self.state_lost(record, idle, statement) from error
        if repeatable:
            self.repeat(record, idle)
        return repeatable

    def repeat(self, record: ConnectionRecord, idle: float) -> None:
        """Announce the repetition and make sure there is a connection for it."""
        age = clock() - record.opened
        events.repeated(self.db, reason=record.gone, age=age, idle=idle)
        if self.is_in_use(record):
            self.replace(record.gone)
        else:  # a receiver has closed it, or run something, for which it was replaced
            self.db.ensure_connection()

    def guard(self, record: Any, call: Callable[[], T]) -> T:
        """Fetching and closing: they talk to the server in the middle of a result."""
        if record is NO_RECORD:
            return call()
        self.refuse_in_the_middle(record)
        try:
            record.exchange.under_way = True
            result = call()
        except BaseException as error:
            self.take_note(record, error, ran=False)
            self.look_for_rollback(record, error)
            raise
        record.exchange.under_way = False
        record.contact = clock()
        return result

    # ##### A transaction that the server has rolled back #####

    def look_for_rollback(self, record: ConnectionRecord, error: BaseException) -> None:
        """Ask whether the transaction still exists, after an error that may have ended it.

        If the application catches such an error, the second half would be committed alone.
        """
        if not may_roll_back(error):
            return
        db = self.db
        begun = record.pins.has(Kind.TRANSACTION)
        if (
            not (db.in_atomic_block or not db.autocommit or begun)
            or not (record.touched or begun)
            or record.gone
            or record.rolled_back is not None
            or not self.is_in_use(record)
            or not self._no_transaction_is_open(record)
        ):
            return
        record.mark_rolled_back(error)
        events.rolled_back(db.alias, code_of(error))
        if db.in_atomic_block:
            db.needs_rollback = True
            db.rollback_exc = error

    def _no_transaction_is_open(self, record: ConnectionRecord) -> bool:
        """Whether the server says so. In doubt it does not."""
        try:
            # Refused with 1568 while a transaction is open. Needs no privilege.
            self.ask(record, b"SET TRANSACTION READ WRITE")
            # The mode that was just set for the next transaction goes with it. Refused inside an
            # XA transaction, of which the server itself admits nothing but its end.
            self.ask(record, b"ROLLBACK AND NO CHAIN NO RELEASE")
        except (NoAnswer, self.db.Database.Error):
            return False
        return True

    def _after_rollback(self, record: ConnectionRecord, statement: Statement, sql: Any) -> None:
        """Before a statement that the application takes for one of the same transaction."""
        db = self.db
        if rolls_back(sql) or (statement.enters_transaction and not record.ran_since):
            record.forget_rollback()
            return
        committing = commits(sql) or statement.sets_autocommit or statement.enters_transaction
        if committing or (db.autocommit and not db.in_atomic_block):
            # Begun by SQL, each further statement would be committed by itself.
            raise self.half_refused(record)
        record.ran_since = True

    def half_refused(self, record: ConnectionRecord) -> TransactionManagementError:
        """Undo what ran after the server's rollback. The error for it, which is raised once."""
        db, cause = self.db, record.rolled_back
        if db.in_atomic_block:
            db.needs_rollback = True
            db.rollback_exc = cause
        elif db.autocommit:
            record.forget_rollback()
        else:
            db.rollback()
        error = TransactionManagementError(
            f"the server rolled back the whole transaction of {db.alias!r} when it raised error "
            f"{code_of(cause) if cause else None}; what ran after the error is not committed "
            "without what ran before it. Run the whole transaction again"
        )
        error.__cause__ = cause
        return error

    # ##### Unread results #####

    def note_unread(
        self,
        cursor: RecyclingCursor,
        *,
        doubtful: bool = False,
        rows_read: bool = False,
        executed: bool = False,
    ) -> None:
        """Keep the books: does `cursor` leave anything at the server?

        `executed`: a statement has just run, so that whatever another cursor had left is gone.
        """
        record = self.record
        if record.connection is CLOSED:
            return
        if not record.gone:
            rows = (
                isinstance(cursor, StreamingCursor)
                and not rows_read
                and getattr(cursor, "description", None) is not None
            )
            more = rows or self.driver.has_more_results(
                record.connection, cursor, doubtful=doubtful
            )
            if not (more or executed) and record.unread not in (None, cursor):
                return
            if not more and record.pins_after is not None:
                # Every statement of the text has run.
                record.pins, record.pins_after = record.pins_after, None
                if self.owed is not None:
                    self.owed.pay(self.owed.later)
                    self.settle_owed()
            if record.may_be_unread:
                # What ran behind the first result may have switched autocommit off.
                self.look_at_status(record)
            record.unread = cursor if more else None
            return
        record.unread = None

    def _discard_leftovers(self, cursor: RecyclingCursor, record: ConnectionRecord) -> None:
        try:
            self.guard(record, cursor.discard_leftovers)
            self.note_unread(cursor, rows_read=True)
        except self.db.Database.Error:
            # The application gives these rows up; if their connection is lost, it is replaced.
            record.unread = None
            if not record.gone:
                raise

    # ##### Held past the max age #####

    def held_past(self, close_at: float) -> tuple[str, ...]:
        """The kinds of state for which Django's check shall not close the connection for its age.

        `close_at`: when it is too old, by Django's clock. Empty: Django decides as ever.
        """
        record, db = self.record, self.db
        if (
            not self.is_in_use(record)
            or not record.pins.pinned
            or monotonic() < close_at
            or db.in_atomic_block
            or db.max_age.closes_at_boundary
            or record.gone
            or (not record.may_be_unread and record.is_closed())
        ):
            return ()
        self.confirm_transaction(record)
        kinds: tuple[str, ...] = record.pins.held
        return kinds

    def confirm_transaction(self, record: ConnectionRecord) -> None:
        """Before a boundary ends a transaction of SQL: ask the server whether it is still open.

        A text does not show whether its statement commits implicitly.
        """
        if record.gone or record.may_be_unread or not record.pins.in_transaction:
            return
        if self._no_transaction_is_open(record):
            record.pins.transaction_ended()
            record.refresh()

    # ##### Pins by hand #####

    def hold(self, reason: str) -> Callable[[], None]:
        """Pin by hand (see pinning.py). Returns the function that ends it."""
        if self.current() is None:
            self.db.ensure_connection()
        self.decide()  # a connection that is stale already carries nothing to hold
        record = self.record
        now = clock()
        token = record.pins.hold(reason, now)
        if record.pins_after is not None:
            record.pins_after.hold(reason, now, token)
        record.refresh()

        def release() -> None:
            record.pins.release(token)
            if record.pins_after is not None:
                record.pins_after.release(token)
            record.refresh()

        return release
