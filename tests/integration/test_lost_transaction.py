"""A transaction that SQL began is lost, and the application swallows the error.

On the new connection each further statement would be committed by itself. On stock they all raise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.db import close_old_connections, transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import Error

from django_mysql_recycle import SessionStateLost, losses, may_have_run
from django_mysql_recycle.signals import connection_recycled

from .acts import assert_works, insert, kill, outcome, owners, receiving
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory, Proxied
from .queries import run, value


@pytest.fixture(autouse=True)
def _in_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a test for the function of the application, whose helpers run its statements."""

    def frame_of_the_test() -> Any:
        frame: Any = sys._getframe()
        while not frame.f_code.co_name.startswith("test_"):
            frame = frame.f_back
        return frame

    monkeypatch.setattr(losses, "application_frame", frame_of_the_test)


BEGINS = ["BEGIN", "START TRANSACTION", "SET autocommit = 0", "XA START 'half'"]


def lose(connection: Connection, admin: Admin, begin: str = "BEGIN") -> None:
    """Lose a transaction of SQL and swallow the error."""
    run(connection, begin)
    insert(connection, "first half")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        insert(connection, "second")


def insert_each(connection: Connection, names: list[str]) -> list[str]:
    """Insert rows as an import does that skips a bad row. Returns the names of the skipped ones."""
    return [name for name in names if outcome(lambda: insert(connection, name))]  # noqa: B023


def test_rows_after_a_loss_are_not_committed_one_by_one(
    make_connection: ConnectionFactory, admin: Admin, engine: str
) -> None:
    connection = make_connection(engine)
    run(connection, "BEGIN")
    assert insert_each(connection, ["a", "b"]) == []
    kill(admin, connection)
    assert insert_each(connection, ["c", "d", "e"]) == ["c", "d", "e"]
    with pytest.raises(Error):
        run(connection, "COMMIT")
    assert owners(admin) == []


@pytest.mark.core
@pytest.mark.parametrize("begin", BEGINS)
def test_second_half_raises_until_the_transaction_is_ended_and_reads_go_on(
    connection: Connection, admin: Admin, begin: str
) -> None:
    lose(connection, admin, begin)
    for _ in range(2):
        with pytest.raises(TransactionManagementError, match="that SQL had begun") as caught:
            insert(connection, "third")
        assert may_have_run(caught.value) is False
        assert value(connection, "SELECT COUNT(*) FROM testapp_account") == 0
    run(connection, "ROLLBACK")
    insert(connection, "after")
    assert owners(admin) == ["after"]


def test_a_loop_that_never_ends_its_transaction_works_again_after_a_while(
    connection: Connection, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(connection, admin)
    with pytest.raises(TransactionManagementError):
        insert(connection, "third")
    monkeypatch.setattr(losses, "LONGEST_REFUSAL", 0.0)  # the time is over
    insert(connection, "after")
    monkeypatch.undo()
    insert(connection, "later")
    assert owners(admin) == ["after", "later"]


def atomic(connection: Connection) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "in a block")


def executemany(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO testapp_account (owner, balance) VALUES (%s, %s)", [("a", 1), ("b", 2)]
        )


def callproc(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("adds_a_row")


@pytest.mark.parametrize(
    "act",
    [
        atomic,
        executemany,
        callproc,
        lambda connection: connection.set_autocommit(False),
        "UPDATE testapp_account SET balance = 1",
        "SELECT owner FROM testapp_account FOR UPDATE",
        "SELECT owner FROM testapp_account LOCK IN SHARE MODE",
        "SELECT owner FROM testapp_account INTO @owner",
        "/* in doubt */ SELECT 1",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        b"INSERT INTO testapp_account (owner, balance) VALUES ('bytes', 1)",
    ],
)
def test_whatever_may_write_or_lock_belongs_to_the_second_half(
    connection: Connection, admin: Admin, act: Any
) -> None:
    admin.create_procedure("adds_a_row() INSERT INTO testapp_account (owner) VALUES ('called')")
    lose(connection, admin)
    for _ in range(2):
        with pytest.raises(TransactionManagementError):
            act(connection) if callable(act) else run(connection, act)
    assert owners(admin) == []


ENDS: dict[str, Callable[[Connection], None]] = {
    "ROLLBACK": lambda connection: run(connection, "rollback work") and None,
    "BEGIN": lambda connection: run(connection, "BEGIN") and None,
    "SET autocommit = 0": lambda connection: run(connection, "SET autocommit = 0") and None,
    "rollback()": lambda connection: connection.rollback(),
    "close()": lambda connection: connection.close(),
    "end of the unit of work": lambda _: close_old_connections(),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("max_age", [None, 0])
def test_application_that_has_ended_its_transaction_meets_no_further_error(
    make_connection: ConnectionFactory, admin: Admin, end: str, max_age: int | None
) -> None:
    connection = make_connection(CONN_MAX_AGE=max_age)
    lose(connection, admin)
    ENDS[end](connection)
    insert(connection, "after")
    connection.commit()
    assert owners(admin) == ["after"]
    assert_works(connection, admin)


COMMITS: dict[str, Callable[[Connection], Any]] = {
    "COMMIT": lambda connection: run(connection, "COMMIT"),
    "SET autocommit = 1": lambda connection: run(connection, "SET autocommit = 1"),
    "commit()": lambda connection: connection.commit(),
    "TRUNCATE": lambda connection: run(connection, "TRUNCATE TABLE testapp_item"),
}


@pytest.mark.parametrize("commit", COMMITS)
def test_commit_of_a_lost_transaction_raises_once(
    connection: Connection, admin: Admin, commit: str
) -> None:
    lose(connection, admin)
    with pytest.raises(TransactionManagementError):
        COMMITS[commit](connection)
    insert(connection, "after")
    assert owners(admin) == ["after"]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "SET autocommit = 1", "commit()", "close()"])
def test_loss_that_is_met_by_the_end_of_the_transaction_raises_nothing_more(
    connection: Connection, admin: Admin, end: str
) -> None:
    run(connection, "BEGIN")
    insert(connection, "first half")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        if end == "close()":
            connection.close()
            run(connection, "SELECT 1")
        elif end == "commit()":
            connection.commit()
        else:
            run(connection, end)
    insert(connection, "after")
    assert owners(admin) == ["after"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_loss_in_the_middle_of_a_statement_keeps_the_second_half_out(
    proxied: Proxied, admin: Admin, when: Any
) -> None:
    connection, between = proxied()
    run(connection, "BEGIN")
    between.cut_at(b"first", when=when)
    assert insert_each(connection, ["first", "second", "third"]) == ["first", "second", "third"]
    run(connection, "ROLLBACK")
    assert owners(admin) == []


def test_pool_lets_no_second_half_through(make_connection: ConnectionFactory, admin: Admin) -> None:
    connection: Any = make_connection(options={"pool": {"max_size": 1}})
    try:
        lose(connection, admin)
        with pytest.raises(TransactionManagementError):
            insert(connection, "third")
        assert value(connection, "SELECT COUNT(*) FROM testapp_account") == 0
        with pytest.raises(TransactionManagementError):
            atomic(connection)
        with pytest.raises(TransactionManagementError):
            connection.commit()
        insert(connection, "after a commit that raised")
        for end in ENDS:
            lose(connection, admin)
            ENDS[end](connection)
            insert(connection, end)
            connection.commit()
            connection.close()
    finally:
        connection.close_pool()
    assert sorted(owners(admin)) == sorted(["after a commit that raised", *ENDS])


def test_receiver_of_the_replacement_may_write(connection: Connection, admin: Admin) -> None:
    lose(connection, admin)

    def receive(**facts: Any) -> None:
        insert(connection, "receiver")

    with receiving(connection_recycled, receive), pytest.raises(TransactionManagementError):
        insert(connection, "second half")
    assert owners(admin) == ["receiver"]


def test_control_stock_backend_runs_no_statement_until_the_connection_is_closed(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(STOCK)
    run(connection, "BEGIN")
    insert(connection, "first half")
    kill(admin, connection)
    for sql in ("SELECT 1", "ROLLBACK", "BEGIN", "SELECT 1"):
        with pytest.raises(Error):
            run(connection, sql)
    connection.close()
    assert_works(connection, admin)
