"""What is not handed on to the next borrower, case by case.

test_session_never_crosses.py finds such cases; here they are by name. The control is a new
connection, or the stock backend, which opens one for each borrower.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.backends.signals import connection_created

from ..acts import insert, receiving, rest
from ..admin import Admin
from ..connections import STOCK, ConnectionFactory
from ..queries import connection_id, run, value
from .borrowers import in_thread
from .conftest import Pooled


def test_a_connection_with_a_changed_wait_timeout_is_not_handed_on(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    new = value(connection, "SELECT @@SESSION.wait_timeout")
    run(connection, "SET SESSION wait_timeout = 77")
    connection.close()
    assert value(connection, "SELECT @@SESSION.wait_timeout") == new


@pytest.mark.parametrize(
    ("begins", "asks"),
    [
        ("SELECT GET_LOCK('a', 0)", "SELECT COALESCE(IS_USED_LOCK('a') = CONNECTION_ID(), 0)"),
        ("CREATE TEMPORARY TABLE a (c INT)", "SELECT COUNT(*) FROM a"),
        ("PREPARE p FROM 'SELECT 1'", "EXECUTE p"),
    ],
)
@pytest.mark.parametrize("how", ["not pinned", "receiver"])
def test_state_that_pins_nothing_is_not_handed_on(
    pooled: Pooled, begins: str, asks: str, how: str
) -> None:
    connection = pooled(max_size=1, recycle={"pin_session_state": how != "not pinned"})

    def begin(connection: Any, **_: Any) -> None:
        run(connection, begins)

    if how == "receiver":
        with receiving(connection_created, begin):
            first = connection_id(connection)
    else:
        begin(connection)
        first = connection_id(connection)
    connection.close()
    assert connection_id(connection) != first
    found = 0
    with contextlib.suppress(DatabaseError):  # there is no such thing in this session
        found = value(connection, asks)
    assert not found


def test_a_marked_connection_that_was_called_in_is_closed(pooled: Pooled) -> None:
    connection = pooled(max_size=1, timeout=10)
    run(connection, "SET SESSION wait_timeout = 77")  # marks, and pins nothing
    first = connection_id(connection)
    rest(connection, 5)
    assert in_thread(connection.alias, connection_id, closes=True) != first
    assert connection.pool_stats()["called_in"] == 1
    assert connection.pool_stats()["pool_size"] == 1


def send_without_reading(raw: Any) -> None:
    if hasattr(raw, "send_query"):
        raw.send_query(b"SELECT SLEEP(0.1)")
    else:  # PyMySQL
        raw.query("SELECT 1")


@pytest.mark.parametrize(
    "act",
    [
        send_without_reading,
        lambda raw: raw.query("SET @tenant = 'alice'"),
        lambda raw: raw.query("SELECT 1"),
        lambda raw: raw.cursor().execute("SET @tenant = 'alice'"),
        lambda raw: raw.autocommit(False),
        lambda raw: raw.select_db("mysql"),
        lambda raw: raw.encoders.update({str: lambda *_: "'another'"}),
        lambda raw: getattr(raw, "decoders", getattr(raw, "converter", None)).update({8: str}),
        lambda raw: setattr(raw, "cursorclass", object),
    ],
    ids=[
        *("unread", "query()", "query() with rows", "cursor()", "autocommit()", "select_db()"),
        *("encoders", "decoders", "cursorclass"),
    ],
)
def test_what_was_done_to_the_drivers_object_is_not_handed_on(
    pooled: Pooled, act: Callable[[Any], object]
) -> None:
    connection = pooled(max_size=1)
    first = connection_id(connection)
    act(connection.connection)
    connection.close()
    assert connection_id(connection) != first
    assert value(connection, "SELECT %s", "x") == "x"
    assert value(connection, "SELECT @tenant") is None


@pytest.mark.parametrize("ends", ["resting", "past the cursors"])
def test_a_thread_that_has_ended_keeps_no_slot(pooled: Pooled, ends: str) -> None:
    connection = pooled(max_size=1, timeout=5)
    kept: list[Any] = []

    def leave(other: Any) -> None:
        kept.append(other)  # as a reference cycle does until the garbage collector runs
        connection_id(other)
        if ends == "past the cursors":
            other.connection.query("SET @tenant = 'alice'")
        rest(other, 5)

    in_thread(connection.alias, leave)
    assert value(connection, "SELECT @tenant") is None
    assert connection.pool_stats()["pool_size"] == 1


READS = [
    ("SELECT LAST_INSERT_ID()", 0),
    ("SELECT @@last_insert_id", 0),
    ("SELECT LAST_INSERT_ID() + 0, ROW_COUNT()", 0),
]


@pytest.mark.parametrize(("question", "answer"), READS)
@pytest.mark.parametrize("begins", ["", "SELECT 1", "UPDATE testapp_account SET balance = 7"])
def test_the_number_of_an_earlier_borrowers_insert_is_not_read(
    pooled: Pooled, question: str, answer: int, begins: str
) -> None:
    connection = pooled(max_size=1)
    insert(connection, "alice")
    connection.close()
    if begins:
        run(connection, begins)
    if "ROW_COUNT" in question and begins:
        return  # its own row count is there, and stays
    assert value(connection, question) == answer


def test_a_borrowers_own_number_is_read(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    insert(connection, "alice")
    connection.close()
    first = connection_id(connection)
    insert(connection, "bob")
    assert value(connection, "SELECT LAST_INSERT_ID()") > 0
    assert connection_id(connection) == first


def test_the_stock_backend_answers_a_new_borrower_with_zero(
    make_connection: ConnectionFactory,
) -> None:
    connection = make_connection(STOCK, CONN_MAX_AGE=None)
    insert(connection, "alice")
    assert in_thread(connection.alias, lambda c: value(c, READS[0][0]), closes=True) == 0


@pytest.mark.parametrize("autocommit", [True, False])
def test_in_a_transaction_the_number_of_an_earlier_borrower_is_reset(
    pooled: Pooled, autocommit: bool, admin: Admin
) -> None:
    connection = pooled(max_size=1, AUTOCOMMIT=autocommit)
    with transaction.atomic(using=connection.alias):
        insert(connection, "alice")
    connection.commit() if not autocommit else None
    first = connection_id(connection)
    connection.close()
    with transaction.atomic(using=connection.alias):
        run(connection, "SELECT * FROM testapp_account")
        assert value(connection, "SELECT LAST_INSERT_ID()") == 0
        insert(connection, "bob")
        assert value(connection, "SELECT LAST_INSERT_ID()") > 0
        assert connection_id(connection) == first


def test_warnings_of_an_earlier_borrower_are_not_shown(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    run(connection, "SELECT CAST('secret-of-alice' AS SIGNED)")
    connection.close()
    assert run(connection, "SHOW WARNINGS") == []


def test_found_rows_of_an_earlier_borrower_are_not_read(pooled: Pooled) -> None:
    connection = pooled(max_size=1)
    run(connection, "SELECT 1 UNION SELECT 2 UNION SELECT 3")
    connection.close()
    assert value(connection, "SELECT FOUND_ROWS()") in (0, 1)


def test_a_user_variable_that_a_trigger_has_set_is_not_read(pooled: Pooled, admin: Admin) -> None:
    admin.set_global("log_bin_trust_function_creators", 1)
    admin.rows(
        "CREATE TRIGGER quietly BEFORE INSERT ON testapp_account FOR EACH ROW SET @owner = NEW.owner"
    )
    try:
        connection = pooled(max_size=1)
        insert(connection, "alice")
        connection.close()
        assert value(connection, "SELECT @owner") is None
    finally:
        admin.rows("DROP TRIGGER quietly")


def test_sql_mode_of_options_does_not_keep_a_connection_out_of_the_pool(pooled: Pooled) -> None:
    connection = pooled(max_size=1, options={"sql_mode": "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"})
    first = connection_id(connection)
    connection.close()
    assert connection_id(connection) == first
    assert value(connection, "SELECT @@SESSION.sql_mode") == "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"


def test_each_borrower_asks_for_its_own_number(pooled: Pooled) -> None:
    connection = pooled(max_size=3, timeout=20)
    wrong: list[Any] = []

    def work(number: int) -> None:
        mine = connections[connection.alias]
        for turn in range(25):
            if (number + turn) % 3:
                insert(mine, f"{number}/{turn}")
                asked = value(mine, "SELECT LAST_INSERT_ID()")
                owner = value(mine, "SELECT owner FROM testapp_account WHERE id = %s", asked)
                if owner != f"{number}/{turn}":
                    wrong.append((number, turn, owner))
            elif value(mine, "SELECT LAST_INSERT_ID()"):
                wrong.append((number, turn))
            mine.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
