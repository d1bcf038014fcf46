"""What tests rely on from the fixtures, with both engines."""

from __future__ import annotations

import pytest
from django.db import connections, transaction

from servers import Server

from ..testapp.models import Account
from .admin import Admin
from .connections import ConnectionFactory, Proxied


def connection_id(connection: object) -> int:
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])


@pytest.mark.core
def test_each_engine_connects_over_each_transport(
    make_connection: ConnectionFactory, engine: str, transport: str, admin: Admin
) -> None:
    connection = make_connection(engine, transport=transport)  # type: ignore[arg-type]
    assert connection_id(connection) in admin.connection_ids()
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
        assert bool(cursor.fetchone()[1]) is (transport == "tls")


def test_made_connections_serve_the_orm_and_atomic(
    make_connection: ConnectionFactory, engine: str
) -> None:
    alias = make_connection(engine, CONN_MAX_AGE=None).alias
    with transaction.atomic(using=alias):
        Account.objects.using(alias).create(owner="a", balance=1)
    assert Account.objects.using("stock").count() == 1


def test_tables_are_empty_again_and_both_aliases_share_them() -> None:
    assert Account.objects.count() == 0
    Account.objects.using("stock").create(owner="b")
    assert Account.objects.using("default").get().owner == "b"


def test_aliases_use_the_driver_of_this_run(driver: str) -> None:
    for alias in ("default", "stock"):
        connections[alias].ensure_connection()
        module = type(connections[alias].connection).__module__.partition(".")[0]
        assert module == {"mysqlclient": "MySQLdb", "pymysql": "pymysql"}[driver]


def test_connection_through_a_proxy_can_be_read_along(proxied: Proxied, engine: str) -> None:
    connection, between = proxied(engine)
    connection_id(connection)
    assert "SELECT CONNECTION_ID()" in between.connections[0].queries()


def test_killed_connection_leaves_the_process_list(
    make_connection: ConnectionFactory, admin: Admin
) -> None:
    killed = connection_id(make_connection())
    admin.kill(killed)
    assert killed not in admin.connection_ids()


def test_global_variables_and_a_stopped_server_are_for_one_test_1(
    server: Server, admin: Admin
) -> None:
    assert admin.value("SELECT @@GLOBAL.wait_timeout") == 28800
    admin.set_global("wait_timeout", 5)


def test_global_variables_and_a_stopped_server_are_for_one_test_2(
    server: Server, admin: Admin
) -> None:
    assert admin.value("SELECT @@GLOBAL.wait_timeout") == 28800
    server.stop()
