"""The connection of one wrapper: what is known of it, asking it, replacing it, giving it up."""

from __future__ import annotations

import _thread
import sys
import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count
from random import randrange
from types import FrameType
from typing import Any

from django.db.backends.signals import connection_created
from django.db.utils import Error, OperationalError

from . import events, liveness, processes
from .calls import has_left, is_in_a_statement, runs
from .drivers import ANSWERED, Driver, Exchange, Origin, Outcome, refuse
from .errors import Proof, SessionStateLost, code_of, is_of_the_server, judge
from .liveness import clock
from .options import Options
from .record import ConnectionRecord
from .session_state import PLAIN, USUAL, Answer, End, Key, Kind, SessionState, Statement

__all__ = [
    "CLOSED",
    "NO_RECORD",
    "Carried",
    "ConnectionKeeper",
    "NoAnswer",
]

#: Seconds after an error packet in which a server that hangs up after it is seen to do so: the end
#: of the stream comes a moment later through TLS or a proxy.
HANG_UP = 0.05

#: What the backend asks to see whether an answer is the one to its question: no number twice.
_numbers = count(randrange(1 << 40))

#: Sentinel for "no connection". Equal to no connection and not to None.
CLOSED: Any = object()

#: What the common path of the cursor does not see the end of.
_SEEN_END = {answer for answer in Answer if answer.value.end in (End.STATEMENT, End.SELECT)}


class _NoRecord:
    """The record where there is no connection, for the path that every statement takes."""

    calm = False
    connection = CLOSED
    unread = None
    gone = "closed"
    exchange = Exchange()
    reading = USUAL


NO_RECORD: Any = _NoRecord()


#: The server's errors for a database that may not be used, or does not exist.
NO_SUCH_DATABASE = (1044, 1049)


class NoAnswer(Exception):
    """A round trip of the backend's own was not answered in time."""


@dataclass(slots=True)
class Ending:
    """How a connection that was replaced came to its end."""

    reason: str
    age: float
    idle: float
    idle_limit: float | None
    max_age: float | None
    signal: bool


@dataclass(slots=True)
class Owed:
    """State that was lost with a connection and that the application may still set again."""

    pins: SessionState
    ending: Ending
    code: int | None
    #: Set by the statements of a text whose results have not all been read.
    later: Statement = PLAIN
    #: Set again, but with values that depend on what is still to be set again.
    waiting: frozenset[Key] = frozenset()

    @property
    def keys(self) -> frozenset[Hashable]:
        return (self.pins.settable or frozenset()) - self.waiting

    def pay(self, statement: Statement) -> None:
        """A statement has set its part again."""
        if self.keys.isdisjoint(statement.depends):
            self.pins.set_again(statement.sets)
            self.waiting -= statement.sets
        else:
            self.waiting |= statement.sets


@dataclass(frozen=True, slots=True)
class Refused:
    """A default database that a new connection could not select."""

    name: str
    code: Any
    ending: Ending | None


@dataclass(slots=True)
class Carried:
    """What belongs to the wrapper and not to the connection, and outlives a replacement.

    Django's connect() resets the first three.
    """

    autocommit: bool
    run_on_commit: list[Any]
    run_hooks: bool
    #: To be told once there is another connection, which may take more than one try.
    ending: Ending | None = None


class ConnectionKeeper:
    """Keeps the connection of one wrapper, whatever the policy says about it."""

    def __init__(self, db: Any, driver: Driver) -> None:
        # Weak: a wrapper, and the connection of a thread that has ended, goes with its last
        # reference and does not wait for the garbage collector.
        self._db = weakref.ref(db)
        self.driver = driver
        #: The connection in use, as far as it came from connect().
        self.record: Any = NO_RECORD
        #: The call of connect(): while connecting no seam decides, repeats or pins. For this and
        #: the next two see calls.py; ask is_connecting() and the like.
        self.connecting: FrameType | None = None
        #: The call of Django's own check between two units of work.
        self.boundary: FrameType | None = None
        #: Autocommit was last switched off by Atomic, which switches it on again.
        self.off_for_atomic = False
        self.carried: Carried | None = None
        #: The default database that the next connection has to select; None: that of its settings.
        self.database: str | None = None
        #: It could not be selected: the next statement raises, unless it selects another one.
        self.refused: Refused | None = None
        #: The record that get_new_connection() has made for the connect() under way.
        self.made: Any = None
        #: How many forks it has come out of as a child: a receiver may fork inside of connect().
        self.forks = 0
        #: The call in which receivers are being told of a replacement.
        self.telling: FrameType | None = None
        #: The call in which a loss of session state is reported, receivers included.
        self.reporting: FrameType | None = None
        #: The loss of session state that was raised last, and the record or the Owed that it was
        #: of; see pending().
        self.untold: SessionStateLost | None = None
        self.untold_of: Any = None
        #: A cursor is being closed while that exception is on its way, or was cut short in it.
        self.in_flight = False
        #: What earlier statements left in connections that have been replaced since: kinds of
        #: answers, and how the names of variables with the arguments of callproc() begin.
        self.unanswerable: dict[Answer | str, Ending] = {}
        #: What statements that only set have lost with a connection, less what they have set.
        self.owed: Owed | None = None

    @property
    def db(self) -> Any:
        """The connection wrapper."""
        return self._db()

    # ##### The record of the connection #####

    def current(self) -> Any:
        """The record of the connection in use, or None if there is no connection."""
        if not processes.mark[0]:
            processes.look()
        db: Any = self._db()
        record = self.record
        if record.connection is db.connection:
            return record
        if db.connection is None:
            return None
        # It was put there without connect().
        if record is not NO_RECORD:
            record.forget_descriptor()  # no cursor that was made with it may take it for calm
        options = Options.of(db.alias, db.settings_dict).within(db.settings_dict["OPTIONS"])
        record = self.record = ConnectionRecord(self.driver, db.connection, options, None)
        record.exchange.wrapper = self._db
        record.exchange.plain = False
        self.settle()
        return record

    def is_in_use(self, record: ConnectionRecord) -> bool:
        db: Any = self._db()
        return record is self.record and record.connection is db.connection

    def is_safe(self, record: ConnectionRecord) -> bool:
        """Whether replacing the connection can lose nothing, pins and results aside."""
        db = self.db
        return (
            not db.in_atomic_block
            and (db.autocommit or not record.dirty)
            and not record.is_executing()
            and record.rolled_back is None
            and not db._thread_sharing_count
            and db._thread_ident == _thread.get_ident()
        )

    def refuse_in_the_middle(self, record: ConnectionRecord) -> None:
        """Raise ProgrammingError if another statement is under way; nothing is touched then."""
        if record.exchange.under_way and self.in_the_middle(record):
            with self.db.wrap_database_errors:
                raise refuse(record.connection)

    def in_the_middle(self, record: ConnectionRecord) -> bool:
        """Whether a statement that is marked as under way is: an interruption may have hidden its end."""
        if record.exchange.under_way is ANSWERED:
            return record.exchange.is_taking()
        if self.db._thread_sharing_count or is_in_a_statement():
            return True
        record.mark_interrupted()
        record.dirty = True
        record.exchange.settle()
        return False

    def is_connecting(self) -> bool:
        """Whether connect() is under way."""
        if self.connecting is not None and not runs(self.connecting):
            self.connecting = None
        return self.connecting is not None

    def at_boundary(self) -> bool:
        """Whether Django's own check between two units of work is under way."""
        if self.boundary is not None and not runs(self.boundary):
            self.boundary = None
        return self.boundary is not None

    def is_telling(self) -> bool:
        """Whether receivers are being told of a replacement."""
        if self.telling is not None and not runs(self.telling):
            self.telling = None
        return self.telling is not None

    def nothing_is_open(self, record: ConnectionRecord) -> bool:
        """Whether it is proved that no transaction is open in which something has run.

        Both drivers keep what the server said last of autocommit, PyMySQL of transactions, too.
        """
        if record.dirty or record.is_executing() or record.flags_unknown or record.pins.pinned:
            return False
        if record.gone:
            return True  # what the driver says of it dates from before the loss
        if self.driver.hides_transactions and record.exchange.was_used_past:
            return False
        try:
            in_mode = bool(record.connection.get_autocommit()) is self.db.autocommit
        except self.db.Database.Error:
            return False  # as in look_for_autocommit()
        return in_mode and not self.driver.in_transaction(record.connection)

    # ##### Asking it, and judging what it says #####

    def ask(self, record: ConnectionRecord, sql: bytes) -> tuple[Any, ...]:
        """One round trip within ``ping_timeout``, past Django's cursors and their logs.

        A shorter ``read_timeout`` of the driver counts: see `Options.within`.
        Raises NoAnswer, or the driver's error, and marks the record accordingly.
        """
        exchange = record.exchange
        try:
            exchange.begin()
            self.driver.send(record.connection, sql)
            if not liveness.wait_until_readable(record.descriptor, record.options.ping_timeout):
                record.mark_unanswered()
                raise NoAnswer
            rows = self.driver.receive(record.connection)
            exchange.under_way = False
        except NoAnswer:
            exchange.settle()
            raise
        except self.db.Database.Error as error:
            self.take_note(record, error, ran=False, asking=True)
            if not record.gone:
                record.touch()
            raise
        except BaseException:
            exchange.settle()
            record.mark_interrupted()
            raise
        record.touch()
        return rows

    def take_note(
        self,
        record: ConnectionRecord,
        error: BaseException,
        *,
        ran: bool = True,
        asking: bool = False,
        of_a_cursor: bool = False,
    ) -> Proof:
        """Mark the record with what an error proves.

        `ran`: it came of something the application ran, which counts as run. `asking`: it came of
        a question of the backend's own. `of_a_cursor`: it came of a statement that a cursor of
        the driver has sent, or was to send. Of these it is known exactly whether the driver has
        raised it, or a signal handler in the middle.
        """
        if ran and not self.db.autocommit:
            record.dirty = True
        record.pins_after = None
        outcome = record.exchange.settle()
        if outcome is Outcome.NONE and not record.driver_let_go:
            # A parameter, a row of the application's iterator, an instrumentation, another
            # connection: nothing was sent, or everything had been answered.
            return Proof.ALIVE
        if self.driver.has_answered(error):
            return Proof.ALIVE  # a value that cannot be converted: nothing is under way any more
        found = self._database_error(error)
        if found is None or (of_a_cursor and outcome is Outcome.CUT_SHORT):
            # A soft time limit, Ctrl-C, a killed greenlet: the answer may still come.
            record.dirty |= ran
            record.mark_interrupted()
            return Proof.ALIVE
        error = found
        proof = judge(error, mariadb=record.mariadb)
        if code_of(error) == 2014 and record.may_be_unread:
            return Proof.ALIVE  # rows that the application has not read yet are in the way
        proof = self._verified(record, error, proof, asking=asking)
        if proof is Proof.READ_ONLY:
            declared = code_of(error) == 1792 and record.read_only_declared
            record.wrong_node |= record.options.recycle_read_only and not declared
        elif proof is Proof.WRONG_NODE:
            record.wrong_node = True
        elif proof.is_loss:
            record.dirty |= ran or self.driver.in_transaction(record.connection)
            if proof is Proof.PROTOCOL:
                record.mark_interrupted()
            record.mark_lost("lost", code_of(error))
        record.refresh()
        return proof

    def _database_error(self, error: BaseException) -> BaseException | None:
        """The driver's error, also where an instrumentation has raised its own because of it."""
        link: BaseException | None = error
        while link is not None and not isinstance(link, (self.db.Database.Error, Error)):
            link = link.__cause__ or link.__context__
        return link

    def _verified(
        self, record: ConnectionRecord, error: BaseException, proof: Proof, *, asking: bool
    ) -> Proof:
        """What is left of a proof by number once the connection has been looked at.

        An error packet may carry any number: a trigger or a procedure can SIGNAL it. It is the
        answer to the statement, which has run as far as that, and the connection may be sound.
        """
        origin = self.driver.origin(error)
        if record.driver_let_go:
            # Whatever the number says, the connection is lost.
            unsent = origin is Origin.SENDING or (
                origin is Origin.UNKNOWN and not is_of_the_server(error)
            )
            if not proof.is_loss or (proof is Proof.NEVER_RAN and not unsent):
                return Proof.MAY_HAVE_RUN
            return proof
        if not proof.is_loss:
            return proof
        if origin is Origin.SERVER and not is_of_the_server(error):
            return Proof.ALIVE
        if origin in (Origin.SENDING, Origin.CLIENT) or record.descriptor is None:
            never = proof is Proof.NEVER_RAN and origin is not Origin.SENDING
            return Proof.MAY_HAVE_RUN if never else proof
        # An error packet, unless this client library has a number for what it cannot read.
        hung_up = liveness.hangs_up(record.descriptor, HANG_UP)
        if hung_up is False:
            if origin is Origin.SERVER or is_of_the_server(error):
                return Proof.ALIVE
            if proof is not Proof.PROTOCOL and code_of(error):
                return Proof.ALIVE
            # 2027 is also what Connector/C makes of a packet with a number of its own range.
            return Proof.ALIVE if not asking and self._is_in_step(record) else Proof.PROTOCOL
        timed_out = hung_up and origin is Origin.UNKNOWN and code_of(error) == 4031
        return Proof.MAY_HAVE_RUN if proof is Proof.NEVER_RAN and not timed_out else proof

    def _is_in_step(self, record: ConnectionRecord) -> bool:
        """Whether the next answer is the one to the next question. One round trip."""
        number = next(_numbers)
        try:
            rows = self.ask(record, b"SELECT %d" % number)
            return int(rows[0][0]) == number
        except (NoAnswer, self.db.Database.Error, LookupError, TypeError, ValueError):
            return False

    # ##### Replacing and closing #####

    def replace(self, reason: str, *, signal: bool = True) -> None:
        """Close the connection and open a new one through Django's connect(). At a safe point.

        `signal`: call the receivers; the log and the counters tell it in any case.
        """
        db, record = self.db, self.record
        now = clock()
        age, idle = now - record.opened, now - record.contact
        ending = Ending(reason, age, idle, record.idle_limit, record.max_age, signal)
        done = record.done
        left = [answer for answer in Answer if answer.value.left_by & done]
        self.unanswerable.update(dict.fromkeys((*left, *record.arguments), ending))
        self.carried = Carried(
            db.autocommit, db.run_on_commit, db.run_commit_hooks_on_set_autocommit_on, ending
        )
        if record.pins.pinned:
            # The statement at hand sets it again, or some of it.
            pins = record.pins.copy()
            if self.owed is not None:
                pins.absorb(self.owed.pins)
            self.owed = Owed(pins, ending, record.lost_code)
            record.pins = record.pins.lost()
        self.database = record.pins.database
        if self.database is not None:
            self.remember_database()
        db.connection = None
        self._release(record)
        with db.wrap_database_errors:
            db.connect()

    # ##### The default database #####

    def remember_database(self) -> None:
        """The connection in use is about to go: keep what USE has selected for the next one."""
        pins = self.record.pins
        name = None if pins.pinned and pins.database_unknown else pins.database
        opened_in_it = name is not None and name == self.record.opened_in
        if opened_in_it and not connection_created.has_listeners(type(self.db)):
            name = None  # the next connection will be in it without more
        self.database = name

    def select_database(self) -> None:
        """Select the remembered default database on a new connection, before anybody uses it.

        Raises what makes the connection unusable, as a failure to connect.
        """
        record, name = self.record, self.database
        assert name is not None
        quoted = name.replace("`", "``")
        try:
            sql = f"USE `{quoted}`".encode(record.connection.encoding, "surrogateescape")
            self.ask(record, sql)
        except NoAnswer as error:
            raise OperationalError(
                2013, f"no answer to USE while connecting to {self.db.alias!r}"
            ) from error
        except (self.db.Database.Error, UnicodeError) as error:
            code = code_of(error) if isinstance(error, self.db.Database.Error) else 1049
            if code not in NO_SUCH_DATABASE:
                raise
            self.refused = Refused(name, code, self.carried.ending if self.carried else None)
        else:
            record.pins.database_is(name)
        self.database = None

    def refuse_database(self, refused: Refused) -> SessionStateLost:
        """The error for a default database that could not be selected again, which is raised once."""
        ending = refused.ending
        reason, age, idle = (ending.reason, ending.age, ending.idle) if ending else ("closed", 0, 0)
        description = (
            f"default database `{refused.name}`, which cannot be selected again "
            f"(error {refused.code})"
        )
        error = SessionStateLost(
            refused.code,
            f"the connection of {self.db.alias!r} was replaced ({reason}, idle {idle:.1f} s) "
            f"and the new one is not in its {description}",
        )
        self.refused = None
        self.settle()
        self.report(
            error,
            reason=reason,
            age=age,
            idle=idle,
            state=(Kind.DEFAULT_DATABASE.value.label,),
            description=description,
        )
        return error

    def tell(self, ending: Ending) -> None:
        """There is a new connection in the place of one that was replaced."""
        is_telling = self.is_telling()
        telling, self.telling = self.telling, sys._getframe()
        try:
            events.recycled(
                self.db,
                reason=ending.reason,
                age=ending.age,
                idle=ending.idle,
                idle_limit=ending.idle_limit,
                max_age=ending.max_age,
                # What a receiver's own SQL meets is counted and logged: no receiver is called
                # inside itself.
                signal=ending.signal and not is_telling,
            )
        finally:
            self.telling = telling

    def _release(self, record: ConnectionRecord) -> None:
        """Close a connection, politely if the server may still be listening."""
        if record.gone:
            self.abandon(record)
            return
        try:
            record.connection.close()
        except self.db.Database.Error:
            pass  # it was closed already, which is all that is wanted
        record.forget_descriptor()

    def abandon(self, record: Any) -> None:
        """Close a connection without another command: the server may not read it as one."""
        liveness.detach(record.descriptor, record.socket)
        self.driver.abandon(record.connection)
        record.forget_descriptor()

    def state_lost(
        self,
        record: ConnectionRecord,
        idle: float,
        statement: Statement = PLAIN,
        *,
        raised: bool = True,
        reason: str = "",
    ) -> SessionStateLost:
        """The error for the loss of session state, which is raised once.

        `reason`: why a living connection was closed.
        """
        now = clock()
        kinds = record.pins.kinds()
        description = record.pins.describe(now)
        if not kinds:
            kinds = tuple(str(read) for read in statement.reads if record.has_left(read))
            description = "what an earlier statement left for " + ", ".join(kinds)
        reason = record.gone or reason
        error = SessionStateLost(
            record.lost_code or 2006,
            f"the connection of {self.db.alias!r} is gone ({reason}, idle {idle:.1f} s) "
            f"and session state with it: {description}",
        )
        if raised:
            # Before anything is forgotten: whatever strikes from here on, it will be raised.
            self.owe(error, record)
            self._forget_lost(record)
        self.report(
            error,
            reason=reason,
            age=now - record.opened,
            idle=idle,
            state=kinds,
            description=description,
            raised=raised,
        )
        if not raised:
            self._forget_lost(record)
        return error

    def _forget_lost(self, record: ConnectionRecord) -> None:
        """The loss of what this connection carried is known."""
        record.pins = record.pins.lost()
        record.forget_answers()
        record.refresh()

    def owed_lost(self, owed: Owed) -> SessionStateLost:
        """The error for lost state that a statement relies on which does not set it again."""
        ending = owed.ending
        pins = owed.pins.copy()
        pins.absorb(self.record.pins, owed.waiting)
        description = pins.describe(clock())
        error = SessionStateLost(
            owed.code or 2006,
            f"the connection of {self.db.alias!r} was replaced ({ending.reason}, idle "
            f"{ending.idle:.1f} s); this session state has not been set again: {description}",
        )
        self.owe(error, owed)
        self.owed = None
        self.settle()
        self.report(
            error,
            reason=ending.reason,
            age=ending.age,
            idle=ending.idle,
            state=pins.kinds(),
            description=description,
        )
        return error

    def settle_owed(self) -> None:
        """Forget what is owed once there is nothing left of it."""
        if self.owed is not None and not self.owed.keys:
            self.owed = None
            self.settle()

    def report(self, error: SessionStateLost, *, raised: bool = True, **facts: Any) -> None:
        """Log, count and signal a loss that the caller is about to raise."""
        if raised and self.untold is not error:
            self.owe(error)
        reporting, self.reporting = self.reporting, sys._getframe()
        try:
            events.state_lost(self.db, raised=raised, **facts)
        finally:
            self.reporting = reporting

    def owe(self, error: SessionStateLost, of: Any = None) -> None:
        """Let the next statement raise a loss, on whichever connection it runs.

        `of`: the record of the connection, or the Owed, that is forgotten with it.
        """
        try:
            raise error  # which gives it a traceback: see pending()
        except SessionStateLost:
            self.untold_of = of
            self.untold = error
        self.settle()

    def pending(self) -> SessionStateLost | None:
        """The loss that is still to be raised.

        One that was raised counts until it has come out of the backend, which its traceback says:
        an interruption may have taken its place on the way.
        """
        error = self.untold
        if error is not None and not self.in_flight and has_left(error.__traceback__):
            self.untold = self.untold_of = error = None
            self.settle()
        return error

    def raise_pending(self) -> None:
        """Raise the loss that is still to be raised, if there is one."""
        error = self.pending()
        if error is not None and not runs(self.reporting):
            if isinstance(self.untold_of, ConnectionRecord):
                self._forget_lost(self.untold_of)
            elif self.untold_of is not None and self.untold_of is self.owed:
                self.owed = None
            self.owe(error, self.untold_of)
            self.in_flight = False
            raise error

    def settle(self) -> None:
        """Whether the connection in use is watched more closely for what the wrapper has open."""
        record = self.record
        if record is not NO_RECORD:
            record.owing = (
                self.untold is not None
                or self.owed is not None
                or self.refused is not None
                or not _SEEN_END.isdisjoint(self.unanswerable)
            )
            record.refresh()

    # ##### What earlier statements left #####

    def note_answers(self, *, rows: bool = False, arguments: str = "") -> None:
        """A statement has run: some questions are about it from now on, whatever was lost.

        `rows`: it has returned some, which nearly always makes it a SELECT.
        """
        if self.is_telling():
            return  # a receiver's: the application asks for what its own statements left
        ended = {End.STATEMENT, End.SELECT} if rows else {End.STATEMENT}
        self.unanswerable = {
            key: ending
            for key, ending in self.unanswerable.items()
            if key != arguments and (isinstance(key, str) or key.value.end not in ended)
        }
        self.settle()

    # ##### Units of work, processes #####

    def unit_of_work_ended(self) -> None:
        """Django has looked at the connection between two units of work, and kept it."""
        self.pending()
        record = self.record
        if self.unanswerable:
            self.unanswerable = {}
            self.settle()
        if self.owed is not None:
            self.owed.pins.end_unit_of_work()
            self.settle_owed()
        db: Any = self._db()
        if db.connection is None:
            # A replacement has failed. Django's close() would have ended all of this here.
            if self.carried is not None:
                autocommit = db.settings_dict["AUTOCOMMIT"]
                self.carried = Carried(autocommit, [], False, self.carried.ending)
            if db.max_age.closes_at_boundary:
                self.database = self.refused = self.owed = None
        if record.connection is not db.connection:
            return
        record.unit_ended()
        if not record.calm:
            record.pins.end_unit_of_work()
            if db.autocommit:
                record.rolled_back = None  # what follows is no second half of anything
            record.refresh()

    def forget_parent(self) -> None:
        """After a fork, in the child: the connection belongs to the parent."""
        db = self.db
        if db is None:
            return
        self.owed = None
        self.current()  # of a connection, too, that was put in its place without connect()
        record = self.record
        if record is NO_RECORD:
            return
        liveness.detach(record.descriptor, record.socket)
        record.forget_descriptor()
        processes.leave(record.connection)
        processes.leave(db.connection)
        if self.is_in_use(record) and not self.is_connecting():
            self.remember_database()
        self.record = NO_RECORD
        self.untold = self.untold_of = self.carried = None
        self.unanswerable = {}
        self.connecting = self.boundary = self.telling = self.reporting = None
        self.forks += 1
        db.run_on_commit = []
        db.run_commit_hooks_on_set_autocommit_on = False
        if db.connection is None:
            return
        db.connection = None
        if db.in_atomic_block:
            # As after close() in a block: its statements raise until it is left.
            db.closed_in_transaction = True
            db.needs_rollback = True
        else:
            self.carried = Carried(db.autocommit, [], False)
