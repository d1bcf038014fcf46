"""Borrowers of an account, as pooling.py is one, and connections that can tell who uses them."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import ref

from django_mysql_recycle import pool
from django_mysql_recycle.options import PoolOptions
from django_mysql_recycle.pool import Account, Lease

PATH = pool.__file__


class Connection:
    """What the account reads of a connection, and a lock for who uses it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.opened_at = self.last_activity = world.now
        self.expires_at = float("inf")
        self.idle_limit: float | None = None
        self.is_closed = self.hung_up = self.in_transaction = self.shared = False
        self.user = threading.Lock()
        world.connections.add(ref(self))
        open_now = len(world.open())
        world.most_open = max(world.most_open, open_now)

    def peer_closed(self) -> bool:
        return self.hung_up

    def may_be_called_in(self) -> bool:
        return not self.in_transaction

    def is_shared(self) -> bool:
        return self.shared

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeThread:
    """The thread of a borrower, as far as the account asks about it."""

    alive: bool = True

    def is_alive(self) -> bool:
        return self.alive


@dataclass(eq=False)
class World:
    """An account with a clock that stands still, and all connections that were ever opened."""

    max_size: int = 2
    now: float = 100.0
    most_open: int = 0
    connections: set[ref[Connection]] = field(default_factory=set)

    def __post_init__(self) -> None:
        limits = PoolOptions(max_size=self.max_size, timeout=0.0)
        self.account = Account(limits, lambda: self.now)

    def limit(self, **limits: Any) -> None:
        self.account.limits = replace(self.account.limits, **limits)

    def open(self) -> list[Connection]:
        # A connection that was destroyed was closed with that.
        there = [each() for each in list(self.connections)]
        return [each for each in there if each is not None and not each.is_closed]

    def finish(self, unwanted: list[Connection]) -> None:
        while unwanted:
            connection = unwanted[-1]
            try:
                connection.close()
            finally:
                unwanted.pop()
                self.account.closed(connection)

    def borrower(self, key: str = "a", thread: Any = None) -> Borrower:
        return Borrower(self, key, thread)

    def held(self, key: str = "a") -> Borrower:
        borrower = self.borrower(key, FakeThread())
        borrower.borrow()
        return borrower


class Borrower:
    """A wrapper with at most one lease."""

    def __init__(self, world: World, key: str, thread: Any = None) -> None:
        self.world = world
        self.key = key
        self.thread = thread
        self.lease: Lease | None = None
        self.connection: Connection | None = None

    def borrow(self) -> None:
        world = self.world
        frame = sys._getframe()
        lease = Lease(world.account, self.key, frame)
        if self.thread is not None:
            lease.thread = self.thread
        self.lease = lease
        try:
            world.account.borrow(lease)
            world.finish(lease.unwanted)
            connection = lease.connection
            if connection is None:
                connection = Connection(world)
            self.connection = connection
            lease.use(connection)
        except BaseException:
            self.lease = None
            world.finish(world.account.give_back(lease))
            raise
        finally:
            lease.call = None
        lease.rest()

    def has_it(self) -> bool:
        """Before a statement: whether the connection is its own. False: it was called in."""
        lease = self.lease
        if lease is None or not lease.claim():
            self.lease = self.connection = None
            return False
        return True

    def run(self) -> bool:
        """A statement. False: the connection was called in before."""
        outermost = self.lease is not None and not self.lease.held
        if not self.has_it():
            return False
        assert self.connection is not None
        assert self.lease is not None
        if outermost:
            assert self.connection.user.acquire(blocking=False), "two use it"
        assert not self.connection.is_closed
        self.connection.last_activity = self.world.now
        if outermost:
            self.connection.user.release()
            self.lease.rest()
        return True

    def close(self, *, fit: bool = True) -> None:
        if not self.has_it():
            return
        lease, connection = self.lease, self.connection
        assert lease is not None
        assert connection is not None
        if fit:
            lease.returns(sys._getframe())
        else:
            connection.close()
        self.lease = self.connection = None
        self.world.finish(lease.account.give_back(lease, connection if fit else None))


def assert_consistent(world: World) -> None:
    """Nothing belongs to two, and the sizes are those of what is there."""
    account = world.account
    idle = [connection for each in account.idle.values() for connection in each]
    used = [lease.in_use() for lease in account.leases]
    there = idle + [connection for connection in used if connection is not None]
    assert len(there) == len(set(map(id, there)))
    assert world.most_open <= world.max_size


def assert_all_can_be_lent(world: World) -> None:
    """After whoever was interrupted is no more, as many borrow as there are slots."""
    world.now = world.account.clock() + pool.REST
    world.account.clock = lambda: world.now
    borrowers = [world.held() for _ in range(world.max_size)]
    assert len({id(each.connection) for each in borrowers}) == world.max_size
    assert all(each.run() for each in borrowers)
    assert len(world.open()) <= world.max_size
    for each in borrowers:
        each.close()
    account = world.account
    assert account.size == account.available <= world.max_size
    assert not account.leases
