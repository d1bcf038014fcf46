"""A lock that is not held pins nothing, however its release, or its refusal, was written."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, Error, transaction

from django_mysql_recycle import SessionStateLost

from .acts import insert, kill, listening, owners
from .admin import Admin
from .connections import ConnectionFactory, Proxied, unbuffered
from .queries import run, value

pytestmark = pytest.mark.core

#: Each with what it answers for a lock that was held; `%s` is the lock's name.
RELEASES = [
    "SELECT RELEASE_LOCK(%s)",
    "SELECT RELEASE_LOCK(%s) > 0",
    "SELECT RELEASE_LOCK(%s) >= 1",
    "SELECT RELEASE_LOCK(%s) = 1 AS ok",
    "SELECT RELEASE_LOCK(%s) IS TRUE",
    "SELECT RELEASE_LOCK(%s) != 0",
    "SELECT RELEASE_LOCK(%s) <> 0",
    "SELECT RELEASE_LOCK(%s) IS NOT NULL",
    "SELECT NOT ISNULL(RELEASE_LOCK(%s))",
    "SELECT RELEASE_LOCK(%s) OR 0",
    "SELECT 1 + RELEASE_LOCK(%s), 2",
    "SELECT CASE RELEASE_LOCK(%s) WHEN 1 THEN 'freed' ELSE 'not held' END",
    "SELECT IF(RELEASE_LOCK(%s), 'freed', 'not held')",
    "SELECT CAST(RELEASE_LOCK(%s) AS CHAR)",
    "SELECT (SELECT RELEASE_LOCK(%s))",
    "SELECT RELEASE_LOCK(%s) FROM DUAL WHERE 1 = 1",
    "SELECT t.a FROM (SELECT RELEASE_LOCK(%s) AS a) t",
    "SELECT RELEASE_LOCK(CONCAT(%s, ''))",
    "SELECT RELEASE_LOCK(LOWER(%s)) IS TRUE",
    "SET @freed = RELEASE_LOCK(%s)",
    "SELECT RELEASE_LOCK(%s) INTO @freed",
    "DO RELEASE_LOCK(%s)",
    "DO RELEASE_LOCK(%s) + 0",
    "UPDATE testapp_account SET balance = IFNULL(RELEASE_LOCK(%s), 0)",
    "SELECT RELEASE_LOCK(CONCAT(%s))",
    "SELECT RELEASE_ALL_LOCKS() >= 0, %s",
]
TAKES = [
    "SELECT GET_LOCK(%s, 0)",
    "DO GET_LOCK(%s, 0)",
    "SELECT GET_LOCK(%s, 0) > 0",
    "SELECT 1, GET_LOCK(%s, 0)",
    "SET @got = GET_LOCK(%s, 0)",
    "SELECT IF(GET_LOCK(%s, 0), 'mine', 'taken')",
    "UPDATE testapp_account SET balance = GET_LOCK(%s, 0)",
    "SELECT GET_LOCK(%s, 0) FROM (SELECT 1 UNION SELECT 2) t",
]


def account(connection: Any, admin: Admin) -> None:
    """One row, so that an UPDATE runs once."""
    insert(connection, "another")


def end_unit_of_work(connection: Any) -> None:
    connection.close_if_unusable_or_obsolete()


def assert_recycles_without_error(connection: Any, admin: Admin) -> None:
    end_unit_of_work(connection)  # user variables pin until then
    assert repr(connection.guard.connection.ledger.pins) == "<SessionState: not pinned>"
    kill(admin, connection)
    with listening(connection) as received:
        assert value(connection, "SELECT 1") == 1
    assert (received.lost, received.recycled) == ([], ["closed"])


@pytest.fixture
def connection(make_connection: ConnectionFactory) -> Any:
    return make_connection(CONN_MAX_AGE=None)


@pytest.mark.parametrize("release", RELEASES)
def test_released_lock_pins_no_longer(connection: Any, admin: Admin, release: str) -> None:
    account(connection, admin)
    run(connection, "SELECT GET_LOCK(%s, 0)", "l")
    run(connection, release, "l")
    assert value(connection, "SELECT IS_FREE_LOCK('l')") == 1
    assert_recycles_without_error(connection, admin)


@pytest.mark.parametrize("release", RELEASES)
def test_release_of_another_lock_ends_nothing(connection: Any, admin: Admin, release: str) -> None:
    if "ALL_LOCKS" in release:
        release = "SELECT RELEASE_LOCK(%s) AND RELEASE_LOCK('no lock')"
    account(connection, admin)
    run(connection, "SELECT GET_LOCK('kept', 0)")
    run(connection, release, "l")
    end_unit_of_work(connection)
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="kept"):
        run(connection, "SELECT 1")


@pytest.mark.parametrize("release", ["SELECT RELEASE_LOCK('l') > 0", "SET @x = RELEASE_LOCK('l')"])
@pytest.mark.parametrize("take", TAKES)
def test_lock_that_was_taken_twice_is_held_until_its_second_release(
    connection: Any, admin: Admin, take: str, release: str
) -> None:
    account(connection, admin)
    run(connection, take, "l")
    run(connection, "SELECT GET_LOCK('l', 0)")
    while True:
        assert connection.guard.connection.ledger.pins.kinds()[:1] == ("named lock",)
        run(connection, release)
        end_unit_of_work(connection)
        if value(connection, "SELECT IS_FREE_LOCK('l')"):
            break
    assert_recycles_without_error(connection, admin)


@pytest.mark.parametrize("take", TAKES)
def test_lock_that_was_refused_pins_nothing(connection: Any, admin: Admin, take: str) -> None:
    account(connection, admin)
    admin.rows("SELECT GET_LOCK('l', 0)")
    run(connection, take, "l")
    assert_recycles_without_error(connection, admin)


@pytest.mark.parametrize("take", TAKES)
def test_lock_that_was_granted_pins(connection: Any, admin: Admin, take: str) -> None:
    account(connection, admin)
    run(connection, take, "l")
    end_unit_of_work(connection)
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="named lock 'l'"):
        run(connection, "SELECT 1")


@pytest.mark.parametrize("granted", [True, False])
@pytest.mark.parametrize(
    "name", ["CONCAT('l', %s)", "CONCAT(DATABASE(), '.', %s)", "LEFT(SHA2(%s, 256), 64)"]
)
def test_lock_that_is_named_by_an_expression_pins_while_it_is_held(
    connection: Any, admin: Admin, name: str, granted: bool
) -> None:
    if not granted:
        admin.rows(f"SELECT GET_LOCK({name}, 0)", "x")
    run(connection, f"SELECT 1, GET_LOCK({name}, 0)", "x")
    assert connection.guard.connection.ledger.pins.pinned is granted
    run(connection, f"SELECT RELEASE_LOCK({name}) IS NOT NULL", "x")
    assert_recycles_without_error(connection, admin)


def test_lock_of_a_statement_that_failed_pins_while_it_is_held(
    connection: Any, admin: Admin
) -> None:
    account(connection, admin)
    sql = (
        "INSERT INTO testapp_account (id, owner, balance)"
        " SELECT id, owner, GET_LOCK('l', 0) FROM testapp_account"
    )
    with pytest.raises(DatabaseError):
        run(connection, sql)
    run(connection, "SELECT 1")
    assert connection.guard.connection.ledger.pins.kinds() == ("named lock",)
    run(connection, "SELECT RELEASE_LOCK('l')")
    assert_recycles_without_error(connection, admin)


def test_lock_that_a_procedure_releases_pins_no_longer(connection: Any, admin: Admin) -> None:
    admin.create_procedure("let_go() DO RELEASE_LOCK('l')")
    run(connection, "SELECT GET_LOCK('l', 0)")
    run(connection, "CALL let_go()")
    run(connection, "SELECT 1")
    assert_recycles_without_error(connection, admin)


def test_server_is_asked_inside_a_transaction_without_a_trace_in_it(
    connection: Any, admin: Admin
) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        run(connection, "DO GET_LOCK('l', 0)")
        insert(connection, "second")
        with connection.cursor() as cursor:
            cursor.execute("SELECT RELEASE_LOCK('l') IS NOT NULL, 2")
            assert cursor.fetchall() == ((1, 2),)
    assert owners(admin) == ["first", "second"]
    assert_recycles_without_error(connection, admin)


def test_cursor_keeps_its_answer_while_the_server_is_asked(connection: Any, admin: Admin) -> None:
    account(connection, admin)
    with connection.cursor() as cursor:
        cursor.execute("DO GET_LOCK('l', 0)")
        cursor.execute("UPDATE testapp_account SET balance = 7 + RELEASE_LOCK('l')")
        assert (cursor.rowcount, cursor.description) == (1, None)
        cursor.execute("SELECT owner, 1 + IFNULL(RELEASE_LOCK('l'), 0) FROM testapp_account")
        assert cursor.fetchone() == ("another", 1)
        assert not cursor.nextset()
    assert value(connection, "SELECT balance FROM testapp_account") == 8


def test_names_of_locks_do_not_stay_in_memory(connection: Any) -> None:
    for number in range(300):
        run(connection, "SELECT GET_LOCK(%s, 0)", f"l{number}")
        run(connection, RELEASES[number % 3], f"l{number}")
        run(connection, "DO GET_LOCK(%s, 0)", f"m{number}")
        run(connection, "SELECT RELEASE_LOCK(%s), 1", f"m{number}")
    assert len(connection.guard.connection.ledger.pins._pins) == 0


# The question to the server, and what can happen to it.


def test_loss_in_the_question_is_reported_by_the_next_statement(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied(CONN_MAX_AGE=None)
    run(connection, "SELECT 1")
    between.cut_at(b"IS_USED_LOCK")
    run(connection, "DO GET_LOCK('l', 0)")  # has run, and its success is not to be masked
    with pytest.raises(SessionStateLost, match="named lock 'l'"):
        insert(connection, "unprotected")
    assert owners(admin) == []
    insert(connection, "after")
    assert owners(admin) == ["after"]


def test_loss_in_the_question_inside_a_transaction_commits_no_half_of_it(
    proxied: Proxied, admin: Admin
) -> None:
    connection, between = proxied(CONN_MAX_AGE=None)
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "first half")
        between.cut_at(b"IS_USED_LOCK")
        run(connection, "SELECT 1, GET_LOCK('l', 0)")
        insert(connection, "second half")
    assert owners(admin) == []


@pytest.mark.parametrize("granted", [True, False])
def test_server_is_asked_once_the_rows_of_an_unbuffered_cursor_are_read(
    make_connection: ConnectionFactory, admin: Admin, driver: str, granted: bool
) -> None:
    connection: Any = make_connection(options=unbuffered(driver), CONN_MAX_AGE=None)
    if not granted:
        admin.rows("SELECT GET_LOCK('l', 0)")
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('l', 0) UNION ALL SELECT 2")
        assert list(cursor.fetchall()) == [(int(granted),), (2,)]
    run(connection, "SELECT 1")
    assert connection.guard.connection.ledger.pins.pinned is granted


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT GET_LOCK('l', 0)", "DO GET_LOCK('l', 0); DO 1"])
@pytest.mark.parametrize("granted", [True, False])
def test_server_is_asked_once_all_results_of_several_statements_are_read(
    make_connection: ConnectionFactory, admin: Admin, sql: str, granted: bool
) -> None:
    connection: Any = make_connection(options={"client_flag": 65536 | 2}, CONN_MAX_AGE=None)
    if not granted:
        admin.rows("SELECT GET_LOCK('l', 0)")
    with connection.cursor() as cursor:
        cursor.execute(sql)
        while cursor.nextset():
            pass
    run(connection, "SELECT 1")
    assert connection.guard.connection.ledger.pins.pinned is granted


@pytest.mark.parametrize("granted", [True, False])
def test_server_is_asked_with_autocommit_off(
    make_connection: ConnectionFactory, admin: Admin, granted: bool
) -> None:
    connection: Any = make_connection(AUTOCOMMIT=False, CONN_MAX_AGE=None)
    if not granted:
        admin.rows("SELECT GET_LOCK('l', 0)")
    insert(connection, "another")
    run(connection, "DO GET_LOCK('l', 0)")
    assert connection.guard.connection.ledger.pins.pinned is granted
    connection.commit()
    assert owners(admin) == ["another"]


def test_application_does_not_see_the_question(connection: Any, admin: Admin) -> None:
    seen = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    run(connection, "SELECT 1")
    connection.force_debug_cursor = True
    with connection.execute_wrapper(wrapper):
        run(connection, "DO GET_LOCK('l', 0)")
    assert seen == ["DO GET_LOCK('l', 0)"]
    assert [query["sql"] for query in connection.queries][-1] == "DO GET_LOCK('l', 0)"
