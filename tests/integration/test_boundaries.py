"""The boundary of a unit of work: what Django's check closes there, and what that costs."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from django.db.utils import OperationalError

from django_mysql_recycle import SessionStateLost, counters, pinned

from .acts import (
    assert_works,
    balances,
    insert,
    kill,
    listening,
    outcome,
    owners,
    session_id,
    wait_for,
)
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory
from .queries import run, value

MAX_AGE = 60


def grow_old(connection: Connection, times: float = 1.0) -> None:
    """Let the connection be so many times as old as CONN_MAX_AGE, by Django's clock."""
    connection.close_at = time.monotonic() - (times - 1) * MAX_AGE - 0.01


def boundary(connection: Connection, times: float = 1.0) -> None:
    """End a request, when the connection has been open for so long, and begin the next one."""
    grow_old(connection, times)
    request_finished.send(sender=None)
    request_started.send(sender=None)


def is_open(connection: Connection) -> bool:
    return connection.connection is not None


@pytest.fixture
def aging(make_connection: ConnectionFactory) -> Connection:
    return make_connection(CONN_MAX_AGE=MAX_AGE)


def change(connection: Connection, owner: str, amount: int) -> None:
    sql = "UPDATE testapp_account SET balance = balance + %s WHERE owner = %s"
    run(connection, sql, amount, owner)


def transfer(connection: Connection, begin: str, between: Any) -> None:
    """Move money by a transaction in SQL that a boundary divides."""
    run(connection, begin)
    change(connection, "payer", -10)
    between()
    change(connection, "payee", 10)
    run(connection, "COMMIT")


@pytest.fixture
def accounts(make_connection: ConnectionFactory) -> None:
    connection = make_connection()
    insert(connection, "payer", 100)
    insert(connection, "payee", 100)
    connection.close()


UNTOUCHED = {"payer": 100, "payee": 100}
BEGINS = ["BEGIN", "START TRANSACTION", "SET autocommit = 0", "set @@autocommit = off"]


# A transaction by SQL.


@pytest.mark.core
@pytest.mark.parametrize("max_age", [MAX_AGE, 0])
def test_control_stock_backend_commits_the_second_half_alone(
    make_connection: ConnectionFactory, admin: Admin, accounts: None, max_age: int
) -> None:
    connection = make_connection(STOCK, CONN_MAX_AGE=max_age)
    transfer(connection, "BEGIN", lambda: boundary(connection))
    assert balances(admin) == {"payer": 100, "payee": 110}


@pytest.mark.core
@pytest.mark.parametrize("max_age", [MAX_AGE, 0])
@pytest.mark.parametrize("begin", BEGINS)
def test_transaction_that_a_boundary_ends_by_closing_is_never_committed_by_its_second_half(
    make_connection: ConnectionFactory, admin: Admin, accounts: None, begin: str, max_age: int
) -> None:
    connection = make_connection(CONN_MAX_AGE=max_age)
    with listening(connection) as received, pytest.raises(SessionStateLost, match=r"max age"):
        transfer(connection, begin, lambda: boundary(connection))
    assert balances(admin) == UNTOUCHED
    assert [(facts["reason"], facts["raised"]) for facts in received.lost] == [("max age", True)]
    transfer(connection, begin, lambda: None)
    assert balances(admin) == {"payer": 90, "payee": 110}


@pytest.mark.parametrize("health_checks", [False, True])
@pytest.mark.parametrize("max_age", [MAX_AGE, None])
def test_transaction_whose_connection_is_killed_before_the_boundary_is_never_committed_by_its_half(
    make_connection: ConnectionFactory,
    admin: Admin,
    accounts: None,
    health_checks: bool,
    max_age: int | None,
) -> None:
    connection = make_connection(CONN_MAX_AGE=max_age, CONN_HEALTH_CHECKS=health_checks)

    def between() -> None:
        kill(admin, connection)
        close_old_connections()

    with pytest.raises(SessionStateLost, match="transaction"):
        transfer(connection, "BEGIN", between)
    assert balances(admin) == UNTOUCHED
    assert_works(connection, admin)


def test_transaction_across_a_boundary_before_the_max_age_is_committed_whole(
    aging: Connection, admin: Admin, accounts: None
) -> None:
    transfer(aging, "BEGIN", close_old_connections)
    assert balances(admin) == {"payer": 90, "payee": 110}


def test_loss_at_a_boundary_raises_on_entering_atomic_too_and_only_once(
    aging: Connection, admin: Admin
) -> None:
    run(aging, "BEGIN")
    insert(aging, "first half")
    boundary(aging)
    boundary(aging)
    with pytest.raises(SessionStateLost), transaction.atomic(using=aging.alias):
        insert(aging, "second half")
    with transaction.atomic(using=aging.alias):
        insert(aging, "after")
    assert owners(admin) == ["after"]


def test_loss_at_a_boundary_is_reported_although_pinning_is_turned_off(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=MAX_AGE, recycle={"pin_session_state": False})
    run(connection, "BEGIN")
    insert(connection, "first half")
    boundary(connection)
    with pytest.raises(SessionStateLost):
        insert(connection, "second half")
    assert owners(admin) == []


def test_transaction_that_was_ended_in_its_unit_of_work_is_closed_without_a_report(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    for max_age in (MAX_AGE, 0):
        connection = make_connection(CONN_MAX_AGE=max_age)
        for end in ("COMMIT", "ROLLBACK", "SET autocommit = 1", None):
            run(connection, "SET autocommit = 0" if end == "SET autocommit = 1" else "BEGIN")
            insert(connection, f"{max_age} {end}")
            if end is None:
                connection.commit()
            else:
                run(connection, end)
            boundary(connection)
            assert not is_open(connection)
            assert_works(connection, admin)
    assert len(owners(admin)) == 6


@pytest.mark.parametrize("max_age", [MAX_AGE, 0])
def test_transaction_that_was_committed_implicitly_is_no_loss_and_does_not_end_a_lock(
    make_connection: ConnectionFactory, admin: Admin, max_age: int
) -> None:
    connection = make_connection(CONN_MAX_AGE=max_age)
    for lock in (False, True):
        if lock:
            run(connection, "SELECT GET_LOCK('held', 0)")
        run(connection, "BEGIN")
        insert(connection, f"committed {lock}")
        run(connection, "CREATE TABLE IF NOT EXISTS commits_implicitly (a INT)")
        with listening(connection) as received:
            boundary(connection)
        assert (received.lost, is_open(connection)) == ([], lock and max_age > 0)
        assert_works(connection, admin)
    assert owners(admin) == ["committed False", "committed True"]
    admin.rows("DROP TABLE commits_implicitly")


def serve_twenty(connection: Connection) -> list[int]:
    """Twenty requests that write a row each; the fourth one forgets its COMMIT."""
    failed = []
    for number in range(20):
        request_started.send(sender=None)
        try:
            if number == 4:
                run(connection, "BEGIN")
            insert(connection, f"request {number}")
        except OperationalError:
            failed.append(number)
        if number == 5 and connection.close_at is not None:
            grow_old(connection)
        request_finished.send(sender=None)
    return failed


@pytest.mark.parametrize("max_age", [MAX_AGE, 0])
def test_forgotten_commit_costs_the_rows_that_it_costs_on_the_stock_backend_and_one_error(
    make_connection: ConnectionFactory, admin: Admin, max_age: int
) -> None:
    lost: dict[str, set[str]] = {}
    failed: dict[str, list[int]] = {}
    for engine in (STOCK, OURS):
        connection = make_connection(engine, CONN_MAX_AGE=max_age)
        failed[engine] = serve_twenty(connection)
        lost[engine] = {f"request {number}" for number in range(20)} - set(owners(admin))
        connection.close()
        admin.empty_tables()
    refused = 5 if max_age == 0 else 6
    assert failed == {STOCK: [], OURS: [refused]}
    assert lost[OURS] == lost[STOCK] | {f"request {refused}"}
    assert len(lost[STOCK]) == (1 if max_age == 0 else 2)


def test_reading_in_a_transaction_that_is_left_open_is_no_loss_where_each_request_has_its_connection(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=0)
    for number in range(3):
        run(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        run(connection, "SAVEPOINT s")
        run(connection, "SELECT owner FROM testapp_account")
        with listening(connection) as received:
            boundary(connection)
        assert (received.lost, is_open(connection)) == ([], False)
        insert(connection, f"request {number}")
        close_old_connections()
    assert len(owners(admin)) == 3


# Temporary tables and their kind.

OWN = [
    ("temporary table", "CREATE TEMPORARY TABLE own (a INT)"),
    ("prepared statement", "PREPARE own FROM 'SELECT 1'"),
    ("handler", "HANDLER testapp_account OPEN AS own"),
]


@pytest.mark.parametrize("health_checks", [False, True])
@pytest.mark.parametrize(("kind", "sql"), OWN)
def test_state_that_the_connection_alone_has_is_reported_when_a_boundary_closes_it(
    make_connection: ConnectionFactory, admin: Admin, kind: str, sql: str, health_checks: bool
) -> None:
    connection = make_connection(CONN_MAX_AGE=MAX_AGE, CONN_HEALTH_CHECKS=health_checks)
    for act in (boundary, lambda _: (kill(admin, connection), close_old_connections())):
        run(connection, sql)
        with listening(connection) as received:
            act(connection)
            with pytest.raises(SessionStateLost, match=kind):
                run(connection, "SELECT 1")
        assert [facts["state"] for facts in received.lost] == [(kind,)]
        assert_works(connection, admin)


@pytest.mark.parametrize("sql", ["SET @own = 1", "SET SESSION sql_mode = ''"])
def test_variables_end_with_their_unit_of_work_and_are_no_loss(
    aging: Connection, admin: Admin, sql: str
) -> None:
    run(aging, sql)
    with listening(aging) as received:
        boundary(aging)
        assert not is_open(aging)
        assert_works(aging, admin)
    assert received.lost == []


# State of statements that the backend does not know.


def run_hidden(connection: Connection) -> None:
    """Run a statement whose text cannot be known."""
    run(connection, "SET @hidden = 'DO 0'")
    run(connection, "PREPARE hidden FROM @hidden")
    run(connection, "EXECUTE hidden")
    run(connection, "DEALLOCATE PREPARE hidden")


def test_unknown_state_never_keeps_a_connection_past_its_max_age(
    aging: Connection, admin: Admin
) -> None:
    run_hidden(aging)
    with listening(aging) as received:
        boundary(aging)
        assert not is_open(aging)
        assert_works(aging, admin)
        run_hidden(aging)
        close_old_connections()
        kill(admin, aging)
        assert_works(aging, admin)
    assert (received.lost, received.recycled) == ([], ["closed"])


def test_unknown_state_does_not_keep_a_connection_past_its_max_age_in_a_loop_without_boundaries(
    make_connection: ConnectionFactory, vendor: str
) -> None:
    connection: Any = make_connection(CONN_MAX_AGE=MAX_AGE, recycle={"ping_after": None})
    sql = "EXECUTE IMMEDIATE CONCAT('DO ', '0')"
    if vendor == "mysql":
        return  # the variable of PREPARE FROM pins by itself until the unit of work ends
    run(connection, sql)
    run(connection, "SELECT 1")
    session = session_id(connection)
    record = connection.guard.connection
    for clock in ("opened_at", "last_activity", "expires_at"):
        setattr(record, clock, getattr(record, clock) - 2 * MAX_AGE)
    with listening(connection) as received:
        run(connection, sql)
    assert (received.lost, received.recycled) == ([], ["max age"])
    assert session_id(connection) != session


# What others rely on.

HELD = [
    ("named lock", "SELECT GET_LOCK('held', 0)", "SELECT RELEASE_LOCK('held')"),
    ("table lock", "LOCK TABLES testapp_account WRITE", "UNLOCK TABLES"),
]


@pytest.mark.core
@pytest.mark.parametrize("health_checks", [False, True])
@pytest.mark.parametrize(("kind", "take", "free"), HELD)
def test_lock_keeps_its_connection_past_the_max_age_and_is_reported_at_1_2_4_8_times(
    make_connection: ConnectionFactory,
    admin: Admin,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    take: str,
    free: str,
    health_checks: bool,
) -> None:
    connection = make_connection(CONN_MAX_AGE=MAX_AGE, CONN_HEALTH_CHECKS=health_checks)
    run(connection, take)
    session = session_id(connection)
    reported = []
    with caplog.at_level(logging.WARNING, "django_mysql_recycle"):
        for tenths in range(5, 100, 5):
            boundary(connection, tenths / 10)
            insert(connection, f"at {tenths}")
            if caplog.records:
                reported.append(tenths / 10)
                (warning,) = caplog.records
                assert kind in warning.getMessage() and "held" not in warning.getMessage()
                caplog.clear()
    assert reported == [1, 2, 4, 8]
    assert session_id(connection) == session
    assert counters()[connection.alias]["kept"] == {kind: 4}
    run(connection, free)
    boundary(connection)
    assert not is_open(connection)
    assert_works(connection, admin)


def test_long_pause_is_one_report(aging: Connection, caplog: pytest.LogCaptureFixture) -> None:
    run(aging, "SELECT GET_LOCK('held', 0)")
    with caplog.at_level(logging.WARNING, "django_mysql_recycle"):
        for times in (5, 7, 7.9):
            boundary(aging, times)
        assert len(caplog.records) == 1
        boundary(aging, 8)
        assert len(caplog.records) == 2


def test_connection_whose_lock_was_kept_is_closed_at_the_boundary_after_its_release(
    aging: Connection,
) -> None:
    run(aging, "SELECT GET_LOCK('held', 0)")
    boundary(aging, 1.1)
    assert is_open(aging)
    run(aging, "SELECT RELEASE_LOCK('held')")
    aging.close_if_unusable_or_obsolete()
    assert not is_open(aging)


def test_pin_by_hand_keeps_its_connection_past_the_max_age(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(CONN_MAX_AGE=MAX_AGE, recycle={"pin_session_state": False})
    with pinned(connection, "a session that another system knows"):
        session = session_id(connection)
        boundary(connection)
        assert session_id(connection) == session
    boundary(connection)
    assert not is_open(connection)


def test_temporary_table_beside_a_lock_is_kept_with_it(aging: Connection) -> None:
    run(aging, "SELECT GET_LOCK('held', 0)")
    run(aging, "CREATE TEMPORARY TABLE beside (a INT)")
    boundary(aging)
    assert run(aging, "SELECT * FROM beside") == []


def test_lock_beside_an_open_transaction_is_lost_with_it_and_both_are_named(
    aging: Connection, admin: Admin
) -> None:
    run(aging, "SELECT GET_LOCK('held', 0)")
    run(aging, "BEGIN")
    insert(aging, "first half")
    boundary(aging)
    with pytest.raises(SessionStateLost, match=r"'held'.*transaction"):
        insert(aging, "second half")
    assert owners(admin) == []


@pytest.mark.parametrize("health_checks", [False, True])
def test_lock_that_is_already_lost_at_the_boundary_makes_the_next_statement_raise(
    make_connection: ConnectionFactory, admin: Admin, health_checks: bool
) -> None:
    connection = make_connection(CONN_MAX_AGE=MAX_AGE, CONN_HEALTH_CHECKS=health_checks)
    for times in (0.5, 1):
        run(connection, "SELECT GET_LOCK('held', 0)")
        kill(admin, connection)
        boundary(connection, times)
        with pytest.raises(SessionStateLost, match="held"):
            insert(connection, "refused")
        assert_works(connection, admin)
    assert owners(admin) == []


def test_lock_that_is_lost_because_autocommit_was_left_off_makes_the_next_statement_raise(
    aging: Connection, admin: Admin
) -> None:
    run(aging, "SELECT GET_LOCK('held', 0)")
    aging.set_autocommit(False)
    close_old_connections()
    wait_for(lambda: admin.value("SELECT IS_FREE_LOCK('held')"), "the server to free the lock")
    with pytest.raises(SessionStateLost, match="held"):
        insert(aging, "refused")
    assert_works(aging, admin)


def test_errors_that_leave_the_connection_usable_do_not_end_a_lock(
    aging: Connection, admin: Admin
) -> None:
    run(aging, "SELECT GET_LOCK('held', 0)")
    assert outcome(lambda: run(aging, "nonsense")) is not None
    boundary(aging)
    assert value(aging, "SELECT IS_USED_LOCK('held') = CONNECTION_ID()") == 1


@pytest.mark.parametrize(
    "sql", [*(sql for _, sql in OWN), *(take for _, take, _ in HELD), "SET @own = 1"]
)
def test_max_age_of_zero_closes_at_each_boundary_as_in_django(
    make_connection: ConnectionFactory, admin: Admin, caplog: pytest.LogCaptureFixture, sql: str
) -> None:
    connection = make_connection(CONN_MAX_AGE=0)
    run(connection, sql)
    with caplog.at_level(logging.INFO, "django_mysql_recycle"), listening(connection) as received:
        close_old_connections()
        assert not is_open(connection)
        assert_works(connection, admin)
    assert (received.lost, caplog.records) == ([], [])


@pytest.mark.parametrize("sql", ["BEGIN", "CREATE TEMPORARY TABLE own (a INT)", HELD[0][1]])
def test_closing_by_the_application_ends_what_a_boundary_would_keep_or_report(
    aging: Connection, admin: Admin, sql: str
) -> None:
    run(aging, sql)
    insert(aging, "first half")
    aging.close()
    boundary(aging)
    assert_works(aging, admin)
