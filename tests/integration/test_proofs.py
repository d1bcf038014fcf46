"""What looks like a proof and is none: errors that came from somewhere else."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.db.utils import DatabaseError, Error, OperationalError

from django_mysql_recycle import SessionStateLost, counters, events
from servers import Server

from ..testapp.models import Account
from .admin import Admin
from .connections import OURS, Connection, ConnectionFactory
from .queries import connection_id, kill, run

SLOW_INSERT = "INSERT INTO testapp_account (owner, balance) SELECT 'once', SLEEP(0.6)"


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object], float], None]]:
    """`alarm(handler, seconds)`: have the handler called in the middle of what comes next."""
    before = signal.getsignal(signal.SIGALRM)

    def arm(handler: Callable[[], object], seconds: float) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handler())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def rested(connection: Connection) -> Connection:
    """At rest for so long that 2006 would count as a proof, if nothing spoke against it."""
    for _ in range(2):
        run(connection, "SELECT 1")
        time.sleep(0.6)
    return connection


@pytest.mark.parametrize("then", ["", "SELECT 5"])
def test_statement_whose_connection_a_signal_handler_closed_is_not_repeated(
    make_connection: ConnectionFactory, admin: Admin, alarm: Any, engine: str, then: str
) -> None:
    """mysqlclient speaks of 2006 then, although the server has run the statement."""
    connection = rested(make_connection(engine))

    def handler() -> None:
        connection.close()
        if then:
            run(connection, then)

    alarm(handler, 0.2)
    # PyMySQL's reader refuses to be used from within itself, with RuntimeError.
    with pytest.raises((Error, RuntimeError)):
        run(connection, SLOW_INSERT)
    connection.close()
    deadline = time.monotonic() + 5
    while admin.value("SELECT COUNT(*) FROM testapp_account") == 0:
        assert time.monotonic() < deadline
    time.sleep(0.1)
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def test_soft_time_limit_that_raises_an_oserror_does_not_repeat_the_statement(
    make_connection: ConnectionFactory, admin: Admin, alarm: Any
) -> None:
    connection = rested(make_connection(transport="tls"))

    def handler() -> None:
        raise TimeoutError("soft limit")

    alarm(handler, 0.2)
    with pytest.raises((TimeoutError, OperationalError)):
        run(connection, SLOW_INSERT)
    assert run(connection, "SELECT 5") == [(5,)]
    time.sleep(0.7)
    assert admin.value("SELECT COUNT(*) FROM testapp_account") <= 1


def test_error_of_another_connection_in_the_rows_of_executemany_is_not_this_ones(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection, other = make_connection(), make_connection(OURS)
    first = connection_id(connection)

    def rows() -> Iterator[tuple[str, int]]:
        yield ("a", 1)
        other.set_autocommit(False)
        run(other, "SELECT 1")
        kill_now(admin, other)
        run(other, "SELECT 1")

    with transaction.atomic(using=connection.alias):
        with connection.cursor() as cursor, pytest.raises(OperationalError):
            cursor.executemany(
                "INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", rows()
            )
        Account.objects.using(connection.alias).create(owner="b", balance=2)
    assert connection_id(connection) == first
    other.close()


def kill_now(admin: Admin, connection: Connection) -> None:
    admin.kill(connection.connection.thread_id())
    time.sleep(0.02)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [("SELECT %s", ["\ud800"]), ("SELECT '\ud800'", None), (5, None)],
)
def test_what_the_driver_refuses_to_send_leaves_the_transaction_alone(
    make_connection: ConnectionFactory, engine: str, sql: Any, parameters: Any
) -> None:
    connection = make_connection(engine)
    with transaction.atomic(using=connection.alias):
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('a', 1)")
        with connection.cursor() as cursor, pytest.raises((TypeError, ValueError, AssertionError)):
            cursor.execute(sql, parameters)
        run(connection, "UPDATE testapp_account SET balance = 2")
    assert run(connection, "SELECT balance FROM testapp_account") == [(2,)]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_commit_that_django_refuses_in_an_event_loop_leaves_the_transaction_alone(
    make_connection: ConnectionFactory, admin: Admin, engine: str, end: str
) -> None:
    connection = make_connection(engine)
    connection.set_autocommit(False)
    run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('a', 1)")

    async def misuse() -> None:
        getattr(connection, end)()

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(misuse())
    connection.commit()
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def test_end_of_a_transaction_that_never_ran_ends_no_pin(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(options={"client_flag": 65536 | 2})
    run(connection, "BEGIN")
    run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('a', 1)")
    text = (
        "INSERT INTO testapp_account (owner, balance) VALUES ('b', 1);"
        " INSERT INTO nowhere VALUES (1); COMMIT"
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(text)
    except DatabaseError:
        pass  # where the driver reads all the answers
    kill_now(admin, connection)
    with pytest.raises(SessionStateLost, match="transaction"):
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('c', 1)")
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 0


def test_several_statements_that_have_all_run_end_what_they_end(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(options={"client_flag": 65536 | 2})
    run(connection, "BEGIN; SELECT 1; COMMIT")
    kill(admin, connection)
    assert run(connection, "SELECT 5") == [(5,)]


def test_child_forked_without_hooks_never_uses_the_parents_connection(
    connection: Connection,
) -> None:
    """Not even right after a statement, when the look at the socket is spared."""
    libc = ctypes.PyDLL(None)
    for _ in range(20):
        first = connection_id(connection)
        child = libc.fork()
        if not child:
            try:
                os._exit(int(connection_id(connection) == first))
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    connections.close_all()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_child_is_not_held_up_by_a_lock_that_another_thread_held(
    connection: Connection, server: Server
) -> None:
    connection_id(connection)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with events._record.lock:
            held.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if not child:
        signal.alarm(10)
        try:
            run(connection, "SELECT 1")
            with Admin(server) as own:  # the parent's is not to be used here
                kill_now(own, connection)
            run(connection, "SELECT 1")
            os._exit(int(not counters()))
        except BaseException:
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    go_on.set()
    thread.join()
    assert status == 0
