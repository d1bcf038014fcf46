"""What is known of one physical connection."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import liveness, network_path
from .calls import runs
from .lifecycle import REST, idle_limit_of, quiet_for
from .options import Options
from .session_state import ANY, USUAL, Read, Reading, SessionState, Statement

if TYPE_CHECKING:
    from .drivers import Driver

__all__ = ["ConnectionRecord"]


#: Seconds after which a server that always refuses to tell its ``wait_timeout`` is asked again.
LONGEST_PAUSE = 300.0


class ConnectionRecord:
    """Clocks, marks and pins of one driver connection.

    `calm` is kept up to date instead of computed, since it is read before every statement:
    nothing but the clocks and the liveness check can matter as long as it is true.
    """

    __slots__ = (
        "_unread",
        "age_due",
        "arguments",
        "calm",
        "connection",
        "contact",
        "descriptor",
        "dirty",
        "exchange",
        "executing",
        "flags_unknown",
        "hung_up",
        "idle_limit",
        "interrupted",
        "kept_until",
        "left",
        "limit_due",
        "limit_pause",
        "limit_unread",
        "lost",
        "lost_code",
        "mariadb",
        "max_age",
        "may_be_unread",
        "network_timeout_lifted",
        "nothing_left_at",
        "opened",
        "opened_in",
        "options",
        "owing",
        "path_options",
        "pins",
        "pins_after",
        "quiet",
        "ran_since",
        "read_only_declared",
        "reading",
        "rolled_back",
        "socket",
        "touched",
        "unit_ended_at",
        "wrong_node",
    )

    def __init__(
        self, driver: Driver, connection: Any, options: Options, max_age: float | None
    ) -> None:
        self.connection = connection
        self.options = options
        self.opened = self.contact = liveness.clock()
        #: The default database it was opened with, if connecting selects no other.
        self.opened_in: str | None = None
        self.max_age = max_age  # jittered
        self.age_due = float("inf") if max_age is None else self.opened + max_age
        self.mariadb = driver.is_mariadb(connection)
        self.descriptor = driver.descriptor(connection)
        self.socket = liveness.identity(self.descriptor)
        self.hung_up: Callable[[], object] = liveness.watch(
            self.descriptor if options.liveness_check else None
        )
        #: TCP options that the kernel was asked for.
        self.path_options: Mapping[str, int] = {}
        self.network_timeout_lifted = False
        #: Whether a statement is under way: from the driver's call to the end of its answer.
        self.exchange = driver.watch(connection)
        self.lost = ""  # why it is marked lost
        self.lost_code: int | None = None
        self.interrupted = False
        #: The wrapper has a loss of session state to report, or waits for a statement to end one.
        self.owing = False
        self.wrong_node = False
        #: The last contact when a unit of work ended.
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
        #: The call under way in which the driver runs something; an executemany asks for its next
        #: row between two statements. Ask is_executing().
        self.executing: FrameType | None = None
        #: What its statements have done that a later one may ask for (session_state/kinds.py).
        self.left = 0
        #: How the variables begin in which callproc() has left its arguments: ``@_procedure_``.
        self.arguments: tuple[str, ...] = ()
        #: The last contact up to which nothing has run that a later statement may ask for.
        self.nothing_left_at = self.contact
        #: What failed may have left autocommit off or a transaction open: an error brings none of
        #: the server's flags, the next answer without rows does.
        self.flags_unknown = False
        self.read_only_declared = False
        #: How the session reads literals, as far as its sql_mode is known.
        self.reading = USUAL
        self.pins = SessionState()
        #: How many times its max age it may reach before it is next reported as kept.
        self.kept_until = 1
        #: Of a text with several statements: the pins if all of them run.
        self.pins_after: SessionState | None = None
        self._unread: weakref.ref[Any] | None = None
        #: There is such a cursor, or it was dropped and its rows may still be at the server.
        self.may_be_unread = False
        self.set_wait_timeout(None, unread=True)
        self.calm = self.descriptor is not None  # what refresh() makes of the above

    def __repr__(self) -> str:
        state = self.lost or ("interrupted" if self.interrupted else "open")
        return f"<{type(self).__name__} {state}{' pinned' if self.pins.pinned else ''}>"

    def refresh(self) -> None:
        """Bring `calm` up to date; to be called after every change of a mark or a pin."""
        self.calm = not (
            self.descriptor is None
            or self.lost
            or self.interrupted
            or self.wrong_node
            or self.owing
            or self.executing
            or self.rolled_back
            or self.flags_unknown
            or self.may_be_unread
            or self.pins.pinned
            or self.reading is not USUAL
        )

    @property
    def unit_begins(self) -> bool:
        """Nothing has run in this unit of work yet."""
        return self.contact == self.unit_ended_at

    def touch(self) -> None:
        """It has talked to the server, on the backend's own account."""
        begins, nothing_left = self.unit_begins, self.contact == self.nothing_left_at
        self.contact = liveness.clock()
        if begins:
            self.unit_ended_at = self.contact
        if nothing_left:
            self.nothing_left_at = self.contact

    def unit_ended(self) -> None:
        """A unit of work has ended. The next one asks for nothing that this one has left."""
        self.unit_ended_at = self.nothing_left_at = self.contact
        self.left, self.arguments = 0, ()  # as forget_answers(), a call less for each request

    # ##### What statements leave for later ones to ask for #####

    def ran(self, statement: Statement, now: float) -> None:
        """A statement has succeeded."""
        nothing_left = statement.asks_only and self.contact == self.nothing_left_at
        self.contact = now
        self.left |= statement.leaves
        if nothing_left:
            self.nothing_left_at = now

    def left_arguments(self, beginning: str) -> None:
        """callproc() has left its arguments in variables whose names begin like this."""
        if beginning not in self.arguments:
            self.arguments += (beginning,)

    def has_left(self, read: Read) -> bool:
        """Whether an earlier statement of the unit of work may have left what is asked for."""
        return bool(read.answer.value.left_by & self.done) or read.name.startswith(self.arguments)

    @property
    def done(self) -> int:
        """What its statements have done, as bits of session_state/kinds.py."""
        return self.left | (ANY if self.contact != self.nothing_left_at else 0)

    def forget_answers(self) -> None:
        """What has run so far is over: a later statement has nothing to ask for."""
        self.left, self.arguments = 0, ()
        self.nothing_left_at = self.contact

    @property
    def unread(self) -> Any:
        """The cursor whose rows or result sets are still to be read, if there is one."""
        return None if self._unread is None else self._unread()

    @unread.setter
    def unread(self, cursor: Any) -> None:
        # Weak: both drivers drain a result when its last reference goes.
        self._unread = None if cursor is None else weakref.ref(cursor)
        self.may_be_unread = cursor is not None
        if cursor is None and self.network_timeout_lifted:
            self.restore_network_timeout()
        self.refresh()

    def is_closed(self) -> bool:
        """The liveness check. Means nothing while a result is unread."""
        return bool(self.hung_up())

    @property
    def driver_let_go(self) -> bool:
        """Whether the driver has closed its socket: its number may be another one's by now."""
        return self.socket is not None and liveness.identity(self.descriptor) != self.socket

    def set_wait_timeout(self, seconds: float | None, *, unread: bool = False) -> None:
        """The session's ``wait_timeout``; `unread`: it is to be read (again) later."""
        self.limit_unread = unread
        self.limit_due, self.limit_pause = 0.0, REST
        self.idle_limit = idle_limit_of(seconds, self.options.idle_limit)
        self.quiet = quiet_for(self.idle_limit, self.options.ping_after, unread)

    def read_again(self) -> None:
        """Have what is read after the first rest read once more."""
        self.limit_unread = True
        self.limit_due, self.limit_pause = 0.0, REST
        self.quiet = quiet_for(self.idle_limit, self.options.ping_after, True)

    def reads_literals(self, *, escapes: bool, ansi: bool | None = None) -> None:
        """What the session's sql_mode says: NO_BACKSLASH_ESCAPES, ANSI_QUOTES (None: unknown)."""
        reading = Reading(escapes, self.reading.ansi if ansi is None else ansi)
        self.reading = USUAL if reading == USUAL else reading
        self.refresh()

    def limit_refused(self) -> None:
        """Have ``wait_timeout`` read after another rest, and after each refusal less soon."""
        self.limit_due = liveness.clock() + self.limit_pause
        self.limit_pause = min(2 * self.limit_pause, LONGEST_PAUSE)

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

    def is_executing(self) -> bool:
        """Whether a call of the driver is under way."""
        if self.executing is not None and not runs(self.executing):
            self.executing = None  # an interruption has kept it from saying so
            self.refresh()
        return self.executing is not None

    def mark_lost(self, reason: str, code: int | None = None) -> None:
        """Not to be used any more. The first reason stays."""
        if not self.lost:
            self.lost, self.lost_code = reason, code
        self.forget_descriptor()
        self.refresh()

    def mark_interrupted(self) -> None:
        """A command was cut short: what is read next may be its answer."""
        self.interrupted = True
        self.refresh()

    def mark_unanswered(self) -> None:
        """A round trip of the backend's own got no answer in time; it may still come.

        Not like mark_lost(): the descriptor is still the driver's, and ours to detach.
        """
        self.lost = "no answer"
        self.mark_interrupted()

    def kept(self, times: float) -> bool:
        """It is kept open at so many times its max age. Whether that is to be reported."""
        if times < self.kept_until:
            return False
        while self.kept_until <= times:
            self.kept_until *= 2
        return True

    def forget_descriptor(self) -> None:
        """The driver has given its socket up: the number may belong to another one by now."""
        self.descriptor = self.socket = None
        self.hung_up = liveness.watch(None)
        self.calm = False

    def mark_rolled_back(self, error: BaseException) -> None:
        """The server has rolled back everything that ran in the transaction before `error`."""
        self.rolled_back = error
        self.ran_since = self.touched = False
        self.pins.transaction_ended()
        self.refresh()

    def forget_rollback(self) -> None:
        """The application got the error, or has ended the transaction by itself."""
        self.rolled_back = None
        self.refresh()

    def transaction_ended(self) -> None:
        """COMMIT or ROLLBACK was acknowledged, or the server rolls back by itself."""
        self.dirty = self.touched = False
        self.rolled_back = None
        self.pins.transaction_ended()
        self.refresh()

    @property
    def gone(self) -> str:
        """Why it cannot be used any more, as far as that is known without a look."""
        return self.lost or ("interrupted" if self.interrupted else "")
