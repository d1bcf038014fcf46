"""The number of an error proves nothing by itself: a trigger or a procedure may SIGNAL any of them.

What such a statement did in a table without transactions has happened, so it must not run again,
and its connection is sound: it is neither replaced nor given up.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError, OperationalError

from servers import FaultProxy, HAProxy, Server

from .acts import (
    assert_works,
    balances,
    code_of,
    descriptor,
    insert,
    listening,
    owners,
    rest,
    session_id,
    wait_until_hung_up,
)
from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import run, value

#: No look at the socket before a statement, so that only the error itself speaks.
BLIND: dict[str, Any] = {"liveness_check": False, "ping_after": None}

#: Numbers of the client libraries that mean a loss, or a broken protocol, when they are their own.
OF_A_CLIENT = [2006, 2013, 2014, 2026, 2027, 2048, 2055, 5013]
#: Numbers of the server that mean a loss when it is the server that gives the connection up.
OF_THE_SERVER = [4031, 1053, 1927, 3169, 1077, 1152, 1153, 1156, 1158, 1161]
#: Numbers for which a connection is replaced, at a safe point and no sooner.
OF_A_NODE = [1047, 1180, 1290, 1792, 1836, 1874, 3032]


@pytest.fixture(autouse=True, scope="module")
def tables(session_server: Server, django_db_setup: None) -> Iterator[None]:
    """`INSERT INTO signals` leaves a mark that no rollback takes back, and raises the number."""
    body = (
        "BEGIN DECLARE number INT DEFAULT {};"
        " INSERT INTO marks VALUES (number);"
        " SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = number, MESSAGE_TEXT = 'read-only, as it says';"
        " {} END"
    )
    with Admin(session_server) as admin:
        admin.set_global("log_bin_trust_function_creators", 1)
        admin.rows("CREATE TABLE marks (number INT) ENGINE = MyISAM")
        admin.rows("CREATE TABLE signals (number INT)")
        admin.rows(
            "CREATE TRIGGER raises BEFORE INSERT ON signals"
            f" FOR EACH ROW {body.format('NEW.number', '')}"
        )
        admin.rows(f"CREATE PROCEDURE signal_number(wanted INT) {body.format('wanted', '')}")
        returns = body.format("wanted", "RETURN 1;")
        admin.rows(f"CREATE FUNCTION signalled(wanted INT) RETURNS INT {returns}")
        yield
        admin.rows("DROP TABLE signals, marks")
        admin.rows("DROP PROCEDURE signal_number")
        admin.rows("DROP FUNCTION signalled")
        admin.restore()


@pytest.fixture(autouse=True)
def _no_marks(tables: None, admin: Admin) -> None:
    admin.rows("TRUNCATE TABLE marks")


WAYS: dict[str, str] = {
    "trigger": "INSERT INTO signals VALUES (%s)",
    "procedure": "CALL signal_number(%s)",
    "function": "SELECT signalled(%s)",
}


def rested(connection: Connection) -> Connection:
    """Connect, have the wait_timeout read, and rest: from here on 2006 would be repeated."""
    run(connection, "SELECT 1")
    rest(connection)
    run(connection, "SELECT 1")
    rest(connection)
    return connection


def raise_number(connection: Connection, number: int, way: str = "trigger") -> None:
    with pytest.raises(DatabaseError):
        run(connection, WAYS[way], number)


def marks(admin: Admin) -> list[int]:
    return [row[0] for row in admin.rows("SELECT number FROM marks")]


@pytest.mark.parametrize("recycle", [{}, BLIND], ids=["checked", "blind"])
def test_statement_whose_trigger_signals_a_number_runs_once_on_a_connection_that_stays(
    make_connection: ConnectionFactory, admin: Admin, transport: Any, recycle: dict[str, Any]
) -> None:
    connection = rested(make_connection(transport=transport, recycle=recycle))
    before = session_id(connection)
    numbers = [*OF_A_CLIENT, *OF_THE_SERVER]
    with listening(connection) as received:
        for number in numbers:
            rest(connection)
            raise_number(connection, number)
            assert value(connection, "SELECT CONNECTION_ID()") == before, number
    assert marks(admin) == numbers
    assert (received.repeated, received.recycled, received.lost) == ([], [], [])
    assert_works(connection, admin)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [2006, 4031, 2048])
def test_statement_that_signals_a_number_by_a_routine_runs_once(
    make_connection: ConnectionFactory, admin: Admin, way: str, number: int
) -> None:
    connection = rested(make_connection(recycle=BLIND))
    before = session_id(connection)
    with listening(connection) as received:
        raise_number(connection, number, way)
        assert value(connection, "SELECT CONNECTION_ID()") == before
    assert (received.repeated, received.recycled, received.lost) == ([], [], [])
    assert marks(admin) == [number]


@pytest.mark.parametrize("number", [2006, 4031, 2013, 1053])
@pytest.mark.parametrize("kind", ["haproxy", "proxy"])
def test_statement_that_signals_a_number_through_a_proxy_runs_once(
    make_connection: ConnectionFactory,
    admin: Admin,
    proxy: Callable[..., FaultProxy],
    haproxy: Callable[..., HAProxy],
    kind: str,
    number: int,
) -> None:
    between = proxy() if kind == "proxy" else haproxy()
    connection = rested(make_connection(via=between, recycle=BLIND))
    before = session_id(connection)
    raise_number(connection, number)
    assert value(connection, "SELECT CONNECTION_ID()") == before
    assert marks(admin) == [number]


@pytest.mark.parametrize("number", OF_A_NODE)
def test_signalled_number_of_a_node_replaces_nothing_that_has_state(
    make_connection: ConnectionFactory, admin: Admin, number: int
) -> None:
    connection = rested(make_connection())
    before = session_id(connection)
    assert value(connection, "SELECT GET_LOCK('import', 0)") == 1
    with listening(connection) as received:
        raise_number(connection, number)
        assert value(connection, "SELECT IS_USED_LOCK('import')") == before
    assert (received.repeated, received.recycled, received.lost) == ([], [], [])
    assert marks(admin) == [number]
    assert value(connection, "SELECT RELEASE_LOCK('import')") == 1


@pytest.mark.parametrize("number", [*OF_A_CLIENT, *OF_THE_SERVER, *OF_A_NODE])
def test_transaction_goes_on_after_a_signalled_number(
    make_connection: ConnectionFactory, admin: Admin, engine: str, number: int
) -> None:
    connection = make_connection(engine)
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        raise_number(connection, number)
        insert(connection, "second")
    assert owners(admin) == ["first", "second"]
    assert marks(admin) == [number]
    assert_works(connection, admin)


@pytest.mark.parametrize("number", [*OF_A_CLIENT, *OF_THE_SERVER])
def test_lock_is_kept_over_a_signalled_number(
    make_connection: ConnectionFactory, admin: Admin, number: int
) -> None:
    connection = rested(make_connection())
    before = session_id(connection)
    assert value(connection, "SELECT GET_LOCK('import', 0)") == 1
    rest(connection)
    with listening(connection) as received:
        raise_number(connection, number)
        assert value(connection, "SELECT IS_USED_LOCK('import')") == before
    assert received.lost == []
    assert value(connection, "SELECT RELEASE_LOCK('import')") == 1


@pytest.mark.parametrize("number", [2006, 2013, 2014, 2027, 4031, 1053])
def test_answers_belong_to_their_statements_after_a_signalled_number(
    connection: Connection, admin: Admin, number: int
) -> None:
    for question in range(20):
        raise_number(connection, number)
        assert value(connection, "SELECT %s + 0", question) == question


# A number that is real.


@pytest.mark.parametrize("way", ["tcp", "tls", "socket", "haproxy", "proxy"])
def test_statement_after_an_idle_timeout_that_the_driver_can_prove_is_run_once_more(
    make_connection: ConnectionFactory,
    admin: Admin,
    driver: str,
    vendor: str,
    proxy: Callable[..., FaultProxy],
    haproxy: Callable[..., HAProxy],
    way: Any,
) -> None:
    options = {"init_command": "SET SESSION wait_timeout = 1"}
    arguments: dict[str, Any] = {"transport": way if way in ("tcp", "tls", "socket") else "tcp"}
    if way in ("haproxy", "proxy"):
        arguments["via"] = proxy() if way == "proxy" else haproxy()
    # As if its wait_timeout were not known: nothing is decided before the statement.
    connection = make_connection(recycle=BLIND, options=options, **arguments)
    run(connection, "SELECT 1")
    connection.guard.connection.set_wait_timeout(None)  # type: ignore[attr-defined]
    wait_until_hung_up(connection)
    through_a_proxy = way in ("haproxy", "proxy")
    proved = way == "socket" or (
        (driver == "mysqlclient" and vendor == "mysql")
        or (vendor == "mariadb" and not through_a_proxy)
    )
    with listening(connection) as received:
        if proved:
            insert(connection, "new")
        else:
            with pytest.raises(OperationalError) as caught:
                insert(connection, "new")
            assert code_of(caught.value) == 2013
    assert received.repeated == (["lost"] if proved else [])
    assert owners(admin) == (["new"] if proved else [])
    assert_works(connection, admin)


def test_descriptor_that_belongs_to_another_socket_by_now_is_not_taken_for_the_connections(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    # The driver has closed its socket, and the number of its descriptor names a sound one.
    connection = rested(make_connection(recycle=BLIND))
    number = descriptor(connection)
    connection.connection.close()
    one, other = socket.socketpair()
    try:
        if one.fileno() != number:
            os.dup2(one.fileno(), number)
        with listening(connection) as received:
            insert(connection, "new")
        assert received.repeated == ["lost"]
        assert balances(admin) == {"new": 0}
        assert os.fstat(number).st_ino == os.fstat(one.fileno()).st_ino
    finally:
        if one.fileno() != number:
            with suppress(OSError):
                os.close(number)
        one.close()
        other.close()
