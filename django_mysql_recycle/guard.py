"""The guard of one connection wrapper: it decides, runs, and acts on what that proves.

policy.py says what to do, connection.py what is known of the connection, losses.py what is still
to be reported, replacement.py how a connection is replaced. Nothing else acts.
"""

from __future__ import annotations

import _thread
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db import connections
from django.db.utils import OperationalError

from . import events, pooling, processes, questions, rollbacks, switchover, what_ran
from .calls import Calls, is_in_a_statement
from .connection import CLOSED, NO_CONNECTION, Condition, PhysicalConnection
from .drivers import ANSWERED, Driver, DriverConnection, Exchange, only_value, refuse
from .errors import Proof, code_of
from .liveness import clock
from .losses import Ending, Losses
from .options import NO_MAX_AGE, Options, max_age_of
from .policy import REST, Action, Facts, decide
from .pooled import PooledConnection
from .replacement import Replacement, WrapperState
from .session_state import PLAIN, Statement, examine, transactions_only
from .session_state.effects import changes_rows_only, commits, may_touch_tables, may_write

if TYPE_CHECKING:
    from .cursors import RecyclingCursor
    from .ledger import Ledger
    from .pool import Lease
    from .retrying import Journal
    from .wrapper import Wrapper

__all__ = ["Guard", "guard_of", "interrupted", "wrapper_of"]

T = TypeVar("T")

#: Replacements for one statement. One is enough unless receivers lose the new connection.
_MOST = 3

#: What is decided for where there is no statement.
_NOTHING = Statement()


class Guard:
    """Stands between the statements of one wrapper and its connection.

    It owns what belongs to the wrapper: which connection is in use, what the next one takes over,
    and the losses that are still to be reported.
    """

    def __init__(self, wrapper: Wrapper, driver: Driver) -> None:
        #: Weak: a wrapper, and the connection of a thread that has ended, goes with its last
        #: reference and does not wait for the garbage collector.
        self.wrapper = cast("Callable[[], Wrapper]", weakref.ref(wrapper))
        self.driver = driver
        #: The connection in use, as far as it came from connect().
        self.connection: PhysicalConnection = NO_CONNECTION
        self.calls = Calls()
        self.losses = Losses(self.wrapper, self.calls)
        self.replacement = Replacement(self.wrapper, self.calls)
        #: How old the connection in use may become, as the settings said when it was opened.
        self.max_age = NO_MAX_AGE
        #: Autocommit was last switched off by Atomic, which switches it on again.
        self.off_for_atomic = False
        #: What the transaction has done that run_transaction() may have to run again.
        self.journal: Journal | None = None
        #: The connection that is being opened is for asking its node, and not for use.
        self.probing = False
        #: The borrowing of the connection in use, if it belongs to a pool.
        self.lease: Lease | None = None
        #: A transaction has begun where the lease was held already: in the middle of a statement.
        self.in_a_lease = False
        #: Blocks of pinned() that have not ended.
        self.held_by_hand = 0
        processes.track(self)

    def __del__(self) -> None:
        # Of a thread that has ended without closing its connection.
        lease, connection = self.lease, self.connection
        if lease is not None:
            # A former holder that rests may still refer to the driver's connection.
            if connection.lease is lease and connection.was_called_in:
                lease.leave(connection)

    # ##### The connection in use #####

    def current(self) -> PhysicalConnection | None:
        """The connection in use, or None if there is none."""
        if not processes.mark[0]:
            processes.look()
        wrapper, connection = self.wrapper(), self.connection
        if connection.raw is wrapper.connection:
            return connection
        if wrapper.connection is None:
            return None
        # It was put there without connect().
        if connection is not NO_CONNECTION:
            connection.discarded()  # no cursor that was made with it may take it for ready
        connection = PhysicalConnection(self.driver, wrapper.connection, self.options())
        connection.exchange.wrapper = self.wrapper
        connection.exchange.plain = False
        self.connection = connection
        self.losses.watch()
        return connection

    def to_send(self) -> PhysicalConnection | None:
        """The connection in use, on which nothing is under way. None: Django is connecting."""
        connection = self.connection
        if (
            self.calls.connecting is not None
            or connection.raw is not self.wrapper().connection
            or not processes.mark[0]
        ):
            found = None if self.calls.is_connecting() else self.current()
            if found is None:
                return None
            connection = found
        if connection.exchange.under_way:
            self.refuse_in_the_middle(connection)
        if connection.lease is not None and not connection.lease.claim():
            pooling.called_in(self.wrapper())
            self.wrapper().ensure_connection()
            return self.to_send()
        return connection

    @property
    def takes_over(self) -> bool:
        """Django's connect() is under way, with a connection that the pool had."""
        connection = self.connection
        return self.lease is not None and connection.lease is self.lease and connection.was_used

    def left_transaction(self) -> None:
        """Autocommit is on again."""
        if self.lease is not None and not (self.in_a_lease and is_in_a_statement()):
            self.rest()

    def rest(self) -> None:
        """Between two statements: let a waiting borrower of the pool take the connection."""
        lease, connection = self.lease, self.connection
        if (
            lease is not None
            and connection.lease is lease
            and self.wrapper().autocommit
            and self.is_safe(connection)
            and not connection.ledger.pins.pinned
            and not connection.ledger.may_be_pending
        ):
            lease.rest()

    def options(self) -> Options:
        """The settings, for a connection that was not opened by get_new_connection()."""
        settings = self.wrapper().settings_dict
        return Options.of(self.wrapper().alias, settings).within(settings["OPTIONS"])

    def adopt(
        self, raw: DriverConnection, options: Options, opened_in: str | None = None
    ) -> PhysicalConnection:
        """What is known from now on of a connection that the driver has opened.

        `opened_in`: its default database, if connecting selects no other.
        """
        wrapper = self.wrapper()
        connecting = self.calls.is_connecting()
        limit = self.max_age if connecting else max_age_of(wrapper.alias, wrapper.settings_dict)
        max_age = limit.drawn(options.jitter)
        if connecting and self.lease is not None:
            connection: PhysicalConnection = PooledConnection(
                self.driver, raw, options, max_age, opened_in, lease=self.lease
            )
            self.lease.use(connection)
        else:
            connection = PhysicalConnection(self.driver, raw, options, max_age, opened_in)
        connection.exchange.wrapper = self.wrapper
        if connecting:  # else it is one of the application's own, beside the one in use
            self.connection = self.replacement.made = connection
            # Django's check goes by it. Django itself has computed it from CONN_MAX_AGE alone.
            age = limit.at_boundary
            wrapper.close_at = None if age is None else monotonic() + age
        return connection

    def is_in_use(self, connection: PhysicalConnection) -> bool:
        return connection is self.connection and connection.raw is self.wrapper().connection

    def is_safe(self, connection: PhysicalConnection) -> bool:
        """Whether replacing the connection can lose nothing, pins and results aside."""
        wrapper = self.wrapper()
        return (
            not wrapper.in_atomic_block
            and (wrapper.autocommit or not connection.dirty)
            and not (connection.executing and connection.is_executing())
            and connection.rolled_back is None
            and not wrapper._thread_sharing_count
            and wrapper._thread_ident == _thread.get_ident()
        )

    def nothing_is_open(self, connection: PhysicalConnection) -> bool:
        """Whether it is proved that no transaction is open in which something has run.

        Both drivers keep what the server said last of autocommit, PyMySQL of transactions, too.
        """
        if (
            connection.dirty
            or connection.is_executing()
            or connection.status_unknown
            or connection.ledger.pins.pinned
        ):
            return False
        if not connection.usable:
            return True  # what the driver says of it dates from before the loss
        if self.driver.hides_transactions and connection.exchange.was_used_past:
            return False
        try:
            in_mode = bool(connection.raw.get_autocommit()) is self.wrapper().autocommit
        except self.driver.error:
            return False  # the application has closed it past Django
        return in_mode and not self.driver.in_transaction(connection.raw)

    # ##### A statement in the middle of another one #####

    def in_the_middle(self, connection: PhysicalConnection) -> bool:
        """Whether another statement is under way on the connection."""
        under_way = connection.exchange.under_way
        if not under_way:
            return False
        if under_way is ANSWERED:
            return connection.exchange.is_taking()
        if self.wrapper()._thread_sharing_count or is_in_a_statement():
            return True
        # An interruption has kept its end from being seen.
        connection.mark_interrupted()
        connection.mark_dirty()
        connection.exchange.settle()
        return False

    def refuse_in_the_middle(self, connection: PhysicalConnection) -> None:
        """Raise ProgrammingError if another statement is under way; nothing is touched then."""
        if connection.exchange.under_way and self.in_the_middle(connection):
            with self.wrapper().wrap_database_errors:
                raise refuse(connection.raw)

    # ##### Before a statement #####

    def decide_before_cursor(self) -> None:
        """Decide before the statement is known, for a backend that sets up each new connection.

        Such a backend looks at the connection when it makes a cursor: one that is replaced later,
        by the first statement of that cursor, would not be set up. Whatever depends on the
        statement is left to it.
        """
        connection, losses = self.current(), self.losses
        if connection is not None and connection.lease is not None:
            connection = self._possess(connection)
        if (
            connection is None
            or self.calls.is_connecting()
            or losses.pending_error is not None
            or losses.unset is not None
            or losses.refused is not None
            or self.in_the_middle(connection)
            or connection.ledger.pins.pinned
            or not self.is_safe(connection)
            or connection.has_pending_result()
        ):
            return
        ledger = connection.ledger
        if (
            not (ledger.left or ledger.arguments)
            or not connection.usable
            or connection.peer_closed()
        ):
            # Any statement leaves ROW_COUNT() and warnings, which a question would destroy.
            self.decide(asks=not connection.done)

    def decide(
        self,
        statement: Statement = _NOTHING,
        cursor: RecyclingCursor | None = None,
        *,
        asks: bool = True,
    ) -> float:
        """Do what the policy says. Returns the idle seconds of the connection that is left.

        Without a statement nothing is about to be sent but what begins a transaction. `asks`: the
        server may be asked something, which changes what the next statement reads.
        """
        connection = self.connection
        if connection.exchange.under_way and self.in_the_middle(connection):
            return 0.0  # in the middle of a statement nothing is asked or replaced
        safe = self.is_safe(connection)
        self._before_deciding(connection, statement, cursor, safe=safe)
        replacements = 0
        while True:
            now = clock()
            idle = now - connection.last_activity
            facts = self._facts(connection, statement, cursor, now, safe=safe)
            verdict = decide(facts)
            if verdict.action is Action.RUN:
                if facts.asks_earlier and not (facts.pending or connection.executing):
                    questions.reset_insert_id(connection, statement.reads)
                return idle
            if verdict.action is Action.RECYCLE:
                if (
                    not replacements
                    and connection.usable
                    and connection.look_for_autocommit(self.wrapper().autocommit)
                ):
                    continue  # it was switched off past the cursors
                # Receivers that have lost two are not called for the third.
                self.replace(verdict.reason, signal=replacements < 2)
                connection = self.connection
                replacements += 1
                if self.losses.refused is not None:
                    self.losses.raise_refused(None if statement is _NOTHING else statement)
                sound = connection.usable and not connection.wrong_node
                rested = clock() - connection.last_activity >= REST
                if sound and (not rested or replacements == _MOST):
                    return 0.0
                if replacements == _MOST:
                    raise OperationalError(
                        connection.code or 2006,
                        f"each new connection of {self.wrapper().alias!r} was lost "
                        f"({connection.reason or 'wrong node'}) before its first statement",
                    )
                # Receivers took their time, in which the server may have closed it again, or a
                # statement of theirs was interrupted.
                safe = self.is_safe(connection)
            elif verdict.action is Action.STATE_LOST:
                connection.mark_lost(verdict.reason)
                raise self.losses.state_lost(connection, idle, statement)
            elif verdict.action is Action.INTERRUPTED:
                raise interrupted(connection)
            elif not asks:
                return idle
            else:
                if verdict.action is Action.PING:
                    questions.ping(connection)
                elif not questions.read_limit(connection):
                    events.limit_unknown(self.wrapper().alias)
                if connection.usable and not connection.wrong_node:
                    return 0.0  # the server has answered just now

    def _before_deciding(
        self,
        connection: PhysicalConnection,
        statement: Statement,
        cursor: RecyclingCursor | None,
        *,
        safe: bool,
    ) -> None:
        """Raise what is still to be reported, and ask for what the ledger does not know."""
        wrapper, losses = self.wrapper(), self.losses
        if safe and self.off_for_atomic and not wrapper.autocommit:
            # An interruption has kept Atomic from entering its block, or from switching it on.
            wrapper.set_autocommit(True)
        if safe and losses.pending_error is not None:
            losses.raise_pending()
        if losses.refused is not None:
            losses.raise_refused(None if statement is _NOTHING else statement)
        unset = losses.unset
        if (
            unset is not None
            and not self.calls.is_notifying()
            and not statement.may_set_again(unset.keys)
        ):
            raise losses.unset_lost(unset)
        pins = connection.ledger.pins
        if safe and not statement.reads:
            if pins.pinned and pins.database_unknown:
                questions.ask_database(connection, cursor)
            if pins.doubtful:
                questions.ask_locks(connection, cursor)
        if losses.unanswerable and statement.reads:
            losses.raise_unanswerable(connection, statement, cursor)

    def _facts(
        self,
        connection: PhysicalConnection,
        statement: Statement,
        cursor: RecyclingCursor | None,
        now: float,
        *,
        safe: bool,
    ) -> Facts:
        pins = connection.ledger.pins
        sets = statement.only_sets or bool(statement.sets)
        settable = pins.settable if sets and pins.pinned else None
        return Facts(
            safe=safe,
            pending=connection.ledger.may_be_pending and connection.has_pending_result(cursor),
            pinned=pins.pinned and not (settable is not None and statement.sets_all(settable)),
            settable=settable is not None and statement.may_set_again(settable),
            reads_state=any(map(connection.has_left, statement.reads)),
            reason=connection.reason,
            interrupted=connection.condition is Condition.INTERRUPTED,
            wrong_node=connection.wrong_node and switchover.is_to_be_left(self, connection),
            unit_begins=connection.last_activity == connection.unit_ended_at,
            idle=now - connection.last_activity,
            age=now - connection.opened_at,
            idle_limit=connection.idle_limit,
            max_age=connection.max_age,
            ping_after=connection.options.ping_after,
            limit_unread=connection.limit_unread and now >= connection.limit_due,
            peer_closed=connection.peer_closed,
            asks_earlier=any(map(connection.may_have_from_earlier, statement.reads)),
            unknown_only=pins.pinned and pins.unknown_only,
        )

    def replace(self, reason: str, *, signal: bool = True) -> None:
        """Close the connection and open a new one through Django's connect(). At a safe point.

        `signal`: call the receivers; the log and the counters have it in any case.
        """
        ending = Ending.of(self.connection, reason, signal=signal)
        self.losses.connection_replaced(self.connection, ending)
        self.replacement.replace(self.connection, ending)

    # ##### The statement #####

    def run(
        self,
        cursor: RecyclingCursor,
        statement: Statement,
        args: object,
        call: Callable[[], T],
        *,
        many: bool = False,
        arguments: str = "",
        again: bool = False,
        sql: object = None,
    ) -> T:
        """Run `call`, which executes on what is inside `cursor`, with everything that takes.

        `many`: the driver makes several statements of it, so it is never repeated. `again`: this
        is the repetition, and there is no second one. `sql`: the text, as far as there is one.
        """
        if self.calls.connecting and self.calls.is_connecting():
            cursor.bring_up_to_date()
            return call()
        if statement.sends_file:
            call = partial(self._without_network_timeout, statement, call)
        wrapper = self.wrapper()
        connection = self.current()
        outermost = self.lease is None or not self.lease.held or not is_in_a_statement()
        if connection is None or connection.lease is not None:
            connection = self._possess(connection)
        if connection.exchange.under_way:
            self.refuse_in_the_middle(connection)
        given = statement
        ledger = connection.ledger
        if statement.changes and not connection.options.pin_session_state:
            statement = transactions_only(statement)
        if ledger.may_be_pending and ledger.pending_result is cursor and connection.usable:
            self._discard_leftovers(cursor, connection)
        if connection.rolled_back is not None:
            rollbacks.after_rollback(wrapper, connection, statement, sql)
        if self.journal is not None:
            self.journal.will_run(statement, sql)
        if connection.wrong_node and (statement.enters_transaction or may_write(sql)):
            self.wait_for_writer(connection, cursor)
        idle = self.decide(statement, cursor)
        if self.losses.transaction is not None:
            rollbacks.after_loss(wrapper, statement, sql)
        cursor.bring_up_to_date()
        connection = self.connection
        ledger = connection.ledger
        if connection.lease is not None:
            ledger.mark(given, pins=connection.options.pin_session_state)
        safe = self.is_safe(connection) and not (
            ledger.may_be_pending and connection.has_pending_result(cursor)
        )
        exchange = connection.exchange
        cursors = exchange.cursors
        outer = connection.executing_begins(sys._getframe())
        try:
            result = call()
            exchange.under_way = False
            exchange.cursors = cursors  # `call` may be several statements to the driver
            if self.is_in_use(connection):  # a signal handler or a lazy row may have closed it
                self._succeeded(connection, statement, args, cursor, many, arguments, sql)
                if ledger.pins.doubtful and outer is None:
                    questions.ask_locks(connection)
        except BaseException as error:
            repeat = self.failed(
                connection, error, statement, args, idle, safe=safe, many=many, again=again, sql=sql
            )
            if not repeat:
                raise
        else:
            return result
        finally:
            connection.executing_ends(outer)
            if self.lease is not None and outermost:
                self.rest()
        return self.run(cursor, statement, args, call, again=True, sql=sql)

    def _possess(self, connection: PhysicalConnection | None) -> PhysicalConnection:
        """The connection in use, which no other borrower of the pool can take from here on."""
        wrapper = self.wrapper()
        while connection is None or not (connection.lease is None or connection.lease.claim()):
            if connection is not None:
                pooling.called_in(wrapper)
            wrapper.ensure_connection()
            connection = self.connection
        return connection

    def _without_network_timeout(self, statement: Statement, call: Callable[[], T]) -> T:
        """Run a statement during which the server may take no data for a long time.

        It may be waiting for a row lock in the middle of the client's file. To the kernel the data
        that was sent stays unacknowledged.
        """
        connection = self.connection
        connection.lift_network_timeout()
        try:
            result = call()
        except BaseException:
            connection.restore_network_timeout()
            raise
        if statement.single:
            connection.restore_network_timeout()
        # Else nextset() may send the file: the limit is restored after the last result.
        return result

    def _succeeded(
        self,
        connection: PhysicalConnection,
        statement: Statement,
        args: object,
        cursor: RecyclingCursor,
        many: bool,
        arguments: str,
        sql: object,
    ) -> None:
        ledger, losses, wrapper = connection.ledger, self.losses, self.wrapper()
        connection.ran(statement)
        if not connection.touched and (wrapper.in_atomic_block or not wrapper.autocommit):
            connection.mark_touched(may_touch_tables(sql))
        begins = statement.calls or not statement.single  # a transaction, maybe, without a sign
        ends = statement.ends_transaction and statement.single
        if ends and not any(not change.ends for change in statement.changes):
            connection.mark_dirty(False)
        elif begins or not wrapper.autocommit:
            connection.mark_dirty()
        if arguments:
            ledger.left_arguments(arguments)
        has_rows = getattr(cursor, "description", None) is not None
        if losses.unanswerable:
            losses.note_answers(rows=has_rows and not statement.asks_only, arguments=arguments)
        if losses.refused is not None:
            losses.database_selected(statement)
        if losses.unset is not None:
            losses.set_again(statement, args, many=many)
        if statement is not PLAIN:
            answer = cursor.only_value() if statement.lone_lock_call and not many else ...
            connection.note_changes(
                statement, args, answer, many=many, autocommit=wrapper.autocommit
            )
        if ledger.pins.pinned and _may_write(statement, has_rows=has_rows):
            ledger.pins.written()
        if connection.status_unknown and not has_rows:
            connection.status_is_unknown(False)
            connection.look_at_status(wrapper.autocommit)
        self.note_pending(cursor, doubtful=statement.calls or not statement.single, executed=True)

    def failed(
        self,
        connection: PhysicalConnection,
        error: BaseException,
        statement: Statement,
        args: object,
        idle: float,
        *,
        safe: bool,
        many: bool = False,
        again: bool = False,
        sql: object = None,
    ) -> bool:
        """Act on what the error proves. True: there is a new connection, run it once more."""
        wrapper = self.wrapper()
        by_driver = connection.exchange.failed
        proof = self.note_error(connection, error, of_a_cursor=True)
        what_ran.note_statement(
            error,
            connection,
            proof,
            statement,
            sql,
            many=many,
            by_driver=by_driver,
            in_use=self.is_in_use(connection),
            in_transaction=wrapper.in_atomic_block or not wrapper.autocommit,
        )
        if self.journal is not None:
            self.journal.failed(error, proof, connection)
        if proof is Proof.ALIVE:
            if code_of(error) is not None:
                self.losses.note_answers()
            if statement.changes:
                # INSERT ... SELECT GET_LOCK() that meets a duplicate key keeps the lock.
                connection.ledger.pins.apply_begins(statement, args, clock(), many=many)
            if statement.calls or not statement.single:
                connection.status_is_unknown()
                connection.mark_dirty()
            if statement.ends_transaction and not connection.usable:
                connection.mark_end_interrupted()
            if not (statement.lone_lock_call or commits(sql)):
                rollbacks.look_for_rollback(wrapper, connection, error)
            if not connection.touched and (wrapper.in_atomic_block or not wrapper.autocommit):
                connection.mark_touched(may_touch_tables(sql))
            return False
        if not proof.is_loss:
            return self._refused(
                connection, error, statement, idle, sql, safe=safe and not (many or again)
            )
        connection.idle_before = idle
        if not safe or not self.is_in_use(connection):
            # Closed while the statement ran, by a signal handler or a lazy parameter: 2006 may
            # speak of the closing alone, and the statement may have run.
            return False
        # Without a rest before it, 2006 may be the server's answer to the statement: one
        # that is longer than max_allowed_packet.
        repeatable = (
            statement.repeatable
            and not (many or again)
            and (
                statement.enters_transaction  # it has done nothing yet, whether it ran or not
                or (proof is Proof.NEVER_RAN and idle >= REST)
            )
        )
        connection.look_for_autocommit(wrapper.autocommit)
        pins = connection.ledger.pins
        settable = pins.settable
        set_again = repeatable and settable is not None and statement.may_set_again(settable)
        if (pins.pinned and not set_again) or any(map(connection.has_left, statement.reads)):
            raise self.losses.state_lost(connection, idle, statement) from error
        if repeatable:
            self.reconnect_to_repeat(connection, idle, begins=statement.enters_transaction)
        return repeatable

    def _refused(
        self,
        connection: PhysicalConnection,
        error: BaseException,
        statement: Statement,
        idle: float,
        sql: object,
        *,
        safe: bool,
    ) -> bool:
        """The node has refused a statement. True: run it once more, on another node."""
        code = code_of(error)
        switchover.refused(self, connection, code)
        if (
            not safe
            or not self.wrapper().autocommit
            or not connection.wrong_node
            or code not in switchover.REPEATED
            or not (statement.single and statement.repeatable)
            or statement.calls
            or not changes_rows_only(sql)
            or not self.is_in_use(connection)
        ):
            return False
        connection.look_for_autocommit(self.wrapper().autocommit)
        if connection.ledger.pins.pinned or any(map(connection.has_left, statement.reads)):
            return False
        if not switchover.find_writer(self, connection):
            return False
        self.reconnect_to_repeat(connection, idle, "wrong node")
        return True

    def wait_for_writer(
        self, connection: PhysicalConnection, cursor: RecyclingCursor | None = None
    ) -> None:
        """Before what is to write on a node that has refused to: wait for another one."""
        if (
            self.is_safe(connection)
            and not connection.ledger.pins.pinned
            and not connection.has_pending_result(cursor)
        ):
            switchover.wait(self, connection)

    def note_error(
        self,
        connection: PhysicalConnection,
        error: BaseException,
        *,
        ran: bool = True,
        of_a_cursor: bool = False,
    ) -> Proof:
        """Note what an error of the application's statement proves; see the connection's."""
        if ran and not self.wrapper().autocommit:
            connection.mark_dirty()
        return connection.note_error(error, ran=ran, of_a_cursor=of_a_cursor)

    def reconnect_to_repeat(
        self, connection: PhysicalConnection, idle: float, reason: str = "", *, begins: bool = False
    ) -> None:
        """Announce the repetition and make sure there is a connection for it.

        `begins`: it begins a transaction, and has done nothing yet, whether it ran or not.
        """
        wrapper = self.wrapper()
        reason = connection.reason or reason
        age = clock() - connection.opened_at
        events.repeated(wrapper, reason=reason, age=age, idle=idle, begins=begins)
        if self.is_in_use(connection):
            self.replace(reason)
        else:  # a receiver has closed it, or run something, for which it was replaced
            wrapper.ensure_connection()

    def fetch(self, connection: PhysicalConnection, call: Callable[[], T]) -> T:
        """Fetching and closing: they talk to the server in the middle of a result."""
        if connection is NO_CONNECTION:
            return call()
        self.refuse_in_the_middle(connection)
        try:
            connection.exchange.under_way = True
            result = call()
        except BaseException as error:
            self.note_error(connection, error, ran=False)
            what_ran.note_ran(error)
            rollbacks.look_for_rollback(self.wrapper(), connection, error)
            raise
        connection.exchange.under_way = False
        connection.contacted()
        return result

    # ##### The pending result #####

    def note_pending(
        self,
        cursor: RecyclingCursor,
        *,
        doubtful: bool = False,
        rows_read: bool = False,
        executed: bool = False,
    ) -> None:
        """Note whether `cursor` leaves anything at the server.

        `doubtful`: the statement can have further results. `executed`: a statement has just run,
        so that whatever another cursor had left unread was discarded.
        """
        connection = self.connection
        if connection.raw is CLOSED:
            return
        if not connection.usable:
            connection.set_pending(None)
            return
        ledger = connection.ledger
        rows = cursor.streams and not rows_read and getattr(cursor, "description", None) is not None
        more = rows or self.driver.has_more_results(connection.raw, cursor, doubtful=doubtful)
        if not (more or executed) and ledger.pending_result not in (None, cursor):
            return
        all_have_run = not more and ledger.after is not None
        if all_have_run:
            ledger.all_have_run()
            self.losses.all_have_run()
        if all_have_run or ledger.may_be_pending:
            # What ran behind the first result may have switched autocommit off.
            connection.look_at_status(self.wrapper().autocommit)
        if more or ledger.may_be_pending or connection.network_timeout_lifted:
            connection.set_pending(cursor if more else None)

    def _discard_leftovers(self, cursor: RecyclingCursor, connection: PhysicalConnection) -> None:
        try:
            self.fetch(connection, cursor.discard_leftovers)
            self.note_pending(cursor, rows_read=True)
        except self.driver.error:
            # The application gives these rows up; if their connection is lost, it is replaced.
            connection.set_pending(None)
            if connection.usable:
                raise

    # ##### Past Django's cursors #####

    def ran_directly(
        self, exchange: Exchange, sql: str | bytes | bytearray, args: object, cursor: Any
    ) -> bool:
        """The application has run a statement past Django's cursors, by an object of the driver's.

        `cursor` is the driver's, or None for a method of its connection. Returns whether a
        transaction is open that SQL has begun.
        """
        connection, wrapper = self.connection, self.wrapper()
        if (
            self.calls.is_connecting()
            or connection.exchange is not exchange
            or not self.is_in_use(connection)
        ):
            return False
        statement = examine(sql, connection.reading)
        connection.ledger.mark(statement, pins=connection.options.pin_session_state)
        if statement.changes and not connection.options.pin_session_state:
            statement = transactions_only(statement)
        if self.journal is not None:
            self.journal.will_run(statement, sql)
        ledger = connection.ledger
        connection.ran(statement)
        if not wrapper.autocommit:
            connection.mark_dirty()
        asked = statement.lone_lock_call and not isinstance(cursor, self.driver.unbuffered)
        answer = only_value(cursor) if asked else ...
        connection.note_changes(statement, args, answer, autocommit=wrapper.autocommit)
        ledger.forget_after()  # the rest of the text may still fail, without a sign
        has_rows = getattr(cursor, "description", None) is not None
        if ledger.pins.pinned and _may_write(statement, has_rows=has_rows):
            ledger.pins.written()
        return ledger.pins.in_transaction

    def hold_directly(self, exchange: Exchange, reason: str) -> None:
        """The application has made the session another one, for as long as it lives."""
        connection = self.connection
        if connection.exchange is exchange and not self.calls.is_connecting():
            connection.ledger.mark_always()
            connection.ledger.hold(reason, clock())

    def mark_directly(self, exchange: Exchange) -> None:
        """The application has used the driver's object in a way that no other borrower may see."""
        connection = self.connection
        if connection.exchange is exchange:
            connection.ledger.mark_always()

    def reconnected_directly(self, exchange: Exchange) -> None:
        """The application has had the driver reconnect: see whether the session is another one."""
        connection = self.connection
        if connection.exchange is exchange and (connection.driver_let_go or not connection.usable):
            connection.mark_reconnected()

    def hold(self, reason: str) -> Callable[[], None]:
        """Pin by hand (see pinning.py). Returns the function that ends it."""
        self._possess(self.current())
        self.decide()  # a connection that is stale already has nothing to hold
        ledger = self.connection.ledger
        self.held_by_hand += 1
        return partial(self._release, ledger, ledger.hold(reason, clock()))

    def _release(self, ledger: Ledger, token: object) -> None:
        ledger.release(token)
        self.held_by_hand -= 1
        self.rest()

    @contextmanager
    def writing(self, journal: Journal) -> Iterator[None]:
        """Have the journal note what runs in the block."""
        outer, self.journal = self.journal, journal
        self.losses.watch()
        try:
            yield
        finally:
            journal.ended()
            self.journal = outer
            self.losses.watch()

    # ##### Units of work, processes #####

    def unit_of_work_ended(self) -> None:
        """Django has looked at the connection between two units of work, and kept it."""
        wrapper, connection, replacement = self.wrapper(), self.connection, self.replacement
        losses, pins = self.losses, connection.ledger.pins
        if pins.pinned and pins.database_unknown and self.is_in_use(connection):
            questions.ask_database(connection)  # it outlives the unit of work
        if losses.pending_error or losses.unanswerable or losses.unset or losses.transaction:
            losses.unit_of_work_ended()
        if wrapper.connection is None:
            # A replacement has failed. Django's close() would have ended all of this here.
            if replacement.state is not None:
                autocommit = wrapper.settings_dict["AUTOCOMMIT"]
                replacement.state = WrapperState(autocommit, [], False, replacement.state.ending)
            if self.max_age.closes_at_boundary:
                replacement.database = losses.refused = losses.unset = None
        if connection.raw is not wrapper.connection:
            return
        connection.unit_ended()
        if pins.pinned:
            connection.ledger.pins.end_unit_of_work()
        if connection.rolled_back is not None and wrapper.autocommit:
            connection.forget_rollback()  # what follows is no second half of anything

    def after_fork_in_child(self) -> None:
        """After a fork, in the child: the connection belongs to the parent."""
        wrapper = cast("Wrapper | None", self.wrapper())
        if wrapper is None:
            return
        losses, replacement = self.losses, self.replacement
        losses.unset = self.journal = self.lease = None
        self.current()  # of a connection, too, that was put in its place without connect()
        connection = self.connection
        if connection is NO_CONNECTION:
            return
        connection.discard_inherited()
        processes.leave(connection.raw)
        processes.leave(wrapper.connection)
        if self.is_in_use(connection) and not self.calls.is_connecting():
            replacement.remember_database(connection)
        self.connection = NO_CONNECTION
        losses.forget()
        self.calls.forget()
        self.held_by_hand = 0
        replacement.state = None
        replacement.forks += 1
        wrapper.run_on_commit = []
        wrapper.run_commit_hooks_on_set_autocommit_on = False
        if wrapper.connection is None:
            return
        wrapper.connection = None
        if wrapper.in_atomic_block:
            # As after close() in a block: its statements raise until it is left.
            wrapper.closed_in_transaction = True
            wrapper.needs_rollback = True
        else:
            replacement.state = WrapperState(wrapper.autocommit, [], False)


def wrapper_of(using: str | Any) -> Any:
    """The connection wrapper that `using` names: an alias of DATABASES, or the wrapper itself.

    Raises ConnectionDoesNotExist for an unknown alias.
    """
    return connections[using] if isinstance(using, str) else using


def guard_of(wrapper: Any) -> Guard | None:
    """The guard of a connection wrapper; None if it is of another backend."""
    guard = getattr(wrapper, "guard", None)
    return guard if isinstance(guard, Guard) else None


def interrupted(connection: PhysicalConnection) -> OperationalError:
    """The error for a statement of a transaction in which one was interrupted."""
    if connection.reconnected:
        text = (
            "the connection of this transaction was lost, and the driver has reconnected. Leave "
            "the transaction: the server has rolled it back"
        )
    else:
        text = (
            "an earlier statement of this transaction was interrupted, and the next answer might "
            "belong to it. Leave the transaction: the connection is closed then"
        )
    return what_ran.not_sent(OperationalError(connection.code or 2013, text))


def _may_write(statement: Statement, *, has_rows: bool) -> bool:
    """Whether a transaction may have written by it. What ends or divides one writes nothing."""
    if statement.leaves or not statement.single:
        return True
    divides = not statement.repeatable or statement.enters_transaction
    return not divides and not has_rows
