"""The default database that USE has selected is selected again on each new connection."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.db import Error, close_old_connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

from django_mysql_recycle import SessionStateLost, pinned
from django_mysql_recycle.signals import connection_recycled

from ..acts import code_of, kill, listening, outcome, receiving
from ..admin import Admin
from ..connections import STOCK, Connection, ConnectionFactory
from ..queries import run
from .conftest import (
    AWKWARD,
    PATIENT,
    SEVERAL,
    assert_only_in_tenant_a,
    here,
    note,
    notes,
    quoted,
)


def test_control_stock_backend_goes_on_in_the_configured_database(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(STOCK, **PATIENT)
    run(connection, "USE tenant_a")
    kill(admin, connection)
    assert outcome(lambda: note(connection, "refused")) is not None
    close_old_connections()
    note(connection, "strayed")
    assert notes(admin, main) == ["strayed"]


@pytest.mark.core
@pytest.mark.parametrize("transport", ["tcp", "tls", "socket"])
def test_database_selected_once_is_selected_on_each_new_connection(
    make_connection: ConnectionFactory, admin: Admin, main: str, transport: Any
) -> None:
    connection = make_connection(transport=transport, **PATIENT)
    run(connection, "USE tenant_a")
    with listening(connection) as received:
        for number in range(3):
            close_old_connections()
            kill(admin, connection)
            note(connection, f"note {number}")
    assert (received.lost, received.recycled) == ([], ["closed"] * 3)
    assert notes(admin, "tenant_a") == ["note 0", "note 1", "note 2"]
    assert notes(admin, main) == []


SPELLINGS = [
    "use tenant_a",
    "USE `tenant_a`;",
    "/* one */ USE /* two */ tenant_a -- three",
    "USE/**/tenant_a",
    b"USE tenant_a",
    "/*!40000 USE tenant_a */",
    "USE tenant_b; USE tenant_a",
    "USE tenant_a; SELECT 1",
    "SELECT 1; USE tenant_a",
]


@pytest.mark.parametrize("sql", SPELLINGS)
def test_every_spelling_of_use_is_remembered(
    make_connection: ConnectionFactory, admin: Admin, main: str, sql: Any
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor:
        cursor.execute(sql)
    kill(admin, connection)
    assert here(connection) == "tenant_a"


def test_name_that_needs_quotes_is_selected_again(connection: Connection, admin: Admin) -> None:
    run(connection, f"USE {quoted(AWKWARD)}")
    for _ in range(2):
        kill(admin, connection)
        assert here(connection) == AWKWARD
    run(connection, "SET SESSION sql_mode = 'ANSI_QUOTES'")
    run(connection, 'USE "tenant_b"')
    close_old_connections()
    kill(admin, connection)
    assert here(connection) == "tenant_b"


def test_percent_sign_in_a_name_is_what_the_driver_makes_of_it(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    admin.rows("CREATE DATABASE `a%b`")
    try:
        connection = make_connection(**PATIENT)
        with connection.cursor() as cursor:
            cursor.execute("USE `a%%b`", {})
            assert here(connection) == "a%b"
            kill(admin, connection)
            assert here(connection) == "a%b"
            cursor.execute("USE tenant_a")
            cursor.execute("USE `a%b`")
        kill(admin, connection)
        assert here(connection) == "a%b"
    finally:
        admin.rows("DROP DATABASE `a%b`")


def test_use_that_fails_changes_nothing(connection: Connection, admin: Admin, main: str) -> None:
    for selected in (None, "tenant_a"):
        if selected:
            run(connection, f"USE {selected}")
        with pytest.raises(Error):
            run(connection, "USE nowhere_at_all")
        kill(admin, connection)
        assert here(connection) == selected or main


@pytest.mark.parametrize(
    "sql",
    ["USE tenant_a; nonsense", "USE tenant_a; USE nowhere_at_all", "SELECT 1; USE tenant_a; no"],
)
def test_text_of_which_some_statements_fail_leaves_the_database_that_the_server_names(
    make_connection: ConnectionFactory, admin: Admin, main: str, sql: str
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor, pytest.raises(Error):
        cursor.execute(sql)
        while cursor.nextset():
            pass
    run(connection, "SELECT 1")
    kill(admin, connection)
    assert here(connection) == "tenant_a"


def test_database_that_is_not_known_when_the_connection_is_lost_raises(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(**SEVERAL)
    with connection.cursor() as cursor, pytest.raises(Error):
        cursor.execute("USE tenant_a; nonsense")
        while cursor.nextset():
            pass
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="default database"):
        note(connection, "refused")
    note(connection, "received")
    assert notes(admin, main) == ["received"]


def test_use_inside_a_prepared_text_is_asked_for_at_the_server(
    connection: Connection, admin: Admin, main: str, vendor: str
) -> None:
    for sql in ("EXECUTE IMMEDIATE 'USE tenant_a'", "PREPARE p FROM 'USE tenant_b'", "EXECUTE p"):
        error = outcome(lambda sql=sql: run(connection, sql))
        assert vendor == "mariadb" or error is not None  # MySQL prepares no USE
    if vendor == "mariadb":
        run(connection, "DEALLOCATE PREPARE p")
    where = here(connection)
    assert where == ("tenant_b" if vendor == "mariadb" else main)
    kill(admin, connection)
    assert here(connection) == where


@pytest.mark.parametrize("then", ["a statement", "a boundary"])
def test_use_that_no_text_shows_is_asked_for_at_the_server(
    connection: Connection, admin: Admin, vendor: str, then: str
) -> None:
    sql = "EXECUTE IMMEDIATE CONCAT('USE ', 'tenant_a')"
    if vendor == "mysql":
        assert outcome(lambda: run(connection, sql)) is not None  # it has no such statement
        return
    run(connection, sql)
    if then == "a statement":
        run(connection, "SELECT 1")
    close_old_connections()
    kill(admin, connection)
    with listening(connection) as received:
        assert here(connection) == "tenant_a"
    assert received.lost == []


def test_database_that_was_dropped_raises_once(tenant: Connection, admin: Admin, main: str) -> None:
    admin.rows("DROP DATABASE tenant_a")
    kill(admin, tenant)
    with listening(tenant) as received, pytest.raises(SessionStateLost, match="tenant_a") as caught:
        note(tenant, "refused")
    assert code_of(caught.value) == 1049
    assert [facts["state"] for facts in received.lost] == [("default database",)]
    assert received.recycled == ["closed"]
    assert notes(admin, main) == []
    note(tenant, "received")
    assert notes(admin, main) == ["received"]


def test_database_that_was_dropped_does_not_matter_to_a_statement_that_selects_another(
    tenant: Connection, admin: Admin, main: str
) -> None:
    admin.rows("DROP DATABASE tenant_a")
    for number, way in enumerate(("statement", "atomic", "boundary")):
        kill(admin, tenant)
        with listening(tenant) as received:
            if way == "atomic":
                with transaction.atomic(using=tenant.alias):
                    run(tenant, "USE tenant_b")
                    note(tenant, f"note {number}")
            else:
                if way == "boundary":
                    close_old_connections()
                run(tenant, "USE tenant_b")
                note(tenant, f"note {number}")
        assert received.lost == []
        with tenant.cursor() as cursor:  # and back to the one that was dropped
            admin.rows("CREATE DATABASE tenant_a")
            cursor.execute("USE tenant_a")
            admin.rows("DROP DATABASE tenant_a")
    assert len(notes(admin, "tenant_b")) == 3
    kill(admin, tenant)
    assert outcome(lambda: run(tenant, "USE nowhere_at_all")) is not None
    with pytest.raises(SessionStateLost), transaction.atomic(using=tenant.alias):
        note(tenant, "refused")
    assert notes(admin, main) == []


def test_database_that_is_dropped_by_the_session_itself_is_never_exchanged_for_another(
    tenant: Connection, admin: Admin, main: str
) -> None:
    run(tenant, "DROP DATABASE tenant_a")
    error = outcome(lambda: note(tenant, "refused"))
    assert error is not None and code_of(error) == 1046
    kill(admin, tenant)
    with pytest.raises(SessionStateLost):
        note(tenant, "refused")
    assert notes(admin, main) == []


def test_database_that_may_not_be_used_any_more_raises_once(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    admin.rows("CREATE USER 'lodger'@'%' IDENTIFIED BY 'Secret-9'")
    try:
        for database in (main, "tenant_a"):
            admin.rows(f"GRANT ALL ON {database}.* TO 'lodger'@'%'")
        connection = make_connection(transport="socket", USER="lodger", PASSWORD="Secret-9")
        run(connection, "USE tenant_a")
        admin.rows("REVOKE ALL ON tenant_a.* FROM 'lodger'@'%'")
        kill(admin, connection)
        with pytest.raises(SessionStateLost) as caught:
            note(connection, "refused")
        assert code_of(caught.value) == 1044
        assert here(connection) == main
    finally:
        admin.rows("DROP USER 'lodger'@'%'")


def test_connection_without_a_configured_database_gets_the_selected_one(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(NAME="", **PATIENT)
    assert here(connection) is None
    kill(admin, connection)
    assert here(connection) is None
    run(connection, "USE tenant_b")
    kill(admin, connection)
    assert here(connection) == "tenant_b"


def test_selection_of_the_application_comes_after_that_of_connecting(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    def receive(*, connection: Connection, **facts: Any) -> None:
        if connection is mine:
            seen.append(here(connection))
            run(connection, "USE tenant_b")

    seen: list[Any] = []
    mine = make_connection(options={"init_command": "USE tenant_a"}, **PATIENT)
    with receiving(connection_created, receive):
        assert here(mine) == "tenant_b"
        kill(admin, mine)
        assert here(mine) == "tenant_b"
        for name in ("tenant_a", main):
            run(mine, f"USE {name}")
            kill(admin, mine)
            assert here(mine) == name
    assert seen == ["tenant_a"] * 4


@pytest.mark.parametrize("sender", [connection_created, connection_recycled])
def test_receiver_that_closes_the_new_connection_does_not_end_the_selection(
    make_connection: ConnectionFactory, admin: Admin, main: str, sender: Any
) -> None:
    def receive(*, connection: Connection, **facts: Any) -> None:
        if connection is mine and closes:
            closes.pop()
            connection.close()

    closes: list[int] = []
    mine = make_connection(**PATIENT)
    run(mine, "USE tenant_a")
    kill(admin, mine)
    closes.append(1)
    with receiving(sender, receive):
        # Without a connection: an error, an AttributeError on the stock backend.
        with contextlib.suppress(OperationalError):
            note(mine, "note")
        if not notes(admin, "tenant_a"):
            note(mine, "second try")
    assert (notes(admin, main), len(notes(admin, "tenant_a"))) == ([], 1)


def test_configured_database_that_connecting_does_not_select_is_selected_again(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(options={"database": "tenant_a"}, **PATIENT)
    assert here(connection) == "tenant_a"
    run(connection, f"USE {main}")
    kill(admin, connection)
    assert here(connection) == main


def test_selection_inside_atomic_outlives_it_and_its_rollback(
    connection: Connection, admin: Admin, main: str
) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=connection.alias):
        run(connection, "USE tenant_a")
        raise ZeroDivisionError
    kill(admin, connection)
    assert here(connection) == "tenant_a"
    with pytest.raises(OperationalError), transaction.atomic(using=connection.alias):
        run(connection, "USE tenant_b")
        kill(admin, connection)
        note(connection, "refused")
    note(connection, "after")
    assert (notes(admin, main), notes(admin, "tenant_b")) == ([], ["after"])


def test_selection_holds_for_entering_atomic_and_with_autocommit_off(
    tenant: Connection, admin: Admin, main: str
) -> None:
    kill(admin, tenant)
    with transaction.atomic(using=tenant.alias):
        note(tenant, "in atomic")
    tenant.set_autocommit(False)
    kill(admin, tenant)
    note(tenant, "by hand")
    tenant.commit()
    assert_only_in_tenant_a(admin, main, ["in atomic", "by hand"])


def test_selection_beside_other_state_that_is_lost_holds_after_the_error(
    tenant: Connection, admin: Admin, main: str
) -> None:
    run(tenant, "SELECT GET_LOCK('beside', 0)")
    kill(admin, tenant)
    with pytest.raises(SessionStateLost, match="beside") as caught:
        note(tenant, "refused")
    assert "database" not in str(caught.value)
    note(tenant, "after")
    with pinned(tenant):
        kill(admin, tenant)
        with pytest.raises(SessionStateLost):
            note(tenant, "refused")
    note(tenant, "last")
    assert_only_in_tenant_a(admin, main, ["after", "last"])


def test_selection_is_remembered_although_pinning_is_turned_off(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    connection = make_connection(recycle={"pin_session_state": False}, **PATIENT)
    run(connection, "USE tenant_a")
    kill(admin, connection)
    assert here(connection) == "tenant_a"


def test_temporary_table_of_another_database_is_not_taken_for_one_that_is_dropped(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "CREATE TEMPORARY TABLE t (a INT)")
    run(connection, "USE tenant_a")
    run(connection, "DROP TABLE IF EXISTS t")
    kill(admin, connection)
    with pytest.raises(SessionStateLost, match="temporary table"):
        run(connection, "SELECT 1")
