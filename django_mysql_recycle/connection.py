"""One physical connection: its condition, its clocks and limits, its ledger.

Only the methods of this class and of its ledger write what is kept here. What belongs to Django's
connection wrapper and not to one connection is the guard's (guard.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from . import evidence, liveness, network_path
from .calls import runs
from .drivers import Exchange, Outcome
from .errors import NoAnswer, Proof, code_of
from .ledger import Ledger
from .options import Options
from .policy import REST, WINDOW, idle_limit_of, short_idle_of
from .session_state import ANY, INSERTED, USUAL, Read, Reading, Statement, examine
from .session_state.effects import may_touch_tables

if TYPE_CHECKING:
    from .cursors import RecyclingCursor
    from .drivers import Driver, DriverConnection
    from .pool import Lease

__all__ = ["CLOSED", "NO_CONNECTION", "Condition", "PhysicalConnection"]

#: Seconds after which a server that always refuses to report its ``wait_timeout`` is asked again.
LONGEST_PAUSE = 300.0

BEGUN = examine("BEGIN")

#: Sentinel for "no connection". Equal to no connection and not to None.
CLOSED: Any = object()


class Condition(IntEnum):
    """Whether a connection can be used. It only gets worse."""

    OPEN = 0
    LOST = 1  #: the server or the network has ended it
    DISCARDED = 2  #: this process has closed it
    #: A command was interrupted: the next answer may belong to it. Even a transaction sends nothing
    #: more on it.
    INTERRUPTED = 3


class PhysicalConnection:
    """One connection of the driver to the server."""

    # More attributes than an instance keeps in place without this.
    # fmt: off
    __slots__ = (
        "__weakref__", "code", "condition", "descriptor", "dirty", "driver", "end_interrupted",
        "exchange", "executing", "expires_at", "idle_before", "idle_limit", "kept_until", "last_activity",
        "ledger", "limit_due", "limit_pause", "limit_unread", "mariadb", "max_age", "network_timeout_lifted",
        "opened_at", "opened_in", "options", "path_options", "peer_closed", "ran_since", "raw",
        "read_only_declared", "reading", "ready", "reason", "reconnected", "refused_at", "rolled_back",
        "short_idle", "socket", "status_unknown", "touched", "unit_ended_at", "usable",
        "watched", "wrong_node",
    )
    # fmt: on

    #: The borrowing of a connection of a pool (pooled.py).
    lease: Lease | None = None
    #: An earlier borrower has used the session.
    was_used = False
    #: It was called in, so a former holder may still refer to the driver's connection.
    was_called_in = False

    def __init__(
        self,
        driver: Driver,
        raw: DriverConnection,
        options: Options,
        max_age: float | None = None,
        opened_in: str | None = None,
    ) -> None:
        self.driver = driver
        #: The driver's connection object, which is also Django's ``connection.connection``.
        self.raw = raw
        self.options = options
        self.condition = Condition.OPEN
        #: The condition is OPEN, as far as is known without a look.
        self.usable = True
        self.reason = ""  #: why it cannot be used any more
        self.code: int | None = None  #: the number of the error that has shown it
        #: Idle seconds before the statement that has shown it. What it waited for is no idle time.
        self.idle_before: float | None = None
        self.reconnected = False  #: the driver's object stands for another session by now
        self.opened_at = self.last_activity = liveness.clock()
        #: The default database it was opened with, if connecting selects no other.
        self.opened_in = opened_in
        self.max_age = max_age  # jittered
        self.expires_at = float("inf") if max_age is None else self.opened_at + max_age
        self.mariadb = driver.is_mariadb(raw)
        self.descriptor = driver.descriptor(raw)
        self.socket = liveness.identity(self.descriptor)
        #: The liveness check. Means nothing while a result is pending.
        self.peer_closed: Callable[[], object] = liveness.watch(
            self.descriptor if options.liveness_check else None
        )
        #: TCP options that the kernel was asked for.
        self.path_options: Mapping[str, int] = {}
        self.network_timeout_lifted = False
        #: Whether a statement is under way: from the driver's call to the end of its answer.
        self.exchange = driver.watch(raw)
        #: It works, but its server does not take writes, or is no part of its cluster.
        self.wrong_node = False
        self.refused_at = 0.0  #: when it has last refused a statement for that
        #: The guard has a loss to report, or waits for a statement to end one.
        self.watched = False
        #: The last activity when a unit of work ended.
        self.unit_ended_at = 0.0
        #: Something has run since the last COMMIT or ROLLBACK; with autocommit on only what may
        #: have begun a transaction without a sign. Django's own flag for the hooks is no proof.
        self.dirty = False
        #: What has run since then can have begun a transaction at the server.
        self.touched = False
        #: The error with which the server has rolled back the whole transaction, while the
        #: application has not ended it.
        self.rolled_back: BaseException | None = None
        #: Something has run after that error.
        self.ran_since = False
        #: COMMIT or ROLLBACK by SQL was interrupted: the application has ended its transaction.
        self.end_interrupted = False
        #: The call under way in which the driver runs something; an executemany asks for its next
        #: row between two statements. Ask is_executing().
        self.executing: FrameType | None = None
        #: What failed may have left autocommit off or a transaction open: an error brings none of
        #: the server's flags, the next answer without rows does.
        self.status_unknown = False
        self.read_only_declared = False
        #: How the session reads literals, as far as its sql_mode is known.
        self.reading = USUAL
        self.ledger = Ledger(self.opened_at)
        #: How many times its max age it may reach before it is next reported as kept.
        self.kept_until = 1
        self.set_wait_timeout(None, unread=True)
        #: Nothing but the clocks, the liveness check and the ledger can matter to a statement.
        #: Kept and not computed: it is read before every statement.
        self.ready = self.descriptor is not None

    def __repr__(self) -> str:
        pinned = " pinned" if self.ledger.pins.pinned else ""
        return f"<{type(self).__name__} {self.condition.name.lower()}{pinned}>"

    # ##### The common path #####

    def needs_no_decision(self, now: float) -> bool:
        """Whether the policy would say 'run' to an ordinary statement at a safe point.

        The short cut of policy.decide(): without it, the table is read for each statement.
        """
        idle = now - self.last_activity
        return (
            self.ready
            and not (self.ledger.may_be_pending or self.ledger.pins.careful)
            and now < self.expires_at
            and (idle < WINDOW or (idle < self.short_idle and not self.peer_closed()))
        )

    #: The same before the statement is sent, which of a connection of a pool takes possession.
    may_run = needs_no_decision

    def ordinary_succeeded(self, statement: Statement) -> None:
        """An ordinary statement has succeeded, with autocommit on and outside of a block."""
        self.exchange.under_way = False
        self.last_activity = liveness.clock()
        if statement.leaves:
            self.ledger.left |= INSERTED

    def ordinary_succeeded_in_transaction(self, statement: Statement, sql: Any) -> None:
        """The same inside of a block, where the clocks do not matter.

        Once something has touched a table the others change nothing but what they leave.
        """
        self.dirty = True
        if not self.touched:
            # A SELECT may do without a table, and begin nothing at the server.
            self.touched = sql[:1] in ("I", "U") or may_touch_tables(sql)
        if statement.leaves:
            self.ledger.left |= INSERTED

    # ##### Condition #####

    def _refresh(self) -> None:
        self.ready = not (
            self.descriptor is None
            or self.condition
            or self.wrong_node
            or self.watched
            or self.executing
            or self.rolled_back
            or self.status_unknown
            or self.reading is not USUAL
        )

    def _worsen(self, condition: Condition, reason: str, code: int | None = None) -> None:
        self.condition = max(self.condition, condition)
        self.usable = False
        # The first reason stays, unless it says less.
        if not self.reason or (self.reason == "interrupted" != reason):
            self.reason, self.code = reason, code
        self._refresh()

    def mark_lost(self, reason: str, code: int | None = None) -> None:
        """The server or the network has ended it, and the driver has let its socket go."""
        self._forget_descriptor()
        self._worsen(Condition.LOST, reason, code)

    def mark_interrupted(self) -> None:
        """A command was interrupted: what is read next may be its answer."""
        self._worsen(Condition.INTERRUPTED, "interrupted")

    def mark_reconnected(self) -> None:
        """The driver has opened another session in its place. Nothing is sent to that one: it has
        nothing of what the application did before, and no transaction."""
        self.reconnected = True
        self._worsen(Condition.INTERRUPTED, "closed")

    def mark_returned(self) -> None:
        """It belongs to another borrower of the pool now: nothing here may touch it."""
        self.exchange = Exchange()
        self.discarded()

    def mark_unanswered(self) -> None:
        """A round trip of the backend's own got no answer in time; it may still come.

        Unlike mark_lost(): the descriptor is still the driver's, and the backend's to detach.
        """
        self._worsen(Condition.INTERRUPTED, "no answer")

    def discarded(self) -> None:
        """This process has closed it."""
        self._forget_descriptor()
        self._worsen(Condition.DISCARDED, self.reason)

    def _forget_descriptor(self) -> None:
        # The number may belong to another socket by now.
        self.descriptor = self.socket = None
        self.peer_closed = liveness.watch(None)

    def discard(self) -> None:
        """Close it without another command: the server may not read it as one."""
        liveness.detach(self.descriptor, self.socket)
        self.driver.discard(self.raw)
        self.discarded()

    def discard_inherited(self) -> None:
        """In a child after fork(): the session is the parent's, and not to be ended."""
        liveness.detach(self.descriptor, self.socket)
        self.discarded()

    def close(self) -> None:
        """Close it, politely if the server may still be listening."""
        if not self.usable:
            self.discard()
            return
        try:
            self.raw.close()
        except self.driver.error:
            pass  # it was closed already, which is all that is wanted
        self.discarded()

    def forget_raw(self) -> None:
        """Django's close() is done. The last result goes with the driver's connection."""
        self.raw = CLOSED

    def mark_wrong_node(self) -> None:
        self.wrong_node = True
        self._refresh()

    def mark_right_node(self) -> None:
        """Its node says itself that it takes writes: what it has refused was something else."""
        self.wrong_node = False
        self._refresh()

    def watch_statements(self, watched: bool) -> None:
        """Whether each statement is to pass the guard, for what the wrapper has to report."""
        self.watched = watched
        self._refresh()

    @property
    def driver_let_go(self) -> bool:
        """Whether the driver has closed its socket: its number may be another one's by now."""
        return self.socket is not None and liveness.identity(self.descriptor) != self.socket

    # ##### Clocks and limits #####

    def connected(self, raw: DriverConnection, *, read_only: bool, ansi: bool) -> None:
        """Django's connect() is done, receivers of connection_created included."""
        if raw is not self.raw:
            self.raw = raw  # a subclass has put it into a proxy
            self.exchange.plain = False
        self.last_activity = liveness.clock()
        self.exchange.connected()
        self.dirty = False
        self.read_only_declared = read_only
        escapes = self.driver.escapes(raw)
        if ansi or not escapes:
            self.reads_literals(escapes=escapes, ansi=ansi)
        self.ledger.forget_answers(self.last_activity)

    def opened(self) -> None:
        """It has been set up, and receivers of connection_created come next."""

    def contacted(self) -> None:
        """It has talked to the server on the application's account."""
        self.last_activity = liveness.clock()

    def _asked(self) -> None:
        """It has talked to the server on the backend's own account."""
        before, self.last_activity = self.last_activity, liveness.clock()
        if before == self.unit_ended_at:
            self.unit_ended_at = self.last_activity
        if before == self.ledger.nothing_left_at:
            self.ledger.nothing_left_at = self.last_activity

    def unit_ended(self) -> None:
        """A unit of work has ended. The next one asks for nothing that this one has left."""
        self.unit_ended_at = self.last_activity
        self.ledger.forget_answers(self.last_activity)

    def set_wait_timeout(self, seconds: float | None, *, unread: bool = False) -> None:
        """The session's ``wait_timeout``; `unread`: it is to be read (again) later."""
        self.idle_limit = idle_limit_of(seconds, self.options.idle_limit)
        self._set_unread(unread)

    def read_again(self) -> None:
        """Have what is read after the first rest read once more."""
        self._set_unread(True)

    def _set_unread(self, unread: bool) -> None:
        self.limit_unread = unread
        self.limit_due, self.limit_pause = 0.0, REST
        self.short_idle = short_idle_of(self.idle_limit, self.options.ping_after, unread)

    def limit_refused(self) -> None:
        """Have ``wait_timeout`` read after another rest, and after each refusal less soon."""
        self.limit_due = liveness.clock() + self.limit_pause
        self.limit_pause = min(2 * self.limit_pause, LONGEST_PAUSE)

    def reads_literals(self, *, escapes: bool, ansi: bool | None = None) -> None:
        """What the session's sql_mode says: NO_BACKSLASH_ESCAPES, ANSI_QUOTES (None: unknown)."""
        reading = Reading(escapes, self.reading.ansi if ansi is None else ansi)
        self.reading = USUAL if reading == USUAL else reading
        self._refresh()

    def kept(self, times: float) -> bool:
        """It is kept open at so many times its max age. Whether that is to be reported."""
        if times < self.kept_until:
            return False
        while self.kept_until <= times:
            self.kept_until *= 2
        return True

    # ##### The network path #####

    def watch_path(self) -> None:
        """Have the kernel watch the path to the server, as the settings want it."""
        keepalive, network_timeout = self.options.keepalive, self.options.network_timeout
        self.path_options = network_path.watch_path(self.descriptor, keepalive, network_timeout)

    def lift_network_timeout(self) -> None:
        """Let sent data wait for as long as the server takes none."""
        if self.path_options.get("TCP_USER_TIMEOUT"):
            self.network_timeout_lifted = True
            network_path.set_user_timeout(self.descriptor, self.socket, 0)

    def restore_network_timeout(self) -> None:
        """Limit the wait for acknowledgements again, if the limit was lifted."""
        if self.network_timeout_lifted:
            limit = self.path_options["TCP_USER_TIMEOUT"]
            network_path.set_user_timeout(self.descriptor, self.socket, limit)
            self.network_timeout_lifted = False

    # ##### Statements #####

    def executing_begins(self, frame: FrameType) -> FrameType | None:
        """The call in which the driver runs something from here on. Returns the outer one."""
        outer = self.executing
        if outer is not None and not self.is_executing():
            outer = None
        self.executing = frame
        self.ready = False
        return outer

    def executing_ends(self, outer: FrameType | None) -> None:
        self.executing = outer
        self._refresh()

    def is_executing(self) -> bool:
        """Whether a call of the driver is under way."""
        if self.executing is not None and not runs(self.executing):
            self.executing = None  # an interruption has kept it from saying so
            self._refresh()
        return self.executing is not None

    def ran(self, statement: Statement) -> None:
        """A statement has succeeded."""
        before, self.last_activity = self.last_activity, liveness.clock()
        self.ledger.ran(statement, before, self.last_activity)
        if statement.read_only:
            self.read_only_declared = True
        if statement.mentions_wait_timeout:
            self.set_wait_timeout(None, unread=True)
        if statement.sets_sql_mode:
            self.read_again()

    def mark_dirty(self, dirty: bool = True) -> None:
        self.dirty = dirty
        self.touched = self.touched and dirty

    def mark_touched(self, touched: bool) -> None:
        self.touched = touched

    def base_sends(self, frame: FrameType) -> None:
        """The base backend runs statements of its own from here on, unseen."""
        self.dirty = True
        self.executing = frame
        self._refresh()

    def status_is_unknown(self, unknown: bool = True) -> None:
        self.status_unknown = unknown
        self._refresh()

    @property
    def done(self) -> int:
        """What its statements have done, as bits of session_state/kinds.py."""
        ledger = self.ledger
        return ledger.left | (ANY if self.last_activity != ledger.nothing_left_at else 0)

    def has_left(self, read: Read) -> bool:
        """Whether an earlier statement of the unit of work may have left what is asked for."""
        left_by = read.answer.value.left_by
        return bool(left_by & self.done) or read.name.startswith(self.ledger.arguments)

    def may_have_from_earlier(self, read: Read) -> bool:
        """Whether what is asked for can only come from an earlier borrower of the session."""
        return (
            self.was_used
            and not self.has_left(read)
            and not (read.key is not None and self.ledger.pins.has_key(read.key))
        )

    def note_changes(
        self,
        statement: Statement,
        args: object,
        answer: object,
        *,
        many: bool = False,
        autocommit: bool,
    ) -> None:
        """Note what a statement that has succeeded has done to the session.

        `answer`: what it has returned, if that shows whether it got or freed a lock; else ``...``.
        `many`: it ran for each of `args`. `autocommit`: as Django has it.
        """
        ledger, now = self.ledger, self.last_activity
        if many:
            ledger.apply_rows(statement, args, now)
        elif not statement.single:
            ledger.apply_first(statement, args, now)
        elif answer is ...:
            ledger.pins.apply(statement, args, now)
        else:
            ledger.pins.answer(statement, args, answer, now)
        if statement.shows_in_status:
            self.look_at_status(autocommit)

    def look_at_status(self, autocommit: bool) -> None:
        """See what no text shows: autocommit switched off, a transaction left open, the sql_mode.

        Both drivers keep the server's status flags: no round trip. `autocommit`: as Django has it.
        """
        ledger, now = self.ledger, liveness.clock()
        ledger.pins.autocommit_seen(autocommit and not self.raw.get_autocommit(), now)
        if autocommit and self.driver.in_transaction(self.raw):
            ledger.pins.apply(BEGUN, None, now)
        self.reads_literals(escapes=self.driver.escapes(self.raw))

    def look_for_autocommit(self, autocommit: bool) -> bool:
        """Before it is given up: see whether autocommit was switched off past the cursors.

        The driver keeps the server's flag. What was lost before may have it off from a transaction
        of Django's.
        """
        try:
            off = autocommit and not self.raw.get_autocommit()
        except self.driver.error:
            return False  # the application has closed it past Django: mysqlclient answers nothing
        if off:
            self.ledger.pins.autocommit_seen(True, liveness.clock())
        return off

    def forget_loss(self) -> None:
        """The loss of what its session had is known."""
        self.ledger.lost()
        self.ledger.forget_answers(self.last_activity)

    # ##### The end of a transaction #####

    def transaction_entered(self, *, clean: bool) -> None:
        """Autocommit was switched off. `clean`: nothing had run that is part of it."""
        self.exchange.under_way = False
        self.last_activity = liveness.clock()
        self.dirty = self.touched = self.dirty and not clean

    def committed(self) -> None:
        """COMMIT, ROLLBACK or SET autocommit = 1 was acknowledged."""
        self.exchange.under_way = False
        self.last_activity = liveness.clock()
        self.dirty = self.touched = False
        if self.ledger.pins.pinned or self.rolled_back is not None:
            self.transaction_ended()

    def transaction_ended(self) -> None:
        """COMMIT or ROLLBACK was acknowledged, or the server rolls back by itself."""
        self.dirty = self.touched = False
        self.ledger.pins.transaction_ended()
        self.forget_rollback()

    def mark_rolled_back(self, error: BaseException) -> None:
        """The server has rolled back everything that ran in the transaction before `error`."""
        self.rolled_back = error
        self.ran_since = self.touched = False
        self.ledger.pins.transaction_ended()
        self._refresh()

    def mark_end_interrupted(self) -> None:
        self.end_interrupted = True

    def ran_after_rollback(self) -> None:
        self.ran_since = True

    def forget_rollback(self) -> None:
        """The application got the error, or has ended the transaction by itself."""
        self.rolled_back = None
        self._refresh()

    # ##### Pending result #####

    def set_pending(self, cursor: RecyclingCursor | None) -> None:
        """A cursor has rows or result sets still to be read, or none has (None)."""
        self.ledger.set_pending(cursor)
        if cursor is None:
            self.restore_network_timeout()

    def has_pending_result(self, cursor: RecyclingCursor | None = None) -> bool:
        """Whether another cursor than this one has something to read."""
        ledger = self.ledger
        if not ledger.may_be_pending:
            return False
        reader = ledger.pending_result
        if reader is None:
            # The cursor was dropped with rows unread: PyMySQL drains them at the next command.
            return self.driver.has_more_results(self.raw, None, doubtful=False)
        return reader is not cursor

    # ##### Asking the server #####

    def ask(self, sql: bytes) -> tuple[Any, ...]:
        """One round trip within ``ping_timeout``, past Django's cursors and their logs.

        A shorter ``read_timeout`` of the driver counts: see `Options.within`.
        Raises NoAnswer, or the driver's error, and marks the connection accordingly.
        """
        exchange = self.exchange
        try:
            exchange.begin()
            self.driver.send(self.raw, sql)
            if not liveness.wait_until_readable(self.descriptor, self.options.ping_timeout):
                self.mark_unanswered()
                raise NoAnswer
            rows = self.driver.receive(self.raw)
            exchange.under_way = False
        except NoAnswer:
            exchange.settle()
            raise
        except self.driver.error as error:
            self.note_error(error, ran=False, asking=True)
            if self.usable:
                self._asked()
            raise
        except BaseException:
            exchange.settle()
            self.mark_interrupted()
            raise
        self._asked()
        return rows

    # ##### Errors #####

    def note_error(
        self,
        error: BaseException,
        *,
        ran: bool = True,
        asking: bool = False,
        of_a_cursor: bool = False,
    ) -> Proof:
        """Note what an error proves, and return it.

        `ran`: it came of something the application ran, which counts as run. `asking`: it came of
        a question of the backend's own. `of_a_cursor`: it came of a statement that a cursor of
        the driver has sent, or was to send. Of these it is known exactly whether the driver has
        raised it, or a signal handler in the middle.
        """
        self.ledger.forget_after()
        outcome = self.exchange.settle()
        if outcome is Outcome.NONE and not self.driver_let_go:
            # A parameter, a row of the application's iterator, an instrumentation, another
            # connection: nothing was sent, or everything had been answered.
            return Proof.ALIVE
        if self.driver.has_answered(error):
            return Proof.ALIVE  # a value that cannot be converted: nothing is under way any more
        found = evidence.database_error(error, self.driver)
        if found is None or (of_a_cursor and outcome is Outcome.CUT_SHORT):
            # A soft time limit, Ctrl-C, a killed greenlet: the answer may still come.
            self.dirty |= ran
            self.mark_interrupted()
            return Proof.ALIVE
        code = code_of(found)
        if code == 2014 and self.ledger.may_be_pending:
            return Proof.ALIVE  # rows that the application has not read yet are in the way
        proof = evidence.proof_of(found, self, asking=asking)
        if proof in (Proof.READ_ONLY, Proof.WRONG_NODE):
            self.refused_at = liveness.clock()
        if proof is Proof.READ_ONLY:
            declared = code == 1792 and self.read_only_declared
            if self.options.recycle_read_only and not declared:
                self.mark_wrong_node()
        elif proof is Proof.WRONG_NODE:
            self.mark_wrong_node()
        elif proof.is_loss:
            self.dirty |= ran or self.driver.in_transaction(self.raw)
            if proof is Proof.PROTOCOL:
                self.mark_interrupted()
            self.mark_lost("lost", code)
        self._refresh()
        return proof


class _NoConnection:
    """Stands in where there is no connection, for the path that every statement takes."""

    ready = False
    usable = False
    reason = "closed"
    raw = CLOSED
    reading = USUAL
    lease = None
    was_used = was_called_in = False

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.ledger = Ledger(0.0)


#: The physical connection where there is none.
NO_CONNECTION = cast(PhysicalConnection, _NoConnection())
