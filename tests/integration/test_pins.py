"""Session state: nothing of it is lost in silence, and nothing pins longer than it lives."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import pytest
from django.db import Error, close_old_connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.utils import DatabaseError, OperationalError

from django_mysql_recycle import SessionStateLost, pinned

from .acts import (
    assert_works,
    code_of,
    insert,
    kill,
    listening,
    owners,
    rest,
    session_id,
)
from .admin import Admin
from .connections import OURS, STOCK, ConnectionFactory
from .queries import run, value

PATIENT: dict[str, Any] = {"CONN_MAX_AGE": None}


def no_rows(connection: BaseDatabaseWrapper, sql: Any, *parameters: Any) -> None:
    """Run a statement whose rows, if it has any, are of no interest."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


#: What pins, how a message names it, and what ends it. Spellings: hypothesis does more of them
#: without a server (tests/unit); these are the ones that a server has agreed to.
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
def test_loss_of_session_state_is_told_once(
    connection: BaseDatabaseWrapper, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    no_rows(connection, begin)
    kill(admin, connection)
    with listening(connection) as told:
        with pytest.raises(SessionStateLost, match=name) as caught:
            run(connection, "SELECT 1")
    assert isinstance(caught.value, OperationalError)
    assert isinstance(code_of(caught.value), int)
    assert len(told.lost) == 1 and told.lost[0]["raised"] is True
    insert(connection, "after")
    assert owners(admin) == ["after"]
    assert_works(connection, admin)


@pytest.mark.core
@pytest.mark.parametrize(("kind", "begin", "name", "end"), LASTING, **ids(LASTING))
def test_state_that_has_ended_pins_no_longer(
    connection: BaseDatabaseWrapper, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    no_rows(connection, begin)
    no_rows(connection, end)
    kill(admin, connection)
    with listening(connection) as told:
        insert(connection, "after")
    assert (told.lost, told.recycled) == ([], ["closed"])
    assert owners(admin) == ["after"]


@pytest.mark.parametrize(("kind", "begin", "name", "end"), PINS, **ids(PINS))
def test_living_connection_that_carries_state_is_not_replaced_between_statements_whatever_its_age(
    make_connection: ConnectionFactory, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    connection = make_connection(recycle={"idle_limit": 5, "ping_after": 3}, CONN_MAX_AGE=1)
    no_rows(connection, begin)
    session = session_id(connection)
    rest(connection, 3600)
    with listening(connection) as told:
        no_rows(connection, "SELECT 1")
    assert (told.recycled, session_id(connection)) == ([], session)


def test_control_stock_backend_goes_on_without_the_lock(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    run(connection, "SELECT GET_LOCK('control', 0)")
    kill(admin, connection)
    connection.close_if_unusable_or_obsolete()
    assert value(connection, "SELECT IS_FREE_LOCK('control')") == 1


def test_xa_transaction_pins_until_it_is_over(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    for number, end in enumerate((("XA ROLLBACK 'x2'",), ("XA COMMIT 'x2' ONE PHASE",))):
        run(connection, "XA START 'x2'")
        insert(connection, f"x{number}")
        run(connection, "XA END 'x2'")
        for sql in end:
            run(connection, sql)
        kill(admin, connection)
        run(connection, "SELECT 1")
    assert owners(admin) == ["x1"]


# Ways to run it.


def test_parameters_name_the_lock(connection: BaseDatabaseWrapper, admin: Admin) -> None:
    run(connection, "SELECT GET_LOCK(%s, %s)", "by parameter", 0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%(name)s, 0)", {"name": "by name"})
    run(connection, "SELECT RELEASE_LOCK(%s)", "by parameter")
    kill(admin, connection)
    with pytest.raises(SessionStateLost) as caught:
        run(connection, "SELECT 1")
    assert "by name" in str(caught.value) and "by parameter" not in str(caught.value)


def test_executemany_takes_a_lock_for_each_row(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("DO GET_LOCK(%s, 0)", [("m1",), ("m2",)])
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")
    assert_works(connection, admin)


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


def test_procedure_arguments_pin_as_the_user_variables_that_they_are(
    connection: BaseDatabaseWrapper, admin: Admin
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
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    admin.create_procedure("go_manual() SET autocommit = 0")
    with connection.cursor() as cursor:
        cursor.callproc("go_manual")
    insert(connection, "uncommitted")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="autocommit"):
        insert(connection, "second half")
    assert owners(admin) == []


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
    insert(connection, "uncommitted")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="autocommit"):
        insert(connection, "second half")
    assert owners(admin) == []


@pytest.mark.parametrize("end", ["nextset", "close", "execute", "collected"])
def test_autocommit_that_a_procedure_switches_off_after_its_rows_is_seen(
    connection: BaseDatabaseWrapper, admin: Admin, end: str
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
    insert(connection, "uncommitted")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="autocommit"):
        insert(connection, "second half")
    assert owners(admin) == []


def test_autocommit_that_a_procedure_switches_on_again_after_its_rows_pins_no_longer(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    admin.create_procedure(
        "off_and_on() BEGIN SET autocommit = 0; SELECT 1; COMMIT; SET autocommit = 1; END"
    )
    with connection.cursor() as cursor:
        cursor.callproc("off_and_on")
    kill(admin, connection)
    assert_works(connection, admin)


def test_transaction_that_a_procedure_leaves_open_after_its_rows_is_seen_with_pymysql(
    connection: BaseDatabaseWrapper, admin: Admin, driver: str
) -> None:
    if driver == "mysqlclient":
        pytest.skip("it keeps the server's flag of an open transaction to itself")
    admin.create_procedure("left_open() BEGIN SELECT 1; START TRANSACTION; END")
    with connection.cursor() as cursor:
        cursor.callproc("left_open")
    insert(connection, "uncommitted")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="transaction"):
        insert(connection, "second half")
    assert owners(admin) == []


@pytest.mark.parametrize("begin", ["SET autocommit = 0", "START TRANSACTION"])
def test_what_a_failed_procedure_left_open_is_seen_once_the_server_tells(
    connection: BaseDatabaseWrapper, admin: Admin, driver: str, begin: str
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


def test_failed_procedure_that_left_nothing_open_pins_nothing(
    connection: BaseDatabaseWrapper, admin: Admin
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


def test_mode_of_the_next_transaction_pins_until_that_has_ended(
    connection: BaseDatabaseWrapper, admin: Admin
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
    connection: BaseDatabaseWrapper, admin: Admin, vendor: str, sql: str
) -> None:
    if vendor == "mysql" and sql.startswith("SET STATEMENT"):
        sql = "SELECT /*+ SET_VAR(max_execution_time = 9000) */ 1"
    run(connection, sql.replace("%%", "%"))
    kill(admin, connection)
    with listening(connection) as told:
        run(connection, "SELECT 1")
    assert (told.lost, told.recycled) == ([], ["closed"])
    admin.rows("DROP TABLE IF EXISTS no_temporary_table")


def test_code_in_an_executable_comment_is_code(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SELECT /*! GET_LOCK('hidden', 0) */")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")


def test_pinning_can_be_turned_off(make_connection: ConnectionFactory, admin: Admin) -> None:
    connection = make_connection(recycle={"pin_session_state": False})
    run(connection, "SELECT GET_LOCK('untold', 0)")
    run(connection, "SET @v = 1")
    run(connection, "CREATE TEMPORARY TABLE untold (a INT)")
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


# Counting.


def test_lock_taken_twice_pins_until_it_is_released_twice(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    for _ in range(2):
        run(connection, "SELECT GET_LOCK('counted', 0)")
    assert value(connection, "SELECT RELEASE_LOCK('counted')") == 1
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="counted"):
        run(connection, "SELECT 1")
    for _ in range(2):
        run(connection, "SELECT GET_LOCK('counted', 0)")
    for _ in range(2):
        run(connection, "SELECT RELEASE_LOCK('counted')")
    kill(admin, connection)
    assert_works(connection, admin)


def test_lock_that_was_not_given_does_not_pin(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    holder, other = make_connection(), make_connection()
    assert value(holder, "SELECT GET_LOCK('taken', 0)") == 1
    assert value(other, "SELECT GET_LOCK('taken', 0)") == 0
    kill(admin, other)
    assert_works(other, admin)


@pytest.mark.parametrize("form", ["COALESCE({}, 0)", "IFNULL({}, 0)", "IF({}, 1, 0)", "({} = 1)"])
def test_answer_counts_in_the_forms_that_keep_it(
    make_connection: ConnectionFactory, admin: Admin, form: str
) -> None:
    take = f"SELECT {form.format('GET_LOCK(%s, 0)')}"
    free = f"SELECT {form.format('RELEASE_LOCK(%s)')}"
    holder, other = make_connection(), make_connection()
    assert value(holder, take, "asked for") == 1
    assert not value(other, take, "asked for")
    assert not value(other, free, "asked for")
    kill(admin, other)
    assert_works(other, admin)
    assert value(holder, take, "asked for") == value(holder, free, "asked for") == 1
    kill(admin, holder)
    with pytest.raises(SessionStateLost, match="asked for"):
        run(holder, "SELECT 1")
    assert value(holder, take, "asked for") == value(holder, free, "asked for") == 1
    kill(admin, holder)
    assert_works(holder, admin)


def test_several_kinds_of_state_are_all_named(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('first', 0)")
    run(connection, "CREATE TEMPORARY TABLE second (a INT)")
    run(connection, "SET @third = 3")
    kill(admin, connection)
    with pytest.raises(SessionStateLost) as caught:
        run(connection, "SELECT 1")
    text = str(caught.value)
    assert all(name in text for name in ("first", "second", "third", "ago", "idle"))


# Units of work.


@pytest.mark.core
@pytest.mark.parametrize(("kind", "begin", "name", "end"), VARIABLES, **ids(VARIABLES))
def test_variables_pin_until_the_unit_of_work_ends(
    make_connection: ConnectionFactory, admin: Admin, kind: str, begin: Any, name: str, end: Any
) -> None:
    connection = make_connection(**PATIENT)
    no_rows(connection, begin)
    close_old_connections()
    kill(admin, connection)
    with listening(connection) as told:
        run(connection, "SELECT 1")
    assert told.lost == []


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


def test_health_check_that_finds_a_lock_lost_makes_the_next_statement_raise(
    make_connection: ConnectionFactory, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    connection = make_connection(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    run(connection, "SELECT GET_LOCK('leader', 0)")
    kill(admin, connection)
    with caplog.at_level(logging.INFO, "django_mysql_recycle"), listening(connection) as told:
        close_old_connections()
        with pytest.raises(SessionStateLost, match="'leader'"):
            insert(connection, "by the deposed")
        insert(connection, "after")
    assert owners(admin) == ["after"]
    assert [facts["raised"] for facts in told.lost] == [True]
    assert "'leader'" in told.lost[0]["description"]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    # The name may have been a parameter, which is not for logs.
    assert "named lock" in warning.getMessage() and "leader" not in warning.getMessage()


def test_health_check_keeps_a_living_connection_with_its_lock(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    run(connection, "SELECT GET_LOCK('leader', 0)")
    for _ in range(3):
        close_old_connections()
        assert value(connection, "SELECT IS_USED_LOCK('leader') = CONNECTION_ID()") == 1


# Leaders.


def test_two_leaders_never_write_at_once(make_connection: ConnectionFactory, admin: Admin) -> None:
    first, second = make_connection(**PATIENT), make_connection(**PATIENT)
    assert value(first, "SELECT GET_LOCK('leader', 0)") == 1
    insert(first, "by the first")
    close_old_connections()
    kill(admin, first)
    assert value(second, "SELECT GET_LOCK('leader', 5)") == 1
    insert(second, "by the second")
    # The first one believes to be the leader still, and hears of it before it writes.
    with pytest.raises(SessionStateLost, match="leader"):
        insert(first, "by the deposed")
    assert owners(admin) == ["by the first", "by the second"]
    assert value(first, "SELECT GET_LOCK('leader', 0)") == 0


def test_control_stock_backend_with_health_checks_makes_two_leaders(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    settings: dict[str, Any] = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    first, second = make_connection(STOCK, **settings), make_connection(STOCK, **settings)
    assert value(first, "SELECT GET_LOCK('leader', 0)") == 1
    kill(admin, first)
    assert value(second, "SELECT GET_LOCK('leader', 5)") == 1
    close_old_connections()
    insert(first, "by the deposed")
    assert owners(admin) == ["by the deposed"]


def test_lock_lost_in_a_failed_rollback_is_told_by_the_next_statement(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    class Boom(Exception):
        pass

    connection = make_connection()
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(Boom):
        with transaction.atomic(using=connection.alias):
            insert(connection, "a")
            kill(admin, connection)
            raise Boom
    with pytest.raises(SessionStateLost, match="held"):
        insert(connection, "b")
    insert(connection, "c")
    assert owners(admin) == ["c"]


def test_lock_lost_by_an_error_inside_a_transaction_is_told_after_it(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(DatabaseError) as caught:
        with transaction.atomic(using=connection.alias):
            kill(admin, connection)
            insert(connection, "a")
    if not isinstance(caught.value, SessionStateLost):
        with pytest.raises(SessionStateLost, match="held"):
            insert(connection, "b")
    insert(connection, "c")
    assert owners(admin) == ["c"]


def test_lock_lost_is_told_by_the_next_transaction_too(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('held', 0)")
    with pytest.raises(DatabaseError):
        with transaction.atomic(using=connection.alias):
            kill(admin, connection)
            insert(connection, "a")
    with pytest.raises(SessionStateLost, match="held"):
        with transaction.atomic(using=connection.alias):
            insert(connection, "b")
    with transaction.atomic(using=connection.alias):
        insert(connection, "c")
    assert owners(admin) == ["c"]


def test_closing_a_connection_ends_its_pins(connection: BaseDatabaseWrapper, admin: Admin) -> None:
    run(connection, "SELECT GET_LOCK('closed', 0)")
    connection.close()
    assert_works(connection, admin)
    assert admin.value("SELECT IS_FREE_LOCK('closed')") == 1


def test_closing_a_lost_connection_does_not_hide_the_loss(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SELECT GET_LOCK('closed', 0)")
    kill(admin, connection)
    connection.close()
    with pytest.raises(SessionStateLost, match="closed"):
        insert(connection, "a")
    insert(connection, "b")
    assert owners(admin) == ["b"]


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
    connection: BaseDatabaseWrapper, admin: Admin
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
    connection: BaseDatabaseWrapper, admin: Admin, by_driver: bool
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


def test_last_insert_id_with_an_argument_is_no_read(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
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


# What runs while connecting.


def test_what_runs_while_connecting_does_not_pin(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    def receive(*, connection: BaseDatabaseWrapper, **facts: Any) -> None:
        if connection is mine:
            run(connection, "SET @by_a_receiver = 1")
            run(connection, "SET SESSION sql_select_limit = 1000")

    mine = make_connection(options={"init_command": "SET SESSION sql_mode = '', @by_init = 1"})
    connection_created.connect(receive)
    try:
        run(mine, "SELECT 1")
        kill(admin, mine)
        with listening(mine) as told:
            run(mine, "SELECT 1")
        assert (told.lost, told.recycled) == ([], ["closed"])
        # It has run again.
        assert run(mine, "SELECT @by_init, @by_a_receiver, @@sql_select_limit") == [(1, 1, 1000)]
    finally:
        connection_created.disconnect(receive)


# By hand.


@pytest.mark.core
@pytest.mark.parametrize("by", ["alias", "connection"])
def test_connection_can_be_pinned_by_hand(
    connection: BaseDatabaseWrapper, admin: Admin, by: str
) -> None:
    using: Any = connection.alias if by == "alias" else connection
    with pinned(using, "the cache of a procedure"):
        insert(connection, "a")
        kill(admin, connection)
        with pytest.raises(SessionStateLost, match="the cache of a procedure"):
            insert(connection, "b")
        insert(connection, "c")
        kill(admin, connection)
        insert(connection, "d")  # told once; the new connection carries nothing
    assert owners(admin) == ["a", "c", "d"]


def test_pinning_by_hand_begins_on_a_living_connection(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SELECT 1")
    kill(admin, connection)
    with listening(connection) as told, pinned(connection):
        insert(connection, "a")
    assert (told.lost, told.recycled) == ([], ["closed"])
    run(connection, "SELECT GET_LOCK('earlier', 0)")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="earlier"):
        with pinned(connection):
            pytest.fail("the lock is lost")


def test_pin_by_hand_holds_what_a_cursor_of_the_drivers_own_does(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"idle_limit": 1})
    with pinned(connection.alias, "cursor of the driver's own"):
        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK('unseen', 0)")
        rest(connection, 2)
        assert value(connection, "SELECT IS_USED_LOCK('unseen') = CONNECTION_ID()") == 1
        kill(admin, connection)
        with pytest.raises(SessionStateLost, match="driver's own"):
            run(connection, "SELECT 1")


def test_pin_by_hand_ends_with_its_block(connection: BaseDatabaseWrapper, admin: Admin) -> None:
    with pinned(connection):
        with pinned(connection):
            run(connection, "SELECT 1")
        kill(admin, connection)
        with pytest.raises(SessionStateLost):
            run(connection, "SELECT 1")
    with pinned(connection):
        run(connection, "SELECT 1")
    kill(admin, connection)
    assert_works(connection, admin)


def test_pin_by_hand_holds_over_the_results_of_several_statements(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2")
        with pinned(connection, "begun between them"):
            while cursor.nextset():
                pass
            kill(admin, connection)
            with pytest.raises(SessionStateLost, match="begun between them"):
                run(connection, "SELECT 1")


def test_pin_by_hand_that_ends_before_all_results_are_read_has_ended(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        with pinned(connection):
            cursor.execute("SELECT 1; SELECT 2")
        while cursor.nextset():
            pass
    kill(admin, connection)
    assert_works(connection, admin)


def test_pin_by_hand_on_the_stock_backend_does_nothing(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK)
    with pinned(connection):
        assert value(connection, "SELECT 1") == 1


# Real time.


def test_message_says_since_when_and_how_long_idle(
    connection: BaseDatabaseWrapper, admin: Admin
) -> None:
    run(connection, "SET SESSION wait_timeout = 1")
    run(connection, "SELECT GET_LOCK('dated', 0)")
    time.sleep(1.3)
    with pytest.raises(SessionStateLost, match=r"idle 1\.\d s.*'dated' taken 1 s ago"):
        run(connection, "SELECT 1")
