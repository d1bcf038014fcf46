"""may_have_run(): what an error proves for the retries of the application's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import Error

from django_mysql_recycle import SessionStateLost, may_have_run
from servers import FaultProxy

from ..choice import VENDOR
from .acts import code_of, insert, kill, outcome, owners
from .admin import Admin
from .connections import OURS, STOCK, Connection, ConnectionFactory, Proxied
from .queries import run, value
from .test_wrong_node import application  # noqa: F401 - a fixture

NAMES = "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)"
SIGNAL = "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {}, MESSAGE_TEXT = '{}'"


@pytest.fixture
def trigger(admin: Admin) -> Iterator[Callable[[int, str], None]]:
    """`trigger(number, text)`: each INSERT of an account fails with this error."""

    def create(number: int, text: str) -> None:
        admin.rows(
            "CREATE TRIGGER refuse BEFORE INSERT ON testapp_account FOR EACH ROW "
            + SIGNAL.format(number, text)
        )

    yield create
    admin.rows("DROP TRIGGER IF EXISTS refuse")


def ended(act: Callable[[], Any]) -> tuple[Any, bool | None]:
    """The number of the error that `act` raises, and what may_have_run() says of it."""
    error = outcome(act)
    assert error is not None
    return code_of(error), may_have_run(error)


@pytest.mark.core
def test_refusals_of_one_statement_did_not_run(connection: Connection) -> None:
    insert(connection, "once")
    assert ended(lambda: insert(connection, "once")) == (1062, False)
    assert ended(lambda: run(connection, "SELECT nothing FROM testapp_account")) == (1054, False)
    with transaction.atomic(using=connection.alias):
        assert ended(lambda: insert(connection, "once")) == (1062, False)
        transaction.set_rollback(True, using=connection.alias)


def test_write_that_a_read_only_node_refused_did_not_run(
    make_connection: ConnectionFactory,
    admin: Admin,
    application: dict[str, str],  # noqa: F811
) -> None:
    connection = make_connection(**application)
    run(connection, "SELECT 1")
    admin.set_global("read_only", 1)
    assert ended(lambda: insert(connection, "refused")) == (1290, False)


@pytest.mark.core
def test_write_whose_answer_was_lost_cannot_be_judged(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied()
    run(connection, "SELECT 1")
    between.swallow_next_reply()
    number, ran = ended(lambda: insert(connection, "there"))
    assert (number in (2006, 2013), ran) == (True, None)
    assert owners(admin) == ["there"]


def test_commit_whose_answer_was_lost_cannot_be_judged(proxied: Proxied, admin: Admin) -> None:
    connection, between = proxied()

    def transfer() -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "there")
            between.cut_at(b"COMMIT", when="after")

    assert ended(transfer)[1] is None
    assert owners(admin) == ["there"]


def test_statement_and_commit_on_a_connection_lost_before_did_not_run(
    connection: Connection, admin: Admin
) -> None:
    def transfer(last: Callable[[], Any]) -> None:
        with transaction.atomic(using=connection.alias):
            insert(connection, "nowhere")
            kill(admin, connection)
            last()

    assert ended(lambda: transfer(lambda: outcome(lambda: run(connection, "SELECT 1"))))[1] is False
    assert owners(admin) == []


@pytest.mark.parametrize("number", [1180, 3100, 3101])
def test_errors_that_may_come_out_of_a_commit_cannot_be_judged(
    connection: Connection, trigger: Callable[[int, str], None], number: int
) -> None:
    trigger(number, "from the commit")
    assert ended(lambda: insert(connection, "perhaps")) == (number, None)
    with transaction.atomic(using=connection.alias):
        # Nothing commits in the middle of a transaction.
        assert ended(lambda: insert(connection, "perhaps")) == (number, False)
        transaction.set_rollback(True, using=connection.alias)


def test_deadlock_outside_of_a_transaction_is_judged_where_there_is_no_galera(
    connection: Connection, trigger: Callable[[int, str], None]
) -> None:
    trigger(1213, "Deadlock found")
    expected = None if VENDOR == "mariadb" else False
    assert ended(lambda: insert(connection, "perhaps")) == (1213, expected)


def test_error_of_a_procedure_or_of_several_rows_cannot_be_judged(
    connection: Connection, admin: Admin
) -> None:
    admin.rows("DROP PROCEDURE IF EXISTS half")
    admin.rows(
        "CREATE PROCEDURE half() BEGIN INSERT INTO testapp_account (owner, balance) VALUES"
        f" ('half', 0); {SIGNAL.format(1290, 'the --read-only option')}; END"
    )
    try:
        assert ended(lambda: run(connection, "CALL half()")) == (1290, None)
        assert owners(admin) == ["half"]
        admin.empty_tables()
        with connection.cursor() as cursor:
            assert ended(lambda: cursor.callproc("half")) == (1290, None)
    finally:
        admin.rows("DROP PROCEDURE half")
    rows = [("one",), ("two",), ("two",)]
    with connection.cursor() as cursor:
        assert ended(lambda: cursor.executemany(NAMES, rows)) == (1062, None)


def test_definition_of_tables_that_failed_cannot_be_judged(connection: Connection) -> None:
    run(connection, "CREATE TABLE one (id INT)")
    try:
        number, ran = ended(lambda: run(connection, "DROP TABLE one, two"))
        assert (number, ran) == (1051, None)
    finally:
        run(connection, "DROP TABLE IF EXISTS one")


def test_rows_that_are_lost_on_the_way_come_from_a_statement_that_ran(
    make_connection: ConnectionFactory, proxy: Callable[..., FaultProxy], driver: str
) -> None:
    between = proxy()
    connection = make_connection(via=between)
    cursors = {"mysqlclient": "MySQLdb.cursors", "pymysql": "pymysql.cursors"}
    from importlib import import_module

    unbuffered = import_module(cursors[driver]).SSCursor
    connection.ensure_connection()
    connection.connection.cursorclass = unbuffered
    connection.streams = True  # type: ignore[attr-defined]
    many = "SELECT REPEAT('x', 60000) FROM information_schema.columns, (SELECT 1 UNION SELECT 2) n"
    with connection.cursor() as cursor:
        cursor.execute(many)
        cursor.fetchone()
        between.cut()
        assert ended(cursor.fetchall)[1] is True


def test_failure_to_connect_means_that_nothing_ran(make_connection: ConnectionFactory) -> None:
    connection = make_connection(PORT=1, recycle={"connect_retries": 0})
    assert ended(lambda: insert(connection, "nowhere"))[1] is False


@pytest.mark.core
def test_statement_in_whose_place_a_lost_lock_is_reported_did_not_run(
    connection: Connection, admin: Admin
) -> None:
    assert value(connection, "SELECT GET_LOCK('import', 0)") == 1
    kill(admin, connection)
    error = outcome(lambda: insert(connection, "nowhere"))
    assert isinstance(error, SessionStateLost)
    assert may_have_run(error) is False


def test_error_that_was_raised_from_the_databases_is_judged_by_it(connection: Connection) -> None:
    insert(connection, "once")
    try:
        try:
            insert(connection, "once")
        except Error as error:
            raise LookupError("of the application's own") from error
    except LookupError as error:
        found = error
    assert may_have_run(found) is False


def test_errors_of_other_backends_and_of_no_database_cannot_be_judged(
    make_connection: ConnectionFactory,
) -> None:
    stock, ours = make_connection(STOCK), make_connection(OURS)
    insert(stock, "once")
    assert ended(lambda: insert(stock, "once")) == (1062, None)
    assert may_have_run(KeyError(1062)) is None
    # The error of our connection is in its context, and not its cause.
    try:
        insert(ours, "once")
    except Error:
        assert ended(lambda: run(stock, "SELECT nothing")) == (1054, None)
