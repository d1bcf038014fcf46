"""Each kind of session state: its loss raises once, and it pins no longer than it lives."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import Error, close_old_connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

from django_mysql_recycle import SessionStateLost
from django_mysql_recycle.documents import SESSION_STATE_LOST
from django_mysql_recycle.session_state.kinds import Kind

from ..acts import (
    assert_works,
    code_of,
    insert,
    kill,
    listening,
    owners,
    receiving,
    rest,
    session_id,
)
from ..admin import Admin
from ..connections import OURS, STOCK, Connection, ConnectionFactory
from ..queries import run

PATIENT: dict[str, Any] = {"CONN_MAX_AGE": None}


def no_rows(connection: Connection, sql: Any, *parameters: Any) -> None:
    """Run a statement whose rows, if it has any, are of no interest."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


#: What pins, how a message names it, and what ends it. Spellings: hypothesis does more of them
#: without a server (tests/thorough); these are the ones that a server has agreed to.
PINS: list[tuple[str, Any, str, Any]] = [
    ("named lock", "SELECT GET_LOCK('n1', 0)", "n1", "SELECT RELEASE_LOCK('n1')"),
    ("named lock, lower case", "select get_lock('n2', 0)", "n2", "select release_lock('n2')"),
    ("named lock, bytes", b"SELECT GET_LOCK('n3', 0)", "n3", b"SELECT RELEASE_LOCK('n3')"),
    ("named lock, comment", "SELECT /* x */ GET_LOCK/**/('n4', 0)", "n4", "DO RELEASE_LOCK('n4')"),
    ("named lock, DO", "DO GET_LOCK('n5', 0)", "n5", "DO RELEASE_ALL_LOCKS()"),
    ("table lock", "LOCK TABLES testapp_account WRITE", "table lock", "UNLOCK TABLES"),
    ("table lock, lower", "lock  table testapp_item read", "table lock", "unlock tables"),
    (
        "flush with read lock",
        "FLUSH TABLES testapp_item WITH READ LOCK",
        "table lock",
        "UNLOCK TABLES",
    ),
    ("temporary table", "CREATE TEMPORARY TABLE t1 (a INT)", "t1", "DROP TEMPORARY TABLE t1"),
    (
        "temporary table, spaced",
        "create\n temporary\ttable if not exists `t2` (a int)",
        "t2",
        "drop table t2",
    ),
    ("raw transaction", "BEGIN", "transaction", "COMMIT"),
    ("raw transaction, START", "START TRANSACTION", "transaction", "ROLLBACK"),
    (
        "raw transaction, comment",
        "-- x\nstart /* y */ transaction;",
        "transaction",
        "rollback work",
    ),
    ("autocommit off", "SET autocommit = 0", "autocommit", "SET autocommit = 1"),
    ("autocommit off, OFF", "SET @@session.autocommit=OFF", "autocommit", "SET AUTOCOMMIT=ON"),
    ("prepared statement", "PREPARE p1 FROM 'SELECT 1'", "p1", "DEALLOCATE PREPARE p1"),
    ("handler", "HANDLER testapp_account OPEN AS h1", "h1", "HANDLER h1 CLOSE"),
    ("session variable", "SET SESSION sql_mode = ''", "sql_mode", None),
    ("session variable, @@", "SET @@sql_safe_updates = 0", "sql_safe_updates", None),
    ("session variable, bare", "set sql_select_limit=100", "sql_select_limit", None),
    (
        "session variable that ends itself",
        "SET foreign_key_checks=0",
        "foreign_key_checks",
        "SET foreign_key_checks=1",
    ),
    ("user variable", "SET @v1 = 1", "v1", None),
    ("user variable by SELECT", "SELECT 5 INTO @v2", "v2", None),
    ("user variable by :=", "SELECT @v3 := 7", "v3", None),
]


XA = ("xa", "XA START 'x1'", "transaction", None)


VARIABLES = [pin for pin in PINS if pin[3] is None]


LASTING = [pin for pin in PINS if pin[3] is not None]


def ids(pins: list[Any]) -> dict[str, Any]:
    return {"ids": [pin[0] for pin in pins]}


@pytest.mark.core
@pytest.mark.parametrize(("kind", "begin", "name", "end"), [*PINS, XA], **ids([*PINS, XA]))
def test_loss_of_session_state_is_reported_once(
    connection: Connection, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    no_rows(connection, begin)
    kill(admin, connection)
    with listening(connection) as received, pytest.raises(SessionStateLost, match=name) as caught:
        run(connection, "SELECT 1")
    assert isinstance(caught.value, OperationalError)
    assert isinstance(code_of(caught.value), int)
    assert len(received.lost) == 1 and received.lost[0]["raised"] is True
    # The message says what to do about each kind, and where to read on.
    advice = [one.value.after_loss for one in Kind if one.value.label in received.lost[0]["state"]]
    assert advice
    assert str(caught.value.args[1]).endswith(f". {' '.join(advice)} {SESSION_STATE_LOST}")
    if name in ("transaction", "autocommit"):
        run(connection, "ROLLBACK")  # until then a write would raise: test_lost_transaction
    insert(connection, "after")
    assert owners(admin) == ["after"]
    assert_works(connection, admin)


@pytest.mark.core
@pytest.mark.parametrize(("kind", "begin", "name", "end"), LASTING, **ids(LASTING))
def test_state_that_has_ended_pins_no_longer(
    connection: Connection, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    no_rows(connection, begin)
    no_rows(connection, end)
    kill(admin, connection)
    with listening(connection) as received:
        insert(connection, "after")
    assert (received.lost, received.recycled) == ([], ["closed"])
    assert owners(admin) == ["after"]


@pytest.mark.parametrize(("kind", "begin", "name", "end"), PINS, **ids(PINS))
def test_living_connection_with_state_is_not_replaced_between_statements_whatever_its_age(
    make_connection: ConnectionFactory, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    connection = make_connection(recycle={"idle_limit": 5, "ping_after": 3}, CONN_MAX_AGE=1)
    no_rows(connection, begin)
    session = session_id(connection)
    rest(connection, 3600)
    with listening(connection) as received:
        no_rows(connection, "SELECT 1")
    assert (received.recycled, session_id(connection)) == ([], session)


def test_xa_transaction_pins_until_it_is_over(connection: Connection, admin: Admin) -> None:
    for number, end in enumerate((("XA ROLLBACK 'x2'",), ("XA COMMIT 'x2' ONE PHASE",))):
        run(connection, "XA START 'x2'")
        insert(connection, f"x{number}")
        run(connection, "XA END 'x2'")
        for sql in end:
            run(connection, sql)
        kill(admin, connection)
        run(connection, "SELECT 1")
    assert owners(admin) == ["x1"]


def test_rows_of_an_ordinary_executemany_are_left_to_the_driver(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    class Rows(list[Any]):
        passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            return super().__iter__()

    passes = []
    for engine in (STOCK, OURS):
        rows = Rows([("a", 1), ("b", 2)])
        with make_connection(engine).cursor() as cursor:
            cursor.executemany(
                "REPLACE INTO testapp_account (owner, balance) VALUES (%s, %s)", rows
            )
        passes.append(rows.passes)
    assert passes[1] == passes[0]
    assert owners(admin) == ["a", "b"]


def test_mode_of_the_next_transaction_pins_until_that_has_ended(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "SET TRANSACTION READ ONLY")
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "refused")
    kill(admin, connection)
    insert(connection, "after")
    assert owners(admin) == ["after"]
    run(connection, "SET TRANSACTION READ ONLY")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="next transaction"):
        insert(connection, "not read-only")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'GET_LOCK(''a'', 0)'",
        "SELECT 1 AS `get_lock(`",
        "SELECT 'x@example.com'",
        "SELECT 1 FROM testapp_account WHERE owner LIKE '%%@example.com'",
        "SELECT 1 -- @comment",
        "SELECT 'BEGIN; SET autocommit = 0'",
        "SET STATEMENT max_statement_time = 9 FOR SELECT 1",
        "SET SESSION wait_timeout = 100, net_read_timeout = 100",
        "SELECT @@session.sql_mode",
        "CREATE TABLE IF NOT EXISTS no_temporary_table (a INT)",
    ],
)
def test_what_only_looks_like_state_pins_nothing(
    connection: Connection, admin: Admin, vendor: str, sql: str
) -> None:
    if vendor == "mysql" and sql.startswith("SET STATEMENT"):
        sql = "SELECT /*+ SET_VAR(max_execution_time = 9000) */ 1"
    run(connection, sql.replace("%%", "%"))
    kill(admin, connection)
    with listening(connection) as received:
        run(connection, "SELECT 1")
    assert (received.lost, received.recycled) == ([], ["closed"])
    admin.rows("DROP TABLE IF EXISTS no_temporary_table")


def test_code_in_an_executable_comment_is_code(connection: Connection, admin: Admin) -> None:
    run(connection, "SELECT /*! GET_LOCK('hidden', 0) */")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")


def test_pinning_can_be_turned_off(make_connection: ConnectionFactory, admin: Admin) -> None:
    connection = make_connection(recycle={"pin_session_state": False})
    run(connection, "SELECT GET_LOCK('unreported', 0)")
    run(connection, "SET @v = 1")
    run(connection, "CREATE TEMPORARY TABLE unreported (a INT)")
    kill(admin, connection)
    assert_works(connection, admin)


def test_prepared_begin_pins_although_pinning_is_turned_off(
    make_connection: ConnectionFactory, admin: Admin, vendor: str
) -> None:
    connection = make_connection(recycle={"pin_session_state": False})
    try:
        run(connection, "PREPARE b FROM 'BEGIN'")
    except Error:
        assert vendor == "mysql"  # which does not prepare it
        return
    run(connection, "EXECUTE b")
    run(connection, "INSERT INTO testapp_item (name, created) VALUES ('first half', NOW())")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "INSERT INTO testapp_item (name, created) VALUES ('second', NOW())")
    assert admin.value("SELECT COUNT(*) FROM testapp_item") == 0


@pytest.mark.parametrize("begin", ["BEGIN", "START TRANSACTION", "SET autocommit = 0"])
def test_transaction_by_sql_pins_although_pinning_is_turned_off(
    make_connection: ConnectionFactory, admin: Admin, begin: str
) -> None:
    connection = make_connection(recycle={"pin_session_state": False})
    run(connection, begin)
    run(connection, "INSERT INTO testapp_item (name, created) VALUES ('first half', NOW())")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "INSERT INTO testapp_item (name, created) VALUES ('second', NOW())")
    assert admin.value("SELECT COUNT(*) FROM testapp_item") == 0
    run(connection, begin)
    run(connection, "COMMIT")
    run(connection, "SET autocommit = 1")
    kill(admin, connection)
    assert_works(connection, admin)


def test_several_kinds_of_state_are_all_named(connection: Connection, admin: Admin) -> None:
    run(connection, "SELECT GET_LOCK('first', 0)")
    run(connection, "CREATE TEMPORARY TABLE second (a INT)")
    run(connection, "SET @third = 3")
    kill(admin, connection)
    with pytest.raises(SessionStateLost) as caught:
        run(connection, "SELECT 1")
    text = str(caught.value)
    assert all(name in text for name in ("first", "second", "third", "ago", "idle"))


@pytest.mark.core
@pytest.mark.parametrize(("kind", "begin", "name", "end"), VARIABLES, **ids(VARIABLES))
def test_variables_pin_until_the_unit_of_work_ends(
    make_connection: ConnectionFactory, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    connection = make_connection(**PATIENT)
    no_rows(connection, begin)
    close_old_connections()
    kill(admin, connection)
    with listening(connection) as received:
        run(connection, "SELECT 1")
    assert received.lost == []


STILL = [pin for pin in LASTING if pin[2] != "foreign_key_checks"]


@pytest.mark.core
@pytest.mark.parametrize(("kind", "begin", "name", "end"), STILL, **ids(STILL))
def test_all_other_state_pins_across_units_of_work(
    make_connection: ConnectionFactory, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    connection = make_connection(**PATIENT)
    no_rows(connection, begin)
    for _ in range(2):
        close_old_connections()
    session = session_id(connection)
    no_rows(connection, "SELECT 1")
    assert session_id(connection) == session
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match=name):
        run(connection, "SELECT 1")
    assert_works(connection, admin)


def test_what_runs_while_connecting_does_not_pin(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    def receive(*, connection: Connection, **facts: Any) -> None:
        if connection is mine:
            run(connection, "SET @by_a_receiver = 1")
            run(connection, "SET SESSION sql_select_limit = 1000")

    mine = make_connection(options={"init_command": "SET SESSION sql_mode = '', @by_init = 1"})
    with receiving(connection_created, receive):
        run(mine, "SELECT 1")
        kill(admin, mine)
        with listening(mine) as received:
            run(mine, "SELECT 1")
        assert (received.lost, received.recycled) == ([], ["closed"])
        # It has run again.
        assert run(mine, "SELECT @by_init, @by_a_receiver, @@sql_select_limit") == [(1, 1, 1000)]
