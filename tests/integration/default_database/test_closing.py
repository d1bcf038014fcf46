"""What ends the selection of a default database, and what of it shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created
from django.db.utils import OperationalError

from django_mysql_recycle import SessionStateLost, pinned

from ..acts import kill, receiving, session_id
from ..admin import Admin
from ..boundaries import lose
from ..connections import Connection, ConnectionFactory, Proxied
from ..forking import fork, fork_without_hooks, in_child, start
from ..queries import run
from .conftest import (
    PATIENT,
    assert_only_in_tenant_a,
    here,
    note,
    notes,
)


@pytest.mark.core
@pytest.mark.parametrize("health_checks", [False, True])
def test_selection_holds_after_django_has_closed_the_connection_between_units_of_work(
    make_connection: ConnectionFactory, admin: Admin, main: str, health_checks: bool
) -> None:
    connection = make_connection(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=health_checks)
    run(connection, "USE tenant_a")
    connection.close_at = 0.0  # past its max age
    close_old_connections()
    assert connection.connection is None
    close_old_connections()
    note(connection, "after its max age")
    kill(admin, connection)
    close_old_connections()
    note(connection, "after a loss")
    connection.set_autocommit(False)
    close_old_connections()
    note(connection, "after autocommit was left off")
    assert (notes(admin, main), len(notes(admin, "tenant_a"))) == ([], 3)


@pytest.mark.parametrize("way", ["close", "close_all", "zero", "close after the boundary"])
def test_closing_by_the_application_and_a_max_age_of_zero_end_the_selection(
    make_connection: ConnectionFactory, main: str, way: str
) -> None:
    connection = make_connection(CONN_MAX_AGE=0 if way == "zero" else 60)
    run(connection, "USE tenant_a")
    if way == "close":
        connection.close()
    elif way == "close_all":
        connections.close_all()
    elif way == "zero":
        close_old_connections()
    else:
        connection.close_at = 0.0
        close_old_connections()
        connection.close()
    assert here(connection) == main


def test_closing_by_the_application_ends_the_error_for_a_database_that_was_dropped(
    tenant: Connection, admin: Admin, main: str
) -> None:
    admin.rows("DROP DATABASE tenant_a")
    kill(admin, tenant)
    with pinned(tenant):  # connects, and runs nothing
        pass
    tenant.close()
    assert here(tenant) == main


def test_settings_that_name_another_database_count_after_close(
    connection: Connection, admin: Admin
) -> None:
    run(connection, "USE tenant_b")
    connection.close()
    connection.settings_dict["NAME"] = "tenant_a"
    for _ in range(2):
        assert here(connection) == "tenant_a"
        kill(admin, connection)


@pytest.mark.parametrize("forks", [fork, fork_without_hooks])
def test_connection_of_a_child_is_in_the_selected_database(
    tenant: Connection, main: str, admin: Admin, forks: Any
) -> None:
    start(lambda: note(tenant, "by the child"), forks).result()
    assert_only_in_tenant_a(admin, main, ["by the child"])


@contextlib.contextmanager
def no_new_connection(connection: Connection) -> Iterator[None]:
    """Let each new connection fail once it is open."""
    wrapper = connection

    def refuse(*, connection: Connection, **facts: Any) -> None:
        if connection is wrapper:
            raise OperationalError(2003, "no new connection")

    with receiving(connection_created, refuse):
        yield


@pytest.mark.parametrize("max_age", [0, 60])
def test_failed_replacement_ends_the_selection_with_its_request_where_the_max_age_is_zero(
    make_connection: ConnectionFactory, admin: Admin, main: str, max_age: int
) -> None:
    connection = make_connection(CONN_MAX_AGE=max_age)
    run(connection, "USE tenant_a")
    kill(admin, connection)
    with no_new_connection(connection), pytest.raises(OperationalError):
        note(connection, "refused")
    close_old_connections()
    assert here(connection) == ("tenant_a" if max_age else main)


def test_child_of_a_parent_whose_replacement_has_failed_is_in_the_selected_database(
    tenant: Connection, admin: Admin
) -> None:
    kill(admin, tenant)
    with no_new_connection(tenant), pytest.raises(OperationalError):
        note(tenant, "refused")
    assert in_child(lambda: here(tenant)) == "tenant_a"
    assert here(tenant) == "tenant_a"


def test_use_of_the_configured_database_is_forgotten_and_sends_nothing(
    tenant: Connection, admin: Admin, main: str
) -> None:
    run(tenant, f"USE {main}")
    kill(admin, tenant)
    admin.set_global("general_log", 1)
    admin.set_global("log_output", "TABLE")
    assert here(tenant) == main
    number = session_id(tenant)
    sent = admin.rows("SELECT argument FROM mysql.general_log WHERE thread_id = %s", number)
    assert not [
        text for (text,) in sent if b"USE" in (text if isinstance(text, bytes) else text.encode())
    ]


def test_selecting_again_shows_neither_in_the_log_of_queries_nor_to_wrappers(
    make_connection: ConnectionFactory, admin: Admin, main: str
) -> None:
    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    seen: list[str] = []
    connection = make_connection(**PATIENT)
    run(connection, "USE tenant_a")
    kill(admin, connection)
    connection.force_debug_cursor = True
    with connection.execute_wrapper(wrapper):
        assert here(connection) == "tenant_a"
    assert seen == ["SELECT DATABASE()"]
    assert [query["sql"] for query in connection.queries] == ["SELECT DATABASE()"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_connection_lost_while_it_selects_is_a_failure_to_connect_and_the_next_statement_tries_again(
    proxied: Proxied, admin: Admin, main: str, when: Any
) -> None:
    connection, way = proxied(**PATIENT)
    run(connection, "USE tenant_a")
    kill(admin, connection)
    fault = way.cut_at(b"USE `tenant_a`", when=when)
    with pytest.raises(OperationalError) as caught:
        note(connection, "refused")
    fault.wait()
    assert not isinstance(caught.value, SessionStateLost)
    note(connection, "after")
    assert_only_in_tenant_a(admin, main, ["after"])


def test_failure_to_connect_after_the_selection_does_not_end_it(
    proxied: Proxied, admin: Admin, main: str
) -> None:
    connection, way = proxied(**PATIENT)
    connection.set_autocommit(False)
    run(connection, "USE tenant_a")
    connection.commit()
    lose(connection)
    way.cut_at(b"utocommit=0")  # as mysqlclient writes it
    way.cut_at(b"UTOCOMMIT = 0")
    with pytest.raises(OperationalError) as caught:
        note(connection, "refused")
    assert not isinstance(caught.value, SessionStateLost)
    note(connection, "after")
    connection.commit()
    assert_only_in_tenant_a(admin, main, ["after"])
