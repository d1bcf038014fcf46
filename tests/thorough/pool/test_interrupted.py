"""An exception, and a signal handler that borrows, before any bytecode instruction of pool.py."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from django_mysql_recycle.pool import Refused

from ...opcodes import Struck, at_opcode
from .borrowers import PATH, Borrower, World, assert_all_can_be_lent, assert_consistent

Scenario = Callable[[World], Callable[[], object]]


def borrow_idle(world: World) -> Callable[[], object]:
    world.held().close()
    return world.borrower().borrow


def borrow_new(world: World) -> Callable[[], object]:
    return world.borrower().borrow


def evict(world: World) -> Callable[[], object]:
    others = [world.held("b"), world.held("c")]
    for other in others:
        other.close()
    return world.borrower().borrow


def borrow_while(borrower: Borrower, held: list[Borrower]) -> None:
    """The others exist until it has borrowed."""
    borrower.borrow()
    held.clear()


def call_in(world: World) -> Callable[[], object]:
    held = [world.held() for _ in range(2)]
    world.now += 5
    borrower = world.borrower()
    return lambda: borrow_while(borrower, held)


def call_in_of_another_list(world: World) -> Callable[[], object]:
    held = [world.held("b") for _ in range(2)]
    world.now += 5
    borrower = world.borrower()
    return lambda: borrow_while(borrower, held)


def take_from_a_thread_that_has_ended(world: World) -> Callable[[], object]:
    held = [world.held() for _ in range(2)]
    for each in held:
        assert each.connection is not None
        each.connection.in_transaction = True
        each.thread.alive = False
    borrower = world.borrower()
    return lambda: borrow_while(borrower, held)


def refused(world: World) -> Callable[[], object]:
    held = [world.held() for _ in range(2)]
    borrower = world.borrower()

    def act() -> None:
        with pytest.raises(Refused):
            borrower.borrow()
        held.clear()

    return act


def wait_for_a_return(world: World) -> Callable[[], object]:
    world.limit(timeout=0.2)
    world.now = time.monotonic()
    world.account.clock = time.monotonic
    held = [world.held() for _ in range(2)]
    borrower = world.borrower()

    def act() -> None:
        done = threading.Event()

        def give_one_back() -> None:
            while not world.account.queue and not done.is_set():
                pass
            held[0].close()

        thread = threading.Thread(target=give_one_back, daemon=True)
        thread.start()
        try:
            borrower.borrow()
        except Refused:
            pass  # a signal handler has closed the pool, or has taken what was returned
        finally:
            done.set()
            thread.join(10)

    return act


def give_back(world: World) -> Callable[[], object]:
    return world.held().close


def give_back_unfit(world: World) -> Callable[[], object]:
    borrower = world.held()
    return lambda: borrower.close(fit=False)


def give_back_expired(world: World) -> Callable[[], object]:
    borrower = world.held()
    assert borrower.connection is not None
    borrower.connection.expires_at = world.now
    return borrower.close


def give_back_late(world: World) -> Callable[[], object]:
    """Its thread was taken for dead, and another borrower has its slot."""
    borrower = world.held()
    assert borrower.lease is not None
    borrower.lease.claim()
    borrower.thread.alive = False
    world.held()
    world.held()
    return borrower.close


def tidy(world: World) -> Callable[[], object]:
    for borrower in [world.held("b"), world.held("c")]:
        assert borrower.connection is not None
        borrower.close()
        borrower.connection = None
    world.now += 9999
    dropped = world.held()
    del dropped
    world.now += 9999
    return world.borrower().borrow


def clear(world: World) -> Callable[[], object]:
    for borrower in [world.held(), world.held("b")]:
        borrower.close()
    return lambda: world.finish(world.account.clear())


def suspect(world: World) -> Callable[[], object]:
    for borrower in [world.held(), world.held("b")]:
        borrower.close()
    return lambda: world.finish(world.account.suspect(world.now + 1))


def replace(world: World) -> Callable[[], object]:
    borrower = world.held()
    assert borrower.lease is not None
    lease = borrower.lease

    def act() -> None:
        def connect() -> None:
            assert lease.keeps_slot(sys._getframe())
            assert borrower.connection is not None
            lease.use(borrower.connection)

        connect()
        lease.rest()

    return act


def statement(world: World) -> Callable[[], object]:
    borrower = world.held()

    def act() -> None:
        assert borrower.run()
        assert borrower.run()

    return act


SCENARIOS: list[Scenario] = [
    *(borrow_idle, borrow_new, evict, call_in, call_in_of_another_list),
    *(take_from_a_thread_that_has_ended, refused, wait_for_a_return, give_back, give_back_unfit),
    *(give_back_expired, give_back_late, tidy, clear, suspect, replace, statement),
]


#: Every 13th instruction is tried, and another part of them in each scenario. All of them are tried
#: with RECYCLE_TEST_BOUNDARIES=all.
STEP = 1 if os.environ.get("RECYCLE_TEST_BOUNDARIES") == "all" else 13


def each_opcode(scenario: Scenario, do: Callable[[World], object]) -> None:
    """Run `do` before each instruction, in a world of its own each time."""
    number = 1 + len(scenario.__name__) % STEP
    while True:
        worlds: list[World] = []

        def arrange() -> Callable[[], object]:
            worlds.append(World())  # noqa: B023
            return scenario(worlds[-1])  # noqa: B023

        where, error, _ = at_opcode(arrange, number, PATH, lambda: do(worlds[-1]))  # noqa: B023
        if not where:
            assert error is None
            # Python 3.12 shows the instructions of some calls only.
            assert number > 2 * STEP or STEP == 1 or sys.version_info[:2] == (3, 12)
            return
        number += STEP
        try:
            if error is not None and not isinstance(error, Struck):
                raise error
            error = None
            if worlds[-1].account.lock._is_owned():
                # Struck in the instructions that call the lock's __exit__(). Python handles no
                # signal there: it does so after calls, and where a loop or a function begins.
                continue
            gc.collect(0)
            assert_consistent(worlds[-1])
            assert_all_can_be_lent(worlds[-1])
        except BaseException as wrong:
            raise AssertionError(f"{number}: {where}: {wrong!r}") from wrong


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_no_slot_is_lost_wherever_the_interruption_strikes(scenario: Scenario) -> None:
    def strike(world: World) -> None:
        raise Struck

    each_opcode(scenario, strike)


def borrow_and_return(world: World) -> None:
    borrower = world.borrower()
    try:
        borrower.borrow()
    except Refused:
        return
    assert borrower.run()
    borrower.close()


def borrow_and_keep(world: World) -> None:
    """The copy of a wrapper that a signal handler uses can keep its connection."""
    kept: Borrower = world.borrower("b")
    try:
        kept.borrow()
    except Refused:
        return
    assert kept.run()
    world.kept = kept  # type: ignore[attr-defined]


def close_the_pool(world: World) -> None:
    world.finish(world.account.clear())


HANDLERS = [borrow_and_return, borrow_and_keep, close_the_pool]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_a_signal_handler_may_borrow_anywhere(
    scenario: Scenario, handler: Callable[[World], None]
) -> None:
    each_opcode(scenario, handler)
