"""The same with autocommit off, and in a transaction that SQL began."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import DatabaseError

from django_mysql_recycle import pinned

from ..acts import code_of, insert, kill, owners
from ..admin import Admin
from ..connections import OURS, ConnectionFactory
from ..queries import run
from .conftest import Rival, deadlock, ours


def test_commit_after_a_swallowed_deadlock_raises_once_and_keeps_nothing(
    manual: Any, admin: Admin, rival: Rival
) -> None:
    deadlock(manual, rival)
    insert(manual, "second")
    with pytest.raises(TransactionManagementError) as caught:
        manual.commit()
    assert code_of(caught.value.__cause__ or ValueError()) == 1213
    manual.commit()
    assert owners(admin) == []
    insert(manual, "next")
    manual.commit()
    assert owners(admin) == ["next"]


@pytest.mark.parametrize(
    "text",
    ["COMMIT", "commit /* now */", "START TRANSACTION", "SET autocommit = 1", "switch on"],
)
def test_what_commits_by_another_name_raises_too(
    manual: Any, admin: Admin, rival: Rival, text: str
) -> None:
    deadlock(manual, rival)
    insert(manual, "second")
    with pytest.raises(TransactionManagementError):
        if text == "switch on":
            manual.set_autocommit(True)
        else:
            run(manual, text)
    manual.commit()
    assert owners(admin) == []


@pytest.mark.parametrize("how", ["rollback()", "ROLLBACK"])
def test_rollback_after_a_deadlock_clears_it(
    manual: Any, admin: Admin, rival: Rival, how: str
) -> None:
    deadlock(manual, rival)
    if how == "ROLLBACK":
        run(manual, "ROLLBACK")
    else:
        manual.rollback()
    insert(manual, "again")
    manual.commit()
    assert owners(admin) == ["again"]


def test_transaction_may_be_begun_again_after_each_deadlock(
    make_connection: ConnectionFactory, admin: Admin, rival: Rival
) -> None:
    connection = ours(make_connection)
    connection.set_autocommit(False)
    deadlock(connection, rival)
    insert(connection, "second half of the first")
    connection.rollback()
    deadlock(connection, rival)
    run(connection, "START TRANSACTION")
    insert(connection, "again")
    connection.commit()
    assert owners(admin) == ["again"]


def test_block_with_autocommit_off_leaves_its_loss_to_commit(
    manual: Any, admin: Admin, rival: Rival
) -> None:
    with transaction.atomic(using=manual.alias):
        deadlock(manual, rival)
    with pytest.raises(DatabaseError):
        insert(manual, "second")
        manual.commit()
    manual.rollback()
    assert owners(admin) == []


def test_statement_after_a_deadlock_in_a_transaction_begun_by_sql_raises_once(
    connection: Any, admin: Admin, rival: Rival
) -> None:
    run(connection, "BEGIN")
    insert(connection, "first")
    deadlock(connection, rival)
    with pytest.raises(TransactionManagementError):
        insert(connection, "second")
    assert owners(admin) == []
    insert(connection, "third")
    assert owners(admin) == ["third"]
    assert not connection.guard.connection.ledger.pins.pinned


@pytest.mark.parametrize("how", ["pinned()", "cursor()"])
def test_replacement_before_the_next_statement_does_not_let_the_second_half_through(
    make_connection: ConnectionFactory, admin: Admin, rival: Rival, how: str
) -> None:
    # A backend that overrides cursor() decides there, before the statement is known.
    connection = ours(make_connection, OURS if how == "pinned()" else "tests.backends.tenanted")
    run(connection, "BEGIN")
    insert(connection, "first")
    deadlock(connection, rival)
    kill(admin, connection)
    with pinned(connection) if how == "pinned()" else nullcontext():
        with pytest.raises(TransactionManagementError):
            insert(connection, "second")
    assert owners(admin) == []


@pytest.mark.parametrize("how", ["ROLLBACK", "BEGIN", "rollback()"])
def test_transaction_by_sql_that_is_begun_again_after_a_deadlock_works(
    connection: Any, admin: Admin, rival: Rival, how: str
) -> None:
    run(connection, "BEGIN")
    insert(connection, "first")
    deadlock(connection, rival)
    if how == "rollback()":
        connection.rollback()
    else:
        run(connection, how)
    if how != "BEGIN":
        run(connection, "BEGIN")
    insert(connection, "again")
    run(connection, "COMMIT")
    assert owners(admin) == ["again"]
