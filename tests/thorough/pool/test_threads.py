"""Many threads borrow from one account: nothing is used by two, and what waits gets its turn."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from django_mysql_recycle import pool
from django_mysql_recycle.pool import Refusal, Refused

from .borrowers import Borrower, World, assert_all_can_be_lent, assert_consistent


@pytest.fixture
def short_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def timed(max_size: int) -> World:
    """An account by the real clock."""
    world = World(max_size)
    world.limit(timeout=20)
    world.account.clock = time.monotonic
    return world


@pytest.mark.parametrize("rest", [1.0, 0.0])
@pytest.mark.usefixtures("short_switches")
def test_64_threads_share_8_connections(monkeypatch: pytest.MonkeyPatch, rest: float) -> None:
    monkeypatch.setattr(pool, "REST", rest)
    world = timed(8)
    errors: list[BaseException] = []
    until = time.monotonic() + 1.5

    def work(number: int) -> None:
        chance = random.Random(number)
        try:
            while time.monotonic() < until:
                borrower = Borrower(world, chance.choice("aab"))
                world.now = time.monotonic()
                borrower.borrow()
                for _ in range(chance.randrange(4)):
                    if not borrower.run():
                        break  # it was called in
                if chance.random() < 0.9:
                    borrower.close(fit=chance.random() < 0.9)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    assert not world.account.queue
    assert_consistent(world)
    assert_all_can_be_lent(world)


def waiting(world: World, served: list[str], name: str, key: str = "a") -> threading.Thread:
    """A thread that is in the queue."""

    def borrow() -> None:
        borrower = world.borrower(key)
        try:
            borrower.borrow()
        except Refused as error:
            served.append(f"{name}: {error.args[0].name}")
            return
        served.append(name)
        borrower.close()

    there = len(world.account.queue)
    thread = threading.Thread(target=borrow, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while len(world.account.queue) == there:
        assert time.monotonic() < until
    return thread


def test_who_comes_first_is_served_first_whatever_it_asks_for() -> None:
    world = timed(1)
    holder = world.held()
    served: list[str] = []
    threads = [waiting(world, served, f"{number}", "ab"[number % 2]) for number in range(6)]
    holder.close()
    for thread in threads:
        thread.join(10)
    assert served == ["0", "1", "2", "3", "4", "5"]
    assert world.most_open == 1


def test_who_waits_is_refused_when_the_pool_is_closed() -> None:
    world = timed(1)
    holder = world.held()
    served: list[str] = []
    threads = [waiting(world, served, f"{number}") for number in range(2)]
    world.finish(world.account.clear())
    for thread in threads:
        thread.join(10)
    assert sorted(served) == ["0: CLOSED", "1: CLOSED"]
    assert holder.run()
    holder.close()
    assert world.open() == []


def test_the_first_of_the_queue_takes_what_rests() -> None:
    world = timed(1)
    holder = world.held()
    served: list[str] = []
    thread = waiting(world, served, "first")
    assert holder.lease is not None
    assert holder.connection is not None
    holder.lease.since -= 5
    holder.connection.last_activity -= 5
    thread.join(10)
    assert served == ["first"]
    assert not holder.run()
    assert world.account.statistics()["called_in"] == 1


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        ({"timeout": 0.0}, Refusal.TIMEOUT),
        ({"max_waiting": 1}, Refusal.TOO_MANY),
    ],
)
def test_a_borrower_is_refused(limits: dict[str, float], refusal: Refusal) -> None:
    world = timed(1)
    holder = world.held()
    served: list[str] = []
    thread = waiting(world, served, "other")
    world.limit(**limits)
    with pytest.raises(Refused) as caught:
        world.held()
    assert caught.value.args == (refusal, holder.lease)
    holder.close()
    thread.join(10)
    assert served == ["other"]
    statistics = world.account.statistics()
    assert statistics["requests_num"] == 3
    assert statistics["requests_errors"] == 1
    assert statistics["requests_queued"] == (2 if refusal is Refusal.TIMEOUT else 1)


def test_a_thread_that_holds_all_does_not_wait_for_itself() -> None:
    world = timed(1)
    holder = world.borrower()
    holder.borrow()
    assert holder.has_it()
    with pytest.raises(Refused) as caught:
        world.borrower().borrow()
    assert caught.value.args[0] is Refusal.OWN
