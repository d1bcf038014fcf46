"""What the session of one physical connection has that a new one would not have.

Pinned session state, a result that has not been read, and what earlier statements left for later
ones to ask for. The connection owns its ledger, and only the methods here write to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .session_state import SessionState, Statement, begins_of

if TYPE_CHECKING:
    from .cursors import RecyclingCursor

__all__ = ["Ledger"]


class Ledger:
    """The account of one session. ``now`` is a reading of the backend's clock in seconds."""

    def __init__(self, now: float) -> None:
        self.pins = SessionState()
        #: Of a text with several statements: the pins if all of them run.
        self.after: SessionState | None = None
        self._pending: weakref.ref[RecyclingCursor] | None = None
        #: There is a pending result, or its cursor was dropped and its rows may still be at the
        #: server.
        self.may_be_pending = False
        #: What its statements have done that a later one may ask for (session_state/kinds.py).
        self.left = 0
        #: How the variables begin in which callproc() has left its arguments: ``@_procedure_``.
        self.arguments: tuple[str, ...] = ()
        #: The last activity up to which nothing has run that a later statement may ask for.
        self.nothing_left_at = now
        #: An ordinary statement changes nothing here. Kept and not computed: it is read before
        #: every statement.
        self.settled = True

    def _settle(self) -> None:
        pins = self.pins
        self.settled = not (
            self.may_be_pending
            or (pins.pinned and (pins.in_transaction or pins.doubtful or pins.database_unknown))
        )

    # ##### Pins #####

    def apply(self, statement: Statement, args: object, now: float) -> None:
        """A statement, the only one of its text, has succeeded."""
        self.pins.apply(statement, args, now)
        self._settle()

    def apply_answer(self, statement: Statement, args: object, answer: object, now: float) -> None:
        """The same where the answer tells whether the statement got or freed its lock."""
        self.pins.answer(statement, args, answer, now)
        self._settle()

    def apply_rows(self, statement: Statement, args: object, now: float) -> None:
        """A statement has run for each row of parameters."""
        # Whatever a row has ended, the next one may have begun again.
        begins = begins_of(statement.changes)
        if begins:
            beginning = replace(statement, changes=begins)
            for row in args if isinstance(args, (list, tuple)) else [None]:
                self.pins.apply(beginning, row, now)
            self._settle()

    def apply_first(self, statement: Statement, args: object, now: float) -> None:
        """Of a text with several statements the first result was read: the others may still fail."""
        self.after = self.pins.copy()
        self.after.apply(statement, args, now)
        self.apply_begins(statement, args, now)

    def apply_begins(
        self, statement: Statement, args: object, now: float, *, many: bool = False
    ) -> None:
        """A statement may have run in part: what it begins counts, what it ends does not."""
        self.pins.apply_begins(statement, args, now, many=many)
        self._settle()

    def all_have_run(self) -> None:
        """Every statement of the text has run."""
        if self.after is not None:
            self.pins, self.after = self.after, None
            self._settle()

    def forget_after(self) -> None:
        """Whatever an earlier text was to do when all of it ran, it is over."""
        self.after = None

    def autocommit_seen(self, off_by_sql: bool, now: float) -> None:
        """Whether the server has autocommit off although Django left it on."""
        self.pins.autocommit_seen(off_by_sql, now)
        self._settle()

    def transaction_ended(self) -> None:
        """COMMIT or ROLLBACK was acknowledged, or the server has rolled back by itself."""
        self.pins.transaction_ended()
        self._settle()

    def written(self) -> None:
        """A statement has run that may have written."""
        self.pins.written()

    def database_is(self, name: str | None) -> None:
        """What USE has selected, or what the server has answered."""
        self.pins.database_is(name)
        self._settle()

    def locks_answered(self, held: Mapping[Hashable, bool | None]) -> None:
        """The server's answer about named locks. None: there is none, and a lock counts as held."""
        self.pins.locks_told(held)
        self._settle()

    def hold(self, reason: str, now: float) -> object:
        """Pin by hand. Returns the token with which `release` ends it."""
        token = self.pins.hold(reason, now)
        if self.after is not None:
            self.after.hold(reason, now, token)
        self._settle()
        return token

    def release(self, token: object) -> None:
        self.pins.release(token)
        if self.after is not None:
            self.after.release(token)
        self._settle()

    def end_unit_of_work(self) -> None:
        """Variables stop pinning. All else pins until it ends or the connection is closed."""
        self.pins.end_unit_of_work()
        self._settle()

    def lost(self) -> None:
        """The loss of what the session carried is known."""
        self.pins = self.pins.lost()
        self._settle()

    def forget_pins(self) -> None:
        """The application has closed the connection, and knows that nothing is left of it."""
        self.pins = SessionState()
        self._settle()

    # ##### What statements leave for later ones to ask for #####

    def ran(self, statement: Statement, before: float, now: float) -> None:
        """A statement has succeeded; `before` was the last activity until then."""
        nothing_left = statement.asks_only and before == self.nothing_left_at
        self.left |= statement.leaves
        if nothing_left:
            self.nothing_left_at = now

    def left_arguments(self, beginning: str) -> None:
        """callproc() has left its arguments in variables whose names begin like this."""
        if beginning not in self.arguments:
            self.arguments += (beginning,)

    def forget_answers(self, last_activity: float) -> None:
        """What has run so far is over: a later statement has nothing to ask for."""
        self.left, self.arguments = 0, ()
        self.nothing_left_at = last_activity

    # ##### The pending result #####

    @property
    def pending_result(self) -> RecyclingCursor | None:
        """The cursor whose rows or result sets are still to be read, if there is one."""
        return None if self._pending is None else self._pending()

    def set_pending(self, cursor: RecyclingCursor | None) -> None:
        # Weak: both drivers drain a result when its last reference goes.
        self._pending = None if cursor is None else weakref.ref(cursor)
        self.may_be_pending = cursor is not None
        self._settle()
