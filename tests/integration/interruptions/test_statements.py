"""A statement that was interrupted: no later one ever reads its answer.

mysqlclient meets the exception when its C call returns, PyMySQL at once; both are left in the middle.
"""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.utils import DatabaseError, Error

from django_mysql_recycle import SessionStateLost
from servers import FaultProxy

from ..acts import (
    alarm,
    assert_works,
    in_a_driver,
    insert,
    kill,
    listening,
    owners,
    rest,
    session_id,
    wait_for,
)
from ..admin import Admin
from ..connections import STOCK, Connection, ConnectionFactory, Proxied, unbuffered
from ..queries import connection_id, run, value
from .conftest import (
    INTERRUPTIONS,
    ONE_KIND,
    SLOW,
    SoftTimeLimit,
    destructors_may_complain,
    interrupted,
)


@pytest.mark.core
@INTERRUPTIONS
def test_statement_after_an_interrupted_one_gets_its_own_answer(
    make_connection: ConnectionFactory, admin: Admin, transport: Any, kind: type[BaseException]
) -> None:
    connection = make_connection(transport=transport)
    before = connection_id(connection)
    with listening(connection) as received:
        interrupted(kind, lambda: run(connection, SLOW))
        assert [value(connection, "SELECT %s + 0", n) for n in (1, 2, 3)] == [1, 2, 3]
    assert received.recycled == ["interrupted"]
    assert session_id(connection) != before
    assert_works(connection, admin)


def test_control_stock_backend_is_left_in_the_middle_of_an_interrupted_statement(
    make_connection: ConnectionFactory, driver: str
) -> None:
    connection = make_connection(STOCK)
    run(connection, "SELECT 1")
    interrupted(SoftTimeLimit, lambda: run(connection, SLOW))
    time.sleep(0.4)
    answers = []
    for number in (1, 2, 3):
        try:
            answers.append(value(connection, "SELECT %s + 0", number))
        except (Error, AttributeError, TypeError, IndexError):
            answers.append("error")
    assert answers != [1, 2, 3]


@ONE_KIND
def test_interrupted_write_is_there_at_most_once(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:
    run(connection, "SELECT 1")
    first = session_id(connection)
    sql = "INSERT INTO testapp_account (owner, balance) SELECT 'a', SLEEP(0.3)"
    interrupted(kind, lambda: run(connection, sql))
    insert(connection, "b")
    admin.wait_until_closed(first)
    assert owners(admin) in (["a", "b"], ["b"])
    assert_works(connection, admin)


@ONE_KIND
def test_connection_of_an_interrupted_statement_is_closed_without_another_command(
    make_connection: ConnectionFactory,
    proxy: Callable[..., FaultProxy],
    kind: type[BaseException],
) -> None:
    between = proxy()
    connection = make_connection(via=between)
    run(connection, "SELECT 1")
    interrupted(kind, lambda: run(connection, SLOW))
    requests = between.connections[0].requests
    assert value(connection, "SELECT 2") == 2
    wait_for(lambda: not between.connections[0].open, "the end of the interrupted connection")
    assert between.connections[0].requests == requests


NUMBERS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)"
    " SELECT i, REPEAT('x', 2000), SLEEP(0.002) FROM n"
)


@destructors_may_complain
@ONE_KIND
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_interrupted_fetch_leaves_no_row_to_a_later_statement(
    make_connection: ConnectionFactory,
    admin: Admin,
    driver: str,
    kind: type[BaseException],
    inside: str,
) -> None:
    connection = make_connection(options=unbuffered(driver))
    run(connection, "SELECT 1")

    def read() -> None:
        with connection.cursor() as cursor:
            cursor.execute(NUMBERS)
            while cursor.fetchone():
                pass

    def work() -> None:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                insert(connection, "a")
                read()
        else:
            read()

    interrupted(kind, work)
    assert [value(connection, "SELECT %s + 0", n) for n in (1, 2)] == [1, 2]
    assert owners(admin) == []
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_ping_of_the_backends_own_is_not_read_by_the_statement(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied(recycle={"ping_after": 0.1})
    run(connection, "SELECT 1")
    rest(connection)
    between.latency = 0.15
    interrupted(kind, lambda: insert(connection, "a"))
    between.latency = 0
    assert owners(admin) == []
    with listening(connection) as received:
        assert value(connection, "SELECT 5 + 0") == 5
    assert received.recycled == ["interrupted"]
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_health_check_is_not_read_by_the_next_statement(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied(CONN_HEALTH_CHECKS=True, CONN_MAX_AGE=None)
    run(connection, "SELECT 1")
    connection.close_if_unusable_or_obsolete()
    between.latency = 0.15
    interrupted(kind, lambda: run(connection, "SELECT 1"))
    between.latency = 0
    assert value(connection, "SELECT 5 + 0") == 5
    assert_works(connection, admin)


@ONE_KIND
def test_interrupted_connect_leaves_no_half_open_connection(
    proxied: Proxied, admin: Admin, kind: type[BaseException]
) -> None:
    connection, between = proxied()
    between.latency = 0.1
    interrupted(kind, lambda: insert(connection, "a"), after=0.15)
    between.latency = 0
    assert owners(admin) == []
    insert(connection, "b")
    assert owners(admin) == ["b"]
    # And while a lost one is being replaced.
    kill(admin, connection)
    between.latency = 0.1
    interrupted(kind, lambda: insert(connection, "c"), after=0.15)
    between.latency = 0
    insert(connection, "d")
    assert owners(admin) == ["b", "d"]
    assert_works(connection, admin)


@ONE_KIND
def test_loss_of_a_lock_on_an_interrupted_connection_is_reported(
    connection: Connection, admin: Admin, kind: type[BaseException]
) -> None:

    run(connection, "SELECT GET_LOCK('interrupted', 0)")
    interrupted(kind, lambda: run(connection, SLOW))
    with pytest.raises(SessionStateLost, match="interrupted"):
        run(connection, "SELECT 1")
    assert_works(connection, admin)


@destructors_may_complain
@pytest.mark.parametrize("inside", ["plain", "atomic"])
def test_interruption_anywhere_in_the_driver_never_shifts_answers(
    connection: Connection, admin: Admin, inside: str
) -> None:
    seed = random.randrange(1 << 30)
    moments = random.Random(seed)
    hits = 0

    def ask(number: int) -> None:
        answer = value(connection, "SELECT %s + 0", number)
        assert answer == number, f"{answer} answers {number} (seed {seed})"

    def some(start: int) -> None:
        for number in range(start, start + 60):
            if inside == "atomic":
                with transaction.atomic(using=connection.alias):
                    ask(number)
                    ask(-number)
            else:
                ask(number)

    for round_ in range(120):
        try:
            with alarm(moments.uniform(0.0001, 0.006), SoftTimeLimit, where=in_a_driver):
                some(round_ * 1000)
        except SoftTimeLimit:
            hits += 1
        except DatabaseError:
            hits += 1  # leaving the block may be what was interrupted
    ask(7)
    assert hits > 20, f"only {hits} interruptions (seed {seed})"
    assert_works(connection, admin)


def test_thread_that_is_stopped_in_a_statement_reads_its_own_answers_afterwards(
    connection: Connection, admin: Admin
) -> None:
    begun = threading.Event()
    answers: list[Any] = []

    def work() -> None:
        mine = connections[connection.alias]
        try:
            run(mine, "SELECT 1")
            begun.set()
            run(mine, SLOW)
            while True:
                time.sleep(0.001)
        except SoftTimeLimit:
            answers.extend(value(mine, "SELECT %s + 0", n) for n in (1, 2, 3))
        finally:
            mine.close()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    time.sleep(0.05)
    assert thread.ident is not None
    # As a thread pool's time limit or an eventlet's kill does it.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SoftTimeLimit)
    )
    thread.join()
    assert answers == [1, 2, 3]
