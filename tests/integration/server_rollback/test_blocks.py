"""The server rolls back the transaction of an `atomic` block, and the application swallows the error.

What ran before the error is undone. Stock goes on and commits what runs after it alone.
"""

from __future__ import annotations

import logging
import unittest
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import DatabaseError, OperationalError
from django.test import TestCase

from servers import Server

from ..acts import Hooks, assert_works, code_of, insert, owners, session_id
from ..admin import Admin
from ..connections import STOCK, ConnectionFactory
from ..queries import run
from .conftest import LOCK, Rival, deadlock, ours, timeout, two_halves


def test_control_stock_backend_commits_the_second_half_alone(
    make_connection: ConnectionFactory, admin: Admin, rival: Rival
) -> None:
    connection = ours(make_connection, STOCK)
    with transaction.atomic(using=connection.alias):
        two_halves(connection, rival)
    assert owners(admin) == ["second"]


BLOCKS: dict[str, Callable[[str], Any]] = {
    "atomic": lambda alias: transaction.atomic(using=alias),
    "durable": lambda alias: transaction.atomic(using=alias, durable=True),
}


@pytest.mark.core
@pytest.mark.parametrize("block", BLOCKS)
def test_block_whose_first_half_the_server_rolled_back_does_not_commit_its_second_half(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    transport: Any,
    block: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = ours(make_connection, transport=transport)
    before = session_id(connection)
    with pytest.raises(TransactionManagementError) as caught, BLOCKS[block](connection.alias):
        two_halves(connection, rival)
    assert code_of(caught.value.__cause__ or ValueError()) == 1213
    assert owners(admin) == []
    reported = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert reported == [
        f"the server rolled back the whole transaction of {connection.alias!r} (error 1213)"
    ]
    # The connection is sound, and the next block is none of its business.
    with transaction.atomic(using=connection.alias):
        insert(connection, "next")
    assert owners(admin) == ["next"]
    assert session_id(connection) == before
    assert_works(connection, admin)


def test_block_that_ends_after_the_swallowed_error_commits_nothing_and_runs_no_hook(
    connection: Any, admin: Admin, rival: Rival, hooks: Hooks
) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        hooks.register(connection, "hook")
        deadlock(connection, rival)
    assert (owners(admin), hooks) == ([], [])
    assert_works(connection, admin)


@pytest.mark.parametrize("savepoint", [True, False])
@pytest.mark.parametrize("swallowed", ["inside", "outside"])
def test_nested_block_that_meets_a_deadlock_costs_the_outer_one(
    connection: Any, admin: Admin, rival: Rival, savepoint: bool, swallowed: str
) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(using=connection.alias):
        insert(connection, "first")
        try:
            with transaction.atomic(using=connection.alias, savepoint=savepoint):
                deadlock(connection, rival)
                if swallowed == "outside":
                    raise LookupError
        except LookupError:
            pass
        insert(connection, "second")
    assert owners(admin) == []
    assert_works(connection, admin)


def test_lock_wait_timeout_that_rolls_back_the_transaction_is_seen(
    make_connection: ConnectionFactory, own_server: Callable[..., Server]
) -> None:
    server = own_server(innodb_rollback_on_timeout=1)
    with Admin(server) as admin:
        admin.rows("CREATE TABLE pairs (id INT PRIMARY KEY, balance INT)")
        admin.rows("CREATE TABLE heavy (number INT)")
        admin.rows("INSERT INTO pairs VALUES (1, 0), (2, 0)")
        rival = Rival(server, admin)
        connection = ours(make_connection, server=server)
        with pytest.raises(TransactionManagementError):
            with transaction.atomic(using=connection.alias):
                run(connection, "INSERT INTO heavy VALUES (100)")
                timeout(connection, rival)
                run(connection, "INSERT INTO heavy VALUES (200)")
        rival.end()
        assert admin.rows("SELECT number FROM heavy WHERE number >= 100") == []


def test_conflict_of_snapshots_on_mariadb_is_seen(
    make_connection: ConnectionFactory, admin: Admin, rival: Rival, vendor: str
) -> None:
    if vendor == "mysql":
        return  # it has no such mode
    connection = ours(make_connection, options={"isolation_level": "repeatable read"})
    run(connection, "SET SESSION innodb_snapshot_isolation = ON")
    with pytest.raises(TransactionManagementError), transaction.atomic(using=connection.alias):
        insert(connection, "first")
        run(connection, "SELECT * FROM pairs")
        admin.rows(LOCK, 1)
        with pytest.raises(OperationalError) as caught:
            run(connection, LOCK, 1)
        assert code_of(caught.value) == 1020
        insert(connection, "second")
    assert owners(admin) == []


def test_deadlock_inside_a_test_case_of_django_marks_its_transaction(
    connection: Any, admin: Admin, rival: Rival
) -> None:

    class Inner(TestCase):
        databases = {connection.alias}

        def test(self) -> None:
            insert(connection, "first")
            deadlock(connection, rival)
            with pytest.raises(TransactionManagementError):
                insert(connection, "second")

    outcome = unittest.TestResult()
    unittest.TestSuite([Inner("test")]).run(outcome)
    assert (outcome.failures, outcome.errors) == ([], [])
    assert owners(admin) == []


def test_error_that_streamed_rows_end_with_is_seen(
    connection: Any, admin: Admin, rival: Rival
) -> None:
    rival.hold(2)
    with pytest.raises(TransactionManagementError), transaction.atomic(using=connection.alias):
        insert(connection, "first")
        run(connection, LOCK, 1)
        rival.want(LOCK, 1)
        with pytest.raises(OperationalError), connection.chunked_cursor() as cursor:
            cursor.execute("SELECT * FROM pairs ORDER BY id FOR UPDATE")
            cursor.fetchall()
        insert(connection, "second")
    assert owners(admin) == []
    assert_works(connection, admin)


def test_mark_that_the_application_takes_back_does_not_let_the_second_half_through(
    connection: Any, admin: Admin, rival: Rival
) -> None:
    with pytest.raises(TransactionManagementError), transaction.atomic(using=connection.alias):
        insert(connection, "first")
        deadlock(connection, rival)
        transaction.set_rollback(False, using=connection.alias)
        insert(connection, "second")
    assert owners(admin) == []
    assert_works(connection, admin)
