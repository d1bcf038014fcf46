"""What the application does with the driver's own connection and cursors, past Django's."""

from __future__ import annotations

import contextlib
import gc
import logging
import time
import warnings
import weakref
from typing import Any

import pytest
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    transaction,
)

from django_mysql_recycle import SessionStateLost

from .acts import assert_works, insert, kill, listening, outcome, owners, rest
from .admin import Admin
from .connections import STOCK, Connection, ConnectionFactory
from .default_database.conftest import here, main, note, notes
from .queries import run, value

__all__ = ["main"]

PATIENT: dict[str, Any] = {"CONN_MAX_AGE": None}


def directly(connection: Connection, sql: Any, *parameters: Any) -> list[Any]:
    """Run a statement by a cursor of the driver's own."""
    connection.ensure_connection()
    with contextlib.closing(connection.connection.cursor()) as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


def test_control_stock_backend_goes_on_in_the_configured_database_after_select_db(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(STOCK, **PATIENT)
    connection.ensure_connection()
    connection.connection.select_db("tenant_a")
    kill(admin, connection)
    assert outcome(lambda: note(connection, "refused")) is not None
    close_old_connections()
    note(connection, "strayed")
    assert notes(admin, main) == ["strayed"]


@pytest.mark.parametrize("name", ["tenant_a", "te`na nt-ü.1"])
def test_database_that_select_db_has_selected_is_selected_again(
    make_connection: ConnectionFactory, admin: Admin, main: str, name: str, driver: str
) -> None:
    connection = make_connection(**PATIENT)
    connection.ensure_connection()
    # mysqlclient encodes an argument of a C function as UTF-8 by itself, and so does PyMySQL here.
    connection.connection.select_db(name)
    for _ in range(2):
        close_old_connections()
        kill(admin, connection)
        assert here(connection) == name
    with pytest.raises(connection.Database.Error):  # type: ignore[attr-defined]
        connection.connection.select_db("nowhere_at_all")
    connection.connection.select_db(main)
    kill(admin, connection)
    assert here(connection) == main


def test_use_by_a_cursor_of_the_driver_is_remembered(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(**PATIENT)
    directly(connection, "USE tenant_a")
    kill(admin, connection)
    assert here(connection) == "tenant_a"


STATE = [
    ("named lock", "SELECT GET_LOCK(%s, 0)", ("direct",)),
    ("table lock", "LOCK TABLES testapp_account WRITE", ()),
    ("transaction", "BEGIN", ()),
    ("temporary table", "CREATE TEMPORARY TABLE direct (a INT)", ()),
    ("session variable", "SET SESSION sql_mode = ''", ()),
    ("user variable", "SET @direct = 1", ()),
    ("autocommit", "SET autocommit = 0", ()),
]


@pytest.mark.core
@pytest.mark.parametrize(("kind", "sql", "parameters"), STATE)
def test_loss_of_state_that_a_cursor_of_the_driver_has_made_is_reported_once(
    make_connection: ConnectionFactory, admin: Admin, kind: str, sql: str, parameters: Any
) -> None:
    connection = make_connection(**PATIENT)
    directly(connection, sql, *parameters)
    insert(connection, "first half")
    kill(admin, connection)
    with listening(connection) as received, pytest.raises(SessionStateLost, match=kind):
        insert(connection, "second half")
    assert len(received.lost) == 1
    assert "second half" not in owners(admin)
    assert_works(connection, admin)


ENDS = [
    ("SELECT GET_LOCK('direct', 0)", "SELECT RELEASE_LOCK('direct')"),
    ("BEGIN", "COMMIT"),
    ("SET autocommit = 0", "SET autocommit = 1"),
    ("CREATE TEMPORARY TABLE direct (a INT)", "DROP TEMPORARY TABLE direct"),
]


@pytest.mark.parametrize(("begin", "end"), ENDS)
@pytest.mark.parametrize(("one", "other"), [(directly, run), (run, directly), (directly, directly)])
def test_state_is_one_account_for_both_kinds_of_cursors(
    make_connection: ConnectionFactory, admin: Admin, begin: str, end: str, one: Any, other: Any
) -> None:
    connection = make_connection(**PATIENT)
    one(connection, begin)
    other(connection, end)
    kill(admin, connection)
    assert_works(connection, admin)


def test_lock_that_a_cursor_of_the_driver_did_not_get_pins_nothing(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    admin.value("SELECT GET_LOCK('taken', 0)")
    try:
        assert directly(connection, "SELECT GET_LOCK('taken', 0)")[0][0] == 0
        kill(admin, connection)
        assert_works(connection, admin)
    finally:
        admin.value("SELECT RELEASE_LOCK('taken')")


@pytest.mark.parametrize("first_half", ["begin", "autocommit"])
def test_transaction_begun_by_a_method_of_the_driver_is_never_committed_by_its_second_half(
    make_connection: ConnectionFactory, admin: Admin, first_half: str
) -> None:
    connection = make_connection(**PATIENT)
    for _ in range(2):
        connection.ensure_connection()
        raw = connection.connection
        raw.begin() if first_half == "begin" else raw.autocommit(False)
        insert(connection, "first half")
        kill(admin, connection)
        with pytest.raises(SessionStateLost):
            insert(connection, "second half")
        run(connection, "SELECT 1")
    assert owners(admin) == []
    run(connection, "ROLLBACK")
    insert(connection, "after")
    assert owners(admin) == ["after"]


def test_transaction_begun_by_a_method_of_the_driver_is_reported_when_a_boundary_ends_it(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(CONN_MAX_AGE=60)
    for act in ("begin", "autocommit"):
        connection.ensure_connection()
        raw = connection.connection
        raw.begin() if act == "begin" else raw.autocommit(False)
        insert(connection, "first half")
        connection.close_at = time.monotonic()
        close_old_connections()
        with pytest.raises(SessionStateLost):
            insert(connection, "second half")
    assert owners(admin) == []


def test_transaction_that_a_method_of_the_driver_has_begun_and_ended_pins_nothing(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    for end in ("commit", "rollback"):
        connection.ensure_connection()
        connection.connection.begin()
        insert(connection, end)
        getattr(connection.connection, end)()
        kill(admin, connection)
        assert_works(connection, admin)
    assert owners(admin) == ["commit"]


def test_character_set_and_user_that_a_method_has_changed_are_state_of_the_session(
    make_connection: ConnectionFactory, admin: Admin, driver: str
) -> None:
    connection = make_connection(**PATIENT)
    connection.ensure_connection()
    connection.connection.set_character_set("latin1")
    kill(admin, connection)
    with pytest.raises(SessionStateLost):
        run(connection, "SELECT 1")
    run(connection, "SELECT 1")
    if driver == "mysqlclient":
        settings = connection.settings_dict
        connection.connection.change_user(settings["USER"], settings["PASSWORD"], settings["NAME"])
        kill(admin, connection)
        with pytest.raises(SessionStateLost, match="change_user"):
            run(connection, "SELECT 1")
        run(connection, "SELECT 1")
        own = connection.get_new_connection(connection.get_connection_params())
        own.change_user(settings["USER"], settings["PASSWORD"], settings["NAME"])
        own.close()
        kill(admin, connection)
        run(connection, "SELECT 1")  # that was another session


def test_atomic_and_autocommit_of_django_are_not_taken_for_the_applications_own(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(recycle={"idle_limit": 1}, **PATIENT)
    for number in range(3):
        with transaction.atomic(using=connection.alias):
            insert(connection, f"row {number}")
        rest(connection, 2)
        with listening(connection) as received:
            run(connection, "SELECT 1")
        assert (received.lost, received.recycled) == ([], ["idle limit"])
        connection.set_autocommit(False)
        connection.set_autocommit(True)
        kill(admin, connection)
    assert len(owners(admin)) == 3


@pytest.mark.parametrize("way", ["cursor", "method"])
def test_literals_are_read_by_the_mode_that_was_set_past_djangos_cursors(
    make_connection: ConnectionFactory, way: str
) -> None:
    connection = make_connection(**PATIENT)
    connection.ensure_connection()
    method = getattr(connection.connection, "set_sql_mode", None)
    if way == "cursor" or method is None:  # PyMySQL has no such method
        directly(connection, "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'")
    else:
        method("NO_BACKSLASH_ESCAPES")
    # If a backslash escaped, the call would stand in a literal.
    run(connection, r"SELECT 'a\', GET_LOCK('b', 0), 'c\'")
    assert "named lock" in connection.guard.connection.ledger.pins.kinds()  # type: ignore[attr-defined]


def test_cursor_of_the_driver_is_of_the_class_that_was_asked_for(
    connection: Connection, driver: str
) -> None:
    connection.ensure_connection()
    if driver == "mysqlclient":
        from MySQLdb.cursors import Cursor, DictCursor
    else:
        from pymysql.cursors import Cursor, DictCursor
    assert isinstance(connection.connection.cursor(), Cursor)
    with contextlib.closing(connection.connection.cursor(DictCursor)) as cursor:
        assert isinstance(cursor, DictCursor) and type(cursor).__name__ == "DictCursor"
        cursor.executemany("SELECT %s AS a", [(1,), (2,)])
        cursor.execute("SELECT 3 AS a")
        assert list(cursor.fetchall()) == [{"a": 3}]


def test_query_of_the_driver_takes_its_arguments_by_name(
    make_connection: ConnectionFactory, driver: str, engine: str
) -> None:
    connection = make_connection(engine)
    connection.ensure_connection()
    name = "query" if driver == "mysqlclient" else "sql"
    connection.connection.query(**{name: "DO 1"})
    assert value(connection, "SELECT 2") == 2


def test_watching_a_connection_does_not_keep_it_alive(connection: Connection) -> None:
    directly(connection, "BEGIN")
    directly(connection, "SELECT 1")
    reference = weakref.ref(connection.connection)
    gc.disable()
    try:
        connection.close()
        assert reference() is None
    finally:
        gc.enable()


def test_work_past_the_cursors_is_no_rest(
    make_connection: ConnectionFactory, caplog: pytest.LogCaptureFixture
) -> None:
    connection = make_connection(recycle={"idle_limit": 100}, **PATIENT)
    run(connection, "SELECT 1")
    rest(connection, 200)
    directly(connection, "SELECT 1")
    with listening(connection) as received, caplog.at_level(logging.INFO, "django_mysql_recycle"):
        assert value(connection, "SELECT 2") == 2
    assert (received.recycled, caplog.records) == ([], [])


def reconnects(connection: Connection, admin: Admin) -> None:
    """Lose the connection, and have the driver replace it beneath its own object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        admin.kill(connection.connection.thread_id())
        connection.connection.ping(True)


def block_that_reconnects(connection: Connection, admin: Admin) -> None:
    with transaction.atomic(using=connection.alias):
        insert(connection, "first half")
        reconnects(connection, admin)
        insert(connection, "second half")


def test_control_stock_backend_commits_the_second_half_after_the_driver_has_reconnected(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    block_that_reconnects(make_connection(STOCK, **PATIENT), admin)
    assert owners(admin) == ["second half"]


@pytest.mark.core
def test_block_in_which_the_driver_has_reconnected_commits_nothing(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    with pytest.raises(OperationalError, match="reconnected"):
        block_that_reconnects(connection, admin)
    assert owners(admin) == []
    assert_works(connection, admin)


def test_block_that_swallows_its_loss_before_the_driver_reconnects_commits_nothing(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    with (
        pytest.raises(OperationalError),
        transaction.atomic(using=connection.alias),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        insert(connection, "first half")
        admin.kill(connection.connection.thread_id())
        assert outcome(lambda: insert(connection, "lost")) is not None
        with contextlib.suppress(connection.Database.Error):  # type: ignore[attr-defined]
            connection.connection.ping(True)
        insert(connection, "second half")
    assert owners(admin) == []
    assert_works(connection, admin)


def test_loss_of_a_lock_is_reported_once_after_the_driver_has_reconnected(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    run(connection, "SELECT GET_LOCK('direct', 0)")
    with listening(connection) as received:
        reconnects(connection, admin)
        with pytest.raises(SessionStateLost, match="direct"):
            insert(connection, "without the lock")
    assert len(received.lost) == 1
    assert owners(admin) == []
    assert_works(connection, admin)


def test_driver_is_not_left_with_its_own_reconnect(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    connection.ensure_connection()
    with (
        pytest.raises((OperationalError, InterfaceError)),
        transaction.atomic(using=connection.alias),
    ):
        insert(connection, "first half")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            connection.connection.ping(True)
        admin.kill(connection.connection.thread_id())
        assert outcome(lambda: insert(connection, "lost")) is not None
        insert(connection, "second half")
    assert owners(admin) == []
    assert_works(connection, admin)


def test_block_after_a_reconnect_of_the_driver_goes_on_after_a_duplicate_key(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    connection = make_connection(**PATIENT)
    insert(connection, "before")
    reconnects(connection, admin)
    number = value(connection, "SELECT MAX(id) FROM testapp_account")
    again = "INSERT INTO testapp_account (id, owner, balance) VALUES (%s, 'again', 0)"
    with transaction.atomic(using=connection.alias):
        insert(connection, "first half")
        with pytest.raises(IntegrityError), transaction.atomic(using=connection.alias):
            run(connection, again, number)
        insert(connection, "second half")
    assert owners(admin) == ["before", "first half", "second half"]
