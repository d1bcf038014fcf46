"""LOAD DATA LOCAL INFILE: a server that waits for a lock in the middle of the file is not lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError, Error

from django_mysql_recycle.network_path import options_of
from servers import Server

from .acts import alarm, descriptor, in_a_driver, listening, soon
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, unbuffered
from .queries import run, value

#: A second without an acknowledgement ends a connection; the lock is held for three.
SHORT: dict[str, Any] = {"network_timeout": 1, "keepalive": 1}
HELD = 3

#: More than the buffers of both ends take: 2 MB.
ROWS = 20_000

LOCAL: dict[str, Any] = {"local_infile": True}
SEVERAL: dict[str, Any] = {**LOCAL, "client_flag": 65536 | 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.txt"
    path.write_text("".join(f"{n}\t{n:045}\t{'7' * 9}\n" for n in range(1, ROWS + 1)) * 2)
    return path


@contextmanager
def locked_row(server: Server) -> Iterator[None]:
    """The row with the id 1 is locked by another session for the first seconds of the block."""
    with Admin(server) as other:
        other.rows("INSERT INTO testapp_account (id, owner, balance) VALUES (1, 'x', 0)")
        other.rows("BEGIN")
        other.rows("SELECT * FROM testapp_account WHERE id = 1 FOR UPDATE")
        with soon(HELD, lambda: other.rows("COMMIT")):
            yield


def load(file: Path, how: str = "LOAD DATA LOCAL INFILE") -> str:
    return f"{how} '{file}' INTO TABLE testapp_account (id, owner, balance)"


def user_timeout(connection: Connection) -> int | None:
    return _user_timeout_of(descriptor(connection))


def _user_timeout_of(number: int) -> int | None:
    options = options_of(number)
    assert options is not None
    return options.TCP_USER_TIMEOUT


@pytest.mark.core
@pytest.mark.parametrize(
    ("transport", "inside"),
    [("tcp", "plain"), ("tls", "plain"), ("socket", "plain"), ("tls", "atomic")],
)
def test_file_that_waits_for_a_row_lock_is_loaded(
    make_connection: ConnectionFactory,
    server: Server,
    admin: Admin,
    file: Path,
    transport: Any,
    inside: str,
) -> None:
    connection = make_connection(transport=transport, recycle=SHORT, options=LOCAL)
    run(connection, "SELECT 1")
    with locked_row(server), listening(connection) as received:
        if inside == "atomic":
            with transaction.atomic(using=connection.alias):
                run(connection, load(file))
        else:
            run(connection, load(file))
    assert received.recycled == []
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == ROWS
    if transport != "socket":
        assert user_timeout(connection) == 1000


def test_control_limit_ends_a_load_that_the_backend_does_not_see(
    make_connection: ConnectionFactory, server: Server, admin: Admin, file: Path
) -> None:
    connection = make_connection(recycle=SHORT, options=LOCAL)
    run(connection, "SELECT 1")
    with locked_row(server):
        # PyMySQL writes the end of the file to a socket that it has closed: AttributeError.
        with pytest.raises((connection.Database.Error, AttributeError)):
            connection.connection.cursor().execute(load(file))
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 1


def test_control_stock_backend_loads_it(
    make_connection: ConnectionFactory, server: Server, admin: Admin, file: Path
) -> None:
    connection = make_connection(STOCK, options=LOCAL)
    with locked_row(server):
        run(connection, load(file))
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == ROWS


def test_execute_returns_the_number_of_rows_of_the_file(
    make_connection: ConnectionFactory, file: Path, engine: str
) -> None:
    connection = make_connection(engine, options=LOCAL)
    with connection.cursor() as cursor:
        assert cursor.execute(load(file)) == ROWS


def test_file_of_a_later_statement_of_the_text_is_loaded(
    make_connection: ConnectionFactory, server: Server, admin: Admin, file: Path
) -> None:
    connection = make_connection(recycle=SHORT, options=SEVERAL)
    run(connection, "SELECT 1")
    with locked_row(server), connection.cursor() as cursor:
        cursor.execute(f"SELECT 1; {load(file)}; SELECT 2")
        while cursor.nextset():
            pass
        assert user_timeout(connection) == 1000
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == ROWS


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_limit_is_lifted_for_that_statement_alone(
    make_connection: ConnectionFactory, server: Server, file: Path, transport: Any
) -> None:
    connection = make_connection(transport=transport, recycle=SHORT, options=LOCAL)
    run(connection, "SELECT 1")
    number = descriptor(connection)  # mysqlclient answers one thread at a time
    meanwhile: list[int | None] = []
    with locked_row(server):
        for sql in (load(file), "SELECT SLEEP(0.6)"):
            with soon(0.3, lambda: meanwhile.append(_user_timeout_of(number))):
                run(connection, sql)
    assert meanwhile == [0, 1000]


@pytest.mark.parametrize(
    ("failure", "several"),
    [
        ("no such file", False),  # among several statements PyMySQL loses count of its packets
        *product(["no such table", "syntax", "lock wait timeout"], [False, True]),
    ],
)
def test_limit_is_set_again_after_an_error(
    make_connection: ConnectionFactory, server: Server, file: Path, failure: str, several: bool
) -> None:
    options = {**SEVERAL, "init_command": "SET SESSION innodb_lock_wait_timeout = 1"}
    connection = make_connection(recycle=SHORT, options=options)
    run(connection, "SELECT 1")
    sql = load(file)
    if failure == "no such file":
        sql = load(file.with_name("nowhere.txt"))
    elif failure == "no such table":
        sql = sql.replace("testapp_account", "testapp_nowhere")
    elif failure == "syntax":
        sql += " AND SO ON"
    if several:
        sql = f"{sql}; SELECT 1"
    with locked_row(server) if failure == "lock wait timeout" else nullcontext():
        with pytest.raises(Error) as caught:
            run(connection, sql)
    assert isinstance(caught.value, DatabaseError)
    # Whether the connection is this one or, after an error that ends it, a new one.
    assert value(connection, "SELECT 1 + 0") == 1
    assert user_timeout(connection) == 1000


def test_connection_is_limited_after_an_interrupted_load(
    make_connection: ConnectionFactory, server: Server, admin: Admin, file: Path
) -> None:
    class SoftTimeLimit(Exception):
        pass

    connection = make_connection(recycle=SHORT, options=LOCAL)
    run(connection, "SELECT 1")
    with locked_row(server):
        with pytest.raises(SoftTimeLimit), alarm(0.5, SoftTimeLimit, where=in_a_driver):
            run(connection, load(file))
    assert value(connection, "SELECT 5 + 0") == 5
    assert user_timeout(connection) == 1000


# The other direction: a client that takes its time over the rows.


def test_client_that_reads_unbuffered_rows_slowly_keeps_its_connection(
    make_connection: ConnectionFactory, driver: str
) -> None:
    options = unbuffered(driver)
    rows = " UNION ALL ".join(["SELECT REPEAT('x', 1000000)"] * 20)
    reading = []
    for engine, transport in product([OURS, STOCK], ["tcp", "tls"]):
        recycle = None if engine == STOCK else {"network_timeout": 2}
        connection = make_connection(engine, transport=transport, options=options, recycle=recycle)
        cursor = connection.cursor()
        cursor.execute(rows)
        assert len(cursor.fetchone()[0]) == 1_000_000
        reading.append((connection, cursor))
    time.sleep(5)  # the server's window is closed meanwhile; a probe comes in each second
    for connection, cursor in reading:
        assert len(cursor.fetchall()) == 19
        cursor.close()
        assert value(connection, "SELECT 5 + 0") == 5
