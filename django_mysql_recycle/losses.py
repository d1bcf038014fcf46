"""What a wrapper has lost with its connections, until it is reported or set again.

Each loss is raised once, by the next statement: SessionStateLost. Until then it stays here, on
whichever connection that statement runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import documents, events
from .calls import Calls, application_frame, has_left, is_on_the_stack, runs
from .connection import NO_CONNECTION, PhysicalConnection
from .errors import NoAnswer, SessionStateLost
from .liveness import clock
from .session_state import PLAIN, Answer, End, Key, Kind, Read, SessionState, Statement

if TYPE_CHECKING:
    from types import FrameType

    from .cursors import RecyclingCursor
    from .wrapper import Wrapper

__all__ = ["Ending", "Losses", "RefusedDatabase", "UnsetState"]

_ASK_IN_TIME = (
    "Ask right after the statement that the question is about, in one transaction with it."
)

#: Answers whose end is not seen on the common path of the cursor.
_END_SEEN_BY_GUARD = {
    answer for answer in Answer if answer.value.end in (End.STATEMENT, End.SELECT)
}


#: Seconds after the loss of a transaction by SQL in which the statements that follow are refused.
LONGEST_REFUSAL = 60.0


@dataclass(slots=True)
class Ending:
    """How a connection that was replaced came to its end. Seconds."""

    reason: str
    age: float
    idle: float
    idle_limit: float | None
    max_age: float | None
    signal: bool  #: whether the receivers of connection_recycled are called

    @property
    def summary(self) -> str:
        """For a message."""
        return f"{self.reason}, idle {self.idle:.1f} s"

    @classmethod
    def of(cls, connection: PhysicalConnection, reason: str, *, signal: bool = True) -> Ending:
        now, idle = clock(), connection.idle_before
        return cls(
            reason,
            now - connection.opened_at,
            now - connection.last_activity if idle is None else idle,
            connection.idle_limit,
            connection.max_age,
            signal,
        )


@dataclass(slots=True)
class UnsetState:
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

    def set_by(self, statement: Statement) -> None:
        """A statement has set its part again."""
        if self.keys.isdisjoint(statement.depends):
            self.pins.set_again(statement.sets)
            self.waiting -= statement.sets
        else:
            self.waiting |= statement.sets


@dataclass(frozen=True, slots=True)
class RefusedDatabase:
    """A default database that a new connection could not select."""

    name: str
    code: int | None
    ending: Ending | None


def _state_lost(code: int | None, loss: str, advice: str) -> SessionStateLost:
    return SessionStateLost(code, f"{loss}. {advice} {documents.SESSION_STATE_LOST}")


#: What an error is about: a connection, or what connections that were replaced have left behind.
_Lost = PhysicalConnection | UnsetState | RefusedDatabase | Ending


class Losses:
    """What one wrapper has lost and not reported yet."""

    def __init__(self, wrapper: Callable[[], Wrapper], calls: Calls) -> None:
        self.wrapper = wrapper
        self._calls = calls
        #: The loss that was raised last, until it has come out of the backend: see pending().
        self.pending_error: SessionStateLost | None = None
        #: What is to be forgotten with it: the connection or the state that it is about.
        self._pending_of: _Lost | None = None
        #: A cursor is being closed while that exception is on its way, or that was interrupted.
        self.in_flight = False
        #: What statements that only set have lost with a connection, less what they have set.
        self.unset: UnsetState | None = None
        #: The next statement raises, unless it selects another database.
        self.refused: RefusedDatabase | None = None
        #: A transaction that SQL began was lost, and the application has not ended it: how its
        #: connection ended.
        self.transaction: Ending | None = None
        self._transaction_lost_at = 0.0
        #: The call of the application that has met this loss.
        self._transaction_lost_in: FrameType | None = None
        #: What earlier statements left in connections that have been replaced since: kinds of
        #: answers, and how the names of variables with the arguments of callproc() begin.
        self.unanswerable: dict[Answer | str, Ending] = {}

    def watch(self) -> None:
        """Have each statement pass the guard as long as there is anything here."""
        guard = self.wrapper().guard
        connection = guard.connection
        watched = (
            self.pending_error is not None
            or guard.journal is not None
            or self.unset is not None
            or self.refused is not None
            or self.transaction is not None
            or not _END_SEEN_BY_GUARD.isdisjoint(self.unanswerable)
        )
        if connection is not NO_CONNECTION and watched is not connection.watched:
            connection.watch_statements(watched)

    def forget(self) -> None:
        """In a child after fork(): the losses are the parent's."""
        self.pending_error = self._pending_of = self.unset = self.transaction = None
        self._transaction_lost_in = None
        self.unanswerable = {}

    # ##### The error still to be raised #####

    def _set_pending(self, error: SessionStateLost, of: _Lost) -> None:
        """Let the next statement raise a loss, on whichever connection it runs.

        `of`: what is forgotten now. Whatever interrupts that, the error will be raised.
        """
        try:
            raise error  # which gives it a traceback: see pending()
        except SessionStateLost:
            self._pending_of = of
            self.pending_error = error
        self.watch()
        if isinstance(of, PhysicalConnection):
            of.forget_loss()
        elif isinstance(of, Ending):
            self.unanswerable = {
                key: ending for key, ending in self.unanswerable.items() if ending is not of
            }
        elif of is self.unset:
            self.unset = None
        elif of is self.refused:
            self.refused = None

    def pending(self) -> SessionStateLost | None:
        """The loss that is still to be raised.

        One that was raised counts until it has come out of the backend, which its traceback says:
        an interruption may have taken its place on the way.
        """
        error = self.pending_error
        if error is not None and not self.in_flight and has_left(error.__traceback__):
            self.pending_error = self._pending_of = error = None
            self.watch()
        return error

    def raise_pending(self) -> None:
        """Raise the loss that is still to be raised, if there is one."""
        error = self.pending()
        of = self._pending_of
        if error is not None and of is not None and not runs(self._calls.reporting):
            self._set_pending(error, of)
            self.in_flight = False
            raise error

    def _report(
        self,
        error: SessionStateLost,
        ending: Ending,
        state: tuple[str, ...],
        description: str,
        *,
        raised: bool = True,
    ) -> SessionStateLost:
        """Log, count and signal a loss. Returns the error, for the caller to raise."""
        calls = self._calls
        outer, calls.reporting = calls.reporting, sys._getframe()
        try:
            events.state_lost(
                self.wrapper(),
                reason=ending.reason,
                age=ending.age,
                idle=ending.idle,
                state=state,
                description=description,
                raised=raised,
            )
        finally:
            calls.reporting = outer
        return error

    # ##### Session state #####

    def state_lost(
        self,
        connection: PhysicalConnection,
        idle: float,
        statement: Statement | None = None,
        *,
        raised: bool = True,
        reason: str = "",
    ) -> SessionStateLost:
        """The error for the loss of session state, which is raised once.

        `statement`: the one that meets it. Without one, a transaction that is lost ends here for
        the application, too. `reason`: why a living connection was closed.
        """
        pins = connection.ledger.pins
        kinds, description = pins.kinds(), pins.describe(clock())
        advice = pins.after_loss() or _ASK_IN_TIME
        if not kinds:
            reads = statement.reads if statement else ()
            kinds = tuple(str(read) for read in reads if connection.has_left(read))
            description = "what an earlier statement left for " + ", ".join(kinds)
        ending = replace(Ending.of(connection, connection.reason or reason), idle=idle)
        error = _state_lost(
            connection.code or 2006,
            f"the connection of {self.wrapper().alias!r} was lost ({ending.summary}), and "
            f"session state with it: {description}",
            advice,
        )
        if raised:
            ends = statement is None or (
                statement.ends_transaction and not statement.begins_transaction  # AND CHAIN
            )
            if pins.in_transaction and not (ends or connection.end_interrupted):
                self.transaction, self._transaction_lost_at = ending, clock()
                self._transaction_lost_in = application_frame()
            self._set_pending(error, connection)
        self._report(error, ending, kinds, description, raised=raised)
        if not raised:
            connection.forget_loss()
        return error

    def connection_replaced(self, connection: PhysicalConnection, ending: Ending) -> None:
        """Note what a new connection will lack."""
        done = connection.done
        left = [answer for answer in Answer if answer.value.left_by & done]
        self.unanswerable.update(dict.fromkeys((*left, *connection.ledger.arguments), ending))
        if connection.ledger.pins.pinned:
            # The statement at hand sets it again, or some of it.
            pins = connection.ledger.pins.copy()
            if self.unset is not None:
                pins.absorb(self.unset.pins)
            self.unset = UnsetState(pins, ending, connection.code)
            connection.ledger.lost()

    def unset_lost(self, unset: UnsetState) -> SessionStateLost:
        """The error for lost state that a statement relies on which does not set it again."""
        wrapper, ending = self.wrapper(), unset.ending
        pins = unset.pins.copy()
        pins.absorb(wrapper.guard.connection.ledger.pins, unset.waiting)
        description = pins.describe(clock())
        error = _state_lost(
            unset.code or 2006,
            f"the connection of {wrapper.alias!r} was replaced ({ending.summary}); this session state "
            f"has not been set again: {description}",
            pins.after_loss(),
        )
        self._set_pending(error, unset)
        return self._report(error, ending, pins.kinds(), description)

    def set_again(self, statement: Statement, args: object, *, many: bool) -> None:
        """A statement has run, which may have set lost state again."""
        unset = self.unset
        if unset is None or self._calls.is_notifying():
            return
        if any(change.kind is Kind.DEFAULT_DATABASE for change in statement.changes):
            unset.pins.another_database()
        # Of several statements the driver has read the first result; what follows may still fail.
        unset.later = PLAIN if statement.single else statement
        if statement.single and (not many or (isinstance(args, (list, tuple)) and args)):
            unset.set_by(statement)
            self._forget_unset()

    def all_have_run(self) -> None:
        """Every statement of a text has run."""
        if self.unset is not None:
            self.unset.set_by(self.unset.later)
            self._forget_unset()

    def _forget_unset(self) -> None:
        if self.unset is not None and not self.unset.keys:
            self.unset = None
            self.watch()

    # ##### A transaction that SQL began #####

    def in_lost_transaction(self) -> bool:
        """Whether the application may take its next statement for one of a lost transaction."""
        calls = self._calls
        if self.transaction is not None and (
            not is_on_the_stack(self._transaction_lost_in)
            or clock() - self._transaction_lost_at >= LONGEST_REFUSAL
        ):
            # The function was left by the error, and its transaction with it. Of a loop that never
            # leaves a function this does not show.
            self.transaction_is_over()
        return (
            self.transaction is not None
            and not calls.is_notifying()  # a receiver's statement
            and not runs(calls.reporting)
        )

    def transaction_is_over(self) -> None:
        """The application has ended the transaction that was lost, if there is one."""
        if self.transaction is not None:
            self.transaction = self._transaction_lost_in = None
            self.watch()

    # ##### The default database #####

    def database_selected(self, statement: Statement) -> None:
        """A statement has run: if it is USE, nothing is refused any more."""
        if statement.selects_database:
            self.refused = None
            self.watch()

    def raise_refused(self, statement: Statement | None) -> None:
        """Raise where a statement would run in another database than USE has selected.

        One that selects a database itself needs the earlier one no longer.
        """
        refused = self.refused
        if refused is None or statement is None or self._calls.is_notifying():
            return
        if statement.selects_database:
            return
        ending = refused.ending or Ending("closed", 0, 0, None, None, signal=True)
        description = (
            f"default database `{refused.name}`, which cannot be selected again "
            f"(error {refused.code})"
        )
        error = _state_lost(
            refused.code,
            f"the connection of {self.wrapper().alias!r} was replaced ({ending.summary}) and the new "
            f"one is not in its {description}",
            "Select a database that the account may use.",
        )
        self._set_pending(error, refused)
        raise self._report(error, ending, (Kind.DEFAULT_DATABASE.value.label,), description)

    # ##### What earlier statements left #####

    def note_answers(self, *, rows: bool = False, arguments: str = "") -> None:
        """A statement has run: some questions are about it from now on, whatever was lost.

        `rows`: it has returned some, which nearly always makes it a SELECT.
        """
        if not self.unanswerable or (self._calls.notifying and self._calls.is_notifying()):
            return  # a receiver's: the application asks for what its own statements left
        ended = {End.STATEMENT, End.SELECT} if rows else {End.STATEMENT}
        self.unanswerable = {
            key: ending
            for key, ending in self.unanswerable.items()
            if key != arguments and (isinstance(key, str) or key.value.end not in ended)
        }
        self.watch()

    def raise_unanswerable(
        self,
        connection: PhysicalConnection,
        statement: Statement,
        cursor: RecyclingCursor | None,
    ) -> None:
        """Raise for a question that the connection in use cannot answer.

        It would answer 0 or NULL for what an earlier statement left in another connection.
        """
        for read in statement.reads:
            ending = self._lost_with(read, connection)
            if ending is None or self._has_answer(read, connection, statement, cursor):
                continue
            if not connection.usable:
                connection.ledger.forget_answers(connection.last_activity)
            description = f"{read} was left in a connection that has been replaced since"
            error = _state_lost(
                2006,
                f"{description}; the connection of {self.wrapper().alias!r} has no answer to it",
                _ASK_IN_TIME,
            )
            # Reported once for all that was left there.
            self._set_pending(error, ending)
            raise self._report(error, ending, (str(read),), description)

    def _lost_with(self, read: Read, connection: PhysicalConnection) -> Ending | None:
        """How the connection ended in which the answer was left, if it was."""
        ledger = connection.ledger
        if read.name.startswith(ledger.arguments):
            return None
        for key, ending in self.unanswerable.items():
            if isinstance(key, str) and read.name.startswith(key):
                return ending
        if read.key is not None and ledger.pins.has_key(read.key):
            return None
        return self.unanswerable.get(read.answer)

    def _has_answer(
        self,
        read: Read,
        connection: PhysicalConnection,
        statement: Statement,
        cursor: RecyclingCursor | None,
    ) -> bool:
        """Ask the connection in use whether it has an answer of its own by now."""
        destroyed = (End.STATEMENT, End.SELECT)  # by the question
        if (
            not read.question
            or any(other.answer.value.end in destroyed for other in statement.reads)
            or not connection.usable
            or connection.is_executing()
            or connection.has_pending_result(cursor)
            or connection.may_have_from_earlier(read)  # that answer would be another borrower's
        ):
            return False
        ending = self.unanswerable[read.answer]
        self.unanswerable[Answer.FOUND_ROWS] = ending
        try:
            rows = connection.ask(b"SELECT " + read.question.encode("utf-8", "surrogateescape"))
        except NoAnswer:
            return False
        except connection.driver.error:
            return connection.usable  # the statement will meet the same error
        if rows[0][0] in (0, None, "", b""):
            return False
        del self.unanswerable[read.answer]
        return True

    # ##### Units of work, closing #####

    def unit_of_work_ended(self) -> None:
        self.pending()
        self.transaction_is_over()
        if self.unanswerable:
            self.unanswerable = {}
            self.watch()
        if self.unset is not None:
            self.unset.pins.end_unit_of_work()
            self._forget_unset()

    def closed_by_application(self, *, outlives: bool) -> None:
        """As in Django, a new connection answers for itself. `outlives`: Django keeps the state."""
        self.unanswerable = {}
        self.transaction = self._transaction_lost_in = None
        if not outlives:
            self.unset = None
