"""Before a statement: ask the policy (lifecycle.py), and do what it says."""

from __future__ import annotations

from collections.abc import Hashable

from django.db.utils import OperationalError

from . import events
from .cursors import RecyclingCursor
from .errors import PASSING, SessionStateLost, code_of
from .keeper import ConnectionKeeper, Ending, NoAnswer
from .lifecycle import REST, Action, Facts, decide
from .liveness import clock
from .record import ConnectionRecord
from .session_state import Answer, End, Read, Statement

__all__ = ["Decider", "interrupted"]

#: Replacements for one statement. One is enough unless receivers lose the new connection.
_MOST = 3


#: What is decided for where there is no statement.
NOTHING = Statement()


def interrupted(record: ConnectionRecord) -> OperationalError:
    return OperationalError(
        record.lost_code or 2013,
        "an earlier statement of this transaction was cut short, and the next answer might belong "
        "to it. Leave the transaction: the connection is closed then",
    )


class Decider(ConnectionKeeper):
    """Decides whether a connection may carry the next statement, and replaces it if not."""

    def decide_before_cursor(self) -> None:
        """Decide before the statement is known, for a backend that sets up each new connection.

        Such a backend looks at the connection when it makes a cursor: one that is replaced later,
        by the first statement of that cursor, would not be set up. Whatever depends on the
        statement is left to it.
        """
        record = self.current()
        if (
            record is None
            or self.is_connecting()
            or self.untold is not None
            or self.owed is not None
            or self.refused is not None
            or (record.exchange.under_way and self.in_the_middle(record))
            or record.pins.pinned
            or not self.is_safe(record)
            or self._somebody_reads(record, None)
        ):
            return
        if not (record.left or record.arguments) or record.gone or record.is_closed():
            # Any statement leaves ROW_COUNT() and warnings, which a question would destroy.
            self.decide(asks=not record.done)

    def decide(
        self,
        statement: Statement = NOTHING,
        cursor: RecyclingCursor | None = None,
        *,
        asks: bool = True,
    ) -> float:
        """Apply the policy. Returns the idle seconds of the connection that is left.

        Without a statement nothing is about to be sent but what begins a transaction. `asks`: the
        server may be asked something, which changes what the next statement reads.
        """
        record = self.record
        if record.exchange.under_way and self.in_the_middle(record):
            return 0.0  # in the middle of a statement nothing is asked or replaced
        safe = self.is_safe(record)
        if safe and self.off_for_atomic and not self.db.autocommit:
            # An interruption has kept Atomic from entering its block, or from switching it on.
            self.db.set_autocommit(True)
        if safe and self.untold is not None:
            self.raise_pending()
        if self.refused is not None:
            self._report_refused(statement)
        owed = self.owed
        if owed is not None and not self.is_telling() and not statement.may_set_again(owed.keys):
            raise self.owed_lost(owed)
        pins = record.pins
        if pins.pinned and pins.database_unknown and safe and not statement.reads:
            self.ask_database(record, cursor)
        if pins.doubtful and safe and not statement.reads:
            self.ask_locks(record, cursor)
        if self.unanswerable and statement.reads:
            self._refuse_unanswerable(record, statement, cursor)
        sets = statement.only_sets or bool(statement.sets)
        replacements = 0
        while True:
            now = clock()
            idle: float = now - record.contact
            carried = record.pins.settable if sets and record.pins.pinned else None
            verdict = decide(
                Facts(
                    safe=safe,
                    unread=self._somebody_reads(record, cursor),
                    pinned=record.pins.pinned
                    and not (carried is not None and statement.sets_all(carried)),
                    settable=carried is not None and statement.may_set_again(carried),
                    reads_state=any(map(record.has_left, statement.reads)),
                    lost=record.lost,
                    interrupted=record.interrupted,
                    wrong_node=record.wrong_node,
                    unit_begins=record.unit_begins,
                    idle=idle,
                    age=now - record.opened,
                    idle_limit=record.idle_limit,
                    max_age=record.max_age,
                    ping_after=record.options.ping_after,
                    limit_unread=record.limit_unread and now >= record.limit_due,
                    closed=record.is_closed,
                    unknown_only=record.pins.pinned and record.pins.unknown_only,
                )
            )
            if verdict.action is Action.RUN:
                return idle
            if not asks and verdict.action in (Action.PING, Action.READ_LIMIT):
                return idle
            if verdict.action is Action.RECYCLE:
                if not (replacements or record.gone) and self.look_for_autocommit(record):
                    continue  # it was switched off past the cursors
                # Receivers that have lost two are not called for the third.
                self.replace(verdict.reason, signal=replacements < 2)
                record = self.record
                replacements += 1
                if self.refused is not None:
                    self._report_refused(statement)
                sound = not (record.gone or record.wrong_node)
                if sound and (clock() - record.contact < REST or replacements == _MOST):
                    return 0.0
                if replacements == _MOST:
                    raise OperationalError(
                        record.lost_code or 2006,
                        f"each new connection of {self.db.alias!r} was lost ({record.gone or 'wrong node'}) "
                        "before its first statement",
                    )
                # Receivers took their time, in which the server may have closed it again, or a
                # statement of theirs was cut short.
                safe = self.is_safe(record)
                continue
            if verdict.action is Action.STATE_LOST:
                record.mark_lost(verdict.reason)
                raise self.state_lost(record, idle, statement)
            if verdict.action is Action.INTERRUPTED:
                raise interrupted(record)
            # Either the connection has talked to the server now, or it is marked lost.
            self._probe(record, read_limit=verdict.action is Action.READ_LIMIT)

    def _report_refused(self, statement: Statement) -> None:
        """Raise where a statement would run in another database than USE has selected.

        One that selects a database itself needs the earlier one no longer.
        """
        if self.refused is None or statement is NOTHING or self.is_telling():
            return
        if not statement.selects_database:
            raise self.refuse_database(self.refused)

    def _somebody_reads(self, record: ConnectionRecord, cursor: RecyclingCursor | None) -> bool:
        reader = record.unread
        if reader is None and record.may_be_unread:
            # The cursor was dropped with rows unread: PyMySQL drains them at the next command.
            return self.driver.has_more_results(record.connection, None, doubtful=False)
        return reader is not None and reader is not cursor

    def _refuse_unanswerable(
        self, record: ConnectionRecord, statement: Statement, cursor: RecyclingCursor | None
    ) -> None:
        """Raise for a question that the connection in use cannot answer.

        It would answer 0 or NULL for what an earlier statement left in another connection.
        """
        for read in statement.reads:
            ending = self._lost_with(read, record)
            if ending is None or self._answers(read, record, statement, cursor):
                continue
            # Reported once for all that was left there.
            self.unanswerable = {
                key: other for key, other in self.unanswerable.items() if other is not ending
            }
            if record.gone:
                record.forget_answers()
            self.settle()
            description = f"{read} was left in a connection that has been replaced since"
            error = SessionStateLost(
                2006, f"{description}; the connection of {self.db.alias!r} has no answer to it"
            )
            self.report(
                error,
                reason=ending.reason,
                age=ending.age,
                idle=ending.idle,
                state=(str(read),),
                description=description,
            )
            raise error

    def _lost_with(self, read: Read, record: ConnectionRecord) -> Ending | None:
        """How the connection ended in which the answer was left, if it was."""
        if read.name.startswith(record.arguments):
            return None
        for key, ending in self.unanswerable.items():
            if isinstance(key, str) and read.name.startswith(key):
                return ending
        if read.key is not None and record.pins.carries(read.key):
            return None
        return self.unanswerable.get(read.answer)

    def _answers(
        self,
        read: Read,
        record: ConnectionRecord,
        statement: Statement,
        cursor: RecyclingCursor | None,
    ) -> bool:
        """Ask the connection in use whether it has an answer of its own by now."""
        destroyed = (End.STATEMENT, End.SELECT)  # by the question
        if (
            not read.question
            or any(other.answer.value.end in destroyed for other in statement.reads)
            or record.gone
            or record.is_executing()
            or self._somebody_reads(record, cursor)
        ):
            return False
        ending = self.unanswerable[read.answer]
        self.unanswerable[Answer.FOUND_ROWS] = ending
        try:
            rows = self.ask(record, b"SELECT " + read.question.encode("utf-8", "surrogateescape"))
        except NoAnswer:
            return False
        except self.db.Database.Error:
            return not record.gone  # the statement will meet the same error
        if rows[0][0] in (0, None, "", b""):
            return False
        del self.unanswerable[read.answer]
        return True

    def look_for_autocommit(self, record: ConnectionRecord) -> bool:
        """Before a connection is given up: see autocommit that was switched off past the cursors.

        The driver keeps the server's flag. What was lost before may have it off from a
        transaction of Django's.
        """
        try:
            off = self.db.autocommit and not record.connection.get_autocommit()
        except self.db.Database.Error:
            return False  # the application has closed it past Django: mysqlclient answers nothing
        if off:
            record.pins.autocommit_seen(True, clock())
            record.refresh()
        return off

    def ask_database(self, record: ConnectionRecord, cursor: RecyclingCursor | None = None) -> None:
        """Ask for the default database, after a statement whose text does not show it."""
        if record.gone or self._somebody_reads(record, cursor) or record.is_closed():
            return  # its loss is to be reported
        try:
            # In hexadecimal digits it is the same whatever the character set of the session.
            rows = self.ask(record, b"SELECT HEX(DATABASE())")
            digits = rows[0][0]
            name = None
            if digits is not None:
                name = bytes.fromhex(
                    digits.decode() if isinstance(digits, bytes) else digits
                ).decode()
        except (NoAnswer, self.db.Database.Error, ValueError, IndexError):
            return  # it still pins, and the next statement asks again
        record.pins.database_is(name)
        record.refresh()

    def ask_locks(self, record: ConnectionRecord, cursor: RecyclingCursor | None) -> None:
        """Ask which named locks are held where no answer of a statement has shown it."""
        if record.gone or self._somebody_reads(record, cursor) or record.is_closed():
            return  # its loss is to be reported
        asked = record.pins.locks_to_ask_for()
        calls = (f"IS_USED_LOCK({name}) <=> CONNECTION_ID()" for name in asked.values())
        held: dict[Hashable, bool | None] = dict.fromkeys(asked)
        try:
            if asked:
                rows = self.ask(record, f"SELECT CONNECTION_ID(), {', '.join(calls)}".encode())
                session, *answers = map(int, rows[0])
                # A proxy may have asked another server, which knows nothing of these locks.
                if session == record.connection.thread_id():
                    held = {key: bool(answer) for key, answer in zip(asked, answers, strict=True)}
        except (NoAnswer, self.db.Database.Error):
            pass
        except (ValueError, TypeError, IndexError, AttributeError):
            pass  # not what a server answers
        record.pins.locks_told(held)
        record.refresh()

    def _probe(self, record: ConnectionRecord, *, read_limit: bool) -> None:
        try:
            if not read_limit:
                self.ask(record, b"DO 0")
                return
            rows = self.ask(record, b"SELECT @@SESSION.wait_timeout, @@SESSION.sql_mode")
            seconds = float(rows[0][0])
            if not seconds > 0:
                raise ValueError
            record.set_wait_timeout(seconds)
            mode = str(rows[0][1])
            record.reads_literals(
                escapes="NO_BACKSLASH_ESCAPES" not in mode, ansi="ANSI_QUOTES" in mode
            )
        except NoAnswer:
            pass
        except (self.db.Database.Error, ValueError, TypeError, IndexError, KeyError) as error:
            if read_limit and not record.gone:
                record.limit_refused()
                if code_of(error) not in PASSING:
                    events.limit_unknown(self.db.alias)
