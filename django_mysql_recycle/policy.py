"""The policy: keep, recycle or refuse. No clock, no socket, no Django.

`decide` is the table of docs/how-it-works.md as code; the first row that applies decides.
Its short cut for an ordinary statement is `PhysicalConnection.needs_no_decision`, for as long as
`short_idle_of` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

__all__ = [
    "REST",
    "WINDOW",
    "Action",
    "Facts",
    "Verdict",
    "decide",
    "idle_limit_of",
    "short_idle_of",
]

#: Seconds of rest after which the session's ``wait_timeout`` is read, and from which on an
#: error like 2006 counts as one 'on a connection that had been idle'.
REST = 0.5

#: Seconds after the last statement in which the liveness check is skipped: a loop that never
#: rests does not pay for a system call at each turn.
WINDOW = 0.001

#: Seconds without a statement that make a pause: statements that belong together stay on
#: one connection.
PAUSE = 1.0


class Action(Enum):
    """What to do before a statement."""

    RUN = auto()
    RECYCLE = auto()
    STATE_LOST = auto()
    INTERRUPTED = auto()
    PING = auto()
    READ_LIMIT = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at the moment of the decision. Seconds; ``None`` is no limit."""

    safe: bool  #: autocommit on (or nothing run since COMMIT), no atomic, not shared
    pending: bool  #: rows or result sets of an earlier statement are still to be read
    pinned: bool
    settable: bool  #: all that is pinned can be set again, and the statement does nothing else
    reads_state: bool  #: the statement asks for what an earlier one left in the session
    reason: str  #: why the connection cannot be used any more; empty if it can
    interrupted: bool  #: the reason is that a statement was interrupted, among others
    wrong_node: bool
    unit_begins: bool  #: nothing has run since the boundary of the unit of work
    idle: float
    age: float
    idle_limit: float | None
    max_age: float | None
    ping_after: float | None
    limit_unread: bool  #: the session's wait_timeout has not been read yet
    peer_closed: Callable[[], object]  #: the liveness check
    #: The statement asks for what no statement of this borrower of a pool has left. The session may
    #: still have it from an earlier borrower.
    asks_earlier: bool = False
    unknown_only: bool = False  #: pinned by nothing but statements that are not known


def decide(facts: Facts) -> Verdict:
    """The first row of the table that applies."""
    if not facts.safe:
        # Half a transaction must never be committed by its second half. What an interrupted
        # statement left in the pipe would be read as the answer to the next one.
        return Verdict(Action.INTERRUPTED if facts.interrupted else Action.RUN)
    if facts.pending and not facts.reason:
        # Readable would mean 'rows waiting', and a ping would destroy them.
        return Verdict(Action.RUN)
    lost = facts.reason
    if facts.pinned or facts.reads_state:
        # The state is still there, or its loss must be reported.
        if not lost and facts.peer_closed():
            lost = "closed"
        if lost and facts.settable and not facts.reads_state:
            # What the statement does not set again is reported later.
            return Verdict(Action.RECYCLE, lost)
        if not lost and facts.unknown_only and not facts.reads_state and _too_old(facts):
            # Whether there is any state is not known, and CONN_MAX_AGE would do nothing.
            return Verdict(Action.RECYCLE, "max age")
        return Verdict(Action.STATE_LOST, lost) if lost else Verdict(Action.RUN)
    if lost:
        # Nothing can be lost any more.
        return Verdict(Action.RECYCLE, lost)
    if facts.wrong_node:
        return Verdict(Action.RECYCLE, "wrong node")
    if facts.idle_limit is not None and facts.idle >= facts.idle_limit:
        # The server has closed it or is about to: no use in asking.
        return Verdict(Action.RECYCLE, "idle limit")
    if facts.peer_closed():
        return Verdict(Action.RECYCLE, "closed")
    if _too_old(facts):
        return Verdict(Action.RECYCLE, "max age")
    if facts.asks_earlier:
        return Verdict(Action.RECYCLE, "used before")
    if facts.limit_unread and facts.idle >= REST:
        # Serves as the ping, too. If the server closes the connection at this very moment it
        # is this harmless read that fails.
        return Verdict(Action.READ_LIMIT)
    if facts.ping_after is not None and facts.idle >= facts.ping_after:
        # An unresponsive network then swallows the ping and not the application's write.
        return Verdict(Action.PING)
    # The connection was open a microsecond ago.
    return Verdict(Action.RUN)


def _too_old(facts: Facts) -> bool:
    if facts.max_age is None or facts.age < facts.max_age:
        return False
    overrun = max(0.1 * facts.max_age, 5.0)
    return facts.unit_begins or facts.idle >= PAUSE or facts.age >= facts.max_age + overrun


def idle_limit_of(wait_timeout: float | None, own: float | None) -> float | None:
    """The shorter of the server's ``wait_timeout`` less a margin, and the user's own limit.

    The margin is 10 % of the value, at least half a second, at most 30 s, and never more than
    half of the value: 1 s leaves 0.5, 3 s leaves 2.5, 28800 s leaves 28770. The server's
    deadline is exact to milliseconds (tests/integration/test_idle.py).
    """
    if wait_timeout is None:
        return own
    margin = min(30.0, max(0.5, 0.1 * wait_timeout), 0.5 * wait_timeout)
    limit = wait_timeout - margin
    return limit if own is None else min(limit, own)


@lru_cache(maxsize=64)  # each new connection of an alias asks the same
def short_idle_of(idle_limit: float | None, ping_after: float | None, limit_unread: bool) -> float:
    """Idle seconds below which, at a safe point, only the liveness check can matter."""
    spans = [float("inf")]
    if idle_limit is not None:
        spans.append(idle_limit)
    if ping_after is not None:
        spans.append(ping_after)
    if limit_unread:
        spans.append(REST)
    return min(spans)
