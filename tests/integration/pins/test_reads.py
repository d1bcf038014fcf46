"""Answers that depend on earlier statements of the same session."""

from __future__ import annotations

import pytest

from django_mysql_recycle import SessionStateLost

from ..acts import (
    assert_works,
    insert,
    kill,
    rest,
)
from ..admin import Admin
from ..connections import STOCK, Connection, ConnectionFactory
from ..queries import run, value

# Reads of what earlier statements left.

READS = [
    "SELECT LAST_INSERT_ID()",
    "SELECT last_insert_id ( )",
    "SELECT FOUND_ROWS()",
    "SELECT ROW_COUNT()",
    "SHOW WARNINGS",
    "show errors",
    "SELECT @left_by_somebody",
]


@pytest.mark.core
@pytest.mark.parametrize("sql", READS)
def test_read_of_what_an_earlier_statement_left_raises_on_a_lost_connection(
    make_connection: ConnectionFactory, admin: Admin, vendor: str, sql: str
) -> None:
    if vendor == "mysql":
        sql = sql.replace("last_insert_id ( )", "last_insert_id()")  # needs IGNORE_SPACE there
    connection = make_connection()
    insert(connection, "a")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, sql)
    assert_works(connection, admin)


def test_control_stock_backend_answers_null_after_reconnecting(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    insert(connection, "a")
    kill(admin, connection)
    connection.close_if_unusable_or_obsolete()
    assert value(connection, "SELECT LAST_INSERT_ID()") == 0


def test_last_insert_id_of_a_replaced_connection_raises(
    connection: Connection, admin: Admin
) -> None:
    insert(connection, "a")
    kill(admin, connection)
    run(connection, "SELECT 1")
    with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
        run(connection, "SELECT LAST_INSERT_ID()")
    insert(connection, "b")
    assert value(connection, "SELECT LAST_INSERT_ID()") == admin.value(
        "SELECT id FROM testapp_account WHERE owner = 'b'"
    )


@pytest.mark.parametrize("by_driver", [False, True], ids=["CALL", "callproc"])
def test_last_insert_id_that_a_procedure_has_set_is_lost_with_its_connection(
    connection: Connection, admin: Admin, by_driver: bool
) -> None:
    bodies = {
        "inserting": "INSERT INTO testapp_account (owner, balance) VALUES ('a', 0)",
        "idling": "DO 1",
    }
    for procedure, body in bodies.items():
        admin.create_procedure(f"{procedure}() {body}")

    def call(procedure: str) -> None:
        if not by_driver:
            run(connection, f"CALL {procedure}()")
            return
        with connection.cursor() as cursor:
            cursor.callproc(procedure)

    call("inserting")
    kill(admin, connection)
    call("idling")  # which may have inserted, too: that proves nothing
    with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
        run(connection, "SELECT LAST_INSERT_ID()")


def test_row_without_a_number_of_its_own_does_not_renew_last_insert_id(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.rows("CREATE TABLE unnumbered (name VARCHAR(10))")
    try:
        connection = make_connection()
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('first', 0)")
        kill(admin, connection)
        run(connection, "INSERT INTO unnumbered VALUES ('a')")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO unnumbered VALUES (%s)", [("b",), ("c",)])
        with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
            run(connection, "SELECT LAST_INSERT_ID()")
        run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('second', 0)")
        assert value(connection, "SELECT LAST_INSERT_ID()") == admin.value(
            "SELECT id FROM testapp_account WHERE owner = 'second'"
        )
    finally:
        admin.rows("DROP TABLE unnumbered")


def test_last_insert_id_with_an_argument_is_no_read(connection: Connection, admin: Admin) -> None:
    insert(connection, "a")
    kill(admin, connection)
    run(connection, "UPDATE testapp_account SET balance = LAST_INSERT_ID(balance + 1)")
    assert value(connection, "SELECT LAST_INSERT_ID()") == 1


def test_row_count_after_a_rest_on_a_living_connection_is_right(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    # A ping, or the reading of wait_timeout, would set it to 0 or -1.
    connection = make_connection(recycle={"ping_after": 0.1})
    for owner in "abc":
        insert(connection, owner)
    run(connection, "UPDATE testapp_account SET balance = 1")
    rest(connection, 60)
    assert value(connection, "SELECT ROW_COUNT()") == 3


def test_warnings_after_a_rest_on_a_living_connection_are_there(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"ping_after": 0.1})
    run(connection, "SELECT 1/0")
    rest(connection, 60)
    assert len(run(connection, "SHOW WARNINGS")) == 1
