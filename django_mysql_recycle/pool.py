"""The account of a connection pool: who has a slot, which connections are idle, who waits.

It knows neither Django nor a driver. pooling.py borrows from it for Django's connection wrappers.

One lock protects an account. Under it references are moved and nothing else: nothing is sent,
closed, logged or signalled. What has to be closed is given to the caller, and counts as open until
the caller has closed it. The lock is reentrant, because a signal handler may run a statement at any
line, and destructors take no lock: see `Lease.drop`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from types import FrameType
from typing import Any, Protocol
from weakref import WeakSet, ref

from .calls import runs

__all__ = ["Account", "Lease", "Limits", "Refusal", "Refused"]

#: Seconds without a statement after which a waiting borrower may take a connection from its holder.
REST = 1.0

#: The same once the borrower has waited for `REST`, of a holder that has had its connection for as
#: long: a thread that looks for work several times a second would otherwise keep it for ever. Long
#: enough for two statements in a row, such as INSERT and SELECT LAST_INSERT_ID(), in a busy process.
_SHORT_REST = 0.1

#: Seconds after which the first in the queue looks again for a holder that rests.
_LOOK = 0.1
#: The same for the others: the first may have been interrupted.
_LOOK_ALL = 1.0


class Poolable(Protocol):
    """What the account asks of a connection. None of it waits for anything."""

    last_activity: float
    expires_at: float
    opened_at: float

    @property
    def peer_closed(self) -> Callable[[], object]: ...

    def may_be_called_in(self) -> bool:
        """Whether another borrower may have it while its holder rests."""

    def is_shared(self) -> bool:
        """Whether other threads than its holder's may use it."""


class Limits(Protocol):
    """The limits of one account. Seconds and counts, as `options.PoolOptions` describes them."""

    @property
    def max_size(self) -> int: ...
    @property
    def min_size(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def max_waiting(self) -> int: ...
    @property
    def max_idle(self) -> float: ...


class Refusal(Enum):
    """Why a borrower gets nothing."""

    TIMEOUT = auto()  #: nothing was returned in time
    OWN = auto()  #: all connections are held by the thread that asks for another one
    TOO_MANY = auto()  #: too many are waiting already
    CLOSED = auto()  #: the pool was closed while it waited


class Refused(Exception):
    """A borrower gets nothing; `args` are a `Refusal` and the longest holder's `Lease` or None."""


class State(Enum):
    NEW = auto()
    WAITING = auto()
    HELD = auto()
    ENDED = auto()


class Lease:
    """One borrowing, from the place in the queue to the return. It ends once.

    While its holder is between two statements and nothing would be lost, its token lies in
    `token`. Whoever takes the token out, the holder for its next statement or a waiting borrower
    for good, has the connection to itself: `list.pop()` is atomic.
    """

    __slots__ = (
        *("account", "bell", "connection", "generation", "gone", "held", "key", "left_open"),
        *("opening", "refusal", "since", "state", "taken", "thread", "token"),
        "waits_since",
    )

    def __init__(self, account: Account, key: Hashable, opening: FrameType) -> None:
        self.account = account
        self.key = key
        self.thread = threading.current_thread()
        #: The call that borrows. A lease without a connection whose call has ended was interrupted.
        self.opening: FrameType | None = opening
        self.state = State.NEW
        self.since = 0.0
        self.waits_since = 0.0  #: when it was put into the queue, or 0
        self.generation = 0
        #: An idle connection that it was given, until the holder has taken it over. Afterwards a
        #: weak reference to the one in use: the connection of a thread that has ended goes with
        #: its wrapper.
        self.connection: Any = None
        self.token: list[None] = []
        self.held = True  #: the holder has the token
        self.taken = False  #: another borrower has it
        self.refusal: Refusal | None = None
        self.bell: Any = None  #: a lock that is released when it is its turn
        #: The connection, if its holder was destroyed and the connection was not.
        self.left_open: Any = None
        #: Connections that the holder has to close before it opens one.
        self.gone: list[Any] = []

    def use(self, connection: Any) -> None:
        """The holder uses this connection from now on."""
        self.connection = ref(connection)

    def in_use(self) -> Any:
        """The connection that the holder uses, or None."""
        connection = self.connection
        return connection() if isinstance(connection, ref) else None

    def claim(self) -> bool:
        """Before the holder uses the connection. False: another borrower has taken it."""
        if self.held:
            return True
        try:
            self.token.pop()
        except IndexError:
            with self.account.lock:
                if self.taken or self.state is not State.HELD:
                    return False
        self.held = True
        return True

    def rest(self) -> None:
        """The holder is between two statements, and nothing would be lost with the connection."""
        if self.held:
            self.held = False
            self.token.append(None)

    def drop(self, left_open: Any) -> None:
        """The holder's wrapper is being destroyed. Takes no lock: a destructor runs anywhere.

        `left_open`: its connection, if that does not end with it, or None.
        """
        if self.state is not State.ENDED:
            self.left_open = left_open
            self.account.dropped.append(self)


class Account:
    """The connections of one alias in this process."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.clock = clock
        self.lock = threading.RLock()
        #: Idle connections by what they were opened with, the one used last at the end.
        self.idle: dict[Hashable, list[Any]] = {}
        self.leases: set[Lease] = set()
        self.queue: deque[Lease] = deque()
        self.closing: WeakSet[Any] = WeakSet()
        #: Leases whose wrappers were destroyed.
        self.dropped: deque[Lease] = deque()
        #: Connections of earlier generations are closed when they are returned.
        self.generation = 0
        #: Connections that were opened before this moment are closed when they are returned.
        self.suspect_until = 0.0
        self.looked_at_tails = 0.0
        self.counts: dict[str, float] = dict.fromkeys(
            (
                *("usage_ms", "requests_num", "requests_queued", "requests_wait_ms"),
                *("requests_errors", "returns_bad", "connections_num", "connections_ms"),
                *("connections_errors", "connections_lost", "called_in"),
            ),
            0,
        )

    # ##### Sizes #####

    @property
    def available(self) -> int:
        return sum(map(len, self.idle.values()))

    @property
    def size(self) -> int:
        """Connections that are open or being opened or closed."""
        return len(self.leases) + self.available + len(self.closing)

    # ##### Borrowing #####

    def borrow(self, lease: Lease) -> None:
        """Give `lease` a slot, and an idle connection if there is one.

        Waits for at most the limit `timeout`. The caller has to close what is in `lease.gone`
        before it opens a connection, and to report it by `closed`. Raises `Refused`. If this is
        interrupted, the caller ends the lease.
        """
        began = self.clock()
        try:
            with self.lock:
                self.counts["requests_num"] += 1
                lease.gone += self._tidy()
                if self._first() is None and self._take(lease):
                    return
                self._refuse_at_once(lease)
                self.counts["requests_queued"] += 1
                lease.bell = threading.Lock()
                lease.bell.acquire()
                lease.state = State.WAITING
                lease.waits_since = began
                self.queue.append(lease)
            while not self._has_its_turn(lease, began + self.limits.timeout):
                pass
        except Refused:
            with self.lock:
                self.counts["requests_errors"] += 1
            raise
        finally:
            if lease.bell is not None:
                with self.lock:
                    self.counts["requests_wait_ms"] += 1000 * (self.clock() - began)

    def _has_its_turn(self, lease: Lease, deadline: float) -> bool:
        """Wait for a moment. Returns whether `lease` has a slot now."""
        with self.lock:
            if lease.refusal is not None:
                raise Refused(lease.refusal, None)
            if lease.state is State.HELD:
                return True
            first = self._first()
            if first is lease and self._take(lease):
                self._leave_queue(lease)
                return True
            remaining = deadline - self.clock()
            if remaining <= 0:
                holder = self.longest()
                self._end(lease)
                raise Refused(Refusal.TIMEOUT, holder)
        lease.bell.acquire(timeout=min(_LOOK if first is lease else _LOOK_ALL, remaining))
        return False

    def _refuse_at_once(self, lease: Lease) -> None:
        limits = self.limits
        if limits.max_waiting and len(self.queue) >= limits.max_waiting:
            raise Refused(Refusal.TOO_MANY, self.longest())
        held = list(self.leases)
        if len(held) >= limits.max_size and all(
            other.thread is lease.thread and other.held for other in held
        ):
            raise Refused(Refusal.OWN, self.longest())

    def _take(self, lease: Lease, *, calls_in: bool = True) -> bool:
        """Give `lease` what is there: an idle connection, a slot, or a connection that rests."""
        # It has its slot first, and gives it up if there is none: a signal handler that borrows at
        # any line in between finds it counted.
        before = lease.state
        lease.generation, lease.since = self.generation, self.clock()
        self.leases.add(lease)
        lease.state = State.HELD
        most = self.limits.max_size + len(lease.gone)
        if len(self.leases) + len(self.closing) <= most:
            idle = self.idle.get(lease.key)
            if idle:
                lease.connection = idle.pop()
                return True
            if self.size <= most:
                return True
            other = self._longest_idle()
            if other is not None:
                self._close(other, lease.gone)
                return True
        if calls_in and self._call_in(lease):
            return True
        lease.state = before
        self.leases.discard(lease)
        return False

    def _call_in(self, lease: Lease) -> bool:
        """Take the connection of a holder that rests, or whose thread has ended."""
        now = self.clock()
        impatient = lease.waits_since > 0 and now - lease.waits_since >= REST
        self._end_dropped(lease.gone)
        for other in sorted(self.leases, key=lambda each: each.since):
            if other is lease or not self._take_from(other, now, impatient=impatient):
                continue
            connection = other.in_use()
            fits = other.key == lease.key and other.taken
            self._end(other)
            if connection is None:
                pass
            elif fits and not self._is_outdated(other, connection):
                lease.connection = connection
            else:
                self._close(connection, lease.gone)
            if self.size <= self.limits.max_size + len(lease.gone):
                return True
        return False

    def _take_from(self, lease: Lease, now: float, *, impatient: bool) -> bool:
        """Whether a borrower may end the lease of another one."""
        connection = lease.in_use()
        alive = _is_alive(lease.thread)
        if connection is None:
            # It has no connection yet, was interrupted before it had one, or its wrapper is gone.
            return isinstance(lease.connection, ref) or not runs(lease.opening)
        rest = _SHORT_REST if impatient and now - lease.since >= REST else REST
        if alive and now - max(lease.since, connection.last_activity) < rest:
            return False
        try:
            lease.token.pop()
        except IndexError:
            # Inside of a statement or a transaction. If its thread has ended, it stays there.
            return not (alive or connection.is_shared())
        if not connection.may_be_called_in():
            if not (alive or connection.is_shared()):
                return True  # it is closed
            lease.token.append(None)
            return False
        lease.taken = True
        self.counts["called_in"] += 1
        return True

    # ##### Returning #####

    def give_back(self, lease: Lease, connection: Any) -> list[Any]:
        """End a lease. `connection` is None if there is none that another borrower may use.

        Returns connections that the caller has to close, and to report by `closed`.
        """
        with self.lock:
            gone: list[Any] = []
            if lease.state is not State.ENDED:
                self._end(lease)
                if connection is None:
                    self.counts["returns_bad"] += 1
                else:
                    self._offer(lease, connection, gone)
            elif connection is not None:
                self._close(connection, gone)
            gone += self._tidy()
            self._serve()
            return gone

    def end(self, lease: Lease) -> list[Any]:
        """End a lease that has no connection: opening one has failed, or borrowing was cut short.

        Returns connections that the caller has to close, and to report by `closed`.
        """
        with self.lock:
            gone = lease.gone
            if lease.state is not State.ENDED:
                self._drop(lease, gone)
                self._serve()
            return gone

    def closed(self, connection: Any) -> None:
        """A connection that was to be closed is closed."""
        with self.lock:
            self.closing.discard(connection)
            self._serve()

    def clear(self) -> list[Any]:
        """Close the pool: the caller closes what is idle, who waits is refused.

        Connections that are in use are closed when they are returned.
        """
        with self.lock:
            self.generation += 1
            gone: list[Any] = []
            for connections in list(self.idle.values()):
                while connections:
                    self._close(connections[-1], gone)
            while self.queue:
                lease = self.queue.popleft()
                lease.refusal, lease.state = Refusal.CLOSED, State.ENDED
                self._ring(lease)
            return gone

    def suspect(self, now: float) -> list[Any]:
        """Distrust every connection that was opened before `now`. The idle ones are to be closed."""
        with self.lock:
            self.suspect_until = now
            gone: list[Any] = []
            for connections in list(self.idle.values()):
                for connection in [each for each in connections if each.opened_at < now]:
                    self._close(connection, gone)
            return gone

    def _end(self, lease: Lease) -> None:
        if lease.state is State.HELD:
            self.counts["usage_ms"] += 1000 * (self.clock() - lease.since)
        elif lease.state is State.WAITING:
            self._leave_queue(lease)
        lease.state = State.ENDED
        self.leases.discard(lease)

    def _leave_queue(self, lease: Lease) -> None:
        if lease in self.queue:
            self.queue.remove(lease)
        self._ring(self._first())

    def _drop(self, lease: Lease, gone: list[Any]) -> None:
        """End a lease whose holder has not returned it: it was destroyed, or interrupted."""
        connection = lease.connection
        self._end(lease)
        if connection is not None and not isinstance(connection, ref):
            self._offer(lease, connection, gone)  # the holder has not taken it over
        else:
            self.counts["returns_bad"] += 1

    def _offer(self, lease: Lease, connection: Any, gone: list[Any]) -> None:
        """Keep a connection that nobody uses, if it may be used."""
        self.idle.setdefault(lease.key, []).append(connection)
        if self._is_outdated(lease, connection) or self.size > self.limits.max_size:
            self._close(connection, gone)

    def _is_outdated(self, lease: Lease, connection: Any) -> bool:
        return (
            lease.generation != self.generation
            or self.clock() >= connection.expires_at
            or connection.opened_at < self.suspect_until
        )

    def _serve(self) -> None:
        """Give what is there to those that wait, in their order."""
        while (first := self._first()) is not None and self._take(first, calls_in=False):
            self._leave_queue(first)
            self._ring(first)

    def _first(self) -> Lease | None:
        """The borrower that waits longest. One that was interrupted has left."""
        while self.queue:
            first = self.queue[0]
            if first.state is State.WAITING and runs(first.opening):
                return first
            self.queue.popleft()
            first.state = State.ENDED
        return None

    def _ring(self, lease: Lease | None) -> None:
        if lease is not None and lease.bell is not None and lease.bell.locked():
            lease.bell.release()

    # ##### Idle connections #####

    def _end_dropped(self, gone: list[Any]) -> None:
        """End the leases whose wrappers were destroyed."""
        while self.dropped:
            lease = self.dropped.popleft()
            if lease.state is not State.ENDED:
                self._drop(lease, gone)
                if lease.left_open is not None:
                    self._close(lease.left_open, gone)

    def _tidy(self) -> list[Any]:
        """Look at those that have been idle longest, and at the leases that were dropped."""
        gone: list[Any] = []
        self._end_dropped(gone)
        now = self.clock()
        if now - self.looked_at_tails < _LOOK_ALL:
            return gone
        self.looked_at_tails = now
        for key, connections in list(self.idle.items()):
            for tail in connections[:2]:
                idle = now - tail.last_activity
                too_long = idle >= self.limits.max_idle and self.available > self.limits.min_size
                if too_long or now >= tail.expires_at or tail.peer_closed():
                    self._close(tail, gone)
            if not connections:
                self.idle.pop(key, None)
        return gone

    def _longest_idle(self) -> Any:
        tails = [each for connections in list(self.idle.values()) for each in connections[:1]]
        return min(tails, key=lambda each: each.last_activity, default=None)

    def _close(self, connection: Any, gone: list[Any]) -> None:
        """Have the caller close a connection. It counts as open until then."""
        self.closing.add(connection)
        for connections in list(self.idle.values()):
            if connection in connections:
                connections.remove(connection)
        gone.append(connection)

    # ##### Looking #####

    def longest(self) -> Lease | None:
        """The lease that has been held longest."""
        return min(list(self.leases), key=lambda each: each.since, default=None)

    def statistics(self) -> dict[str, float]:
        """The numbers of this account under psycopg_pool's names, and `called_in`."""
        with self.lock:
            return {
                "pool_min": self.limits.min_size,
                "pool_max": self.limits.max_size,
                "pool_size": self.size,
                "pool_available": self.available,
                "requests_waiting": len(self.queue),
                **{name: round(value) for name, value in self.counts.items()},
            }


def _is_alive(thread: threading.Thread) -> bool:
    try:
        return thread.is_alive()
    except (AssertionError, RuntimeError):
        return False  # a thread that Python has not started raises where it has ended
