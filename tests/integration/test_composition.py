"""The mixin in front of other people's backends, and other people's subclasses of the backend."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import Error, ProgrammingError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_mysql_recycle import SessionStateLost

from ..testapp.models import Account
from .admin import Admin
from .connections import ConnectionFactory
from .queries import connection_id, idle_out, kill, run, settle, value


@pytest.fixture(params=["instrumented", "proxied", "subclassed"])
def composed(
    request: pytest.FixtureRequest, make_connection: ConnectionFactory
) -> BaseDatabaseWrapper:
    return make_connection(f"tests.backends.{request.param}")


def trace(connection: Any) -> list[str]:
    noted: list[str] = connection.trace
    return noted


@pytest.mark.core
def test_stale_connection_is_replaced(composed: BaseDatabaseWrapper, admin: Admin) -> None:
    ids = set()
    for lose in (kill, idle_out):
        ids.add(connection_id(composed))
        lose(admin, composed)
        Account.objects.using(composed.alias).create(owner=lose.__name__)
    ids.add(connection_id(composed))
    assert len(ids) == 3
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 2
    assert trace(composed).count("connect") == 3


def test_instrument_sees_the_applications_statements_once_each(
    composed: BaseDatabaseWrapper, admin: Admin
) -> None:
    kill(admin, composed)
    run(composed, "SELECT 'mine'")
    with composed.cursor() as cursor:
        cursor.execute("SELECT 'held'")
        kill(admin, composed)
        cursor.execute("SELECT 'held on'")
        cursor.executemany(
            "INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", [("a",), ("b",)]
        )
    mine = [step for step in trace(composed) if "'mine'" in step or "held" in step]
    assert mine == ["execute SELECT 'mine'", "execute SELECT 'held'", "execute SELECT 'held on'"]
    assert [step for step in trace(composed) if step.startswith("executemany")] == [
        "executemany INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)"
    ]


def test_max_age_and_limits_hold(
    make_connection: ConnectionFactory, recycles: list[dict[str, Any]]
) -> None:
    for name in ("instrumented", "proxied", "subclassed"):
        connection = make_connection(
            f"tests.backends.{name}", recycle={"idle_limit": 0.2, "ping_after": 0.05}
        )
        first = connection_id(connection)
        time.sleep(0.1)
        assert connection_id(connection) == first
        time.sleep(0.3)
        assert connection_id(connection) != first
    assert [told["reason"] for told in recycles] == ["idle limit"] * 3


def test_nothing_is_replaced_inside_atomic(composed: BaseDatabaseWrapper, admin: Admin) -> None:
    with pytest.raises(Error):
        with transaction.atomic(using=composed.alias):
            Account.objects.using(composed.alias).create(owner="first half")
            admin.kill(composed.connection.thread_id())
            settle()
            Account.objects.using(composed.alias).create(owner="second half")
    assert admin.value("SELECT COUNT(*) FROM testapp_account") == 0
    assert value(composed, "SELECT 1") == 1


def test_loop_over_rows_with_a_write_inside_goes_on(
    composed: BaseDatabaseWrapper, admin: Admin
) -> None:
    for number in range(4):
        admin.rows("INSERT INTO testapp_account (owner, balance) VALUES (%s, 0)", f"owner {number}")
    for account in Account.objects.using(composed.alias).iterator(chunk_size=1):
        kill(admin, composed)
        account.balance = 1
        account.save(using=composed.alias)
    assert admin.rows("SELECT balance, COUNT(*) FROM testapp_account GROUP BY balance") == [(1, 4)]


def test_errors_are_mapped_as_the_base_backend_maps_them(composed: BaseDatabaseWrapper) -> None:
    with pytest.raises(ProgrammingError) as caught:
        run(composed, "SELECT * FROM no_such_table")
    assert caught.value.args[0] == 1146
    assert value(composed, "SELECT 1") == 1


def test_lost_named_lock_is_told(composed: BaseDatabaseWrapper, admin: Admin) -> None:
    assert value(composed, "SELECT GET_LOCK('composition', 0)") == 1
    kill(admin, composed)
    with pytest.raises(SessionStateLost):
        run(composed, "SELECT 1")
    assert value(composed, "SELECT 1") == 1


def test_closing_and_health_check_work(composed: BaseDatabaseWrapper, admin: Admin) -> None:
    first = connection_id(composed)
    assert composed.is_usable()
    composed.close()
    admin.wait_until_gone(first)
    assert connection_id(composed) != first
    kill(admin, composed)
    assert not composed.is_usable()
