"""The transaction lives after the error, or there was none: as on the stock backend.

The number of the error does not show it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError, OperationalError

from ..acts import assert_works, code_of, insert, owners
from ..admin import Admin
from ..connections import Connection, ConnectionFactory, Proxied
from ..queries import run, value
from .conftest import LOCK, Rival, deadlock, ours, timeout


def metadata_lock(connection: Connection, rival: Rival) -> None:
    rival.session.rows("LOCK TABLES closed WRITE")
    with pytest.raises(OperationalError) as caught:
        run(connection, "SELECT * FROM closed")
    assert code_of(caught.value) == 1205
    rival.session.rows("UNLOCK TABLES")


def named_locks(connection: Connection, rival: Rival) -> None:
    assert rival.session.value("SELECT GET_LOCK('theirs', 0)") == 1
    assert value(connection, "SELECT GET_LOCK('ours', 0)") == 1
    rival.want("SELECT GET_LOCK('ours', 20)")
    with pytest.raises(DatabaseError) as caught:
        run(connection, "SELECT GET_LOCK('theirs', 20)")
    assert code_of(caught.value) in (1213, 3058)
    run(connection, "SELECT RELEASE_LOCK('ours')")


def no_wait(connection: Connection, rival: Rival) -> None:
    rival.hold(2)
    with pytest.raises(OperationalError) as caught:
        run(connection, "SELECT * FROM pairs WHERE id = 2 FOR UPDATE NOWAIT")
    assert code_of(caught.value) in (1205, 3572)


LIVES: dict[str, Callable[[Connection, Rival], None]] = {
    "row lock": timeout,
    "metadata lock": metadata_lock,
    "named locks": named_locks,
    "NOWAIT": no_wait,
}


@pytest.mark.parametrize("how", LIVES)
@pytest.mark.parametrize("savepoint", [True, False])
def test_transaction_that_lives_after_the_error_goes_on(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    engine: str,
    how: str,
    savepoint: bool,
) -> None:
    connection = ours(make_connection, engine)
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        with transaction.atomic(using=connection.alias, savepoint=savepoint):
            LIVES[how](connection, rival)
            insert(connection, "second")
    assert owners(admin) == ["first", "second"]
    assert_works(connection, admin)


@pytest.mark.parametrize("how", ["row lock", "named locks", "NOWAIT"])
def test_manual_transaction_that_lives_after_the_error_is_committed(
    manual: Any, admin: Admin, rival: Rival, how: str
) -> None:
    LIVES[how](manual, rival)
    insert(manual, "second")
    manual.commit()
    assert owners(admin) == ["first", "second"]


def first_statement_deadlocks(connection: Connection, rival: Rival) -> None:
    rival.hold(2)
    deadlocked = threading.Event()

    def lock_both() -> None:
        with pytest.raises(OperationalError) as caught:
            run(connection, "UPDATE pairs SET balance = balance + 1 WHERE SLEEP(0.5) = 0")
        assert code_of(caught.value) == 1213
        deadlocked.set()

    waiting = threading.Timer(0.2, lambda: rival.session.rows(LOCK, 1))
    waiting.start()
    lock_both()
    waiting.join()


NOTHING_LOST: dict[str, Callable[[Connection, Rival], None]] = {
    "named locks": named_locks,
    "metadata lock": metadata_lock,
    "first statement": first_statement_deadlocks,
}


def test_error_after_a_commit_by_sql_loses_nothing(
    make_connection: ConnectionFactory, admin: Admin, rival: Rival
) -> None:
    connection = ours(make_connection)
    connection.set_autocommit(False)
    insert(connection, "first")
    run(connection, "COMMIT")
    with pytest.raises(DatabaseError):
        run(connection, "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205")
    insert(connection, "second")
    connection.commit()
    assert owners(admin) == ["first", "second"]


@pytest.mark.parametrize("how", NOTHING_LOST)
def test_block_in_which_nothing_was_lost_goes_on(
    make_connection: ConnectionFactory, admin: Admin, rival: Rival, engine: str, how: str
) -> None:
    # No transaction has begun at the server: what ran before touched no table.
    connection = ours(make_connection, engine)
    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT 1")
        run(connection, "SELECT CONNECTION_ID(), NOW()")
        run(connection, "\nselect 1")
        run(connection, "SET @note = %s", "nothing")
        NOTHING_LOST[how](connection, rival)
        insert(connection, "second")
    assert owners(admin) == ["second"]


def test_ordinary_errors_inside_a_block_ask_nothing(
    proxied: Proxied, admin: Admin, rival: Rival
) -> None:
    connection, between = proxied()
    with transaction.atomic(using=connection.alias):
        insert(connection, "first")
        with pytest.raises(DatabaseError):
            run(connection, "INSERT INTO pairs VALUES (1, 1)")
        with pytest.raises(DatabaseError):
            run(connection, "SELECT * FROM no_such_table")
    assert not [
        sql
        for sql in between.connections[0].queries()
        if "TRANSACTION READ" in sql and "LEVEL" not in sql
    ]


def test_read_only_default_of_the_session_outlives_the_question(
    manual: Any, admin: Admin, rival: Rival
) -> None:
    run(manual, "SET SESSION TRANSACTION READ ONLY")
    deadlock(manual, rival)
    with pytest.raises(OperationalError) as caught:
        insert(manual, "second")
    assert code_of(caught.value) == 1792
    manual.rollback()
