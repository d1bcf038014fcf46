"""The server rolls back a whole transaction, and the application swallows the error.

What ran before the error is undone. Stock goes on and commits what runs after it alone. The number
does not tell: the same ones also come with a transaction that lives, and then the block goes on.
"""

from __future__ import annotations

import logging
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import DatabaseError, Error, OperationalError
from django.test import TestCase

from django_mysql_recycle import pinned, rollbacks
from servers import FaultProxy, Server

from .acts import Hooks, alarm, assert_works, code_of, insert, kill, owners, session_id
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .queries import run, value

LOCK = "UPDATE pairs SET balance = balance + 1 WHERE id = %s"


class Rival:
    """Another session that comes in the way."""

    def __init__(self, server: Server, admin: Admin) -> None:
        self._admin = admin
        self.session = Admin(server)
        self._thread: threading.Thread | None = None

    def hold(self, row: int) -> None:
        """Lock a row, with enough changes that the server rolls back the other one."""
        if self._thread is not None:
            self._thread.join(20)
        self.session.rows("BEGIN")
        self.session.rows("INSERT INTO heavy VALUES (1), (2), (3), (4), (5), (6), (7), (8)")
        self.session.rows(LOCK, row)

    def want(self, sql: str, *parameters: Any) -> None:
        """Run a statement that has to wait, in a thread; return once it waits."""
        self._thread = threading.Thread(target=self.session.rows, args=(sql, *parameters))
        self._thread.start()
        number = self.session._connection.thread_id()
        waits = (
            "SELECT COUNT(*) FROM information_schema.innodb_trx"
            " WHERE trx_state = 'LOCK WAIT' AND trx_mysql_thread_id = %s"
        )
        locks = (
            "SELECT COUNT(*) FROM information_schema.processlist"
            " WHERE id = %s AND state LIKE '%%User lock'"
        )
        deadline = time.monotonic() + 10
        # InnoDB reads that table anew only after a tenth of a second in which nobody has asked.
        while not (self._admin.value(waits, number) or self._admin.value(locks, number)):
            assert time.monotonic() < deadline, "the rival does not wait"
            time.sleep(0.12)

    def end(self) -> None:
        if self._thread is not None:
            self._thread.join(20)
        self.session.rows("ROLLBACK")
        self.session.rows("DO RELEASE_LOCK('theirs')")
        self.session.__exit__(None, None, None)


@pytest.fixture
def rival(server: Server, admin: Admin) -> Iterator[Rival]:
    admin.rows("DROP TABLE IF EXISTS pairs, heavy, closed")
    admin.rows("CREATE TABLE pairs (id INT PRIMARY KEY, balance INT)")
    admin.rows("INSERT INTO pairs VALUES (1, 0), (2, 0)")
    admin.rows("CREATE TABLE heavy (number INT)")
    admin.rows("CREATE TABLE closed (number INT)")
    rival = Rival(server, admin)
    yield rival
    rival.end()
    admin.rows("DROP TABLE IF EXISTS pairs, heavy, closed")


def ours(
    make_connection: ConnectionFactory,
    engine: str = OURS,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> Any:
    limits = "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1"
    connection = make_connection(
        engine, options={"init_command": limits, **(options or {})}, **arguments
    )
    run(connection, "SELECT 1")
    return connection


@pytest.fixture
def connection(make_connection: ConnectionFactory) -> Any:
    return ours(make_connection)


@pytest.fixture
def manual(connection: Any) -> Any:
    """A connection with autocommit off, in a transaction."""
    connection.set_autocommit(False)
    insert(connection, "first")
    return connection


def deadlock(connection: Connection, rival: Rival) -> None:
    """Meet a deadlock whose victim is this transaction, and swallow the error."""
    rival.hold(2)
    run(connection, LOCK, 1)
    rival.want(LOCK, 1)
    with pytest.raises(OperationalError) as caught:
        run(connection, LOCK, 2)
    assert code_of(caught.value) == 1213


def two_halves(connection: Connection, rival: Rival) -> None:
    """What an application does that swallows the error between two statements."""
    insert(connection, "first")
    deadlock(connection, rival)
    insert(connection, "second")


def timeout(connection: Connection, rival: Rival) -> None:
    """The same with a lock wait timeout, after which the transaction lives by default."""
    rival.hold(2)
    run(connection, LOCK, 1)
    with pytest.raises(OperationalError) as caught:
        run(connection, LOCK, 2)
    assert code_of(caught.value) == 1205


# The transaction is gone.


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
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
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


# Autocommit off.


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


# A transaction that SQL began.


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


# The transaction lives, or there was none: as on the stock backend.


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


# The question itself.


@pytest.fixture
def stalling(
    proxy: Callable[..., FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A path that falls silent just before the question."""
    between = proxy()
    ask = rollbacks.look_for_rollback

    def stall_and_ask(wrapper: Any, physical: Any, error: BaseException) -> None:
        between.stall()
        ask(wrapper, physical, error)

    monkeypatch.setattr(rollbacks, "look_for_rollback", stall_and_ask)
    yield between
    between.resume()


def test_connection_that_is_lost_at_the_question_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    proxy: Callable[..., FaultProxy],
) -> None:
    between = proxy()
    connection = ours(make_connection, via=between)
    fault = between.cut_at(b"SET TRANSACTION READ WRITE")
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        two_halves(connection, rival)
    assert fault.fired
    assert owners(admin) == []
    assert_works(connection, admin)


def test_question_without_an_answer_is_bounded_and_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    stalling: FaultProxy,
) -> None:
    connection = ours(make_connection, via=stalling, recycle={"ping_timeout": 0.3})
    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        two_halves(connection, rival)
    assert owners(admin) == []
    stalling.resume()
    assert_works(connection, admin)


class Impatience(Exception):
    pass


def test_interruption_of_the_question_commits_nothing(
    make_connection: ConnectionFactory,
    admin: Admin,
    rival: Rival,
    stalling: FaultProxy,
) -> None:
    connection = ours(make_connection, via=stalling)

    def in_the_question(frame: Any) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "look_for_rollback":
                return True
            frame = frame.f_back
        return False

    with pytest.raises(Error), transaction.atomic(using=connection.alias):
        insert(connection, "first")
        rival.hold(2)
        run(connection, LOCK, 1)
        rival.want(LOCK, 1)
        with pytest.raises(Impatience), alarm(0.1, Impatience, where=in_the_question):
            run(connection, LOCK, 2)
        insert(connection, "second")
    assert owners(admin) == []
    stalling.resume()
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
