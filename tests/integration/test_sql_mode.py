"""The session's sql_mode decides where a literal ends, and with it what a statement does."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_mysql_recycle import SessionStateLost

from .acts import kill, listening
from .admin import Admin
from .connections import Connection, ConnectionFactory
from .queries import run, value

pytestmark = pytest.mark.core

#: For a session without NO_BACKSLASH_ESCAPES one statement, for the other one two.
APOLOGY = r"SELECT 'I\'ll be late; lock the door to someone@example.com'"
#: The other way round.
LOCKING = r"SELECT 'a\', GET_LOCK('in no literal', 0), 'b'"
NO_ESCAPES = "NO_BACKSLASH_ESCAPES"
#: Whichever way the session comes to its sql_mode while it connects.
WAYS = ["option", "init_command", "server", "receiver"]


def assert_recycles_without_error(connection: Any, admin: Admin) -> None:
    kill(admin, connection)
    with listening(connection) as received:
        assert value(connection, "SELECT 1") == 1
    assert (received.lost, received.recycled) == ([], ["closed"])


def test_escaped_quote_in_a_literal_pins_nothing(connection: Connection, admin: Admin) -> None:
    for sql in (APOLOGY, APOLOGY.encode()):
        run(connection, sql)
        assert not connection.guard.connection.ledger.pins.pinned  # type: ignore[attr-defined]
        assert_recycles_without_error(connection, admin)


@pytest.fixture(params=WAYS)
def without_escapes(
    make_connection: ConnectionFactory, admin: Admin, request: pytest.FixtureRequest
) -> Any:
    from django.db.backends.signals import connection_created

    options: dict[str, Any] = {}

    def receive(connection: Any, **_: Any) -> None:
        if connection.alias == made.alias:
            with connection.cursor() as cursor:
                cursor.execute(f"SET sql_mode = '{NO_ESCAPES}'")

    if request.param == "option":
        options["sql_mode"] = NO_ESCAPES
    elif request.param == "init_command":
        options["init_command"] = f"SET SESSION sql_mode = '{NO_ESCAPES}'"
    elif request.param == "server":
        admin.set_global("sql_mode", NO_ESCAPES)
    made = make_connection(options=options)
    if request.param == "receiver":
        connection_created.connect(receive)
    yield made
    connection_created.disconnect(receive)


def test_lock_is_seen_that_stands_in_no_literal_without_escapes(
    without_escapes: Any, admin: Admin
) -> None:
    run(without_escapes, LOCKING)
    assert value(without_escapes, "SELECT IS_USED_LOCK('in no literal') = CONNECTION_ID()") == 1
    kill(admin, without_escapes)
    with pytest.raises(SessionStateLost, match="in no literal"):
        run(without_escapes, "SELECT 1")


def test_ordinary_statement_is_one_without_escapes(without_escapes: Any, admin: Admin) -> None:
    for sql in (r"SELECT 'C:\dir\', 'x@y'", "SELECT 'it''s; so'"):
        run(without_escapes, sql)
        assert_recycles_without_error(without_escapes, admin)


@pytest.mark.parametrize(
    "sql",
    [
        f"SET SESSION sql_mode = '{NO_ESCAPES}'",
        f"SET @@sql_mode = CONCAT(@@sql_mode, ',{NO_ESCAPES}')",
    ],
)
def test_sql_mode_that_the_application_sets_counts_at_once(
    make_connection: ConnectionFactory, admin: Admin, sql: str
) -> None:
    connection = make_connection(CONN_MAX_AGE=None)
    run(connection, sql)
    run(connection, LOCKING)
    connection.close_if_unusable_or_obsolete()  # the variable is set anew in each unit of work
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="in no literal"):
        run(connection, "SELECT 1")
    run(connection, APOLOGY)
    assert_recycles_without_error(connection, admin)


def test_ansi_quotes_are_known_after_the_first_rest(connection: Connection, admin: Admin) -> None:
    admin.set_global("sql_mode", "ANSI_QUOTES")
    run(connection, "SELECT 1")
    time.sleep(0.6)
    run(connection, "SELECT 1")
    run(connection, r"""SELECT 1 AS "a\", GET_LOCK('in no name', 0), 1 AS "b\" """)
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="in no name"):
        run(connection, "SELECT 1")


@pytest.mark.parametrize("option", ["sql_mode", "init_command"])
def test_ansi_quotes_of_the_settings_are_known_at_once(
    make_connection: ConnectionFactory, admin: Admin, option: str
) -> None:
    text = "ANSI" if option == "sql_mode" else "SET sql_mode = 'ANSI_QUOTES'"
    connection = make_connection(options={option: text})
    run(connection, r"""SELECT 1 AS "a\", GET_LOCK('in no name', 0), 1 AS "b\" """)
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="in no name"):
        run(connection, "SELECT 1")


def test_sql_mode_that_was_set_is_read_again_and_the_usual_one_needs_no_care(
    make_connection: ConnectionFactory,
) -> None:
    connection: Any = make_connection(CONN_MAX_AGE=None)
    run(connection, "SELECT 1")
    time.sleep(0.6)
    run(connection, "SELECT 1")
    assert connection.guard.connection.ready
    run(connection, "SET sql_mode = 'ANSI_QUOTES'")
    connection.close_if_unusable_or_obsolete()
    time.sleep(0.6)
    run(connection, "SELECT 1")
    assert connection.guard.connection.reading.ansi
    run(connection, "SET sql_mode = ''")
    connection.close_if_unusable_or_obsolete()
    time.sleep(0.6)
    run(connection, "SELECT 1")
    assert connection.guard.connection.ready
