"""What an earlier borrower still has, a cursor or a generator, never reaches the next one's rows.

An earlier borrower leaves something behind and returns the connection. The next one works on the
same session, and between any two of its steps the earlier one uses what it has left. The ordinary run
takes some of these cases; RECYCLE_TEST_WALKS takes all.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count, product
from typing import Any

import pytest
from django.db import Error, connections, transaction

from tests.testapp.models import Account

from ..acts import insert, owners
from ..admin import Admin
from ..connections import STOCK, ConnectionFactory
from ..queries import connection_id, run, value
from .borrowers import in_thread
from .conftest import Pooled

# The destructors of PyMySQL read the rest of an unbuffered result from a closed connection, with
# Django's backend as well.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ALL = "RECYCLE_TEST_WALKS" in os.environ

ROWS = "SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3"

#: What the earlier borrower has left, from its connection.
Left = Callable[[Any], Any]


def a_cursor(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(ROWS)
    assert cursor.fetchone() == (1,)
    return cursor


def a_cursor_read_to_the_end(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(ROWS)
    assert len(cursor.fetchall()) == 3
    return cursor


def a_cursor_that_has_inserted(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute("INSERT INTO testapp_account (owner, balance) VALUES (UUID(), 1)")
    return cursor


def a_cursor_that_has_run_nothing(connection: Any) -> Any:
    return connection.cursor()


def results_of_a_procedure(connection: Any) -> Any:
    cursor = connection.cursor()
    cursor.callproc("two_results")
    cursor.fetchone()
    return cursor


def an_iterator(connection: Any) -> Any:
    rows = Account.objects.using(connection.alias).order_by("id").iterator(chunk_size=1)
    next(rows)
    return rows


LEFT: list[Left] = [
    a_cursor,
    a_cursor_read_to_the_end,
    a_cursor_that_has_inserted,
    a_cursor_that_has_run_nothing,
    results_of_a_procedure,
    an_iterator,
]
#: What the earlier borrower does with it.
USES: list[Callable[[Any], Any]] = [
    lambda left: left.fetchone(),
    lambda left: left.fetchmany(2),
    lambda left: left.fetchall(),
    lambda left: left.nextset(),
    lambda left: left.close(),
    lambda left: next(left),
    lambda left: list(left),
    lambda left: left.description,
    lambda left: left.lastrowid,
    lambda left: left.rowcount,
    lambda left: left.cursor.close(),
]


def streaming() -> dict[str, Any]:
    """OPTIONS for a cursor that leaves its rows at the server until they are fetched."""
    driver = importlib.import_module(connections["default"].Database.cursors.__name__)
    return {"cursorclass": driver.SSCursor}


@pytest.fixture
def procedure(admin: Admin) -> None:
    admin.create_procedure("two_results() BEGIN SELECT 1; SELECT 2; SELECT 3; END")


class Next:
    """The next borrower: its statements, each of which checks its own answer."""

    _numbers = count(1)

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.mine = f"next {next(self._numbers)}"

    def steps(self) -> Iterator[str]:
        connection = self.connection
        connection.ensure_connection()
        yield "connected"
        first = connection_id(connection)
        yield "asked"
        with transaction.atomic(using=connection.alias):
            yield "in a transaction"
            insert(connection, self.mine)
            yield "inserted"
            with connection.cursor() as cursor:
                yield "a cursor"
                cursor.execute("SELECT %s UNION ALL SELECT 'b' UNION ALL SELECT 'c'", [self.mine])
                yield "executed"
                assert cursor.fetchone() == (self.mine,)
                yield "fetched one"
                assert [row[0] for row in cursor.fetchall()] == ["b", "c"]
                yield "fetched all"
                cursor.callproc("two_results")
                yield "called"
                assert list(cursor.fetchall()) == [(1,)]
                assert cursor.nextset() in (1, True)
                yield "next set"
                assert list(cursor.fetchall()) == [(2,)]
                assert cursor.nextset() in (1, True)
                assert list(cursor.fetchall()) == [(3,)]
            yield "closed"
            assert value(connection, "SELECT CONNECTION_ID()") == first
            yield "before commit"
        yield "committed"
        assert value(connection, "SELECT owner FROM testapp_account WHERE owner = %s", self.mine)
        connection.close()


@pytest.mark.parametrize("streams", [False, True], ids=["buffered", "streaming"])
@pytest.mark.parametrize("left", LEFT, ids=lambda left: left.__name__)
def test_what_an_earlier_borrower_has_left_touches_nothing_of_the_next_one(
    pooled: Pooled, admin: Admin, procedure: None, left: Left, streams: bool
) -> None:
    connection = pooled(max_size=1, timeout=5, options=streaming() if streams else {})
    alias = connection.alias
    for owner in "abc":
        insert(connection, owner)
    connection.close()
    expected: list[str] = []

    def use_at(step: str, use: Callable[[Any], Any] | None, *, in_this_thread: bool) -> bool:
        """One run: the next borrower works, and at this step the earlier one interferes."""
        earlier: Any = connection
        things = [left(earlier)]
        earlier.close()
        assert connection.pool_stats()["pool_size"] <= 1

        def interfere() -> None:
            if use is None:
                things.clear()
                gc.collect()
                return
            # Whether it can is another matter; it raises Django's or the driver's error then.
            with contextlib.suppress(Error, connection.Database.Error, StopIteration, *WRONG_USE):
                use(things[0])

        def work(mine: Any) -> bool:
            borrower = Next(mine)
            expected.append(borrower.mine)
            reached = False
            for place in borrower.steps():
                if place == step:
                    reached = True
                    if in_this_thread:
                        interfere()
                    else:
                        run_in_thread(interfere)
            return reached

        return bool(in_thread(alias, work, closes=True))

    cases = [*product(STEPS, [*USES, None], [False, True])]
    for step, use, in_this_thread in (
        cases if ALL else random.Random(left.__name__).sample(cases, 12)
    ):
        assert use_at(step, use, in_this_thread=in_this_thread), step
    assert set(expected) <= set(owners(admin))
    statistics = connection.pool_stats()
    assert statistics["pool_size"] == statistics["pool_available"] <= 1


#: Errors for a use that such a thing does not have, or has no more.
WRONG_USE = (AttributeError, TypeError)

STEPS = [
    *("connected", "asked", "in a transaction", "inserted", "a cursor", "executed"),
    *("fetched one", "fetched all", "called", "next set", "closed", "before commit", "committed"),
]


def run_in_thread(call: Callable[[], Any]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_rows_that_were_read_stay_readable_after_the_return(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    cursor = a_cursor(connection)
    connection.close()
    assert in_thread(connection.alias, lambda c: value(c, "SELECT 7"), closes=True) == 7
    assert list(cursor.fetchall()) == [(2,), (3,)]
    cursor.close()
    cursor = connection.cursor()
    cursor.execute("SELECT 8")  # borrows anew
    assert cursor.fetchone() == (8,)


def test_a_cursor_of_the_stock_backend_reads_its_rows_after_close(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    cursor = a_cursor(connection)
    connection.close()
    assert list(cursor.fetchall()) == [(2,), (3,)]


def test_execute_of_an_earlier_borrowers_cursor_borrows_anew(pooled: Pooled) -> None:
    connection = pooled(max_size=2)
    cursor = a_cursor(connection)
    first = connection_id(connection)
    connection.close()

    def hold(other: Any) -> None:
        with transaction.atomic(using=other.alias):
            assert connection_id(other) == first
            run_in_own = []

            def again() -> None:
                cursor.execute("SELECT CONNECTION_ID()")
                run_in_own.append(cursor.fetchone()[0])

            again_in_main(again)
            assert run_in_own[0] != first

    done = threading.Event()
    asked: list[Callable[[], None]] = []

    def again_in_main(call: Callable[[], None]) -> None:
        asked.append(call)
        assert done.wait(20)

    thread = threading.Thread(target=lambda: in_thread(connection.alias, hold, closes=True))
    thread.start()
    while not asked and thread.is_alive():
        pass
    try:
        asked[0]()
    finally:
        done.set()
        thread.join(20)


@pytest.mark.parametrize("leave", [a_cursor, results_of_a_procedure])
def test_a_connection_with_an_unread_result_is_closed(
    pooled: Pooled, procedure: None, leave: Left
) -> None:
    connection = pooled(max_size=1, options=streaming())
    first = connection_id(connection)
    cursor = leave(connection)
    connection.close()
    assert connection_id(connection) != first
    with contextlib.suppress(Error, connection.Database.Error):
        cursor.close()
    assert value(connection, "SELECT 5") == 5


def test_the_holder_that_was_called_in_keeps_the_rows_it_has_read(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    cursor = a_cursor(connection)

    def use(other: Any) -> None:
        with transaction.atomic(using=other.alias):
            assert value(other, "SELECT 7") == 7

    in_thread(connection.alias, use, closes=True)
    assert connection.pool_stats()["called_in"] == 1
    assert list(cursor.fetchall()) == [(2,), (3,)]
    cursor.close()
    assert value(connection, "SELECT 8") == 8


def test_closing_a_cursor_whose_connection_was_called_in_touches_nobody(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    cursors = [a_cursor(connection), a_cursor(connection)]
    wrong: list[Any] = []

    def use(other: Any) -> None:
        with transaction.atomic(using=other.alias):
            mine = other.cursor()
            mine.execute(ROWS)
            cursors[0].close()
            del cursors[0]
            gc.collect()
            with contextlib.suppress(Exception):
                cursors[0].nextset()
            rows = list(mine.fetchall())
            if rows != [(1,), (2,), (3,)]:
                wrong.append(rows)

    in_thread(connection.alias, use, closes=True)
    assert wrong == []
    assert value(connection, "SELECT 8") == 8


def test_every_answer_carries_the_number_of_the_one_who_asked(pooled: Pooled) -> None:
    connection = pooled(max_size=2, timeout=30)
    wrong: list[Any] = []
    interval = sys.getswitchinterval()

    def work(number: int) -> None:
        mine = connections[connection.alias]
        left: list[Any] = []
        for turn in range(30):
            asked = number * 1000 + turn
            cursor = mine.cursor()
            cursor.execute("SELECT %s UNION ALL SELECT %s", [asked, asked])
            if cursor.fetchone() != (asked,):
                wrong.append((number, turn))
            left.append(cursor)
            if turn % 2:
                mine.close()
            if turn % 3:
                rest = left.pop(0)
                if any(number * 1000 > row[0] or row[0] > asked for row in rest.fetchall()):
                    wrong.append((number, turn))
                if left:
                    left.pop().close()
        mine.close()

    try:
        sys.setswitchinterval(1e-5)
        threads = [threading.Thread(target=work, args=[number]) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    statistics = connection.pool_stats()
    assert statistics["pool_size"] == statistics["pool_available"] <= 2
    assert run(connection, "SELECT 1") == [(1,)]
