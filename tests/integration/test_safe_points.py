"""Where replacing would lose something nothing is replaced; at the next safe point it works again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import Error, OperationalError, connections, transaction

from django_mysql_recycle import SessionStateLost

from ..testapp.models import Account
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory
from .queries import connection_id, kill, run, settle, value

INSERT = "INSERT INTO testapp_account (owner, balance) VALUES (%s, 1)"


def add(connection: Connection, owner: str) -> None:
    Account.objects.using(connection.alias).create(owner=owner)


def owners(admin: Admin) -> list[str]:
    return [row[0] for row in admin.rows("SELECT owner FROM testapp_account ORDER BY owner")]


def kill_now(admin: Admin, connection: Connection) -> None:
    """KILL without a statement before it, which would count."""
    admin.kill(connection.connection.thread_id())
    settle()


@pytest.mark.core
def test_loss_inside_atomic_is_the_drivers_own_error_and_no_half_is_committed(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    with pytest.raises(OperationalError) as caught, transaction.atomic(using=connection.alias):
        add(connection, "first half")
        kill_now(admin, connection)
        add(connection, "second half")
    assert not isinstance(caught.value, SessionStateLost)
    assert recycles == []
    assert owners(admin) == []
    add(connection, "next")
    assert owners(admin) == ["next"]


def test_application_that_swallows_the_loss_inside_atomic_commits_nothing(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    with transaction.atomic(using=connection.alias):
        add(connection, "first half")
        kill_now(admin, connection)
        for _ in range(2):
            with pytest.raises(Error):
                run(connection, "INSERT INTO testapp_account (owner, balance) VALUES ('half', 1)")
        connection.set_rollback(True)
    assert recycles == []
    assert owners(admin) == []
    assert value(connection, "SELECT 1") == 1


def test_loss_inside_a_savepoint_ends_the_outer_block_too(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        add(connection, "outer")
        with transaction.atomic(using=connection.alias):
            kill_now(admin, connection)
            add(connection, "inner")
    assert recycles == []
    assert owners(admin) == []
    assert value(connection, "SELECT 1") == 1


@pytest.mark.core
def test_stale_but_healthy_connection_is_not_replaced_inside_atomic(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(CONN_MAX_AGE=1, recycle={"idle_limit": 0.2, "jitter": None})
    with transaction.atomic(using=connection.alias):
        add(connection, "first half")
        first = connection_id(connection)
        time.sleep(1.1)
        add(connection, "second half")
        assert connection_id(connection) == first
    assert recycles == []
    assert owners(admin) == ["first half", "second half"]
    time.sleep(0.3)
    assert connection_id(connection) != first


@pytest.mark.core
@pytest.mark.parametrize("state", ["killed", "past its idle limit"])
def test_stale_connection_is_replaced_on_entering_atomic(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]], state: str
) -> None:
    connection = make_connection(recycle={"idle_limit": 0.2})
    first = connection_id(connection)
    if state == "killed":
        kill(admin, connection)
    else:
        time.sleep(0.3)
    with transaction.atomic(using=connection.alias):
        add(connection, "whole")
        assert connection_id(connection) != first
        assert value(connection, "SELECT @@SESSION.autocommit") == 0
    assert connection.autocommit
    assert owners(admin) == ["whole"]
    assert len(recycles) == 1


@pytest.mark.core
def test_with_autocommit_off_nothing_is_replaced_once_something_has_run(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection.set_autocommit(False)
    add(connection, "first half")
    kill_now(admin, connection)
    with pytest.raises(Error):
        add(connection, "second half")
    assert recycles == []
    connection.rollback()
    add(connection, "next")
    connection.commit()
    assert owners(admin) == ["next"]
    connection.set_autocommit(True)
    assert value(connection, "SELECT COUNT(*) FROM testapp_account") == 1


def test_with_autocommit_off_what_ran_before_an_error_in_executemany_counts(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    add(connection, "a")
    connection.set_autocommit(False)
    with connection.cursor() as cursor, pytest.raises(Error):
        sql = "UPDATE testapp_account SET balance = %s WHERE owner = 'a'"
        cursor.executemany(sql, [(5,), ("no number",)])
    kill_now(admin, connection)
    with pytest.raises(Error):
        add(connection, "second half")
    assert recycles == []
    connection.rollback()
    assert owners(admin) == ["a"]


def test_with_autocommit_off_a_stale_but_healthy_connection_is_kept_once_something_has_run(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(recycle={"idle_limit": 0.1})
    connection.set_autocommit(False)
    add(connection, "first half")
    time.sleep(0.2)
    add(connection, "second half")
    assert recycles == []
    connection.commit()
    assert owners(admin) == ["first half", "second half"]
    time.sleep(0.2)
    add(connection, "of the next transaction")
    assert [reported["reason"] for reported in recycles] == ["idle limit"]


@pytest.mark.core
@pytest.mark.parametrize("by", ["settings", "call"])
@pytest.mark.parametrize("savepoint", [False, True], ids=["no savepoint", "savepoint"])
def test_with_autocommit_off_the_loss_of_what_an_atomic_block_wrote_is_raised(
    make_connection: ConnectionFactory,
    admin: Admin,
    recycles: list[dict[str, Any]],
    engine: str,
    by: str,
    savepoint: bool,
) -> None:
    connection = make_connection(engine, AUTOCOMMIT=by == "call")
    run(connection, "SELECT 1")
    if by == "call":
        connection.set_autocommit(False)
    connection.rollback()
    with transaction.atomic(using=connection.alias, savepoint=savepoint):
        run(connection, INSERT, "first half")
    kill_now(admin, connection)
    with pytest.raises(Error):
        run(connection, INSERT, "second half")
    with pytest.raises(Error):
        connection.commit()
    assert recycles == []
    assert owners(admin) == []


@pytest.mark.core
@pytest.mark.parametrize("ended", ["commit", "rollback"])
def test_with_autocommit_off_a_lost_connection_is_replaced_between_transactions(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]], ended: str
) -> None:
    connection.set_autocommit(False)
    add(connection, "before")
    getattr(connection, ended)()
    kill_now(admin, connection)
    add(connection, "after")
    assert not connection.autocommit
    assert value(connection, "SELECT @@SESSION.autocommit") == 0
    connection.rollback()
    add(connection, "after that")
    connection.commit()
    kept = ["before"] if ended == "commit" else []
    assert owners(admin) == sorted([*kept, "after that"])
    assert [reported["reason"] for reported in recycles] == ["closed"]


def test_with_autocommit_off_atomic_enters_on_a_new_connection_between_transactions(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection.set_autocommit(False)
    add(connection, "before")
    connection.commit()
    kill_now(admin, connection)
    with transaction.atomic(using=connection.alias):
        add(connection, "within")
    connection.commit()
    assert owners(admin) == ["before", "within"]
    assert [reported["reason"] for reported in recycles] == ["closed"]


def test_autocommit_off_by_the_settings_is_as_off_by_a_call(
    make_connection: ConnectionFactory, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(AUTOCOMMIT=False)
    add(connection, "first half")
    kill_now(admin, connection)
    with pytest.raises(Error):
        add(connection, "second half")
    connection.rollback()
    kept = connection_id(connection)
    connection.commit()
    kill_now(admin, connection)
    assert connection_id(connection) != kept
    assert not connection.autocommit
    connection.rollback()
    assert owners(admin) == []


@pytest.mark.core
def test_connection_shared_between_threads_is_not_replaced(
    connection: Connection, admin: Admin, recycles: list[dict[str, Any]]
) -> None:
    run(connection, "DO 1")
    connection.inc_thread_sharing()
    kill_now(admin, connection)
    for _ in range(2):
        with pytest.raises(Error):
            run(connection, "DO 1")
    assert recycles == []
    connection.dec_thread_sharing()
    assert value(connection, "SELECT 1") == 1
    assert len(recycles) == 1


def test_stale_but_healthy_connection_shared_between_threads_is_kept(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    connection = make_connection(recycle={"idle_limit": 0.1})
    first = connection_id(connection)
    connection.inc_thread_sharing()
    time.sleep(0.2)
    assert connection_id(connection) == first
    time.sleep(0.2)
    connection.dec_thread_sharing()
    assert connection_id(connection) != first
    assert len(recycles) == 1


@pytest.mark.parametrize("engine", [OURS, STOCK])
def test_stock_backend_too_never_commits_half_of_a_lost_transaction(
    make_connection: ConnectionFactory, admin: Admin, engine: str
) -> None:
    connection = make_connection(engine)
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        add(connection, "first half")
        kill_now(admin, connection)
        add(connection, "second half")
    assert owners(admin) == []


def test_stock_backend_stays_lost_with_autocommit_off(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    connection.set_autocommit(False)
    add(connection, "half")
    kill_now(admin, connection)
    for _ in range(2):
        with pytest.raises(Error):
            add(connection, "next")
    with pytest.raises(Error):
        connection.rollback()
    assert connections[connection.alias] is connection
