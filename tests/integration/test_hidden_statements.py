"""Session state of statements whose text hides it, and of functions that plugins bring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, close_old_connections

from django_mysql_recycle import SessionStateLost

from .acts import insert, kill, listening, owners
from .admin import Admin
from .connections import ConnectionFactory
from .queries import run, value

pytestmark = pytest.mark.core

LOCK = "DO GET_LOCK('hidden', 0)"


@pytest.fixture
def connection(make_connection: ConnectionFactory) -> Any:
    return make_connection(CONN_MAX_AGE=None)


def assert_loss_is_raised(connection: Any, admin: Admin, match: str) -> None:
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match=match) as caught:
        insert(connection, "unprotected")
    assert owners(admin) == []
    assert "GET_LOCK" not in str(caught.value)
    insert(connection, "after")
    assert owners(admin) == ["after"]


def assert_recycles_without_error(connection: Any, admin: Admin) -> None:
    kill(admin, connection)
    with listening(connection) as received:
        assert value(connection, "SELECT 1") == 1
    assert (received.lost, received.recycled) == ([], ["closed"])


@pytest.mark.parametrize("how", ["concatenated", "with a parameter", "in a variable"])
def test_state_of_an_immediate_statement_that_is_not_shown_pins_until_the_unit_of_work_ends(
    connection: Any, admin: Admin, vendor: str, how: str
) -> None:
    if vendor == "mysql":
        pytest.skip("MySQL has no EXECUTE IMMEDIATE")
    if how == "concatenated":
        run(connection, "EXECUTE IMMEDIATE CONCAT('DO GET_LO', 'CK(''hidden'', 0)')")
    elif how == "with a parameter":
        run(connection, "EXECUTE IMMEDIATE CONCAT(%s, 'CK(''hidden'', 0)')", "DO GET_LO")
    else:
        run(connection, "SET @s = CONCAT('DO GET_LO', 'CK(''hidden'', 0)')")
        run(connection, "EXECUTE IMMEDIATE @s")
    assert value(connection, "SELECT IS_USED_LOCK('hidden') = CONNECTION_ID()") == 1
    assert_loss_is_raised(
        connection, admin, "state of a statement that this backend does not know, run 0 s ago"
    )


@pytest.mark.parametrize("many", [False, True], ids=["execute", "executemany"])
def test_parameter_that_is_run_shows_its_lock(
    connection: Any, admin: Admin, vendor: str, many: bool
) -> None:
    if vendor == "mysql":
        pytest.skip("MySQL has no EXECUTE IMMEDIATE")
    with connection.cursor() as cursor:
        if many:
            cursor.executemany("EXECUTE IMMEDIATE %s", [[LOCK], ["DO 1"]])
        else:
            cursor.execute("EXECUTE IMMEDIATE %s", [LOCK])
    close_old_connections()  # beyond the unit of work
    connection.close_if_unusable_or_obsolete()
    assert_loss_is_raised(connection, admin, "named lock 'hidden'")


@pytest.mark.parametrize("text", [LOCK, "SELECT GET_LOCK('hidden', 0) > 0"])
@pytest.mark.parametrize("source", ["%s", "@s", "'{}'"])
def test_prepared_statement_pins_what_it_has_begun(
    connection: Any, admin: Admin, source: str, text: str
) -> None:
    if source == "@s":
        run(connection, "SET @s = %s", text)
        run(connection, "PREPARE p FROM @s")
    elif source == "%s":
        run(connection, "PREPARE p FROM %s", text)
    else:
        run(connection, "PREPARE p FROM '{}'".format(text.replace("'", "''")))
    run(connection, "EXECUTE p")
    run(connection, "DEALLOCATE PREPARE p")
    assert value(connection, "SELECT IS_USED_LOCK('hidden') = CONNECTION_ID()") == 1
    hidden = source == "@s"
    assert_loss_is_raised(connection, admin, "does not know" if hidden else "named lock 'hidden'")


def test_statement_that_was_prepared_unseen_pins_until_the_unit_of_work_ends(
    connection: Any, admin: Admin
) -> None:
    connection.ensure_connection()
    connection.connection.query("PREPARE p FROM \"DO GET_LOCK('hidden', 0)\"")  # past all cursors
    run(connection, "EXECUTE p")
    assert_loss_is_raised(connection, admin, "does not know")


def test_unit_of_work_ends_what_is_not_known(connection: Any, admin: Admin, vendor: str) -> None:
    if vendor == "mysql":
        run(connection, "SET @s = 'SELECT 1'")
        run(connection, "PREPARE p FROM @s")
        run(connection, "EXECUTE p")
        run(connection, "DEALLOCATE PREPARE p")
    else:
        run(connection, "EXECUTE IMMEDIATE CONCAT('SELECT ', 1)")
    connection.close_if_unusable_or_obsolete()
    assert_recycles_without_error(connection, admin)


def test_statements_that_hide_nothing_pin_nothing(
    connection: Any, admin: Admin, vendor: str
) -> None:
    run(connection, "PREPARE p FROM %s", "SELECT 1")
    run(connection, "EXECUTE p")
    run(connection, "DEALLOCATE PREPARE p")
    if vendor == "mariadb":
        run(connection, "EXECUTE IMMEDIATE %s", "SELECT 1")
        run(connection, "EXECUTE IMMEDIATE 'SELECT 1'")
    assert_recycles_without_error(connection, admin)


def test_execution_of_what_does_not_exist_pins_nothing(connection: Any, admin: Admin) -> None:
    with pytest.raises(DatabaseError):
        run(connection, "EXECUTE nosuch")
    assert_recycles_without_error(connection, admin)


def test_hidden_transaction_is_not_committed_by_its_second_half(
    connection: Any, admin: Admin, vendor: str
) -> None:
    if vendor == "mysql":
        pytest.skip("START TRANSACTION cannot be prepared there")
    run(connection, "EXECUTE IMMEDIATE CONCAT('START ', 'TRANSACTION')")
    insert(connection, "first half")
    assert_loss_is_raised(connection, admin, "does not know|transaction")


@pytest.fixture
def locking_service(admin: Admin, vendor: str) -> Iterator[None]:
    if vendor == "mariadb":
        pytest.skip("the locking service is MySQL's")
    names = ["service_get_read_locks", "service_get_write_locks", "service_release_locks"]
    for name in names:
        admin.rows(f"CREATE FUNCTION {name} RETURNS INT SONAME 'locking_service.so'")
    yield
    for name in names:
        admin.rows(f"DROP FUNCTION {name}")


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.usefixtures("locking_service")
def test_lock_of_the_locking_service_pins_until_it_is_released(
    connection: Any, admin: Admin, kind: str
) -> None:
    run(connection, f"SELECT service_get_{kind}_locks('ns', 'a', %s, 0)", "b")
    connection.close_if_unusable_or_obsolete()
    assert_loss_is_raised(connection, admin, "lock of the locking service taken")
    run(connection, f"DO service_get_{kind}_locks('ns', 'a', 0)")
    run(connection, f"DO service_get_{kind}_locks('ns', 'b', 0)")
    run(connection, "SELECT service_release_locks('other')")
    assert connection.guard.connection.ledger.pins.kinds() == ("service lock",)
    run(connection, "SELECT service_release_locks('ns') > 0")
    assert_recycles_without_error(connection, admin)


@pytest.mark.usefixtures("locking_service")
def test_lock_that_the_locking_service_refuses_pins_nothing(
    make_connection: ConnectionFactory, connection: Any, admin: Admin
) -> None:
    other = make_connection()
    run(other, "SELECT service_get_write_locks('ns', 'a', 0)")
    with pytest.raises(DatabaseError):
        run(connection, "SELECT service_get_write_locks('ns', 'a', 0)")
    assert_recycles_without_error(connection, admin)
