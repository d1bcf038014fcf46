"""A session that gets in the way of another one, and transactions that meet a deadlock with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.utils import OperationalError

from servers import Server

from ..acts import code_of, insert
from ..admin import Admin
from ..connections import OURS, Connection, ConnectionFactory
from ..queries import run

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
        # InnoDB reads that table anew only after a tenth of a second in which it was not read.
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
