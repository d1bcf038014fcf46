"""A loop that sets its session up anew in each round loses nothing by a rest between two rounds.

A statement that only sets state restores what it sets. The first other statement raises for what is
still missing.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.db import Error, close_old_connections, transaction
from django.db.backends.signals import connection_created

from django_mysql_recycle import SessionStateLost, pinned
from django_mysql_recycle.signals import connection_recycled, session_state_lost

from .acts import insert, kill, listening, outcome, owners, receiving, rest, session_id
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .queries import run, value

SEVERAL: dict[str, Any] = {"options": {"client_flag": 65536 | 2}}

#: What a round begins with, and what its work sees then.
ROUNDS: dict[str, tuple[list[str], str, Any]] = {
    "session variable": (
        ["SET SESSION group_concat_max_len = 4096"],
        "SELECT @@group_concat_max_len",
        4096,
    ),
    "session variable, @@": (
        ["SET @@SESSION.sql_select_limit = 77"],
        "SELECT @@sql_select_limit",
        77,
    ),
    "names": (["SET NAMES latin1"], "SELECT @@character_set_connection", "latin1"),
    "character set": (["SET CHARACTER SET latin1"], "SELECT @@character_set_client", "latin1"),
    "names in pieces": (
        [
            "SET character_set_client = latin1",
            "SET character_set_results = latin1, character_set_connection = latin1",
        ],
        "SELECT @@character_set_client",
        "latin1",
    ),
    "isolation level": (
        ["SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        "SELECT @@transaction_isolation",
        "SERIALIZABLE",
    ),
    "next transaction": (["SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"], "SELECT 1", 1),
    "user variable": (["SET @v = 'a'"], "SELECT @v", "a"),
    "user variables in one SET": (["SET @v = 1, @w := -2.5"], "SELECT @v - @w", 3.5),
    "checks": (
        ["SET foreign_key_checks = 0", "SET unique_checks = 1"],
        "SELECT @@foreign_key_checks",
        0,
    ),
    "temporary table": (
        ["DROP TEMPORARY TABLE IF EXISTS t", "CREATE TEMPORARY TABLE t (a INT)"],
        "SELECT COUNT(*) FROM t",
        0,
    ),
    "a text before the names": (
        ["SET @v = 'a'", "SET NAMES latin1", "SET sql_mode = 'ANSI_QUOTES'"],
        "SELECT @v",
        "a",
    ),
    "everything": (
        [
            "SET SESSION group_concat_max_len = 4096",
            "SET NAMES utf8mb4",
            "SET SESSION wait_timeout = 600",
            "SET SESSION time_zone = '+00:00', sql_mode = 'ANSI_QUOTES'",
            "SET @v = 'a'",
            "DROP TEMPORARY TABLE IF EXISTS t, u",
            "CREATE TEMPORARY TABLE t AS SELECT @v AS a",
            "CREATE TEMPORARY TABLE u (a INT)",
        ],
        "SELECT a FROM t WHERE @v = a AND @@sql_mode = 'ANSI_QUOTES'",
        "a",
    ),
}


def do(connection: Connection, *texts: str) -> None:
    for text in texts:
        with connection.cursor() as cursor:
            cursor.execute(text)


def lose_two_and_set_one(connection: Connection, admin: Admin) -> None:
    """Afterwards @w is lost, and no statement has said so yet."""
    do(connection, "SET @v = 1", "SET @w = 1")
    kill(admin, connection)
    do(connection, "SET @v = 1")


@pytest.mark.core
@pytest.mark.parametrize(("setting_up", "sql", "expected"), ROUNDS.values(), ids=ROUNDS)
def test_loop_that_sets_its_session_up_in_each_round_meets_no_error(
    make_connection: ConnectionFactory,
    admin: Admin,
    vendor: str,
    setting_up: list[str],
    sql: str,
    expected: Any,
) -> None:
    if vendor == "mariadb":
        sql = sql.replace("transaction_isolation", "tx_isolation")
    connection = make_connection()
    with listening(connection) as received:
        for _ in range(4):
            do(connection, *setting_up)
            assert value(connection, sql) == expected
            kill(admin, connection)
    assert (received.lost, received.recycled) == ([], ["closed"] * 3)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")


def test_control_stock_backend_fails_after_each_rest(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    do(connection, "SET @v = 'a'")
    kill(admin, connection)
    for _ in range(2):
        with pytest.raises(Error):
            do(connection, "SET @v = 'a'")


def test_what_is_not_set_again_raises_at_the_first_other_statement_and_once(
    connection: Connection, admin: Admin
) -> None:
    do(connection, "SET @v = 1, @w = 2", "SET SESSION sql_select_limit = 9", "SET NAMES latin1")
    kill(admin, connection)
    with listening(connection) as received:
        do(connection, "SET NAMES utf8mb4", "SET @w = 3")
        with pytest.raises(SessionStateLost) as caught:
            insert(connection, "raised")
        insert(connection, "after")
    text = str(caught.value)
    assert "@v" in text and "sql_select_limit" in text
    assert "@w" not in text and "character" not in text
    assert owners(admin) == ["after"]
    assert received.recycled == ["closed"]
    (lost,) = received.lost
    assert lost["raised"] and set(lost["state"]) == {"user variable", "session variable"}


@pytest.mark.parametrize("before", ["SET @v = 'b'", "SET @w = 1"])
def test_text_that_was_set_without_the_names_it_depends_on_is_not_relied_on(
    connection: Connection, admin: Admin, before: str
) -> None:
    do(connection, "SET NAMES latin1", before)
    kill(admin, connection)
    do(connection, "SET @v = 'c'", "SET @w = 2")
    with pytest.raises(SessionStateLost) as caught:
        run(connection, "SELECT @v")
    assert "@v" in str(caught.value) and "character_set_connection" in str(caught.value)
    assert "@w" not in str(caught.value)
    run(connection, "SELECT @v")


@pytest.mark.parametrize(
    "also",
    [
        "SELECT GET_LOCK('held', 0)",
        "LOCK TABLES testapp_account WRITE",
        "BEGIN",
        "SET autocommit = 0",
        "PREPARE p FROM 'SELECT 1'",
        "HANDLER testapp_account OPEN AS h",
    ],
)
def test_statement_that_sets_raises_at_once_where_other_state_is_lost(
    connection: Connection, admin: Admin, also: str
) -> None:
    do(connection, "SET @v = 1", also)
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        do(connection, "SET @v = 1")
    do(connection, "ROLLBACK", "SET @v = 1")
    assert value(connection, "SELECT @v") == 1


def test_statement_that_sets_raises_at_once_while_the_connection_is_pinned_by_hand(
    connection: Connection, admin: Admin
) -> None:
    do(connection, "SET @v = 1")
    with pinned(connection):
        kill(admin, connection)
        with pytest.raises(SessionStateLost):
            do(connection, "SET @v = 1")


@pytest.mark.parametrize(
    "text",
    [
        "SET @v = @v + 1",
        "SET @w = @@sql_mode",
        "SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
        "SET @w = (SELECT COUNT(*) FROM t)",
        "SET @w = NOW()",
        "SET @w = CURRENT_TIMESTAMP",
        "DROP TEMPORARY TABLE t",
        "DROP TABLE IF EXISTS t",
        "CREATE TEMPORARY TABLE IF NOT EXISTS t (a INT)",
        "SELECT @w := 1",
        "BEGIN",
        "SET autocommit = 0",
        "SET STATEMENT max_statement_time = 1 FOR SET @w = 1",
        "SET @w = 1; SELECT 1",
    ],
)
def test_statement_that_reads_something_of_the_session_raises(
    make_connection: ConnectionFactory, admin: Admin, text: str
) -> None:
    connection = make_connection(**SEVERAL)
    do(connection, "SET @v = 1", "SET NAMES latin1", "CREATE TEMPORARY TABLE t (a INT)")
    kill(admin, connection)
    with listening(connection) as received, pytest.raises(SessionStateLost):
        do(connection, text)
    assert (received.recycled, len(received.lost)) == ([], 1)


def test_global_variable_pays_for_no_session_variable(connection: Connection, admin: Admin) -> None:
    do(connection, "SET SESSION sql_select_limit = 9")
    kill(admin, connection)
    before = admin.value("SELECT @@GLOBAL.sql_select_limit")
    do(connection, f"SET GLOBAL sql_select_limit = {before}")
    with pytest.raises(SessionStateLost, match="sql_select_limit"):
        run(connection, "SELECT 1")


def test_read_only_mode_is_not_paid_for_by_the_isolation_level(
    connection: Connection, admin: Admin
) -> None:
    do(connection, "SET SESSION TRANSACTION READ ONLY")
    kill(admin, connection)
    do(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    with pytest.raises(SessionStateLost, match="read_only"):
        insert(connection, "a")
    assert owners(admin) == []


def test_statement_that_sets_and_fails_pays_for_nothing(
    connection: Connection, admin: Admin
) -> None:
    do(connection, "SET SESSION sql_select_limit = 9")
    kill(admin, connection)
    with pytest.raises(Error):
        do(connection, "SET SESSION sql_select_limit = 'x'")
    with pytest.raises(SessionStateLost, match="sql_select_limit"):
        run(connection, "SELECT 1")


def test_statements_after_everything_is_set_again_take_the_common_path(
    connection: Connection, admin: Admin
) -> None:
    do(connection, "SET @v = 5")
    kill(admin, connection)
    do(connection, "SET @v = 5")
    run(connection, "SELECT 1")
    assert connection.guard.connection.ready  # type: ignore[attr-defined]


def test_statements_after_a_loss_was_raised_take_the_common_path(
    connection: Connection, admin: Admin
) -> None:
    do(connection, "SET @v = 5")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT @v")
    run(connection, "SELECT 1")
    assert connection.guard.connection.ready


def test_executemany_pays_only_if_it_has_rows(connection: Connection, admin: Admin) -> None:
    for rows in ([(1,), (2,)], [], iter([])):
        do(connection, "SET @v = 5")
        kill(admin, connection)
        with connection.cursor() as cursor:
            cursor.executemany("SET @v = %s", rows)
        if rows == [(1,), (2,)]:
            assert value(connection, "SELECT @v") == 2
        else:
            with pytest.raises(SessionStateLost, match="@v"):
                run(connection, "SELECT @v")


def test_text_with_several_statements_pays_once_all_of_them_have_run(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**SEVERAL)
    do(connection, "SET @v = 1; SET @w = 2")
    kill(admin, connection)
    do(connection, "SET @v = 3; SET @w = 4")
    assert run(connection, "SELECT @v, @w") == [(3, 4)]
    kill(admin, connection)
    with connection.cursor() as cursor:
        cursor.execute("SET @v = 5; SET @w = nonsense")
        outcome(cursor.nextset)  # type: ignore[arg-type]
    with pytest.raises(SessionStateLost, match="@w"):
        run(connection, "SELECT @v, @w")
    connection.close()
    do(connection, "SET @v = 1")
    kill(admin, connection)
    with connection.cursor() as cursor:
        cursor.execute("SET @v = 6; SELECT @v")
        cursor.nextset()
        assert cursor.fetchall() == ((6,),)


@pytest.mark.parametrize("enter", ["atomic", "pinned"])
def test_entering_a_transaction_or_a_pin_raises_for_what_was_not_set_again(
    connection: Connection, admin: Admin, enter: str
) -> None:
    lose_two_and_set_one(connection, admin)
    block: Any = transaction.atomic(using=connection.alias)
    if enter == "pinned":
        block = pinned(connection)
    with pytest.raises(SessionStateLost, match="@w"), block:
        pytest.fail("entered")
    with transaction.atomic(using=connection.alias):
        insert(connection, "a")
    assert owners(admin) == ["a"]


def test_with_autocommit_off_a_transaction_does_not_begin_before_an_unreported_loss_is_raised(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(AUTOCOMMIT=False)
    do(connection, "SET @v = 1", "SET @w = 1")
    connection.commit()
    kill(admin, connection)
    do(connection, "SET @v = 1")
    with pytest.raises(SessionStateLost, match="@w"):
        insert(connection, "raised")
    insert(connection, "after")
    connection.commit()
    assert owners(admin) == ["after"]


def test_what_was_not_set_again_outlives_a_second_loss(
    connection: Connection, admin: Admin
) -> None:
    lose_two_and_set_one(connection, admin)
    kill(admin, connection)
    do(connection, "SET @x = 1")
    with pytest.raises(SessionStateLost) as caught:
        run(connection, "SELECT 1")
    assert "@v" in str(caught.value) and "@w" in str(caught.value)
    run(connection, "SELECT 1")


def test_close_and_the_end_of_a_unit_of_work_end_what_was_not_set_again(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=None)
    for end in (connection.close, close_old_connections):
        do(connection, "SET @v = 1", "SET @w = 1")
        kill(admin, connection)
        do(connection, "SET @w = 1")
        end()
        assert value(connection, "SELECT @v") is None


def test_loss_of_a_temporary_table_outlives_units_of_work(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=None)
    do(connection, "CREATE TEMPORARY TABLE t (a INT)")
    kill(admin, connection)
    do(connection, "SET @w = 1")
    close_old_connections()
    with pytest.raises(SessionStateLost, match="`t`"):
        run(connection, "SELECT 1")
    run(connection, "SELECT 1")


def test_temporary_table_of_another_database_is_another_table(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    admin.rows("CREATE DATABASE elsewhere")
    try:
        connection = make_connection()
        do(connection, "CREATE TEMPORARY TABLE t (a INT)")
        kill(admin, connection)
        do(connection, "USE elsewhere", "DROP TEMPORARY TABLE IF EXISTS t")
        with pytest.raises(SessionStateLost, match="`t`"):
            run(connection, "SELECT 1")
    finally:
        admin.rows("DROP DATABASE elsewhere")


def test_replaced_table_is_made_anew_by_mariadb(
    make_connection: ConnectionFactory, admin: Admin, vendor: str
) -> None:
    if vendor == "mysql":
        return  # which has no OR REPLACE for tables
    connection = make_connection()
    for _ in range(3):
        do(connection, "CREATE OR REPLACE TEMPORARY TABLE t AS SELECT owner FROM testapp_account")
        kill(admin, connection)
    with pytest.raises(SessionStateLost, match="`t`"):
        do(connection, "CREATE OR REPLACE TEMPORARY TABLE t AS SELECT t.* FROM t")


def test_receiver_neither_pays_nor_takes_the_error(connection: Connection, admin: Admin) -> None:
    seen = []

    def receive(**facts: Any) -> None:
        run(connection, "SELECT 1")
        do(connection, "SET @w = 'the receiver''s'")
        seen.append(facts["reason"])

    do(connection, "SET @v = 1", "SET @w = 1")
    kill(admin, connection)
    with receiving(connection_recycled, receive):
        do(connection, "SET @v = 1")
    assert seen == ["closed"]
    with pytest.raises(SessionStateLost, match="@w"):
        run(connection, "SELECT @w")


def test_receiver_that_closes_the_connection_gives_nothing_up(
    connection: Connection, admin: Admin
) -> None:

    def receive(**facts: Any) -> None:
        connection.close()

    insert(connection, "a")
    do(connection, "SET @v = 1", "SET @w = 1")
    kill(admin, connection)
    with receiving(connection_recycled, receive):
        do(connection, "SET @v = 1")
    with pytest.raises(SessionStateLost, match="@w"):
        run(connection, "SELECT 1")
    with pytest.raises(SessionStateLost, match="LAST_INSERT_ID"):
        run(connection, "SELECT LAST_INSERT_ID()")


def test_interruption_while_the_connection_is_replaced_does_not_hush_up_the_loss(
    connection: Connection, admin: Admin
) -> None:

    def interrupt(**facts: Any) -> None:
        raise KeyboardInterrupt

    do(connection, "SET @v = 1", "SET @w = 1")
    kill(admin, connection)
    with receiving(connection_created, interrupt), pytest.raises(KeyboardInterrupt):
        do(connection, "SET @v = 1")
    with pytest.raises(SessionStateLost) as caught:
        insert(connection, "raised")
    assert "@v" in str(caught.value) and "@w" in str(caught.value)
    insert(connection, "after")
    assert owners(admin) == ["after"]


def test_interruption_in_a_receiver_of_the_loss_does_not_hush_it_up(
    connection: Connection, admin: Admin
) -> None:

    def interrupt(**facts: Any) -> None:
        raise KeyboardInterrupt

    lose_two_and_set_one(connection, admin)
    with receiving(session_state_lost, interrupt), pytest.raises(KeyboardInterrupt):
        insert(connection, "interrupted")
    with pytest.raises(SessionStateLost, match="@w"):
        insert(connection, "raised")
    insert(connection, "after")
    assert owners(admin) == ["after"]


def test_child_of_a_fork_owes_nothing(connection: Connection, admin: Admin) -> None:
    lose_two_and_set_one(connection, admin)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if value(connection, "SELECT 7") == 7 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(SessionStateLost, match="@w"):
        run(connection, "SELECT 1")


@pytest.mark.parametrize("alone", [True, False], ids=["all of it", "some of it"])
def test_statement_that_sets_and_never_ran_is_repeated(
    make_connection: ConnectionFactory, admin: Admin, alone: bool
) -> None:
    connection = make_connection(recycle={"liveness_check": False})
    do(connection, "SET @v = 1" if alone else "SET @v = 1, @w = 1")
    rest(connection)
    connection.connection.close()  # the driver's: what is sent on it never leaves
    with listening(connection) as received:
        do(connection, "SET @v = 2")
    assert len(received.repeated) == (not alone)  # there a ping may come first
    if alone:
        assert value(connection, "SELECT @v") == 2
    else:
        with pytest.raises(SessionStateLost, match="@w"):
            run(connection, "SELECT @v")


def test_loss_between_setting_and_the_work_is_reported(
    connection: Connection, admin: Admin
) -> None:
    for _ in range(3):
        do(connection, "SET @v = 1")
        kill(admin, connection)
        with pytest.raises(SessionStateLost, match="@v"):
            insert(connection, "lost")
    assert owners(admin) == []


def test_server_that_is_down_in_between_ends_no_unreported_loss(
    make_connection: ConnectionFactory, admin: Admin, server: Any
) -> None:
    connection = make_connection(recycle={"connect_retries": 0})
    do(connection, "SET @v = 1", "SET @w = 1")
    server.stop()
    with pytest.raises(Error):
        do(connection, "SET @v = 1")
    server.start()
    do(connection, "SET @v = 1")
    with pytest.raises(SessionStateLost, match="@w"):
        run(connection, "SELECT @w")


def test_living_connection_keeps_what_a_statement_sets_only_in_part(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"idle_limit": 5}, CONN_MAX_AGE=1)
    do(connection, "SET @v = 1, @w = 1")
    session = session_id(connection)
    rest(connection, 60)
    do(connection, "SET @v = 2")
    assert run(connection, "SELECT @v, @w") == [(2, 1)]
    assert session_id(connection) == session


RANKING = """
    SELECT @r := @r + 1 AS place, owner
    FROM testapp_account CROSS JOIN (SELECT @r := 0) AS start ORDER BY owner
"""


@pytest.mark.parametrize("end", ["closed", "idle limit", "max age"])
def test_worker_whose_statement_sets_its_variables_first_is_recycled(
    make_connection: ConnectionFactory, admin: Admin, end: str
) -> None:
    if end == "max age":
        connection = make_connection(CONN_MAX_AGE=60)
    else:
        connection = make_connection(recycle={"idle_limit": 60})
    insert(connection, "a")
    insert(connection, "b")
    with listening(connection) as received:
        for _ in range(4):
            assert run(connection, RANKING) == [(1, "a"), (2, "b")]
            if end == "closed":
                kill(admin, connection)
            else:
                connection.guard.connection.opened_at -= 61  # type: ignore[attr-defined]
                rest(connection, 61)
    assert (received.lost, received.recycled) == ([], [end] * 3)
