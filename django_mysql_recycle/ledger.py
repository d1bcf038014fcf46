"""What the session of one physical connection has that a new one would not have.

Pinned session state, a result that has not been read, and what earlier statements left for later
ones to ask for. The connection owns its ledger. Only the connection's methods, those here and those
of the pins write to it.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from .session_state import INSERTED, SessionState, Statement, begins_of, marks

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
        #: The session may have something that a new one has not, and no end of it is known: a pool
        #: hands it to no other borrower.
        self.marked = False

    # ##### Pins #####

    def apply_rows(self, statement: Statement, args: object, now: float) -> None:
        """A statement has run for each row of parameters."""
        # Whatever a row has ended, the next one may have begun again.
        begins = begins_of(statement.changes)
        if begins:
            beginning = replace(statement, changes=begins)
            for row in args if isinstance(args, (list, tuple)) else [None]:
                self.pins.apply(beginning, row, now)

    def apply_first(self, statement: Statement, args: object, now: float) -> None:
        """Of a text with several statements the first result was read: the others may still fail."""
        self.after = self.pins.copy()
        self.after.apply(statement, args, now)
        self.pins.apply_begins(statement, args, now)

    def all_have_run(self) -> None:
        """Every statement of the text has run."""
        if self.after is not None:
            self.pins, self.after = self.after, None

    def forget_after(self) -> None:
        """What all of an earlier text would have done does not count any more."""
        self.after = None

    def hold(self, reason: str, now: float) -> object:
        """Pin by hand. Returns the token with which `release` ends it."""
        token = self.pins.hold(reason, now)
        if self.after is not None:
            self.after.hold(reason, now, token)
        return token

    def release(self, token: object) -> None:
        self.pins.release(token)
        if self.after is not None:
            self.after.release(token)

    def forget(self) -> None:
        """The application has closed the connection, and knows that nothing is left of it."""
        self.pins = SessionState()

    def lost(self) -> None:
        """The loss of what the session had is known."""
        self.pins = self.pins.lost()
        self.mark_always()  # it still has it, if it is reported before it is closed

    # ##### What statements leave for later ones to ask for #####

    def ran(self, statement: Statement, before: float, now: float) -> None:
        """A statement has succeeded; `before` was the last activity until then."""
        self.after = None
        nothing_left = statement.asks_only and before == self.nothing_left_at
        self.left |= statement.leaves
        if nothing_left:
            self.nothing_left_at = now

    def left_arguments(self, beginning: str) -> None:
        """callproc() has left its arguments in variables whose names begin like this."""
        if beginning not in self.arguments:
            self.arguments += (beginning,)

    def left_insert_id(self) -> None:
        """A later statement may ask for LAST_INSERT_ID()."""
        self.left |= INSERTED

    def forget_answers(self, last_activity: float) -> None:
        """What has run so far is over: a later statement has nothing to ask for."""
        self.left, self.arguments = 0, ()
        self.nothing_left_at = last_activity

    # ##### The next borrower of a pool #####

    def mark(self, statement: Statement, *, pins: bool = True) -> None:
        """A statement is about to run, or has run. `pins`: what it begins is noted as a pin, too."""
        if (
            statement.calls
            or statement.sets_timeout
            or any(marks(change) or not (pins or change.ends) for change in statement.changes)
        ):
            self.marked = True

    def mark_always(self) -> None:
        """The application has made the session another one, in a way that no text shows."""
        self.marked = True

    # ##### The pending result #####

    @property
    def pending_result(self) -> RecyclingCursor | None:
        """The cursor whose rows or result sets are still to be read, if there is one."""
        return None if self._pending is None else self._pending()

    def set_pending(self, cursor: RecyclingCursor | None) -> None:
        # Weak: both drivers drain a result when its last reference goes.
        self._pending = None if cursor is None else weakref.ref(cursor)
        self.may_be_pending = cursor is not None
