"""Random borrowings and returns against what must hold after each of them."""

from __future__ import annotations

import gc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from django_mysql_recycle.pool import REST, Refused

from .borrowers import Borrower, FakeThread, World

SIZE = 3


class Borrowings(RuleBasedStateMachine):
    """Borrowers that do not wait (`timeout` is 0), so that each gets what is there or is refused."""

    borrowers = Bundle("borrowers")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(SIZE)
        self.asked = self.refused = 0
        self.suspected = 0.0

    @rule(target=borrowers, key=st.sampled_from("ab"))
    def borrow(self, key: str) -> Borrower:
        borrower = self.world.borrower(key, FakeThread())
        leases = list(self.world.account.leases)
        self.asked += 1
        try:
            borrower.borrow()
        except Refused:
            self.refused += 1
            assert len(leases) == SIZE  # else there was a slot, or a connection to be closed
            for lease in leases:
                connection = lease.in_use()
                assert connection is not None
                assert lease.thread.is_alive() or connection.shared
                idle = self.world.now - max(lease.since, connection.last_activity)
                assert idle < REST or connection.in_transaction
            return borrower
        assert borrower.connection is not None
        assert borrower.connection.opened_at >= self.suspected
        return borrower

    @rule(borrower=borrowers)
    def run_statement(self, borrower: Borrower) -> None:
        if borrower.thread.alive:
            borrower.run()

    @rule(borrower=borrowers, begins=st.booleans())
    def begin_or_end_transaction(self, borrower: Borrower, begins: bool) -> None:
        if borrower.thread.alive and borrower.run():
            assert borrower.connection is not None
            borrower.connection.in_transaction = begins

    @rule(borrower=borrowers, fit=st.booleans())
    def close(self, borrower: Borrower, fit: bool) -> None:
        if borrower.connection is not None and borrower.connection.in_transaction:
            fit = False
        if borrower.thread.alive:
            borrower.close(fit=fit)

    @rule(borrower=consumes(borrowers))
    def drop(self, borrower: Borrower) -> None:
        borrower.lease = borrower.connection = None

    @rule(borrower=borrowers)
    def end_thread(self, borrower: Borrower) -> None:
        borrower.thread.alive = False

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 700.0]))
    def rest(self, seconds: float) -> None:
        self.world.now += seconds

    @rule()
    def hang_up(self) -> None:
        for connection in self.world.open():
            connection.hung_up = True

    @rule()
    def expire(self) -> None:
        for connection in self.world.open():
            connection.expires_at = self.world.now

    @rule()
    def close_pool(self) -> None:
        self.world.finish(self.world.account.clear())
        assert self.world.account.available == 0

    @rule()
    def suspect(self) -> None:
        self.world.now += 0.001
        self.suspected = self.world.now
        self.world.finish(self.world.account.suspect(self.world.now))
        assert self.world.account.available == 0

    @invariant()
    def nothing_is_used_by_two_and_all_are_counted(self) -> None:
        gc.collect(0)
        account = self.world.account
        idle = [connection for each in account.idle.values() for connection in each]
        assert len(idle) == len(set(map(id, idle))) == account.available
        used = [lease.in_use() for lease in account.leases]
        assert not set(map(id, idle)) & set(map(id, used))
        assert len(self.world.open()) <= account.size <= SIZE
        assert self.world.most_open <= SIZE
        assert not account.closing

    @invariant()
    def statistics_add_up(self) -> None:
        statistics = self.world.account.statistics()
        assert statistics["requests_num"] == self.asked
        assert statistics["requests_errors"] == self.refused
        assert statistics["requests_waiting"] == 0


TestBorrowings = Borrowings.TestCase
TestBorrowings.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
