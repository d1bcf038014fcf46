"""Applications with a database for each tenant: an idle kill between two requests costs nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import Error, close_old_connections, transaction

from django_mysql_recycle import SessionStateLost

from ..acts import kill, rest
from ..admin import Admin
from ..connections import Connection, ConnectionFactory
from ..queries import run, value
from .conftest import (
    PATIENT,
    TENANTS,
    assert_only_in_tenant_a,
    note,
    notes,
)


def first_in_each_request(connection: Connection, number: int) -> None:
    run(connection, f"USE {TENANTS[number % 2]}")
    note(connection, f"request {number}")


def after_the_table_of_sessions(connection: Connection, number: int) -> None:
    run(connection, f"SELECT owner FROM {connection.settings_dict['NAME']}.testapp_account")
    run(connection, f"USE {TENANTS[number % 2]}")
    note(connection, f"request {number}")


def with_main_at_the_end(connection: Connection, number: int) -> None:
    run(connection, "SELECT owner FROM testapp_account")
    run(connection, f"USE {TENANTS[number % 2]}")
    note(connection, f"request {number}")
    run(connection, f"USE {connection.settings_dict['NAME']}")


@pytest.mark.core
@pytest.mark.parametrize("max_age", [None, 60, 0])
@pytest.mark.parametrize("health_checks", [False, True])
@pytest.mark.parametrize(
    "serve", [first_in_each_request, after_the_table_of_sessions, with_main_at_the_end]
)
def test_application_with_several_tenants_never_fails_for_an_idle_kill_between_requests(
    make_connection: ConnectionFactory,
    admin: Admin,
    main: str,
    caplog: pytest.LogCaptureFixture,
    serve: Any,
    health_checks: bool,
    max_age: int | None,
) -> None:
    connection = make_connection(CONN_MAX_AGE=max_age, CONN_HEALTH_CHECKS=health_checks)
    with caplog.at_level(logging.WARNING, "django_mysql_recycle"):
        for number in range(6):
            close_old_connections()  # request_started
            serve(connection, number)
            close_old_connections()  # request_finished
            if connection.connection is not None:
                kill(admin, connection) if number % 3 else rest(connection, 40_000)
    assert caplog.records == []
    assert notes(admin, "tenant_a") == ["request 0", "request 2", "request 4"]
    assert notes(admin, "tenant_b") == ["request 1", "request 3", "request 5"]
    assert notes(admin, main) == []


# Backends that set up each connection when they make a cursor.


@pytest.fixture(params=["tenanted", "tenanted_behind"])
def tenanted(request: pytest.FixtureRequest, make_connection: ConnectionFactory, main: str) -> Any:
    recycle = {"idle_limit": 100, "ping_after": 50}
    connection: Any = make_connection(f"tests.backends.{request.param}", recycle=recycle, **PATIENT)
    connection.tenant = "tenant_a"
    return connection


@pytest.mark.core
@pytest.mark.parametrize("loss", ["killed", "idle limit"])
def test_backend_that_sets_up_each_connection_when_it_makes_a_cursor_sees_the_new_one(
    tenanted: Any, admin: Admin, main: str, recycles: list[dict[str, Any]], loss: str
) -> None:
    sql = "SELECT DATABASE(), @tenant"
    for number in range(3):
        close_old_connections()
        with tenanted.cursor() as cursor:
            cursor.execute(sql)
            assert cursor.fetchall() in ((("tenant_a", "tenant_a"),), [("tenant_a", "tenant_a")])
        note(tenanted, f"note {number}")
        close_old_connections()
        if loss == "killed":
            kill(admin, tenanted)
        else:
            rest(tenanted, 200)
            tenanted.guard.connection.unit_ended_at -= 200
    assert len(recycles) == 2
    assert (notes(admin, main), len(notes(admin, "tenant_a"))) == ([], 3)


def test_backend_that_sets_up_connections_is_not_asked_before_the_statement_is_known(
    tenanted: Any, admin: Admin, main: str
) -> None:
    tenanted.tenant = ""
    run(tenanted, "SELECT 1/0")
    rest(tenanted, 60)
    assert len(run(tenanted, "SHOW WARNINGS")) == 1
    run(tenanted, "INSERT INTO testapp_account (owner, balance) VALUES ('a', 1), ('b', 1)")
    rest(tenanted, 200)
    assert value(tenanted, "SELECT LAST_INSERT_ID()") > 0
    run(tenanted, "UPDATE testapp_account SET balance = 2")
    rest(tenanted, 60)
    assert value(tenanted, "SELECT ROW_COUNT()") == 2


def test_backend_that_sets_up_connections_goes_on_inside_atomic_and_beside_locks(
    tenanted: Any, admin: Admin, main: str
) -> None:
    with pytest.raises(Error), transaction.atomic(using=tenanted.alias):
        note(tenanted, "first half")
        kill(admin, tenanted)
        note(tenanted, "second half")
    close_old_connections()
    note(tenanted, "after")
    run(tenanted, "SELECT GET_LOCK('beside', 0)")
    close_old_connections()
    kill(admin, tenanted)
    with pytest.raises(SessionStateLost, match="beside"):
        note(tenanted, "refused")
    note(tenanted, "last")
    assert value(tenanted, "SELECT @tenant") == "tenant_a"
    assert_only_in_tenant_a(admin, main, ["after", "last"])
