"""Calling in: a borrower that waits takes the connection of a holder that rests.

Both threads may use Django's API afterwards as if nothing had happened. Neither reaches the session
of the other one.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.backends.signals import connection_created

from django_mysql_recycle import pool
from servers import Server
from tests.integration.acts import receiving
from tests.integration.admin import Admin
from tests.integration.connections import ConnectionFactory
from tests.integration.queries import run, value

from .sockets import open_now

REST = 0.2


@pytest.fixture
def alias(make_connection: ConnectionFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """An alias whose pool has one connection, for which a holder may rest for a fifth of a second."""
    monkeypatch.setattr(pool, "REST", REST)
    return make_connection(options={"pool": {"max_size": 1, "timeout": 8}}).alias


class Other:
    """Another thread, which does one thing after the other and closes nothing on its own."""

    def __init__(self, alias: str, executor: ThreadPoolExecutor) -> None:
        self.alias = alias
        self._executor = executor

    def starts(self, act: Callable[[Any], Any]) -> Future[Any]:
        return self._executor.submit(lambda: act(connections[self.alias]))

    def does(self, act: Callable[[Any], Any]) -> Any:
        return self.starts(act).result(30)


@contextmanager
def another_thread(alias: str) -> Iterator[Other]:
    with ThreadPoolExecutor(1) as executor:
        other = Other(alias, executor)
        try:
            yield other
        finally:
            other.does(lambda connection: connection.close())


def session(connection: Any) -> int:
    return int(value(connection, "SELECT CONNECTION_ID()"))


@pytest.mark.timeout(90)
def test_two_threads_take_one_connection_from_each_other(alias: str) -> None:
    mine = connections[alias]
    with another_thread(alias) as other:
        numbers = {other.does(session)}
        for number in range(2):
            assert value(mine, "SELECT %s + 0", number) == number
            numbers.add(session(mine))
            assert other.does(lambda c, n=number: value(c, "SELECT %s + 0", -n)) == -number
            numbers.add(other.does(session))
    assert len(numbers) == 1
    assert mine.pool_stats()["called_in"] == 4


@pytest.mark.timeout(90)
def test_connection_of_a_thread_that_has_ended_is_closed_though_its_former_holder_rests(
    alias: str, server: Server
) -> None:
    """The former holder's wrapper still refers to the driver's object: nothing else would close it."""
    mine, others = connections[alias], open_now(server.port)
    with another_thread(alias) as other:
        numbers = [other.does(session)]

        def ask() -> None:
            numbers.append(session(connections[alias]))
            del connections[alias]
            gc.collect()  # its wrapper goes, which has the connection still open

        ended = threading.Thread(target=ask)
        ended.start()
        ended.join()
        numbers.append(session(mine))
        assert len(open_now(server.port) - others) == 1
        assert numbers[0] == numbers[1] != numbers[2]
        mine.close()


ACTS = {
    "execute": lambda c: run(c, "DO 0"),
    "is_usable": lambda c: c.is_usable(),
    "close": lambda c: c.close(),
    "close_if_unusable_or_obsolete": lambda c: c.close_if_unusable_or_obsolete(),
    "commit": lambda c: c.commit(),
    "rollback": lambda c: c.rollback(),
    "set_autocommit": lambda c: c.set_autocommit(False),
    "cursor": lambda c: c.cursor().close(),
}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ACTS)
def test_former_holder_does_not_touch_a_transaction_of_the_borrower(
    alias: str, admin: Admin, name: str
) -> None:
    act = ACTS[name]
    mine = connections[alias]
    with another_thread(alias) as other:
        other.does(session)
        with transaction.atomic(using=alias):
            run(mine, "INSERT INTO testapp_account (owner, balance) VALUES ('ann', 1)")
            under_way = other.starts(act)
            # It is done, or it waits for a connection of its own.
            threading.Event().wait(0.3)
            run(mine, "INSERT INTO testapp_account (owner, balance) VALUES ('bob', 1)")
            assert mine.connection is not None
        mine.close()
        under_way.result(30)
        if name == "set_autocommit":
            other.does(lambda c: c.set_autocommit(True))
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 2


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", ["close", "fetch", "collect", "execute"])
def test_cursor_of_the_former_holder_does_not_touch_the_borrowers_rows(
    alias: str, name: str
) -> None:
    mine = connections[alias]
    kept: list[Any] = []

    def begin(connection: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT 1 UNION SELECT 2")
        kept.append(cursor)

    def go_on(connection: Any) -> None:
        cursor = kept.pop()
        if name == "close":
            cursor.close()
        elif name == "fetch":
            assert cursor.fetchall() == ((1,), (2,))
        elif name == "execute":
            cursor.execute("SELECT 3")
            assert cursor.fetchall() == ((3,),)

    with another_thread(alias) as other:
        other.does(begin)
        with mine.cursor() as cursor:
            cursor.execute("SELECT 10 UNION SELECT 20")
            going_on = other.starts(go_on)
            threading.Event().wait(0.2)
            assert cursor.fetchall() == ((10,), (20,))
            cursor.execute("SELECT 40")
            assert cursor.fetchone() == (40,)
        mine.close()
        going_on.result(30)


@pytest.mark.timeout(90)
def test_what_a_receiver_has_set_does_not_reach_the_borrower(alias: str, admin: Admin) -> None:
    """A receiver's state does not bind the connection to its holder, and ends with its lease."""
    admin.rows("CREATE FUNCTION pool_tenant() RETURNS INT READS SQL DATA RETURN @tenant")
    mine, main = connections[alias], threading.current_thread()

    def set_tenant(connection: Any, **named: Any) -> None:
        if threading.current_thread() is not main and connection.alias == alias:
            run(connection, "SET @tenant = 7")

    try:
        with receiving(connection_created, set_tenant), another_thread(alias) as other:
            assert other.does(lambda c: value(c, "SELECT pool_tenant()")) == 7
            assert value(mine, "SELECT pool_tenant()") is None
            mine.close()
    finally:
        admin.rows("DROP FUNCTION pool_tenant")


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "setting",
    [
        "SET @mine = 1",
        "SET SESSION group_concat_max_len = 7654",
        "CREATE TEMPORARY TABLE own (a INT)",
        "SELECT GET_LOCK('pool', 0)",
        "BEGIN",
        "LOCK TABLES testapp_account READ",
        "SET autocommit = 0",
    ],
)
def test_session_with_state_is_not_called_in(alias: str, setting: str) -> None:
    mine = connections[alias]
    with another_thread(alias) as other:
        number = other.does(session)
        other.does(lambda c: run(c, setting))
        asked = threading.Event()

        def ask() -> int:
            asked.set()
            try:
                return session(connections[alias])
            finally:
                connections[alias].close()

        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(ask)
            asked.wait(10)
            threading.Event().wait(3 * REST)
            assert not waiting.done()
            assert other.does(session) == number
            other.does(lambda c: c.close())
            assert waiting.result(20)
    assert mine.pool_stats()["called_in"] == 0
