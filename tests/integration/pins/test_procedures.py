"""What procedures, and one of several statements in a text, leave in the session."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.db import Error
from django.db.utils import DatabaseError

from django_mysql_recycle import SessionStateLost

from ..acts import (
    assert_works,
    insert,
    kill,
    owners,
)
from ..admin import Admin
from ..connections import Connection, ConnectionFactory
from ..queries import run, value


def assert_transaction_is_seen(connection: Connection, admin: Admin, named: str) -> None:
    """Something has left a transaction open: it is lost, and its second half is not committed."""
    insert(connection, "uncommitted")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match=named):
        insert(connection, "second half")
    assert owners(admin) == []


def test_procedure_arguments_pin_as_the_user_variables_that_they_are(
    connection: Connection, admin: Admin
) -> None:
    # Both drivers keep them in @_procedure_n, for the application to read afterwards.
    admin.create_procedure("twice(IN a INT, OUT b INT) SET b = a * 2")
    with connection.cursor() as cursor:
        cursor.callproc("twice", [4, 0])
    assert value(connection, "SELECT @_twice_1") == 8
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT @_twice_1")


def test_autocommit_that_a_procedure_switched_off_is_seen(
    connection: Connection, admin: Admin
) -> None:
    admin.create_procedure("go_manual() SET autocommit = 0")
    with connection.cursor() as cursor:
        cursor.callproc("go_manual")
    assert_transaction_is_seen(connection, admin, "autocommit")


#: mysqlclient allows several statements in one text by itself; FOUND_ROWS is Django's.
SEVERAL: dict[str, Any] = {"options": {"client_flag": 65536 | 2}}


@pytest.mark.parametrize("read_on", [True, False], ids=["read on", "closed"])
@pytest.mark.parametrize(
    "sql",
    [
        "SET autocommit = 0; SELECT 1",
        "SELECT 1; SET autocommit = 0",
        "SELECT 1; SET autocommit = 0; nonsense",
    ],
)
def test_autocommit_that_one_of_several_statements_switched_off_is_seen(
    make_connection: ConnectionFactory, admin: Admin, sql: str, read_on: bool
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        cursor.execute(sql)
        with contextlib.suppress(Error):
            while read_on and cursor.nextset():
                pass
    assert_transaction_is_seen(connection, admin, "autocommit")


@pytest.mark.parametrize("end", ["nextset", "close", "execute", "collected"])
def test_autocommit_that_a_procedure_switches_off_after_its_rows_is_seen(
    connection: Connection, admin: Admin, end: str
) -> None:
    admin.create_procedure("rows_first() BEGIN SELECT 1; SET autocommit = 0; END")
    cursor: Any = connection.cursor()
    cursor.callproc("rows_first")
    if end == "nextset":
        assert cursor.nextset()
    elif end == "close":
        cursor.close()
    elif end == "execute":
        cursor.execute("SELECT 1")
    del cursor
    assert_transaction_is_seen(connection, admin, "autocommit")


def test_autocommit_that_a_procedure_switches_on_again_after_its_rows_pins_no_longer(
    connection: Connection, admin: Admin
) -> None:
    admin.create_procedure(
        "off_and_on() BEGIN SET autocommit = 0; SELECT 1; COMMIT; SET autocommit = 1; END"
    )
    with connection.cursor() as cursor:
        cursor.callproc("off_and_on")
    kill(admin, connection)
    assert_works(connection, admin)


def test_transaction_that_a_procedure_leaves_open_after_its_rows_is_seen_with_pymysql(
    connection: Connection, admin: Admin, driver: str
) -> None:
    if driver == "mysqlclient":
        pytest.skip("it keeps the server's flag of an open transaction to itself")
    admin.create_procedure("left_open() BEGIN SELECT 1; START TRANSACTION; END")
    with connection.cursor() as cursor:
        cursor.callproc("left_open")
    assert_transaction_is_seen(connection, admin, "transaction")


@pytest.mark.parametrize("begin", ["SET autocommit = 0", "START TRANSACTION"])
def test_what_a_failed_procedure_left_open_is_seen_once_the_server_reports_it(
    connection: Connection, admin: Admin, driver: str, begin: str
) -> None:
    if driver == "mysqlclient" and begin != "SET autocommit = 0":
        pytest.skip("it keeps the server's flag of an open transaction to itself")
    admin.create_procedure(f"half_done() BEGIN {begin}; SIGNAL SQLSTATE '45000'; END")
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.callproc("half_done")
    run(connection, "SELECT 1")  # with PyMySQL rows bring no flags
    insert(connection, "uncommitted")
    run(connection, "SELECT 1")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match=r"autocommit|transaction"):
        insert(connection, "second half")
    assert owners(admin) == []


@pytest.mark.parametrize("begin", ["SET autocommit = 0", "START TRANSACTION"])
def test_what_a_procedure_left_open_is_seen_where_closing_the_cursor_fails(
    make_connection: ConnectionFactory, admin: Admin, driver: str, begin: str
) -> None:
    if driver == "mysqlclient" and begin != "SET autocommit = 0":
        pytest.skip("it keeps the server's flag of an open transaction to itself")
    admin.create_procedure(f"begins() {begin}")
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; CALL begins(); nonsense")
    assert_transaction_is_seen(connection, admin, r"autocommit|transaction")


def test_failed_procedure_that_left_nothing_open_pins_nothing(
    connection: Connection, admin: Admin
) -> None:
    admin.create_procedure("refuses() SIGNAL SQLSTATE '45000'")
    for sql in ("CALL refuses()", "CALL nosuch()"):
        with pytest.raises(DatabaseError):
            run(connection, sql)
        kill(admin, connection)
        assert_works(connection, admin)
        with pytest.raises(DatabaseError):
            run(connection, sql)
        insert(connection, sql)
        kill(admin, connection)
        assert_works(connection, admin)
