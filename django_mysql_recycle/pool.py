"""The account of a connection pool: who has a slot, which connections are idle, who waits.

It knows neither Django nor a driver. pooling.py borrows from it for Django's connection wrappers.

One lock protects an account. Under it references are moved and nothing else: nothing is sent,
closed, logged or signalled. What has to be closed is given to the caller.

An exception can interrupt this code at any line, and a signal handler can borrow and return at any
line, for the lock is reentrant. So what counts is never a flag or a number of its own, but where an
object is: a lease in `leases` has a slot, and a lease in `queue` waits. Each change is one step of
Python's (`add`, `discard`, `pop`), and what is half done counts rather too much than too little.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from .calls import runs

if TYPE_CHECKING:
    from .options import PoolOptions

__all__ = ["Account", "Lease", "Refusal", "Refused"]

#: Seconds without a statement after which a waiting borrower may take a connection from its holder.
REST = 1.0

#: The same once the borrower has waited for `REST`, of a holder that has had its connection for as
#: long: a thread that looks for work several times a second would otherwise keep it for ever. Long
#: enough for two statements in a row, such as INSERT and SELECT LAST_INSERT_ID(), in a busy process.
_SHORT_REST = 0.1

#: Seconds after which the first in the queue looks again for a holder that rests.
_LOOK = 0.1
#: The same for the others, because the first may have been interrupted; and for idle connections.
_LOOK_ALL = 1.0

_since = attrgetter("since")


class Poolable(Protocol):
    """What the account asks of a connection. None of it waits for anything."""

    last_activity: float
    expires_at: float
    opened_at: float
    idle_limit: float | None
    peer_closed: Callable[[], object]

    def may_be_called_in(self) -> bool:
        """Whether another borrower may have it while its holder rests."""

    def is_shared(self) -> bool:
        """Whether other threads than its holder's may use it."""


class Refusal(Enum):
    """Why a borrower gets nothing."""

    TIMEOUT = auto()  #: nothing was returned in time
    OWN = auto()  #: all connections are held by the thread that asks for another one
    TOO_MANY = auto()  #: too many are waiting already
    CLOSED = auto()  #: the pool was closed while it waited
    NESTED = auto()  #: a signal handler asks in the middle of this code, where it cannot wait


class Refused(Exception):
    """A borrower gets nothing; `args` are a `Refusal` and the longest holder's `Lease` or None."""


class Lease:
    """One borrowing, from the place in the queue to the return. It ends once.

    While its holder is between two statements and nothing would be lost, there is a token in
    `token`. Whoever takes it out has the connection to itself: the holder for its next statement,
    or a waiting borrower for good. `pop()` is atomic.
    """

    __slots__ = (
        *("account", "bell", "call", "called_in", "connection", "generation", "held", "key"),
        *("refusal", "since", "thread", "token", "unwanted", "waits_since"),
    )

    def __init__(self, account: Account, key: Hashable, call: FrameType) -> None:
        self.account = account
        self.key = key
        self.thread = threading.current_thread()
        #: The call that borrows or returns. A lease without a connection whose call has ended was
        #: interrupted.
        self.call: FrameType | None = call
        self.since = 0.0
        self.waits_since = float("inf")
        self.generation = 0
        #: An idle connection that it was given, until the holder has taken it over. Afterwards a
        #: weak reference to the one in use: the connection of a thread that has ended is
        #: destroyed with its wrapper.
        self.connection: Any = None
        self.called_in = False  #: that connection belonged to a holder that rested
        self.held = True  #: the holder has the token
        self.token: deque[None] = deque(maxlen=1)
        self.refusal: Refusal | None = None
        self.bell: Any = None  #: a lock that is released when it is its turn
        #: Connections that the holder has to close before it opens one.
        self.unwanted: list[Any] = []

    def use(self, connection: Any) -> None:
        """The holder uses this connection from now on."""
        self.connection = ref(connection)

    def in_use(self) -> Any:
        """The connection that the holder uses, or None."""
        connection = self.connection
        return connection() if isinstance(connection, ref) else None

    def leave(self, connection: Any) -> None:
        """The holder's wrapper is being destroyed, and its connection is not closed with it.

        Takes no lock: a destructor runs anywhere.
        """
        self.connection = connection

    def not_taken_over(self) -> Any:
        """A connection that the holder was given, or had, and does not use; or None."""
        connection = self.connection
        return None if isinstance(connection, ref) else connection

    def is_abandoned(self) -> bool:
        """Whether it has no connection and gets none: it was interrupted, or its wrapper dropped."""
        if self.call is not None and not runs(self.call):
            self.call = None  # its frame keeps alive what the calls further out refer to
        return self.call is None and self.in_use() is None

    def keeps_slot(self, call: FrameType) -> bool:
        """The holder opens another connection. False: its slot was given to another borrower."""
        with self.account.lock:
            self.returns(call)
            return self in self.account.leases and self.claim()

    def returns(self, call: FrameType) -> None:
        """The holder uses the connection no longer, and `call` gives it back."""
        self.call = call
        self.connection = None

    def claim(self) -> bool:
        """Before the holder uses the connection. False: another borrower has taken it."""
        if self.held:
            return True
        try:
            self.token.pop()
        except IndexError:
            with self.account.lock:  # a borrower that looks at the lease has decided by now
                if self not in self.account.leases:
                    return False
                if not self.token:
                    # A claim() or rest() was interrupted, or is under way further out on the
                    # stack of a signal handler. This deque takes no token: there is no more rest.
                    self.token = deque(maxlen=0)
                self.token.clear()
        self.held = True
        return True

    def rest(self) -> None:
        """The holder is between two statements, and nothing would be lost with the connection."""
        if self.held:
            token = self.token
            self.held = False
            token.append(None)


class Account:
    """The connections of one alias in this process."""

    def __init__(self, limits: PoolOptions, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.clock = clock
        self.lock: Any = threading.RLock()
        #: Idle connections by what they were opened with, the one used last at the end.
        self.idle: dict[Hashable, list[Any]] = {}
        self.leases: set[Lease] = set()
        self.queue: deque[Lease] = deque()
        #: Connections that callers close at present, and that nobody's slot stands for.
        self.closing: set[ref[Any]] = set()
        #: Connections of earlier generations are closed when they are returned.
        self.generation = 0
        #: Connections that were opened before this moment are closed when they are returned.
        self.suspect_until = float("-inf")
        self.looked_at = float("-inf")
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
        return sum(map(len, self._lists()))

    @property
    def size(self) -> int:
        """Connections that are open or being opened or closed."""
        while True:
            available = self.available
            size = available + self._busy()
            if available == self.available:  # else a signal handler has returned one meanwhile
                return size

    def _lists(self) -> list[list[Any]]:
        return list(self.idle.values())

    def _busy(self) -> int:
        for each in list(self.closing):
            if each() is None:
                self.closing.discard(each)
        return len(self.closing) + len(self.leases)

    # ##### Borrowing #####

    def borrow(self, lease: Lease) -> None:
        """Give `lease` a slot, and an idle connection if there is one.

        Waits for at most the limit `timeout`. Whether it has a slot or not, the caller has to
        close what is in `lease.unwanted`, and to report it by `closed`. Raises `Refused`. If this
        is interrupted, the caller gives the lease back.
        """
        try:
            with self.lock:
                self.counts["requests_num"] += 1
                first = self._first()
                # A signal handler comes before the call that it has interrupted.
                own = first is not None and first.thread is lease.thread
                if (first is None or own) and self._take(lease):
                    self._tidy(lease.unwanted)
                    return
                self._refuse_at_once(lease)
                self.counts["requests_queued"] += 1
                lease.bell = threading.Lock()
                lease.bell.acquire()
                threads = [each.thread for each in list(self.queue)] + [lease.thread]
                self.queue.insert(threads.index(lease.thread), lease)
            self._wait(lease)
        except Refused:
            with self.lock:
                self.counts["requests_errors"] += 1
            raise

    def _wait(self, lease: Lease) -> None:
        lease.waits_since = began = self.clock()
        deadline = began + self.limits.timeout
        try:
            while True:
                with self.lock:
                    if lease.refusal is not None:
                        raise Refused(lease.refusal, None)
                    first = self._first()
                    if first is lease and self._take(lease):
                        return
                    remaining = deadline - self.clock()
                    if remaining <= 0:
                        raise Refused(Refusal.TIMEOUT, self.longest())
                if self.lock._is_owned():
                    raise Refused(Refusal.NESTED, None)
                lease.bell.acquire(timeout=min(_LOOK if first is lease else _LOOK_ALL, remaining))
        finally:
            with self.lock:
                self._leave_queue(lease)
                self._ring()
                self.counts["requests_wait_ms"] += 1000 * (self.clock() - began)

    def _refuse_at_once(self, lease: Lease) -> None:
        limits, held = self.limits, list(self.leases)
        if limits.max_waiting:
            if sum(runs(each.call) for each in list(self.queue)) >= limits.max_waiting:
                raise Refused(Refusal.TOO_MANY, self.longest())
        if len(held) >= limits.max_size:
            if all(other.thread is lease.thread and other.held for other in held):
                raise Refused(Refusal.OWN, self.longest())

    def _take(self, lease: Lease) -> bool:
        """Give `lease` what is there: an idle connection, a slot, or a connection that rests."""
        most = self.limits.max_size
        lease.generation, lease.since = self.generation, self.clock()
        # It has its slot first, and gives it up if there is none.
        self.leases.add(lease)
        if self._busy() <= most:
            try:
                lease.connection = connection = self.idle[lease.key].pop()
            except (KeyError, IndexError):
                pass
            else:
                self.closing.discard(ref(connection))  # of a _close() that was interrupted
                return True
            while self.size > most and self._evict(lease):
                pass
        # To call in one connection has to be enough, else it is left to its holder.
        if (size := self.size) <= most or (size == most + 1 and self._call_in(lease)):
            return True
        self.leases.discard(lease)
        return False

    def _evict(self, lease: Lease) -> bool:
        """Have the borrower close what has been idle longest. Its slot stands for it until then."""
        tails = [(each, each[:1]) for each in self._lists()]
        idle = min(
            (pair for pair in tails if pair[1]),
            key=lambda pair: pair[1][0].last_activity,
            default=None,
        )
        if idle is None:
            return False
        self._close(idle[1][0], lease.unwanted, idle[0])
        self.closing.discard(ref(idle[1][0]))
        return True

    def _call_in(self, lease: Lease) -> bool:
        """Take the slot of a holder that rests, that was interrupted, or whose thread has ended."""
        now = self.clock()
        impatient = now - lease.waits_since >= REST
        for other in sorted(self.leases, key=_since):
            if other is lease:
                continue
            connection, fits = other.in_use(), False
            if other.is_abandoned():
                connection = other.not_taken_over()
            elif connection is None:
                continue
            elif self._rests(other, connection, now, impatient=impatient):
                fits = other.key == lease.key and not self._is_outdated(other, connection)
                self.counts["called_in"] += 1
            elif _is_alive(other.thread) or connection.is_shared():
                continue
            if connection is None:
                self._end(other)
            else:
                self.closing.add(ref(connection))  # while it is nobody's
                self._end(other)
                if fits:
                    lease.called_in, lease.connection = True, connection
                else:
                    lease.unwanted.append(connection)
                self.closing.discard(ref(connection))
            return True
        return False

    def _rests(self, lease: Lease, connection: Any, now: float, *, impatient: bool) -> bool:
        """Whether its holder rests, and cannot have the connection back any more."""
        rest = _SHORT_REST if impatient and now - lease.since >= REST else REST
        if now - max(lease.since, connection.last_activity) < rest and _is_alive(lease.thread):
            return False
        token = lease.token
        try:
            token.pop()
        except IndexError:
            return False  # inside of a statement or a transaction
        if connection.may_be_called_in():
            return True
        token.append(None)
        return False

    # ##### Returning #####

    def give_back(self, lease: Lease, connection: Any = None) -> list[Any]:
        """End a lease. `connection` is None if there is none that another borrower may use.

        Returns connections that the caller has to close, and to report by `closed`.
        """
        with self.lock:
            unwanted = lease.unwanted
            for each in unwanted:
                self.closing.add(ref(each))  # the slot of the lease has stood for them
            given = lease.not_taken_over()
            if given is not None:
                self._close(given, unwanted)
            was_used = lease.connection is not None and given is None
            lease.connection, lease.held = None, False
            if lease not in self.leases:
                if connection is not None:
                    self._close(connection, unwanted)
            elif connection is None:
                self.counts["returns_bad"] += was_used
                self._end(lease)
            else:
                # First the one and then the other, so that no signal handler finds a slot too many.
                idle = self.idle.setdefault(lease.key, [])
                idle.append(connection)
                self._end(lease)
                if self._is_outdated(lease, connection) or self.size > self.limits.max_size:
                    self._close(connection, unwanted, idle)
            if lease.bell is not None:
                self._leave_queue(lease)
            self._tidy(unwanted)
            self._ring()
            return unwanted

    def closed(self, connection: Any) -> None:
        """A connection that was to be closed is closed."""
        with self.lock:
            self.closing.discard(ref(connection))
            self._ring()

    def clear(self) -> list[Any]:
        """Close the pool: the caller closes what is idle, and who waits is refused.

        Connections that are in use are closed when they are returned.
        """
        with self.lock:
            self.generation += 1
            unwanted = self._close_idle(lambda _: True)
            for lease in list(self.queue):
                lease.refusal = Refusal.CLOSED
                self._ring(lease)
            return unwanted

    def suspect(self, now: float) -> list[Any]:
        """Distrust every connection that was opened before `now`. The caller closes the idle ones."""
        with self.lock:
            self.suspect_until = now
            return self._close_idle(lambda each: each.opened_at < now)

    def _end(self, lease: Lease) -> None:
        self.leases.discard(lease)
        self.counts["usage_ms"] += 1000 * (self.clock() - lease.since)

    def _is_outdated(self, lease: Lease, connection: Any) -> bool:
        return (
            lease.generation != self.generation
            or self.clock() >= connection.expires_at
            or connection.opened_at < self.suspect_until
        )

    # ##### The queue #####

    def _first(self) -> Lease | None:
        """The borrower that waits longest. One that was interrupted or refused waits no longer."""
        for lease in list(self.queue):
            if runs(lease.call):
                if lease.refusal is None:
                    return lease
            else:
                self._leave_queue(lease)
        return None

    def _leave_queue(self, lease: Lease) -> None:
        try:
            self.queue.remove(lease)
        except ValueError:
            pass  # it has left already, or did not wait

    def _ring(self, lease: Lease | None = None) -> None:
        """Wake up the first in the queue, or `lease`."""
        if lease is None and self.queue:
            lease = self._first()
        if lease is not None:
            try:
                lease.bell.release()
            except RuntimeError:
                pass  # it rings already

    # ##### Idle connections #####

    def _tidy(self, unwanted: list[Any]) -> None:
        """Once in a while, close the idle connections that should not be used any more."""
        now = self.clock()
        if now - self.looked_at < _LOOK_ALL:
            return
        self.looked_at = now
        limits = self.limits
        for lease in list(self.leases):
            if lease.is_abandoned():
                if (connection := lease.not_taken_over()) is not None:
                    self._close(connection, unwanted)
                self._end(lease)

        def is_bad(connection: Poolable) -> object:
            idle = now - connection.last_activity
            return (
                (connection.idle_limit is not None and idle >= connection.idle_limit)
                or (idle >= limits.max_idle and self.available > limits.min_size)
                or now >= connection.expires_at
                or connection.peer_closed()
            )

        unwanted += self._close_idle(is_bad)

    def _close_idle(self, is_bad: Callable[[Any], object]) -> list[Any]:
        unwanted: list[Any] = []
        for key, connections in list(self.idle.items()):
            for connection in list(connections):
                if is_bad(connection):
                    self._close(connection, unwanted, connections)
            if not connections:
                self.idle.pop(key, None)
        return unwanted

    def _close(self, connection: Any, unwanted: list[Any], idle: list[Any] | None = None) -> None:
        """Have the caller close a connection. It counts as open until then."""
        self.closing.add(ref(connection))
        if idle is not None:
            try:
                idle.remove(connection)
            except ValueError:  # a signal handler has borrowed it
                self.closing.discard(ref(connection))
                return
        unwanted.append(connection)

    # ##### Looking #####

    def longest(self) -> Lease | None:
        """The lease that has been held longest."""
        return min(list(self.leases), key=_since, default=None)

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
